//! Only what `smoltcp::wire` lacks: the Internet checksum as sums and differences, and whole
//! frames from addresses.

pub mod build;
pub mod checksum;

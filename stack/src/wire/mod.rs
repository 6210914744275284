//! Only what `smoltcp::wire` lacks: the Internet checksum as sums and differences.

pub mod checksum;

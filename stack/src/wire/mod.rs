//! Only what `smoltcp::wire` lacks: checksums as sums and differences, whole frames from addresses,
//! and MACs as operators write them.

use core::fmt;

use smoltcp::wire::EthernetAddress;

pub mod build;
pub mod checksum;
pub mod crc32c;

/// Bytes of an Ethernet header without a tag.
pub const ETHERNET_HEADER: usize = 14;

/// Shows a MAC with colons, as `ip link` does; smoltcp's own `Display` has dashes.
#[derive(Clone, Copy, Debug)]
pub struct Mac(pub EthernetAddress);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

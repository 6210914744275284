//! Only what `smoltcp::wire` lacks: checksums as sums and differences, whole frames from addresses,
//! and MACs as operators write them.

use core::fmt;

use smoltcp::wire::{EthernetAddress, IpAddress};

pub mod build;
pub mod checksum;
pub mod crc32c;

/// Bytes of an Ethernet header without a tag.
pub const ETHERNET_HEADER: usize = 14;

/// Whether an address is one of the loopback, which no wire carries (RFC 1122 section 3.2.1.3, RFC
/// 4291 section 2.5.3).
pub(crate) fn is_loopback(address: &IpAddress) -> bool {
    match address {
        IpAddress::Ipv4(v4) => v4.is_loopback(),
        IpAddress::Ipv6(v6) => v6.is_loopback(),
    }
}

/// Shows a MAC with colons, as `ip link` does; smoltcp's own `Display` has dashes.
#[derive(Clone, Copy, Debug)]
pub struct Mac(pub EthernetAddress);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

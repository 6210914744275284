//! What tells one flow from another: addresses, protocol, ports.

use smoltcp::wire::{IpAddress, IpProtocol};

use crate::hash::Hasher;
pub use crate::trace::Side;

/// A flow: one direction of a connection, as frames bear it.
///
/// An ICMP echo has its identifier as the port of the side that asks, and 0 as the other's; a
/// protocol without ports has 0 for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddress,
    /// Destination address, of the same family.
    pub dst: IpAddress,
    /// Source port, host order.
    pub src_port: u16,
    /// Destination port, host order.
    pub dst_port: u16,
    /// The protocol's number.
    pub protocol: u8,
}

impl Tuple {
    /// The flow of the other direction.
    #[must_use]
    pub const fn inverse(self) -> Self {
        let Self { src, dst, src_port, dst_port, protocol } = self;
        Self { src: dst, dst: src, src_port: dst_port, dst_port: src_port, protocol }
    }

    /// A hash of the flow, for choices: equal in every build.
    #[must_use]
    pub fn key(&self, key: u64) -> u64 {
        let mut hasher = Hasher::new(key);
        for address in [self.src, self.dst] {
            match address {
                IpAddress::Ipv4(v4) => hasher.number(u64::from(u32::from(v4))),
                IpAddress::Ipv6(v6) => hasher.bytes(&v6.octets()),
            }
        }
        let ports = u64::from(self.src_port) << 16 | u64::from(self.dst_port);
        hasher.number(ports << 8 | u64::from(self.protocol));
        hasher.finish()
    }

    /// The protocol.
    #[must_use]
    pub fn ip_protocol(&self) -> IpProtocol {
        IpProtocol::from(self.protocol)
    }
}

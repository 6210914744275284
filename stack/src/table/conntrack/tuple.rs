//! What tells one flow from another: addresses, protocol, ports.

use smoltcp::wire::{IpAddress, IpProtocol};

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

    /// The protocol.
    #[must_use]
    pub fn ip_protocol(&self) -> IpProtocol {
        IpProtocol::from(self.protocol)
    }
}

/// Which side of a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The one that began it.
    Originator,
    /// The one that was spoken to.
    Responder,
}

impl Side {
    /// The other side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Originator => Self::Responder,
            Self::Responder => Self::Originator,
        }
    }

    /// 0 for the originator, 1 for the responder: the place in arrays of two.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Originator => 0,
            Self::Responder => 1,
        }
    }
    /// This side's of two.
    #[must_use]
    #[inline]
    pub const fn of<T: Copy>(self, [originator, responder]: [T; 2]) -> T {
        match self {
            Self::Originator => originator,
            Self::Responder => responder,
        }
    }

    /// This side's of two, to be changed.
    #[inline]
    pub const fn of_mut<T>(self, [originator, responder]: &mut [T; 2]) -> &mut T {
        match self {
            Self::Originator => originator,
            Self::Responder => responder,
        }
    }

    /// A flag of this side.
    #[must_use]
    #[inline]
    pub const fn flag(self, flag: u16) -> u16 {
        match self {
            Self::Originator => flag,
            Self::Responder => flag << 1,
        }
    }
}

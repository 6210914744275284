//! A connection: both flows and how far it has come, in full and in the form it is kept in.

use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, Ipv4Address, Ipv6Address};

use super::{Side, Track, Tuple};
use crate::config::ServiceId;
use crate::input::PortId;
use crate::words::{Take, Words, words_of};

/// A connection.
///
/// Each side's flow stands as that side's own frames bear it, so the translation of one direction
/// is the inverse of the other's flow, and a flow that is taken is a port that is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The originator's flow and the responder's.
    pub tuples: [Tuple; 2],
    /// How far it has come.
    pub track: Track,
    /// The Service whose backend the responder is.
    pub service: Option<ServiceId>,
    /// The ports behind which the sides are.
    pub ports: [PortId; 2],
}

impl Connection {
    /// What a packet of that side looks like when it leaves the switch.
    #[must_use]
    pub fn translated(&self, side: Side) -> Tuple {
        self.of(side.other()).inverse()
    }

    /// The flow of that side, as its frames bear it.
    #[must_use]
    pub fn of(&self, side: Side) -> Tuple {
        side.of(self.tuples)
    }

    /// The port behind which that side is.
    #[must_use]
    pub fn port(&self, side: Side) -> PortId {
        side.of(self.ports)
    }

    /// Whether any address or port is changed on the way.
    #[must_use]
    pub fn is_translated(&self) -> bool {
        self.translated(Side::Originator) != self.of(Side::Originator)
    }

    /// Whether the destination is.
    #[must_use]
    pub fn has_other_destination(&self) -> bool {
        let (seen, out) = (self.of(Side::Originator), self.translated(Side::Originator));
        (seen.dst, seen.dst_port) != (out.dst, out.dst_port)
    }
}

words_of!(Connection { tuples, track, service, ports });

/// An address of one family, as connections keep it.
pub(in crate::table) trait Address: Copy + Eq {
    /// The address, if it is of this family.
    fn of(address: IpAddress) -> Option<Self>;
    /// The address.
    fn wide(self) -> IpAddress;
}

impl Address for Ipv4Address {
    fn of(address: IpAddress) -> Option<Self> {
        match address {
            IpAddress::Ipv4(v4) => Some(v4),
            IpAddress::Ipv6(_) => None,
        }
    }

    fn wide(self) -> IpAddress {
        self.into()
    }
}

impl Address for Ipv6Address {
    fn of(address: IpAddress) -> Option<Self> {
        match address {
            IpAddress::Ipv6(v6) => Some(v6),
            IpAddress::Ipv4(_) => None,
        }
    }

    fn wide(self) -> IpAddress {
        self.into()
    }
}

/// A flow without its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends<A> {
    src: A,
    dst: A,
    src_port: u16,
    dst_port: u16,
}

/// No Service has this number: they are counted from 0.
const NO_SERVICE: u32 = u32::MAX;

/// A connection as it is kept.
#[derive(Clone, Copy, Debug)]
pub(in crate::table) struct Row<A> {
    track: Track,
    ends: [Ends<A>; 2],
    ports: [PortId; 2],
    /// A Service's number, or [`NO_SERVICE`].
    service: u32,
    protocol: u8,
}

impl<A: Address> Ends<A> {
    fn of(tuple: &Tuple) -> Option<Self> {
        let Tuple { src, dst, src_port, dst_port, protocol: _ } = *tuple;
        Some(Self { src: A::of(src)?, dst: A::of(dst)?, src_port, dst_port })
    }

    fn wide(&self, protocol: u8) -> Tuple {
        let Self { src, dst, src_port, dst_port } = *self;
        Tuple { src: src.wide(), dst: dst.wide(), src_port, dst_port, protocol }
    }
}

impl<A: Address> Row<A> {
    /// The connection as it is kept, if it is of this family.
    pub(super) fn of(connection: &Connection) -> Option<Self> {
        let Connection { tuples: [originator, responder], track, service, ports } = connection;
        let same = originator.protocol == responder.protocol;
        Some(Self {
            track: *track,
            ends: [Ends::of(originator)?, Ends::of(responder)?],
            ports: *ports,
            service: service.map_or(NO_SERVICE, |service| service.0),
            protocol: same.then_some(originator.protocol)?,
        })
    }

    /// The connection in full.
    pub(super) fn wide(&self) -> Connection {
        let [originator, responder] = &self.ends;
        Connection {
            tuples: [originator.wide(self.protocol), responder.wide(self.protocol)],
            track: self.track,
            service: (self.service != NO_SERVICE).then_some(ServiceId(self.service)),
            ports: self.ports,
        }
    }

    /// Whether the flow is that side's.
    #[inline]
    pub(super) fn is(&self, side: usize, tuple: &Tuple) -> bool {
        let ends = self.ends.get(side);
        self.protocol == tuple.protocol
            && ends.is_some_and(|ends| Ends::of(tuple).is_some_and(|other| other == *ends))
    }

    /// How far it has come.
    pub(super) fn track(&self) -> &Track {
        &self.track
    }

    /// How far it has come, to be changed.
    pub(super) fn track_mut(&mut self) -> &mut Track {
        &mut self.track
    }

    /// The port behind which its originator is.
    pub(super) fn originator(&self) -> PortId {
        let [originator, _] = self.ports;
        originator
    }
}

impl<A: Address> Words for Row<A> {
    fn put(&self, out: &mut Vec<u64>) {
        self.wide().put(out);
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        Self::of(&Connection::take(words)?)
    }
}

//! A connection: both flows and how far it has come, in full and in the form it is kept in.

use alloc::vec::Vec;
use core::hash::Hasher;

use smoltcp::wire::{IpAddress, Ipv4Address, Ipv6Address};

use super::{Side, Track, Tuple, Way};
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
pub(crate) trait Address: Copy + Eq {
    /// The address, if it is of this family.
    fn of(address: IpAddress) -> Option<Self>;
    /// The address.
    fn wide(self) -> IpAddress;
    /// Feeds a hash that lays out a table.
    fn mix(pair: [Self; 2], hasher: &mut impl Hasher);
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

    #[inline]
    fn mix([src, dst]: [Self; 2], hasher: &mut impl Hasher) {
        hasher.write_u64(u64::from(src.to_bits()) << 32 | u64::from(dst.to_bits()));
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

    #[inline]
    fn mix([src, dst]: [Self; 2], hasher: &mut impl Hasher) {
        hasher.write_u128(src.to_bits());
        hasher.write_u128(dst.to_bits());
    }
}

/// A flow without its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends<A> {
    /// Source address.
    pub(crate) src: A,
    /// Destination address.
    pub(crate) dst: A,
    /// Source port, host order.
    pub(crate) src_port: u16,
    /// Destination port, host order.
    pub(crate) dst_port: u16,
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
    ways: [Way; 2],
}

impl<A: Address> Ends<A> {
    pub(super) fn of(tuple: &Tuple) -> Option<Self> {
        let Tuple { src, dst, src_port, dst_port, protocol: _ } = *tuple;
        Some(Self { src: A::of(src)?, dst: A::of(dst)?, src_port, dst_port })
    }

    fn wide(&self, protocol: u8) -> Tuple {
        let Self { src, dst, src_port, dst_port } = *self;
        Tuple { src: src.wide(), dst: dst.wide(), src_port, dst_port, protocol }
    }

    /// Feeds a hash that lays out a table.
    #[inline]
    pub(super) fn mix(&self, protocol: u8, hasher: &mut impl Hasher) {
        A::mix([self.src, self.dst], hasher);
        let ports = u64::from(self.src_port) << 16 | u64::from(self.dst_port);
        hasher.write_u64(ports << 8 | u64::from(protocol));
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
            ways: [Way::default(); 2],
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
    pub(super) fn is(&self, side: usize, ends: &Ends<A>, protocol: u8) -> bool {
        self.protocol == protocol && self.ends.get(side).is_some_and(|own| own == ends)
    }

    /// That side's flow.
    #[inline]
    pub(super) fn ends(&self, side: Side) -> &Ends<A> {
        let [originator, responder] = &self.ends;
        side.of([originator, responder])
    }

    /// How that side's packets are carried.
    #[inline]
    pub(super) fn way(&self, side: Side) -> Way {
        side.of(self.ways)
    }

    /// The same, to be changed.
    pub(super) fn way_mut(&mut self, side: Side) -> &mut Way {
        side.of_mut(&mut self.ways)
    }

    /// The ports behind which the sides are.
    #[inline]
    pub(super) fn ports(&self) -> [PortId; 2] {
        self.ports
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

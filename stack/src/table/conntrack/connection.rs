//! A connection: both flows and how far it has come, in full and in the form it is kept in.

use alloc::vec::Vec;
use core::hash::Hasher;

use smoltcp::wire::{IpAddress, Ipv4Address, Ipv6Address};

use super::{Side, Track, Tuple, Way};
use crate::config::ServiceId;
use crate::input::PortId;
use crate::words::{Take, Words, halves, pair, quarters, unpair};

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

/// An address of one family, as connections keep it.
pub(crate) trait Address: Copy + Eq {
    /// The address, if it is of this family.
    fn of(address: IpAddress) -> Option<Self>;
    /// The address.
    fn wide(self) -> IpAddress;
    /// Feeds a hash that lays out a table.
    fn mix(pair: [Self; 2], hasher: &mut impl Hasher);
    /// Appends two as words.
    fn put(pair: [Self; 2], out: &mut Vec<u64>);
    /// Reads two back.
    fn take(words: &mut Take<'_>) -> Option<[Self; 2]>;
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

    fn put(both: [Self; 2], out: &mut Vec<u64>) {
        out.push(pair(both.map(Self::to_bits)));
    }

    fn take(words: &mut Take<'_>) -> Option<[Self; 2]> {
        Some(unpair(words.word()?).map(Self::from_bits))
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

    fn put(both: [Self; 2], out: &mut Vec<u64>) {
        for (high, low) in both.map(|address| halves(address.to_bits())) {
            out.extend([high, low]);
        }
    }

    fn take(words: &mut Take<'_>) -> Option<[Self; 2]> {
        let mut next = || {
            let (high, low) = (words.word()?, words.word()?);
            Some(Self::from_bits(u128::from(high) << 64 | u128::from(low)))
        };
        Some([next()?, next()?])
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

    /// The protocol of both flows.
    pub(super) fn protocol(&self) -> u8 {
        self.protocol
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

/// Packed, since there may be a million: what a snapshot and its restore take is the words.
impl<A: Address> Words for Row<A> {
    fn put(&self, out: &mut Vec<u64>) {
        // Which way packets went is a cache ([`Way`]).
        let Self {
            track,
            ends,
            ports: [PortId(first), PortId(second)],
            service,
            protocol,
            ways: _,
        } = self;
        track.put(out);
        out.push(pair([*first, *second]));
        out.push(u64::from(*service) | u64::from(*protocol) << 32);
        let mut l4_ports = 0;
        for Ends { src, dst, src_port, dst_port } in ends {
            A::put([*src, *dst], out);
            l4_ports = l4_ports << 32 | u64::from(*src_port) << 16 | u64::from(*dst_port);
        }
        out.push(l4_ports);
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        let track = Track::take(words)?;
        let ports = unpair(words.word()?).map(PortId);
        let [service, protocol] = unpair(words.word()?);
        let (originator, responder) = (A::take(words)?, A::take(words)?);
        let [d1, s1, d0, s0] = quarters(words.word()?);
        let ends = |[src, dst]: [A; 2], src_port, dst_port| Ends { src, dst, src_port, dst_port };
        Some(Self {
            track,
            ends: [ends(originator, s0, d0), ends(responder, s1, d1)],
            ports,
            service,
            protocol: u8::try_from(protocol).ok()?,
            ways: [Way::default(); 2],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::conntrack::State;
    use crate::time::Instant;
    use crate::words::whole;

    fn tuple(src: IpAddress, dst: IpAddress, ports: (u16, u16)) -> Tuple {
        Tuple { src, dst, src_port: ports.0, dst_port: ports.1, protocol: 132 }
    }

    /// It comes back, cut it does not, and no other words are the same row.
    fn judge<A: Address + core::fmt::Debug>(low: IpAddress, high: IpAddress, vip: IpAddress) {
        for service in [None, Some(ServiceId(0)), Some(ServiceId(0x7fff_ffff))] {
            let connection = Connection {
                tuples: [tuple(low, vip, (1, 0xffff)), tuple(high, low, (0x8000, 2))],
                track: Track::new(State::SctpClosing, Instant(u64::MAX)),
                service,
                ports: [PortId(u32::MAX), PortId(3)],
            };
            let row = Row::<A>::of(&connection).unwrap();
            let mut words = Vec::new();
            row.put(&mut words);
            assert_eq!(whole::<Row<A>>(&words).unwrap().wide(), connection);
            for len in 0..words.len() {
                assert!(whole::<Row<A>>(&words[..len]).is_none(), "{len} words");
            }
            for at in 0..words.len() * 64 {
                let mut other = words.clone();
                other[at / 64] ^= 1 << (at % 64);
                let back = whole::<Row<A>>(&other);
                let again = back.map(|row| {
                    let mut words = Vec::new();
                    row.put(&mut words);
                    words
                });
                assert!(again.is_none_or(|again| again == other), "bit {at}");
            }
        }
    }

    #[test]
    fn rows_come_back_bit_by_bit() {
        let v4 = |number| IpAddress::from(Ipv4Address::from_bits(number));
        judge::<Ipv4Address>(v4(1), v4(u32::MAX), v4(0x0a60_0001));
        let v6 = |number| IpAddress::from(Ipv6Address::from_bits(number));
        judge::<Ipv6Address>(v6(1), v6(u128::MAX), v6(0xfd00 << 112));
    }
}

//! All connections, by slot and by flow, within limits.
//!
//! Limits: so many of each family, and so many that one pod began. Attacks: a pod that begins more
//! than anybody can carry. It meets its own limit first; at either limit one that was never
//! answered is dropped for the new one ([`Connections::victim`]), and where there is none the new
//! one is refused. What has been answered is never dropped for another, so nobody's open
//! connections are harmed.
//!
//! A connection past its deadline counts as absent wherever it is asked for; a sweep in slot order
//! (`table/sweep.rs`) takes it out.

use core::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use smoltcp::wire::{IpAddress, Ipv4Address, Ipv6Address};

use super::connection::{Address, Ends, Row};
use super::index::Index;
use super::{Connection, Side, Track, Tuple, Way};
use crate::input::PortId;
use crate::table::slab::Slab;
use crate::time::Instant;

/// A connection's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId {
    /// IPv6, or IPv4.
    pub is_ipv6: bool,
    /// Place among those of the family.
    pub slot: u32,
}

/// Slots looked at for one that may go.
const VICTIMS: usize = 64;

/// What the fast path asks of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance<'a, A> {
    /// Its place.
    pub(crate) id: ConnectionId,
    /// Whose packet it is.
    pub(crate) side: Side,
    /// How far it has come.
    pub(crate) track: &'a Track,
    /// The port behind which that side is.
    pub(crate) port: PortId,
    /// How that side's packets are carried.
    pub(crate) way: Way,
    /// The other side's flow: the inverse of what leaves.
    pub(crate) other: &'a Ends<A>,
}

/// Connections of one family.
#[derive(Clone, Debug)]
pub(in crate::table) struct Family<A> {
    pub(in crate::table) rows: Slab<Row<A>>,
    index: Index,
    hasher: FixedState,
}

/// All connections.
#[derive(Clone, Debug)]
pub struct Connections {
    pub(in crate::table) v4: Family<Ipv4Address>,
    pub(in crate::table) v6: Family<Ipv6Address>,
}

impl<A: Address> Family<A> {
    fn new(seed: u64, max: usize) -> Self {
        let max = max.min(1 << 29);
        Self {
            rows: Slab::new(max),
            index: Index::new(max * 2),
            hasher: FixedState::with_seed(seed),
        }
    }

    #[inline(always)]
    fn hash(&self, ends: &Ends<A>, protocol: u8) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        ends.mix(protocol, &mut hasher);
        hasher.finish()
    }

    #[inline(always)]
    fn find(&self, ends: &Ends<A>, protocol: u8) -> Option<(usize, Side)> {
        self.find_hashed(self.hash(ends, protocol), ends, protocol)
    }

    #[inline(always)]
    fn find_hashed(&self, hash: u64, ends: &Ends<A>, protocol: u8) -> Option<(usize, Side)> {
        let number = self.index.find(hash, |number| {
            self.rows.get(number / 2).is_some_and(|row| row.is(number % 2, ends, protocol))
        })?;
        let side = if number % 2 == 0 { Side::Originator } else { Side::Responder };
        Some((number / 2, side))
    }

    fn find_tuple(&self, tuple: &Tuple) -> Option<(usize, Side)> {
        self.find(&Ends::of(tuple)?, tuple.protocol)
    }

    #[inline(always)]
    fn glance(&self, is_ipv6: bool, ends: &Ends<A>, protocol: u8) -> Option<Glance<'_, A>> {
        let (slot, side) = self.find(ends, protocol)?;
        let row = self.rows.get(slot)?;
        Some(Glance {
            id: ConnectionId { is_ipv6, slot: u32::try_from(slot).ok()? },
            side,
            track: row.track(),
            port: side.of(row.ports()),
            way: row.way(side),
            other: row.ends(side.other()),
        })
    }

    fn insert(&mut self, connection: &Connection) -> Option<usize> {
        let row = Row::of(connection)?;
        let hashes = self.hashes(&row);
        let slot = self.rows.insert(row)?;
        self.index(slot, hashes);
        Some(slot)
    }

    /// The hash of each side's flow.
    fn hashes(&self, row: &Row<A>) -> [u64; 2] {
        [Side::Originator, Side::Responder].map(|side| self.hash(row.ends(side), row.protocol()))
    }

    fn index(&mut self, slot: usize, hashes: [u64; 2]) {
        for (side, hash) in hashes.into_iter().enumerate() {
            self.index.insert(hash, slot * 2 + side);
        }
    }

    fn remove(&mut self, slot: usize) -> Option<Connection> {
        let row = self.rows.remove(slot)?;
        for (side, hash) in self.hashes(&row).into_iter().enumerate() {
            self.index.remove(hash, slot * 2 + side);
        }
        Some(row.wide())
    }

    /// Puts a row of a snapshot where it was. False when it cannot be there.
    pub(in crate::table) fn restore(&mut self, slot: usize, row: Row<A>) -> bool {
        let hashes = self.hashes(&row);
        let sides = [Side::Originator, Side::Responder].into_iter().zip(hashes);
        let is_new = sides
            .into_iter()
            .all(|(side, hash)| self.find_hashed(hash, row.ends(side), row.protocol()).is_none());
        if !is_new || !self.rows.restore(slot, row) {
            return false;
        }
        self.index(slot, hashes);
        true
    }

    /// One of the slots after a place chosen by `hash` that may go for a new connection: past its
    /// deadline or such that it may go ([`super::State::may_go`]) and, at a pod's own limit, that
    /// pod's.
    fn victim(&self, hash: u64, now: Instant, of: Option<PortId>) -> Option<usize> {
        let slots = self.rows.slots() as u64;
        let begin = hash.checked_rem(slots)?;
        let places = (0..slots.min(VICTIMS as u64)).map(|step| (begin + step) % slots);
        let mut places = places.filter_map(|place| usize::try_from(place).ok());
        places.find(|place| {
            self.rows.get(*place).is_some_and(|row| {
                let whose = of.is_none_or(|port| row.originator() == port);
                let idle = row.track().deadline <= now || row.track().state.may_go();
                whose && idle
            })
        })
    }
}

impl Connections {
    /// Room for `max` of each family.
    #[must_use]
    pub fn new(seed: u64, max: usize) -> Self {
        Self { v4: Family::new(seed, max), v6: Family::new(seed, max) }
    }

    /// The connection that a flow is of, and whose flow it is. It may be past its deadline.
    #[must_use]
    #[inline]
    pub fn find(&self, tuple: &Tuple) -> Option<(ConnectionId, Side)> {
        let (is_ipv6, found) = match tuple.src {
            IpAddress::Ipv4(_) => (false, self.v4.find_tuple(tuple)),
            IpAddress::Ipv6(_) => (true, self.v6.find_tuple(tuple)),
        };
        let (slot, side) = found?;
        Some((ConnectionId { is_ipv6, slot: u32::try_from(slot).ok()? }, side))
    }

    /// The connection that an IPv4 flow is of. It may be past its deadline.
    #[inline(always)]
    pub(crate) fn glance4(
        &self,
        ends: &Ends<Ipv4Address>,
        protocol: u8,
    ) -> Option<Glance<'_, Ipv4Address>> {
        self.v4.glance(false, ends, protocol)
    }

    /// The same of an IPv6 flow.
    #[inline(always)]
    pub(crate) fn glance6(
        &self,
        ends: &Ends<Ipv6Address>,
        protocol: u8,
    ) -> Option<Glance<'_, Ipv6Address>> {
        self.v6.glance(true, ends, protocol)
    }

    /// A connection.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<Connection> {
        let slot = id.slot as usize;
        if id.is_ipv6 {
            self.v6.rows.get(slot).map(Row::wide)
        } else {
            self.v4.rows.get(slot).map(Row::wide)
        }
    }

    /// All connections, IPv4 first, in slot order; some may be past their deadline.
    pub fn iter(&self) -> impl Iterator<Item = (ConnectionId, Connection)> + '_ {
        let id =
            |is_ipv6, slot| ConnectionId { is_ipv6, slot: u32::try_from(slot).unwrap_or(u32::MAX) };
        let v4 = self.v4.rows.iter().map(move |(slot, row)| (id(false, slot), row.wide()));
        v4.chain(self.v6.rows.iter().map(move |(slot, row)| (id(true, slot), row.wide())))
    }

    /// How many there are, those past their deadline included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.rows.len() + self.v6.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the family of `tuple` has no room left.
    #[must_use]
    pub fn is_full(&self, tuple: &Tuple) -> bool {
        match tuple.src {
            IpAddress::Ipv4(_) => self.v4.rows.is_full(),
            IpAddress::Ipv6(_) => self.v6.rows.is_full(),
        }
    }

    /// A connection that may go for a new one: see the module. Where a port's own are looked for,
    /// one of the other family will do as well, since its limit counts both.
    #[must_use]
    pub fn victim(
        &self,
        tuple: &Tuple,
        key: u64,
        now: Instant,
        of: Option<PortId>,
    ) -> Option<ConnectionId> {
        let of_family = |is_ipv6: bool| {
            let slot = match is_ipv6 {
                false => self.v4.victim(key, now, of)?,
                true => self.v6.victim(key, now, of)?,
            };
            Some(ConnectionId { is_ipv6, slot: u32::try_from(slot).ok()? })
        };
        let is_ipv6 = matches!(tuple.src, IpAddress::Ipv6(_));
        of_family(is_ipv6).or_else(|| of.and_then(|_port| of_family(!is_ipv6)))
    }

    /// Puts a connection in; `None` when there is no room. Neither of its flows may be there.
    pub(in crate::table) fn insert(&mut self, connection: &Connection) -> Option<ConnectionId> {
        let [originator, _] = connection.tuples;
        let (is_ipv6, slot) = match originator.src {
            IpAddress::Ipv4(_) => (false, self.v4.insert(connection)?),
            IpAddress::Ipv6(_) => (true, self.v6.insert(connection)?),
        };
        Some(ConnectionId { is_ipv6, slot: u32::try_from(slot).ok()? })
    }

    /// Says how far a connection has come.
    #[inline]
    pub(in crate::table) fn advance(&mut self, id: ConnectionId, track: Track) {
        let slot = id.slot as usize;
        let place = if id.is_ipv6 {
            self.v6.rows.change(slot).map(Row::track_mut)
        } else {
            self.v4.rows.change(slot).map(Row::track_mut)
        };
        if let Some(place) = place {
            *place = track;
        }
    }

    /// Says how the packets of one side are carried.
    pub(in crate::table) fn carry(&mut self, id: ConnectionId, side: Side, way: Way) {
        let slot = id.slot as usize;
        let place = if id.is_ipv6 {
            self.v6.rows.change(slot).map(|row| row.way_mut(side))
        } else {
            self.v4.rows.change(slot).map(|row| row.way_mut(side))
        };
        if let Some(place) = place {
            *place = way;
        }
    }

    /// Takes a connection out.
    pub(in crate::table) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let slot = id.slot as usize;
        if id.is_ipv6 { self.v6.remove(slot) } else { self.v4.remove(slot) }
    }

    /// The connections past their deadline among `slots` slots of each family from `from` on.
    pub(in crate::table) fn expired(
        &self,
        from: usize,
        slots: usize,
        now: Instant,
    ) -> impl Iterator<Item = ConnectionId> + '_ {
        let places = from..from.saturating_add(slots);
        let id = |is_ipv6, slot| Some(ConnectionId { is_ipv6, slot: u32::try_from(slot).ok()? });
        let v4 = places.clone().filter(move |slot| is_past(self.v4.rows.get(*slot), now));
        let v6 = places.filter(move |slot| is_past(self.v6.rows.get(*slot), now));
        v4.filter_map(move |slot| id(false, slot)).chain(v6.filter_map(move |slot| id(true, slot)))
    }

    /// Slots that are in use or were, of the family that has more.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.v4.rows.slots().max(self.v6.rows.slots())
    }
}

fn is_past<A: Address>(row: Option<&Row<A>>, now: Instant) -> bool {
    row.is_some_and(|row| row.track().deadline <= now)
}

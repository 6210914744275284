//! Values as 64-bit words: how configuration stands in the journal, and rows of tables in
//! snapshots, digests and dumps.
//!
//! One codec for all of them, so that a field cannot be in one and not in the other: structures are
//! taken apart by name, and a new field does not compile until it is named here. Words from a file
//! are never trusted: [`Words::take`] gives `None` for what cannot be, and never panics.

use alloc::vec::Vec;

use smoltcp::wire::{
    EthernetAddress, IpAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr,
};

use crate::config::{
    Change, Limits, NodeConfig, PortConfig, PortKind, Route, RouteTarget, Seeds, ServiceId,
};
use crate::counters::{COUNT_MAX, PortCounters};
use crate::drop::DropReason;
use crate::input::{EndpointId, PortId};
use crate::time::{Duration, Instant};

/// A value that can stand as words.
pub trait Words: Sized {
    /// Appends it.
    fn put(&self, out: &mut Vec<u64>);

    /// Reads it back; `None` when the words are no such value.
    fn take(words: &mut Take<'_>) -> Option<Self>;
}

/// Words being read, from the front.
#[derive(Clone, Debug)]
pub struct Take<'a> {
    rest: &'a [u64],
    /// How deep changes may still contain changes.
    depth: u8,
}

/// Changes within changes, at most. The daemon makes one level.
const DEPTH_MAX: u8 = 4;

impl<'a> Take<'a> {
    /// All of `words`, unread.
    #[must_use]
    pub fn new(words: &'a [u64]) -> Self {
        Self { rest: words, depth: DEPTH_MAX }
    }

    /// The next word.
    pub fn word(&mut self) -> Option<u64> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Whether all was read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}

/// The value that `words` are, all of them.
#[must_use]
pub fn whole<T: Words>(words: &[u64]) -> Option<T> {
    let mut take = Take::new(words);
    let value = T::take(&mut take)?;
    take.is_done().then_some(value)
}

/// Two halves in a word.
#[inline]
pub(crate) fn pair([low, high]: [u32; 2]) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// The halves of a word.
#[inline]
pub(crate) fn unpair(word: u64) -> [u32; 2] {
    let [a, b, c, d, high @ ..] = word.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(high)]
}

/// The quarters of a word.
#[inline]
pub(crate) fn quarters(word: u64) -> [u16; 4] {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    [[a, b], [c, d], [e, f], [g, h]].map(u16::from_le_bytes)
}

/// Names every field of a structure once, for both directions.
macro_rules! words_of {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl $crate::words::Words for $type {
            fn put(&self, out: &mut ::alloc::vec::Vec<u64>) {
                let Self { $($field),* } = self;
                $($crate::words::Words::put($field, out);)*
            }

            fn take(words: &mut $crate::words::Take<'_>) -> Option<Self> {
                Some(Self { $($field: $crate::words::Words::take(words)?),* })
            }
        }
    };
}

/// Enumerations without fields, by number.
macro_rules! enums {
    ($($type:ident { $($variant:ident = $number:literal),+ $(,)? })+) => {$(
        impl $crate::words::Words for $type {
            fn put(&self, out: &mut ::alloc::vec::Vec<u64>) {
                out.push(match self { $(Self::$variant => $number,)+ });
            }

            fn take(words: &mut $crate::words::Take<'_>) -> Option<Self> {
                match words.word()? {
                    $($number => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    )+};
}

pub(crate) use {enums, words_of};

/// Numbers that fit a word.
macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Words for $type {
            fn put(&self, out: &mut Vec<u64>) {
                out.push(u64::try_from(*self).unwrap_or(u64::MAX));
            }

            fn take(words: &mut Take<'_>) -> Option<Self> {
                Self::try_from(words.word()?).ok()
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64, usize);

impl Words for bool {
    fn put(&self, out: &mut Vec<u64>) {
        out.push(u64::from(*self));
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        match words.word()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<T: Words> Words for Option<T> {
    fn put(&self, out: &mut Vec<u64>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        if bool::take(words)? { T::take(words).map(Some) } else { Some(None) }
    }
}

impl<T: Words> Words for Vec<T> {
    fn put(&self, out: &mut Vec<u64>) {
        self.len().put(out);
        self.iter().for_each(|item| item.put(out));
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        let count = usize::take(words)?;
        // Every item has a word at least, so a count that lies does not allocate.
        if count > words.rest.len() {
            return None;
        }
        (0..count).map(|_| T::take(words)).collect()
    }
}

impl<T: Words, const N: usize> Words for [T; N] {
    fn put(&self, out: &mut Vec<u64>) {
        N.put(out);
        self.iter().for_each(|item| item.put(out));
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        if usize::take(words)? != N {
            return None;
        }
        let mut items = heapless::Vec::<T, N>::new();
        for _ in 0..N {
            items.push(T::take(words)?).ok()?;
        }
        items.into_array().ok()
    }
}

impl Words for EthernetAddress {
    fn put(&self, out: &mut Vec<u64>) {
        let [a, b, c, d, e, f] = self.0;
        out.push(u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        match words.word()?.to_be_bytes() {
            [0, 0, a, b, c, d, e, f] => Some(Self([a, b, c, d, e, f])),
            _ => None,
        }
    }
}

impl Words for Ipv4Address {
    fn put(&self, out: &mut Vec<u64>) {
        u32::from(*self).put(out);
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        u32::take(words).map(Self::from)
    }
}

impl Words for Ipv6Address {
    fn put(&self, out: &mut Vec<u64>) {
        let (high, low) = halves(u128::from(*self));
        out.extend([high, low]);
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        let (high, low) = (words.word()?, words.word()?);
        Some(Self::from(u128::from(high) << 64 | u128::from(low)))
    }
}

/// The upper and the lower half.
pub(crate) fn halves(value: u128) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, rest @ ..] = value.to_be_bytes();
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes(rest))
}

impl Words for IpAddress {
    fn put(&self, out: &mut Vec<u64>) {
        match self {
            Self::Ipv4(v4) => {
                out.push(4);
                v4.put(out);
            }
            Self::Ipv6(v6) => {
                out.push(6);
                v6.put(out);
            }
        }
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        match words.word()? {
            4 => Ipv4Address::take(words).map(Self::Ipv4),
            6 => Ipv6Address::take(words).map(Self::Ipv6),
            _ => None,
        }
    }
}

/// Prefixes: an address, and how many of its bits. smoltcp's constructors panic on too many.
macro_rules! prefixes {
    ($($type:ident, $address:ty, $most:expr;)*) => {$(
        impl Words for $type {
            fn put(&self, out: &mut Vec<u64>) {
                self.address().put(out);
                self.prefix_len().put(out);
            }

            fn take(words: &mut Take<'_>) -> Option<Self> {
                let address = <$address>::take(words)?;
                let most: fn(&$address) -> u8 = $most;
                let bits = u8::take(words)?;
                (bits <= most(&address)).then(|| Self::new(address, bits))
            }
        }
    )*};
}

prefixes! {
    Ipv4Cidr, Ipv4Address, |_| 32;
    Ipv6Cidr, Ipv6Address, |_| 128;
    IpCidr, IpAddress, |address| match address {
        IpAddress::Ipv4(_) => 32,
        IpAddress::Ipv6(_) => 128,
    };
}

/// Newtypes of one number.
macro_rules! newtypes {
    ($($type:ident),*) => {$(
        impl Words for $type {
            fn put(&self, out: &mut Vec<u64>) {
                self.0.put(out);
            }

            fn take(words: &mut Take<'_>) -> Option<Self> {
                Words::take(words).map(Self)
            }
        }
    )*};
}

newtypes!(PortId, EndpointId, ServiceId, Instant, Duration);

impl Words for PortKind {
    fn put(&self, out: &mut Vec<u64>) {
        match self {
            Self::Pod => out.push(0),
            Self::Host => out.push(1),
            Self::Endpoint(id) => {
                out.push(2);
                id.put(out);
            }
        }
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        match words.word()? {
            0 => Some(Self::Pod),
            1 => Some(Self::Host),
            2 => EndpointId::take(words).map(Self::Endpoint),
            _ => None,
        }
    }
}

impl Words for RouteTarget {
    fn put(&self, out: &mut Vec<u64>) {
        match self {
            Self::Connected => out.push(0),
            Self::Port(port) => {
                out.push(1);
                port.put(out);
            }
            Self::Blackhole => out.push(2),
        }
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        match words.word()? {
            0 => Some(Self::Connected),
            1 => PortId::take(words).map(Self::Port),
            2 => Some(Self::Blackhole),
            _ => None,
        }
    }
}

impl Words for Change {
    fn put(&self, out: &mut Vec<u64>) {
        match self {
            Self::Node(node) => {
                out.push(1);
                node.put(out);
            }
            Self::Port(port) => {
                out.push(2);
                port.put(out);
            }
            Self::PortRemoved(id) => {
                out.push(3);
                id.put(out);
            }
            Self::PortUp(id, up) => {
                out.push(4);
                id.put(out);
                up.put(out);
            }
            Self::Routes(routes) => {
                out.push(5);
                routes.put(out);
            }
            Self::Complete(complete) => {
                out.push(6);
                complete.put(out);
            }
            Self::All(changes) => {
                out.push(7);
                changes.put(out);
            }
            Self::Service(service) => {
                out.push(8);
                service.put(out);
            }
            Self::ServiceRemoved(id) => {
                out.push(9);
                id.put(out);
            }
        }
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        match words.word()? {
            1 => NodeConfig::take(words).map(Self::Node),
            2 => PortConfig::take(words).map(Self::Port),
            3 => PortId::take(words).map(Self::PortRemoved),
            4 => Some(Self::PortUp(PortId::take(words)?, bool::take(words)?)),
            5 => Words::take(words).map(Self::Routes),
            6 => bool::take(words).map(Self::Complete),
            7 => {
                words.depth = words.depth.checked_sub(1)?;
                let changes = Words::take(words)?;
                words.depth += 1;
                Some(Self::All(changes))
            }
            8 => Words::take(words).map(Self::Service),
            9 => Words::take(words).map(Self::ServiceRemoved),
            _ => None,
        }
    }
}

words_of!(Seeds { table, choice });
words_of!(Limits {
    ports_max,
    addresses_max,
    allowed_max,
    routes_max,
    services_max,
    frontends_max,
    backends_max,
    service_frontends_max,
    service_backends_max,
    affinities_max,
    errors_burst,
    errors_interval,
    flood_burst,
    flood_interval,
    connections_max,
    pod_connections_max,
    timeouts,
    datagrams_max,
    port_datagrams_max,
    held_bytes_max,
    port_held_bytes_max,
    fragment_timeout,
});
words_of!(NodeConfig {
    gateway_mac,
    gateway4,
    gateway6,
    addresses,
    vxlan_port,
    service_cidrs,
    non_masquerade,
    snat_ports,
    node_ports,
    health_ports,
});
words_of!(PortConfig { id, kind, mac, addresses, allowed, mtu, up });
words_of!(Route { prefix, target });

impl Words for PortCounters {
    fn put(&self, out: &mut Vec<u64>) {
        out.extend(self.counts().map(|(_, count)| count));
        // By number: versions differ in the reasons they know.
        let at = out.len();
        out.push(0);
        for (reason, count) in self.drops() {
            out.extend([u64::from(reason.code()), count]);
        }
        let pairs = (out.len() - at) / 2;
        if let Some(place) = out.get_mut(at) {
            *place = pairs as u64;
        }
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        let mut count = || words.word().filter(|count| *count < COUNT_MAX);
        let mut counters = Self::default();
        for (_, place) in counters.counts_mut() {
            *place = count()?;
        }
        for _ in 0..count()? {
            let code = count()?;
            let place = DropReason::ALL.iter().position(|r| u64::from(r.code()) == code)?;
            *counters.dropped.get_mut(place)? = count()?;
        }
        Some(counters)
    }
}

pub(crate) mod service;
#[cfg(test)]
mod tests;

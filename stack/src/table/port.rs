//! Ports by slot: configuration, rate buckets, counters.
//!
//! Limit: `ports_max` slots, free ones taken lowest first. A [`PortId`] is never reused by the
//! daemon, a slot is; walks carry slots, outputs carry ids.

use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

use super::bucket::Bucket;
use super::map::Map;
use super::slab::Slab;
use crate::config::{PortConfig, PortKind, link_local};
use crate::counters::PortCounters;
use crate::input::PortId;
use crate::words::words_of;

/// Place of a port in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u32);

impl Slot {
    /// The place in half of its bits, if it fits.
    #[inline]
    pub(super) fn short(self) -> Option<u16> {
        u16::try_from(self.0).ok()
    }
}

impl From<u16> for Slot {
    fn from(place: u16) -> Self {
        Self(place.into())
    }
}

/// A port with its state.
#[derive(Clone, Debug)]
pub struct Port {
    /// As configured.
    pub config: PortConfig,
    /// Share of ICMP errors it may cause.
    pub errors: Bucket,
    /// Share of floods it may cause.
    pub floods: Bucket,
    /// Connections that it began.
    pub connections: u32,
    /// What it received and sent.
    pub counters: PortCounters,
}

impl Port {
    /// Whether the port may use `address` as its own: configured, its EUI-64 link-local, or in an
    /// allowed prefix.
    #[must_use]
    pub fn owns(&self, address: &IpAddress) -> bool {
        if self.config.addresses.contains(address) {
            return true;
        }
        match address {
            IpAddress::Ipv6(v6) if v6.is_unicast_link_local() => {
                self.speaks_ipv6() && *v6 == link_local(self.config.mac)
            }
            IpAddress::Ipv4(_) | IpAddress::Ipv6(_) => {
                self.config.allowed.iter().any(|prefix| prefix.contains_addr(address))
            }
        }
    }

    /// Whether the port has IPv6 at all: one that was given none may not even use the addresses
    /// that every IPv6 host has (SEC-32).
    #[must_use]
    pub fn speaks_ipv6(&self) -> bool {
        let given = self.config.addresses.iter().any(|a| matches!(a, IpAddress::Ipv6(_)));
        given || self.config.allowed.iter().any(|prefix| matches!(prefix, IpCidr::Ipv6(_)))
    }

    /// Whether the port takes part in the pods' segment.
    #[must_use]
    pub fn on_segment(&self) -> bool {
        self.config.kind == PortKind::Pod && self.config.up
    }

    /// The addresses it is answered for, its link-local address included.
    pub fn answered_addresses(&self) -> impl Iterator<Item = IpAddress> + '_ {
        let own = link_local(self.config.mac);
        self.config.addresses.iter().copied().chain(core::iter::once(IpAddress::Ipv6(own)))
    }
}

words_of!(Port { config, errors, floods, connections, counters });

/// All ports.
#[derive(Clone, Debug)]
pub struct Ports {
    rows: Slab<Port>,
    by_id: Map<PortId, Slot>,
}

impl Ports {
    /// A table of at most `ports_max` ports.
    #[must_use]
    pub fn new(seed: u64, ports_max: usize) -> Self {
        Self { rows: Slab::new(ports_max), by_id: Map::new(seed, ports_max) }
    }

    /// The slot of a port.
    #[must_use]
    #[inline]
    pub fn slot(&self, id: PortId) -> Option<Slot> {
        self.by_id.get(&id).copied()
    }

    /// The port of a slot.
    #[must_use]
    #[inline]
    pub fn get(&self, slot: Slot) -> Option<&Port> {
        self.at(slot.0 as usize)
    }

    /// The port of that number.
    #[must_use]
    #[inline]
    pub fn by_id(&self, id: PortId) -> Option<&Port> {
        self.get(self.slot(id)?)
    }

    /// The port at a place of the table.
    #[inline]
    pub(super) fn at(&self, slot: usize) -> Option<&Port> {
        self.rows.get(slot)
    }

    /// Places of the table that are in use or were.
    pub(super) fn slots(&self) -> usize {
        self.rows.slots()
    }

    /// The rows, for a snapshot.
    pub(super) fn rows(&mut self) -> &mut Slab<Port> {
        &mut self.rows
    }

    /// The port of a slot, to be changed: for commits and configuration only.
    #[inline]
    pub(super) fn change(&mut self, slot: Slot) -> Option<&mut Port> {
        self.rows.change(slot.0 as usize)
    }

    /// Puts a port in the lowest free slot, or in its own if it is there. `None` when the table is
    /// full.
    pub(super) fn insert(&mut self, config: PortConfig) -> Option<Slot> {
        if let Some(slot) = self.slot(config.id) {
            let port = self.change(slot)?;
            port.config = config;
            return Some(slot);
        }
        let id = config.id;
        let place = self.rows.insert(Port {
            config,
            errors: Bucket::default(),
            floods: Bucket::default(),
            connections: 0,
            counters: PortCounters::default(),
        })?;
        let slot = Slot(u32::try_from(place).ok()?);
        self.by_id.insert(id, slot);
        Some(slot)
    }

    /// Puts a port of a snapshot where it was. False when it cannot be there.
    pub(super) fn restore(&mut self, place: usize, port: Port) -> bool {
        let Ok(slot) = u32::try_from(place) else { return false };
        let id = port.config.id;
        self.slot(id).is_none()
            && self.rows.restore(place, port)
            && self.by_id.insert(id, Slot(slot))
    }

    /// Puts a port that was taken out back into its slot. False when it cannot be there.
    pub(super) fn put_back(&mut self, slot: Slot, port: Port) -> bool {
        self.restore(slot.0 as usize, port)
    }

    /// Takes a port out.
    pub(super) fn remove(&mut self, id: PortId) -> Option<Port> {
        let slot = self.by_id.remove(&id)?;
        self.rows.remove(slot.0 as usize)
    }

    /// All ports in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Port)> + '_ {
        let rows = self.rows.iter();
        rows.filter_map(|(place, port)| Some((Slot(u32::try_from(place).ok()?), port)))
    }

    /// How many ports there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The pod that has this MAC, by a search through all: for validation only.
    #[must_use]
    pub fn owner_of_mac(&self, mac: EthernetAddress) -> Option<PortId> {
        self.iter().find(|(_, port)| port.config.mac == mac).map(|(_, port)| port.config.id)
    }
}

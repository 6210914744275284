//! Services: which one a frame asks for, which of its backends can be used, and the choice of one.
//!
//! - [`frontend`]: the keys by which a destination finds its Service.
//! - [`select`]: usable backends, by kube-proxy's rules.
//! - [`choose`]: the choice; [`rendezvous`], [`turn`] and [`maglev`] are its methods.
//! - [`affinity`]: which backend a client has.
//! - [`row`]: a Service with its state. [`set`]: changes of configuration.
//!
//! A look-up takes one or two steps in hash maps, however many Services there are, and a change
//! touches the one Service. The cost of a choice grows with the candidates of its Service where
//! they are compared: not by Maglev, nor by turns without weights.

use smoltcp::wire::IpAddress;

use super::map::Map;
use super::slab::Slab;
use crate::config::{FrontendKind, Limits, Seeds, ServiceId};
use crate::time::Instant;
pub use crate::trace::Why;

pub mod affinity;
pub mod choose;
mod frontend;
mod maglev;
mod rendezvous;
pub mod row;
pub mod select;
mod set;
mod turn;

pub use affinity::Affinity;
pub use choose::{Choice, Chosen, Refusal, Request};
pub use row::{Load, Refused, Service};
pub use select::Path;

use affinity::Affinities;
use frontend::{At, Family, Key};
pub(super) use set::Before;

/// Place of a Service in the table. It is used again when the Service is gone: what outlives a walk
/// remembers the [`ServiceId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceSlot(u32);

/// What a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A Service's frontend.
    Frontend {
        /// The Service.
        slot: ServiceSlot,
        /// What kind of frontend it is.
        kind: FrontendKind,
    },
    /// A Service's address, and none of the node's, but nothing is there at that port and protocol.
    KnownAddress,
    /// Nothing that Services know.
    Nothing,
}

/// All Services.
#[derive(Clone, Debug)]
pub struct Services {
    rows: Slab<Service>,
    by_id: Map<ServiceId, ServiceSlot>,
    frontends: Map<Key, (ServiceSlot, FrontendKind)>,
    /// Addresses that are Services', and of how many frontends.
    vips: Map<IpAddress, u32>,
    /// Backends of all Services.
    backends: usize,
    /// Open connections with backends that are none of their Service's, for when they come back.
    /// It follows from the connections.
    departed: Map<(ServiceId, IpAddress, u16), u32>,
    affinities: Affinities,
    limits: Limits,
    /// Changes so far, for what is cached; no state.
    changes: u64,
}

impl Services {
    /// No Services, within `limits`.
    #[must_use]
    pub fn new(seeds: Seeds, limits: &Limits) -> Self {
        Self {
            rows: Slab::new(limits.services_max),
            by_id: Map::growing(seeds.table, limits.services_max),
            frontends: Map::growing(seeds.table, limits.frontends_max),
            vips: Map::growing(seeds.table, limits.frontends_max),
            backends: 0,
            departed: Map::growing(seeds.table, limits.connections_max.saturating_mul(2)),
            affinities: Affinities::new(seeds.choice, limits.affinities_max),
            limits: *limits,
            changes: 0,
        }
    }

    /// Rises with every change of any Service.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.changes
    }

    /// What is asked for at that address, port (host order) and protocol (IANA's number). NodePorts
    /// and hostPorts are there at the node's own addresses only, so the caller says whether
    /// `address` is one; those of loopback count.
    #[must_use]
    pub fn find(
        &self,
        address: &IpAddress,
        port: u16,
        protocol: u8,
        is_node_address: bool,
    ) -> Found {
        let at = |at| self.frontends.get(&Key { at, protocol, port }).copied();
        let found = at(At::Vip(*address)).or_else(|| {
            if !is_node_address {
                return None;
            }
            let family = Family::of(address);
            at(At::Node(*address))
                .or_else(|| at(At::AnyNode(family)))
                .or_else(|| at(At::Host(*address)))
                .or_else(|| at(At::AnyHost(family)))
        });
        match found {
            Some((slot, kind)) => Found::Frontend { slot, kind },
            None if !is_node_address && self.is_vip(address) => Found::KnownAddress,
            None => Found::Nothing,
        }
    }

    /// Whether an address is a Service's: a cluster address, a load balancer's or an external one.
    /// An external one may be the node's as well.
    #[must_use]
    pub fn is_vip(&self, address: &IpAddress) -> bool {
        self.vips.get(address).is_some()
    }

    /// The Service of a slot.
    #[must_use]
    #[inline]
    pub fn get(&self, slot: ServiceSlot) -> Option<&Service> {
        self.rows.get(slot.0 as usize)
    }

    /// The slot of a Service.
    #[must_use]
    pub fn slot(&self, id: ServiceId) -> Option<ServiceSlot> {
        self.by_id.get(&id).copied()
    }

    /// The Service of that number.
    #[must_use]
    pub fn by_id(&self, id: ServiceId) -> Option<&Service> {
        self.get(self.slot(id)?)
    }

    /// Whether a connection to that address and port still is with a backend of the Service that
    /// answers ([`Service::serves`]).
    #[must_use]
    pub fn serves(&self, slot: ServiceSlot, address: &IpAddress, port: u16) -> bool {
        self.get(slot).is_some_and(|service| service.serves(address, port))
    }

    /// All Services in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (ServiceSlot, &Service)> + '_ {
        let rows = self.rows.iter();
        rows.filter_map(|(place, service)| Some((ServiceSlot(u32::try_from(place).ok()?), service)))
    }

    /// How many Services there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The clients that are remembered, by their places; expired ones are among them.
    pub fn affinities(&self) -> impl Iterator<Item = &Affinity> + '_ {
        self.affinities.rows().iter().map(|(_, row)| row)
    }

    /// A connection began that was given this backend: it is counted, turns go on, and the client
    /// keeps it.
    pub fn began(&mut self, now: Instant, chosen: &Chosen) {
        let Some(service) = self.rows.change(chosen.slot.0 as usize) else { return };
        let index = usize::from(chosen.index);
        if let Some(load) = service.loads.get_mut(index) {
            load.active = load.active.saturating_add(1);
            load.total = load.total.saturating_add(1);
        }
        if let Some((path, next)) = chosen.turn
            && let Some(turn) = service.turns.get_mut(path.index())
        {
            *turn = next;
        }
        let config = &service.config;
        if let (Some(client), Some(timeout)) = (chosen.client, config.affinity)
            && let Some(backend) = config.backends.get(index)
        {
            let backend = (backend.address, backend.port);
            self.affinities.keep(config.id, client, backend, now, timeout);
        }
    }

    /// A connection that was given this backend ended. The backend may be gone, and its Service
    /// too: what is still open counts again when they come back.
    pub fn ended(&mut self, id: ServiceId, address: &IpAddress, port: u16) {
        if let Some(load) = self.load(id, address, port) {
            load.active = load.active.saturating_sub(1);
            return;
        }
        let key = (id, *address, port);
        match self.departed.get(&key).copied() {
            Some(count) if count > 1 => _ = self.departed.insert(key, count - 1),
            Some(_) => _ = self.departed.remove(&key),
            None => {}
        }
    }

    /// A connection goes on that another build began.
    pub(in crate::table) fn taken_over(&mut self, id: ServiceId, address: &IpAddress, port: u16) {
        match self.load(id, address, port) {
            Some(load) => load.active = load.active.saturating_add(1),
            None => self.depart((id, *address, port), 1),
        }
    }

    /// A connection of a snapshot is there: its Service counts it if the backend is still its own.
    pub(in crate::table) fn restored(&mut self, id: ServiceId, address: &IpAddress, port: u16) {
        if self.load(id, address, port).is_none() {
            self.depart((id, *address, port), 1);
        }
    }

    fn load(&mut self, id: ServiceId, address: &IpAddress, port: u16) -> Option<&mut Load> {
        let slot = self.slot(id)?;
        let place = self.get(slot)?.place(address, port)?;
        self.rows.change(slot.0 as usize)?.loads.get_mut(place)
    }

    fn depart(&mut self, key: (ServiceId, IpAddress, u16), active: u32) {
        let before = self.departed.get(&key).copied().unwrap_or(0);
        self.departed.insert(key, before.saturating_add(active));
    }

    /// A Service is not what it was, or gone: what its backends carry is kept for their return.
    fn retire(&mut self, old: &Service) {
        let loads = old.config.backends.iter().zip(&old.loads);
        for (backend, load) in loads.filter(|(_, load)| load.active > 0) {
            self.depart((old.config.id, backend.address, backend.port), load.active);
        }
    }

    /// A Service is there: its backends carry what was kept for them.
    fn recall(&mut self, slot: ServiceSlot) {
        let Some(service) = self.rows.change(slot.0 as usize) else { return };
        let id = service.config.id;
        for (backend, load) in service.config.backends.iter().zip(&mut service.loads) {
            let key = (id, backend.address, backend.port);
            load.active = self.departed.remove(&key).unwrap_or(0);
        }
    }

    /// A connection was refused.
    pub fn refused(&mut self, slot: ServiceSlot, refusal: Refusal) {
        let Some(service) = self.rows.change(slot.0 as usize) else { return };
        let count = match refusal {
            Refusal::NoBackends => &mut service.refused.no_backends,
            Refusal::NoneLocal => &mut service.refused.none_local,
            Refusal::SourceRefused => &mut service.refused.source,
        };
        *count = count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;

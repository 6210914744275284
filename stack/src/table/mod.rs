//! All state of the switch, and the only code that changes it.
//!
//! Two ways in: [`Tables::commit`] for what walks decided, [`Tables::apply`] for changes of desired
//! state. Stages get `&Tables`.

use alloc::vec::Vec;

use smoltcp::wire::{EthernetAddress, IpAddress, IpProtocol};

use crate::config::{
    Config, ConfigError, Limits, NodeConfig, PortConfig, PortKind, Route, Seeds, ServiceConfig,
};
use crate::counters::{Counters, PortCounters};
use crate::input::PortId;
use crate::list::List;
use crate::time::Instant;
use crate::wire::is_loopback;

mod apply;
pub mod bucket;
pub mod conntrack;
pub mod export;
pub mod fib;
mod form;
pub mod fragment;
mod free;
pub mod lpm;
pub mod map;
pub mod port;
pub mod rows;
pub mod service;
pub mod slab;
pub mod snapshot;
mod sweep;
mod undo;

pub use bucket::Rate;
pub use port::{Port, Ports, Slot};
pub use rows::{Digests, Table};
pub use snapshot::RestoreError;

use conntrack::{Connection, ConnectionId, Connections, Side, Track, Tuple, Way};
use fib::Fib;
use fragment::{Datagrams, Fragmented};
use map::Map;
use service::{Chosen, Found, Refusal, ServiceSlot, Services};
use sweep::Sweep;

/// Where an address is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// The port.
    pub slot: Slot,
    /// The MAC behind it.
    pub mac: EthernetAddress,
}

/// What a walk wants changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// One error of the port's share is used.
    SpendError(Slot),
    /// So many tokens of the port's share of floods are used.
    SpendFlood(Slot, u32),
    /// A connection begins.
    Track {
        /// The connection.
        connection: Connection,
        /// Those that go for it: what stood in its place, or for its room.
        instead_of: [Option<ConnectionId>; 3],
    },
    /// A connection has come so far.
    Advance(ConnectionId, Track),
    /// A whole walk carried a packet of that side so.
    Carried(ConnectionId, Side, Way),
    /// A connection begins that a Service gave a backend.
    Chosen(Chosen),
    /// A Service refused a connection.
    Refused(ServiceSlot, Refusal),
    /// A fragment of a datagram came.
    Fragment(Fragmented),
}

/// The effects of one walk.
pub(crate) type Effects = List<Effect, 7>;

impl Effects {
    /// None.
    pub(crate) fn new() -> Self {
        Self::of(Effect::SpendError(Slot::from(0)))
    }
}

/// All state.
#[derive(Clone, Debug)]
pub struct Tables {
    limits: Limits,
    seeds: Seeds,
    /// The latest time seen.
    now: Instant,
    /// Walks so far.
    walks: u64,
    node: NodeConfig,
    complete: bool,
    /// Raised by each change that can alter how an established connection is carried.
    epoch: u64,
    ports: Ports,
    fdb: Map<EthernetAddress, Slot>,
    neighbors: Map<IpAddress, Neighbor>,
    fib: Fib,
    connections: Connections,
    sweep: Sweep,
    datagrams: Datagrams,
    gone: PortCounters,
    services: Services,
    /// A snapshot that is being taken.
    open: Option<snapshot::Open>,
}

impl Tables {
    /// Empty tables within `limits`.
    #[must_use]
    pub fn new(limits: Limits, seeds: Seeds) -> Self {
        let addresses_max = limits.ports_max.saturating_mul(limits.addresses_max + 1);
        Self {
            limits,
            seeds,
            now: Instant::ZERO,
            walks: 0,
            node: NodeConfig::default(),
            complete: false,
            epoch: 0,
            ports: Ports::new(seeds.table, limits.ports_max),
            fdb: Map::new(seeds.table, limits.ports_max),
            neighbors: Map::new(seeds.table, addresses_max),
            fib: Fib::default(),
            connections: Connections::new(seeds.table, limits.connections_max),
            sweep: Sweep::default(),
            datagrams: Datagrams::new(seeds.table, &limits),
            gone: PortCounters::default(),
            services: Services::new(seeds, &limits),
            open: None,
        }
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &NodeConfig {
        &self.node
    }

    /// The latest time seen.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Takes the time in; it never goes back.
    #[inline]
    pub fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// The number of a new walk: they are counted from 1.
    #[inline]
    pub fn number_walk(&mut self) -> u64 {
        self.walks = self.walks.wrapping_add(1);
        self.walks
    }

    /// Walks so far.
    #[must_use]
    pub fn walks(&self) -> u64 {
        self.walks
    }

    /// Whether desired state was loaded whole.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// Version of the configuration, for what is cached under it.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Version of all that decides how packets of a connection are carried: a [`Way`] of another
    /// one is out of date. Never 0. Connections of UDP depend on Services as well, for nothing ends
    /// them but the loss of what they were led to.
    #[inline]
    pub(crate) fn version(&self, protocol: u8) -> u32 {
        let services =
            if protocol == u8::from(IpProtocol::Udp) { self.services.version() } else { 0 };
        let low = self.epoch.wrapping_add(services) & u64::from(u32::MAX);
        u32::try_from(low).unwrap_or(0).max(1)
    }

    /// The ports.
    #[must_use]
    #[inline]
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// The port that has this MAC.
    #[must_use]
    #[inline]
    pub fn fdb(&self, mac: &EthernetAddress) -> Option<Slot> {
        self.fdb.get(mac).copied()
    }

    /// Where an address is attached.
    #[must_use]
    #[inline]
    pub fn neighbor(&self, address: &IpAddress) -> Option<Neighbor> {
        self.neighbors.get(address).copied()
    }

    /// The FIB.
    #[must_use]
    pub fn fib(&self) -> &Fib {
        &self.fib
    }

    /// The Services.
    #[must_use]
    #[inline]
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// The connections.
    #[must_use]
    #[inline]
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The datagrams that come in fragments.
    #[must_use]
    pub fn datagrams(&self) -> &Datagrams {
        &self.datagrams
    }

    /// The key of hashes that make choices.
    #[must_use]
    pub fn choice_seed(&self) -> u64 {
        self.seeds.choice
    }

    /// Which Service's frontend a flow asks for.
    #[must_use]
    #[inline]
    pub fn frontend(&self, flow: &Tuple) -> Found {
        let is_own = is_loopback(&flow.dst) || self.node.addresses.contains(&flow.dst);
        self.services.find(&flow.dst, flow.dst_port, flow.protocol, is_own)
    }

    /// Rate of ICMP errors a port may cause.
    #[must_use]
    pub fn error_rate(&self) -> Rate {
        Rate { burst: self.limits.errors_burst, interval: self.limits.errors_interval }
    }

    /// Rate of floods a port may cause.
    #[must_use]
    pub fn flood_rate(&self) -> Rate {
        Rate { burst: self.limits.flood_burst, interval: self.limits.flood_interval }
    }

    /// The pods that a group frame of `len` bytes behind its Ethernet header goes to from
    /// `ingress`, in slot order: those that can take it.
    pub fn segment(&self, ingress: Slot, len: u32) -> impl Iterator<Item = (Slot, &Port)> + '_ {
        self.ports.iter().filter(move |(slot, port)| {
            *slot != ingress && port.on_segment() && len <= u32::from(port.config.mtu)
        })
    }

    /// Does what a walk decided. The only writer on the path of a frame.
    #[inline]
    pub(crate) fn commit(&mut self, now: Instant, effects: &[Effect]) {
        let (errors, floods) = (self.error_rate(), self.flood_rate());
        for effect in effects {
            match effect {
                Effect::SpendError(slot) => {
                    if let Some(port) = self.ports.change(*slot) {
                        port.errors.spend(now, errors, 1);
                    }
                }
                Effect::Track { connection, instead_of } => {
                    instead_of.iter().flatten().for_each(|id| self.end_connection(*id));
                    self.begin_connection(connection);
                }
                Effect::Advance(id, track) => self.connections.advance(*id, *track),
                Effect::Carried(id, side, way) => self.connections.carry(*id, *side, *way),
                Effect::SpendFlood(slot, tokens) => {
                    if let Some(port) = self.ports.change(*slot) {
                        port.floods.spend(now, floods, *tokens);
                    }
                }
                Effect::Chosen(chosen) => self.services.began(now, chosen),
                Effect::Refused(slot, refusal) => self.services.refused(*slot, *refusal),
                Effect::Fragment(fragment) => self.commit_fragment(fragment),
            }
        }
    }

    /// The counters of a port; those of ports that are gone when there is none.
    #[must_use]
    #[inline]
    pub fn counters_mut(&mut self, slot: Option<Slot>) -> &mut PortCounters {
        match slot.and_then(|slot| self.ports.change(slot)) {
            Some(port) => &mut port.counters,
            None => &mut self.gone,
        }
    }

    /// A copy of all counters, ports in the order of their numbers.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut ports: Vec<(PortId, PortCounters)> =
            self.ports.iter().map(|(_, port)| (port.config.id, port.counters.clone())).collect();
        ports.sort_by_key(|(id, _)| *id);
        Counters { ports, gone: self.gone.clone() }
    }

    /// What follows from other rows and is in no snapshot: FDB and neighbors, as the ports behind,
    /// and where Services are found.
    #[cfg(test)]
    pub(crate) fn derived(&self) -> alloc::string::String {
        let (fdb, neighbors) = (self.fdb.sorted(), self.neighbors.sorted());
        alloc::format!("{fdb:?} {neighbors:?} {}", self.services.derived())
    }

    /// The desired state in force, ports, routes and Services sorted.
    #[must_use]
    pub fn config(&self) -> Config {
        let mut ports: Vec<PortConfig> =
            self.ports.iter().map(|(_, port)| port.config.clone()).collect();
        ports.sort_by_key(|port| port.id);
        let mut services: Vec<ServiceConfig> =
            self.services.iter().map(|(_, service)| service.config.clone()).collect();
        services.sort_by_key(|service| service.id);
        Config {
            node: self.node.clone(),
            ports,
            routes: self.fib.routes().to_vec(),
            services,
            complete: self.complete,
        }
    }
}

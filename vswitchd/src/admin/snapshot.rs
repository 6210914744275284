//! What the lists are made of: one look at the switch, and the objects that follow from it.

use std::collections::BTreeMap;

use smoltcp::wire::IpAddress;
use stack::config::link_local;
use stack::wire::Mac;
use stack::{Config, Counters, PortCounters, PortId, PortKind, RouteTarget};

use super::objects::{Attachment, Counter, Drop, FdbEntry, Neighbor, Port, Route, Status, Traffic};
use crate::directory::Directory;
use crate::event_loop::{DriverCounters, View};

/// Name of what is there no more: removed ports, by what they had counted.
pub(super) const GONE: &str = "(gone)";

/// The switch at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Desired state in force.
    pub config: Config,
    /// Its counters.
    pub counters: Counters,
    /// The drivers' counters.
    pub drivers: BTreeMap<PortId, DriverCounters>,
    /// What the drivers of removed ports had counted.
    pub gone: DriverCounters,
    /// Digest of its state.
    pub digest: u64,
    /// Nanoseconds from CLOCK_MONOTONIC to UTC.
    pub utc_offset: i64,
    /// UTC in nanoseconds since 1970, as of the last batch.
    pub utc: u64,
}

impl Snapshot {
    /// Looks at the switch. Runs on the event loop's thread.
    #[must_use]
    pub fn take(view: &View<'_>) -> Self {
        Self {
            config: view.switch.config(),
            counters: view.switch.counters(),
            drivers: view.drivers.clone(),
            gone: view.gone.clone(),
            digest: view.switch.digest(),
            utc_offset: view.utc_offset,
            utc: view.now.0.saturating_add_signed(view.utc_offset),
        }
    }

    /// Every port, by name.
    #[must_use]
    pub fn ports(&self, names: &Directory, attachments: &[Attachment]) -> Vec<Port> {
        let mut ports: Vec<_> = self.config.ports.iter().collect();
        ports.sort_by_key(|port| (name_of(port.id, names), port.id));
        let port = |port: &stack::PortConfig| {
            let counters = self.counters.port(port.id).cloned().unwrap_or_default();
            let attachment = attachments.iter().find(|attachment| attachment.port == port.id.0);
            Port {
                name: name_of(port.id, names),
                id: port.id.0,
                r#type: type_of(port.kind).to_owned(),
                link: attachment.map(|attachment| attachment.link.clone()),
                mac: Mac(port.mac).to_string(),
                addresses: port.addresses.iter().map(ToString::to_string).collect(),
                allowed: port.allowed.iter().map(ToString::to_string).collect(),
                mtu: port.mtu,
                up: port.up,
                received: counters.received,
                transmitted: counters.transmitted,
                dropped: counters.dropped_total(),
                container_id: attachment.map(|attachment| attachment.container_id.clone()),
                interface: attachment.map(|attachment| attachment.interface.clone()),
                age_seconds: attachment.and_then(|attachment| attachment.age_seconds),
            }
        };
        ports.into_iter().map(port).collect()
    }

    /// Every MAC, by the port's name. Nothing is learned, so these are the ports' own.
    #[must_use]
    pub fn fdb(&self, names: &Directory) -> Vec<FdbEntry> {
        let ports = self.config.ports.iter().map(|port| FdbEntry {
            mac: Mac(port.mac).to_string(),
            port: name_of(port.id, names),
            r#type: type_of(port.kind).to_owned(),
        });
        let mut entries: Vec<_> = ports.collect();
        entries.sort_by(|a, b| (&a.port, &a.mac).cmp(&(&b.port, &b.mac)));
        entries
    }

    /// Every route, by family and prefix.
    #[must_use]
    pub fn routes(&self, names: &Directory) -> Vec<Route> {
        let mut routes = self.config.routes.clone();
        routes.sort_by_key(|route| (route.prefix.address(), route.prefix.prefix_len()));
        routes.iter().map(|row| route(row, names)).collect()
    }

    /// The route of the longest prefix that covers an address.
    #[must_use]
    pub fn route(&self, address: IpAddress, names: &Directory) -> Option<Route> {
        let routes = self.config.routes.iter();
        let covering = routes.filter(|route| route.prefix.contains_addr(&address));
        let longest = covering.max_by_key(|route| route.prefix.prefix_len());
        longest.map(|row| route(row, names))
    }

    /// Every address that has a MAC, by family and address, link-local ones included.
    #[must_use]
    pub fn neighbors(&self, names: &Directory) -> Vec<Neighbor> {
        let has_six = self.config.node.gateway6.is_some();
        let mut all: Vec<(IpAddress, Neighbor)> = Vec::new();
        for port in &self.config.ports {
            let link_local = IpAddress::from(link_local(port.mac));
            let on_segment = has_six && port.kind != PortKind::Host;
            for address in port.addresses.iter().chain(on_segment.then_some(&link_local)) {
                let neighbor = Neighbor {
                    address: address.to_string(),
                    mac: Mac(port.mac).to_string(),
                    port: name_of(port.id, names),
                };
                all.push((*address, neighbor));
            }
        }
        all.sort_by_key(|(address, _)| *address);
        all.dedup();
        all.into_iter().map(|(_, neighbor)| neighbor).collect()
    }

    /// Every drop reason that occurred, by port; the most frequent first.
    #[must_use]
    pub fn drops(&self, names: &Directory) -> Vec<Drop> {
        let mut drops = Vec::new();
        for (port, counters) in self.each(names) {
            for (reason, count) in counters.drops() {
                drops.push(Drop {
                    port: port.clone(),
                    reason: reason.name().to_owned(),
                    code: reason.code(),
                    class: reason.class().name().to_owned(),
                    count,
                    text: reason.text().to_owned(),
                    hint: reason.hint().to_owned(),
                });
            }
        }
        drops.sort_by(|a, b| (b.count, &a.port, a.code).cmp(&(a.count, &b.port, b.code)));
        drops
    }

    /// Every port's counters, by name.
    #[must_use]
    pub fn counters(&self, names: &Directory) -> Vec<Counter> {
        let none = DriverCounters::default();
        let mut all = Vec::new();
        for (id, counters) in &self.counters.ports {
            let driver = self.drivers.get(id).unwrap_or(&none);
            all.push(counter(name_of(*id, names), counters, driver));
        }
        all.sort_by(|a, b| a.port.cmp(&b.port));
        if self.counters.gone != PortCounters::default() {
            all.push(counter(GONE.to_owned(), &self.counters.gone, &self.gone));
        }
        all
    }

    /// The part of the status that the switch knows; the rest is empty.
    #[must_use]
    pub fn status(&self, names: &Directory) -> Status {
        let ports = &self.config.ports;
        let total = self.counters.total();
        let imbalances = self.counters.imbalances();
        Status {
            complete: self.config.complete,
            pods: count(ports.iter().filter(|port| port.kind == PortKind::Pod)),
            ports: count(ports.iter()),
            ports_up: count(ports.iter().filter(|port| port.up)),
            traffic: Traffic {
                received: total.received,
                forwarded: total.forwarded,
                flooded: total.flooded,
                answered: total.answered,
                delivered: total.delivered,
                dropped: total.dropped_total(),
                held: total.held,
            },
            imbalances: imbalances.into_iter().map(|port| name_of(port, names)).collect(),
            digest: format!("{:016x}", self.digest),
            ..Status::default()
        }
    }

    fn each(&self, names: &Directory) -> Vec<(String, &PortCounters)> {
        let ports = self.counters.ports.iter();
        let mut all: Vec<_> = ports.map(|(id, counters)| (name_of(*id, names), counters)).collect();
        all.push((GONE.to_owned(), &self.counters.gone));
        all
    }
}

/// A port's name, or its number when it has none (any more).
#[must_use]
pub fn name_of(port: PortId, names: &Directory) -> String {
    match names.ports.get(&port) {
        Some(label) => label.to_string(),
        None => format!("port/{}", port.0),
    }
}

fn route(row: &stack::Route, names: &Directory) -> Route {
    let (kind, port) = match row.target {
        RouteTarget::Connected => ("connected", None),
        RouteTarget::Port(port) => ("port", Some(name_of(port, names))),
        RouteTarget::Blackhole => ("blackhole", None),
    };
    Route { prefix: row.prefix.to_string(), r#type: kind.to_owned(), port }
}

fn type_of(kind: PortKind) -> &'static str {
    match kind {
        PortKind::Pod => "pod",
        PortKind::Host => "host",
        PortKind::Endpoint(_) => "endpoint",
    }
}

fn counter(port: String, counters: &PortCounters, driver: &DriverCounters) -> Counter {
    Counter {
        port,
        received: counters.received,
        received_bytes: counters.received_bytes,
        forwarded: counters.forwarded,
        flooded: counters.flooded,
        answered: counters.answered,
        delivered: counters.delivered,
        dropped: counters.dropped_total(),
        held: counters.held,
        transmitted: counters.transmitted,
        transmitted_bytes: counters.transmitted_bytes,
        written: driver.written,
        failed: by_name(&driver.failed),
        receive_failed: by_name(&driver.receive_failed),
        lost: driver.lost.frames,
        earlier: driver.earlier,
    }
}

/// Errno numbers to names such as ENOBUFS.
fn by_name(errors: &BTreeMap<i32, u64>) -> BTreeMap<String, u64> {
    let named = |(errno, count): (&i32, &u64)| {
        (format!("{:?}", nix::errno::Errno::from_raw(*errno)), *count)
    };
    errors.iter().map(named).collect()
}

fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}

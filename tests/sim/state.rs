//! Laws of state: changes are whole or nothing, who owns which address stays clear, and tables are
//! what they count and within their limits.

use std::collections::BTreeMap;

use smoltcp::wire::{EthernetAddress, IpAddress};

use stack::input::{Input, Outbox};
use stack::table::conntrack::Side;
use stack::{Change, Event, Instant, PortKind, Switch};

/// Makes a change. A refused one alters nothing at all; an accepted one loses no count and moves no
/// frame. True if it was accepted.
pub(crate) fn change(switch: &mut Switch, now: Instant, change: Change, out: &mut Outbox) -> bool {
    assert!(switch.tables().now() == now, "time is state: a tick came before");
    let (dump, before) = (switch.dump(), switch.counters());
    switch.input(now, Input::Change(change.clone()), out);
    let after = switch.counters();
    assert!(out.walked.is_empty() && out.transmits.is_empty(), "a change moves no frame");
    assert_eq!(before.total(), after.total(), "a change loses no count: {change:?}");
    match &out.events[..] {
        [] => true,
        [Event::Rejected(error)] => {
            assert_eq!(dump, switch.dump(), "refused and yet done: {change:?}");
            assert!(!error.to_string().is_empty());
            false
        }
        events => panic!("one change, one event: {events:?}"),
    }
}

/// FDB and neighbors know exactly what the ports own, and nothing exceeds its limit. `macs` and
/// `addresses` are all that were ever used.
pub(crate) fn tables(switch: &Switch, macs: &[EthernetAddress], addresses: &[IpAddress]) {
    let (tables, limits) = (switch.tables(), switch.tables().limits());
    let ports: Vec<_> = tables.ports().iter().map(|(_, port)| port).collect();
    assert_eq!(ports.len(), tables.ports().len(), "each port has one slot");
    assert!(ports.len() <= limits.ports_max, "{} ports", ports.len());
    assert!(tables.fib().routes().len() <= limits.routes_max);
    for port in &ports {
        assert!(port.config.addresses.len() <= limits.addresses_max);
        assert!(port.config.allowed.len() <= limits.allowed_max);
    }
    for mac in macs {
        // The switch's own hosts have none: theirs is the gateway's.
        let mut attached = ports.iter().filter(|p| !matches!(p.config.kind, PortKind::Endpoint(_)));
        let owner = attached.find(|port| port.config.mac == *mac);
        let found = tables.fdb(mac).map(|slot| tables.ports().get(slot).unwrap().config.id);
        assert_eq!(found, owner.map(|port| port.config.id), "FDB: {mac}");
    }
    for address in addresses {
        let owner = ports.iter().find(|port| port.answered_addresses().any(|own| own == *address));
        let found = tables
            .neighbor(address)
            .map(|neighbor| (tables.ports().get(neighbor.slot).unwrap().config.id, neighbor.mac));
        let owned = owner.map(|port| (port.config.id, port.config.mac));
        assert_eq!(found, owned, "neighbor: {address}");
    }
    assert_eq!(switch.counters().imbalances(), [], "received is accounted for");
    connections(switch);
}

/// Each flow is of one connection and finds it; what is counted is what is there; nothing exceeds
/// its limit.
pub(crate) fn connections(switch: &Switch) {
    let (tables, limits) = (switch.tables(), switch.tables().limits());
    let (all, services) = (tables.connections(), tables.services());
    let (mut flows, mut begun, mut led) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut families = [0; 2];
    for (id, connection) in all.iter() {
        families[usize::from(id.is_ipv6)] += 1;
        for flow in connection.tuples {
            assert_eq!(all.find(&flow).map(|(found, _)| found), Some(id), "{flow:?} finds its own");
            let other = flows.insert(flow, id);
            assert!(other.is_none_or(|other| other == id), "two connections share {flow:?}");
        }
        *begun.entry(connection.port(Side::Originator)).or_insert(0) += 1;
        if let Some(service) = connection.service {
            let backend = connection.of(Side::Responder);
            *led.entry((service, backend.src, backend.src_port)).or_insert(0) += 1;
        }
    }
    assert!(families.iter().all(|count| *count <= limits.connections_max), "{families:?}");
    for (_, port) in tables.ports().iter() {
        let (id, kind) = (port.config.id, port.config.kind);
        assert_eq!(begun.get(&id).copied().unwrap_or(0), port.connections, "begun by {id:?}");
        let most = limits.pod_connections_max;
        assert!(kind != PortKind::Pod || port.connections <= most, "{} of a pod", port.connections);
    }
    for (_, service) in services.iter() {
        for (backend, load) in service.config.backends.iter().zip(&service.loads) {
            let key = (service.config.id, backend.address, backend.port);
            let open = led.get(&key).copied().unwrap_or(0);
            assert_eq!(open, load.active, "connections of {} with {key:?}", service.config.name);
        }
    }
    assert!(services.affinities().count() <= limits.affinities_max);
    assert!(services.len() <= limits.services_max);
}

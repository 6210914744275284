//! Laws of configuration: changes are whole or nothing, and who owns which address stays clear.

use smoltcp::wire::{EthernetAddress, IpAddress};

use stack::input::{Input, Outbox};
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
}

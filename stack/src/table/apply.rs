//! Changes of desired state: validated against what is there, then done, or refused with nothing
//! changed.

use alloc::boxed::Box;
use alloc::vec::Vec;

use smoltcp::wire::IpAddress;

use super::undo::{Log, Undo};
use super::{
    ConfigError, Fib, Neighbor, NodeConfig, PortConfig, PortId, PortKind, Route, Slot, Tables,
};
use crate::config::{Change, link_local};

impl Tables {
    /// Applies a change whole, or not at all.
    ///
    /// # Errors
    /// The desired state's fault, named; the tables are as before.
    pub fn apply(&mut self, change: &Change) -> Result<(), ConfigError> {
        self.all_or_none(|tables, log| tables.carry_out(change, log))
    }

    /// Carries a change out, and notes what undoes it.
    fn carry_out(&mut self, change: &Change, log: &mut Log) -> Result<(), ConfigError> {
        match change {
            Change::Node(node) => self.set_node(node, log),
            Change::Port(port) => self.set_port(port, log),
            Change::PortRemoved(id) => self.remove_port(*id, log),
            Change::PortUp(id, up) => self.set_up(*id, *up, log),
            Change::Routes(routes) => self.set_routes(routes, log),
            Change::Service(service) => {
                log.push(Undo::Service(Box::new(self.services.set(service)?)));
                Ok(())
            }
            Change::ServiceRemoved(id) => {
                log.push(Undo::Service(Box::new(self.services.remove(*id)?)));
                Ok(())
            }
            Change::Complete(complete) => {
                log.push(Undo::Complete(core::mem::replace(&mut self.complete, *complete)));
                Ok(())
            }
            Change::All(changes) => {
                changes.iter().try_for_each(|change| self.carry_out(change, log))
            }
        }
    }

    fn set_node(&mut self, node: &NodeConfig, log: &mut Log) -> Result<(), ConfigError> {
        if !node.gateway_mac.is_unicast() {
            return Err(ConfigError::MacInvalid { port: PortId(0), mac: node.gateway_mac });
        }
        log.push(Undo::Node(core::mem::replace(&mut self.node, node.clone())));
        self.epoch = self.epoch.wrapping_add(1);
        Ok(())
    }

    fn set_routes(&mut self, routes: &[Route], log: &mut Log) -> Result<(), ConfigError> {
        if routes.len() > self.limits.routes_max {
            return Err(ConfigError::OverLimit { what: "routes", max: self.limits.routes_max });
        }
        if let Some(prefix) = Fib::duplicate(routes) {
            return Err(ConfigError::RouteTwice(prefix));
        }
        self.finish_routes();
        log.push(Undo::Routes(core::mem::replace(&mut self.fib, Fib::build(routes.to_vec()))));
        self.epoch = self.epoch.wrapping_add(1);
        Ok(())
    }

    fn set_up(&mut self, id: PortId, up: bool, log: &mut Log) -> Result<(), ConfigError> {
        let slot = self.ports.slot(id).ok_or(ConfigError::PortUnknown(id))?;
        if let Some(port) = self.ports.change(slot) {
            log.push(Undo::Up(id, core::mem::replace(&mut port.config.up, up)));
        }
        self.epoch = self.epoch.wrapping_add(1);
        Ok(())
    }

    fn set_port(&mut self, port: &PortConfig, log: &mut Log) -> Result<(), ConfigError> {
        self.check_port(port)?;
        let old = self.ports.by_id(port.id).map(|old| old.config.clone());
        if let Some(old) = &old {
            self.forget(old);
        }
        let full = ConfigError::OverLimit { what: "ports", max: self.limits.ports_max };
        let slot = self.ports.insert(port.clone()).ok_or(full)?;
        self.index_port(slot);
        log.push(old.map_or(Undo::Inserted(port.id), Undo::Replaced));
        self.epoch = self.epoch.wrapping_add(1);
        Ok(())
    }

    /// Makes the look-up tables of the ports there are.
    pub(super) fn index(&mut self) {
        let slots: Vec<Slot> = self.ports.iter().map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| self.index_port(slot));
    }

    pub(super) fn index_port(&mut self, slot: Slot) {
        let Some(port) = self.ports.get(slot) else { return };
        if !matches!(port.config.kind, PortKind::Endpoint(_)) {
            self.fdb.insert(port.config.mac, slot);
        }
        let neighbor = Neighbor { slot, mac: port.config.mac };
        for address in port.answered_addresses() {
            // Room is there: the map takes addresses_max and a link-local address for every port.
            self.neighbors.insert(address, neighbor);
        }
    }

    fn remove_port(&mut self, id: PortId, log: &mut Log) -> Result<(), ConfigError> {
        let slot = self.ports.slot(id).ok_or(ConfigError::PortUnknown(id))?;
        let port = self.ports.remove(id).ok_or(ConfigError::PortUnknown(id))?;
        self.forget(&port.config);
        let gone = self.gone.clone();
        self.gone.add(&port.counters);
        log.push(Undo::Removed(slot, Box::new((port, gone))));
        self.epoch = self.epoch.wrapping_add(1);
        Ok(())
    }

    /// Takes what a port owned out of the look-up tables.
    pub(super) fn forget(&mut self, port: &PortConfig) {
        if !matches!(port.kind, PortKind::Endpoint(_)) {
            self.fdb.remove(&port.mac);
        }
        let own = link_local(port.mac);
        for address in port.addresses.iter().copied().chain([own.into()]) {
            self.neighbors.remove(&address);
        }
    }

    fn check_port(&self, port: &PortConfig) -> Result<(), ConfigError> {
        let limits = &self.limits;
        let over = |what, max| Err(ConfigError::OverLimit { what, max });
        if self.ports.slot(port.id).is_none() && self.ports.len() >= limits.ports_max {
            return over("ports", limits.ports_max);
        }
        if port.addresses.len() > limits.addresses_max {
            return over("addresses of a port", limits.addresses_max);
        }
        if port.allowed.len() > limits.allowed_max {
            return over("allowed addresses of a port", limits.allowed_max);
        }
        if !port.mac.is_unicast() || port.mac.0 == [0; 6] {
            return Err(ConfigError::MacInvalid { port: port.id, mac: port.mac });
        }
        let gateway = port.mac == self.node.gateway_mac;
        let taken = self.ports.owner_of_mac(port.mac).is_some_and(|owner| owner != port.id);
        if taken || (gateway && !matches!(port.kind, PortKind::Endpoint(_))) {
            return Err(ConfigError::MacTaken { port: port.id, mac: port.mac });
        }
        // The link-local address counts as well: who answers for an address must follow from the
        // ports there are, not from the order in which they came.
        let own = IpAddress::Ipv6(link_local(port.mac));
        for address in port.addresses.iter().copied().chain([own]) {
            if let Some(owner) = self.neighbor(&address).and_then(|n| self.ports.get(n.slot))
                && owner.config.id != port.id
            {
                let owner = owner.config.id;
                return Err(ConfigError::AddressTaken { port: port.id, address, owner });
            }
        }
        Ok(())
    }
}

//! Changes of desired state: validated against what is there, then done, or refused with nothing
//! changed.

use alloc::vec::Vec;

use super::{
    ConfigError, Fib, Neighbor, NodeConfig, PortConfig, PortId, PortKind, Route, Slot, Tables,
};
use crate::config::Change;

impl Tables {
    /// Applies a change whole, or not at all.
    ///
    /// # Errors
    /// The desired state's fault, named; the tables are as before.
    pub fn apply(&mut self, change: &Change) -> Result<(), ConfigError> {
        match change {
            Change::Node(node) => self.set_node(node),
            Change::Port(port) => self.set_port(port),
            Change::PortRemoved(id) => self.remove_port(*id),
            Change::PortUp(id, up) => self.set_up(*id, *up),
            Change::Routes(routes) => self.set_routes(routes),
            Change::Complete(complete) => {
                self.complete = *complete;
                Ok(())
            }
            Change::All(changes) => self.apply_all(changes),
        }
    }

    /// All or none: a copy takes the changes, and replaces the tables if it took them all.
    /// Configuration is small beside what frames create, and the copy lives between two frames
    /// only.
    fn apply_all(&mut self, changes: &[Change]) -> Result<(), ConfigError> {
        let mut copy = self.clone();
        for change in changes {
            copy.apply(change)?;
        }
        *self = copy;
        Ok(())
    }

    fn set_node(&mut self, node: &NodeConfig) -> Result<(), ConfigError> {
        if !node.gateway_mac.is_unicast() {
            return Err(ConfigError::MacInvalid { port: PortId(0), mac: node.gateway_mac });
        }
        self.node = node.clone();
        self.epoch += 1;
        Ok(())
    }

    fn set_routes(&mut self, routes: &[Route]) -> Result<(), ConfigError> {
        if routes.len() > self.limits.routes_max {
            return Err(ConfigError::OverLimit { what: "routes", max: self.limits.routes_max });
        }
        if let Some(prefix) = Fib::duplicate(routes) {
            return Err(ConfigError::RouteTwice(prefix));
        }
        self.finish_routes();
        self.fib = Fib::build(routes.to_vec());
        self.epoch += 1;
        Ok(())
    }

    fn set_up(&mut self, id: PortId, up: bool) -> Result<(), ConfigError> {
        let slot = self.ports.slot(id).ok_or(ConfigError::PortUnknown(id))?;
        if let Some(port) = self.ports.change(slot) {
            port.config.up = up;
        }
        self.epoch += 1;
        Ok(())
    }

    fn set_port(&mut self, port: &PortConfig) -> Result<(), ConfigError> {
        self.check_port(port)?;
        if let Some(old) = self.ports.by_id(port.id).map(|old| old.config.clone()) {
            self.forget(&old);
        }
        let full = ConfigError::OverLimit { what: "ports", max: self.limits.ports_max };
        let slot = self.ports.insert(port.clone()).ok_or(full)?;
        self.index_port(slot);
        self.epoch += 1;
        Ok(())
    }

    /// Makes the look-up tables of the ports there are.
    pub(super) fn index(&mut self) {
        let slots: Vec<Slot> = self.ports.iter().map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| self.index_port(slot));
    }

    fn index_port(&mut self, slot: Slot) {
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

    fn remove_port(&mut self, id: PortId) -> Result<(), ConfigError> {
        let port = self.ports.remove(id).ok_or(ConfigError::PortUnknown(id))?;
        self.forget(&port.config);
        self.gone.add(&port.counters);
        self.epoch += 1;
        Ok(())
    }

    /// Takes what a port owned out of the look-up tables.
    fn forget(&mut self, port: &PortConfig) {
        if !matches!(port.kind, PortKind::Endpoint(_)) {
            self.fdb.remove(&port.mac);
        }
        let own = crate::config::link_local(port.mac);
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
        for address in &port.addresses {
            if let Some(owner) = self.neighbor(address).and_then(|n| self.ports.get(n.slot))
                && owner.config.id != port.id
            {
                let owner = owner.config.id;
                return Err(ConfigError::AddressTaken { port: port.id, address: *address, owner });
            }
        }
        Ok(())
    }
}

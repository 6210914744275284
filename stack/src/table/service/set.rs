//! Changes of configuration: a Service set or removed, what undoes that, and rows that come back
//! from a snapshot or from another build.

use alloc::vec::Vec;
use core::mem;

use smoltcp::wire::IpAddress;

use super::affinity::{Affinities, Affinity};
use super::frontend::{At, Key, check, keys};
use super::row::Service;
use super::{ServiceSlot, Services};
use crate::config::{ConfigError, ServiceConfig, ServiceId};
use crate::table::slab::Slab;
use crate::time::Instant;

/// What was there before a Service was set or removed.
#[derive(Debug)]
pub(in crate::table) struct Before {
    id: ServiceId,
    slot: ServiceSlot,
    service: Option<Service>,
    affinities: Vec<(usize, Affinity)>,
}

impl Services {
    /// Adds a Service, or replaces the one of that number, which keeps its slot, its counts and its
    /// clients.
    ///
    /// # Errors
    /// What is wrong with it; nothing is changed then.
    pub(in crate::table) fn set(&mut self, config: &ServiceConfig) -> Result<Before, ConfigError> {
        let id = config.id;
        let keys = self.check(config)?;
        self.changes = self.changes.wrapping_add(1);
        let mut service = Service::new(config.clone());
        let slot = self.slot(id);
        if let Some(old) = slot.and_then(|slot| self.get(slot)) {
            service.inherit(old);
        }
        let (slot, service) = match slot {
            Some(slot) => {
                self.unindex(slot);
                (slot, self.rows.change(slot.0 as usize).map(|row| mem::replace(row, service)))
            }
            None => {
                let place = self.rows.insert(service).and_then(|place| u32::try_from(place).ok());
                (ServiceSlot(place.ok_or_else(|| self.full())?), None)
            }
        };
        self.index(slot, &keys);
        if let Some(old) = &service {
            self.retire(old);
        }
        self.recall(slot);
        let had = service.as_ref().is_some_and(|old| old.config.affinity.is_some());
        let forgets = had && config.affinity.is_none();
        let affinities = if forgets { self.affinities.forget(id) } else { Vec::new() };
        Ok(Before { id, slot, service, affinities })
    }

    /// Removes a Service, and whatever is remembered of its clients.
    ///
    /// # Errors
    /// When there is none of that number.
    pub(in crate::table) fn remove(&mut self, id: ServiceId) -> Result<Before, ConfigError> {
        let slot = self.slot(id).ok_or(ConfigError::ServiceUnknown(id))?;
        self.changes = self.changes.wrapping_add(1);
        self.unindex(slot);
        let service = self.rows.remove(slot.0 as usize);
        if let Some(old) = &service {
            self.retire(old);
        }
        let had = service.as_ref().is_some_and(|old| old.config.affinity.is_some());
        let affinities = if had { self.affinities.forget(id) } else { Vec::new() };
        Ok(Before { id, slot, service, affinities })
    }

    /// Puts back what was there before; what came after is undone already.
    pub(in crate::table) fn put_back(&mut self, before: Before) {
        let Before { id, slot, service, affinities } = before;
        self.changes = self.changes.wrapping_add(1);
        if self.slot(id).is_some() {
            self.unindex(slot);
            if let Some(later) = self.rows.remove(slot.0 as usize) {
                self.retire(&later);
            }
        }
        if let Some(service) = service {
            let keys = keys(&service.config);
            self.rows.restore(slot.0 as usize, service);
            self.index(slot, &keys);
            self.recall(slot);
        }
        for (place, row) in affinities {
            self.affinities.restore(place, row);
        }
    }

    /// Puts a Service of a snapshot where it was. False when it cannot be there.
    pub(in crate::table) fn restore(&mut self, place: usize, service: Service) -> bool {
        let Ok(slot) = u32::try_from(place) else { return false };
        let Ok(keys) = self.check(&service.config) else { return false };
        if self.slot(service.config.id).is_some() || !self.rows.restore(place, service) {
            return false;
        }
        self.index(ServiceSlot(slot), &keys);
        true
    }

    /// Lays out what is laid out by the seed of choices, which is another from now on.
    pub(in crate::table) fn lay_out(&mut self, choice_seed: u64, now: Instant) {
        self.affinities.lay_out(choice_seed, now);
    }

    /// The Service of a slot, to be changed.
    pub(in crate::table) fn change(&mut self, slot: ServiceSlot) -> Option<&mut Service> {
        self.rows.change(slot.0 as usize)
    }

    /// The rows.
    pub(in crate::table) fn rows(&self) -> &Slab<Service> {
        &self.rows
    }

    /// The rows, for a snapshot.
    pub(in crate::table) fn rows_mut(&mut self) -> &mut Slab<Service> {
        &mut self.rows
    }

    /// The clients that are remembered.
    pub(in crate::table) fn clients(&self) -> &Affinities {
        &self.affinities
    }

    /// The same, to be changed.
    pub(in crate::table) fn clients_mut(&mut self) -> &mut Affinities {
        &mut self.affinities
    }

    /// What follows from the rows, for tests.
    #[cfg(test)]
    pub(in crate::table) fn derived(&self) -> alloc::string::String {
        let Self { by_id, frontends, vips, backends, .. } = self;
        let (by_id, frontends) = (by_id.sorted(), frontends.sorted());
        alloc::format!("{by_id:?} {frontends:?} {:?} {backends}", vips.sorted())
    }

    /// Whether a Service can be, beside the others, and the keys of its frontends.
    fn check(&self, config: &ServiceConfig) -> Result<Vec<Key>, ConfigError> {
        let (limits, service) = (&self.limits, config.id);
        let keys = check(config, limits)?;
        let slot = self.slot(service);
        let old = slot.and_then(|slot| self.get(slot)).map(|old| &old.config);
        if old.is_none() && self.rows.len() >= limits.services_max {
            return Err(self.full());
        }
        let others = self.frontends.len() - old.map_or(0, |old| old.frontends.len());
        if others + keys.len() > limits.frontends_max {
            let (what, max) = ("frontends of Services", limits.frontends_max);
            return Err(ConfigError::OverLimit { what, max });
        }
        let others = self.backends - old.map_or(0, |old| old.backends.len());
        if others + config.backends.len() > limits.backends_max {
            let (what, max) = ("backends of Services", limits.backends_max);
            return Err(ConfigError::OverLimit { what, max });
        }
        for (key, frontend) in keys.iter().zip(&config.frontends) {
            let has = self.frontends.get(key).filter(|(its, _)| Some(*its) != slot);
            if let Some(other) = has.and_then(|(its, _)| self.get(*its)) {
                let (frontend, owner) = (*frontend, other.config.id);
                return Err(ConfigError::FrontendTaken { service, frontend, owner });
            }
        }
        Ok(keys)
    }

    fn full(&self) -> ConfigError {
        ConfigError::OverLimit { what: "Services", max: self.limits.services_max }
    }

    /// Makes a Service found.
    fn index(&mut self, slot: ServiceSlot, keys: &[Key]) {
        let Some(config) = self.rows.get(slot.0 as usize).map(|service| &service.config) else {
            return;
        };
        // Room is there in all of them: it was looked for before.
        self.by_id.insert(config.id, slot);
        self.backends += config.backends.len();
        for (key, frontend) in keys.iter().zip(&config.frontends) {
            self.frontends.insert(*key, (slot, frontend.kind));
            if let Some(address) = vip(key) {
                let count = self.vips.get(&address).copied().unwrap_or(0);
                self.vips.insert(address, count + 1);
            }
        }
    }

    /// Makes a Service be found no more.
    fn unindex(&mut self, slot: ServiceSlot) {
        let Some(config) = self.rows.get(slot.0 as usize).map(|service| &service.config) else {
            return;
        };
        self.by_id.remove(&config.id);
        self.backends -= config.backends.len();
        for key in keys(config) {
            self.frontends.remove(&key);
            let Some(address) = vip(&key) else { continue };
            match self.vips.get(&address).copied() {
                Some(count) if count > 1 => {
                    self.vips.insert(address, count - 1);
                }
                _ => {
                    self.vips.remove(&address);
                }
            }
        }
    }
}

/// The address that is a Service's by this key.
fn vip(key: &Key) -> Option<IpAddress> {
    match key.at {
        At::Vip(address) => Some(address),
        At::Node(_) | At::AnyNode(_) | At::Host(_) | At::AnyHost(_) => None,
    }
}

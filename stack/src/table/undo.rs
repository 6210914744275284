//! Several changes that hold together or not at all: what each one replaced is kept until the last
//! is through.
//!
//! Only what a change touches is kept, never a copy of the tables: they may hold a million
//! connections.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::fib::Fib;
use super::service::Before;
use super::{Port, PortId, Slot, Tables};
use crate::config::{ConfigError, NodeConfig, PortConfig};
use crate::counters::PortCounters;

/// What undoes one change.
#[derive(Debug)]
pub(super) enum Undo {
    /// The node was another.
    Node(NodeConfig),
    /// There was no such port.
    Inserted(PortId),
    /// The port was configured otherwise.
    Replaced(PortConfig),
    /// There was such a port, and what removed ports had counted.
    Removed(Slot, Box<(Port, PortCounters)>),
    /// The port was up, or down.
    Up(PortId, bool),
    /// The routes were others.
    Routes(Fib),
    /// There was no such Service, or another one, with the clients it knew.
    Service(Box<Before>),
    /// Desired state was loaded whole, or not.
    Complete(bool),
}

/// What undoes the changes so far, in their order.
pub(super) type Log = Vec<Undo>;

impl Tables {
    /// Does them in order. When one is refused, those before it are undone.
    pub(super) fn all_or_none(
        &mut self,
        work: impl FnOnce(&mut Self, &mut Log) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        let (mut log, epoch) = (Log::new(), self.epoch);
        let result = work(self, &mut log);
        if result.is_err() {
            log.into_iter().rev().for_each(|undo| self.undo(undo));
            self.epoch = epoch;
        }
        result
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Node(node) => self.node = node,
            Undo::Inserted(id) => {
                if let Some(port) = self.ports.remove(id) {
                    self.forget(&port.config);
                }
            }
            Undo::Replaced(config) => {
                let now = self.ports.by_id(config.id).map(|port| port.config.clone());
                if let Some(now) = now {
                    self.forget(&now);
                }
                if let Some(slot) = self.ports.insert(config) {
                    self.index_port(slot);
                }
            }
            Undo::Removed(slot, removed) => {
                let (port, gone) = *removed;
                if self.ports.put_back(slot, port) {
                    self.index_port(slot);
                }
                self.gone = gone;
            }
            Undo::Up(id, up) => {
                if let Some(port) = self.ports.slot(id).and_then(|slot| self.ports.change(slot)) {
                    port.config.up = up;
                }
            }
            Undo::Routes(fib) => self.fib = fib,
            Undo::Service(before) => self.services.put_back(*before),
            Undo::Complete(complete) => self.complete = complete,
        }
    }
}

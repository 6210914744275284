//! Connections begin and end here, and those past their deadline are taken out. Datagrams in
//! fragments have a sweep of their own, which steps alike.
//!
//! A connection past its deadline counts as absent at once; the sweep only gives its room back. It
//! passes over all slots once a second, some thousands at a time, so a tick takes well under a
//! millisecond however many connections there are. Where it is, is state.

use alloc::vec::Vec;

use super::conntrack::{Connection, ConnectionId, Side};
use super::{PortId, Tables};
use crate::time::{Duration, Instant};
use crate::words::words_of;

/// Slots of a family looked at in a step.
const STEP: usize = 4_096;
/// How long a pass over all slots takes.
const PASS: Duration = Duration::from_secs(1);

/// How far the sweep is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sweep {
    /// The slot whose turn is next.
    next: u32,
    /// When its turn is.
    due: Instant,
}

words_of!(Sweep { next, due });

impl Sweep {
    /// One that begins now, over an empty table.
    pub(super) fn beginning(now: Instant) -> Self {
        Self { next: 0, due: now + PASS }
    }

    /// Whether it is time for the next step.
    pub(super) fn is_due(self, now: Instant) -> bool {
        self.due <= now
    }

    /// Takes the next step over a table of `slots`: the slot it begins at, and how many it looks
    /// at.
    pub(super) fn step(&mut self, slots: usize, now: Instant) -> (usize, usize) {
        let from = self.next as usize;
        let next = from.saturating_add(STEP);
        self.next = if next >= slots { 0 } else { u32::try_from(next).unwrap_or(0) };
        let steps = u64::try_from(slots.div_ceil(STEP).max(1)).unwrap_or(1);
        self.due = now + Duration(PASS.0 / steps);
        (from, STEP)
    }
}

impl Tables {
    /// When the sweep goes on; `None` while there is nothing to sweep.
    #[must_use]
    pub fn sweep_due(&self) -> Option<Instant> {
        let connections = (!self.connections.is_empty()).then_some(self.sweep.due);
        let datagrams = (!self.datagrams.is_empty()).then_some(self.datagrams.sweep.due);
        connections.into_iter().chain(datagrams).min()
    }

    /// Takes out what of the next slots is past its deadline, if it is time.
    pub fn sweep(&mut self) {
        self.sweep_connections();
        self.sweep_datagrams();
    }

    fn sweep_connections(&mut self) {
        if self.connections.is_empty() || !self.sweep.is_due(self.now) {
            return;
        }
        let (from, slots) = self.sweep.step(self.connections.slots(), self.now);
        let past: Vec<ConnectionId> = self.connections.expired(from, slots, self.now).collect();
        past.into_iter().for_each(|id| self.end_connection(id));
    }

    /// Puts a connection in and counts it.
    pub(super) fn begin_connection(&mut self, connection: &Connection) {
        if self.connections.is_empty() {
            self.sweep = Sweep::beginning(self.now);
        }
        if self.connections.insert(connection).is_none() {
            debug_assert!(false, "the walk has looked for room");
            return;
        }
        self.count_connection(connection.port(Side::Originator), true);
    }

    /// Takes a connection out and counts it no more.
    pub(super) fn end_connection(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(id) else { return };
        self.count_connection(connection.port(Side::Originator), false);
        if let Some(service) = connection.service {
            let backend = connection.of(Side::Responder);
            self.services.ended(service, &backend.src, backend.src_port);
        }
    }

    /// Connections were restored: those count as open of backends that are not there now.
    pub(super) fn count_departed(&mut self) {
        for (_, connection) in self.connections.iter() {
            if let Some(service) = connection.service {
                let backend = connection.of(Side::Responder);
                self.services.restored(service, &backend.src, backend.src_port);
            }
        }
    }

    /// A port's number is never another's, so a port that is gone has nothing to count.
    fn count_connection(&mut self, id: PortId, begins: bool) {
        let Some(port) = self.ports.slot(id).and_then(|slot| self.ports.change(slot)) else {
            return;
        };
        port.connections = if begins {
            port.connections.saturating_add(1)
        } else {
            port.connections.saturating_sub(1)
        };
    }
}

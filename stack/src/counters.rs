//! What came in, what became of it, what went out; per port and conserved:
//! `received = forwarded + flooded + answered + delivered + dropped`, always.

use alloc::vec::Vec;

use crate::drop::DropReason;
use crate::input::PortId;

/// Counters of one port. Frames unless the name says bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames that came in by this port.
    pub received: u64,
    /// Bytes of those.
    pub received_bytes: u64,
    /// Of those received: went out by one port.
    pub forwarded: u64,
    /// Of those received: went out by several ports.
    pub flooded: u64,
    /// Of those received: the switch replied itself.
    pub answered: u64,
    /// Of those received: given to an endpoint.
    pub delivered: u64,
    /// Of those received: dropped, by [`DropReason::index`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Frames handed to this port for writing, whoever sent them.
    pub transmitted: u64,
    /// Bytes of those.
    pub transmitted_bytes: u64,
}

impl Default for PortCounters {
    fn default() -> Self {
        Self {
            received: 0,
            received_bytes: 0,
            forwarded: 0,
            flooded: 0,
            answered: 0,
            delivered: 0,
            dropped: [0; DropReason::ALL.len()],
            transmitted: 0,
            transmitted_bytes: 0,
        }
    }
}

impl PortCounters {
    /// All drops of the port.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }

    /// The reasons that occurred, with how often.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().copied().zip(self.dropped.iter().copied()).filter(|(_, n)| *n > 0)
    }

    /// What became of the received frames, summed: equals `received`.
    #[must_use]
    pub fn accounted(&self) -> u64 {
        let Self { forwarded, flooded, answered, delivered, .. } = self;
        [*forwarded, *flooded, *answered, *delivered, self.dropped_total()]
            .iter()
            .fold(0, |sum, count| sum.wrapping_add(*count))
    }

    /// Adds another's counts, field by field.
    pub fn add(&mut self, other: &Self) {
        let Self {
            received,
            received_bytes,
            forwarded,
            flooded,
            answered,
            delivered,
            dropped,
            transmitted,
            transmitted_bytes,
        } = other;
        self.received = self.received.wrapping_add(*received);
        self.received_bytes = self.received_bytes.wrapping_add(*received_bytes);
        self.forwarded = self.forwarded.wrapping_add(*forwarded);
        self.flooded = self.flooded.wrapping_add(*flooded);
        self.answered = self.answered.wrapping_add(*answered);
        self.delivered = self.delivered.wrapping_add(*delivered);
        for (sum, count) in self.dropped.iter_mut().zip(dropped) {
            *sum = sum.wrapping_add(*count);
        }
        self.transmitted = self.transmitted.wrapping_add(*transmitted);
        self.transmitted_bytes = self.transmitted_bytes.wrapping_add(*transmitted_bytes);
    }
}

/// Counters of all ports, those removed included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The ports that exist, by number.
    pub ports: Vec<(PortId, PortCounters)>,
    /// What removed ports had counted, and frames from ports that never were.
    pub gone: PortCounters,
}

impl Counters {
    /// The sum over all ports.
    #[must_use]
    pub fn total(&self) -> PortCounters {
        let mut total = self.gone.clone();
        for (_, port) in &self.ports {
            total.add(port);
        }
        total
    }

    /// The counters of a port.
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&PortCounters> {
        self.ports.iter().find(|(port, _)| *port == id).map(|(_, counters)| counters)
    }

    /// The ports for which the conservation law fails. Empty unless there is a bug.
    #[must_use]
    pub fn imbalances(&self) -> Vec<PortId> {
        let mut ports: Vec<PortId> = self
            .ports
            .iter()
            .filter(|(_, counters)| counters.received != counters.accounted())
            .map(|(port, _)| *port)
            .collect();
        if self.gone.received != self.gone.accounted() {
            ports.push(PortId(u32::MAX));
        }
        ports
    }
}

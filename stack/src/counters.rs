//! What came in, what became of it, what went out; per port and conserved:
//! `received = forwarded + flooded + answered + delivered + dropped + held`, always. `held` is what
//! waits at that moment: fragments whose first has not come.

use alloc::vec::Vec;

use crate::drop::DropReason;
use crate::input::PortId;

/// Counts beyond this are no switch's: it would have to run for centuries. So a count that was read
/// can be added to.
pub(crate) const COUNT_MAX: u64 = 1 << 62;

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
    /// Of those received: fragments that are held now.
    pub held: u64,
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
            held: 0,
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
        let Self { forwarded, flooded, answered, delivered, held, .. } = self;
        [*forwarded, *flooded, *answered, *delivered, *held, self.dropped_total()]
            .iter()
            .fold(0, |sum, count| sum.wrapping_add(*count))
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        for ((_, sum), (_, count)) in self.counts_mut().into_iter().zip(other.counts()) {
            *sum = sum.wrapping_add(count);
        }
        for (sum, count) in self.dropped.iter_mut().zip(&other.dropped) {
            *sum = sum.wrapping_add(*count);
        }
    }
}

/// Every count but the drops, with its name in exports, in the order of snapshots.
macro_rules! counts {
    ($($field:ident $name:literal),+) => {
        impl PortCounters {
            /// Every count but the drops, with its name.
            pub(crate) fn counts(&self) -> [(&'static str, u64); [$($name),+].len()] {
                // Without `..`: a new count does not compile until it is listed.
                let Self { $($field,)+ dropped: _ } = self;
                [$(($name, *$field)),+]
            }

            /// The same, to be set.
            pub(crate) fn counts_mut(&mut self) -> [(&'static str, &mut u64); [$($name),+].len()] {
                let Self { $($field,)+ dropped: _ } = self;
                [$(($name, $field)),+]
            }
        }
    };
}

counts!(
    received "received",
    received_bytes "received-bytes",
    forwarded "forwarded",
    flooded "flooded",
    answered "answered",
    delivered "delivered",
    transmitted "transmitted",
    transmitted_bytes "transmitted-bytes",
    held "held"
);

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

//! What a replay has seen, in numbers.

use std::collections::BTreeMap;

use stack::{DropReason, Outbox, Verdict};

use crate::replayer::Done;

/// Counts of records and of what the switch decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records by kind's name.
    pub records: BTreeMap<&'static str, u64>,
    /// Walks.
    pub walks: u64,
    /// Walks by verdict's name.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Dropped frames by reason, by code.
    pub drops: BTreeMap<u16, (DropReason, u64)>,
    /// Frames that left.
    pub sent: u64,
    /// Nanoseconds since 1970, UTC, of the first and of the last record.
    pub times: Option<(u64, u64)>,
}

impl Summary {
    /// Takes in a record and what it led to.
    pub fn take(&mut self, done: &Done, utc: u64, out: &Outbox) {
        *self.records.entry(done.head.kind.name()).or_default() += 1;
        self.times = Some((self.times.map_or(utc, |(first, _)| first), utc));
        self.sent += out.transmits.len() as u64;
        for trace in &out.walked {
            self.walks += 1;
            let name = match trace.verdict {
                Verdict::Forward(_) => "forwarded",
                Verdict::Flood(_) => "flooded",
                Verdict::Deliver(_) => "delivered",
                Verdict::Answer(_) => "answered",
                Verdict::Hold => "held",
                Verdict::Drop(reason) => {
                    self.drops.entry(reason.code()).or_insert((reason, 0)).1 += 1;
                    "dropped"
                }
            };
            *self.verdicts.entry(name).or_default() += 1;
        }
    }

    /// All records.
    #[must_use]
    pub fn all_records(&self) -> u64 {
        self.records.values().sum()
    }
}

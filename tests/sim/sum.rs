//! What was seen of all seeds of a run.

use std::fmt;

use crate::tally::Tally;
use crate::world::Seen;

/// What was seen of all seeds.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    verdicts: [u64; 6],
    changes: [u64; 2],
    super_frames: u64,
    crossed: u64,
    nodes: u64,
    crashes: [u64; 4],
    recoveries: [u64; 2],
    snapshots: u64,
    records: u64,
    tally: Tally,
}

impl Sum {
    pub(crate) fn add(&mut self, seen: &Seen) {
        let add = |sum: &mut [u64], counts: &[u64]| {
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        };
        add(&mut self.verdicts, &seen.verdicts);
        add(&mut self.changes, &seen.changes);
        self.super_frames += seen.super_frames;
        self.crossed += seen.crossed;
        self.tally.add(&seen.tally);
        for node in &seen.nodes {
            self.nodes += 1;
            add(&mut self.crashes, &node.crashes);
            add(&mut self.recoveries, &node.recoveries);
            self.snapshots += node.snapshots;
            self.records += node.records;
        }
    }

    /// Every count: none is zero when each thing occurred.
    pub(crate) fn counts(&self) -> Vec<u64> {
        let Self { super_frames, crossed, nodes, snapshots, records, .. } = self;
        let lists = self.verdicts.iter().chain(&self.changes).chain(&self.crashes);
        let lists = lists.chain(&self.recoveries).copied();
        let lists = lists.chain([*super_frames, *crossed, *nodes, *snapshots, *records]);
        lists.chain(self.tally.counts()).collect()
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [forward, flood, deliver, answer, drop, hold] = self.verdicts;
        let ([accepted, refused], super_frames) = (self.changes, self.super_frames);
        let [between, outputs, snapshot, poison] = self.crashes;
        let [tail, begin] = self.recoveries;
        let Self { crossed, nodes, snapshots, records, .. } = self;
        writeln!(f, "{forward} forwarded ({super_frames} super-frames), {flood} flooded,")?;
        writeln!(f, "{deliver} delivered, {answer} answered, {drop} dropped, {hold} held")?;
        writeln!(f, "{crossed} packets from node to node, {nodes} nodes")?;
        writeln!(f, "{accepted} changes accepted, {refused} refused")?;
        writeln!(f, "crashes: {between} between inputs, {outputs} before outputs left,")?;
        writeln!(f, "{snapshot} amid a snapshot, {poison} by an input that is skipped since")?;
        writeln!(f, "recoveries: {tail} from a snapshot, {begin} from the journal's begin")?;
        writeln!(f, "{snapshots} snapshots, {records} records replayed")?;
        write!(f, "{}", self.tally)
    }
}

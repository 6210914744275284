//! When a snapshot is taken, and into which area: in steps between two batches, so that frames
//! never wait for one.
//!
//! - Every [`RECORDS`] records, so that with 100,000 connections snapshot and tail may be back in
//!   100 ms, the records written while a snapshot is taken included. On a busy machine it was 118
//!   to 135 ms where each record is of another connection (`benches/journal.rs`). Fewer would be
//!   more snapshots, each of which costs a busy node time by its rows.
//! - When the writer comes to another half of the ring, into that half's area. The one before it
//!   then lies half a ring back, so half of the ring can be replayed at any moment.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant as Clock};

use stack::table::Digests;
use stack::{PortId, Switch};

use super::areas::{self, Found, Origin, RECENT, Writing};

/// Records between two snapshots.
pub const RECORDS: u64 = 40_000;
/// How long a step should take: less than a batch of frames. Shorter ones leave more records behind
/// the snapshot before this one, which is the one that counts until this one is whole.
const STEP: Duration = Duration::from_micros(50);
/// Rows of a step at first, and at least and at most.
const ROWS: (usize, usize, usize) = (32, 8, 4_096);

/// Takes snapshots of one switch.
#[derive(Debug)]
pub struct Taker {
    directory: PathBuf,
    open: Option<Writing>,
    /// Bytes of a step, kept for the next one.
    bytes: Vec<u8>,
    /// Rows of the next step.
    rows: usize,
    /// The newest snapshot's number.
    number: u64,
    /// Which of the recent areas is overwritten next.
    recent: usize,
    /// Records at the newest snapshot's begin.
    at: u64,
    /// Bytes of half a ring.
    half: u64,
    /// The half that the newest snapshot for a half is of, counted from the journal's begin.
    halves: u64,
    /// The longest step so far.
    longest: Duration,
}

/// What a step came to.
#[derive(Debug)]
pub enum Taken {
    /// More steps are needed.
    Part,
    /// The snapshot is whole: its number, and the digests of the state.
    Whole(u64, Digests),
}

impl Taker {
    /// For a journal with these snapshots, the newest of which was begun after `at` records.
    #[must_use]
    pub fn new(directory: PathBuf, half: u64, found: &[Found], at: u64) -> Self {
        let number = found.iter().map(|found| found.origin.number).max().unwrap_or(0);
        let position = |area: usize| {
            let path = areas::path(&directory, area);
            found.iter().find(|found| found.path == path).map(|found| found.origin.position)
        };
        let halves = (RECENT..areas::AREAS).filter_map(position).max().unwrap_or(0) / half;
        let recent = usize::from(position(0) > position(1));
        Self {
            directory,
            open: None,
            bytes: Vec::new(),
            rows: ROWS.0,
            number,
            recent,
            at,
            half,
            halves,
            longest: Duration::ZERO,
        }
    }

    /// Whether a snapshot is being taken.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The number of the snapshot to be begun now, if one is due.
    #[must_use]
    pub fn due(&self, position: u64, records: u64) -> Option<u64> {
        let due = records.saturating_sub(self.at) >= RECORDS || position / self.half != self.halves;
        (due && self.open.is_none()).then_some(self.number.saturating_add(1))
    }

    /// Begins the snapshot that is due. When it cannot be written the next one is tried as late as
    /// if it had been.
    ///
    /// # Errors
    /// The file system's.
    pub fn begin(
        &mut self,
        origin: Origin,
        records: u64,
        labels: &BTreeMap<PortId, String>,
        switch: &mut Switch,
    ) -> io::Result<()> {
        let half = origin.position / self.half;
        let area = if half == self.halves {
            let area = self.recent;
            self.recent = (self.recent + 1) % RECENT;
            area
        } else {
            RECENT + usize::from(!half.is_multiple_of(2))
        };
        self.halves = half;
        self.at = records;
        self.number = origin.number;
        self.bytes.clear();
        self.open = Some(Writing::begin(&areas::path(&self.directory, area), origin, labels)?);
        switch.snapshot_begin(&mut self.bytes);
        Ok(())
    }

    /// Takes a step.
    ///
    /// # Errors
    /// The file system's; the snapshot is given up.
    pub fn step(&mut self, switch: &mut Switch) -> io::Result<Taken> {
        let Some(mut writing) = self.open.take() else { return Ok(Taken::Part) };
        let begun = Clock::now();
        let whole = switch.snapshot_step(self.rows, &mut self.bytes);
        let written = writing.append(&self.bytes);
        let took = begun.elapsed();
        self.longest = self.longest.max(took);
        self.adapt(took);
        if let Err(error) = written {
            switch.snapshot_give_up();
            return Err(error);
        }
        let digests = stack::table::snapshot::digests_at_end(&self.bytes);
        self.bytes.clear();
        if !whole {
            self.open = Some(writing);
            return Ok(Taken::Part);
        }
        let digests = digests.ok_or_else(|| io::Error::other("the snapshot was given up"))?;
        let number = writing.origin().number;
        writing.finish()?;
        Ok(Taken::Whole(number, digests))
    }

    /// Rows differ in size from table to table and from one machine to the next.
    fn adapt(&mut self, took: Duration) {
        let (_, least, most) = ROWS;
        let rows = if took > STEP { self.rows / 2 } else { self.rows + self.rows / 4 };
        self.rows = rows.clamp(least, most);
    }
}

#[cfg(test)]
mod tests;

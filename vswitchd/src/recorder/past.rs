//! What the control side may ask of the journal: how far back it reaches, and a part of it.
//!
//! A [`Past`] reads the ring beside its writer and never holds it up.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use recording::Excerpt;
use stack::Instant;
use stack::journal::{Chain, Head, Kind, body, records};

use super::areas::{self, Found};
use super::map::Map;
use super::reader::{ReadError, Reader, oldest_time, reaches};

/// A journal, to be read.
#[derive(Clone, Debug)]
pub struct Past {
    map: Arc<Map>,
    directory: Arc<Path>,
}

/// The oldest moment that can be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// On CLOCK_MONOTONIC.
    pub time: Instant,
    /// Where its records begin.
    pub position: u64,
}

/// Why there is no excerpt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PastError {
    /// It lies before what can be replayed.
    #[error("the journal does not reach back that far; ask for a moment after its horizon")]
    BeyondHorizon {
        /// The oldest moment that can be replayed; `None` when none can.
        horizon: Option<Horizon>,
    },
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A state to begin from.
enum From {
    /// The journal's own begin.
    Begin(Horizon),
    /// A snapshot.
    Snapshot(Found),
}

impl From {
    fn horizon(&self) -> Horizon {
        match self {
            Self::Begin(horizon) => *horizon,
            Self::Snapshot(found) => {
                Horizon { time: found.origin.time, position: found.origin.position }
            }
        }
    }
}

impl Past {
    /// Of a mapped ring and the directory with its snapshots.
    #[must_use]
    pub fn new(map: Arc<Map>, directory: &Path) -> Self {
        Self { map, directory: directory.into() }
    }

    /// Where it lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Bytes of the ring.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.map.geometry().file_len() as u64
    }

    /// Records so far, those overwritten included.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.map.header().records.load(Ordering::Relaxed)
    }

    /// Nanoseconds from CLOCK_MONOTONIC to UTC, as recorded last.
    #[must_use]
    pub fn utc_offset(&self) -> i64 {
        let word = self.map.header().utc_offset.load(Ordering::Relaxed);
        i64::from_ne_bytes(word.to_ne_bytes())
    }

    /// Goes through the records from a position that a snapshot or [`Horizon`] names.
    #[must_use]
    pub fn reader(&self, position: u64) -> Reader {
        Reader::new(Arc::clone(&self.map), position)
    }

    /// The oldest moment that can be replayed; `None` in the short while without a snapshot.
    #[must_use]
    pub fn horizon(&self) -> Option<Horizon> {
        self.starts().last().map(From::horizon)
    }

    /// The records since a moment, or all that can be replayed, up to now: from the newest state
    /// at or before it. Reads up to the whole ring, so it belongs on a thread that may block.
    ///
    /// # Errors
    /// [`PastError::BeyondHorizon`] when the moment is older than anything that can be replayed.
    pub fn excerpt(&self, since: Option<Instant>) -> Result<Excerpt, PastError> {
        let starts = self.starts();
        let fits = |start: &&From| since.is_none_or(|since| start.horizon().time <= since);
        let newest = starts.iter().filter(fits);
        // Without a moment the oldest state is asked for, and another only if that one goes.
        let tries: Vec<&From> = match since {
            Some(_) => newest.collect(),
            None => newest.rev().collect(),
        };
        for start in tries {
            match self.from(start) {
                Ok(Some(excerpt)) => return Ok(excerpt),
                Ok(None) | Err(PastError::Read(ReadError::Overwritten(_))) => {}
                Err(error) => return Err(error),
            }
        }
        Err(PastError::BeyondHorizon { horizon: self.horizon() })
    }

    /// Every state whose records are all there, newest first.
    fn starts(&self) -> Vec<From> {
        let mut starts: Vec<From> = areas::find(&self.directory)
            .into_iter()
            .filter(|found| reaches(&self.map, found.origin.position))
            .map(From::Snapshot)
            .collect();
        if reaches(&self.map, 0)
            && let Some(time) = oldest_time(&self.map)
        {
            starts.push(From::Begin(Horizon { time, position: 0 }));
        }
        starts
    }

    /// `None` when the state went meanwhile.
    fn from(&self, start: &From) -> Result<Option<Excerpt>, PastError> {
        match start {
            From::Begin(_) => {
                let records = self.reader(0).rest()?;
                let utc_offset = first_clock(&records).unwrap_or_else(|| self.utc_offset());
                let (chain, labels) = (Chain::new(), Vec::new());
                Ok(Some(Excerpt { state: None, chain, utc_offset, labels, records }))
            }
            From::Snapshot(found) => {
                let Some(area) = found.read() else { return Ok(None) };
                let records = self.reader(area.origin.position).rest()?;
                Ok(Some(Excerpt {
                    state: Some(area.state),
                    chain: area.origin.chain,
                    utc_offset: area.origin.utc_offset,
                    labels: area.labels,
                    records,
                }))
            }
        }
    }
}

/// The offset to UTC that a journal begins with.
fn first_clock(bytes: &[u8]) -> Option<i64> {
    records(bytes).take(8).find_map(|record| {
        let head = Head::read(record).filter(|head| head.kind == Kind::Clock)?;
        Some(i64::from_le_bytes(*body(record, &head).first_chunk()?))
    })
}

#[cfg(test)]
mod tests;

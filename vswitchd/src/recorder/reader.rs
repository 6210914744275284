//! Reads a ring while it is written, or what a dead worker left.
//!
//! A segment is copied piece by piece, and the copy counts only if the segment's sequence is the
//! same afterwards: the writer takes it away before it overwrites the first byte. What a reader is
//! too slow for is said ([`Overwritten`]), never skipped over in silence.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use stack::Instant;
use stack::journal::{HEAD, Head, Kind, stride};

use super::layout::{Geometry, SEGMENT_HEAD};
use super::map::Map;

/// Goes through the records of a ring in their order.
#[derive(Debug)]
pub struct Reader {
    map: Arc<Map>,
    geometry: Geometry,
    /// Where `piece` ends.
    position: u64,
    /// Records up to `position`, those before `at` given out already.
    piece: Vec<u8>,
    at: usize,
    /// Length of the record given out last, padding included.
    last: usize,
}

/// The writer has overwritten what was to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal was overwritten before it was read: nothing before position {oldest} is left")]
pub struct Overwritten {
    /// The oldest position that is still there.
    pub oldest: u64,
}

/// Why a reader cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Too slow.
    #[error(transparent)]
    Overwritten(#[from] Overwritten),
    /// Bytes that are no record.
    #[error("the journal is damaged: there is no record at position {position}")]
    Damaged {
        /// Where.
        position: u64,
    },
}

impl Reader {
    /// Begins at a position where a record begins, such as a snapshot's or [`Reader::oldest`].
    #[must_use]
    pub fn new(map: Arc<Map>, position: u64) -> Self {
        let geometry = *map.geometry();
        Self { map, geometry, position, piece: Vec::new(), at: 0, last: 0 }
    }

    /// Behind the newest record, as of now.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.map.header().head.load(Ordering::Acquire)
    }

    /// Where the record that [`Reader::advance`] came to ends, and the next one begins.
    #[must_use]
    #[inline]
    pub fn behind(&self) -> u64 {
        self.position() + self.last as u64
    }

    /// Goes to the next record. False when there is none yet.
    ///
    /// # Errors
    /// See [`ReadError`].
    #[inline]
    pub fn advance(&mut self) -> Result<bool, ReadError> {
        self.at += self.last;
        self.last = 0;
        let Some(len) = self.ready()? else { return Ok(false) };
        self.last = stride(len);
        Ok(true)
    }

    /// The record that [`Reader::advance`] came to, with its padding.
    #[must_use]
    #[inline]
    pub fn record(&self) -> &[u8] {
        self.piece.get(self.at..self.at + self.last).unwrap_or(&[])
    }

    /// The kind of the record behind it, if there is one.
    ///
    /// # Errors
    /// See [`ReadError`].
    #[inline]
    pub fn next_kind(&self) -> Result<Option<Kind>, ReadError> {
        let behind = self.piece.get(self.at + self.last..).unwrap_or(&[]);
        match Head::read(behind) {
            Some(head) => Ok(Some(head.kind)),
            None => self.kind_ahead(),
        }
    }

    #[cold]
    fn kind_ahead(&self) -> Result<Option<Kind>, ReadError> {
        let mut ahead = Self::new(Arc::clone(&self.map), self.behind());
        ahead.ready()?;
        Ok(Head::read(&ahead.piece).map(|head| head.kind))
    }

    /// All records from here to the head, with their padding.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn rest(&mut self) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        while self.advance()? {
            bytes.extend_from_slice(self.record());
        }
        Ok(bytes)
    }

    /// Where the record begins that [`Reader::advance`] came to.
    #[must_use]
    #[inline]
    pub fn position(&self) -> u64 {
        self.position - (self.piece.len() - self.at) as u64
    }

    /// Length of the record at `at`, read on if need be.
    fn ready(&mut self) -> Result<Option<usize>, ReadError> {
        loop {
            let rest = self.piece.get(self.at..).unwrap_or(&[]);
            match rest.first_chunk::<4>() {
                Some([0, 0, 0, 0]) => {
                    // The rest of this segment is empty.
                    let next = self.geometry.number(self.position()) + 1;
                    self.go_to(self.geometry.begin(next));
                }
                Some(_) => {
                    let whole = Head::read(rest).filter(|head| stride(head.len) <= rest.len());
                    let damaged = ReadError::Damaged { position: self.position() };
                    return Ok(Some(whole.ok_or(damaged)?.len));
                }
                None => {
                    if !self.read_on()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn go_to(&mut self, position: u64) {
        self.position = position;
        self.piece.clear();
        self.at = 0;
    }

    /// Copies what there is of the segment that `position` lies in. False when there is nothing.
    fn read_on(&mut self) -> Result<bool, ReadError> {
        let head = self.head();
        let number = self.geometry.number(self.position);
        let from = self.geometry.offset(self.position).max(SEGMENT_HEAD);
        let begin = self.geometry.begin(number);
        self.go_to(begin + from as u64);
        if self.position >= head {
            return Ok(false);
        }
        let end = usize::try_from(head - begin).unwrap_or(usize::MAX).min(self.geometry.segment);
        let end = end.min(from.saturating_add(PIECE));
        let place = self.geometry.place(number);
        self.map.copy(place, from, end, &mut self.piece);
        fence(Ordering::Acquire);
        let sequence = self.map.head(place).map_or(0, |head| head.sequence.load(Ordering::Relaxed));
        if sequence != number + 1 {
            self.piece.clear();
            return Err(Overwritten { oldest: self.oldest() }.into());
        }
        self.keep_whole_records();
        self.position += self.piece.len() as u64;
        Ok(!self.piece.is_empty())
    }

    /// A piece may end amid a record: the next one begins there.
    fn keep_whole_records(&mut self) {
        if self.piece.len() < PIECE {
            return;
        }
        let mut end = 0;
        while let Some(rest) = self.piece.get(end..).filter(|rest| rest.len() >= HEAD) {
            match Head::read(rest) {
                Some(head) if stride(head.len) <= rest.len() => end += stride(head.len),
                Some(_) => break,
                // The end of the segment's records, or damage: both are seen when it is their turn.
                None => return,
            }
        }
        self.piece.truncate(end);
    }

    /// The oldest position that is still there.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        oldest(&self.map)
    }
}

/// The oldest position of a ring that is still there; its head when it is empty.
#[must_use]
pub fn oldest(map: &Map) -> u64 {
    let geometry = map.geometry();
    let head = map.header().head.load(Ordering::Acquire);
    let newest = geometry.number(head.saturating_sub(1));
    let first = newest.saturating_sub(geometry.segments.saturating_sub(1) as u64);
    let there = |number: &u64| sequence(map, *number) == number + 1;
    let oldest = (first..=newest).find(there);
    oldest.map_or(head, |number| geometry.begin(number))
}

fn sequence(map: &Map, number: u64) -> u64 {
    let head = map.head(map.geometry().place(number));
    head.map_or(0, |head| head.sequence.load(Ordering::Acquire))
}

/// Whether what lies between a position and the head is all there.
#[must_use]
pub fn reaches(map: &Map, position: u64) -> bool {
    let head = map.header().head.load(Ordering::Acquire);
    position == head
        || (position < head && {
            let geometry = map.geometry();
            // A position at a segment's very end belongs to the next one as well.
            let number = geometry.number(position);
            sequence(map, number) == number + 1
        })
}

/// The time of the first record of the oldest segment.
#[must_use]
pub fn oldest_time(map: &Map) -> Option<Instant> {
    let number = map.geometry().number(oldest(map));
    let head = map.head(map.geometry().place(number))?;
    let time = Instant(head.time.load(Ordering::Acquire));
    (sequence(map, number) == number + 1).then_some(time)
}

/// Bytes copied at once: small beside a segment, so that little is torn, and it stays in the cache.
/// The largest record fits.
const PIECE: usize = 128 << 10;

#[cfg(test)]
mod tests;

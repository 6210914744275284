//! The journal's writer: a place for records in a mapped ring.
//!
//! A record costs no allocation and no system call. It is published by a release store of `head`
//! once it is whole, so whoever reads up to `head`, now or after a crash, never meets half of one.
//! Beside `head` stands the chain behind the newest record: recovery must come to the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use stack::Instant;
use stack::journal::{Chain, Place, stride};

use super::layout::{Geometry, SEGMENT_HEAD};
use super::map::{Bodies, Map};

/// Writes a ring. There is one a file.
#[derive(Debug)]
pub struct Ring {
    bodies: Bodies,
    geometry: Geometry,
    /// Where the next record goes.
    position: u64,
    /// How far into it the next record goes; its size when there is no segment yet.
    offset: usize,
    /// Records so far.
    records: u64,
    /// Whether the newest record's chain stands in the second slot.
    odd: bool,
    /// Walks so far, for the heads of segments.
    walks: u64,
}

impl Ring {
    /// Goes on behind the newest record; `None` when another writes this map.
    #[must_use]
    pub fn new(map: &Arc<Map>) -> Option<Self> {
        let mut bodies = map.bodies()?;
        let geometry = *map.geometry();
        let header = map.header();
        let position = header.head.load(Ordering::Acquire);
        let records = header.records.load(Ordering::Relaxed);
        let offset = match geometry.offset(position) {
            0 => geometry.segment,
            within => within,
        };
        if !bodies.turn_to(geometry.place(geometry.number(position))) {
            return None;
        }
        let [even, _] = &header.slots;
        let odd = even.position.load(Ordering::Acquire) != position;
        Some(Self { bodies, geometry, position, offset, records, odd, walks: 0 })
    }

    /// Where the next record goes.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Records written, those of earlier workers included.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Tells it how many walks there were, for the next segment's head.
    pub fn set_walks(&mut self, walks: u64) {
        self.walks = walks;
    }

    /// Tells readers the offset to UTC.
    pub fn set_utc_offset(&self, offset: i64) {
        let word = &self.bodies.map().header().utc_offset;
        word.store(u64::from_ne_bytes(offset.to_ne_bytes()), Ordering::Relaxed);
    }

    /// Leaves the rest of the segment empty and begins the next one.
    #[cold]
    fn turn(&mut self, now: Instant, before: &Chain) {
        if let Some(end) = self.bodies.rest(self.offset).first_chunk_mut::<8>() {
            *end = [0; 8];
        }
        let number = self.position.div_ceil(self.geometry.segment as u64);
        let place = self.geometry.place(number);
        if !self.bodies.turn_to(place) {
            return;
        }
        self.offset = SEGMENT_HEAD;
        self.position = self.geometry.begin(number) + SEGMENT_HEAD as u64;
        let Some(head) = self.bodies.map().head(place) else { return };
        // From here on a copy of what was in the segment is torn, and its reader sees that: who
        // read any byte written below reads this zero as well.
        head.sequence.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        let set = |word: &AtomicU64, value| word.store(value, Ordering::Relaxed);
        set(&head.time, now.0);
        set(&head.inputs, before.inputs());
        set(&head.outcomes, before.outcomes());
        set(&head.walks, self.walks);
        set(&head.first, self.position);
        head.sequence.store(number + 1, Ordering::Release);
    }
}

impl Place for Ring {
    #[inline]
    fn room(&mut self, len: usize, now: Instant, before: &Chain) -> &mut [u8] {
        if self.offset + stride(len) > self.geometry.segment {
            self.turn(now, before);
        }
        self.bodies.rest(self.offset)
    }

    #[inline]
    fn publish(&mut self, len: usize, after: &Chain) {
        let stride = stride(len);
        self.position += stride as u64;
        self.offset += stride;
        // Only counted: a damaged count must not end the worker.
        self.records = self.records.wrapping_add(1);
        self.odd = !self.odd;
        let header = self.bodies.map().header();
        let [even, odd] = &header.slots;
        let slot = if self.odd { odd } else { even };
        // A worker that dies between two of these leaves the other slot, whose position is `head`.
        slot.position.store(0, Ordering::Relaxed);
        slot.inputs.store(after.inputs(), Ordering::Release);
        slot.position.store(self.position, Ordering::Release);
        header.records.store(self.records, Ordering::Relaxed);
        header.head.store(self.position, Ordering::Release);
        // Those up to here were asked for with the records before.
        let to = self.offset + AHEAD;
        self.bodies.will_write(to - stride, to);
    }

    #[inline]
    fn carried_out(&mut self, after: &Chain) {
        let header = self.bodies.map().header();
        let [even, odd] = &header.slots;
        let slot = if self.odd { odd } else { even };
        slot.outcomes.store(after.outcomes(), Ordering::Relaxed);
        header.done.store(self.position, Ordering::Release);
    }
}

/// How far ahead of the writer cache lines are asked for: a memory's latency, at full speed.
const AHEAD: usize = 1_024;

#[cfg(test)]
mod tests;

//! Datagrams begin, go on and end here.

use alloc::vec::Vec;

use super::super::Tables;
use super::super::sweep::Sweep;
use super::{Datagram, DatagramKey, Datagrams, End, Fate, Fragmented, Held, Loose, What, counted};
use crate::drop::DropReason;
use crate::input::Frame;
use crate::table::Effect;
use crate::time::Instant;

impl Datagrams {
    /// Does what a walk made of a datagram.
    pub(in crate::table) fn commit(&mut self, fragment: &Fragmented, deadline: Instant) {
        if let Some((slot, reason)) = fragment.instead_of {
            self.end(slot, End::Drop(reason));
        }
        let known = self.index.get(&fragment.key).copied();
        let Some(slot) = known.or_else(|| self.begin(fragment, deadline)) else {
            debug_assert!(false, "the walk has looked for room");
            return;
        };
        let Some(row) = self.rows.change(slot as usize) else { return };
        match fragment.what {
            What::First(passage) => {
                if row.first_len != 0 {
                    *row = Datagram::new(row.key, deadline);
                }
                row.first_len = fragment.part.len;
                row.spans.add(&fragment.part);
                row.fate = passage.map_or(Fate::Refused, Fate::Passed);
                let end = match passage {
                    Some(passage) => End::Walk(passage),
                    None => End::Drop(DropReason::FragmentRefused),
                };
                self.release(slot, end);
            }
            What::Later | What::Held => row.spans.add(&fragment.part),
            What::Overlaps => {
                row.fate = Fate::Overlapping;
                self.release(slot, End::Drop(DropReason::FragmentOverlap));
            }
        }
        self.forget_whole(slot);
    }

    /// Keeps a fragment of a datagram that is there.
    fn hold(&mut self, key: &DatagramKey, frame: &Frame) {
        let slot = self.index.get(key).copied();
        let Some(row) = slot.and_then(|slot| self.rows.change(slot as usize)) else { return };
        row.held.push(Held::of(frame));
        let bytes = counted(frame.len());
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        self.count(key.port, |share| share.held_bytes = share.held_bytes.saturating_add(bytes));
    }

    fn begin(&mut self, fragment: &Fragmented, deadline: Instant) -> Option<u32> {
        let key = fragment.key;
        let slot = self.rows.insert(Datagram::new(key, deadline))?;
        self.index(slot, &key, 0);
        u32::try_from(slot).ok()
    }

    /// Takes a datagram out; what was held of it has that end.
    pub(in crate::table) fn end(&mut self, slot: u32, end: End) {
        self.release(slot, end);
        let Some(row) = self.rows.remove(slot as usize) else { return };
        self.index.remove(&row.key);
        self.count(row.key.port, |share| share.datagrams = share.datagrams.saturating_sub(1));
    }

    /// Lets go of what is held of a datagram.
    fn release(&mut self, slot: u32, end: End) {
        let is_held = self.rows.get(slot as usize).is_some_and(|row| !row.held.is_empty());
        let row = if is_held { self.rows.change(slot as usize) } else { None };
        let Some(row) = row else { return };
        let (port, held) = (row.key.port, core::mem::take(&mut row.held));
        for fragment in held {
            let bytes = counted(fragment.bytes.len());
            self.held_bytes = self.held_bytes.saturating_sub(bytes);
            self.count(port, |share| share.held_bytes = share.held_bytes.saturating_sub(bytes));
            self.loose.push(Loose { ingress: port, end, held: fragment });
        }
    }

    /// Nothing more comes of a datagram that has come whole. One whose parts overlap is remembered:
    /// what was in its gaps may still come.
    fn forget_whole(&mut self, slot: u32) {
        let row = self.rows.get(slot as usize);
        if row.is_some_and(|row| row.spans.is_whole() && row.fate != Fate::Overlapping) {
            self.end(slot, End::Drop(DropReason::Bug));
        }
    }

    /// Changes what is held in place, its length apart.
    fn blank(&mut self, blank: &mut dyn FnMut(&mut [u8])) {
        for slot in 0..self.rows.slots() {
            if self.rows.get(slot).is_none_or(|row| row.held.is_empty()) {
                continue;
            }
            let held = self.rows.change(slot).map_or(&mut [][..], |row| &mut row.held);
            held.iter_mut().for_each(|held| blank(&mut held.bytes));
        }
    }

    /// Those past their deadline among `slots` slots from `from` on.
    fn expired(&self, from: usize, slots: usize, now: Instant) -> Vec<u32> {
        let places = from..from.saturating_add(slots).min(self.rows.slots());
        let over = |place: &usize| self.rows.get(*place).is_some_and(|row| row.deadline <= now);
        places.filter(over).filter_map(|place| u32::try_from(place).ok()).collect()
    }
}

impl Tables {
    /// Does what a walk made of a datagram; when the table was empty, its sweep begins.
    pub(in crate::table) fn commit_fragment(&mut self, fragment: &Fragmented) {
        if self.datagrams.is_empty() {
            self.datagrams.sweep = Sweep::beginning(self.now);
        }
        self.datagrams.commit(fragment, self.now + self.limits.fragment_timeout);
    }

    /// Goes on with a datagram of another build. False where there is no room.
    pub(in crate::table) fn take_datagram(&mut self, datagram: Datagram) -> bool {
        if self.datagrams.is_empty() {
            self.datagrams.sweep = Sweep::beginning(self.now);
        }
        self.datagrams.take(datagram, &self.limits)
    }

    /// The part of a commit that needs the frame: it is kept, and counted as held by who counts it.
    pub(crate) fn hold(&mut self, effects: &[Effect], frame: &Frame) {
        for effect in effects {
            if let Effect::Fragment(Fragmented { key, what: What::Held, .. }) = effect {
                self.datagrams.hold(key, frame);
            }
        }
    }

    /// See [`crate::Switch::blank_held`].
    pub(crate) fn blank_held(&mut self, blank: &mut dyn FnMut(&mut [u8])) {
        self.datagrams.blank(blank);
    }

    /// The fragments that are held no more, in the order in which they came.
    #[must_use]
    pub fn take_loose(&mut self) -> Vec<Loose> {
        core::mem::take(&mut self.datagrams.loose)
    }

    /// Takes out the datagrams of the next slots that are past their deadline, if it is time.
    pub(in crate::table) fn sweep_datagrams(&mut self) {
        let datagrams = &mut self.datagrams;
        if datagrams.is_empty() || !datagrams.sweep.is_due(self.now) {
            return;
        }
        let (from, slots) = datagrams.sweep.step(datagrams.rows.slots(), self.now);
        for slot in datagrams.expired(from, slots, self.now) {
            datagrams.end(slot, End::Drop(DropReason::FragmentTimeout));
        }
    }
}

//! Rows by slot, the lowest free one taken first, and shown to a snapshot while they change.
//!
//! A snapshot shows the rows as they were when it began, a few at a time, and frames go on between.
//! A row that is about to change before its turn is put aside first ([`Slab::change`]), which costs
//! one copy, once. That is why there is no other way to a row's `&mut`.

use alloc::vec::Vec;

use super::free::Free;
use crate::words::Words;

/// Rows of one table.
#[derive(Clone, Debug)]
pub struct Slab<T> {
    rows: Vec<Option<T>>,
    rows_max: usize,
    len: usize,
    free: Free,
    open: Option<Open>,
    /// The memory of a snapshot, kept for the next one.
    kept: Open,
}

/// How far a snapshot has come.
#[derive(Clone, Debug, Default)]
struct Open {
    /// The slot whose turn is next; those before were shown.
    next: usize,
    /// Slots there were when it began.
    end: usize,
    /// One bit a slot: put aside before its turn.
    aside: Vec<u64>,
    /// Rows put aside since the last step: slot, count of words, words.
    early: Vec<u64>,
}

impl Open {
    /// Whether the slot's turn is still to come.
    fn waits(&self, slot: usize) -> bool {
        if slot < self.next || slot >= self.end {
            return false;
        }
        let bits = self.aside.get(slot / 64).copied().unwrap_or(u64::MAX);
        bits & (1 << (slot % 64)) == 0
    }

    /// Puts a row aside, or notes that there was none.
    fn put_aside<T: Words>(&mut self, slot: usize, row: Option<&T>) {
        if let Some(bits) = self.aside.get_mut(slot / 64) {
            *bits |= 1 << (slot % 64);
        }
        if let Some(row) = row {
            put_row(&mut self.early, slot, row);
        }
    }
}

fn put_row<T: Words>(out: &mut Vec<u64>, slot: usize, row: &T) {
    slot.put(out);
    let at = out.len();
    out.push(0);
    row.put(out);
    let count = out.len() - at - 1;
    if let Some(place) = out.get_mut(at) {
        *place = count as u64;
    }
}

impl<T: Words> Slab<T> {
    /// An empty table of at most `rows_max` rows.
    #[must_use]
    pub fn new(rows_max: usize) -> Self {
        Self {
            rows: Vec::with_capacity(rows_max),
            rows_max,
            len: 0,
            free: Free::new(rows_max),
            open: None,
            kept: Open::default(),
        }
    }

    /// The row of a slot.
    #[must_use]
    #[inline]
    pub fn get(&self, slot: usize) -> Option<&T> {
        self.rows.get(slot)?.as_ref()
    }

    /// The row of a slot, to be changed.
    #[inline]
    pub fn change(&mut self, slot: usize) -> Option<&mut T> {
        if self.open.is_some() {
            self.touch(slot);
        }
        self.rows.get_mut(slot)?.as_mut()
    }

    /// Puts a row into the lowest free slot; `None` when the table is full.
    pub fn insert(&mut self, row: T) -> Option<usize> {
        let slot = self.free.lowest()?;
        self.touch(slot);
        self.place(slot, row);
        Some(slot)
    }

    /// Takes a row out.
    pub fn remove(&mut self, slot: usize) -> Option<T> {
        self.touch(slot);
        let row = self.rows.get_mut(slot)?.take()?;
        self.len -= 1;
        self.free.give(slot);
        Some(row)
    }

    /// Puts a restored row where it was. False when the slot is taken or beyond the table.
    pub fn restore(&mut self, slot: usize, row: T) -> bool {
        if slot >= self.rows_max || self.get(slot).is_some() {
            return false;
        }
        while self.rows.len() < slot {
            self.rows.push(None);
        }
        self.touch(slot);
        self.place(slot, row);
        true
    }

    /// Says that so many slots are in use or were, before rows are restored. False when there
    /// cannot be so many.
    pub fn widen(&mut self, slots: usize) -> bool {
        let fits = slots <= self.rows_max;
        while fits && self.rows.len() < slots {
            self.rows.push(None);
        }
        fits
    }

    /// All rows in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> + '_ {
        let rows = self.rows.iter().enumerate();
        rows.filter_map(|(slot, row)| Some((slot, row.as_ref()?)))
    }

    /// Slots that are in use or were.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.rows.len()
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no row has room any more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len >= self.rows_max
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Begins a snapshot of the rows as they are now. One that was open is given up.
    pub fn begin(&mut self) {
        let end = self.rows.len();
        let mut open = self.open.take().unwrap_or_else(|| core::mem::take(&mut self.kept));
        open.next = 0;
        open.end = end;
        open.early.clear();
        open.aside.clear();
        open.aside.resize(end.div_ceil(64), 0);
        self.open = Some(open);
    }

    /// Shows what was put aside, then up to `slots` further slots. True when all was shown.
    pub fn step(&mut self, slots: usize, show: &mut impl FnMut(usize, &[u64])) -> bool {
        let Some(mut open) = self.open.take() else { return true };
        show_rows(&open.early, show);
        open.early.clear();
        let end = open.next.saturating_add(slots).min(open.end);
        for slot in open.next..end {
            if let Some(row) = self.get(slot).filter(|_| open.waits(slot)) {
                put_row(&mut open.early, slot, row);
                show_rows(&open.early, show);
                open.early.clear();
            }
        }
        open.next = end;
        let done = end >= open.end;
        if done {
            self.kept = open;
        } else {
            self.open = Some(open);
        }
        done
    }

    /// Gives an open snapshot up.
    pub(super) fn give_up(&mut self) {
        if let Some(open) = self.open.take() {
            self.kept = open;
        }
    }

    fn place(&mut self, slot: usize, row: T) {
        match self.rows.get_mut(slot) {
            Some(place) => *place = Some(row),
            None => self.rows.push(Some(row)),
        }
        self.len += 1;
        self.free.take(slot);
    }

    /// The slot is about to change: what an open snapshot has not shown yet is put aside.
    fn touch(&mut self, slot: usize) {
        if let Some(open) = &mut self.open
            && open.waits(slot)
        {
            open.put_aside(slot, self.rows.get(slot).and_then(Option::as_ref));
        }
    }
}

fn show_rows(mut words: &[u64], show: &mut impl FnMut(usize, &[u64])) {
    while let [slot, count, rest @ ..] = words {
        let (Ok(slot), Ok(count)) = (usize::try_from(*slot), usize::try_from(*count)) else {
            return;
        };
        let Some((row, after)) = rest.split_at_checked(count) else { return };
        show(slot, row);
        words = after;
    }
}

#[cfg(test)]
mod tests;

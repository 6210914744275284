//! Snapshots: all rows as bytes, piece by piece while frames go on, and the tables made of them.
//!
//! The small tables are shown when a snapshot begins, the others in steps. A row about to change
//! before its turn is put aside by its [`Slab`]; before the routes are replaced, what is left of
//! them is shown at once. So a snapshot holds the state of its begin, and so does the
//! digest at its end.
//!
//! All is words, little-endian. First [`MAGIC`] and [`VERSION`]; then rows: three words of head
//! (table, count of words, slot) and the row's words. The last row is no table's ([`END`]): it
//! holds the digest of each table and how many rows there were.

use alloc::vec::Vec;
use core::fmt;

use super::fib::Fib;
use super::fragment::Datagram;
use super::rows::{Digests, Table};
use super::service::{Affinity, Service};
use super::slab::Slab;
use super::{Port, Tables};
use crate::config::{Limits, NodeConfig, Route, Seeds};
use crate::counters::PortCounters;
use crate::time::Instant;
use crate::words::{self, Take, Words};

/// In place of a table: the last row of a snapshot.
const END: u16 = u16::MAX;

/// Version of snapshots; another one is not read.
const VERSION: u64 = 5;

/// First word of a snapshot: "hopstate".
const MAGIC: u64 = u64::from_le_bytes(*b"hopstate");

/// How far an open snapshot has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    /// Over the rows shown.
    digests: Digests,
    rows: u64,
    /// The route whose turn is next.
    route: usize,
    /// Rows shown between two steps, as bytes.
    pending: Vec<u8>,
}

impl Open {
    fn show(&mut self, table: Table, slot: usize, words: &[u64], out: &mut Vec<u8>) {
        self.digests.row(table, slot, words);
        self.rows += 1;
        put_row(out, table.number(), slot, words);
    }
}

/// Shows the next rows of a table. True when all were.
fn show_rows<T: Words>(
    open: &mut Open,
    table: Table,
    rows: &mut Slab<T>,
    slots: usize,
    out: &mut Vec<u8>,
) -> bool {
    rows.step(slots, &mut |slot, words| open.show(table, slot, words, out))
}

fn put_row(out: &mut Vec<u8>, table: u16, slot: usize, words: &[u64]) {
    let head = [u64::from(table), words.len() as u64, slot as u64];
    let at = out.len();
    out.resize(at + size_of_val(&head) + size_of_val(words), 0);
    let places = out.get_mut(at..).map_or(&mut [][..], |row| row.as_chunks_mut::<8>().0);
    for (place, word) in places.iter_mut().zip(head.iter().chain(words)) {
        *place = word.to_le_bytes();
    }
}

/// The words of the last row.
fn end(digests: &Digests, rows: u64) -> Vec<u64> {
    digests.words().chain([rows]).collect()
}

/// The digests of the state, from the last bytes of a whole snapshot.
#[must_use]
pub fn digests_at_end(bytes: &[u8]) -> Option<Digests> {
    let (rest, _rows) = bytes.split_last_chunk::<8>()?;
    let (_, words) = rest.split_last_chunk::<{ 8 * Digests::WORDS }>()?;
    let words: Vec<u64> =
        words.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    Digests::of_words(&words)
}

impl Tables {
    /// Begins a snapshot of the state as it is now and appends its first rows. One that was open is
    /// given up.
    pub fn snapshot_begin(&mut self, out: &mut Vec<u8>) {
        [MAGIC, VERSION].iter().for_each(|word| out.extend(word.to_le_bytes()));
        let mut open = Open::default();
        let mut words = Vec::new();
        for table in Table::ALL {
            match table {
                Table::Limits | Table::State | Table::Node | Table::Gone => {
                    words.clear();
                    if self.row(*table, 0, &mut words) {
                        open.show(*table, 0, &words, out);
                    }
                }
                // In steps, see `snapshot_step`.
                Table::Route => {}
                Table::Port => self.ports.rows().begin(),
                Table::Service => self.services.rows_mut().begin(),
                Table::Affinity => self.services.clients_mut().rows_mut().begin(),
                Table::Connection4 => self.connections.v4.rows.begin(),
                Table::Connection6 => self.connections.v6.rows.begin(),
                Table::Datagram => self.datagrams.rows_mut().begin(),
            }
        }
        self.open = Some(open);
    }

    /// Appends up to `slots` further rows of each table. True when the snapshot is whole, or when
    /// none was open.
    pub fn snapshot_step(&mut self, slots: usize, out: &mut Vec<u8>) -> bool {
        let Some(mut open) = self.open.take() else { return true };
        out.append(&mut open.pending);
        let mut done = true;
        for table in Table::ALL {
            done &= match table {
                // Shown at the begin.
                Table::Limits | Table::State | Table::Node | Table::Gone => true,
                Table::Route => {
                    self.show_routes(&mut open, slots, out);
                    open.route >= self.fib.routes().len()
                }
                Table::Port => show_rows(&mut open, *table, self.ports.rows(), slots, out),
                Table::Service => {
                    show_rows(&mut open, *table, self.services.rows_mut(), slots, out)
                }
                Table::Affinity => {
                    show_rows(&mut open, *table, self.services.clients_mut().rows_mut(), slots, out)
                }
                Table::Connection4 => {
                    show_rows(&mut open, *table, &mut self.connections.v4.rows, slots, out)
                }
                Table::Connection6 => {
                    show_rows(&mut open, *table, &mut self.connections.v6.rows, slots, out)
                }
                Table::Datagram => {
                    show_rows(&mut open, *table, self.datagrams.rows_mut(), slots, out)
                }
            };
        }
        if done {
            put_row(out, END, 0, &end(&open.digests, open.rows));
        } else {
            self.open = Some(open);
        }
        done
    }

    /// Gives an open snapshot up.
    pub fn snapshot_give_up(&mut self) {
        self.open = None;
        for table in Table::ALL {
            match table {
                Table::Limits | Table::State | Table::Node | Table::Gone | Table::Route => {}
                Table::Port => self.ports.rows().give_up(),
                Table::Service => self.services.rows_mut().give_up(),
                Table::Affinity => self.services.clients_mut().rows_mut().give_up(),
                Table::Connection4 => self.connections.v4.rows.give_up(),
                Table::Connection6 => self.connections.v6.rows.give_up(),
                Table::Datagram => self.datagrams.rows_mut().give_up(),
            }
        }
    }

    /// Whether a snapshot is open.
    #[must_use]
    pub fn snapshot_is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The routes are about to be replaced: what an open snapshot has not shown is shown now.
    pub(super) fn finish_routes(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        let mut pending = core::mem::take(&mut open.pending);
        self.show_routes(&mut open, usize::MAX, &mut pending);
        open.pending = pending;
        // The new routes are not of this snapshot.
        open.route = usize::MAX;
        self.open = Some(open);
    }

    fn show_routes(&self, open: &mut Open, slots: usize, out: &mut Vec<u8>) {
        let mut words = Vec::new();
        for _ in 0..slots {
            words.clear();
            if !self.row(Table::Route, open.route, &mut words) {
                return;
            }
            open.show(Table::Route, open.route, &words, out);
            open.route += 1;
        }
    }

    /// The tables that a snapshot is of. `table_seed` lays them out; it need not be the one they
    /// had.
    ///
    /// # Errors
    /// When the bytes are no whole snapshot.
    pub fn restore(bytes: &[u8], table_seed: u64) -> Result<Self, RestoreError> {
        let mut rows = Rows { bytes, words: Vec::new() };
        if rows.word()? != MAGIC {
            return Err(RestoreError::Begin);
        }
        let version = rows.word()?;
        if version != VERSION {
            return Err(RestoreError::Version { theirs: version, ours: VERSION });
        }
        let limits = match rows.next()? {
            Row::Of(Table::Limits, 0) => whole::<Limits>(Table::Limits, 0, &rows.words)?,
            Row::Of(..) | Row::End => return Err(RestoreError::Begin),
        };
        if !limits.is_possible() {
            return Err(RestoreError::Limits);
        }
        let mut tables = Self::new(limits, Seeds { table: table_seed, choice: 0 });
        let mut routes = Vec::new();
        let mut digests = Digests::default();
        digests.row(Table::Limits, 0, &rows.words);
        let (mut count, mut back) = (1_u64, Vec::new());
        loop {
            match rows.next()? {
                Row::Of(table, slot) => {
                    tables.restore_row(table, slot, &rows.words, &mut routes)?;
                    digests.row(table, slot, &rows.words);
                    count += 1;
                    back.clear();
                    let mut is_same = || tables.row(table, slot, &mut back) && back == rows.words;
                    if table.is_large() && !is_same() {
                        return Err(RestoreError::Digest);
                    }
                }
                Row::End if rows.words == end(&digests, count) && rows.bytes.is_empty() => break,
                Row::End => return Err(RestoreError::Digest),
            }
        }
        routes.sort_by_key(|(slot, _): &(usize, Route)| *slot);
        tables.fib = Fib::build(routes.into_iter().map(|(_, route)| route).collect());
        tables.index();
        tables.count_departed();
        // The rows say what they say; this is what they came to. Those of large tables were read
        // back one by one, for another hash of each takes longer.
        let came_to = tables.digests_of(|table| !table.is_large());
        let same = came_to == digests.only(|table| !table.is_large());
        debug_assert!(!same || tables.digests() == digests, "a row came to another");
        if same { Ok(tables) } else { Err(RestoreError::Digest) }
    }

    fn restore_row(
        &mut self,
        table: Table,
        slot: usize,
        words: &[u64],
        routes: &mut Vec<(usize, Route)>,
    ) -> Result<(), RestoreError> {
        let wrong = RestoreError::Row { table: table.name(), slot };
        match table {
            Table::Limits => return Err(wrong),
            Table::State => {
                let mut take = Take::new(words);
                self.restore_state(&mut take).filter(|()| take.is_done()).ok_or(wrong)?;
            }
            Table::Node => self.node = whole::<NodeConfig>(table, slot, words)?,
            Table::Gone => self.gone = whole::<PortCounters>(table, slot, words)?,
            Table::Port => {
                let port = whole::<Port>(table, slot, words)?;
                if !self.ports.restore(slot, port) {
                    return Err(wrong);
                }
            }
            Table::Connection4 => {
                let row = whole(table, slot, words)?;
                if !self.connections.v4.restore(slot, row) {
                    return Err(wrong);
                }
            }
            Table::Connection6 => {
                let row = whole(table, slot, words)?;
                if !self.connections.v6.restore(slot, row) {
                    return Err(wrong);
                }
            }
            Table::Datagram => {
                let datagram = whole::<Datagram>(table, slot, words)?;
                if !self.datagrams.restore(slot, datagram, &self.limits) {
                    return Err(wrong);
                }
            }
            Table::Service => {
                let service = whole::<Service>(table, slot, words)?;
                if !self.services.restore(slot, service) {
                    return Err(wrong);
                }
            }
            Table::Affinity => {
                let affinity = whole::<Affinity>(table, slot, words)?;
                if !self.services.clients_mut().restore(slot, affinity) {
                    return Err(wrong);
                }
            }
            Table::Route => {
                if routes.len() >= self.limits.routes_max {
                    return Err(wrong);
                }
                routes.push((slot, whole::<Route>(table, slot, words)?));
            }
        }
        Ok(())
    }

    fn restore_state(&mut self, take: &mut Take<'_>) -> Option<()> {
        self.now = Instant::take(take)?;
        self.sweep = Words::take(take)?;
        self.datagrams.sweep = Words::take(take)?;
        self.walks = u64::take(take)?;
        self.epoch = u64::take(take)?;
        self.complete = bool::take(take)?;
        self.seeds.choice = u64::take(take)?;
        let fits = self.connections.v4.rows.widen(usize::take(take)?)
            && self.connections.v6.rows.widen(usize::take(take)?)
            && self.datagrams.rows_mut().widen(usize::take(take)?);
        if !fits {
            return None;
        }
        self.services.lay_out(self.seeds.choice, self.now);
        Some(())
    }
}

fn whole<T: Words>(table: Table, slot: usize, words: &[u64]) -> Result<T, RestoreError> {
    words::whole(words).ok_or_else(|| RestoreError::Row { table: table.name(), slot })
}

/// A row that was read; its words are beside it.
enum Row {
    Of(Table, usize),
    End,
}

struct Rows<'a> {
    bytes: &'a [u8],
    words: Vec<u64>,
}

impl Rows<'_> {
    fn next(&mut self) -> Result<Row, RestoreError> {
        let (table, count, slot) = (self.word()?, self.word()?, self.word()?);
        // A count that lies does not allocate.
        let len = usize::try_from(count).ok().and_then(|count| count.checked_mul(8));
        let row = len.and_then(|len| self.bytes.split_at_checked(len));
        let (row, rest) = row.ok_or(RestoreError::Cut)?;
        self.bytes = rest;
        self.words.clear();
        self.words.extend(row.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)));
        let slot = usize::try_from(slot).unwrap_or(usize::MAX);
        if table == u64::from(END) && slot == 0 {
            return Ok(Row::End);
        }
        let known = u16::try_from(table).ok().and_then(Table::by_number);
        Ok(Row::Of(known.ok_or(RestoreError::Table(table))?, slot))
    }

    fn word(&mut self) -> Result<u64, RestoreError> {
        let (word, rest) = self.bytes.split_first_chunk::<8>().ok_or(RestoreError::Cut)?;
        self.bytes = rest;
        Ok(u64::from_le_bytes(*word))
    }
}

/// Why bytes are no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// They end before the snapshot does.
    Cut,
    /// They do not begin as a snapshot does.
    Begin,
    /// Another version wrote them.
    Version {
        /// Theirs.
        theirs: u64,
        /// This build's.
        ours: u64,
    },
    /// The limits are beyond any switch of this version.
    Limits,
    /// A table of that number is not known to this version.
    Table(u64),
    /// A row cannot be.
    Row {
        /// The table.
        table: &'static str,
        /// The slot.
        slot: usize,
    },
    /// The rows are not the state that the snapshot says it is of.
    Digest,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("the snapshot is cut"),
            Self::Begin => f.write_str("this is no snapshot"),
            Self::Version { theirs, ours } => {
                write!(f, "the snapshot is of version {theirs}, this program reads {ours}")
            }
            Self::Limits => f.write_str("the snapshot asks for more than any switch holds"),
            Self::Table(number) => {
                write!(f, "the snapshot has a table {number} that this version does not know")
            }
            Self::Row { table, slot } => {
                write!(f, "row {slot} of the snapshot's table {table} cannot be")
            }
            Self::Digest => f.write_str("the snapshot is damaged: its digest is another"),
        }
    }
}

impl core::error::Error for RestoreError {}

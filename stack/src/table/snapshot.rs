//! Snapshots: all rows as bytes, piece by piece while frames go on, and the tables made of them.
//!
//! The small tables are shown when a snapshot begins, routes and ports in steps. A port about to
//! change before its turn is put aside by its [`Slab`]; before the routes are replaced, what is
//! left of them is shown at once. So a snapshot holds the state of its begin, and so does the
//! digest at its end.
//!
//! A row is a word of head (table, count of words, slot) and its words, little-endian. The last row
//! is no table's ([`END`]): it holds the digest of the state and how many rows there were.
//!
//! [`Slab`]: super::slab::Slab

use alloc::vec::Vec;
use core::fmt;

use super::fib::Fib;
use super::rows::{Table, row_hash};
use super::{Port, Tables};
use crate::config::{Limits, NodeConfig, Route, Seeds};
use crate::counters::PortCounters;
use crate::time::Instant;
use crate::words::{self, Take, Words};

/// In place of a table: the last row of a snapshot.
const END: u16 = u16::MAX;

/// What a snapshot may ask to be allocated at most; no switch of ours has more.
const LIMITS_MAX: Limits = Limits {
    ports_max: 65_536,
    addresses_max: 1_024,
    allowed_max: 1_024,
    routes_max: 1 << 20,
    errors_burst: u32::MAX,
    errors_interval: crate::time::Duration(u64::MAX),
    flood_burst: u32::MAX,
    flood_interval: crate::time::Duration(u64::MAX),
};

/// How far an open snapshot has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    /// Sum of the hashes of the rows shown.
    digest: u64,
    rows: u64,
    /// The route whose turn is next.
    route: usize,
    /// Rows shown between two steps, as bytes.
    pending: Vec<u8>,
}

impl Open {
    fn show(&mut self, table: Table, slot: usize, words: &[u64], out: &mut Vec<u8>) {
        self.digest = self.digest.wrapping_add(row_hash(table, slot, words));
        self.rows += 1;
        put_row(out, table.number(), slot, words);
    }
}

fn put_row(out: &mut Vec<u8>, table: u16, slot: usize, words: &[u64]) {
    let count = u16::try_from(words.len()).unwrap_or(u16::MAX);
    let slot = u32::try_from(slot).unwrap_or(u32::MAX);
    out.extend(table.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(slot.to_le_bytes());
    words.iter().for_each(|word| out.extend(word.to_le_bytes()));
}

/// The digest of the state, from the last bytes of a whole snapshot.
#[must_use]
pub fn digest_at_end(bytes: &[u8]) -> Option<u64> {
    let (digest, _rows) = bytes.last_chunk::<16>()?.split_first_chunk::<8>()?;
    Some(u64::from_le_bytes(*digest))
}

impl Tables {
    /// Begins a snapshot of the state as it is now and appends its first rows. One that was open is
    /// given up.
    pub fn snapshot_begin(&mut self, out: &mut Vec<u8>) {
        let mut open = Open::default();
        let mut words = Vec::new();
        for table in [Table::Limits, Table::State, Table::Node, Table::Gone] {
            words.clear();
            if self.row(table, 0, &mut words) {
                open.show(table, 0, &words, out);
            }
        }
        self.ports.rows().begin();
        self.open = Some(open);
    }

    /// Appends up to `slots` further rows. True when the snapshot is whole, or when none was open.
    pub fn snapshot_step(&mut self, slots: usize, out: &mut Vec<u8>) -> bool {
        let Some(mut open) = self.open.take() else { return true };
        out.append(&mut open.pending);
        let routes = self.show_routes(&mut open, slots, out);
        let left = slots.saturating_sub(routes);
        let ports = self
            .ports
            .rows()
            .step(left, &mut |slot, words| open.show(Table::Port, slot, words, out));
        let done = ports && open.route >= self.fib.routes().len();
        if done {
            put_row(out, END, 0, &[open.digest, open.rows]);
        } else {
            self.open = Some(open);
        }
        done
    }

    /// Gives an open snapshot up.
    pub fn snapshot_give_up(&mut self) {
        self.open = None;
        self.ports.rows().give_up();
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

    fn show_routes(&self, open: &mut Open, slots: usize, out: &mut Vec<u8>) -> usize {
        let mut words = Vec::new();
        let mut shown = 0;
        while shown < slots {
            words.clear();
            if !self.row(Table::Route, open.route, &mut words) {
                break;
            }
            open.show(Table::Route, open.route, &words, out);
            open.route += 1;
            shown += 1;
        }
        shown
    }

    /// The tables that a snapshot is of. `table_seed` lays them out; it need not be the one they
    /// had.
    ///
    /// # Errors
    /// When the bytes are no whole snapshot.
    pub fn restore(bytes: &[u8], table_seed: u64) -> Result<Self, RestoreError> {
        let mut rows = Rows { bytes, words: Vec::new() };
        let limits = match rows.next()? {
            Row::Of(Table::Limits, 0) => whole::<Limits>(Table::Limits, 0, &rows.words)?,
            Row::Of(..) | Row::End => return Err(RestoreError::Begin),
        };
        if !possible(&limits) {
            return Err(RestoreError::Limits);
        }
        let mut tables = Self::new(limits, Seeds { table: table_seed, choice: 0 });
        let mut routes = Vec::new();
        let mut digest = row_hash(Table::Limits, 0, &rows.words);
        let mut count = 1_u64;
        loop {
            match rows.next()? {
                Row::Of(table, slot) => {
                    tables.restore_row(table, slot, &rows.words, &mut routes)?;
                    digest = digest.wrapping_add(row_hash(table, slot, &rows.words));
                    count += 1;
                }
                Row::End if rows.words == [digest, count] && rows.bytes.is_empty() => break,
                Row::End => return Err(RestoreError::Digest),
            }
        }
        routes.sort_by_key(|(slot, _): &(usize, Route)| *slot);
        tables.fib = Fib::build(routes.into_iter().map(|(_, route)| route).collect());
        tables.index();
        // The rows say what they say; this is what they came to.
        if tables.digest() == digest { Ok(tables) } else { Err(RestoreError::Digest) }
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
        self.walks = u64::take(take)?;
        self.epoch = u64::take(take)?;
        self.complete = bool::take(take)?;
        self.seeds.choice = u64::take(take)?;
        Some(())
    }
}

fn whole<T: Words>(table: Table, slot: usize, words: &[u64]) -> Result<T, RestoreError> {
    words::whole(words).ok_or_else(|| RestoreError::Row { table: table.name(), slot })
}

/// Whether a switch can be made with these limits, whoever wrote them.
fn possible(limits: &Limits) -> bool {
    let Limits { ports_max, addresses_max, allowed_max, routes_max, .. } = LIMITS_MAX;
    limits.ports_max <= ports_max
        && limits.addresses_max <= addresses_max
        && limits.allowed_max <= allowed_max
        && limits.routes_max <= routes_max
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
        let head = self.word()?;
        let [a, b, c, d, e, f, g, h] = head.to_le_bytes();
        let table = u16::from_le_bytes([a, b]);
        let slot = usize::try_from(u32::from_le_bytes([e, f, g, h])).unwrap_or(usize::MAX);
        self.words.clear();
        for _ in 0..u16::from_le_bytes([c, d]) {
            let word = self.word()?;
            self.words.push(word);
        }
        if table == END && slot == 0 {
            return Ok(Row::End);
        }
        let known = Table::by_number(table).ok_or(RestoreError::Table(table))?;
        Ok(Row::Of(known, slot))
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
    /// They do not begin with the limits.
    Begin,
    /// The limits are beyond any switch of this version.
    Limits,
    /// A table of that number is not known to this version.
    Table(u16),
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
            Self::Begin => f.write_str("the snapshot does not begin with its limits"),
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

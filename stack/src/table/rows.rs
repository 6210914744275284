//! One walk over all state, for whoever wants to see it: the digest, the dump and the snapshot.
//!
//! Every table is in [`Table`] and has its rows in [`Tables::row`], which takes [`Tables`] apart by
//! name: a new table does not compile until it is shown, and what is shown is in all three. What
//! follows from other rows (FDB, neighbors, the index of ports and that of Services) is not shown;
//! a restored switch makes it anew.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::Tables;
use crate::hash;
use crate::words::Words;

/// Each table once: its number, its name, what its rows are.
macro_rules! tables {
    ($($number:literal $variant:ident $name:literal $text:literal;)+) => {
        /// A table that has rows. The numbers stand in snapshots and are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Table {
            $(#[doc = $text] $variant = $number,)+
        }

        impl Table {
            /// Every table, in the order in which it is shown.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in dumps and messages.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

// Limits come first: a restored switch is made of them.
tables! {
    1 Limits "limits" "The limits; one row.";
    2 State "state" "Time, walks so far, epoch, the seed of choices, slots ever used; one row.";
    3 Node "node" "The node as configured; one row.";
    6 Gone "gone" "What removed ports had counted; one row.";
    5 Route "route" "Routes in the order of their prefixes.";
    4 Port "port" "Ports by slot: configuration, shares, counters.";
    7 Service "service" "Services by slot: configuration, counts, whose turn it is.";
    8 Affinity "affinity" "Clients of Services by place, each with its backend.";
    9 Connection4 "connection4" "Connections of IPv4 by slot.";
    10 Connection6 "connection6" "Connections of IPv6 by slot.";
    11 Datagram "datagram" "Datagrams in fragments by slot, with the fragments that are held.";
}

impl Table {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Whether it grows with what pods do: then its rows are what a restore takes its time for.
    #[must_use]
    pub(super) const fn is_large(self) -> bool {
        matches!(self, Self::Connection4 | Self::Connection6)
    }

    /// The table of that number.
    #[must_use]
    pub fn by_number(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|table| table.number() == number)
    }
}

/// Takes one row after the other.
pub trait Sink {
    /// A row: where it is, and its words.
    fn row(&mut self, table: Table, slot: usize, words: &[u64]);
}

/// The hash of a row. The digest of a state is the sum over its rows.
#[must_use]
pub fn row_hash(table: Table, slot: usize, words: &[u64]) -> u64 {
    let place = (slot as u64).rotate_left(16) ^ u64::from(table.number());
    hash::row(DIGEST_KEY ^ place, words)
}

/// The digest of a state, table by table: each is the sum of the hashes of its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests([u64; Table::ALL.len()]);

impl Digests {
    /// Words of [`Digests::words`].
    pub(super) const WORDS: usize = 2 * Table::ALL.len();

    /// Counts a row in.
    pub fn row(&mut self, table: Table, slot: usize, words: &[u64]) {
        if let Some((_, sum)) = self.each_mut().find(|(other, _)| *other == table) {
            *sum = sum.wrapping_add(row_hash(table, slot, words));
        }
    }

    /// The digest of the state.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |total, sum| total.wrapping_add(*sum))
    }

    /// As words: each table's number and its digest.
    pub fn words(&self) -> impl Iterator<Item = u64> {
        Table::ALL.iter().zip(self.0).flat_map(|(table, sum)| [u64::from(table.number()), sum])
    }

    /// Reads words back; `None` unless each table is there once and no other is.
    #[must_use]
    pub fn of_words(words: &[u64]) -> Option<Self> {
        let mut digests = Self::default();
        let (pairs, rest) = words.as_chunks::<2>();
        for ((table, sum), [number, digest]) in digests.each_mut().zip(pairs) {
            if u64::from(table.number()) != *number {
                return None;
            }
            *sum = *digest;
        }
        (rest.is_empty() && words.len() == Self::WORDS).then_some(digests)
    }

    /// The tables whose digests are others.
    pub fn differing(self, other: Self) -> impl Iterator<Item = Table> {
        let each = Table::ALL.iter().zip(self.0.into_iter().zip(other.0));
        each.filter(|(_, (one, two))| one != two).map(|(table, _)| *table)
    }

    /// Those of these tables; nothing of others.
    pub(super) fn only(mut self, of: impl Fn(Table) -> bool) -> Self {
        self.each_mut().filter(|(table, _)| !of(*table)).for_each(|(_, sum)| *sum = 0);
        self
    }

    fn each_mut(&mut self) -> impl Iterator<Item = (Table, &mut u64)> {
        Table::ALL.iter().copied().zip(&mut self.0)
    }
}

/// "hopscope".
const DIGEST_KEY: u64 = 0x686f_7073_636f_7065;

impl Tables {
    /// Slots of a table, used or not.
    pub(super) fn slots(&self, table: Table) -> usize {
        match table {
            Table::Limits | Table::State | Table::Node | Table::Gone => 1,
            Table::Port => self.ports.slots(),
            Table::Route => self.fib.routes().len(),
            Table::Service => self.services.rows().slots(),
            Table::Affinity => self.services.clients().rows().slots(),
            Table::Connection4 => self.connections.v4.rows.slots(),
            Table::Connection6 => self.connections.v6.rows.slots(),
            Table::Datagram => self.datagrams.rows().slots(),
        }
    }

    /// Appends the words of a row. False when the slot is empty.
    pub(super) fn row(&self, table: Table, slot: usize, words: &mut Vec<u64>) -> bool {
        // Taken apart without `..`: a new field does not compile until it is a row of a table, or
        // said to follow from others. An open snapshot is no state.
        let Self {
            limits,
            seeds,
            now,
            walks,
            node,
            complete,
            epoch,
            ports,
            fdb: _,
            neighbors: _,
            fib,
            connections,
            sweep,
            datagrams,
            gone,
            services,
            open: _,
        } = self;
        match table {
            Table::Limits => limits.put(words),
            Table::State => {
                now.put(words);
                sweep.put(words);
                datagrams.sweep.put(words);
                words.extend([*walks, *epoch, u64::from(*complete), seeds.choice]);
                // Sweeps and the choice of who goes for another depend on them.
                let [v4, v6] = [connections.v4.rows.slots(), connections.v6.rows.slots()];
                words.extend([v4, v6, datagrams.rows().slots()].map(|slots| slots as u64));
            }
            Table::Node => node.put(words),
            Table::Port => match ports.at(slot) {
                Some(port) => port.put(words),
                None => return false,
            },
            Table::Route => match fib.routes().get(slot) {
                Some(route) => route.put(words),
                None => return false,
            },
            Table::Gone => gone.put(words),
            Table::Connection4 => match connections.v4.rows.get(slot) {
                Some(row) => row.put(words),
                None => return false,
            },
            Table::Connection6 => match connections.v6.rows.get(slot) {
                Some(row) => row.put(words),
                None => return false,
            },
            Table::Service => match services.rows().get(slot) {
                Some(service) => service.put(words),
                None => return false,
            },
            Table::Datagram => match datagrams.rows().get(slot) {
                Some(datagram) => datagram.put(words),
                None => return false,
            },
            Table::Affinity => match services.clients().rows().get(slot) {
                Some(affinity) => affinity.put(words),
                None => return false,
            },
        }
        true
    }

    /// Shows every row of every table, in canonical order.
    pub fn visit(&self, sink: &mut dyn Sink) {
        self.visit_of(|_all| true, sink);
    }

    fn visit_of(&self, of: impl Fn(Table) -> bool, sink: &mut dyn Sink) {
        let mut words = Vec::new();
        for table in Table::ALL.iter().filter(|table| of(**table)) {
            for slot in 0..self.slots(*table) {
                words.clear();
                if self.row(*table, slot, &mut words) {
                    sink.row(*table, slot, &words);
                }
            }
        }
    }

    /// The digest of all state: the sum of the rows' hashes, so it does not depend on their order.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digests().total()
    }

    /// The digest of each table.
    #[must_use]
    pub fn digests(&self) -> Digests {
        self.digests_of(|_all| true)
    }

    /// The digests of those tables; of others nothing.
    pub(super) fn digests_of(&self, of: impl Fn(Table) -> bool) -> Digests {
        struct Sums(Digests);
        impl Sink for Sums {
            fn row(&mut self, table: Table, slot: usize, words: &[u64]) {
                self.0.row(table, slot, words);
            }
        }
        let mut sums = Sums(Digests::default());
        self.visit_of(of, &mut sums);
        sums.0
    }

    /// All state as text, a line a row, in canonical order: the table, the slot, the words as hex.
    #[must_use]
    pub fn dump(&self) -> String {
        struct Text(String);
        impl Sink for Text {
            fn row(&mut self, table: Table, slot: usize, words: &[u64]) {
                // Writing to a String cannot fail.
                let _infallible = write!(self.0, "{} {slot}:", table.name());
                for word in words {
                    let _infallible = write!(self.0, " {word:x}");
                }
                self.0.push('\n');
            }
        }
        let mut text = Text(String::new());
        self.visit(&mut text);
        text.0
    }
}

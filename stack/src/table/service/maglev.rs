//! Maglev's table (Eisenbud and others, NSDI 2016, section 3.4): a row for each residue of a prime,
//! on which a backend stands.
//!
//! Each backend has an order of all rows of its own. In rounds each takes the first row in its
//! order that is free, until all are taken. A backend that comes or goes so changes little more
//! than the rows it has; who it is decides its order, by a key that all nodes have: a connection
//! that comes in by another node goes to the same backend.
//!
//! A backend has as many rows as its weight is of all weights, one at least, give or take one.
//! There are 251 rows for fewer than 50 backends, 4,093 for fewer than 800, 16,381 for fewer than
//! 3,200, else 65,537, so each has five at least and shares are off by a fifth at most, for a few
//! backends by little. A row is two bytes. When backends come to be 50, 800 or 3,200 most
//! connections move: the table is another.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::rendezvous::Runner;
use crate::hash;

/// Keys the hashes of connections and backends, on every node, whatever its seeds: "hopmglev".
pub(super) const KEY: u64 = 0x686f_706d_676c_6576;
/// Tables serve fewer backends than this, and have so many rows.
const SIZES: [(usize, u16); 3] = [(50, 251), (800, 4_093), (3_200, 16_381)];
/// Rows of the largest table, a prime.
const MOST: u32 = 65_537;
/// On a row that is free.
const FREE: u16 = u16::MAX;

/// How a backend goes through the rows.
struct Order {
    place: u16,
    /// Rows that it has still to take before what is left is divided.
    wanted: u32,
    /// What was lost when its share was rounded.
    lost: u64,
    row: u32,
    skip: u32,
}

/// The table of these backends: on each row a place. Empty when there are none.
pub(super) fn table(runners: &[Runner]) -> Vec<u16> {
    if runners.is_empty() {
        return Vec::new();
    }
    let fits = SIZES.iter().find(|(below, _)| runners.len() < *below);
    let size = fits.map_or(MOST, |(_, rows)| u32::from(*rows));
    let weights: u64 = runners.iter().map(|runner| u64::from(runner.weight)).sum();
    let order = |runner: &Runner| {
        let due = u64::from(size) * u64::from(runner.weight);
        let share = due / weights.max(1);
        Order {
            place: runner.place,
            wanted: u32::try_from(share).unwrap_or(size).max(1),
            lost: if share > 0 { due % weights.max(1) } else { 0 },
            row: residue(hash::numbers(KEY, &[runner.hash, 0]), size),
            skip: residue(hash::numbers(KEY, &[runner.hash, 1]), size - 1) + 1,
        }
    };
    let mut orders: Vec<Order> = runners.iter().map(order).collect();
    let mut rows = vec![FREE; size as usize];
    let mut free = rows.len();
    // Who has its share drops out, so all rounds together are as long as the table.
    let mut round: Vec<usize> = (0..orders.len()).collect();
    while free > 0 && !round.is_empty() {
        for order in round.iter().take(free) {
            if let Some(order) = orders.get_mut(*order) {
                order.take(&mut rows);
                order.wanted -= 1;
            }
        }
        free = free.saturating_sub(round.len());
        round.retain(|order| orders.get(*order).is_some_and(|order| order.wanted > 0));
    }
    // What rounding left over, one each: these rows are fewer than the backends.
    orders.sort_by_key(|order| Reverse(order.lost));
    orders.iter_mut().take(free).for_each(|order| order.take(&mut rows));
    rows
}

impl Order {
    /// Takes the next row that is free; there is one.
    fn take(&mut self, rows: &mut [u16]) {
        let size = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        for _ in 0..size {
            let row = rows.get_mut(self.row as usize);
            self.row = (self.row + self.skip) % size;
            if let Some(row) = row.filter(|row| **row == FREE) {
                *row = self.place;
                return;
            }
        }
    }
}

/// The place that a connection's hash stands for.
pub(super) fn look_up(rows: &[u16], hash: u64) -> Option<u16> {
    let size = u32::try_from(rows.len()).ok().filter(|size| *size > 0)?;
    rows.get(residue(hash, size) as usize).copied()
}

fn residue(hash: u64, of: u32) -> u32 {
    u32::try_from(hash % u64::from(of.max(1))).unwrap_or(0)
}

#[cfg(test)]
mod tests;

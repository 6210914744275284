//! The backend that a key meets: highest random weight (Thaler and Ravishankar 1998), by integers.
//!
//! Each backend has a score for each key, a hash of the two, so that a key's backend changes only
//! when that one goes, or one comes that is better: no other key moves. Without weights the highest
//! score wins. With weights the score is taken as a number *u* of 0 to 1, and the least
//! -log2(*u*) / weight wins: a race of exponential clocks, which each backend wins as often as its
//! weight says.
//!
//! The logarithm has 32 binary places, rounded down, and is found by squaring: equal on every
//! machine. So a share is off by some 2^-32 of all keys. Clocks that are equal are told apart by
//! the scores; so equal weights give the same winner both ways.

use core::cmp::Ordering;

use crate::hash;

/// A backend in the race.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runner {
    /// Its place in the Service.
    pub(super) place: u16,
    /// Its weight, at least 1.
    pub(super) weight: u16,
    /// The hash of who it is.
    pub(super) hash: u64,
}

/// The place of the backend that wins for `key`; of equals the first one.
pub(super) fn winner(key: u64, equal: bool, runners: impl Iterator<Item = Runner>) -> Option<u16> {
    let mut best: Option<(Runner, u64, u64)> = None;
    for runner in runners {
        let score = hash::numbers(key, &[runner.hash]);
        let clock = if equal { 0 } else { clock(score) };
        let better = best.is_none_or(|(first, its_score, its_clock)| {
            let (one, other) = (product(clock, first.weight), product(its_clock, runner.weight));
            match one.cmp(&other) {
                Ordering::Less => true,
                Ordering::Equal => score > its_score,
                Ordering::Greater => false,
            }
        });
        if better {
            best = Some((runner, score, clock));
        }
    }
    best.map(|(runner, ..)| runner.place)
}

/// `clock / weight` of one beside that of another, without division.
fn product(clock: u64, weight: u16) -> u64 {
    // 39 bits of a clock, 16 of a weight.
    clock * u64::from(weight)
}

/// -log2(score / 2^64) with 32 binary places, at least 1.
fn clock(score: u64) -> u64 {
    let score = score.max(1);
    let zeros = score.leading_zeros();
    // The score as 2^whole times a number of 1 to 2, of which 63 bits are behind the point.
    let whole = u64::from(63 - zeros);
    let mut number = score << zeros;
    let mut fraction = 0_u64;
    for _ in 0..32 {
        let square = u128::from(number) * u128::from(number);
        let carry = u32::from(square >> 127 != 0);
        number = u64::try_from(square >> (63 + carry)).unwrap_or(u64::MAX);
        fraction = fraction << 1 | u64::from(carry);
    }
    (64 << 32) - (whole << 32 | fraction)
}

#[cfg(test)]
mod tests;

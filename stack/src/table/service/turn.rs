//! One after the other, with a single number as state.
//!
//! **Round robin**: the number is the place behind the backend that was last. It follows that
//! backend when others come and go.
//!
//! **By weight**: the number counts turns, as many to a cycle as all weights together. Turn *t*
//! falls on point *t* * stride of a circle on which each backend has an arc as long as its weight.
//! The stride is coprime to the cycle, so each point comes once a cycle, hence each backend as
//! often as its weight says. It lies near the cycle's golden section, where turns of one backend
//! are as evenly apart as can be: in cycles of some hundred turns nobody waits three times as long
//! as if they were exactly even. Other interleavings keep a number for each backend (nginx) or
//! serve the heavy ones in a row (IPVS).

/// 2^32 by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9;
/// How far from the golden section a stride may lie.
const NEAR: u32 = 32;

/// The stride of a cycle of so many turns: of those near the golden section, the one that is least
/// like a fraction of the cycle with a small denominator, for such a one comes back to where it was
/// again and again before it goes elsewhere.
pub(super) fn stride(cycle: u32) -> u32 {
    let section = u32::try_from((u64::from(cycle) * GOLDEN) >> 32).unwrap_or(u32::MAX);
    let near = section.saturating_sub(NEAR).max(1)..cycle.min(section.saturating_add(NEAR + 1));
    let rated = near.filter_map(|stride| Some((largest_quotient(stride, cycle)?, stride)));
    rated.min().map_or(1, |(_, stride)| stride)
}

/// The largest quotient of the continued fraction of `stride / cycle`; `None` when they are not
/// coprime.
fn largest_quotient(stride: u32, cycle: u32) -> Option<u32> {
    let (mut one, mut other, mut largest) = (cycle, stride, 0);
    while let Some(quotient) = one.checked_div(other) {
        // The last one, of which one could be split off, says nothing.
        largest = largest.max(if other == 1 { quotient - 1 } else { quotient });
        (one, other) = (other, one % other);
    }
    (one == 1).then_some(largest)
}

/// Which of the weights the turn falls on; the weights sum up to the cycle, which is not 0.
pub(super) fn by_weight(
    turn: u32,
    stride: u32,
    cycle: u32,
    weights: impl Iterator<Item = u16>,
) -> Option<usize> {
    let cycle = u64::from(cycle.max(1));
    let mut point = u64::from(turn) % cycle * u64::from(stride) % cycle;
    for (index, weight) in weights.enumerate() {
        match point.checked_sub(u64::from(weight)) {
            Some(rest) => point = rest,
            None => return Some(index),
        }
    }
    None
}

/// The turn after it.
pub(super) fn next(turn: u32, cycle: u32) -> u32 {
    (turn % cycle.max(1) + 1) % cycle.max(1)
}

#[cfg(test)]
mod tests;

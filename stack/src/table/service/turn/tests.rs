//! Each as often as its weight says, and evenly apart.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

/// The places of so many turns.
fn turns(weights: &[u16], count: usize) -> Vec<usize> {
    let cycle = weights.iter().map(|weight| u32::from(*weight)).sum();
    let stride = stride(cycle);
    let mut turn = 0;
    let mut places = Vec::new();
    for _ in 0..count {
        places.extend(by_weight(turn, stride, cycle, weights.iter().copied()));
        turn = next(turn, cycle);
    }
    places
}

#[test]
fn a_heavy_one_does_not_come_in_one_piece() {
    assert_eq!(turns(&[5, 1, 1], 7), [0, 0, 2, 0, 1, 0, 0]);
    assert_eq!(turns(&[1, 1, 1], 6), [0, 2, 1, 0, 2, 1]);
    assert_eq!(turns(&[4], 3), [0, 0, 0]);
    assert_eq!(turns(&[2, 2], 8), [0, 1, 1, 0, 0, 1, 1, 0]);
}

/// Values of a second implementation.
#[test]
fn strides_are_coprime_and_near_the_golden_section() {
    assert_eq!([0, 1, 2, 3, 4, 7, 100].map(stride), [1, 1, 1, 2, 3, 3, 37]);
    for cycle in 2..5_000 {
        let stride = stride(cycle);
        let section = u32::try_from((u64::from(cycle) * GOLDEN) >> 32).unwrap();
        assert!(stride < cycle && stride.abs_diff(section) <= NEAR, "{stride} of {cycle}");
        let quotient = largest_quotient(stride, cycle);
        assert!(quotient.is_some_and(|it| it <= 9), "{stride} of {cycle}: {quotient:?}");
    }
    assert_eq!([largest_quotient(6, 9), largest_quotient(245, 398)], [None, Some(29)]);
    assert!(largest_quotient(stride(u32::MAX), u32::MAX).is_some());
}

#[test]
fn without_weights_there_is_no_turn() {
    assert_eq!(by_weight(3, 1, 0, [].into_iter()), None);
    assert_eq!(next(3, 0), 0);
    assert_eq!(next(u32::MAX, u32::MAX), 1, "a turn beyond the cycle is one of it");
}

proptest! {
    #[test]
    fn a_cycle_has_each_as_often_as_its_weight_says(
        weights in prop::collection::vec(1..60_u16, 1..12),
        cycles in 1..3_usize,
    ) {
        let cycle: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
        let places = turns(&weights, cycle * cycles);
        let mut counts = vec![0; weights.len()];
        places.iter().for_each(|place| counts[*place] += 1);
        let expected: Vec<usize> =
            weights.iter().map(|weight| usize::from(*weight) * cycles).collect();
        prop_assert_eq!(counts, expected);
    }

    /// Nobody waits more than three times as long as if its turns were exactly even.
    #[test]
    fn turns_lie_evenly(weights in prop::collection::vec(1..60_u16, 2..12)) {
        let cycle: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
        let places = turns(&weights, 3 * cycle);
        for (place, weight) in weights.iter().enumerate() {
            let even = cycle.div_ceil(usize::from(*weight));
            let mut waited = 0;
            for other in &places {
                waited = if *other == place { 0 } else { waited + 1 };
                prop_assert!(waited <= 3 * even, "{weights:?}: {place} waited {waited}");
            }
        }
    }
}

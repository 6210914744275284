//! Who wins, how often, and who moves when another one comes.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

fn runners(weights: &[u16]) -> Vec<Runner> {
    let runner = |(place, weight): (u16, &u16)| Runner {
        place,
        weight: *weight,
        hash: hash::numbers(77, &[u64::from(place)]),
    };
    (0..).zip(weights).map(runner).collect()
}

fn win(key: u64, runners: &[Runner], equal: bool) -> Option<u16> {
    winner(key, equal, runners.iter().copied())
}

/// Values of a second implementation, with fifty digits.
#[test]
fn clocks_are_the_logarithm() {
    let one = 1_u64 << 32;
    assert_eq!(clock(0), 64 * one, "as of 1");
    assert_eq!([1, 2, 1 << 32, 1 << 63].map(clock), [64 * one, 63 * one, 32 * one, one]);
    // 64 - log2(3), 64 - log2(10^19), 64 - log2(2^64 - 1), all rounded up.
    assert_eq!(clock(3), 268_070_544_839);
    assert_eq!(clock(10_000_000_000_000_000_000), 3_794_028_928);
    assert_eq!(clock(u64::MAX), 1);
}

#[test]
fn clocks_never_go_faster_with_a_lower_score() {
    let mut last = u64::MAX;
    for step in 0..50_000_u64 {
        let clock = clock(step * (u64::MAX / 50_000));
        assert!((1..=last).contains(&clock), "{step}: {clock} after {last}");
        last = clock;
    }
}

/// Each backend wins as often as its weight says: 3 standard deviations at most.
#[test]
fn shares_follow_weights() {
    for weights in [&[1_u16, 1, 1, 1, 1][..], &[1, 2, 3, 4], &[65_535, 1], &[1_000, 10, 10, 1, 1]] {
        let runners = runners(weights);
        let mut wins = [0_u64; 5];
        const KEYS: u64 = 40_000;
        for key in 0..KEYS {
            let place = win(hash::numbers(5, &[key]), &runners, false).unwrap();
            wins[usize::from(place)] += 1;
        }
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        for (weight, wins) in weights.iter().zip(wins) {
            let expected = KEYS * u64::from(*weight) / sum;
            let off = wins.abs_diff(expected);
            assert!(off * off <= 9 * (expected + 2), "{weights:?}: {wins} for {expected}");
        }
    }
}

#[test]
fn there_is_no_winner_without_runners() {
    assert_eq!(win(1, &[], true), None);
    assert_eq!(win(1, &[], false), None);
    assert_eq!(win(1, &runners(&[9]), false), Some(0));
}

proptest! {
    /// Without the comparison of clocks equal weights give the same winner, whatever their weight.
    #[test]
    fn equal_weights_need_no_clocks(key: u64, weight in 1..=u16::MAX, count in 1..40_usize) {
        let runners = runners(&alloc::vec![weight; count]);
        prop_assert_eq!(win(key, &runners, true), win(key, &runners, false));
    }

    /// When one goes, only its keys move; when it comes back, they come back to it.
    #[test]
    fn only_the_keys_of_who_goes_move(
        weights in prop::collection::vec(1..200_u16, 2..20),
        gone in any::<prop::sample::Index>(),
        keys in prop::collection::vec(any::<u64>(), 50),
    ) {
        let all = runners(&weights);
        let gone = gone.index(all.len());
        let mut fewer = all.clone();
        fewer.remove(gone);
        for key in keys {
            let (before, after) = (win(key, &all, false), win(key, &fewer, false));
            prop_assert!(after.is_some() && after != Some(all[gone].place));
            if before != Some(all[gone].place) {
                prop_assert_eq!(before, after);
            }
        }
    }

    /// When one weighs more, keys move to it alone.
    #[test]
    fn a_higher_weight_takes_and_moves_nothing_else(
        weights in prop::collection::vec(1..200_u16, 2..20),
        heavier in any::<prop::sample::Index>(),
        keys in prop::collection::vec(any::<u64>(), 50),
    ) {
        let before = runners(&weights);
        let heavier = heavier.index(weights.len());
        let mut after = before.clone();
        after[heavier].weight += 100;
        for key in keys {
            let (one, other) = (win(key, &before, false), win(key, &after, false));
            prop_assert!(one == other || other == Some(after[heavier].place));
        }
    }
}

//! Shares, and what a change moves.

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

fn shares(rows: &[u16], count: usize) -> Vec<usize> {
    let mut shares = vec![0; count];
    rows.iter().for_each(|place| shares[usize::from(*place)] += 1);
    shares
}

#[test]
fn sizes_follow_the_number_of_backends() {
    let size = |count| table(&runners(&vec![1; count])).len();
    assert_eq!([0, 1, 49, 50, 799, 800].map(size), [0, 251, 251, 4_093, 4_093, 16_381]);
    assert_eq!([3_199, 3_200].map(size), [16_381, 65_537]);
}

#[test]
fn equals_have_equal_shares() {
    for count in [1_usize, 2, 3, 7, 49, 50, 799, 800, 3_199, 3_200, 10_000] {
        let rows = table(&runners(&vec![3; count]));
        let even = rows.len() / count;
        let shares = shares(&rows, count);
        assert!(shares.iter().all(|share| [even, even + 1].contains(share)), "{count}: {shares:?}");
        assert!(even >= 5, "{count}: a backend has {even} rows");
    }
}

#[test]
fn a_light_one_has_a_row_and_a_heavy_one_the_rest() {
    assert_eq!(shares(&table(&runners(&[65_535, 1])), 2), [250, 1]);
    let mut weights = vec![1; 9_999];
    weights.push(65_535);
    let shares = shares(&table(&runners(&weights)), 10_000);
    assert!(shares[..9_999].iter().all(|share| *share == 1));
    assert_eq!(shares[9_999], 65_537 - 9_999);
}

#[test]
fn who_a_backend_is_decides_and_not_its_place() {
    let mut backends = runners(&[1, 1, 1, 1, 1]);
    let before = table(&backends);
    backends.iter_mut().for_each(|backend| backend.place += 7);
    let moved: Vec<u16> = before.iter().map(|place| place + 7).collect();
    assert_eq!(table(&backends), moved);
    assert_eq!(look_up(&before, 252), Some(before[1]));
    assert_eq!(look_up(&[], 252), None);
}

/// Beyond the rows of who went, a few change as well: 251 rows are few. The paper has 65,537.
#[test]
fn a_change_moves_little_else() {
    for (count, most) in [(5_usize, 12), (20, 12), (100, 6), (1_000, 3)] {
        let all = runners(&vec![1; count]);
        let before = table(&all);
        for gone in 0..count.min(20) {
            let mut fewer = all.clone();
            fewer.remove(gone);
            let after = table(&fewer);
            let gone = all[gone].place;
            let rows = before.iter().zip(&after);
            let moved = rows.filter(|(old, new)| **old != gone && old != new).count();
            let percent = moved * 100 / before.len();
            assert!(percent <= most, "{count}: {moved} of {} rows moved", before.len());
        }
    }
}

proptest! {
    #[test]
    fn shares_follow_weights(weights in prop::collection::vec(1..100_u16, 1..49)) {
        let rows = table(&runners(&weights));
        let sum: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
        // Who is due less than a row has one, at the cost of the others.
        let poor = weights.iter().filter(|weight| usize::from(**weight) * 251 < sum).count();
        for (share, weight) in shares(&rows, weights.len()).into_iter().zip(&weights) {
            let due = usize::from(*weight) * 251 / sum;
            prop_assert!((due.saturating_sub(poor).max(1)..=due + 1).contains(&share));
        }
    }
}

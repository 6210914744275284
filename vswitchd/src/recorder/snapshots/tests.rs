//! When snapshots are taken, and where to.

use super::super::tests::{Scratch, Worker};
use super::*;

#[test]
fn recent_areas_take_turns_and_halves_have_their_own() {
    let scratch = Scratch::new();
    let taker = |found: &[Found]| Taker::new(scratch.0.clone(), 1_000, found, 50);
    let mut fresh = taker(&[]);
    assert_eq!(fresh.due(999, 50 + RECORDS - 1), None);
    assert_eq!(fresh.due(999, 50 + RECORDS), Some(1));
    assert_eq!(fresh.due(1_000, 51), Some(1));
    let mut worker = Worker::start(&scratch, 1);
    let mut take = |taker: &mut Taker, number, position| {
        let origin = Origin { number, position, ..Origin::default() };
        taker.begin(origin, 0, &BTreeMap::new(), &mut worker.switch).unwrap();
        assert_eq!(taker.due(u64::MAX, u64::MAX), None, "one at a time");
        while taker.is_open() {
            taker.step(&mut worker.switch).unwrap();
        }
    };
    for (number, position) in [(1, 10), (2, 20), (3, 1_500), (4, 1_600), (5, 2_100)] {
        take(&mut fresh, number, position);
    }
    let of = |area: usize| {
        let path = areas::path(&scratch.0, area);
        areas::find(&scratch.0).iter().find(|found| found.path == path).unwrap().origin.number
    };
    assert_eq!([0, 1, 2, 3].map(of), [4, 2, 5, 3]);
    let again = taker(&areas::find(&scratch.0));
    assert_eq!((again.recent, again.halves, again.number), (1, 2, 5));
}

//! Excerpts: the nearest state at or before a moment, and all records from there.

use super::super::tests::{Scratch, Worker, replayed};
use super::*;

#[test]
fn an_excerpt_begins_at_the_state_before_its_moment() {
    let scratch = Scratch::new();
    let mut worker = Worker::start(&scratch, 1_000);
    for n in 0..12_000 {
        worker.round(n);
    }
    let found = areas::find(&scratch.0);
    assert!(found.len() >= 2, "{found:?}");
    for found in &found {
        let time = found.origin.time;
        let at = worker.past.excerpt(Some(time)).unwrap();
        assert_eq!(at.chain, found.origin.chain);
        let later = worker.past.excerpt(Some(Instant(time.0 + 1))).unwrap();
        assert_eq!(later.chain, at.chain);
    }
    assert_eq!(replayed(&worker.past), worker.state());
    assert_eq!(worker.past.utc_offset(), 1_700_000_000_000_000_000);
    assert!(worker.past.records() > 48_000);
}

#[test]
fn a_young_journal_is_had_from_its_begin() {
    let scratch = Scratch::new();
    let mut worker = Worker::start(&scratch, 1_000);
    worker.round(1);
    assert_eq!(worker.past.horizon(), Some(Horizon { time: Instant(1_000), position: 0 }));
    let excerpt = worker.past.excerpt(None).unwrap();
    assert_eq!((excerpt.state, excerpt.chain), (None, Chain::new()));
    let early = worker.past.excerpt(Some(Instant(999))).unwrap_err();
    assert!(early.to_string().contains("horizon"), "{early}");
}

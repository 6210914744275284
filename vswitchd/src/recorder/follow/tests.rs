//! A worker that follows another, and what it comes to.

use super::super::tests::{B, Scratch, Worker, begun};
use super::super::{areas, layout::SIZE_MIN};
use super::*;
use stack::{Change, Input, Instant};

/// Follows to the head as it is now.
fn catch_up(follower: &mut Follower) {
    while !follower.step().unwrap() {}
}

#[test]
fn a_follower_comes_to_the_state_of_the_one_it_follows_and_goes_on() {
    let scratch = Scratch::new();
    let mut first = Worker::start(&scratch, 1_000);
    (0..300).for_each(|n| first.round(n));
    let mut second = Follower::start(scratch.options(), 77).unwrap();
    for n in 300..3_000 {
        first.round(n);
        if n % 100 == 0 {
            catch_up(&mut second);
            assert_eq!(second.switch().unwrap().dump(), first.switch.dump());
        }
    }
    first.feed(Input::Change(Change::PortUp(B, false)));
    let (closed, now, dump) = (first.journal.position(), first.now, first.switch.dump());
    drop(first);
    let (mut switch, mut journal) = second.take_over(&begun(now, 78), closed, 4711).unwrap();
    assert_eq!(switch.dump(), dump);
    // It is the writer now, and what it writes is recovered as if there had been one worker.
    let mut out = stack::Outbox::default();
    journal.before(Instant(now + 1), &Input::Tick);
    switch.input(Instant(now + 1), Input::Tick, &mut out);
    journal.after(&out);
    let dump = switch.dump();
    drop(journal);
    let third = Worker::start(&scratch, now + 2);
    assert_eq!(third.notice, None);
    assert_eq!(third.switch.dump(), dump);
    let notes = String::from_utf8_lossy(&third.past.excerpt(None).unwrap().records).into_owned();
    assert!(notes.contains("handed over by process 4711"));
}

#[test]
fn what_does_not_end_where_it_should_is_no_state() {
    let scratch = Scratch::new();
    let mut first = Worker::start(&scratch, 1_000);
    (0..50).for_each(|n| first.round(n));
    let follow = || {
        let mut follower = Follower::start(scratch.options(), 77).unwrap();
        catch_up(&mut follower);
        follower
    };
    let (closed, now) = (first.journal.position(), first.now);
    // It says that it has left the ring before its end.
    let early = follow().take_over(&begun(now, 1), closed - 8, 1).unwrap_err();
    assert!(early.to_string().contains("ends at position"), "{early}");
    // What came of the last record is another than what is said beside the head.
    let map = super::super::map::Map::open(&scratch.ring(), true).unwrap();
    for slot in &map.header().slots {
        slot.outcomes.fetch_xor(1, Ordering::Relaxed);
    }
    let differs = follow().take_over(&begun(now, 1), closed, 1).unwrap_err();
    assert!(differs.to_string().contains("does not end with"), "{differs}");
    // The ring is as it was for all that: nobody but its writer has written.
    first.round(51);
    assert!(first.journal.position() > closed);
}

#[test]
fn a_journal_beside_another_leaves_that_alone_until_it_takes_its_place() {
    let scratch = Scratch::new();
    let mut first = Worker::start(&scratch, 1_000);
    (0..40_000).for_each(|n| first.round(n));
    assert!(!areas::find(&scratch.0).is_empty());
    let names = || {
        let entries = std::fs::read_dir(&scratch.0).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let beside = || begin_beside(&scratch.options(), &begun(first.now, 5)).unwrap();
    // Given up: nothing is left of it, and the other one is recovered.
    drop(beside());
    assert_eq!(names(), before);
    let (opened, staged) = beside();
    let dump = opened.switch.dump();
    drop(opened);
    staged.settle().unwrap();
    assert_eq!(names(), [std::ffi::OsString::from(FILE)]);
    assert_eq!(std::fs::metadata(scratch.ring()).unwrap().len() >> 20, SIZE_MIN >> 20);
    let state = recovery::replay(
        std::sync::Arc::new(super::super::map::Map::open(&scratch.ring(), true).unwrap()),
        &scratch.0,
        6,
        Purpose::Compare,
    );
    assert_eq!(state.unwrap().switch.dump(), dump);
}

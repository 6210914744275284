//! What has come of a datagram against a model that knows each byte; rows that cannot be.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use smoltcp::wire::Ipv4Address;

use super::*;
use crate::words;

fn part(offset: u16, len: u16, more: bool) -> Part {
    Part { id: 1, offset, len, more }
}

/// How a part fits, told from the bytes that have come and the end, if it is known.
fn model(seen: &[bool], end: Option<usize>, part: &Part) -> Fit {
    let (from, to) = (usize::from(part.offset), usize::from(part.end()));
    let last = seen.iter().rposition(|seen| *seen).map_or(0, |at| at + 1);
    let beyond = end.is_some_and(|end| to > end || (!part.more && to != end));
    if beyond || (!part.more && last > to) {
        return Fit::Overlaps;
    }
    match seen[from..to].iter().filter(|seen| **seen).count() {
        0 => Fit::New,
        all if all == to - from => Fit::Again,
        _ => Fit::Overlaps,
    }
}

proptest! {
    #[test]
    fn spans_are_the_bytes_that_have_come(
        parts in proptest::collection::vec((0_u16..40, 1_u16..6, 0_u8..8), 1..60),
    ) {
        let (mut spans, mut seen, mut end) = (Spans::default(), vec![false; 400], None);
        for (offset, len, last) in parts {
            let part = part(offset * 8, len * 8, last > 0);
            let fit = spans.fit(&part);
            prop_assert_eq!(fit, model(&seen, end, &part));
            if fit == Fit::New {
                spans.add(&part);
                seen[usize::from(part.offset)..usize::from(part.end())].fill(true);
                end = end.or_else(|| (!part.more).then_some(usize::from(part.end())));
            }
            let all = end.is_some_and(|end| seen[..end].iter().all(|seen| *seen));
            prop_assert_eq!(spans.is_whole(), all);
            let again = Spans::of(&spans.spans, spans.end);
            prop_assert_eq!(again.as_ref(), Some(&spans));
        }
    }
}

#[test]
fn the_largest_datagram_in_the_worst_order_fits() {
    // Every second part of 1,280 bytes' worth first.
    let mut spans = Spans::default();
    let parts: Vec<Part> = (0..53_u16).map(|n| part(n * 1_232, 1_232, n < 52)).collect();
    for part in parts.iter().step_by(2).chain(parts.iter().skip(1).step_by(2)) {
        assert_eq!(spans.fit(part), Fit::New);
        spans.add(part);
    }
    assert!(spans.is_whole());
    // Tiny parts with a gap after each are too many.
    let mut spans = Spans::default();
    let fits = (0..40_u16).map(|n| part(n * 16, 8, true)).filter(|part| {
        let fits = spans.fit(part) == Fit::New;
        if fits {
            spans.add(part);
        }
        fits
    });
    assert_eq!(fits.count(), 32);
    assert_eq!(spans.fit(&part(16 * 33, 8, true)), Fit::Scattered);
    assert_eq!(spans.fit(&part(8, 8, true)), Fit::New, "one that fills a gap");
}

fn key(port: u32, id: u32) -> DatagramKey {
    DatagramKey {
        port: PortId(port),
        mac: EthernetAddress([2, 0, 0, 0, 0, 1]),
        src: Ipv4Address::new(10, 0, 0, 1).into(),
        dst: Ipv4Address::new(10, 0, 0, 2).into(),
        protocol: 17,
        id,
    }
}

fn held(len: usize) -> Held {
    Held { bytes: vec![7; len], valid: len.is_multiple_of(2) }
}

fn row(port: u32, id: u32, held: Vec<Held>) -> Datagram {
    Datagram { held, ..Datagram::new(key(port, id), Instant(9)) }
}

fn limits() -> Limits {
    Limits {
        datagrams_max: 8,
        port_datagrams_max: 3,
        held_bytes_max: 10_000,
        port_held_bytes_max: 4_000,
        ..Limits::default()
    }
}

#[test]
fn rows_come_back_and_those_that_cannot_be_do_not() {
    let seen =
        Tuple { src: key(1, 1).src, dst: key(1, 1).dst, src_port: 5, dst_port: 6, protocol: 17 };
    let passage = Passage { seen, out: seen.inverse(), given_back: true };
    let mut passed = Datagram { fate: Fate::Passed(passage), first_len: 8, ..row(1, 2, vec![]) };
    passed.spans.add(&part(0, 8, true));
    for row in [row(1, 1, vec![held(3), held(16), held(0)]), passed.clone()] {
        let mut words = Vec::new();
        words::Words::put(&row, &mut words);
        assert_eq!(words::whole::<Datagram>(&words).as_ref(), Some(&row));
        assert_eq!(words::whole::<Datagram>(&words[..words.len() - 1]), None);
        let mut datagrams = Datagrams::new(1, &limits());
        assert!(datagrams.restore(3, row.clone(), &limits()));
        assert!(!datagrams.restore(4, row, &limits()), "twice");
    }
    let whole = {
        let mut whole = passed.clone();
        whole.spans.add(&part(8, 8, false));
        whole
    };
    for (why, row) in [
        ("too many bytes", row(1, 1, vec![held(4_001)])),
        ("held, and the first has come", Datagram { held: vec![held(1)], ..passed.clone() }),
        ("whole", whole),
        ("a first without a length", Datagram { first_len: 0, ..passed }),
    ] {
        assert!(!Datagrams::new(1, &limits()).restore(0, row, &limits()), "{why}");
    }
    assert!(!Datagrams::new(1, &limits()).restore(8, row(1, 1, vec![]), &limits()), "beyond");
}

#[test]
fn at_its_limit_a_port_gives_up_its_own_that_expires_first() {
    let mut datagrams = Datagrams::new(1, &limits());
    let mut put = |port, id, deadline| {
        let row = Datagram { deadline: Instant(deadline), ..row(port, id, vec![]) };
        assert!(datagrams.take(row, &limits()));
    };
    put(1, 1, 30);
    put(2, 1, 5);
    put(1, 2, 20);
    put(1, 3, 40);
    let room = |datagrams: &Datagrams, port| datagrams.room(&key(port, 9), &limits(), 7);
    assert_eq!(room(&datagrams, 1), Ok(Some((2, DropReason::PortFragmentsFull))));
    assert_eq!(room(&datagrams, 2), Ok(None));
    for (port, id) in [(2, 2), (3, 1), (3, 2), (3, 3)] {
        assert!(datagrams.take(row(port, id, vec![]), &limits()));
    }
    // Full in all: whoever expires first.
    assert_eq!(room(&datagrams, 4), Ok(Some((1, DropReason::FragmentsFull))));
}

#[test]
fn bytes_that_are_held_are_counted_of_the_port_and_in_all() {
    let mut datagrams = Datagrams::new(1, &limits());
    assert!(datagrams.take(row(1, 1, vec![held(3_000)]), &limits()));
    assert_eq!(datagrams.room_to_hold(PortId(1), 1_000, &limits()), Ok(()));
    let full = Err(DropReason::PortFragmentsFull);
    assert_eq!(datagrams.room_to_hold(PortId(1), 1_001, &limits()), full);
    assert!(datagrams.take(row(2, 1, vec![held(4_000)]), &limits()));
    let full = Err(DropReason::FragmentsFull);
    assert_eq!(datagrams.room_to_hold(PortId(3), 3_001, &limits()), full);
    datagrams.end(0, End::Drop(DropReason::FragmentTimeout));
    assert_eq!(datagrams.room_to_hold(PortId(1), 4_000, &limits()), Ok(()));
    datagrams.end(1, End::Drop(DropReason::FragmentTimeout));
    assert!(datagrams.is_empty() && datagrams.shares.is_empty());
    let loose: Vec<usize> = datagrams.loose.iter().map(|loose| loose.frame().len()).collect();
    assert_eq!((loose, datagrams.held_bytes), (vec![3_000, 4_000], 0));
    // Short ones count more than their bytes.
    assert!(datagrams.take(row(1, 1, vec![held(60); 7]), &limits()));
    let full = Err(DropReason::PortFragmentsFull);
    assert_eq!(datagrams.room_to_hold(PortId(1), 60, &limits()), full);
    datagrams.end(0, End::Drop(DropReason::FragmentTimeout));
    assert_eq!((datagrams.held_bytes, datagrams.shares.is_empty()), (0, true));
}

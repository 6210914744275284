//! Laws over any track and any segment.
#![expect(clippy::disallowed_types, reason = "prop_oneof! shares its arms by Arc; no switch here")]

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::words::{Words, whole};

/// Numbers near each other, near where they go round, and any.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![0_u32..200_000, (u32::MAX - 70_000)..=u32::MAX, any::<u32>()]
}

fn pair() -> impl Strategy<Value = [u32; 2]> {
    [number(), number()]
}

fn track() -> impl Strategy<Value = Track> {
    let numbers = (pair(), pair(), pair(), pair());
    let rest = (0..State::ALL.len(), any::<u16>(), any::<u16>(), any::<u8>(), any::<[u8; 2]>());
    let deadline = prop_oneof![1_u64..1_000_000_000_000, Just(u64::MAX - NOW.0)];
    (deadline, numbers, rest).prop_map(|(rest_of, (end, limit, window, acked), rest)| {
        let (state, flags, last, again, scale) = rest;
        let state = State::ALL[state];
        let deadline = Instant(NOW.0 + rest_of);
        Track { deadline, end, limit, window, acked, state, flags, last, again, scale }
    })
}

fn segment() -> impl Strategy<Value = Segment> {
    let tcp = (number(), number(), any::<u16>(), any::<u8>(), number(), any::<[bool; 3]>())
        .prop_flat_map(|(seq, ack, window, flags, len, [scaled, sack_permitted, sacks])| {
            (any::<u8>(), number()).prop_map(move |(scale, right)| Segment::Tcp {
                seq,
                ack,
                window,
                flags,
                len,
                scale: scaled.then_some(scale),
                sack_permitted,
                sacked: sacks.then_some(right),
            })
        });
    let sctp = (number(), 0_u8..20, number(), any::<bool>()).prop_map(
        |(tag, chunk, initiate_tag, reflected)| Segment::Sctp {
            tag,
            chunk,
            initiate_tag,
            reflected,
        },
    );
    prop_oneof![6 => tcp, 3 => sctp, 1 => Just(Segment::Plain)]
}

fn protocol() -> impl Strategy<Value = u8> {
    prop_oneof![Just(1), Just(6), Just(17), Just(58), Just(132), any::<u8>()]
}

fn back(track: &Track) -> Option<Track> {
    let mut words = Vec::new();
    track.put(&mut words);
    whole(&words)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn any_segment_on_any_track(
        track in track(), segment in segment(), side in any::<bool>(), protocol in protocol(),
    ) {
        let side = if side { O } else { R };
        let timeouts = Timeouts::default();
        let result = advance(&track, side, &segment, protocol, NOW, &timeouts);
        // The same once more: nothing but the arguments decides.
        prop_assert_eq!(result, advance(&track, side, &segment, protocol, NOW, &timeouts));
        if let Advance::Keep(next) = result {
            prop_assert!(next.deadline >= NOW);
            prop_assert!(next.deadline <= (NOW + timeouts.established).max(track.deadline));
            prop_assert_eq!(back(&next), Some(next));
        }
    }

    #[test]
    fn any_segment_as_the_first(segment in segment(), protocol in protocol()) {
        let timeouts = Timeouts::default();
        let Some(track) = begin(&segment, protocol, NOW, &timeouts) else { return Ok(()) };
        prop_assert!(track.deadline > NOW);
        prop_assert!(!track.has(flag::ASSURED));
        prop_assert_eq!(back(&track), Some(track));
        // What opens a connection is of it when it comes again.
        if is_opening(&segment) {
            let again = advance(&track, O, &segment, protocol, NOW, &timeouts);
            let Advance::Keep(again) = again else { panic!("{again:?}") };
            prop_assert_eq!(again, track);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// What is kept is always a track that goes on.
    #[test]
    fn any_segments_one_after_the_other(
        first in segment(), rest in prop::collection::vec((any::<bool>(), segment()), 1..40),
    ) {
        let timeouts = Timeouts::default();
        let Some(mut track) = begin(&first, 17, NOW, &timeouts) else { return Ok(()) };
        for (seconds, (side, segment)) in (0..).zip(rest) {
            let side = if side { O } else { R };
            let now = later(seconds);
            if track.deadline <= now {
                break;
            }
            if let Advance::Keep(next) = advance(&track, side, &segment, 17, now, &timeouts) {
                prop_assert!(next.deadline >= now);
                prop_assert!(next.scale.iter().all(|scale| *scale <= 14));
                prop_assert!(next.again <= 3);
                track = next;
            }
        }
    }
}

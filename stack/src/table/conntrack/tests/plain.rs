//! UDP, ICMP and the rest.

use super::*;

const ICMP: u8 = 1;
const UDP: u8 = 17;
const GRE: u8 = 47;
const ICMPV6: u8 = 58;

fn first(protocol: u8) -> Track {
    begin(&Segment::Plain, protocol, NOW, &Timeouts::default()).unwrap()
}

fn next(track: &Track, side: Side, protocol: u8, now: Instant) -> Track {
    kept(advance(track, side, &Segment::Plain, protocol, now, &Timeouts::default()))
}

#[test]
fn each_protocol_has_its_time_outs() {
    let table =
        [(UDP, 30, 120), (ICMP, 30, 30), (ICMPV6, 30, 30), (GRE, 600, 600), (136, 600, 600)];
    for (protocol, before, after) in table {
        let track = first(protocol);
        assert_eq!((track.state, track.deadline), (State::Unreplied, later(before)));
        // The originator alone refreshes (RFC 4787 REQ-6) and is not answered by itself.
        let again = next(&track, O, protocol, later(1));
        assert_eq!(again, Track { deadline: later(1 + before), ..track });
        let answered = next(&track, R, protocol, later(1));
        let expected = Track { state: State::Replied, deadline: later(1 + after), ..track };
        assert_eq!(answered, expected);
        for side in [O, R] {
            let more = next(&answered, side, protocol, later(9));
            assert_eq!((more.state, more.deadline), (State::Replied, later(9 + after)));
        }
    }
}

#[test]
fn an_exchange_is_assured_when_it_goes_on_for_two_seconds() {
    let answered = next(&first(UDP), R, UDP, later(1));
    assert!(!answered.has(flag::ASSURED));
    // A resolver's two questions and two answers.
    let still = next(&next(&answered, O, UDP, later(1)), R, UDP, later(2));
    assert!(!still.has(flag::ASSURED));
    let just = next(&still, O, UDP, Instant(later(2).0 + 1));
    assert!(just.has(flag::ASSURED));
    assert!(next(&just, R, UDP, later(3)).has(flag::ASSURED));
    // A late first answer is a question and its answer still.
    let late = next(&first(UDP), R, UDP, later(20));
    assert!(!late.has(flag::ASSURED));
    assert!(next(&late, O, UDP, later(20)).has(flag::ASSURED));
    // Without an answer it never is, and neither are other protocols.
    assert!(!next(&first(UDP), O, UDP, later(20)).has(flag::ASSURED));
    for protocol in [ICMP, ICMPV6, GRE] {
        let track = next(&next(&first(protocol), R, protocol, later(5)), O, protocol, later(10));
        assert!(!track.has(flag::ASSURED));
        assert_eq!(track.end, [0; 2]);
    }
}

#[test]
fn the_begin_is_remembered_whole() {
    let now = Instant(0x0123_4567_89ab_cdef);
    let track = begin(&Segment::Plain, UDP, now, &Timeouts::default()).unwrap();
    assert_eq!(track.end, [0x89ab_cdef, 0x0123_4567]);
    let answered = next(&track, R, UDP, now);
    let two = now + Duration::from_secs(2);
    assert!(!next(&answered, R, UDP, two).has(flag::ASSURED));
    assert!(next(&answered, R, UDP, Instant(two.0 + 1)).has(flag::ASSURED));
}

#[test]
fn what_cannot_be_read_is_of_no_connection() {
    let plain = |track: &Track, protocol| {
        advance(track, O, &Segment::Plain, protocol, NOW, &Timeouts::default())
    };
    for protocol in [6, 132] {
        assert_eq!(begin(&Segment::Plain, protocol, NOW, &Timeouts::default()), None);
    }
    assert_eq!(plain(&Talk::open().track, TCP), Advance::Invalid);
    // Nor is a segment of another protocol.
    let udp = first(UDP);
    let segments = [
        tcp(SYN, 1, 0),
        tcp(ACK, 1, 1),
        tcp(RST, 1, 1),
        Segment::Sctp { tag: 1, chunk: 0, initiate_tag: 0, reflected: false },
        Segment::Sctp { tag: 0, chunk: 1, initiate_tag: 1, reflected: false },
    ];
    for segment in segments {
        let judged = advance(&udp, R, &segment, UDP, NOW, &Timeouts::default());
        assert_eq!(judged, Advance::Invalid, "{segment:?}");
    }
}

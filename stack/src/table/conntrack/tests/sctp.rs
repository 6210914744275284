//! SCTP: handshake, teardown, tags.

use super::*;

const SCTP: u8 = 132;
/// Tags that the packets of each side bear.
const O_BEARS: u32 = 0xaaaa_0001;
const R_BEARS: u32 = 0xbbbb_0002;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
const UNSEEN: u8 = 255;

fn chunk(chunk: u8, tag: u32) -> Segment {
    Segment::Sctp { tag, chunk, initiate_tag: 0, reflected: false }
}

fn init(chunk: u8, tag: u32, initiate_tag: u32) -> Segment {
    Segment::Sctp { tag, chunk, initiate_tag, reflected: false }
}

fn reflected(chunk: u8, tag: u32) -> Segment {
    Segment::Sctp { tag, chunk, initiate_tag: 0, reflected: true }
}

fn judge(track: &Track, side: Side, segment: &Segment, seconds: u64) -> Advance {
    advance(track, side, segment, SCTP, later(seconds), &Timeouts::default())
}

fn say(track: &mut Track, side: Side, segment: &Segment, seconds: u64) -> (State, Instant) {
    *track = kept(judge(track, side, segment, seconds));
    (track.state, track.deadline)
}

fn first(segment: &Segment) -> Option<Track> {
    begin(segment, SCTP, NOW, &Timeouts::default())
}

fn opening() -> Track {
    first(&init(INIT, 0, R_BEARS)).unwrap()
}

fn open() -> Track {
    let mut track = opening();
    say(&mut track, R, &init(INIT_ACK, R_BEARS, O_BEARS), 0);
    say(&mut track, O, &chunk(COOKIE_ECHO, O_BEARS), 0);
    say(&mut track, R, &chunk(COOKIE_ACK, R_BEARS), 0);
    assert_eq!(track.state, State::SctpEstablished);
    track
}

#[test]
fn a_handshake_and_a_shutdown() {
    let mut track = opening();
    assert_eq!((track.state, track.deadline), (State::SctpOpening, later(60)));
    assert_eq!(track.end, [0, R_BEARS]);
    let steps = [
        (R, init(INIT_ACK, R_BEARS, O_BEARS), State::SctpOpening, 60),
        (O, chunk(COOKIE_ECHO, O_BEARS), State::SctpOpening, 60),
        (R, chunk(COOKIE_ACK, R_BEARS), State::SctpEstablished, 86_400),
        (O, chunk(DATA, O_BEARS), State::SctpEstablished, 86_400),
        (R, chunk(SACK, R_BEARS), State::SctpEstablished, 86_400),
        (R, chunk(UNSEEN, R_BEARS), State::SctpEstablished, 86_400),
        (O, chunk(SHUTDOWN, O_BEARS), State::SctpClosing, 60),
        (R, chunk(DATA, R_BEARS), State::SctpClosing, 60),
        (R, chunk(SHUTDOWN_ACK, R_BEARS), State::SctpClosing, 60),
        (O, chunk(SHUTDOWN_COMPLETE, O_BEARS), State::Close, 10),
    ];
    for (number, (side, segment, state, seconds)) in (1..).zip(steps) {
        let expected = (state, later(number + seconds));
        assert_eq!(say(&mut track, side, &segment, number), expected, "{segment:?}");
    }
    assert_eq!(track.end, [O_BEARS, R_BEARS]);
    assert!(track.has(flag::ASSURED) && !track.has(flag::LIBERAL));
    // Over: an INIT is another association, by whichever side.
    for side in [O, R] {
        assert_eq!(judge(&track, side, &init(INIT, 0, 7), 20), Advance::Reopen);
    }
}

#[test]
fn a_wrong_tag_is_invalid() {
    let wrong = 0xdead_beef;
    let all = (0..=UNSEEN).filter(|kind| *kind != INIT);
    for kind in all {
        let mut track = open();
        for tag in [wrong, 0, R_BEARS] {
            assert_eq!(judge(&track, O, &chunk(kind, tag), 1), Advance::Invalid, "{kind} {tag:x}");
        }
        track.state = State::SctpClosing;
        assert_eq!(judge(&track, R, &chunk(kind, wrong), 1), Advance::Invalid, "{kind}");
    }
    // While it opens, the answer must bear what the INIT said, and an INIT nothing.
    let track = opening();
    assert_eq!(judge(&track, R, &init(INIT_ACK, wrong, O_BEARS), 1), Advance::Invalid);
    assert_eq!(judge(&track, R, &init(INIT_ACK, R_BEARS, 0), 1), Advance::Invalid);
    assert_eq!(judge(&track, O, &chunk(COOKIE_ECHO, 0), 1), Advance::Invalid);
    assert_eq!(judge(&track, O, &init(INIT, R_BEARS, 5), 1), Advance::Invalid);
    assert_eq!(judge(&track, O, &init(INIT, 0, 0), 1), Advance::Invalid);
}

#[test]
fn an_abort_ends_it() {
    for (side, tag) in [(O, O_BEARS), (R, R_BEARS)] {
        let mut track = open();
        let ended = say(&mut track, side, &chunk(ABORT, tag), 5);
        assert_eq!(ended, (State::Close, later(15)));
    }
    // With the T bit the tag is the other side's.
    for (side, tag) in [(O, R_BEARS), (R, O_BEARS)] {
        for kind in [ABORT, SHUTDOWN_COMPLETE] {
            let mut track = open();
            assert_eq!(say(&mut track, side, &reflected(kind, tag), 5).0, State::Close);
            let own = judge(
                &open(),
                side,
                &reflected(kind, if side == O { O_BEARS } else { R_BEARS }),
                5,
            );
            assert_eq!(own, Advance::Invalid);
            assert_eq!(judge(&open(), side, &chunk(kind, tag), 5), Advance::Invalid);
        }
    }
    // What is not known is no tag.
    assert_eq!(judge(&opening(), O, &chunk(ABORT, 0), 1), Advance::Invalid);
    // Refused.
    let mut track = opening();
    assert_eq!(say(&mut track, R, &chunk(ABORT, R_BEARS), 1), (State::Close, later(11)));
}

#[test]
fn an_init_again_does_not_prolong_and_may_be_by_both() {
    let mut track = opening();
    assert_eq!(say(&mut track, O, &init(INIT, 0, R_BEARS), 30), (State::SctpOpening, later(60)));
    assert_eq!(track, opening());
    say(&mut track, O, &init(INIT, 0, 77), 30);
    assert_eq!(track.end, [0, 77]);
    // Collision (RFC 9260 section 5.2.1): each keeps its tag.
    let mut both = opening();
    say(&mut both, R, &init(INIT, 0, O_BEARS), 1);
    say(&mut both, O, &init(INIT_ACK, O_BEARS, R_BEARS), 1);
    say(&mut both, R, &init(INIT_ACK, R_BEARS, O_BEARS), 1);
    say(&mut both, R, &chunk(COOKIE_ECHO, R_BEARS), 1);
    assert_eq!(say(&mut both, O, &chunk(COOKIE_ACK, O_BEARS), 1).0, State::SctpEstablished);
    assert_eq!(both.end, [O_BEARS, R_BEARS]);
    // A cookie that nobody was given opens nothing.
    let mut early = opening();
    assert_eq!(say(&mut early, R, &chunk(COOKIE_ACK, R_BEARS), 1).0, State::SctpOpening);
}

#[test]
fn a_restart_replaces_the_tags_when_its_cookie_is_back() {
    for state in [State::SctpEstablished, State::SctpClosing] {
        let mut track = Track { state, ..open() };
        let deadline = track.deadline;
        let kept = (state, deadline);
        assert_eq!(say(&mut track, O, &init(INIT, 0, 77), 1), kept);
        assert_eq!(track.end, [O_BEARS, R_BEARS]);
        // The old association lives as long as it has not come back.
        let mut old = track;
        say(&mut old, O, &chunk(DATA, O_BEARS), 1);
        say(&mut old, R, &chunk(DATA, R_BEARS), 1);
        assert_eq!(judge(&old, R, &chunk(DATA, 77), 1), Advance::Invalid);
        assert_eq!(judge(&old, R, &chunk(COOKIE_ACK, 77), 1), Advance::Invalid);
        // The responder may refuse, and the old one lives.
        assert_eq!(judge(&track, R, &chunk(ABORT, 77), 1), Advance::Ignored);
        assert_eq!(judge(&track, R, &chunk(SHUTDOWN_COMPLETE, 77), 1), Advance::Invalid);
        assert_eq!(say(&mut track, R, &init(INIT_ACK, 77, 88), 1), kept);
        assert_eq!(say(&mut track, O, &chunk(COOKIE_ECHO, 88), 1), kept);
        assert_eq!(track.end, [O_BEARS, R_BEARS]);
        let open = say(&mut track, R, &chunk(COOKIE_ACK, 77), 1);
        assert_eq!(open, (State::SctpEstablished, later(86_401)));
        assert_eq!((track.end, track.limit), ([88, 77], [0, 0]));
        assert_eq!(judge(&track, O, &chunk(DATA, O_BEARS), 1), Advance::Invalid);
    }
}

#[test]
fn an_association_is_taken_up_by_what_is_said_amid_it() {
    for kind in [DATA, SACK, HEARTBEAT, HEARTBEAT_ACK, 64] {
        let mut track = first(&chunk(kind, O_BEARS)).unwrap();
        assert_eq!((track.state, track.deadline), (State::SctpEstablished, later(60)));
        assert!(track.has(flag::LIBERAL) && !track.has(flag::ASSURED));
        assert_eq!(judge(&track, O, &chunk(DATA, 5), 1), Advance::Invalid);
        assert_eq!(judge(&track, R, &chunk(DATA, 0), 1), Advance::Invalid);
        // Whose tag is not known yet may end it, or not.
        assert_eq!(judge(&track, R, &chunk(ABORT, R_BEARS), 1), Advance::Ignored);
        let answered = say(&mut track, R, &chunk(HEARTBEAT_ACK, R_BEARS), 1);
        assert_eq!(answered, (State::SctpEstablished, later(86_401)));
        assert_eq!(track.end, [O_BEARS, R_BEARS]);
        assert!(track.has(flag::ASSURED));
        assert_eq!(judge(&track, R, &chunk(DATA, 5), 1), Advance::Invalid);
        assert_eq!(first(&chunk(kind, 0)), None);
    }
}

#[test]
fn what_was_taken_up_is_known_whole_after_a_restart() {
    let mut track = first(&chunk(DATA, O_BEARS)).unwrap();
    say(&mut track, O, &init(INIT, 0, 77), 1);
    say(&mut track, R, &init(INIT_ACK, 77, 88), 1);
    say(&mut track, R, &chunk(COOKIE_ACK, 77), 1);
    assert_eq!(track.end, [88, 77]);
    assert!(track.has(flag::ASSURED) && !track.has(flag::LIBERAL));
}

#[test]
fn nothing_else_begins_one() {
    let amid = [DATA, SACK, HEARTBEAT, HEARTBEAT_ACK, 64];
    for kind in (0..=UNSEEN).filter(|kind| !amid.contains(kind)) {
        assert_eq!(first(&init(kind, O_BEARS, 9)), None, "{kind}");
        assert_eq!(first(&init(kind, 0, 0)), None, "{kind}");
    }
}

#[test]
fn an_older_association_may_end_while_one_opens() {
    // RFC 9260 section 8.5.1, E: the side that opens answers with what it was sent.
    let track = opening();
    assert_eq!(judge(&track, R, &chunk(SHUTDOWN_ACK, 9), 1), Advance::Ignored);
    assert_eq!(judge(&track, O, &reflected(SHUTDOWN_COMPLETE, 9), 1), Advance::Ignored);
    assert_eq!(judge(&track, O, &chunk(SHUTDOWN_COMPLETE, 9), 1), Advance::Invalid);
    assert_eq!(judge(&track, R, &chunk(SHUTDOWN, 9), 1), Advance::Invalid);
}

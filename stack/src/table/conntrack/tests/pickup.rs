//! Connections that are taken up amid their stream.

use super::*;

fn picked_up() -> Talk {
    Talk::begin(&window(data(ACK | PSH, 40_000, 90_000, 100), 50))
}

#[test]
fn an_acknowledgment_takes_a_connection_up() {
    let talk = picked_up();
    let expected = Track {
        deadline: later(300),
        end: [40_100, 90_000],
        limit: [40_150, 90_050],
        window: [50, 0],
        acked: [90_000, 0],
        state: State::Established,
        flags: flag::LIBERAL | flag::SACK | R.flag(flag::SACK) | flag::ACKED,
        last: talk.track.last,
        again: 0,
        scale: [0; 2],
    };
    assert_eq!(talk.track, expected);
    let closed = Talk::begin(&window(tcp(ACK, 1, 1), 0)).track;
    assert_eq!((closed.window, closed.limit), ([1, 0], [2, 2]));
    assert!(closed.has(flag::ZERO_WINDOW));
}

#[test]
fn nothing_else_takes_one_up() {
    for flags in [RST, RST | ACK, SYN | ACK, FIN, FIN | ACK, FIN | ACK | PSH, 0, PSH] {
        assert_eq!(begin(&tcp(flags, 1, 1), TCP, NOW, &Timeouts::default()), None, "{flags:#x}");
    }
}

#[test]
fn openings_are_told_from_the_rest() {
    for (flags, expected) in
        [(SYN, true), (SYN | PSH, true), (SYN | ACK, false), (ACK, false), (SYN | FIN, false)]
    {
        assert_eq!(is_opening(&tcp(flags, 1, 0)), expected, "{flags:#x}");
    }
    assert!(is_opening(&Segment::Plain));
    for (chunk, expected) in [(1, true), (2, false), (0, false), (10, false)] {
        let segment = Segment::Sctp { tag: 0, chunk, initiate_tag: 7, reflected: false };
        assert_eq!(is_opening(&segment), expected, "chunk {chunk}");
    }
}

#[test]
fn it_is_assured_when_the_other_side_has_answered() {
    let mut talk = picked_up();
    talk.wait(10).say(O, &data(ACK, 40_100, 90_000, 10), State::Established);
    assert_eq!((talk.rest(), talk.track.has(flag::ASSURED)), (300, false));
    talk.wait(10).say(R, &tcp(ACK, 90_000, 40_110), State::Established);
    assert_eq!((talk.rest(), talk.track.has(flag::ASSURED)), (300, false));
    talk.wait(10).say(O, &tcp(ACK, 40_110, 90_000), State::Established);
    assert_eq!((talk.rest(), talk.track.has(flag::ASSURED)), (86_400, true));
}

#[test]
fn its_windows_are_followed_and_not_judged() {
    let mut talk = picked_up();
    // Scales are not known, so both sides seem to send far beyond.
    talk.say(R, &window(data(ACK, 90_000, 40_100, 60_000), 20), State::Established);
    talk.say(R, &data(ACK, 250_000, 40_100, 60_000), State::Established);
    assert_eq!(talk.track.end, [40_100, 310_000]);
    talk.say(O, &data(ACK, 900_000, 310_000, 5), State::Established);
    assert_eq!(talk.track.end, [900_005, 310_000]);
    assert_eq!(talk.track.acked, [310_000, 40_100]);
    // Acknowledged though we did not see it sent.
    talk.say(R, &tcp(ACK, 310_000, 1_000_000), State::Established);
    assert_eq!(talk.track.end, [1_000_000, 310_000]);
    // And far behind.
    talk.say(O, &tcp(ACK, 5, 7), State::Established);
    assert_eq!(talk.track.end, [1_000_000, 310_000]);
    assert_eq!(talk.track.acked, [310_000, 1_000_000]);
    // It closes like any other.
    talk.say(O, &tcp(FIN | ACK, 1_000_000, 310_000), State::FinWait);
    talk.say(R, &tcp(ACK, 310_000, 1_000_001), State::CloseWait);
    talk.say(R, &tcp(FIN | ACK, 310_000, 1_000_001), State::LastAck);
    talk.say(O, &tcp(ACK, 1_000_001, 310_001), State::TimeWait);
}

#[test]
fn a_reset_is_judged_even_so() {
    let mut talk = picked_up();
    // Of what nobody has answered yet nothing is worth keeping.
    talk.clone().say(R, &tcp(RST, 95_000, 0), State::Close);
    talk.say(R, &tcp(ACK, 90_000, 40_100), State::Established);
    talk.say(O, &tcp(ACK, 40_100, 90_000), State::Established);
    assert_eq!(talk.judge(R, &tcp(RST, 89_999, 0)), Advance::Invalid);
    let mut guessed = talk.clone();
    guessed.say(R, &tcp(RST, 500_000, 0), State::Established);
    assert_eq!(guessed.rest(), 10);
    talk.say(R, &tcp(RST, 90_000, 0), State::Close);
}

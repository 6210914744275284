//! Which resets end a connection (RFC 9293 section 3.10.7.3, RFC 5961 section 3).

use super::*;

/// Open; the originator has sent 100 bytes that are not acknowledged yet.
fn in_flight() -> Talk {
    let mut talk = Talk::open();
    talk.say(R, &tcp(ACK, 5_001, 1_001), State::Established);
    talk.say(O, &data(ACK, 1_001, 5_001, 100), State::Established);
    talk
}

#[test]
fn the_exact_number_ends_it() {
    // What the responder expects, and what follows on all that was sent.
    for seq in [1_001, 1_101] {
        let mut talk = in_flight();
        let before = talk.track;
        talk.wait(3).say(O, &tcp(RST, seq, 0), State::Close);
        let expected = Track { state: State::Close, deadline: later(13), ..before };
        assert_eq!(talk.track, expected, "nothing else changes");
    }
    let mut talk = in_flight();
    talk.say(R, &tcp(RST | ACK, 5_001, 1_101), State::Close);
    // Whatever follows passes, and is not kept for longer.
    talk.wait(1).say(O, &tcp(ACK, 1_101, 5_001), State::Close);
    assert_eq!(talk.rest(), 10);
    talk.say(O, &tcp(RST, 1_101, 0), State::Close);
}

#[test]
fn a_guess_within_the_window_ends_nothing() {
    for seq in [1_002, 1_100, 1_102, 11_001] {
        let mut talk = in_flight();
        let before = talk.track;
        talk.wait(3).say(O, &tcp(RST, seq, 0), State::Established);
        // Kept for a little, in case it was right and nothing more comes.
        assert_eq!(talk.track, Track { deadline: later(13), ..before });
        // RFC 5961: the host asks back, and the connection is what it was.
        talk.say(R, &tcp(ACK, 5_001, 1_101), State::Established);
        assert_eq!(talk.rest(), 86_400);
        // The answer to that, when it was right.
        talk.say(O, &tcp(RST, 1_101, 0), State::Close);
    }
}

#[test]
fn a_guess_never_prolongs() {
    let mut talk = in_flight();
    talk.track.deadline = later(4);
    talk.say(O, &tcp(RST, 1_002, 0), State::Established);
    assert_eq!(talk.rest(), 4);
}

#[test]
fn what_lies_elsewhere_is_none() {
    let talk = in_flight();
    assert_eq!(talk.judge(O, &tcp(RST, 1_000, 0)), Advance::Invalid);
    assert_eq!(talk.judge(O, &tcp(RST, 0, 0)), Advance::Invalid);
    assert_eq!(talk.judge(O, &tcp(RST, 30_000, 0)), Advance::Invalid);
    // A little above the window: the host will know.
    assert_eq!(talk.judge(O, &tcp(RST, 11_002, 0)), Advance::Ignored);
    // What it acknowledges was not sent, or long ago.
    assert_eq!(talk.judge(O, &tcp(RST | ACK, 1_101, 5_002)), Advance::Invalid);
    let old = 5_001_u32.wrapping_sub(70_000);
    assert_eq!(talk.judge(O, &tcp(RST | ACK, 1_101, old)), Advance::Ignored);
    // Broken stacks set ACK and acknowledge nothing.
    let mut far = talk;
    far.track.end[1] = 3_000_000_000;
    assert_eq!(far.judge(O, &tcp(RST | ACK, 1_101, 1)), Advance::Invalid);
    far.say(O, &tcp(RST | ACK, 1_101, 0), State::Close);
}

#[test]
fn before_it_is_assured_the_window_is_enough() {
    let mut talk = Talk::syn();
    talk.say(R, &tcp(SYN | ACK, 5_000, 1_001), State::SynReceived);
    assert_eq!(talk.judge(O, &tcp(RST, 1_000, 0)), Advance::Invalid);
    assert_eq!(talk.judge(O, &tcp(RST, 50_000, 0)), Advance::Invalid);
    talk.clone().say(O, &tcp(RST, 1_005, 0), State::Close);
    talk.clone().say(R, &tcp(RST, 5_001, 0), State::Close);
    talk.say(O, &tcp(RST, 1_001, 0), State::Close);
}

#[test]
fn a_refusal_must_acknowledge_the_syn() {
    let talk = Talk::syn();
    let mut refused = talk.clone();
    refused.say(R, &tcp(RST | ACK, 0, 1_001), State::Close);
    assert_eq!(refused.rest(), 10);
    // Some refuse with a number of their own, some acknowledge nothing.
    talk.clone().say(R, &tcp(RST | ACK, 3_000_000_000, 1_001), State::Close);
    talk.clone().say(R, &tcp(RST | ACK, 0, 0), State::Close);
    assert_eq!(talk.judge(R, &tcp(RST | ACK, 0, 1_002)), Advance::Invalid);
    let old = 1_001_u32.wrapping_sub(66_001);
    assert_eq!(talk.judge(R, &tcp(RST | ACK, 0, old)), Advance::Ignored);
    assert_eq!(talk.judge(R, &tcp(RST, 0, 0)), Advance::Ignored);
    // The originator may give up.
    talk.clone().say(O, &tcp(RST, 1_000, 0), State::Close);
}

#[test]
fn an_older_connection_of_the_responder_is_reset() {
    // RFC 9293 figure 9: the responder knows of another connection and says so.
    let mut talk = Talk::syn();
    talk.remember(R, &tcp(ACK, 80_000, 40_000));
    // The originator answers with the number it was told.
    let mut reset = talk.clone();
    reset.say(O, &tcp(RST, 40_000, 0), State::Close);
    assert_eq!(reset.judge(O, &tcp(SYN, 1_000, 0)), Advance::Reopen);
    talk.clone().say(O, &tcp(RST | ACK, 500_000, 80_000), State::Close);
    assert_eq!(talk.judge(O, &tcp(RST, 500_000, 80_000)), Advance::Invalid);
    // By a SYN instead, nothing of it is left.
    let crossed = talk.clone().say(R, &tcp(SYN, 5_000, 0), State::SynSent2).track;
    assert!(!crossed.has(R.flag(flag::ACKED)) && crossed.acked == [0; 2]);
    // Without a reset it opens all the same.
    talk.say(R, &tcp(SYN | ACK, 5_000, 1_001), State::SynReceived);
    assert_eq!(talk.track.acked, [0, 1_001]);
    assert!(!talk.track.has(flag::ACKED));
    // Nothing was told here: 40,000 lies beyond what it may send.
    assert_eq!(Talk::syn().judge(O, &tcp(RST, 40_000, 0)), Advance::Invalid);
}

#[test]
fn an_ignored_syn_is_refused() {
    let mut talk = in_flight();
    talk.remember(O, &tcp(SYN, 700_000, 0));
    assert!(!talk.track.has(O.flag(flag::ACKED) | R.flag(flag::ACKED)));
    // The old connection may be reset by what is in its window.
    talk.clone().say(R, &tcp(RST, 5_001, 0), State::Close);
    talk.clone().say(O, &tcp(RST, 1_050, 0), State::Close);
    assert_eq!(talk.judge(R, &tcp(RST | ACK, 0, 700_002)), Advance::Invalid);
    let mut ended = talk.clone();
    ended.say(R, &tcp(RST | ACK, 0, 700_001), State::Close);
    assert!(!ended.track.has(flag::SYN_IGNORED));
    assert_eq!(ended.track.acked, [0; 2]);
    // It is the responder who refuses.
    assert_eq!(talk.judge(O, &tcp(RST | ACK, 0, 700_001)), Advance::Invalid);
}

#[test]
fn a_closing_connection_ends_by_what_fits_and_passes_what_does_not() {
    let mut talk = in_flight();
    talk.say(R, &tcp(FIN | ACK, 5_001, 1_101), State::FinWait);
    let mut half = talk.clone();
    half.say(O, &tcp(ACK, 1_101, 5_002), State::CloseWait);
    for talk in [talk, half] {
        for seq in [0, 1_000, 1_100, 30_000, 1 << 31] {
            assert_eq!(talk.judge(O, &tcp(RST, seq, 0)), Advance::Ignored, "{seq}");
        }
        talk.clone().say(O, &tcp(RST, 1_101, 0), State::Close);
        talk.clone().say(R, &tcp(RST, 5_002, 0), State::Close);
    }
}

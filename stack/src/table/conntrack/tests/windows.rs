//! What lies in the windows and what does not, to the byte.

use super::*;

/// An open connection in which the originator sent up to 200,000 and the responder up to 300,000,
/// all acknowledged, each with a window of 10,000.
fn spoken() -> Talk {
    let mut talk = Talk::open();
    talk.track.end = [200_000, 300_000];
    talk.track.limit = [210_000, 310_000];
    talk.track.acked = [300_000, 200_000];
    talk
}

#[test]
fn the_upper_bound_of_data() {
    let talk = spoken();
    let mut last = talk.clone();
    last.say(O, &data(ACK, 210_000, 300_000, 1), State::Established);
    assert_eq!(last.track.end[0], 210_001);
    assert_eq!(last.track.window, [10_000, 10_001], "the responder takes more than it said");
    // One more: let through, and its acknowledgment will be right.
    let mut over = talk.clone();
    over.wait(7).remember(O, &data(ACK, 210_001, 300_000, 1));
    let expected = Track { end: [210_002, 300_000], ..talk.track };
    assert_eq!(over.track, expected);
    over.say(R, &tcp(ACK, 300_000, 210_002), State::Established);
    // By more than another window: end - limit + 1 is 10,001.
    assert!(matches!(talk.judge(O, &data(ACK, 210_001, 300_000, 9_998)), Advance::Keep(_)));
    assert_eq!(talk.judge(O, &data(ACK, 210_001, 300_000, 10_000)), Advance::Invalid);
    assert_eq!(talk.judge(O, &tcp(ACK, 220_000, 300_000)), Advance::Invalid);
    assert_eq!(talk.judge(O, &tcp(ACK, 1 << 31, 300_000)), Advance::Invalid);
    // And only if all else is right.
    assert_eq!(talk.judge(O, &data(ACK, 210_001, 300_001, 1)), Advance::Invalid);
    assert_eq!(talk.judge(O, &data(ACK, 210_001, 233_999, 1)), Advance::Invalid);
    let mut ahead = talk;
    ahead.track.end[0] = 220_003;
    assert_eq!(ahead.judge(O, &data(ACK, 210_001, 300_000, 1)), Advance::Invalid);
    assert!(matches!(ahead.judge(O, &data(ACK, 210_001, 300_000, 2)), Advance::Keep(_)));
}

#[test]
fn the_lower_bound_of_data() {
    let talk = spoken();
    let mut oldest = talk.clone();
    oldest.say(O, &data(ACK, 189_000, 300_000, 1_000), State::Established);
    assert_eq!(oldest.track.end[0], 200_000);
    assert_eq!(talk.judge(O, &data(ACK, 189_000, 300_000, 999)), Advance::Ignored);
    assert_eq!(talk.judge(O, &tcp(ACK, 0, 300_000)), Advance::Ignored);
}

#[test]
fn the_bounds_of_acknowledgments() {
    let talk = spoken();
    assert!(matches!(talk.judge(O, &tcp(ACK, 200_000, 300_000)), Advance::Keep(_)));
    assert_eq!(talk.judge(O, &tcp(ACK, 200_000, 300_001)), Advance::Invalid);
    // 66,000 back at least, or what the sender takes at most.
    assert!(matches!(talk.judge(O, &tcp(ACK, 200_000, 234_000)), Advance::Keep(_)));
    assert_eq!(talk.judge(O, &tcp(ACK, 200_000, 233_999)), Advance::Ignored);
    let mut wide = talk;
    wide.track.window[0] = 100_000;
    assert!(matches!(wide.judge(O, &tcp(ACK, 200_000, 200_000)), Advance::Keep(_)));
    assert_eq!(wide.judge(O, &tcp(ACK, 200_000, 199_999)), Advance::Ignored);
}

#[test]
fn an_old_acknowledgment_moves_nothing_back() {
    let mut talk = spoken();
    let before = talk.track;
    talk.say(O, &window(tcp(ACK, 199_000, 299_000), 3), State::Established);
    let after = Track { last: talk.track.last, deadline: talk.track.deadline, ..before };
    assert_eq!(talk.track, after);
}

#[test]
fn numbers_go_round() {
    let first = u32::MAX - 20;
    let mut talk = Talk::begin(&tcp(SYN, first, 0));
    talk.say(R, &tcp(SYN | ACK, u32::MAX, first + 1), State::SynReceived);
    assert_eq!(talk.track.end, [first + 1, 0]);
    talk.say(O, &tcp(ACK, first + 1, 0), State::Established);
    talk.say(O, &data(ACK, first + 1, 0, 1_000), State::Established);
    assert_eq!(talk.track.end[0], 980);
    talk.say(R, &tcp(ACK, 0, 980), State::Established);
    assert_eq!(talk.track.limit[0], 10_980);
    assert_eq!(talk.judge(R, &tcp(ACK, 0, 981)), Advance::Invalid);
    talk.say(O, &data(ACK, first + 1, 0, 1_000), State::Established);
}

#[test]
fn windows_are_scaled_when_both_offered_it() {
    let scaled = |mine: Option<u8>, theirs: Option<u8>| {
        let offer = |segment, scale: Option<u8>| match scale {
            Some(scale) => offering(segment, scale),
            None => segment,
        };
        let syn = offer(tcp(SYN, O_FIRST, 0), mine);
        let mut talk = Talk::with(&syn, &offer(tcp(SYN | ACK, R_FIRST, O_FIRST + 1), theirs));
        talk.say(R, &window(tcp(ACK, R_FIRST + 1, O_FIRST + 1), 20), State::Established);
        talk.say(O, &window(tcp(ACK, O_FIRST + 1, R_FIRST + 1), 30), State::Established);
        talk.track
    };
    let both = scaled(Some(5), Some(11));
    assert_eq!(both.scale, [5, 11]);
    // The SYN/ACK's own window is not scaled; the handshake's last one is.
    assert_eq!(both.window, [u32::from(WINDOW) << 5, 20 << 11]);
    assert_eq!(both.limit, [1_001 + (20 << 11), 5_001 + (u32::from(WINDOW) << 5)]);
    for (mine, theirs) in [(Some(5), None), (None, Some(11)), (None, None)] {
        let none = scaled(mine, theirs);
        assert_eq!(none.scale, [0, 0]);
        assert_eq!(none.window, [u32::from(WINDOW); 2]);
    }
    // Zero is an offer too; more than 14 is 14.
    assert_eq!(scaled(Some(0), Some(11)).scale, [0, 11]);
    assert_eq!(scaled(Some(255), Some(11)).scale, [14, 11]);
}

#[test]
fn selective_acknowledgments_count_when_they_are_permitted() {
    let mut talk = spoken();
    talk.track.end[1] = 308_000;
    let sack = window(sacking(tcp(ACK, 200_000, 300_000), 306_000), 10_000);
    let mut without = talk.clone();
    without.say(O, &sack, State::Established);
    assert_eq!((without.track.limit[1], without.track.window[0]), (310_000, 10_000));
    // It is the receiver of the blocks who permits them.
    talk.track.set(R.flag(flag::SACK), true);
    talk.say(O, &sack, State::Established);
    assert_eq!((talk.track.limit[1], talk.track.window[0]), (316_000, 16_000));
    assert_eq!(talk.track.acked[0], 300_000);
    let wrong = sacking(tcp(ACK, 200_000, 300_000), 308_001);
    assert_eq!(talk.judge(O, &wrong), Advance::Invalid);
}

#[test]
fn keep_alives_and_probes_of_a_closed_window_fit() {
    for len in [0, 1] {
        let mut talk = spoken();
        talk.say(O, &data(ACK, 199_999, 300_000, len), State::Established);
        assert_eq!(talk.track.end, [200_000, 300_000]);
        talk.say(R, &tcp(ACK, 300_000, 200_000), State::Established);
    }
    let mut talk = spoken();
    talk.track.limit[0] = 200_000;
    talk.say(R, &window(tcp(ACK, 300_000, 200_000), 0), State::Established);
    assert_eq!(talk.track.limit[0], 200_001, "one byte may be tried");
    talk.say(O, &data(ACK, 200_000, 300_000, 1), State::Established);
    talk.say(R, &window(tcp(ACK, 300_000, 200_000), 0), State::Established);
    talk.say(O, &data(ACK, 200_000, 300_000, 1), State::Established);
    talk.say(R, &tcp(ACK, 300_000, 200_001), State::Established);
}

#[test]
fn super_frames_fit_where_their_begin_does() {
    let mut talk = spoken();
    talk.say(O, &data(ACK, 200_000, 300_000, 65_480), State::Established);
    assert_eq!(talk.track.end[0], 265_480);
    assert_eq!(talk.track.window[1], 10_000 + 55_480);
    // So its last segment alone may be sent again, and all of it be acknowledged.
    talk.say(O, &data(ACK, 264_000, 300_000, 1_480), State::Established);
    talk.say(O, &data(ACK, 200_000, 300_000, 1_480), State::Established);
    talk.say(R, &tcp(ACK, 300_000, 265_480), State::Established);
    assert_eq!(talk.rest(), 86_400);
}

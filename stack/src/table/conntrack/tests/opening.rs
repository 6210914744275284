//! How connections open, also when both sides do or one of them does it again.

use super::*;

#[test]
fn a_handshake_field_by_field() {
    let mut talk = Talk::begin(&window(offering(tcp(SYN, 1_000, 0), 7), 0));
    let syn = Track {
        deadline: later(120),
        end: [1_001, 0],
        limit: [1_001, 0],
        window: [1, 0],
        acked: [0; 2],
        state: State::SynSent,
        flags: O.flag(flag::SCALE) | O.flag(flag::SACK),
        last: 0,
        again: 0,
        scale: [7, 0],
    };
    assert_eq!(talk.track, syn);

    let answer = window(offering(tcp(SYN | ACK, 5_000, 1_001), 3), 900);
    talk.wait(1).say(R, &answer, State::SynReceived);
    let options = flag::SCALE | R.flag(flag::SCALE) | flag::SACK | R.flag(flag::SACK);
    let answered = Track {
        deadline: later(61),
        end: [1_001, 5_001],
        limit: [1_901, 5_001],
        window: [1, 900],
        acked: [0, 1_001],
        state: State::SynReceived,
        flags: options | R.flag(flag::ACKED),
        scale: [7, 3],
        ..syn
    };
    assert_eq!(talk.track, answered);

    talk.wait(1).say(O, &window(tcp(ACK, 1_001, 5_001), 10), State::Established);
    let open = Track {
        deadline: later(86_402),
        limit: [1_901, 5_001 + (10 << 7)],
        window: [10 << 7, 900],
        acked: [5_001, 1_001],
        state: State::Established,
        flags: options | flag::ACKED | R.flag(flag::ACKED) | flag::ASSURED,
        last: talk.track.last,
        ..answered
    };
    assert_eq!(talk.track, open);
    assert_ne!(open.last, 0);
}

#[test]
fn data_in_a_syn_count() {
    let mut talk = Talk::begin(&data(SYN, 1_000, 0, 400));
    assert_eq!(talk.track.end, [1_401, 0]);
    // The responder may take them or not.
    let without = talk.clone().say(R, &tcp(SYN | ACK, 5_000, 1_001), State::SynReceived).track;
    talk.say(R, &tcp(SYN | ACK, 5_000, 1_401), State::SynReceived);
    assert_eq!((without.acked[1], talk.track.acked[1]), (1_001, 1_401));
}

#[test]
fn a_repeated_syn_counts_and_does_not_prolong() {
    let mut talk = Talk::syn();
    let first = talk.track;
    talk.wait(60).remember(O, &tcp(SYN, O_FIRST, 0));
    assert_eq!(talk.track, first);
    // Another attempt by the same ports, its number before or behind the first one's.
    for seq in [O_FIRST.wrapping_sub(2_000_000_000), O_FIRST + 1_000_000] {
        let mut other = talk.clone();
        other.remember(O, &offering(tcp(SYN, seq, 0), 5));
        assert_eq!(other.track.scale, [5, 0]);
        other.say(R, &tcp(SYN | ACK, R_FIRST, seq.wrapping_add(1)), State::SynReceived);
        other.say(O, &tcp(ACK, seq.wrapping_add(1), R_FIRST + 1), State::Established);
    }
}

#[test]
fn a_syn_ack_must_answer_the_syn() {
    let talk = Talk::syn();
    let wrong = talk.judge(R, &tcp(SYN | ACK, R_FIRST, O_FIRST + 2));
    assert_eq!(wrong, Advance::Invalid);
    let old = talk.judge(R, &tcp(SYN | ACK, R_FIRST, O_FIRST.wrapping_sub(70_000)));
    assert_eq!(old, Advance::Ignored);
    // Sent again when the connection is known, it is nothing new.
    let open = Talk::open();
    let again = tcp(SYN | ACK, R_FIRST, O_FIRST + 1);
    assert_eq!(open.judge(R, &again), Advance::Ignored);
}

#[test]
fn both_may_open() {
    // RFC 9293 figure 7: SYN and SYN cross, then SYN/ACK and SYN/ACK.
    let mut talk = Talk::begin(&offering(tcp(SYN, 1_000, 0), 2));
    talk.say(R, &offering(tcp(SYN, 5_000, 0), 4), State::SynSent2);
    assert_eq!(talk.track.scale, [2, 4]);
    assert_eq!(talk.track.end, [1_001, 5_001]);
    assert_eq!(talk.rest(), 120);
    assert_eq!(talk.judge(O, &tcp(ACK, 1_001, 5_001)), Advance::Invalid);
    assert_eq!(talk.judge(R, &tcp(ACK, 5_001, 1_001)), Advance::Ignored);
    talk.say(O, &tcp(SYN, 1_000, 0), State::SynSent2);
    talk.say(R, &tcp(SYN, 5_000, 0), State::SynSent2);
    talk.say(O, &tcp(SYN | ACK, 1_000, 5_001), State::SynReceived);
    assert_eq!(talk.judge(R, &tcp(SYN | ACK, 5_000, 1_001)), Advance::Ignored);
    // Whoever speaks first, it is open.
    let mut other = talk.clone();
    other.say(R, &data(ACK, 5_001, 1_001, 10), State::Established);
    talk.say(O, &data(ACK, 1_001, 5_001, 10), State::Established);
    assert!(other.track.has(flag::ASSURED) && talk.track.has(flag::ASSURED));
    // In an ordinary opening the responder's acknowledgment opens nothing.
    let mut plain = Talk::syn();
    plain.say(R, &tcp(SYN | ACK, R_FIRST, O_FIRST + 1), State::SynReceived);
    plain.say(R, &tcp(ACK, R_FIRST + 1, O_FIRST + 1), State::SynReceived);
}

#[test]
fn a_syn_on_what_is_over_is_another_connection() {
    let mut over = Talk::open();
    over.say(O, &tcp(FIN | ACK, O_FIRST + 1, R_FIRST + 1), State::FinWait);
    over.say(R, &tcp(FIN | ACK, R_FIRST + 1, O_FIRST + 2), State::LastAck);
    over.say(O, &tcp(ACK, O_FIRST + 2, R_FIRST + 2), State::TimeWait);
    let mut reset = Talk::open();
    reset.say(R, &tcp(RST, R_FIRST + 1, 0), State::Close);
    // Linux asks for no number, and neither do we.
    for seq in [0, O_FIRST, O_FIRST + 1, 1 << 31] {
        assert_eq!(over.judge(O, &tcp(SYN, seq, 0)), Advance::Reopen);
        assert_eq!(reset.judge(O, &tcp(SYN, seq, 0)), Advance::Reopen);
    }
    // The sides may change their parts after TIME_WAIT.
    assert_eq!(over.judge(R, &tcp(SYN, 9, 0)), Advance::Reopen);
    assert_eq!(reset.judge(R, &tcp(SYN, 9, 0)), Advance::Invalid);
    // Refused, and tried again.
    let mut refused = Talk::syn();
    refused.say(R, &tcp(RST | ACK, 0, O_FIRST + 1), State::Close);
    assert_eq!(refused.judge(O, &tcp(SYN, O_FIRST, 0)), Advance::Reopen);
}

/// The originator has begun anew and nobody told us.
fn restarted() -> Talk {
    let mut talk = Talk::open();
    talk.remember(O, &window(offering(tcp(SYN, 700_000, 0), 6), 500));
    assert!(talk.track.has(flag::SYN_IGNORED));
    talk
}

#[test]
fn a_syn_ack_to_an_ignored_syn_begins_the_connection_anew() {
    let mut talk = restarted();
    let answer = window(offering(tcp(SYN | ACK, 90_000, 700_001), 2), 800);
    talk.wait(1).say(R, &answer, State::SynReceived);
    let mut direct = Talk::begin(&window(offering(tcp(SYN, 700_000, 0), 6), 500));
    direct.wait(1).say(R, &answer, State::SynReceived);
    assert_eq!(talk.track, direct.track);
    talk.say(O, &tcp(ACK, 700_001, 90_001), State::Established);
    assert_eq!(talk.track.limit[1], 90_001 + (u32::from(WINDOW) << 6));
}

#[test]
fn options_that_an_ignored_syn_lacks_are_not_made_up() {
    let mut talk = Talk::open();
    talk.remember(O, &window(tcp(SYN, 700_000, 0), 0));
    talk.say(R, &offering(tcp(SYN | ACK, 90_000, 700_001), 2), State::SynReceived);
    assert_eq!(talk.track.scale, [0, 0]);
    assert_eq!(talk.track.window, [1, u32::from(WINDOW)]);
    assert!(!talk.track.has(O.flag(flag::SCALE) | O.flag(flag::SACK)));
    assert!(talk.track.has(R.flag(flag::SCALE)) && talk.track.has(R.flag(flag::SACK)));
}

#[test]
fn an_ignored_syn_that_nobody_answers_changes_nothing() {
    let talk = restarted();
    // Another number, or the wrong side.
    assert_eq!(talk.judge(R, &tcp(SYN | ACK, 90_000, 700_002)), Advance::Ignored);
    assert_eq!(talk.judge(O, &tcp(SYN | ACK, 90_000, 700_001)), Advance::Invalid);
    // The connection goes on, so it was old or forged.
    let mut lives = talk.clone();
    lives.say(R, &tcp(ACK, R_FIRST + 1, O_FIRST + 1), State::Established);
    assert_eq!(lives.rest(), 86_400);
    assert!(!lives.track.has(flag::SYN_IGNORED | O.flag(flag::ACKED)));
    assert_eq!(lives.track.acked, [0, O_FIRST + 1]);
    assert_eq!(lives.judge(R, &tcp(SYN | ACK, 90_000, 700_001)), Advance::Ignored);
    // What does not fit says nothing.
    let stray = tcp(ACK, R_FIRST.wrapping_sub(1_000_000), O_FIRST + 1);
    assert_eq!(talk.judge(R, &stray), Advance::Ignored);
}

#[test]
fn a_challenge_in_last_ack_is_no_last_ack() {
    let mut talk = Talk::open();
    talk.say(R, &tcp(FIN | ACK, R_FIRST + 1, O_FIRST + 1), State::FinWait);
    talk.say(O, &tcp(FIN | ACK, O_FIRST + 1, R_FIRST + 2), State::LastAck);
    talk.remember(O, &tcp(SYN, 700_000, 0));
    // The originator itself may acknowledge the other's FIN.
    talk.clone().say(O, &tcp(ACK, O_FIRST + 2, R_FIRST + 2), State::TimeWait);
    // RFC 5961 section 4: the responder says where it is.
    let challenge = tcp(ACK, R_FIRST + 2, O_FIRST + 1);
    talk.wait(1).remember(R, &challenge);
    assert!(!talk.track.has(flag::SYN_IGNORED));
    talk.say(R, &tcp(ACK, R_FIRST + 2, O_FIRST + 2), State::TimeWait);
}

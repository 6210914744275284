//! How connections close.

use super::*;

#[test]
fn one_after_the_other() {
    let mut talk = Talk::open();
    talk.say(O, &data(FIN | ACK, 1_001, 5_001, 20), State::FinWait);
    assert_eq!(talk.track.end[0], 1_022);
    assert!(talk.track.has(O.flag(flag::FIN)) && !talk.track.has(R.flag(flag::FIN)));
    talk.say(R, &tcp(ACK, 5_001, 1_022), State::CloseWait);
    assert_eq!(talk.rest(), 3_600);
    // Half closed: the other side may speak for long.
    talk.wait(3_000).say(R, &data(ACK, 5_001, 1_022, 500), State::CloseWait);
    talk.say(O, &tcp(ACK, 1_022, 5_501), State::CloseWait);
    assert_eq!(talk.rest(), 3_600);
    talk.say(R, &tcp(FIN | ACK, 5_501, 1_022), State::LastAck);
    assert!(talk.track.has(R.flag(flag::FIN)));
    talk.say(O, &tcp(ACK, 1_022, 5_502), State::TimeWait);
    assert_eq!(talk.rest(), 120);
    // The last acknowledgment was lost behind us.
    talk.wait(1).say(R, &tcp(FIN | ACK, 5_501, 1_022), State::TimeWait);
    talk.say(O, &tcp(ACK, 1_022, 5_502), State::TimeWait);
    assert_eq!(talk.rest(), 120);
}

#[test]
fn both_at_once() {
    let mut talk = Talk::open();
    talk.say(O, &tcp(FIN | ACK, 1_001, 5_001), State::FinWait);
    talk.say(R, &tcp(FIN | ACK, 5_001, 1_001), State::LastAck);
    talk.say(O, &tcp(ACK, 1_002, 5_002), State::TimeWait);
    talk.say(R, &tcp(ACK, 5_002, 1_002), State::TimeWait);
}

#[test]
fn the_responder_first_and_before_it_was_open() {
    let mut talk = Talk::syn();
    talk.say(R, &tcp(SYN | ACK, 5_000, 1_001), State::SynReceived);
    talk.say(O, &tcp(FIN | ACK, 1_001, 5_001), State::FinWait);
    let mut other = Talk::open();
    other.say(R, &tcp(FIN | ACK, 5_001, 1_001), State::FinWait);
    other.say(O, &tcp(ACK, 1_001, 5_002), State::CloseWait);
    other.say(O, &tcp(FIN | ACK, 1_001, 5_002), State::LastAck);
    other.say(R, &tcp(ACK, 5_002, 1_002), State::TimeWait);
}

#[test]
fn a_fin_sent_again_is_not_the_other_sides() {
    for (side, seq, ack) in [(O, 1_001, 5_001), (R, 5_001, 1_001)] {
        let fin = tcp(FIN | ACK, seq, ack);
        let mut talk = Talk::open();
        talk.say(side, &fin, State::FinWait);
        talk.wait(5).say(side, &fin, State::FinWait);
        assert_eq!(talk.rest(), 120);
        talk.say(side.other(), &tcp(ACK, ack, seq + 1), State::CloseWait);
        // The acknowledgment was lost behind us.
        talk.say(side, &fin, State::CloseWait);
        assert!(!talk.track.has(side.other().flag(flag::FIN)));
        talk.say(side.other(), &tcp(FIN | ACK, ack, seq + 1), State::LastAck);
        talk.say(side.other(), &tcp(FIN | ACK, ack, seq + 1), State::LastAck);
        talk.say(side, &fin, State::LastAck);
        talk.say(side, &tcp(ACK, seq + 1, ack + 1), State::TimeWait);
    }
}

#[test]
fn a_fin_that_does_not_fit_closes_nothing() {
    let talk = Talk::open();
    assert_eq!(talk.judge(O, &tcp(FIN | ACK, 900_000, 5_001)), Advance::Invalid);
    assert_eq!(talk.judge(O, &tcp(FIN | ACK, 1_001, 5_002)), Advance::Invalid);
    let old = 1_001_u32.wrapping_sub(20_000);
    assert_eq!(talk.judge(O, &tcp(FIN | ACK, old, 5_001)), Advance::Ignored);
}

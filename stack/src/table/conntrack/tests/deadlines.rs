//! How long a connection is kept, in every state.

use super::*;

/// Time-outs that cannot be taken for one another.
fn distinct() -> Timeouts {
    let seconds = Duration::from_secs;
    Timeouts {
        syn_sent: seconds(1_001),
        syn_received: seconds(1_002),
        established: seconds(1_003),
        fin_wait: seconds(1_004),
        close_wait: seconds(1_005),
        last_ack: seconds(1_006),
        time_wait: seconds(1_007),
        close: seconds(1_008),
        unanswered: seconds(1_100),
        udp: seconds(1_009),
        udp_replied: seconds(1_010),
        icmp: seconds(1_011),
        other: seconds(1_012),
        sctp_opening: seconds(1_013),
        sctp_established: seconds(1_014),
    }
}

#[test]
fn the_defaults_are_the_designs() {
    let seconds = Duration::from_secs;
    let timeouts = Timeouts::default();
    assert_eq!(timeouts.syn_sent, seconds(120));
    assert_eq!(timeouts.syn_received, seconds(60));
    assert_eq!(timeouts.established, seconds(86_400));
    assert_eq!(timeouts.fin_wait, seconds(120));
    assert_eq!(timeouts.close_wait, seconds(3_600));
    assert_eq!(timeouts.last_ack, seconds(30));
    assert_eq!(timeouts.time_wait, seconds(120));
    assert_eq!(timeouts.close, seconds(10));
    assert_eq!(timeouts.unanswered, seconds(300));
    assert_eq!((timeouts.udp, timeouts.udp_replied), (seconds(30), seconds(120)));
    assert_eq!((timeouts.icmp, timeouts.other), (seconds(30), seconds(600)));
    // RFC 5382 REQ-5: no less than two hours and four minutes.
    assert!(timeouts.established >= seconds(7_440));
}

#[test]
fn every_state_of_tcp_has_its_own() {
    let timeouts = distinct();
    let step = |track: &mut Track, now, side, segment: &Segment| {
        *track = kept(advance(track, side, segment, TCP, now, &timeouts));
        (track.state, track.deadline.since(now).0 / 1_000_000_000)
    };
    let mut track = begin(&tcp(SYN, 1_000, 0), TCP, NOW, &timeouts).unwrap();
    assert_eq!(track.deadline, later(1_001));
    let both = step(&mut track.clone(), later(1), R, &tcp(SYN, 5_000, 0));
    assert_eq!(both, (State::SynSent2, 1_001));
    let refused = step(&mut track.clone(), later(1), R, &tcp(RST | ACK, 0, 1_001));
    assert_eq!(refused, (State::Close, 1_008));
    let expected = [
        (R, tcp(SYN | ACK, 5_000, 1_001), State::SynReceived, 1_002),
        (O, tcp(ACK, 1_001, 5_001), State::Established, 1_003),
        (O, tcp(FIN | ACK, 1_001, 5_001), State::FinWait, 1_004),
        (R, tcp(ACK, 5_001, 1_002), State::CloseWait, 1_005),
        (R, tcp(FIN | ACK, 5_001, 1_002), State::LastAck, 1_006),
        (O, tcp(ACK, 1_002, 5_002), State::TimeWait, 1_007),
        (O, tcp(RST, 1_002, 0), State::Close, 1_008),
    ];
    for (number, (side, segment, state, seconds)) in (2..).zip(expected) {
        assert_eq!(step(&mut track, later(number), side, &segment), (state, seconds));
    }
}

#[test]
fn what_is_not_acknowledged_is_kept_for_less() {
    let mut talk = Talk::open();
    assert_eq!(talk.rest(), 86_400);
    talk.say(O, &data(ACK, 1_001, 5_001, 100), State::Established);
    assert_eq!(talk.rest(), 300);
    talk.say(R, &tcp(ACK, 5_001, 1_050), State::Established);
    assert_eq!(talk.rest(), 300, "a part of it");
    talk.say(R, &data(ACK, 5_001, 1_101, 10), State::Established);
    assert_eq!(talk.rest(), 300, "the other side's now");
    talk.say(O, &tcp(ACK, 1_101, 5_011), State::Established);
    assert_eq!(talk.rest(), 86_400);
    // A time-out that is shorter anyway stays.
    talk.say(O, &tcp(FIN | ACK, 1_101, 5_011), State::FinWait);
    assert_eq!(talk.rest(), 120);
}

#[test]
fn a_closed_window_is_waited_for_not_so_long() {
    let mut talk = Talk::open();
    talk.say(R, &window(tcp(ACK, 5_001, 1_001), 0), State::Established);
    assert_eq!(talk.rest(), 300);
    talk.say(R, &window(tcp(ACK, 5_001, 1_001), 1), State::Established);
    assert_eq!(talk.rest(), 86_400);
}

#[test]
fn three_times_again_without_an_answer() {
    let mut talk = Talk::open();
    // A keep-alive: nothing new, and nobody answers.
    let probe = tcp(ACK, 1_000, 5_001);
    talk.say(O, &probe, State::Established);
    for again in 1..=5 {
        talk.wait(75).say(O, &probe, State::Established);
        let (expected, seconds) = if again < 3 { (false, 86_400) } else { (true, 300) };
        assert_eq!(talk.track.has(flag::UNANSWERED), expected, "again {again}");
        assert_eq!(talk.rest(), seconds, "again {again}");
        assert_eq!(talk.track.again, again.min(3));
    }
    // An answer, and it is as before.
    talk.say(R, &tcp(ACK, 5_001, 1_001), State::Established);
    assert_eq!((talk.rest(), talk.track.again), (86_400, 0));
    assert!(!talk.track.has(flag::UNANSWERED));
    // Probes that are answered are no repetition.
    for _ in 0..5 {
        talk.say(O, &probe, State::Established).say(R, &tcp(ACK, 5_001, 1_001), State::Established);
        assert_eq!((talk.rest(), talk.track.again), (86_400, 0));
    }
}

#[test]
fn the_same_numbers_from_both_sides_are_no_repetition() {
    let mut talk = Talk::begin(&tcp(SYN, 1_000, 0));
    talk.say(R, &tcp(SYN | ACK, 1_000, 1_001), State::SynReceived);
    for _ in 0..5 {
        for side in [O, R] {
            talk.say(side, &tcp(ACK, 1_001, 1_001), State::Established);
            assert_eq!(talk.track.again, 0);
        }
    }
}

#[test]
fn any_difference_is_no_repetition() {
    let base = data(ACK, 1_001, 5_001, 5);
    let others = [
        (O, data(ACK, 1_002, 5_001, 5)),
        (O, data(ACK, 1_001, 5_000, 5)),
        (O, data(ACK, 1_001, 5_001, 6)),
        (O, window(base, 9_999)),
        (R, tcp(ACK, 5_001, 1_001)),
    ];
    for (side, other) in others {
        let mut talk = Talk::open();
        talk.say(O, &base, State::Established).say(O, &base, State::Established);
        assert_eq!(talk.track.again, 1);
        talk.say(side, &other, State::Established);
        assert_eq!(talk.track.again, 0, "{other:?}");
    }
}

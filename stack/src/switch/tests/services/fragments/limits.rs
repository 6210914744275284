//! Time-out, limits of a port and in all, and who is harmed at them.

use super::*;

/// The parts of a datagram of a pod to the outside.
fn parts(family: &Family, port: PortId, id: u16) -> Vec<Vec<u8>> {
    let pod = family.pods[usize::try_from(port.0 - A.0).unwrap()];
    let whole = ip(from(port), pod, family.outside).udp(40_000, 53, &payload(2_000));
    split(&whole, id, PART)
}

/// Lets time pass as the daemon does: ticks when they are due.
fn pass(bed: &mut Bed, span: Duration) -> Vec<Trace> {
    let (until, mut walked) = (bed.now + span, vec![]);
    while let Some(due) = bed.switch.poll_at().filter(|due| *due <= until) {
        bed.now = bed.now.max(due);
        bed.tick();
        walked.extend(bed.out.walked.iter().cloned());
        assert_eq!(bed.out.released.len(), bed.out.walked.len());
        assert_eq!(bed.out.reclaimed.len(), bed.out.walked.len());
        bed.assert_held();
    }
    bed.now = until;
    walked
}

#[test]
fn what_waits_in_vain_is_dropped_at_the_time_out() {
    for family in families() {
        let mut bed = bed(vec![]);
        let mine = parts(&family, A, 1);
        bed.send(A, &mine[1]);
        bed.wait(Duration::from_secs(20));
        bed.send(A, &mine[2]);
        assert_eq!(pass(&mut bed, Duration::from_secs(9)), []);
        // Thirty seconds after the datagram's begin, whatever came since; a pass takes a second.
        let walked = pass(&mut bed, Duration::from_secs(3));
        let verdicts: Vec<Verdict> = walked.iter().map(|trace| trace.verdict).collect();
        assert_eq!(verdicts, [Verdict::Drop(DropReason::FragmentTimeout); 2]);
        assert_eq!(walked[1].number, walked[0].number + 1);
        assert_eq!(walked[0].ingress, A);
        assert_eq!((bed.datagrams(), bed.switch.poll_at()), (0, None));
        let counters = bed.switch.counters();
        let port = counters.port(A).unwrap();
        assert_eq!((port.received, port.dropped_total(), port.held), (2, 2, 0));
    }
}

#[test]
pub(super) fn what_is_past_its_time_counts_as_absent_before_it_is_swept() {
    for family in families() {
        let mut bed = bed(vec![]);
        let mine = parts(&family, A, 1);
        bed.send(A, &mine[1]);
        bed.wait(Duration::from_secs(30));
        assert_eq!(bed.send(A, &mine[0]), Verdict::Forward(HOST));
        bed.judge_released();
        assert_eq!(bed.out.walked[1].verdict, Verdict::Drop(DropReason::FragmentTimeout));
        assert_eq!(bed.send(A, &mine[2]), Verdict::Forward(HOST));
        bed.wait(Duration::from_secs(30));
        assert_eq!(bed.send(A, &mine[1]), Verdict::Hold, "a new one");
        bed.assert_held();
    }
}

#[test]
pub(super) fn a_port_that_sends_too_many_harms_itself_only() {
    let limits = Limits {
        datagrams_max: 64,
        port_datagrams_max: 8,
        held_bytes_max: 100_000,
        port_held_bytes_max: 8_000,
        ..Limits::default()
    };
    for family in families() {
        let mut bed = limited(limits);
        let others = parts(&family, B, 1);
        bed.send(B, &others[1]);
        // Later fragments that nothing precedes: the port's oldest go for the new ones.
        for id in 0..1_000 {
            let verdict = bed.send(A, &parts(&family, A, id)[1]);
            assert_eq!(verdict, Verdict::Hold);
            bed.judge_released();
            let full = Verdict::Drop(DropReason::PortFragmentsFull);
            assert!(bed.out.walked[1..].iter().all(|trace| trace.verdict == full));
            assert!(bed.datagrams() <= 9);
        }
        // First fragments that nothing follows.
        for id in 1_000..2_000 {
            assert_eq!(bed.send(A, &parts(&family, A, id)[0]), Verdict::Forward(HOST));
            assert!(bed.datagrams() <= 9);
        }
        let (_, left) = bed.send_all(B, [&others[0], &others[2]]);
        assert_eq!(left.len(), 3, "the other's is whole");
        // Bytes: four datagrams' worth of two parts each.
        let mut bed = limited(Limits { port_datagrams_max: 64, ..limits });
        let mut verdicts = vec![];
        for id in 0..8 {
            let parts = parts(&family, A, id);
            verdicts.extend([bed.send(A, &parts[1]), bed.send(A, &parts[2])]);
        }
        let full = Verdict::Drop(DropReason::PortFragmentsFull);
        assert!(verdicts[..10].iter().all(|verdict| *verdict == Verdict::Hold), "{verdicts:?}");
        assert_eq!(verdicts[15], full);
        bed.assert_held();
    }
}

#[test]
pub(super) fn when_the_table_is_full_whoever_is_first_to_expire_goes() {
    let limits = Limits { datagrams_max: 4, ..Limits::default() };
    for family in families() {
        let mut bed = limited(limits);
        for (port, id) in [(A, 1), (B, 1), (C, 1), (A, 2)] {
            bed.send(port, &parts(&family, port, id)[1]);
            bed.wait(Duration::from_millis(1));
        }
        assert_eq!(bed.send(C, &parts(&family, C, 2)[1]), Verdict::Hold);
        bed.judge_released();
        let [_, gone] = &bed.out.walked[..] else { panic!("one goes") };
        assert_eq!((gone.ingress, gone.verdict), (A, Verdict::Drop(DropReason::FragmentsFull)));
        // No room at all.
        let mut bed = limited(Limits { datagrams_max: 0, ..limits });
        let full = Verdict::Drop(DropReason::FragmentsFull);
        assert_eq!(bed.send(A, &parts(&family, A, 1)[0]), full);
        let mut bed = limited(Limits { held_bytes_max: 1_000, ..limits });
        assert_eq!(bed.send(A, &parts(&family, A, 1)[1]), Verdict::Hold);
        assert_eq!(bed.send(B, &parts(&family, B, 1)[1]), full);
        bed.assert_held();
    }
}

#[test]
fn one_datagram_holds_so_many_and_no_more() {
    for family in families() {
        let mut bed = bed(vec![]);
        let whole = ip(from(A), family.pods[0], family.outside).udp(1, 2, &payload(2_000));
        let parts = split(&whole, 1, 24);
        let verdicts: Vec<Verdict> = parts.iter().skip(1).map(|part| bed.send(A, part)).collect();
        let held = verdicts.iter().filter(|verdict| **verdict == Verdict::Hold).count();
        assert_eq!((held, verdicts.len()), (64, 83));
        // Gaps: every second part.
        let scattered: Vec<Vec<u8>> = split(&whole, 2, 24).into_iter().skip(1).step_by(2).collect();
        let verdicts: Vec<Verdict> = scattered.iter().map(|part| bed.send(A, part)).collect();
        let held = verdicts.iter().filter(|verdict| **verdict == Verdict::Hold).count();
        assert_eq!((held, verdicts.len()), (32, 42));
        bed.assert_held();
    }
}

/// Tests that cause every reason to drop of fragments.
pub(in super::super::super) fn every_reason() {
    let tests: &[fn()] = &[
        order::a_duplicate_goes_nowhere,
        order::overlapping_fragments_end_their_datagram,
        order::what_follows_a_refused_first_is_refused,
        translation::sctp_whose_port_would_change_goes_nowhere_in_fragments,
        what_is_past_its_time_counts_as_absent_before_it_is_swept,
        a_port_that_sends_too_many_harms_itself_only,
        when_the_table_is_full_whoever_is_first_to_expire_goes,
    ];
    tests.iter().for_each(|test| test());
}

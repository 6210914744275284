//! What is held is state: a snapshot, another build and a replay go on with it, and whatever comes,
//! nothing vanishes.

use proptest::prelude::*;

use super::*;
use crate::journal::{Begin, Chain, Recorder, Tape, frame::Door, records};
use crate::replay::Replay;

/// A bed in the middle of several datagrams: one that waits, one that has passed, one refused, one
/// whose parts overlap.
fn busy(family: &Family) -> (Bed, Vec<Vec<u8>>) {
    let backends = [backend(family.pods[1], true)];
    let mut bed = bed(vec![service(family, ServiceProtocol::Udp, &backends)]);
    let to = |dst: (IpAddress, u16), id| {
        let whole = ip(from(A), family.pods[0], dst.0).udp(40_000, dst.1, &payload(2_000));
        split(&whole, id, PART)
    };
    let (asks, out) = (to((family.vip, 80), 1), to((family.outside, 53), 2));
    let (unknown, overlaps) = (to((family.vip, 81), 3), to((family.outside, 53), 4));
    let mut valid = Frame::from_bytes(&asks[2]);
    valid.set_offload(Offload { checksum: crate::Checksum::Valid, ..Offload::default() });
    assert_eq!(bed.put(A, valid), Verdict::Hold);
    bed.send(A, &asks[1]);
    bed.send(A, &out[0]);
    bed.send(A, &unknown[0]);
    let longer = ip(from(A), family.pods[0], family.outside).fragment(4, 792, true);
    bed.send(A, &overlaps[1]);
    bed.send(A, &longer.upper(IpProtocol::Udp, &payload(800)));
    assert_eq!(bed.datagrams(), 4);
    let rest = [&asks[..1], &out[1..], &unknown[1..], &overlaps[..1]].concat();
    (bed, rest)
}

/// The walks of an input, and what left.
type Came = (Vec<Trace>, Vec<(PortId, Vec<u8>)>);

/// What comes of the rest.
fn go_on(bed: &mut Bed, rest: &[Vec<u8>]) -> Vec<Came> {
    rest.iter()
        .map(|frame| {
            bed.send(A, frame);
            bed.judge_released();
            (bed.out.walked.to_vec(), bed.sent())
        })
        .collect()
}

#[test]
fn a_restored_switch_goes_on_with_what_it_held() {
    for family in families() {
        let (mut bed, rest) = busy(&family);
        let bytes = bed.switch.snapshot();
        let mut restored = Bed { now: bed.now, ..Bed::with(config()) };
        restored.switch = Switch::restore(&bytes, 99).expect("a whole snapshot");
        assert_eq!(restored.switch.dump(), bed.switch.dump());
        assert_eq!(restored.switch.digest(), bed.switch.digest());
        assert_eq!(go_on(&mut restored, &rest), go_on(&mut bed, &rest));
        assert_eq!(restored.switch.digest(), bed.switch.digest());
        assert!(bed.sent().is_empty(), "the last one's datagram overlaps");
        assert_eq!(bed.datagrams(), 1, "which is remembered");
    }
}

#[test]
fn a_restored_switch_lets_the_same_go_where_there_is_no_room() {
    // Who goes is looked for among the slots that were ever used, so how many these are is state.
    let limits = Limits { port_datagrams_max: 8, ..Limits::default() };
    for family in families() {
        let mut bed = bed(vec![]);
        let config = bed.switch.config();
        bed.switch = Switch::new(config, limits, seeds(1));
        let of = |port, pod: IpAddress, id| {
            let whole = ip(from(port), pod, family.outside).udp(40_000, 53, &payload(2_000));
            split(&whole, id, PART)
        };
        for id in 0..8 {
            bed.send(B, &of(B, family.pods[1], id)[1]);
        }
        let whole: Vec<_> = (8..16).map(|id| of(A, family.pods[0], id)).collect();
        for place in 0..3 {
            for parts in &whole {
                assert_eq!(bed.send(A, &parts[place]), Verdict::Forward(HOST));
            }
        }
        assert_eq!(bed.datagrams(), 8, "the higher slots are free again");
        let mut restored = Bed { now: bed.now, ..Bed::with(bed.switch.config()) };
        restored.switch = Switch::restore(&bed.switch.snapshot(), 99).expect("a whole snapshot");
        for id in 100..200 {
            let frame = &of(B, family.pods[1], id)[1];
            assert_eq!(bed.send(B, frame), restored.send(B, frame));
            assert_eq!(bed.out.walked.to_vec(), restored.out.walked.to_vec());
            assert_eq!(restored.switch.digest(), bed.switch.digest(), "after {id}");
        }
    }
}

#[test]
fn a_snapshot_in_steps_is_of_its_begin() {
    for family in families() {
        let (mut bed, rest) = busy(&family);
        let before = bed.switch.digest();
        let mut bytes = Vec::new();
        bed.switch.snapshot_begin(&mut bytes);
        go_on(&mut bed, &rest);
        while !bed.switch.snapshot_step(1, &mut bytes) {}
        assert_ne!(bed.switch.digest(), before);
        assert_eq!(Switch::restore(&bytes, 5).map(|switch| switch.digest()), Ok(before));
    }
}

#[test]
fn another_build_goes_on_with_what_was_held() {
    for family in families() {
        let (mut bed, rest) = busy(&family);
        let mut other = Bed::with(bed.switch.config());
        other.now = bed.now;
        other.switch.input(bed.now, Input::Import(bed.switch.export()), &mut other.out);
        assert_eq!(other.out.events, []);
        other.assert_held();
        assert_eq!(other.switch.counters(), bed.switch.counters());
        assert_eq!(go_on(&mut other, &rest), go_on(&mut bed, &rest));
        // A switch without that port has nothing of it, and its counts hold.
        let (bed, _) = busy(&family);
        let mut config = bed.switch.config();
        config.ports.retain(|port| port.id != A);
        let mut other = Bed::with(config);
        other.switch.input(bed.now, Input::Import(bed.switch.export()), &mut other.out);
        other.assert_held();
    }
}

#[test]
fn a_port_that_goes_leaves_its_fragments_to_the_time_out() {
    let [family, _] = families();
    let (mut bed, _) = busy(&family);
    assert!(bed.change(Change::PortRemoved(A)).is_empty());
    bed.assert_held();
    assert_eq!(bed.switch.counters().gone.held, 2);
    bed.wait(Duration::from_secs(40));
    bed.tick();
    assert_eq!(bed.out.walked.len(), 2);
    bed.assert_held();
    assert_eq!(bed.switch.counters().gone.held, 0);
}

#[test]
fn what_is_recorded_replays_to_the_same() {
    for family in families() {
        let (seen_by, rest) = busy(&family);
        let config = seen_by.switch.config();
        let mut recorder = Recorder::new(Tape::default(), Chain::new(), false);
        let mut bed = Bed::with(Config::default());
        recorder.begin(bed.now, &Begin::new(Limits::default(), seeds(1)));
        let mut feed = |bed: &mut Bed, input: Input| {
            match &input {
                Input::Frame { port, frame } => recorder.frame(bed.now, Door::Port(*port), frame),
                Input::Change(change) => recorder.change(bed.now, change),
                Input::Tick | Input::Deliver { .. } | Input::Import(_) => recorder.tick(bed.now),
            }
            bed.out.clear();
            bed.switch.input(bed.now, input, &mut bed.out);
            recorder.outcome(&bed.out);
            bed.assert_held();
        };
        for change in crate::config::diff(&Config::default(), &config) {
            feed(&mut bed, Input::Change(change));
        }
        for frame in rest.iter().rev() {
            feed(&mut bed, Input::Frame { port: A, frame: Frame::from_bytes(frame) });
        }
        bed.wait(Duration::from_secs(40));
        feed(&mut bed, Input::Tick);
        recorder.digest(bed.now, bed.switch.tables().walks());
        let mut replay = Replay::from_begin(0xfeed);
        for record in records(recorder.place().bytes()) {
            replay.record(record.expect("whole")).expect("as it was");
        }
        let replayed = replay.switch().expect("one");
        assert_eq!(replayed.dump(), bed.switch.dump());
        assert_eq!(replay.chain(), recorder.chain());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_comes_is_accounted_for(
        picks in proptest::collection::vec((0_usize..24, 0_u64..4_000), 1..120),
        table in any::<u64>(),
    ) {
        let [family, _] = families();
        let limits = Limits {
            datagrams_max: 6,
            port_datagrams_max: 3,
            held_bytes_max: 6_000,
            port_held_bytes_max: 3_000,
            ..Limits::default()
        };
        let mut frames = vec![];
        for (port, id) in [(A, 1), (A, 2), (A, 3), (A, 4), (B, 1), (C, 1)] {
            let pod = family.pods[usize::try_from(port.0 - A.0).unwrap()];
            let dst = if id % 2 == 0 { family.vip } else { family.outside };
            let whole = ip(from(port), pod, dst).udp(40_000, 80, &payload(2_400));
            frames.extend(split(&whole, id, PART).into_iter().map(|frame| (port, frame)));
        }
        let run = |table| {
            let backends = [backend(family.pods[1], true)];
            let mut bed = bed(vec![service(&family, ServiceProtocol::Udp, &backends)]);
            bed.switch = Switch::new(bed.switch.config(), limits, seeds(table));
            let mut seen = vec![];
            for (pick, pause) in &picks {
                bed.wait(Duration::from_millis(*pause));
                bed.tick();
                seen.extend(bed.out.walked.to_vec());
                let (port, frame) = &frames[*pick % frames.len()];
                bed.send(*port, frame);
                bed.judge_released();
                seen.extend(bed.out.walked.to_vec());
            }
            (seen, bed.switch.dump(), bed.switch.digest())
        };
        prop_assert_eq!(run(1), run(table));
    }
}

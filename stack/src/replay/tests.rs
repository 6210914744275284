//! A journal of a busy switch, replayed: equal to the last digest, and differing where it must.

use alloc::vec;
use alloc::vec::Vec;

use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr};

use super::*;
use crate::config::{Change, Limits, NodeConfig, PortConfig, PortKind, Route, RouteTarget, Seeds};
use crate::journal::{Begin, Recorder, Tape, records};
use crate::table::RestoreError;
use crate::table::rows::row_hash;
use crate::wire::build::Link;

const A: PortId = PortId(2);
const B: PortId = PortId(3);

fn mac(n: u8) -> EthernetAddress {
    EthernetAddress([2, 0x48, 10, 1, 0, n])
}

fn pod(id: PortId, n: u8) -> PortConfig {
    PortConfig {
        id,
        kind: PortKind::Pod,
        mac: mac(n),
        addresses: vec![Ipv4Address::new(10, 1, 0, n).into()],
        allowed: Vec::new(),
        mtu: 1_500,
        up: true,
    }
}

fn config() -> Change {
    let node = NodeConfig {
        gateway4: Some(Ipv4Cidr::new(Ipv4Address::new(10, 1, 0, 1), 24)),
        ..NodeConfig::default()
    };
    let connected = Route {
        prefix: IpCidr::new(Ipv4Address::new(10, 1, 0, 0).into(), 24),
        target: RouteTarget::Connected,
    };
    Change::All(vec![
        Change::Port(Switch::gateway_port(&node, PortId(0))),
        Change::Node(node),
        Change::Port(pod(A, 2)),
        Change::Port(pod(B, 3)),
        Change::Routes(vec![connected]),
        Change::Complete(true),
    ])
}

/// A switch with its journal.
struct Bed {
    switch: Switch,
    recorder: Recorder<Tape>,
    out: Outbox,
    now: u64,
}

impl Bed {
    fn new(payload: bool) -> Self {
        let (limits, seeds) = (Limits::default(), Seeds { table: 5, choice: 9 });
        let mut recorder = Recorder::new(Tape::default(), Chain::new(), payload);
        recorder.begin(Instant(1), &Begin::new(limits, seeds));
        let switch = Switch::new(Config::default(), limits, seeds);
        let mut bed = Self { switch, recorder, out: Outbox::default(), now: 1 };
        bed.change(config());
        bed
    }

    fn change(&mut self, change: Change) {
        self.recorder.change(Instant(self.now), &change);
        self.input(Input::Change(change));
    }

    fn input(&mut self, input: Input) {
        self.out.clear();
        self.switch.input(Instant(self.now), input, &mut self.out);
        self.recorder.outcome(&self.out);
        for (endpoint, frame) in core::mem::take(&mut self.out.deliveries) {
            self.recorder.frame(Instant(self.now), Door::Endpoint(endpoint), &frame);
            self.input(Input::Deliver { endpoint, frame });
        }
    }

    fn send(&mut self, port: PortId, bytes: &[u8]) {
        self.now += 1_000;
        let frame = Frame::from_bytes(bytes);
        self.recorder.frame(Instant(self.now), Door::Port(port), &frame);
        self.input(Input::Frame { port, frame });
    }

    /// Bridged, large, to the gateway, to nobody, a fragment, garbage; a change in between.
    fn traffic(&mut self) {
        let ab = Link { src: mac(2), dst: mac(3) };
        let up = Link { src: mac(2), dst: NodeConfig::GATEWAY_MAC };
        let of = |n| Ipv4Address::new(10, 1, 0, n);
        for (round, byte) in (0..4_u16).zip(0..) {
            self.send(A, &ab.ipv4(of(2), of(3)).udp(round, 53, &[byte; 600]));
            self.send(A, &up.ipv4(of(2), of(1)).echo(true, 1, round, &[9; 900]));
            self.send(A, &up.ipv4(of(2), of(1)).tcp((1, 80), 2, 1, 0, &[]));
            self.send(A, &up.ipv4(of(2), of(77)).udp(1, 1, &[]));
            let mut fragment = ab.ipv4(of(2), of(3)).udp(round, 53, &[7; 400]);
            fragment[20] |= 0x20;
            self.send(A, &fragment);
            self.send(B, &[byte; 70]);
            self.change(Change::PortUp(B, round % 2 == 1));
        }
        self.recorder.digest(Instant(self.now), self.switch.tables().walks());
        self.recorder.label(Instant(self.now), B, "pod/demo/b");
    }
}

fn replay(bytes: &[u8], replay: &mut Replay) -> Result<(), (u64, ReplayError)> {
    for record in records(bytes) {
        replay.record(record, false).map_err(|error| (replay.records(), error))?;
    }
    Ok(())
}

#[test]
fn a_journal_replays_to_the_same_state() {
    for payload in [false, true] {
        let mut bed = Bed::new(payload);
        bed.traffic();
        for table_seed in [5, 77] {
            let mut again = Replay::from_begin(table_seed);
            replay(bed.recorder.place().bytes(), &mut again).unwrap();
            assert_eq!(again.switch().unwrap().digest(), bed.switch.digest());
            assert_eq!(again.switch().unwrap().dump(), bed.switch.dump());
            assert_eq!(again.chain(), bed.recorder.chain());
        }
    }
}

#[test]
fn a_snapshot_amid_traffic_and_the_tail_come_to_the_same() {
    let mut bed = Bed::new(false);
    bed.traffic();
    let (at, chain) = (bed.recorder.place().bytes().len(), *bed.recorder.chain());
    let (state, mut snapshot) = (bed.switch.dump(), Vec::new());
    bed.switch.snapshot_begin(&mut snapshot);
    while !bed.switch.snapshot_step(1, &mut snapshot) {
        bed.traffic();
        let route = |n| Route {
            prefix: IpCidr::new(Ipv4Address::new(n, 0, 0, 0).into(), 8),
            target: RouteTarget::Blackhole,
        };
        bed.change(Change::Routes(vec![route(20), route(21)]));
    }
    let restored = Switch::restore(&snapshot, 123).unwrap();
    assert_eq!(restored.dump(), state, "the state of its begin");
    let mut again = Replay::from_state(restored, chain);
    replay(&bed.recorder.place().bytes()[at..], &mut again).unwrap();
    assert_eq!(again.switch().unwrap().dump(), bed.switch.dump());
    assert_eq!(again.chain(), bed.recorder.chain());
}

#[test]
fn a_turned_bit_is_found_at_the_next_record() {
    let mut bed = Bed::new(false);
    bed.traffic();
    let bytes = bed.recorder.place().bytes().to_vec();
    let mut at = 0;
    for (number, record) in (1_u64..).zip(records(&bytes)) {
        let head = Head::read(record).unwrap();
        if head.kind != Kind::Frame {
            at += journal::stride(head.len);
            continue;
        }
        for bit in [8 * 8, 20 * 8, (head.len - 1) * 8] {
            let mut other = bytes.clone();
            other[at + bit / 8] ^= 1 << (bit % 8);
            let found = replay(&other, &mut Replay::from_begin(1)).unwrap_err();
            // Before it can be the record itself, which may not be readable any more.
            assert!((number..=number + 1).contains(&found.0), "{found:?}");
        }
        at += journal::stride(head.len);
    }
}

#[test]
fn a_begin_that_asks_for_the_impossible_is_refused() {
    for (most, limits) in [
        (true, Limits::default()),
        (false, Limits { ports_max: usize::MAX, ..Limits::default() }),
        (false, Limits { addresses_max: 1 << 40, ..Limits::default() }),
        (false, Limits { allowed_max: 1 << 40, ..Limits::default() }),
        (false, Limits { routes_max: 1 << 40, ..Limits::default() }),
    ] {
        let mut recorder = Recorder::new(Tape::default(), Chain::new(), false);
        recorder.begin(Instant(1), &Begin::new(limits, Seeds { table: 1, choice: 1 }));
        let found = replay(recorder.place().bytes(), &mut Replay::from_begin(1));
        let refused = ReplayError::Unreadable { kind: Some(Kind::Begin) };
        assert_eq!(found, if most { Ok(()) } else { Err((1, refused)) }, "{limits:?}");
    }
}

#[test]
fn a_tape_is_cut_where_a_snapshot_stands() {
    let mut bed = Bed::new(false);
    bed.traffic();
    let (whole, chain) = (bed.recorder.place().bytes().to_vec(), *bed.recorder.chain());
    let switch = bed.switch.clone();
    let front = bed.recorder.place_mut().cut(whole.len());
    assert_eq!((front, bed.recorder.place().bytes()), (whole, &[][..]));
    bed.traffic();
    let mut again = Replay::from_state(switch, chain);
    replay(bed.recorder.place().bytes(), &mut again).unwrap();
    assert_eq!(again.switch().unwrap().dump(), bed.switch.dump());
}

#[test]
fn another_switch_is_found_and_told_from_damage() {
    let mut bed = Bed::new(false);
    bed.traffic();
    let bytes = bed.recorder.place().bytes().to_vec();
    // The same records, fed to a switch that lets a port down which was up then.
    let mut again = Replay::from_begin(1);
    let mut found = None;
    for (number, record) in records(&bytes).enumerate() {
        if number == 2 {
            let switch = again.switch.as_mut().unwrap();
            switch.input(
                Instant(1),
                Input::Change(Change::PortUp(B, false)),
                &mut Outbox::default(),
            );
        }
        if let Err(error) = again.record(record, false) {
            found = Some((number, error));
            break;
        }
    }
    let (number, error) = found.unwrap();
    assert_eq!(number, 3, "the record behind the first frame: {error:?}");
    assert!(matches!(error, ReplayError::Diverged { .. }));
    // Its inputs are as recorded: what differs is what the switch did.
    let mut inputs = Chain::new();
    for record in records(&bytes) {
        let head = Head::read(record).unwrap();
        if head.kind == Kind::Digest {
            let words = journal::body_words(journal::body(record, &head)).unwrap();
            assert_eq!(words[0], inputs.inputs());
        }
        if !head.kind.is_comment() {
            inputs.record(record);
        }
    }
}

#[test]
fn a_skipped_record_is_skipped_again() {
    let mut bed = Bed::new(false);
    bed.traffic();
    let before = (*bed.recorder.chain(), bed.switch.dump());
    // Recorded, and then the worker died: neither chain nor switch know it.
    let poison = Frame::from_bytes(&[3; 80]);
    bed.recorder.frame(Instant(bed.now), Door::Port(A), &poison);
    let tape = bed.recorder.into_place();
    bed.recorder = Recorder::new(tape, before.0, false);
    bed.recorder.skip(Instant(bed.now), "it crashed the worker twice");
    bed.traffic();
    let mut again = Replay::from_begin(8);
    let all: Vec<&[u8]> = records(bed.recorder.place().bytes()).collect();
    let mut skipped = 0;
    for (number, record) in all.iter().enumerate() {
        let next = all.get(number + 1).and_then(|next| Head::read(next));
        let skip = next.is_some_and(|head| head.kind == Kind::Skip);
        let step = again.record(record, skip).unwrap();
        skipped += u32::from(step == Step::Skipped);
    }
    assert_eq!(skipped, 1);
    assert_eq!(again.switch().unwrap().dump(), bed.switch.dump());
}

#[test]
fn what_was_turned_before_a_skipped_record_is_found_at_it() {
    let mut bed = Bed::new(false);
    bed.send(A, &[5; 80]);
    let chain = *bed.recorder.chain();
    bed.recorder.frame(Instant(bed.now), Door::Port(A), &Frame::from_bytes(&[3; 80]));
    bed.recorder = Recorder::new(bed.recorder.into_place(), chain, false);
    bed.recorder.skip(Instant(bed.now), "it crashed the worker twice");
    let all: Vec<&[u8]> = records(bed.recorder.place().bytes()).collect();
    let poison = all.len() - 2;
    let mut turned = Vec::from(all[poison - 1]);
    *turned.last_mut().unwrap() ^= 1;
    let mut again = Replay::from_begin(8);
    let found = all.iter().enumerate().find_map(|(number, record)| {
        let record = if number == poison - 1 { &turned } else { *record };
        again.record(record, number == poison).err().map(|error| (number, error))
    });
    assert!(matches!(found, Some((at, ReplayError::Diverged { .. })) if at == poison), "{found:?}");
}

#[test]
fn marks_compare_the_state() {
    let mut bed = Bed::new(false);
    bed.recorder.mark(Instant(bed.now), 4);
    let digest = bed.switch.digest();
    bed.traffic();
    bed.recorder.state(Instant(bed.now), 4, digest);
    replay(bed.recorder.place().bytes(), &mut Replay::from_begin(1)).unwrap();
    bed.recorder.mark(Instant(bed.now), 5);
    bed.recorder.state(Instant(bed.now), 5, digest);
    let (_, error) = replay(bed.recorder.place().bytes(), &mut Replay::from_begin(1)).unwrap_err();
    assert!(matches!(error, ReplayError::State { .. }), "{error:?}");
}

#[test]
fn damaged_snapshots_are_errors() {
    let mut bed = Bed::new(false);
    bed.traffic();
    let snapshot = bed.switch.snapshot();
    assert_eq!(Switch::restore(&snapshot, 1).unwrap().dump(), bed.switch.dump());
    for end in 0..snapshot.len() {
        assert_eq!(Switch::restore(&snapshot[..end], 1).unwrap_err(), RestoreError::Cut);
    }
    for at in 0..snapshot.len() {
        let mut other = snapshot.clone();
        other[at] ^= 1;
        assert!(Switch::restore(&other, 1).is_err(), "byte {at}");
    }
}

#[test]
fn words_that_lie_are_no_snapshot() {
    let row = |table: u16, words: &[u64], out: &mut Vec<u8>| {
        out.extend(table.to_le_bytes());
        out.extend(u16::try_from(words.len()).unwrap().to_le_bytes());
        out.extend(0_u32.to_le_bytes());
        words.iter().for_each(|word| out.extend(word.to_le_bytes()));
    };
    let mut bytes = Vec::new();
    row(1, &[u64::MAX, 1, 1, 1, 1, 1, 1, 1], &mut bytes);
    assert_eq!(Switch::restore(&bytes, 1).unwrap_err(), RestoreError::Limits);
    bytes.clear();
    let limits = [4, 1, 1, 1, 1, 1, 1, 1];
    row(1, &limits, &mut bytes);
    row(99, &[], &mut bytes);
    assert_eq!(Switch::restore(&bytes, 1).unwrap_err(), RestoreError::Table(99));
    bytes.clear();
    row(1, &limits, &mut bytes);
    let digest = row_hash(crate::table::Table::Limits, 0, &limits);
    row(u16::MAX, &[digest, 1], &mut bytes);
    // Rows that every state has are missing: what they come to is another state.
    assert_eq!(Switch::restore(&bytes, 1).unwrap_err(), RestoreError::Digest);
}

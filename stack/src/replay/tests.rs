//! A journal of a busy switch, replayed: equal to the last digest, and differing where it must.

use alloc::vec;
use alloc::vec::Vec;

use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr};

use super::*;
use crate::config::{
    Backend, Change, Frontend, FrontendKind, Limits, Method, NodeConfig, PortConfig, PortKind,
    Route, RouteTarget, Seeds, ServiceConfig, ServiceId, ServiceProtocol,
};
use crate::journal::{Begin, Recorder, Tape, records};
use crate::table::RestoreError;
use crate::time::Duration;
use crate::wire::build::Link;
use crate::words::Words;

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
        Change::Service(service()),
        Change::Complete(true),
    ])
}

fn service() -> ServiceConfig {
    let (address, kind) = (Some(Ipv4Address::new(10, 96, 0, 1).into()), FrontendKind::ClusterIp);
    let backend = |n| Backend {
        weight: 1 + u16::from(n),
        local: true,
        for_zone: Some(true),
        ..Backend::ready(Ipv4Address::new(10, 1, 0, n).into(), 8_080)
    };
    ServiceConfig {
        frontends: vec![Frontend { kind, address, port: 80 }],
        method: Method::Maglev,
        affinity: Some(Duration::from_secs(10)),
        internal_local: true,
        backends: vec![backend(2), backend(3)],
        ..ServiceConfig::new(ServiceId(1), "default/web", ServiceProtocol::Tcp)
    }
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

const UNREADABLE: ReplayError = ReplayError::Unreadable { kind: None };

fn replay(bytes: &[u8], replay: &mut Replay) -> Result<(), (u64, ReplayError)> {
    for record in records(bytes) {
        let readable = record.map_err(|_damaged| (replay.records() + 1, UNREADABLE))?;
        replay.record(readable).map_err(|error| (replay.records(), error))?;
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
fn a_turned_bit_is_found_at_its_record() {
    let mut bed = Bed::new(false);
    bed.traffic();
    let bytes = bed.recorder.place().bytes().to_vec();
    let (mut at, last) = (0, records(&bytes).count() as u64 - 1);
    for (number, record) in (1_u64..).zip(records(&bytes)) {
        let head = Head::read(record.unwrap()).unwrap();
        for bit in (0..head.len * 8).step_by(if head.len > 200 { 37 } else { 3 }) {
            let mut other = bytes.clone();
            other[at + bit / 8] ^= 1 << (bit % 8);
            match replay(&other, &mut Replay::from_begin(1)) {
                Err((found, _)) => assert!((number..=number + 1).contains(&found), "{found}"),
                // Names are for people; behind the last record nothing shows that it is skipped.
                Ok(()) => assert!(head.kind == Kind::Label || (number, bit) == (last, 39)),
            }
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
        (false, Limits { services_max: 1 << 40, ..Limits::default() }),
        (false, Limits { frontends_max: 1 << 40, ..Limits::default() }),
        (false, Limits { backends_max: 1 << 40, ..Limits::default() }),
        (false, Limits { service_frontends_max: 1 << 19, ..Limits::default() }),
        (true, Limits { service_backends_max: 65_534, ..Limits::default() }),
        (false, Limits { service_backends_max: 65_535, ..Limits::default() }),
        (false, Limits { affinities_max: 1 << 40, ..Limits::default() }),
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
    for inputs_only in [false, true] {
        let mut again = Replay::from_begin(1);
        let mut found = None;
        for (number, record) in records(&bytes).map(Result::unwrap).enumerate() {
            if number == 2 {
                let down = Input::Change(Change::PortUp(B, false));
                let switch = again.switch.as_mut().unwrap();
                switch.input(Instant(1), down, &mut Outbox::default());
            }
            if inputs_only {
                again.compare_inputs_only();
            }
            if let Err(error) = again.record(record) {
                found = Some((number, error));
                break;
            }
        }
        let expected = (3, ReplayError::Diverged);
        assert_eq!(found, (!inputs_only).then_some(expected), "behind the first frame");
    }
}

#[test]
fn a_record_that_crashed_is_skipped_again() {
    let mut bed = Bed::new(false);
    bed.traffic();
    let at = bed.recorder.place().bytes().len();
    // Recorded, and then the worker died: the switch does not know it.
    let poison = Frame::from_bytes(&[3; 80]);
    bed.recorder.frame(Instant(bed.now), Door::Port(A), &poison);
    let mut chain = *bed.recorder.chain();
    chain.skip();
    bed.recorder = Recorder::new(bed.recorder.into_place(), chain, false);
    bed.recorder.skip(Instant(bed.now), "it crashed the worker twice");
    bed.traffic();
    let mut bytes = bed.recorder.place().bytes().to_vec();
    assert_eq!(
        replay(&bytes, &mut Replay::from_begin(8)).unwrap_err().1,
        ReplayError::Diverged,
        "carried out, it has its outcome"
    );
    bytes[at + 4] |= journal::NOT_DONE;
    let mut again = Replay::from_begin(8);
    replay(&bytes, &mut again).unwrap();
    assert_eq!(again.switch().unwrap().dump(), bed.switch.dump());
    assert_eq!(again.chain(), bed.recorder.chain());
}

#[test]
fn a_value_cut_by_a_crash_is_forgotten() {
    let mut bed = Bed::new(false);
    bed.traffic();
    let before = bed.recorder.place().bytes().len();
    let routes: Vec<Route> = (0..20_000_u32)
        .map(|n| Route {
            prefix: IpCidr::new(Ipv4Address::from(n << 8).into(), 24),
            target: RouteTarget::Blackhole,
        })
        .collect();
    let mut torn = bed.recorder.clone();
    torn.change(Instant(bed.now), &Change::Routes(routes));
    let all: Vec<&[u8]> = records(&torn.place().bytes()[before..]).map(Result::unwrap).collect();
    assert!(all.len() > 1);
    // Only the first piece made it into the journal; the next worker goes on behind it.
    let mut bytes = bed.recorder.place().bytes().to_vec();
    bytes.extend(all[0]);
    bytes.resize(bytes.len().next_multiple_of(journal::ALIGN), 0);
    let mut recovered = Replay::from_begin(1);
    replay(&bytes, &mut recovered).unwrap();
    let (switch, chain) = recovered.into_parts();
    let mut next = Recorder::new(Tape::default(), chain, false);
    next.resume(Instant(bed.now), "the worker died");
    bed.recorder = next;
    bed.switch = switch.unwrap();
    bed.change(Change::PortUp(A, true));
    bed.traffic();
    bytes.extend(bed.recorder.place().bytes());
    let mut again = Replay::from_begin(2);
    replay(&bytes, &mut again).unwrap();
    assert_eq!(again.switch().unwrap().dump(), bed.switch.dump());
}

#[test]
fn a_journal_may_begin_again_in_the_middle() {
    let mut bed = Bed::new(false);
    bed.traffic();
    let mut bytes = bed.recorder.place().bytes().to_vec();
    let mut fresh = Bed::new(true);
    fresh.traffic();
    bytes.extend(fresh.recorder.place().bytes());
    let mut again = Replay::from_begin(2);
    replay(&bytes, &mut again).unwrap();
    assert_eq!(again.switch().unwrap().dump(), fresh.switch.dump());
}

#[test]
fn begins_that_cannot_be_are_refused() {
    let begin = Begin::new(Limits::default(), Seeds::default());
    let of = |begin: &Begin| {
        let mut recorder = Recorder::new(Tape::default(), Chain::new(), false);
        recorder.begin(Instant(1), begin);
        replay(recorder.place().bytes(), &mut Replay::from_begin(1))
    };
    assert_eq!(of(&begin), Ok(()));
    let newer = Begin { version: 9, ..begin };
    assert_eq!(
        of(&newer).unwrap_err().1,
        ReplayError::Version { theirs: 9, ours: journal::VERSION }
    );
    let large = Limits { ports_max: usize::MAX, ..Limits::default() };
    let unreadable = ReplayError::Unreadable { kind: Some(Kind::Begin) };
    assert_eq!(of(&Begin { limits: large, ..begin }).unwrap_err().1, unreadable);
    let wide = Limits { ports_max: 65_536, addresses_max: 4_096, ..Limits::default() };
    assert_eq!(of(&Begin { limits: wide, ..begin }).unwrap_err().1, unreadable);
}

/// Who answers for an address follows from the rows, whatever the order in which they came.
#[test]
fn what_follows_from_rows_is_restored() {
    let mut bed = Bed::new(false);
    bed.traffic();
    let third = PortConfig {
        addresses: vec![crate::config::link_local(mac(9)).into()],
        ..pod(PortId(9), 7)
    };
    bed.change(Change::Port(third));
    bed.change(Change::PortRemoved(A));
    // Its link-local address is somebody's already.
    bed.change(Change::Port(pod(PortId(10), 9)));
    assert_eq!(bed.switch.config().ports.len(), 4 - 1);
    let restored = Switch::restore(&bed.switch.snapshot(), 3).unwrap();
    assert_eq!(restored.tables().derived(), bed.switch.tables().derived());
}

#[test]
fn marks_compare_the_state() {
    let mut bed = Bed::new(false);
    bed.recorder.mark(Instant(bed.now), 4);
    let digests = bed.switch.digests();
    bed.traffic();
    bed.recorder.state(Instant(bed.now), 4, digests.words());
    replay(bed.recorder.place().bytes(), &mut Replay::from_begin(1)).unwrap();
    for (marked, told) in [(5, 5), (6, 5)] {
        let mut other = bed.recorder.clone();
        other.mark(Instant(bed.now), marked);
        other.state(Instant(bed.now), told, digests.words());
        let (_, error) = replay(other.place().bytes(), &mut Replay::from_begin(1)).unwrap_err();
        let state = matches!(error, ReplayError::State { .. });
        assert_eq!(state, marked == told, "{error:?}");
    }
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
    let row = |table: u64, slot: u64, words: &[u64], out: &mut Vec<u8>| {
        let head = [table, words.len() as u64, slot];
        head.iter().chain(words).for_each(|word| out.extend(word.to_le_bytes()));
    };
    let begin: Vec<u8> = [*b"hopstate", 5_u64.to_le_bytes()].concat();
    let error = |bytes: &[u8]| Switch::restore(bytes, 1).unwrap_err();
    let words_of = |ports_max| {
        let mut words = Vec::new();
        Limits { ports_max, ..Limits::default() }.put(&mut words);
        words
    };
    let mut bytes = begin.clone();
    row(1, 0, &words_of(usize::MAX), &mut bytes);
    assert_eq!(error(&bytes), RestoreError::Limits);
    let limits = words_of(4);
    bytes.clone_from(&begin);
    row(1, 0, &limits, &mut bytes);
    let known = bytes.clone();
    row(99, 0, &[], &mut bytes);
    assert_eq!(error(&bytes), RestoreError::Table(99));
    // A count beyond the end does not allocate.
    bytes.clone_from(&known);
    [3, u64::MAX, 0].iter().for_each(|word: &u64| bytes.extend(word.to_le_bytes()));
    assert_eq!(error(&bytes), RestoreError::Cut);
    bytes.clone_from(&known);
    let mut digests = Digests::default();
    digests.row(Table::Limits, 0, &limits);
    let end: Vec<u64> = digests.words().chain([1]).collect();
    row(u16::MAX.into(), 0, &end, &mut bytes);
    // Rows that every state has are missing: what they come to is another state.
    assert_eq!(error(&bytes), RestoreError::Digest);
    bytes[8] = 6;
    assert_eq!(error(&bytes), RestoreError::Version { theirs: 6, ours: 5 });
    assert_eq!(error(b"something else entirely"), RestoreError::Begin);
}

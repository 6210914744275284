//! A switch with a journal, dying and coming back: what every test of the recorder stands on, and
//! the tests of the whole.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr};
use stack::journal::frame::Door;
use stack::wire::build::Link;
use stack::{
    Change, Frame, Input, Limits, NodeConfig, Outbox, PortConfig, PortId, PortKind, Replay, Route,
    RouteTarget,
};

use super::*;

pub(super) const A: PortId = PortId(2);
pub(super) const B: PortId = PortId(3);

/// A directory in memory that goes with its test.
#[derive(Debug)]
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("hopscope-test-{}-{serial}", std::process::id());
        let directory = Path::new("/dev/shm").join(name);
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    /// The same files somewhere else, as they are now.
    pub(super) fn copy(&self) -> Self {
        let copy = Self::new();
        for entry in std::fs::read_dir(&self.0).unwrap() {
            let from = entry.unwrap().path();
            std::fs::copy(&from, copy.0.join(from.file_name().unwrap())).unwrap();
        }
        copy
    }

    pub(super) fn ring(&self) -> PathBuf {
        self.0.join(FILE)
    }

    pub(super) fn options(&self) -> Options {
        Options { directory: self.0.clone(), size: layout::SIZE_MIN, payload: false }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub(super) fn low(n: u64) -> u8 {
    n.to_le_bytes()[0]
}

pub(super) fn begun(now: u64, table: u64) -> Begun {
    Begun {
        now: Instant(now),
        utc_offset: 1_700_000_000_000_000_000,
        seeds: Seeds { table, choice: 9 },
        limits: Limits { ports_max: 64, routes_max: 64, ..Limits::default() },
    }
}

fn mac(n: u8) -> EthernetAddress {
    EthernetAddress([2, 0x48, 10, 1, 0, n])
}

pub(super) fn pod(id: PortId, n: u8) -> PortConfig {
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
    let gateway = Ipv4Cidr::new(Ipv4Address::new(10, 1, 0, 1), 24);
    let node = NodeConfig { gateway4: Some(gateway), ..NodeConfig::default() };
    let prefix = IpCidr::new(Ipv4Address::new(10, 1, 0, 0).into(), 24);
    Change::All(vec![
        Change::Port(Switch::gateway_port(&node, PortId(0))),
        Change::Node(node),
        Change::Port(pod(A, 2)),
        Change::Port(pod(B, 3)),
        Change::Routes(vec![Route { prefix, target: RouteTarget::Connected }]),
        Change::Complete(true),
    ])
}

/// A worker: what the event loop does, without devices.
pub(super) struct Worker {
    pub(super) switch: Switch,
    pub(super) journal: Journal,
    pub(super) past: Past,
    pub(super) recovered: Option<Recovered>,
    pub(super) notice: Option<String>,
    pub(super) now: u64,
    out: Outbox,
}

impl Worker {
    /// Goes on with what is in the directory.
    pub(super) fn start(scratch: &Scratch, now: u64) -> Self {
        let opened = open(&scratch.options(), &begun(now, now)).unwrap();
        let Opened { switch, journal, past, recovered, notice } = opened;
        let out = Outbox::default();
        let mut worker = Self { switch, journal, past, recovered, notice, now, out };
        if !worker.switch.tables().complete() {
            worker.feed(Input::Change(config()));
            worker.journal.label(Instant(now), A, "pod/demo/a".to_owned());
        }
        worker
    }

    pub(super) fn feed(&mut self, input: Input) {
        self.journal.before(Instant(self.now), &input);
        self.switch.input(Instant(self.now), input, &mut self.out);
        self.journal.after(&self.out);
        let deliveries = std::mem::take(&mut self.out.deliveries);
        self.out.clear();
        for (endpoint, frame) in deliveries {
            self.feed(Input::Deliver { endpoint, frame });
        }
    }

    pub(super) fn send(&mut self, port: PortId, bytes: &[u8]) {
        self.now += 1_000;
        self.feed(Input::Frame { port, frame: Frame::from_bytes(bytes) });
    }

    /// Some frames of many kinds, a change, and what is due between batches.
    pub(super) fn round(&mut self, n: u64) {
        let ab = Link { src: mac(2), dst: mac(3) };
        let up = Link { src: mac(2), dst: NodeConfig::GATEWAY_MAC };
        let of = |n| Ipv4Address::new(10, 1, 0, n);
        let port = (n % 60_000) as u16 + 1;
        let payload = vec![low(n); (n * 37 % 900) as usize];
        self.send(A, &ab.ipv4(of(2), of(3)).udp(port, 53, &payload));
        self.send(A, &up.ipv4(of(2), of(1)).echo(true, 1, port, &payload));
        self.send(A, &up.ipv4(of(2), of(1)).tcp((port, 80), 2, 1, 0, &[]));
        self.send(B, &payload);
        if n.is_multiple_of(16) {
            self.feed(Input::Change(Change::PortUp(B, n.is_multiple_of(32))));
        }
        self.between();
    }

    pub(super) fn between(&mut self) {
        self.journal.between(Instant(self.now), &mut self.switch);
    }

    /// State and chain.
    pub(super) fn state(&mut self) -> (u64, Chain) {
        (self.switch.digest(), *self.journal.recorder().chain())
    }
}

/// The state that a ring leads to from its oldest start, by the public way: an excerpt, replayed.
pub(super) fn replayed(past: &Past) -> (u64, Chain) {
    let excerpt = past.excerpt(None).unwrap();
    let mut replay = match &excerpt.state {
        Some(state) => Replay::from_state(Switch::restore(state, 77).unwrap(), excerpt.chain),
        None => Replay::from_begin(77),
    };
    for record in stack::journal::records(&excerpt.records) {
        replay.record(record.unwrap()).unwrap();
    }
    (replay.switch().unwrap().digest(), *replay.chain())
}

#[test]
fn a_worker_goes_on_where_the_last_one_died() {
    let scratch = Scratch::new();
    let mut worker = Worker::start(&scratch, 1_000);
    assert_eq!((worker.recovered, &worker.notice), (None, &None));
    for life in 0..6_u64 {
        for n in 0..300 * life {
            worker.round(n);
        }
        assert_eq!(replayed(&worker.past), worker.state());
        let (before, now) = (worker.state(), worker.now);
        // No destructor writes anything; a process that is killed leaves the same files.
        drop(worker);
        worker = Worker::start(&scratch, now + 5_000_000);
        let how = worker.recovered.unwrap();
        assert_eq!((how.digest, how.chain), before);
        assert_eq!(worker.notice, None);
        assert_eq!(worker.switch.digest(), before.0);
    }
    let excerpt = worker.past.excerpt(None).unwrap();
    assert_eq!(excerpt.utc_offset, 1_700_000_000_000_000_000);
}

#[test]
fn half_of_the_ring_can_be_replayed_at_any_moment() {
    let scratch = Scratch::new();
    let mut worker = Worker::start(&scratch, 1_000);
    let (mut lowest, mut n) = (u64::MAX, 0);
    let head = |worker: &mut Worker| worker.journal.recorder().place().position();
    while head(&mut worker) < 4 * layout::SIZE_MIN {
        worker.round(n);
        n += 1;
        if head(&mut worker) > layout::SIZE_MIN {
            let horizon = worker.past.horizon().unwrap();
            lowest = lowest.min(head(&mut worker) - horizon.position);
        }
        if n.is_multiple_of(4_000) {
            assert_eq!(replayed(&worker.past), worker.state());
        }
    }
    // A batch may pass between the half and the snapshot's begin.
    assert!(lowest + 8_192 >= layout::SIZE_MIN / 2, "{lowest}");
    let late = worker.past.excerpt(Some(Instant(worker.now))).unwrap();
    let early = worker.past.excerpt(None).unwrap();
    assert!(late.records.len() <= early.records.len());
    assert_eq!(late.labels, [(A, "pod/demo/a".to_owned())]);
    let horizon = worker.past.horizon();
    let refused = worker.past.excerpt(Some(Instant(2_000))).unwrap_err();
    assert_eq!(refused, PastError::BeyondHorizon { horizon });
}

#[test]
fn another_boot_and_another_version_start_empty() {
    let scratch = Scratch::new();
    let mut worker = Worker::start(&scratch, 1_000);
    worker.round(1);
    drop(worker);
    let here = Identity::new(boot_id().unwrap());
    let cases = [
        (Identity { boot: [1, 2], ..here }, "earlier boot"),
        (Identity { reasons: 3, ..here }, "another version"),
        (Identity { build: [7; 4], ..here }, "another version"),
    ];
    for (identity, word) in cases {
        let why = recovery::recover(&scratch.options(), &identity, Instant(9), 1).unwrap_err();
        assert!(why.to_string().contains(word), "{why}");
    }
    // What is no ring at all is replaced, with a reason.
    std::fs::write(scratch.ring(), vec![3; 10_000]).unwrap();
    let worker = Worker::start(&scratch, 9_000);
    assert!(worker.recovered.is_none());
    assert!(worker.notice.unwrap().contains("started empty"));
}

#[test]
fn whole_frames_are_recorded_when_asked_for() {
    let scratch = Scratch::new();
    let options = Options { payload: true, ..scratch.options() };
    let mut opened = open(&options, &begun(1, 1)).unwrap();
    let frame = Frame::from_bytes(&[5; 60_000]);
    opened.journal.recorder().frame(Instant(2), Door::Port(A), &frame);
    assert!(opened.past.excerpt(None).unwrap().records.len() > 60_000);
}

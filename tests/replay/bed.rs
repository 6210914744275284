//! Journals to record: a switch is driven by what the fuzzer and the goldens make, and every input
//! is written down.

use std::path::Path;

use recording::Excerpt;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr};
use stack::config::diff;
use stack::journal::frame::Door;
use stack::journal::{Begin, Chain, Recorder, Tape};
use stack::wire::build::Link;
use stack::{
    Change, Config, Frame, Input, Instant, Limits, NodeConfig, Outbox, PortConfig, PortId,
    PortKind, Route, RouteTarget, Seeds, Switch,
};

use crate::{capture, frames, topology};

/// From the switch's clock to UTC.
pub(crate) const UTC_OFFSET: i64 = 1_700_000_000_000_000_000;

/// A switch with its journal.
pub(crate) struct Bed {
    pub(crate) switch: Switch,
    recorder: Recorder<Tape>,
    out: Outbox,
    pub(crate) now: Instant,
    /// Bytes of the journal before the excerpt, and how that begins.
    from: usize,
    start: Excerpt,
}

impl Bed {
    /// A journal that begins with an empty switch.
    pub(crate) fn new(limits: Limits, config: &Config) -> Self {
        let seeds = Seeds { table: 5, choice: 9 };
        let mut recorder = Recorder::new(Tape::default(), Chain::new(), false);
        let now = Instant(5_000_000_000);
        recorder.begin(now, &Begin::new(limits, seeds));
        let switch = Switch::new(Config::default(), limits, seeds);
        let out = Outbox::default();
        let start = Excerpt { utc_offset: UTC_OFFSET, ..Excerpt::default() };
        let mut bed = Self { switch, recorder, out, now, from: 0, start };
        for change in diff(&Config::default(), config) {
            bed.change(change);
        }
        bed
    }

    pub(crate) fn change(&mut self, change: Change) {
        self.recorder.change(self.now, &change);
        self.input(Input::Change(change));
    }

    pub(crate) fn frame(&mut self, port: PortId, frame: Frame) {
        self.recorder.frame(self.now, Door::Port(port), &frame);
        self.input(Input::Frame { port, frame });
    }

    pub(crate) fn tick(&mut self) {
        self.recorder.tick(self.now);
        self.input(Input::Tick);
    }

    fn input(&mut self, input: Input) {
        self.out.clear();
        self.switch.input(self.now, input, &mut self.out);
        self.recorder.outcome(&self.out);
        for (endpoint, frame) in std::mem::take(&mut self.out.deliveries) {
            self.recorder.frame(self.now, Door::Endpoint(endpoint), &frame);
            self.input(Input::Deliver { endpoint, frame });
        }
    }

    pub(crate) fn digest(&mut self) {
        self.recorder.digest(self.now, self.switch.tables().walks());
    }

    /// A state's digest, as if a snapshot had been taken of it.
    pub(crate) fn mark(&mut self, number: u64) {
        self.recorder.mark(self.now, number);
        let digests = self.switch.digests();
        self.tick();
        self.recorder.state(self.now, number, digests.words());
    }

    /// A frame whose carrying out was never recorded: it crashed the worker.
    pub(crate) fn poison(&mut self, port: PortId) {
        self.recorder.frame(self.now, Door::Port(port), &Frame::from_bytes(&[3; 80]));
        let mut chain = *self.recorder.chain();
        chain.skip();
        let mut tape = std::mem::take(self.recorder.place_mut());
        tape.set_newest_aside();
        self.recorder = Recorder::new(tape, chain, false);
        self.recorder.skip(self.now, "it crashed the worker twice");
        self.recorder.resume(self.now, "after a crash");
    }

    /// A datagram to the gateway, which is delivered to it.
    fn ask_gateway(&mut self) {
        let link = Link { src: config().ports[2].mac, dst: NodeConfig::GATEWAY_MAC };
        let (from, to) = (Ipv4Address::new(10, 1, 1, 5), Ipv4Address::new(10, 1, 1, 1));
        self.frame(PortId(2), Frame::from_bytes(&link.ipv4(from, to).udp(7, 9, &[7; 400])));
    }

    pub(crate) fn label(&mut self, port: PortId, name: &str) {
        self.recorder.label(self.now, port, name);
    }

    pub(crate) fn clock(&mut self, utc_offset: i64) {
        self.recorder.clock(self.now, utc_offset);
    }

    /// The excerpt begins here, with a snapshot.
    pub(crate) fn begin_here(&mut self, labels: &[(PortId, &str)]) {
        let named = labels.iter().map(|(port, name)| (*port, (*name).to_owned()));
        self.start = Excerpt {
            state: Some(self.switch.snapshot()),
            chain: *self.recorder.chain(),
            utc_offset: UTC_OFFSET,
            labels: named.collect(),
            records: Vec::new(),
        };
        self.from = self.recorder.place().bytes().len();
    }

    pub(crate) fn excerpt(&self) -> Excerpt {
        let records = self.recorder.place().bytes()[self.from..].to_vec();
        Excerpt { records, ..self.start.clone() }
    }
}

/// The frames' own hosts `a` and `b` as pods 2 and 3, a third pod of a small MTU, the node, the
/// gateway.
pub(crate) fn config() -> Config {
    let four = |n| Ipv4Address::new(10, 1, 1, n);
    let six = |n| Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n);
    let node = NodeConfig {
        gateway4: Some(Ipv4Cidr::new(four(1), 24)),
        gateway6: Some(Ipv6Cidr::new(six(1), 64)),
        addresses: vec![Ipv4Address::new(192, 0, 2, 10).into()],
        ..NodeConfig::default()
    };
    let port = |id: u8, mac: u8, kind, addresses, mtu| PortConfig {
        id: PortId(u32::from(id)),
        kind,
        mac: EthernetAddress([2, 0, 0, 0, 0, mac]),
        addresses,
        allowed: vec![],
        mtu,
        up: true,
    };
    let pod = |id: u8, n: u8, mtu| {
        let own = vec![four(n).into(), six(n.into()).into()];
        port(id, id - 1, PortKind::Pod, own, mtu)
    };
    let route = |prefix, target| Route { prefix, target };
    let four_net = |address, bits| IpCidr::new(Ipv4Address::from(address).into(), bits);
    Config {
        ports: vec![
            Switch::gateway_port(&node, PortId(0)),
            port(1, 9, PortKind::Host, node.addresses.clone(), 1_500),
            pod(2, 5, 1_500),
            pod(3, 6, 9_000),
            pod(4, 7, 150),
        ],
        routes: vec![
            route(four_net([10, 1, 1, 0], 24), RouteTarget::Connected),
            route(IpCidr::new(six(0).into(), 64), RouteTarget::Connected),
            route(four_net([0; 4], 0), RouteTarget::Port(PortId(1))),
            route(four_net([203, 0, 113, 0], 24), RouteTarget::Blackhole),
        ],
        node,
        services: Vec::new(),
        complete: true,
    }
}

pub(crate) const LABELS: &[(PortId, &str)] = &[
    (PortId(0), "endpoint/gateway"),
    (PortId(1), "host"),
    (PortId(2), "pod/demo/a"),
    (PortId(3), "pod/demo/b"),
];

/// Limits that are reached soon.
pub(crate) fn limits() -> Limits {
    Limits { errors_burst: 2, flood_burst: 2, ports_max: 8, ..Limits::default() }
}

/// Frames of the fuzzer from every port, with all other kinds of records among them. From an empty
/// switch, or from a state amid.
pub(crate) fn generated(seed: u64, count: u32, from_state: bool) -> Bed {
    made(seed, count, from_state, true)
}

/// The same; `marks` says whether digests of the state are among the records.
pub(crate) fn made(seed: u64, count: u32, from_state: bool, marks: bool) -> Bed {
    let mut maker = frames::Maker::new(seed);
    let mut bed = Bed::new(limits(), &config());
    for number in 0..count {
        if from_state && number == count / 3 {
            bed.begin_here(LABELS);
        }
        let (bytes, offload) = maker.next();
        let draw = seed.wrapping_mul(31).wrapping_add(u64::from(number).wrapping_mul(0x9e37_79b9));
        bed.now = Instant(bed.now.0 + draw % 3_000_000);
        let mut frame = Frame::from_bytes(&bytes);
        frame.set_offload(offload);
        bed.frame(PortId(u32::try_from(draw >> 7 & 7).unwrap().min(5)), frame);
        match number % 97 {
            10 => bed.tick(),
            20 => bed.change(Change::PortUp(PortId(3), number % 2 == 0)),
            30 => bed.poison(PortId(2)),
            40 => bed.label(PortId(4), "pod/demo/c"),
            50 => bed.clock(UTC_OFFSET + i64::from(number)),
            60 => bed.change(Change::Routes(config().routes)),
            70 if marks => bed.mark(u64::from(number)),
            80 => bed.ask_gateway(),
            _ if number % 50 == 49 => bed.digest(),
            _ => {}
        }
    }
    bed.digest();
    bed
}

/// The inputs of every golden, each as an excerpt with its name.
pub(crate) fn goldens() -> Vec<(String, Excerpt)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read_to_string(path.join("topology.txt")) else { continue };
        let topology = topology::Topology::read(&text);
        let mut bed = Bed::new(topology.limits, &topology.config);
        for (port, name) in topology.ports() {
            bed.label(port, name);
        }
        for seen in capture::read(&topology, &std::fs::read(path.join("in.pcapng")).unwrap()) {
            bed.now = bed.now.max(seen.time);
            bed.frame(seen.port, seen.frame);
        }
        bed.digest();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        all.push((name, bed.excerpt()));
    }
    all.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(all.len() > 10);
    all
}

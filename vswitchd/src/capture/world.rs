//! A node for tests: a real switch with a host port and three pods, and captures that watch it.
//!
//! ```text
//!   pod/demo/a 10.1.0.2 fd00:1::2 --+
//!   pod/demo/b 10.1.0.3 fd00:1::3 --+-- switch --- host 192.0.2.10 2001:db8::10
//!   pod/demo/c 10.1.0.4 (mtu 1280) -+   endpoint/gateway 10.1.0.1 fd00:1::1
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use recording::Excerpt;
use smoltcp::wire::{EthernetAddress, IpAddress, Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr};
use stack::journal::frame::Door;
use stack::journal::{Chain, Recorder, Tape};
use stack::wire::build::{Link, flags};
use stack::{
    Change, Checksum, Config, Duration, Frame, Gso, GsoKind, Input, Instant, Limits, NodeConfig,
    Offload, Outbox, PortConfig, PortId, PortKind, Route, RouteTarget, Seeds, Switch,
};

use super::Options;
use super::format::Format;
use super::session::{Receiver, Session, open};
use super::walks::{self, PutIn};
use crate::directory::{Directory, Label, Shared};

pub(crate) const HOST: PortId = PortId(1);
pub(crate) const GATEWAY: PortId = PortId(9);
pub(crate) const A: PortId = PortId(2);
pub(crate) const B: PortId = PortId(3);
pub(crate) const C: PortId = PortId(4);
/// From the clock of [`World::put`] to UTC.
pub(crate) const UTC_OFFSET: i64 = 1_700_000_000_000_000_000;

pub(crate) struct World {
    pub(crate) switch: Switch,
    pub(crate) names: Shared,
    pub(crate) now: Instant,
    pub(crate) sessions: Vec<Session>,
    /// All that was put in, from `start` on.
    recorder: Recorder<Tape>,
    start: Vec<u8>,
}

pub(crate) fn mac(port: PortId) -> EthernetAddress {
    let [.., last] = port.0.to_be_bytes();
    EthernetAddress([2, 0, 0, 0, 0, last])
}

pub(crate) fn v4(port: PortId) -> Ipv4Address {
    let [.., last] = port.0.to_be_bytes();
    Ipv4Address::new(10, 1, 0, last)
}

pub(crate) fn v6(port: PortId) -> Ipv6Address {
    let [low, high] = [port.0 >> 16, port.0 & 0xffff].map(|part| u16::try_from(part).unwrap());
    Ipv6Address::new(0xfd00, 1, 0, 0, 0, 0, low, high)
}

fn port(id: PortId, kind: PortKind, addresses: Vec<IpAddress>, mtu: u16) -> PortConfig {
    PortConfig { id, kind, mac: mac(id), addresses, allowed: Vec::new(), mtu, up: true }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        let node = vec![
            IpAddress::v4(192, 0, 2, 10),
            Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10).into(),
        ];
        let pod =
            |id: PortId, mtu| port(id, PortKind::Pod, vec![v4(id).into(), v6(id).into()], mtu);
        let route = |prefix, target| Route { prefix, target };
        let four = Ipv4Cidr::new(v4(PortId(1)), 24);
        let six = Ipv6Cidr::new(v6(PortId(1)), 64);
        let described = NodeConfig {
            gateway4: Some(four),
            gateway6: Some(six),
            addresses: node.clone(),
            ..NodeConfig::default()
        };
        let config = Config {
            ports: vec![
                Switch::gateway_port(&described, GATEWAY),
                port(HOST, PortKind::Host, node, 65_535),
                pod(A, 65_535),
                pod(B, 65_535),
                pod(C, 1_280),
            ],
            node: described,
            routes: vec![
                route(four.network().into(), RouteTarget::Connected),
                route(Ipv6Cidr::new(v6(PortId(0)), 64).into(), RouteTarget::Connected),
                route(Ipv4Cidr::new(Ipv4Address::UNSPECIFIED, 0).into(), RouteTarget::Port(HOST)),
                route(Ipv6Cidr::new(Ipv6Address::UNSPECIFIED, 0).into(), RouteTarget::Port(HOST)),
            ],
            services: Vec::new(),
            complete: true,
        };
        let label = |name: &str| Label::Pod { namespace: "demo".into(), name: name.into() };
        let ports = BTreeMap::from([
            (HOST, Label::Host),
            (GATEWAY, Label::Endpoint("gateway")),
            (A, label("a")),
            (B, label("b")),
            (C, label("c")),
        ]);
        let mut switch = Switch::new(config, limits, Seeds::default());
        Self {
            start: switch.snapshot(),
            switch,
            recorder: Recorder::new(Tape::default(), Chain::new(), false),
            names: Arc::new(ArcSwap::from_pointee(Directory { ports, ..Directory::default() })),
            now: Instant(5_000_000_000),
            sessions: Vec::new(),
        }
    }

    /// Puts a frame in, shows its walk to the captures, and gives back what left.
    pub(crate) fn put(&mut self, ingress: PortId, frame: Frame) -> Vec<(PortId, Frame)> {
        self.now = Instant(self.now.0 + 1_000_001);
        let (window, len, offload) = (frame.window().to_vec(), frame.len(), *frame.offload());
        let mut out = Outbox::default();
        self.recorder.frame(self.now, Door::Port(ingress), &frame);
        self.switch.input(self.now, Input::Frame { port: ingress, frame }, &mut out);
        self.recorder.outcome(&out);
        assert_eq!(out.walked.len(), 1);
        // As the event loop does: the window is kept, the rest is what became of the frame.
        let frame = PutIn { bytes: &window, len, offload, known: usize::MAX };
        let sessions = &mut self.sessions;
        walks::each(self.now, Some(frame), &out, |walk| {
            sessions.retain_mut(|session| session.observe(walk));
        });
        out.transmits.into_iter().map(|sent| (sent.port, sent.frame)).collect()
    }

    /// Changes desired state.
    pub(crate) fn change(&mut self, change: Change) {
        self.now = Instant(self.now.0 + 1_000_001);
        let mut out = Outbox::default();
        self.recorder.change(self.now, &change);
        self.switch.input(self.now, Input::Change(change), &mut out);
        self.recorder.outcome(&out);
        assert_eq!(out.events, []);
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
        let mut out = Outbox::default();
        self.recorder.tick(self.now);
        self.switch.input(self.now, Input::Tick, &mut out);
        self.recorder.outcome(&out);
    }

    /// The recording begins here.
    pub(crate) fn begin_here(&mut self) {
        self.start = self.switch.snapshot();
        self.recorder = Recorder::new(Tape::default(), Chain::new(), false);
    }

    /// All of it as a recording would hold it.
    pub(crate) fn excerpt(&self) -> Excerpt {
        let names = self.names.load();
        let labels = names.ports.iter().map(|(port, label)| (*port, label.to_string()));
        Excerpt {
            state: Some(self.start.clone()),
            chain: Chain::new(),
            utc_offset: UTC_OFFSET,
            labels: labels.collect(),
            records: self.recorder.place().bytes().to_vec(),
        }
    }

    /// Starts a capture.
    pub(crate) fn capture(&mut self, options: Options) -> File {
        let format = Format::new(&options, self.names.clone(), 0);
        let (session, receiver) = open(options, UTC_OFFSET);
        self.sessions.push(session);
        File { format, receiver }
    }

    /// Traffic of every kind that ends in every way.
    pub(crate) fn traffic(&mut self) {
        for (port, frame) in frames() {
            self.put(port, frame);
        }
    }
}

/// A capture's file before it is written.
pub(crate) struct File {
    format: Format,
    pub(crate) receiver: Receiver,
}

impl File {
    /// The whole file.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.format.begin(&mut out);
        while let Some(record) = self.receiver.pop() {
            self.format.record(&record, &mut out);
        }
        self.format.end(&self.receiver.lost(), &mut out);
        out
    }
}

/// A DNS query that tshark finds nothing wrong with: who is "a"?
const QUERY: &[u8] = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";

/// To the gateway's MAC.
pub(crate) fn routed(from: PortId) -> Link {
    Link { src: mac(from), dst: NodeConfig::GATEWAY_MAC }
}

/// To another pod's MAC.
pub(crate) fn bridged(from: PortId, to: PortId) -> Link {
    Link { src: mac(from), dst: mac(to) }
}

/// A TCP frame as a pod with offloads sends it: the checksum is partial, and more than `size` bytes
/// of payload make it a super-frame.
pub(crate) fn offloaded(from: PortId, to: PortId, payload: usize, size: u16) -> Frame {
    // Frames of another length are other packets.
    let seq = 90 + u32::try_from(payload).unwrap() / 10;
    let payload: Vec<u8> = (0..payload).map(|at| u8::try_from(at % 253).unwrap()).collect();
    let ip = bridged(from, to).ipv4(v4(from), v4(to));
    let mut bytes = ip.tcp((41_000, 80), flags::ACK | flags::PSH, seq, 7, &payload);
    // The field holds the pseudo-header's sum, not complemented (virtio 1.2, 5.1.6.2).
    let mut sum = 6 + u32::try_from(20 + payload.len()).unwrap();
    for pair in bytes[26..34].as_chunks::<2>().0 {
        sum += u32::from(u16::from_be_bytes(*pair));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[50..52].copy_from_slice(&u16::try_from(sum).unwrap().to_be_bytes());
    let mut frame = Frame::from_bytes(&bytes);
    let gso = (payload.len() > usize::from(size)).then_some(Gso {
        kind: GsoKind::Tcp4,
        size,
        ecn: false,
    });
    let checksum = Checksum::Partial { start: 34, offset: 16 };
    frame.set_offload(Offload { checksum, gso, fragment_mtu: None });
    frame
}

fn frames() -> Vec<(PortId, Frame)> {
    let outside = Ipv4Address::new(203, 0, 113, 9);
    let outside6 = Ipv6Address::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9);
    let unknown = EthernetAddress([0; 6]);
    let broadcast = Link { src: mac(A), dst: EthernetAddress::BROADCAST };
    let four = |from, to| bridged(from, to).ipv4(v4(from), v4(to));
    let six = |from, to| bridged(from, to).ipv6(v6(from), v6(to));
    let plain = vec![
        (A, four(A, B).tcp((40_000, 80), flags::SYN, 1, 0, &[])),
        (B, four(B, A).tcp((80, 40_000), flags::SYN | flags::ACK, 9, 2, &[])),
        (A, four(A, B).tcp((40_000, 80), flags::ACK, 2, 10, b"GET / HTTP/1.0")),
        (A, four(A, B).udp(1_000, 53, QUERY)),
        (A, six(A, B).udp(1_000, 53, QUERY)),
        (A, six(A, B).tcp((40_001, 443), flags::SYN, 1, 0, &[])),
        (A, routed(A).ipv4(v4(A), outside).udp(5_000, 443, &[7; 100])),
        (A, routed(A).ipv6(v6(A), outside6).udp(5_000, 443, &[7; 101])),
        (HOST, routed(HOST).ipv4(outside, v4(A)).udp(443, 5_000, &[8; 99])),
        (A, routed(A).ipv4(v4(A), outside).hop_limit(1).udp(5_001, 33_434, b"traceroute")),
        (A, routed(A).ipv6(v6(A), outside6).hop_limit(1).udp(5_001, 33_434, b"traceroute")),
        (A, routed(A).ipv4(v4(A), v4(PortId(1))).echo(true, 7, 1, b"ping")),
        (A, routed(A).ipv6(v6(A), v6(PortId(1))).echo(true, 7, 1, b"ping")),
        (HOST, routed(HOST).ipv4(outside, v4(C)).udp(443, 5_000, &[8; 1_400])),
        (HOST, routed(HOST).ipv4(outside, v4(C)).may_fragment().udp(443, 5_000, &[8; 1_401])),
        (HOST, routed(HOST).ipv4(outside, v4(PortId(99))).udp(443, 5_000, b"nobody")),
        (A, broadcast.arp(true, (mac(A), v4(A)), (unknown, v4(B)))),
        (A, broadcast.arp(true, (mac(A), v4(A)), (unknown, v4(PortId(99))))),
        (A, broadcast.arp(true, (mac(A), v4(B)), (unknown, v4(B)))),
        (A, broadcast.ipv4(v4(A), Ipv4Address::BROADCAST).udp(9_999, 9_999, b"all")),
        (A, bridged(A, B).ipv4(v4(C), v4(B)).udp(1, 2, b"spoofed")),
        (A, bridged(A, B).raw(0x88b5, &[3; 50])),
        (A, bridged(A, PortId(77)).ipv4(v4(A), v4(B)).udp(1, 2, b"stale")),
    ];
    let plain = plain.into_iter().map(|(port, bytes)| (port, Frame::from_bytes(&bytes)));
    let mut all: Vec<_> = plain.collect();
    all.push((A, offloaded(A, B, 500, 1_448)));
    all.push((A, offloaded(A, B, 30_000, 1_448)));
    all
}

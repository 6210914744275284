//! The switch as a whole, through its door: what each kind of frame comes to, and the laws that
//! hold for all.
//!
//! ```text
//!   pod a  10.244.1.2  fd00:1::2 --+                 +-- hop0 (node 192.0.2.10, 2001:db8::10)
//!   pod b  10.244.1.3  fd00:1::3 --+-- gateway .1 ---+
//!   pod c  10.244.1.4, MTU 9000  --+   ::1
//! ```

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use smoltcp::wire::{
    EthernetAddress, IpAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr,
};

use super::Switch;
use crate::config::{
    Change, Config, Limits, NodeConfig, PortConfig, PortKind, Route, RouteTarget, Seeds,
};
use crate::drop::{DropReason, seen};
use crate::input::{EndpointId, Event, Frame, Gso, GsoKind, Input, Offload, Outbox, PortId};
use crate::time::{Duration, Instant};
use crate::trace::{AnswerKind, Numbered, Trace, Verdict};
use crate::wire::build::Link;

mod answers;
mod fast;
mod laws;
mod paths;
mod refusals;
mod rejects;
mod services;

const GATEWAY: EthernetAddress = NodeConfig::GATEWAY_MAC;
const ENDPOINT: PortId = PortId(0);
const HOST: PortId = PortId(1);
const A: PortId = PortId(2);
const B: PortId = PortId(3);
const C: PortId = PortId(4);
const NODE4: Ipv4Address = Ipv4Address::new(192, 0, 2, 10);
const NODE6: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
const OUTSIDE4: Ipv4Address = Ipv4Address::new(198, 51, 100, 7);
const OUTSIDE6: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);

fn mac(n: u8) -> EthernetAddress {
    EthernetAddress([0x02, 0x48, 10, 244, 1, n])
}

fn v4(n: u8) -> Ipv4Address {
    Ipv4Address::new(10, 244, 1, n)
}

fn v6(n: u16) -> Ipv6Address {
    Ipv6Address::new(0xfd00, 1, 0, 0, 0, 0, 0, n)
}

fn pod(id: PortId, n: u8, mtu: u16) -> PortConfig {
    PortConfig {
        id,
        kind: PortKind::Pod,
        mac: mac(n),
        addresses: vec![v4(n).into(), v6(n.into()).into()],
        allowed: Vec::new(),
        mtu,
        up: true,
    }
}

fn config() -> Config {
    let node = NodeConfig {
        gateway4: Some(Ipv4Cidr::new(v4(1), 24)),
        gateway6: Some(Ipv6Cidr::new(v6(1), 64)),
        addresses: vec![NODE4.into(), NODE6.into()],
        // Pods keep their addresses everywhere, unless a test is about that.
        non_masquerade: vec![
            IpCidr::new(Ipv4Address::UNSPECIFIED.into(), 0),
            IpCidr::new(Ipv6Address::UNSPECIFIED.into(), 0),
        ],
        ..NodeConfig::default()
    };
    let host = PortConfig {
        id: HOST,
        kind: PortKind::Host,
        mac: mac(250),
        addresses: vec![NODE4.into(), NODE6.into()],
        allowed: Vec::new(),
        mtu: 1_500,
        up: true,
    };
    let route =
        |address: IpAddress, bits, target| Route { prefix: IpCidr::new(address, bits), target };
    Config {
        ports: vec![
            Switch::gateway_port(&node, ENDPOINT),
            host,
            pod(A, 2, 1_500),
            pod(B, 3, 1_500),
            pod(C, 4, 9_000),
        ],
        node,
        routes: vec![
            route(v4(0).into(), 24, RouteTarget::Connected),
            route(v6(0).into(), 64, RouteTarget::Connected),
            route(Ipv4Address::UNSPECIFIED.into(), 0, RouteTarget::Port(HOST)),
            route(Ipv6Address::UNSPECIFIED.into(), 0, RouteTarget::Port(HOST)),
            route(Ipv4Address::new(203, 0, 113, 0).into(), 24, RouteTarget::Blackhole),
        ],
        services: vec![],
        complete: true,
    }
}

fn seeds(table: u64) -> Seeds {
    Seeds { table, choice: 7 }
}

/// A switch and what it said last.
struct Bed {
    switch: Switch,
    now: Instant,
    out: Outbox,
}

impl Bed {
    fn new() -> Self {
        Self::with(config())
    }

    fn with(config: Config) -> Self {
        let switch = Switch::new(config, Limits::default(), seeds(1));
        Self { switch, now: Instant(1_000_000_000), out: Outbox::default() }
    }

    fn change(&mut self, change: Change) -> Vec<Event> {
        self.out.clear();
        self.switch.input(self.now, Input::Change(change), &mut self.out);
        self.out.events.clone()
    }

    /// Puts a frame in, checks that the dry run had said the same and changed nothing, and that
    /// counts add up.
    fn put(&mut self, port: PortId, frame: Frame) -> Verdict {
        let before = self.switch.digest();
        let mut predicted = self.switch.trace(self.now, port, &frame);
        assert_eq!(before, self.switch.digest(), "a dry run changes nothing");
        self.out.clear();
        self.switch.input(self.now, Input::Frame { port, frame }, &mut self.out);
        let walked = self.out.walked.first().expect("each frame walks");
        predicted.number = walked.number;
        assert_eq!(&predicted, walked, "the dry run is the walk");
        assert_eq!(self.switch.counters().imbalances(), [], "what came in is accounted for");
        if let Verdict::Drop(reason)
        | Verdict::Answer(AnswerKind::Error { reason, .. } | AnswerKind::Reset { reason }) =
            walked.verdict
        {
            seen::note(reason);
        }
        walked.verdict
    }

    fn send(&mut self, port: PortId, bytes: &[u8]) -> Verdict {
        self.put(port, Frame::from_bytes(bytes))
    }

    /// The frames written, as port and bytes.
    fn sent(&self) -> Vec<(PortId, Vec<u8>)> {
        self.out.transmits.iter().map(|t| (t.port, t.frame.bytes().to_vec())).collect()
    }

    fn only(&self) -> (PortId, Vec<u8>) {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "one frame leaves");
        sent.into_iter().next().expect("there is one")
    }
}

/// The lines of a trace.
fn lines(trace: &Trace, window: &[u8]) -> Vec<String> {
    (0..trace.hops().len())
        .map(|hop| {
            let mut line = String::new();
            trace.line(hop, window, &Numbered, &mut line).expect("a String takes everything");
            line
        })
        .collect()
}

fn between(from: u8, to: EthernetAddress) -> Link {
    Link { src: mac(from), dst: to }
}

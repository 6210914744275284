//! The fast path comes to what the whole walk comes to, or to nothing.

use super::super::{Given, Walker, decide};
use super::*;
use crate::config::{Backend, Frontend, FrontendKind, ServiceConfig, ServiceId, ServiceProtocol};
use crate::hash::Hasher;
use crate::input::Checksum;
use crate::pipeline::{walk, walk_whole};
use crate::table::{Effect, Effects};
use crate::wire::build::flags;

const VIP4: Ipv4Address = Ipv4Address::new(10, 96, 0, 10);
const VIP6: Ipv6Address = Ipv6Address::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10);

/// Numbers that follow from a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        let mut hasher = Hasher::new(1);
        hasher.number(self.0);
        self.0 += 1_000_003;
        hasher.finish() % bound
    }

    fn once_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

fn service(is_ipv6: bool, protocol: ServiceProtocol, pods: &[u8]) -> ServiceConfig {
    let backend = |pod: &u8| Backend {
        local: true,
        ..Backend::ready(if is_ipv6 { v6((*pod).into()).into() } else { v4(*pod).into() }, 8_080)
    };
    let vip: IpAddress = if is_ipv6 { VIP6.into() } else { VIP4.into() };
    ServiceConfig {
        frontends: vec![Frontend { kind: FrontendKind::ClusterIp, address: Some(vip), port: 80 }],
        backends: pods.iter().map(backend).collect(),
        ..ServiceConfig::new(
            ServiceId(u32::from(is_ipv6) * 10 + protocol as u32),
            "default/web",
            protocol,
        )
    }
}

/// A switch, its wire, and what came out of it and may be answered.
struct World {
    switch: Switch,
    out: Outbox,
    now: Instant,
    draw: Draw,
    left: Vec<(PortId, Vec<u8>)>,
    fast: u32,
    node: NodeConfig,
    routes: Vec<Route>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut config = config();
        config.node.service_cidrs = vec![
            IpCidr::new(Ipv4Address::new(10, 96, 0, 0).into(), 16),
            IpCidr::new(Ipv6Address::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0).into(), 64),
        ];
        if seed.is_multiple_of(2) {
            config.node.non_masquerade.clear();
        }
        let protocols = [ServiceProtocol::Tcp, ServiceProtocol::Udp];
        config.services = [false, true]
            .into_iter()
            .flat_map(|six| protocols.map(|protocol| service(six, protocol, &[2, 3, 4])))
            .collect();
        let (node, routes) = (config.node.clone(), config.routes.clone());
        Self {
            switch: Switch::new(config, Limits::default(), seeds(seed)),
            out: Outbox::default(),
            now: Instant(1_000_000_000),
            draw: Draw(seed),
            left: Vec::new(),
            fast: 0,
            node,
            routes,
        }
    }

    /// One segment or datagram of a client, or an answer to something that left.
    fn speak(&mut self) -> (PortId, Vec<u8>) {
        if !self.left.is_empty() && !self.draw.once_in(3) {
            let at = self.draw.below(self.left.len() as u64);
            return self.left[usize::try_from(at).unwrap()].clone();
        }
        let (port, n) = self.draw.of(&[(A, 2), (B, 3), (C, 4), (HOST, 250)]);
        let other = if n == 2 { self.draw.of(&[3_u8, 4]) } else { 2 };
        let to_mac = if n == 250 || self.draw.once_in(2) { GATEWAY } else { mac(other) };
        let ports =
            (40_000 + u16::try_from(self.draw.below(2)).unwrap(), self.draw.of(&[80, 8_080]));
        let link = Link { src: mac(n), dst: to_mac };
        let ip = if self.draw.once_in(2) {
            let to = self.draw.of(&[VIP4, v4(other), OUTSIDE4]);
            link.ipv4(if n == 250 { OUTSIDE4 } else { v4(n) }, to)
        } else {
            let to = self.draw.of(&[VIP6, v6(other.into()), OUTSIDE6]);
            link.ipv6(if n == 250 { OUTSIDE6 } else { v6(n.into()) }, to)
        };
        let ip = ip.hop_limit(self.draw.of(&[1, 2, 64, 64, 64]));
        (port, self.upper(ip, ports))
    }

    fn upper(&mut self, ip: crate::wire::build::Ip, ports: (u16, u16)) -> Vec<u8> {
        let payload = vec![7; self.draw.of(&[0, 1, 100, 1_400, 1_600])];
        if self.draw.once_in(3) {
            return ip.udp(ports.0, ports.1, &payload);
        }
        let syn = self.draw.once_in(4);
        let flags = if syn { flags::SYN } else { self.draw.of(&FLAGS) };
        let seq = u32::try_from(self.draw.below(3) * 100).unwrap();
        let ack = u32::try_from(self.draw.below(3) * 100).unwrap();
        ip.tcp(ports, flags, seq, ack, if syn { &[] } else { &payload })
    }

    /// The answer to a frame that left, as its receiver would send it.
    fn note(&mut self) {
        let Some(sent) = self.out.transmits.first() else { return };
        let bytes = sent.frame.bytes();
        let Ok(packet) = crate::pipeline::parse::parse(bytes, bytes.len(), &Offload::default())
        else {
            return;
        };
        let crate::pipeline::packet::Inner::Ip(ip) = packet.inner else { return };
        let Some((src, dst)) = ip.ports() else { return };
        let to_mac = match sent.port {
            A | B | C if self.draw.once_in(2) => packet.src,
            A | B | C => match ip.src {
                IpAddress::Ipv4(v4) if v4.octets()[..3] == [10, 244, 1] => mac(v4.octets()[3]),
                IpAddress::Ipv6(v6) if v6.segments()[0] == 0xfd00 => {
                    mac(u8::try_from(v6.segments()[7] & 0xff).unwrap())
                }
                IpAddress::Ipv4(_) | IpAddress::Ipv6(_) => GATEWAY,
            },
            _ => GATEWAY,
        };
        let link = Link { src: packet.dst, dst: to_mac };
        let Some(back) = link.ip(ip.dst, ip.src) else { return };
        let is_tcp = ip.protocol == smoltcp::wire::IpProtocol::Tcp;
        let answer = if is_tcp {
            let flags =
                self.draw.of(&[flags::SYN | flags::ACK, flags::ACK, flags::ACK | flags::FIN]);
            back.tcp((dst, src), flags, 0, 1, &[])
        } else {
            back.udp(dst, src, &[1; 8])
        };
        self.left.truncate(12);
        self.left.insert(0, (sent.port, answer));
    }

    /// Both walks of a frame, compared; then the frame goes in.
    fn step(&mut self) {
        let (port, bytes) = self.speak();
        let mut frame = Frame::from_bytes(&bytes);
        self.describe(&mut frame, &bytes);
        let slot = self.switch.tables.ports().slot(port);
        let run = |walk: Walker| {
            let (mut trace, mut effects) = (Trace::new(port), Effects::new());
            let given = Given { now: self.now, ingress: port, slot, frame: &frame, released: None };
            let tables = &self.switch.tables;
            let mut packet = None;
            let into = (&mut trace, &mut effects, &mut packet);
            let decision = decide(tables, walk, given, into);
            let effects = effects.iter().copied();
            let effects: Vec<Effect> =
                effects.filter(|e| !matches!(e, Effect::Carried(..))).collect();
            (trace, effects, decision.leave, packet.is_none())
        };
        let (short, whole) = (run(walk), run(walk_whole));
        let was_fast = short.3 && !whole.3;
        self.fast += u32::from(was_fast);
        assert_eq!((&short.0, &short.1, short.2), (&whole.0, &whole.1, whole.2));
        self.out.clear();
        self.switch.input(self.now, Input::Frame { port, frame }, &mut self.out);
        self.note();
    }

    /// Sometimes the frame is a super-frame, or its checksum partial, or one bit of it is wrong.
    fn describe(&mut self, frame: &mut Frame, bytes: &[u8]) {
        let (start, protocol) = match bytes[12..14] {
            [0x08, 0x00] => (34, bytes[23]),
            _ => (54, bytes[20]),
        };
        let offset = if protocol == 6 { 16 } else { 6 };
        let kind = match (protocol, start) {
            (6, 34) => GsoKind::Tcp4,
            (6, _) => GsoKind::Tcp6,
            _ => GsoKind::Udp,
        };
        let kind = if self.draw.once_in(20) { GsoKind::Udp } else { kind };
        let checksum = Checksum::Partial { start, offset };
        let gso = Gso { kind, size: self.draw.of(&[0, 500, 1_448, 1_500]), ecn: false };
        match self.draw.below(8) {
            0 => frame.set_offload(Offload { checksum, ..Offload::default() }),
            1 => frame.set_offload(Offload { checksum, gso: Some(gso), ..Offload::default() }),
            2 if self.draw.once_in(4) => {
                let at = usize::try_from(self.draw.below(70)).unwrap();
                let bit = 1 << self.draw.below(8);
                if let Some(byte) = frame.bytes_mut().get_mut(at) {
                    *byte ^= bit;
                }
            }
            _ => {}
        }
    }

    fn change(&mut self) {
        let pods = self.draw.of(&[&[2_u8, 3][..], &[3, 4], &[2, 3, 4], &[]]);
        let protocol = self.draw.of(&[ServiceProtocol::Tcp, ServiceProtocol::Udp]);
        let six = self.draw.once_in(2);
        let up = self.draw.once_in(2);
        let removed = service(six, protocol, pods).id;
        let change = match self.draw.below(7) {
            0 => Change::PortUp(self.draw.of(&[A, B]), up),
            1 => Change::Port(pod(A, 2, self.draw.of(&[1_400, 1_500]))),
            2 => Change::Complete(!self.draw.once_in(3)),
            3 => Change::ServiceRemoved(removed),
            4 => Change::Node(NodeConfig { vxlan_port: 8_080, ..self.node.clone() }),
            5 => Change::Routes(self.routes.iter().take(2).cloned().collect()),
            _ => Change::Service(service(six, protocol, pods)),
        };
        self.switch.input(self.now, Input::Change(change), &mut self.out);
        let both = [
            Change::PortUp(A, true),
            Change::PortUp(B, true),
            Change::Complete(true),
            Change::Node(self.node.clone()),
            Change::Routes(self.routes.clone()),
        ];
        self.step();
        self.switch.input(self.now, Input::Change(Change::All(both.to_vec())), &mut self.out);
    }
}

const FLAGS: [u8; 5] =
    [flags::ACK, flags::ACK, flags::ACK | flags::PSH, flags::ACK | flags::FIN, flags::RST];

#[test]
fn the_fast_path_comes_to_what_the_whole_walk_comes_to() {
    let mut fast = 0;
    for seed in 0..60 {
        let mut world = World::new(seed);
        for step in 0..600 {
            world.step();
            let is_long = world.draw.once_in(60);
            world.now.0 += if is_long { 40_000_000_000 } else { 1_000_000 };
            if step % 40 == 39 {
                world.change();
            }
        }
        fast += world.fast;
    }
    assert!(fast > 60 * 600 / 10, "only {fast} frames took the fast path");
}

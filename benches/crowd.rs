//! Many established connections by the address of a Service, one frame of each in turn: what the
//! cases of a single frame cannot show, the cost of rows and index that are in no cache.

use smoltcp::wire::{EthernetAddress, IpAddress, Ipv4Address, Ipv6Address};
use stack::wire::build::{Link, flags};
use stack::wire::checksum;
use stack::{
    Backend, Config, Frame, Frontend, FrontendKind, Input, Instant, Limits, NodeConfig, Outbox,
    PortId, Seeds, ServiceConfig, ServiceId, ServiceProtocol, Switch, Verdict,
};

use crate::{PODS, configuration, pod_mac};

/// Connections and Services of a crowd.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Connections.
    pub connections: u32,
    /// Services.
    pub services: u32,
    /// IPv6, or IPv4.
    pub is_ipv6: bool,
}

/// A switch with its connections, and the buffer that carries the frame of the next one.
#[derive(Debug)]
pub struct Crowd {
    switch: Switch,
    out: Outbox,
    now: Instant,
    frame: Frame,
    head: Vec<u8>,
    size: Size,
    next: u32,
    visits: u32,
}

/// The port of every Service, and of its backends.
const PORT: u16 = 80;
const TARGET: u16 = 8_080;
const BACKENDS: u32 = 5;
/// Bytes of data a segment.
const DATA: u32 = 100;
/// Segments after which a stream is sent again from its begin, so that it stays within its window.
const SEGMENTS: u32 = 600;
/// How far it is from one connection to the next in turn: a prime, so that all have theirs.
const STRIDE: u32 = 38_197;

impl Crowd {
    /// Opens all connections and has every one speak once in each direction.
    ///
    /// # Panics
    /// When a frame does not go where it should: then the bench would measure something else.
    #[must_use]
    pub fn new(size: Size) -> Self {
        let mut crowd = Self::empty(size);
        crowd.open_all();
        crowd
    }

    /// The same before the first is opened.
    #[must_use]
    pub fn empty(size: Size) -> Self {
        let limits = Limits::default();
        let most = usize::try_from(size.connections).expect("a count").next_power_of_two();
        let limits = Limits { connections_max: limits.connections_max.max(most), ..limits };
        let switch = Switch::new(with_services(size), limits, Seeds { table: 1, choice: 1 });
        Self {
            switch,
            out: Outbox::default(),
            now: Instant(1_000_000_000),
            frame: Frame::default(),
            head: Vec::new(),
            size,
            next: 0,
            visits: 0,
        }
    }

    /// Opens all and has each speak.
    ///
    /// # Panics
    /// When a frame does not go where it should.
    pub fn open_all(&mut self) {
        for number in 0..self.size.connections {
            self.open(number);
        }
        let bytes = self.segment(0, flags::ACK | flags::PSH, 1, &[0x5a; DATA as usize]);
        self.frame = Frame::from_bytes(&bytes);
        self.head = bytes.get(..HEAD).expect("a head").to_vec();
        for _ in 0..self.size.connections {
            self.prepare();
            self.walk();
            self.check();
            self.take_back();
        }
        self.prepare();
    }

    /// Connections there are.
    #[must_use]
    pub fn open_now(&self) -> usize {
        self.switch.tables().connections().len()
    }

    /// One walk, with all that belongs to it.
    pub fn walk(&mut self) {
        let frame = std::mem::take(&mut self.frame);
        let port = self.client(self.next).0;
        self.switch.input(self.now, Input::Frame { port, frame }, &mut self.out);
    }

    /// Takes the frame back from the last walk and makes it the next connection's.
    pub fn reset(&mut self) {
        self.take_back();
        self.prepare();
    }

    fn check(&self) {
        let verdict = self.out.walked.first().map(|trace| trace.verdict);
        assert!(matches!(verdict, Some(Verdict::Forward(_))), "{}: {verdict:?}", self.next);
    }

    fn take_back(&mut self) {
        self.frame = self.out.transmits.pop().map(|transmit| transmit.frame).unwrap_or_default();
        self.out.clear();
        self.now.0 += 100;
    }

    /// Writes the head of the next connection's segment.
    fn prepare(&mut self) {
        self.next = (self.next + STRIDE) % self.size.connections;
        if self.next == 0 {
            self.visits += 1;
        }
        let (_, mac, v4, v6, port) = self.client(self.next);
        let service = self.service(self.next);
        let seq = 1 + (1 + self.visits % SEGMENTS) * DATA;
        let Some(window) = self.frame.bytes_mut().first_chunk_mut::<HEAD>() else { return };
        window.copy_from_slice(&self.head);
        window[6..12].copy_from_slice(&mac.0);
        let at = if self.size.is_ipv6 {
            window[22..38].copy_from_slice(&v6.octets());
            window[38..54].copy_from_slice(&vip6(service).octets());
            54
        } else {
            window[26..30].copy_from_slice(&v4.octets());
            window[30..34].copy_from_slice(&vip4(service).octets());
            window[24..26].copy_from_slice(&[0, 0]);
            let sum = !checksum::fold(checksum::sum(&window[14..34]));
            window[24..26].copy_from_slice(&sum.to_be_bytes());
            34
        };
        window[at..at + 2].copy_from_slice(&port.to_be_bytes());
        window[at + 4..at + 8].copy_from_slice(&seq.to_be_bytes());
    }

    /// Port, MAC, addresses and source port of a connection's client.
    fn client(&self, number: u32) -> (PortId, EthernetAddress, Ipv4Address, Ipv6Address, u16) {
        let pod = u8::try_from(2 + number % u32::from(PODS)).expect("a pod");
        let port = u16::try_from(1_024 + number / u32::from(PODS)).expect("a port");
        (PortId(pod.into()), pod_mac(pod), pod4(pod), pod6(pod), port)
    }

    fn service(&self, number: u32) -> u32 {
        number.wrapping_mul(7_919) % self.size.services
    }

    fn segment(&self, number: u32, flags: u8, seq: u32, data: &[u8]) -> Vec<u8> {
        let (_, src, v4, v6, port) = self.client(number);
        let (link, service) = (Link { src, dst: NodeConfig::GATEWAY_MAC }, self.service(number));
        let ports = (port, PORT);
        if self.size.is_ipv6 {
            link.ipv6(v6, vip6(service)).tcp(ports, flags, seq, 1, data)
        } else {
            link.ipv4(v4, vip4(service)).tcp(ports, flags, seq, 1, data)
        }
    }

    /// The three segments of a handshake, the second as the chosen backend sends it.
    fn open(&mut self, number: u32) {
        let client = self.client(number);
        let syn = self.send(client.0, &self.segment(number, flags::SYN, 0, &[]));
        let backend = *syn.get(5).expect("a pod's MAC ends with its number");
        let to = syn.get(self.ports_at()..).and_then(|upper| upper.first_chunk());
        let to = u16::from_be_bytes(*to.expect("a TCP header"));
        let (link, ports) = (|dst| Link { src: pod_mac(backend), dst }, (TARGET, to));
        let (_, mac, v4, v6, _) = client;
        let is_own = mac == pod_mac(backend);
        let mac = if is_own { NodeConfig::GATEWAY_MAC } else { mac };
        let answer = flags::SYN | flags::ACK;
        let bytes = match (self.size.is_ipv6, is_own) {
            (false, true) => link(mac).ipv4(pod4(backend), GATEWAY4).tcp(ports, answer, 0, 1, &[]),
            (false, false) => link(mac).ipv4(pod4(backend), v4).tcp(ports, answer, 0, 1, &[]),
            (true, true) => link(mac).ipv6(pod6(backend), GATEWAY6).tcp(ports, answer, 0, 1, &[]),
            (true, false) => link(mac).ipv6(pod6(backend), v6).tcp(ports, answer, 0, 1, &[]),
        };
        self.send(PortId(backend.into()), &bytes);
        self.send(client.0, &self.segment(number, flags::ACK, 1, &[]));
    }

    fn ports_at(&self) -> usize {
        if self.size.is_ipv6 { 54 } else { 34 }
    }

    fn send(&mut self, port: PortId, bytes: &[u8]) -> Vec<u8> {
        let frame = Frame::from_bytes(bytes);
        self.switch.input(self.now, Input::Frame { port, frame }, &mut self.out);
        self.check();
        let sent = self.out.transmits.pop().expect("it was forwarded").frame.bytes().to_vec();
        self.out.clear();
        sent
    }
}

/// Ethernet, IPv6 and TCP, or IPv4 and as many bytes more.
const HEAD: usize = 74;
const GATEWAY4: Ipv4Address = Ipv4Address::new(10, 99, 0, 1);
const GATEWAY6: Ipv6Address = Ipv6Address::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 1);

fn pod4(number: u8) -> Ipv4Address {
    Ipv4Address::new(10, 99, 0, number)
}

fn pod6(number: u8) -> Ipv6Address {
    Ipv6Address::new(0xfd00, 0x99, 0, 0, 0, 0, 0, number.into())
}

fn vip4(service: u32) -> Ipv4Address {
    Ipv4Address::from_bits(0x0a60_0000 + service)
}

fn vip6(service: u32) -> Ipv6Address {
    Ipv6Address::from_bits((0xfd00_0096_u128 << 96) + u128::from(service))
}

fn with_services(size: Size) -> Config {
    let backend = |address| Backend { local: true, ..Backend::ready(address, TARGET) };
    let service = |number: u32| {
        let pods = (0..BACKENDS).map(|of| (number * BACKENDS + of) % u32::from(PODS) + 2);
        let pods = pods.map(|pod| u8::try_from(pod).expect("a pod"));
        let address =
            |pod| -> IpAddress { if size.is_ipv6 { pod6(pod).into() } else { pod4(pod).into() } };
        let vip = if size.is_ipv6 { vip6(number).into() } else { vip4(number).into() };
        ServiceConfig {
            frontends: vec![Frontend {
                kind: FrontendKind::ClusterIp,
                address: Some(vip),
                port: PORT,
            }],
            backends: pods.map(|pod| backend(address(pod))).collect(),
            ..ServiceConfig::new(
                ServiceId(number),
                format!("default/service-{number}:http"),
                ServiceProtocol::Tcp,
            )
        }
    };
    Config { services: (0..size.services).map(service).collect(), ..configuration() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_connections_are_there_and_stay() {
        for is_ipv6 in [false, true] {
            let mut crowd = Crowd::new(Size { connections: 1_000, services: 100, is_ipv6 });
            assert_eq!(crowd.switch.tables().connections().len(), 1_000);
            for _ in 0..5_000 {
                crowd.walk();
                crowd.check();
                crowd.reset();
            }
            assert_eq!(crowd.switch.tables().connections().len(), 1_000);
        }
    }
}

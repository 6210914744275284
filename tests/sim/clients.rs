//! Clients of Services and of the outside. Whatever goes wrong under way, a client asks again: its
//! backend may go, its node's tables may be full, its connection may be reset. When all is as it
//! should be it is answered, by whom it asked, with its own words.

use smoltcp::iface::SocketHandle;
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::IpAddress;
use stack::config::{FrontendKind, ServiceProtocol};

use crate::SECOND;
use crate::choice::{self, Usable};
use crate::draw::Draw;
use crate::host::Host;
use crate::options::Options;
use crate::plan::{self, Id, OUTSIDE};
use crate::servers::{BUFFER, DIRECT};
use crate::services::{PORT, Service};

/// First port of clients: each asks by ports of its own, and now and then by one that it had.
const CLIENTS: u16 = 41_000;
/// Ports of a client.
const PORTS: u16 = 3;
/// Until a client that was not answered asks again.
const AGAIN: u64 = SECOND;
/// Until one whose connection does not get on gives it up.
const STUCK: u64 = 15 * SECOND;

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    host: usize,
    number: u16,
    to: (IpAddress, u16),
    /// A backend that it asks by its own name too, from the same port.
    also: Option<(IpAddress, u16)>,
    udp: bool,
    handle: SocketHandle,
    /// Whether it is answered in the end.
    due: bool,
    /// Bytes that it sends over a connection.
    bytes: usize,
    /// Questions that are not yet answered.
    left: u16,
    /// From an answer to the next question: so long that backends go meanwhile.
    pause: u64,
    tries: u16,
    sent: usize,
    got: usize,
    /// When it asks, or asks again.
    next: u64,
    /// When something happened last.
    since: u64,
}

/// Whom a client asks.
#[derive(Clone, Copy, Debug)]
enum Whom {
    Outside,
    /// Another node itself.
    Node(u8),
    /// A Service by its cluster address.
    Cluster(usize),
    /// By its balancer's.
    Balancer(usize),
    /// By a node's port.
    NodePort(usize, u8),
}

impl Whom {
    /// Someone whom a host can ask.
    fn draw(id: Id, options: &Options, services: &[Service], draw: &mut Draw) -> Self {
        let node = u8::try_from(draw.below(u64::from(options.nodes))).unwrap();
        let service = draw.index(services.len());
        let outer = services[service].outer;
        let is_pod = id.n > 0;
        // The node's own processes ask its node ports without the switch.
        match draw.below(8) {
            0 if id != OUTSIDE => Self::Outside,
            1 if is_pod && node != id.node => Self::Node(node),
            2 | 3 if outer && (is_pod || node != id.node) => Self::NodePort(service, node),
            4 if outer => Self::Balancer(service),
            _ if is_pod || (outer && id != OUTSIDE) => Self::Cluster(service),
            _ if id == OUTSIDE && outer => Self::NodePort(service, node),
            _ if id == OUTSIDE => Self::Node(node),
            _ => Self::Outside,
        }
    }

    fn address(self, six: bool, services: &[Service]) -> (IpAddress, u16) {
        match self {
            Self::Outside => (plan::address(OUTSIDE, six), DIRECT),
            Self::Node(node) => (plan::address(plan::id(node, 0), six), DIRECT),
            Self::Cluster(service) => (services[service].vip(six), PORT),
            Self::Balancer(service) => (services[service].balancer(six), PORT),
            Self::NodePort(service, node) => {
                (plan::address(plan::id(node, 0), six), services[service].node_port())
            }
        }
    }

    /// A backend of the Service that a pod or node asks, if it is not its own.
    fn backend(self, id: Id, six: bool, services: &[Service]) -> Option<(IpAddress, u16)> {
        let Self::Cluster(service) = self else { return None };
        let first = services[service].config(id.node, six).backends.first().copied()?;
        (first.address != plan::address(id, six)).then_some((first.address, first.port))
    }

    /// Whether whoever asks is answered when all is as it should be.
    fn answers(self, id: Id, six: bool, options: &Options, services: &[Service]) -> bool {
        let (service, kind, node) = match self {
            Self::Outside | Self::Node(_) => return true,
            Self::Cluster(service) => (service, FrontendKind::ClusterIp, id.node),
            Self::NodePort(service, node) => (service, FrontendKind::NodePort, node),
            Self::Balancer(service) => {
                let entry = plan::entry(&services[service].balancer(six), options.nodes);
                let node = if id == OUTSIDE { entry } else { id.node };
                (service, FrontendKind::LoadBalancer, node)
            }
        };
        let config = services[service].config(node, six);
        let usable = choice::usable(&config, kind, &plan::address(id, six), id.node != node);
        matches!(usable, Usable::Some(_))
    }
}

impl Client {
    /// Client `number` on a host that is drawn.
    pub(crate) fn open(
        number: u16,
        hosts: &mut [Host],
        (options, services): (&Options, &[Service]),
        draw: &mut Draw,
    ) -> Self {
        let host = draw.index(hosts.len());
        let id = hosts[host].id;
        let six = draw.chance(500);
        let whom = Whom::draw(id, options, services, draw);
        let udp = match whom {
            Whom::Outside | Whom::Node(_) => draw.chance(500),
            Whom::Cluster(service) | Whom::Balancer(service) | Whom::NodePort(service, _) => {
                services[service].protocol == ServiceProtocol::Udp
            }
        };
        let port = CLIENTS + number * PORTS;
        let handle = if udp { hosts[host].udp(port) } else { hosts[host].tcp_of(BUFFER) };
        Self {
            host,
            number,
            to: whom.address(six, services),
            also: whom.backend(id, six, services).filter(|_| udp),
            udp,
            handle,
            due: whom.answers(id, six, options, services),
            bytes: 1 + draw.index(3_000),
            left: 1 + u16::try_from(draw.below(if udp { 10 } else { 4 })).unwrap(),
            pause: 1_000 * draw.below(options.faulty * 200),
            tries: 0,
            sent: 0,
            got: 0,
            next: 1_000 * draw.below(options.faulty * 1_000),
            since: 0,
        }
    }

    /// Asks, and hears the answers. When it wants to be asked again, in nanoseconds.
    pub(crate) fn pump(&mut self, now: u64, hosts: &mut [Host]) -> Option<u64> {
        if self.left == 0 {
            return None;
        }
        let host = &mut hosts[self.host];
        if host.fresh || now >= self.next {
            if self.udp { self.datagram(now, host) } else { self.stream(now, host) }
        }
        Some(self.next)
    }

    /// Whether it was answered all that it asked, or is not answered anyway.
    pub(crate) fn done(&self) -> bool {
        self.left == 0 || !self.due
    }

    /// Questions that were answered.
    pub(crate) fn asked(&self) -> u16 {
        self.tries
    }

    /// Where it stands, for a failure's message.
    pub(crate) fn describe(&self, hosts: &[Host]) -> String {
        let state = (!self.udp)
            .then(|| hosts[self.host].sockets.get::<tcp::Socket<'_>>(self.handle).state());
        format!("{self:?} {state:?}")
    }

    /// What it says at a place: others say something else.
    fn byte(&self, at: usize) -> u8 {
        let word = at * 31 + usize::from(self.number) * 7 + usize::from(self.tries);
        u8::try_from(word % 251).unwrap()
    }

    fn question(&self) -> Vec<u8> {
        format!("client {} asks {:?}, try {}", self.number, self.to, self.tries).into_bytes()
    }

    fn datagram(&mut self, now: u64, host: &mut Host) {
        let socket = host.sockets.get_mut::<udp::Socket<'_>>(self.handle);
        while let Ok((bytes, from)) = socket.recv().map(|(bytes, from)| (bytes.to_vec(), from)) {
            let source = (from.endpoint.addr, from.endpoint.port);
            // What comes late counts for nothing: from a backend that went meanwhile it may even
            // come by that one's own name.
            if bytes == self.question() && source == self.to && self.left > 0 {
                self.left -= 1;
                self.tries += 1;
                self.next = now + self.pause;
            }
        }
        if self.left > 0 && now >= self.next {
            for to in self.also.into_iter().chain([self.to]) {
                let _no_room = socket.send_slice(&self.question(), to);
            }
            host.awake = true;
            self.next = now + AGAIN;
        }
    }

    fn stream(&mut self, now: u64, host: &mut Host) {
        let socket = host.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        if !socket.is_open() {
            if self.got == self.bytes && self.sent == self.bytes {
                self.left -= 1;
                self.next = now + self.pause;
            }
            (self.sent, self.got) = (0, 0);
            if self.left == 0 || now < self.next {
                return;
            }
            self.tries += 1;
            let port = CLIENTS + self.number * PORTS + self.tries % PORTS;
            host.connect(self.handle, self.to, port);
            (self.since, self.next) = (now, now + STUCK);
            return;
        }
        let before = (self.sent, self.got);
        while socket.can_send() && self.sent < self.bytes {
            let end = self.bytes.min(self.sent + 512);
            let bytes: Vec<u8> = (self.sent..end).map(|at| self.byte(at)).collect();
            self.sent += socket.send_slice(&bytes).unwrap();
        }
        while socket.can_recv() {
            let bytes = socket.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap();
            let right = (self.got..).zip(&bytes).all(|(at, byte)| *byte == self.byte(at));
            assert!(right, "client {} hears what it did not say: {bytes:?}", self.number);
            self.got += bytes.len();
        }
        assert!(self.got <= self.sent, "client {} hears more than it said", self.number);
        let mut moved = before != (self.sent, self.got);
        if self.got == self.bytes && socket.may_send() {
            socket.close();
            moved = true;
        }
        if moved {
            (self.since, self.next) = (now, now + STUCK);
            host.awake = true;
        } else if now >= self.since + STUCK {
            // It has all it wanted, or begins anew.
            socket.abort();
            host.awake = true;
            self.next = now + SECOND;
        } else {
            self.next = self.since + STUCK;
        }
    }
}

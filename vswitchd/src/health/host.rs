//! The host: TCP connections by smoltcp, one request each (RFC 9293, RFC 9112).
//!
//! Every bound is on what a client can make us keep or do: connections, their buffers, the bytes of
//! a request, and the time from its first packet to the last of its answer. When all connections
//! are taken, one goes that never completed its handshake, or that has lasted for a while: who asks
//! as a load balancer does is through before.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{
    HardwareAddress, IpAddress, IpCidr, IpListenEndpoint, IpProtocol, IpVersion, Ipv4Address,
    Ipv4Packet, Ipv6Address, Ipv6Packet, TcpPacket,
};
use stack::NodeConfig;

use super::Shared;
use super::answer::Asked;
use super::cable::{Cable, Came, Wire};
use super::http::{self, HEAD_MAX, Head, Response};
use crate::daemon::HEALTH_MAC;
use crate::event_loop;

/// Connections at one time.
const CONNECTIONS_MAX: usize = 256;
/// Bytes of a connection's buffer, each way. The longest answer fits.
const BUFFER: usize = 2_048;
/// Time from the first packet to the end.
const LIFE: Duration = Duration::from_secs(10);
/// A connection gives way to another one after so long.
const PATIENCE: Duration = Duration::from_secs(1);
/// Ethernet header.
const ETHERNET: usize = 14;
/// Addresses that the host itself has, and that nobody asks: by way of these it accepts all others
/// (AnyIP). The node's would not fit, and change.
const OWN4: Ipv4Address = Ipv4Address::new(192, 0, 0, 8);
const OWN6: Ipv6Address = Ipv6Address::new(0x100, 0, 0, 0, 0, 0, 0, 8);

/// The host.
pub(super) struct Host {
    cable: Cable,
    facts: Shared,
    device: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    /// In the order in which they began.
    connections: Vec<Connection>,
    began: Instant,
}

/// A connection.
struct Connection {
    socket: SocketHandle,
    since: Instant,
    port: u16,
    /// What of the request has come; `None` once it is answered.
    head: Option<Vec<u8>>,
}

/// A packet that asks for a new connection.
struct Syn {
    dst: IpAddress,
    port: u16,
}

impl Host {
    pub(super) fn new(cable: Cable, facts: Shared, seed: u64, mtu: u16) -> Self {
        let mut device = Wire { came: VecDeque::new(), goes: Vec::new(), mtu: usize::from(mtu) };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let zero = smoltcp::time::Instant::ZERO;
        let mut interface = Interface::new(config, &mut device, zero);
        interface.set_any_ip(true);
        interface.update_ip_addrs(|addresses| {
            for own in [IpCidr::new(OWN4.into(), 32), IpCidr::new(OWN6.into(), 128)] {
                // There is room for eight.
                let _full = addresses.push(own);
            }
        });
        let routes = interface.routes_mut();
        // There is room for two.
        let _full = (routes.add_default_ipv4_route(OWN4), routes.add_default_ipv6_route(OWN6));
        Self {
            cable,
            facts,
            device,
            interface,
            sockets: SocketSet::new(Vec::new()),
            connections: Vec::new(),
            began: Instant::now(),
        }
    }

    /// Serves until the other end of the cable is gone.
    pub(super) fn run(mut self) {
        let mut limit = None;
        loop {
            match self.cable.wait(limit) {
                Came::End => return,
                Came::Nothing => {}
                Came::Frame(frame) => self.take(&frame),
            }
            limit = self.turn();
        }
    }

    /// Takes a frame in. One that begins a connection finds a socket that waits for it.
    fn take(&mut self, frame: &[u8]) {
        let Some(packet) = frame.get(ETHERNET..) else { return };
        let now = Instant::now();
        let mut waits = None;
        if let Some(syn) = syn(packet) {
            if !self.facts.load().has(syn.port) || !self.make_room(now) {
                return;
            }
            waits = self.listen(&syn, now);
        }
        self.device.came.push_back(packet.to_vec());
        self.poll();
        if let Some(socket) = waits
            && self.sockets.get::<Socket<'_>>(socket).state() == State::Listen
        {
            // The packet was another connection's, or nobody's.
            self.sockets.remove(socket);
            self.connections.retain(|connection| connection.socket != socket);
        }
    }

    fn listen(&mut self, syn: &Syn, now: Instant) -> Option<SocketHandle> {
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        let at = IpListenEndpoint { addr: Some(syn.dst), port: syn.port };
        socket.listen(at).ok()?;
        // An answer is one segment, and the end of the connection follows.
        socket.set_nagle_enabled(false);
        let socket = self.sockets.add(socket);
        let head = Some(Vec::new());
        self.connections.push(Connection { socket, since: now, port: syn.port, head });
        Some(socket)
    }

    /// Whether there is room for one more connection, for which another one may have to go.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.connections.len() < CONNECTIONS_MAX {
            return true;
        }
        let state = |of: &Connection| self.sockets.get::<Socket<'_>>(of.socket).state();
        let half_open = self.connections.iter().position(|of| state(of) == State::SynReceived);
        let late = || {
            let is_late = |of: &Connection| now - of.since >= PATIENCE;
            self.connections.iter().position(is_late)
        };
        let Some(goes) = half_open.or_else(late) else { return false };
        let connection = self.connections.remove(goes);
        self.sockets.remove(connection.socket);
        true
    }

    /// Serves each connection as far as it has come. Until when there is nothing else to do.
    fn turn(&mut self) -> Option<Duration> {
        self.poll();
        let now = Instant::now();
        let mut kept = Vec::with_capacity(self.connections.len());
        for mut connection in std::mem::take(&mut self.connections) {
            if self.serve(&mut connection, now) {
                kept.push(connection);
            } else {
                self.sockets.remove(connection.socket);
            }
        }
        self.connections = kept;
        self.poll();
        let end = self.connections.first().map(|first| (first.since + LIFE) - now);
        let next = self.interface.poll_delay(self.clock(), &self.sockets).map(Duration::from);
        [end, next].into_iter().flatten().min()
    }

    /// Whether the connection stays.
    fn serve(&mut self, connection: &mut Connection, now: Instant) -> bool {
        let socket = self.sockets.get_mut::<Socket<'_>>(connection.socket);
        if now - connection.since >= LIFE {
            // The client is told, if it still listens.
            socket.abort();
            self.poll();
            return false;
        }
        // Who waits for late segments of the other side is of no use to anybody: its port and
        // sequence numbers are never used again.
        if matches!(socket.state(), State::Closed | State::TimeWait) {
            return false;
        }
        let Some(head) = &mut connection.head else { return true };
        while socket.can_recv() && head.len() < HEAD_MAX {
            let room = HEAD_MAX - head.len();
            let taken = socket.recv(|bytes| {
                let taken = bytes.get(..room).unwrap_or(bytes);
                head.extend_from_slice(taken);
                (taken.len(), taken.len())
            });
            if taken.is_err() {
                break;
            }
        }
        let is_ipv6 =
            socket.local_endpoint().is_some_and(|local| local.addr.version() == IpVersion::Ipv6);
        let bytes = match http::read(head) {
            Head::Partial if socket.may_recv() => return true,
            Head::Partial => Response::refusal(400).bytes(false),
            Head::Bad(status) => Response::refusal(status).bytes(false),
            Head::Whole(request) => {
                let asked = Asked { port: connection.port, is_ipv6, now: event_loop::utc() };
                let response = self.facts.load().answer(asked, &request);
                response.bytes(request.method == "HEAD")
            }
        };
        if socket.state() == State::SynReceived {
            return true;
        }
        let said = socket.send_slice(&bytes);
        if said != Ok(bytes.len()) {
            tracing::debug!(?said, "a health check's client has gone before it was answered");
        }
        socket.close();
        connection.head = None;
        true
    }

    /// Lets smoltcp do what there is to do, and sends what comes of it.
    fn poll(&mut self) {
        let now = self.clock();
        self.interface.poll(now, &mut self.device, &mut self.sockets);
        for packet in std::mem::take(&mut self.device.goes) {
            self.cable.send(framed(&packet));
        }
    }

    fn clock(&self) -> smoltcp::time::Instant {
        let micros = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        smoltcp::time::Instant::from_micros(micros)
    }
}

/// The packet, if it asks for a new connection.
fn syn(packet: &[u8]) -> Option<Syn> {
    let (dst, protocol, rest) = match packet.first()? >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked(packet).ok()?;
            (IpAddress::Ipv4(ip.dst_addr()), ip.next_header(), ip.payload())
        }
        6 => {
            let ip = Ipv6Packet::new_checked(packet).ok()?;
            (IpAddress::Ipv6(ip.dst_addr()), ip.next_header(), ip.payload())
        }
        _ => return None,
    };
    let tcp = TcpPacket::new_checked(rest).ok().filter(|_| protocol == IpProtocol::Tcp)?;
    (tcp.syn() && !tcp.ack()).then(|| Syn { dst, port: tcp.dst_port() })
}

/// A packet as a frame to the gateway.
fn framed(packet: &[u8]) -> Vec<u8> {
    let is_ipv6 = packet.first().is_some_and(|byte| byte >> 4 == 6);
    let kind: [u8; 2] = if is_ipv6 { [0x86, 0xdd] } else { [0x08, 0x00] };
    [&NodeConfig::GATEWAY_MAC.0[..], &HEALTH_MAC.0, &kind, packet].concat()
}

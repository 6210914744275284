//! Hosts: a real TCP/IP stack (smoltcp) at each port, over virtual time.

use std::collections::VecDeque;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, IpAddress, IpCidr, Ipv4Address, Ipv6Address,
};
use stack::Instant;
use stack::input::{Checksum, Frame, Gso, GsoKind, Offload};
use stack::pipeline::packet::{Inner, L4};
use stack::pipeline::parse::parse;
use stack::wire::build::Link;
use stack::wire::checksum;

use crate::plan::{self, Id};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Bytes of an IP packet that a host hands to a port that segments.
const SUPER: usize = 16_000;

/// A host.
pub(crate) struct Host {
    pub(crate) id: Id,
    interface: Interface,
    pub(crate) sockets: SocketSet<'static>,
    wire: Wire,
    offload: bool,
    /// Its sockets may have something new.
    pub(crate) fresh: bool,
    /// Something came or was written: it wants to be polled.
    pub(crate) awake: bool,
    /// When it wants to be polled next, in nanoseconds.
    pub(crate) next: Option<u64>,
}

/// The host's end of its link.
struct Wire {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    mtu: usize,
    medium: Medium,
}

struct Received(Vec<u8>);
struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut frame = vec![0; len];
        let result = fill(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: smoltcp::time::Instant) -> Option<(Received, Sending<'_>)> {
        Some((Received(self.received.pop_front()?), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _now: smoltcp::time::Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = self.medium;
        let header = if self.medium == Medium::Ethernet { ETHERNET } else { 0 };
        capabilities.max_transmission_unit = header + self.mtu;
        capabilities
    }
}

impl Host {
    /// A host with a pod's addresses, or the node's. It has no link-local one: smoltcp would
    /// choose that as the source of routed packets.
    pub(crate) fn new(id: Id, offload: bool, seed: u64) -> Self {
        let mtu = if offload { SUPER } else { usize::from(plan::MTU) };
        let medium = Medium::Ethernet;
        let mut wire = Wire { received: VecDeque::new(), sent: Vec::new(), mtu, medium };
        let mut config = Config::new(plan::mac(id).into());
        config.random_seed = seed;
        let start = smoltcp::time::Instant::ZERO;
        let mut interface = Interface::new(config, &mut wire, start);
        let (bits4, bits6) = if id.n == 0 { (32, 128) } else { (24, 64) };
        let own =
            [IpCidr::new(plan::v4(id).into(), bits4), IpCidr::new(plan::v6(id).into(), bits6)];
        // smoltcp believes ARP replies from its own networks only: the node has one with the
        // gateway.
        let link = IpCidr::new(Ipv4Address::new(10, 244, id.node + 1, 0).into(), 31);
        let all = own.into_iter().chain((id.n == 0).then_some(link));
        interface.update_ip_addrs(|addresses| addresses.extend(all));
        for six in [false, true] {
            let _none = match plan::gateway(id.node, six) {
                IpAddress::Ipv4(four) => interface.routes_mut().add_default_ipv4_route(four),
                IpAddress::Ipv6(six) => interface.routes_mut().add_default_ipv6_route(six),
            }
            .unwrap();
        }
        Self::with(id, interface, wire, offload)
    }

    fn with(id: Id, interface: Interface, wire: Wire, offload: bool) -> Self {
        let sockets = SocketSet::new(Vec::new());
        Self { id, interface, sockets, wire, offload, fresh: true, awake: true, next: None }
    }

    /// The host outside of the cluster: behind it nobody asks for MACs.
    pub(crate) fn outside(seed: u64) -> Self {
        let (mtu, medium) = (usize::from(plan::MTU), Medium::Ip);
        let mut wire = Wire { received: VecDeque::new(), sent: Vec::new(), mtu, medium };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let start = smoltcp::time::Instant::ZERO;
        let mut interface = Interface::new(config, &mut wire, start);
        let own = [(false, 24), (true, 64)];
        let own = own.map(|(six, bits)| IpCidr::new(plan::address(plan::OUTSIDE, six), bits));
        interface.update_ip_addrs(|addresses| addresses.extend(own));
        // Whatever is not its own network is beyond a router, whose address shows nowhere.
        let (four, six) = (Ipv4Address::new(198, 51, 100, 1), plan::v6(plan::OUTSIDE));
        let router = Ipv6Address::from_bits(six.to_bits() ^ 0x100);
        let _none = interface.routes_mut().add_default_ipv4_route(four).unwrap();
        let _none = interface.routes_mut().add_default_ipv6_route(router).unwrap();
        Self::with(plan::OUTSIDE, interface, wire, false)
    }

    /// A TCP socket, not yet open.
    pub(crate) fn tcp(&mut self) -> SocketHandle {
        self.tcp_of(32_768)
    }

    /// The same with buffers of so many bytes.
    pub(crate) fn tcp_of(&mut self, bytes: usize) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; bytes]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    /// A UDP socket bound to a port.
    pub(crate) fn udp(&mut self, l4_port: u16) -> SocketHandle {
        let buffer = || {
            let metadata = vec![udp::PacketMetadata::EMPTY; 64];
            udp::PacketBuffer::new(metadata, vec![0; 32_768])
        };
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(l4_port).unwrap();
        self.sockets.add(socket)
    }

    /// Opens a TCP connection.
    pub(crate) fn connect(&mut self, handle: SocketHandle, to: (IpAddress, u16), from: u16) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.interface.context(), to, from).unwrap();
        self.awake = true;
    }

    /// A frame came.
    pub(crate) fn receive(&mut self, mut bytes: Vec<u8>) {
        if self.wire.medium == Medium::Ip {
            bytes.drain(..ETHERNET.min(bytes.len()));
        }
        self.wire.received.push_back(bytes);
        self.awake = true;
    }

    /// Lets the stack work; gives what it sends.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<Frame> {
        let time = now.to_smoltcp();
        self.interface.poll(time, &mut self.wire, &mut self.sockets);
        self.awake = false;
        self.fresh = true;
        let next = self.interface.poll_at(time, &self.sockets);
        self.next = next.map(|at| u64::try_from(at.total_micros()).unwrap_or(0) * 1_000);
        let offload = self.offload;
        let sent = std::mem::take(&mut self.wire.sent);
        if self.wire.medium == Medium::Ip {
            return sent.iter().map(|packet| framed(packet)).collect();
        }
        sent.into_iter()
            .map(|bytes| if offload { offloaded(&bytes) } else { Frame::from_bytes(&bytes) })
            .collect()
    }
}

/// A packet as a frame of nobody's.
fn framed(packet: &[u8]) -> Frame {
    let ethertype = if packet.first().is_some_and(|byte| byte >> 4 == 6) { 0x86dd } else { 0x0800 };
    let nobody = EthernetAddress::default();
    Frame::from_bytes(&Link { src: nobody, dst: nobody }.raw(ethertype, packet))
}

/// The frame as a kernel with checksum and segmentation offload hands it over: TCP checksums hold
/// the pseudo-header's sum only, and what is longer than the MTU is to be segmented.
fn offloaded(bytes: &[u8]) -> Frame {
    let mut frame = Frame::from_bytes(bytes);
    let Ok(packet) = parse(frame.window(), frame.len(), frame.offload()) else { return frame };
    let Inner::Ip(ip) = packet.inner else { return frame };
    let L4::Tcp { header_len, .. } = ip.l4 else { return frame };
    let start = usize::from(ip.l4_offset);
    let len = u32::try_from(bytes.len() - start).unwrap();
    let pseudo = checksum::fold(checksum::pseudo_header(ip.src, ip.dst, 6, len));
    frame.bytes_mut()[start + 16..start + 18].copy_from_slice(&pseudo.to_be_bytes());
    let headers = start - ETHERNET + usize::from(header_len);
    let mtu = usize::from(plan::MTU);
    let kind = if matches!(ip.src, IpAddress::Ipv4(_)) { GsoKind::Tcp4 } else { GsoKind::Tcp6 };
    let size = u16::try_from(mtu - headers).unwrap();
    let gso = (bytes.len() > ETHERNET + mtu).then_some(Gso { kind, size, ecn: false });
    let checksum = Checksum::Partial { start: ip.l4_offset, offset: 16 };
    frame.set_offload(Offload { checksum, gso, fragment_mtu: None });
    frame
}

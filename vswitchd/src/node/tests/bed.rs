//! A node whose port is open, and an outside that speaks frames.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::wire::{EthernetAddress, IpAddress};
use stack::Frame;
use stack::wire::build::{Ip, Link};

use super::{Lab, Place, connect, host_link};
use crate::node::netlink::Netlink;
use crate::node::{HostLink, HostPort, Kernel, Linux};
use crate::port::packet::PacketPort;
use crate::port::{Pool, PortIo};

/// For anything to come.
const PATIENCE: Duration = Duration::from_secs(3);
/// For what must not come.
const SILENCE: Duration = Duration::from_millis(200);

/// The node's address and the outside's, of both families.
pub(super) const PAIRS: [(&str, &str); 2] =
    [("192.0.2.10", "192.0.2.1"), ("2001:db8::10", "2001:db8::1")];

pub(super) struct Bed {
    pub(super) port: HostPort,
    /// The outside's end of the node's uplink.
    pub(super) wire: PacketPort,
    pub(super) linux: Linux,
    pub(super) node: Place,
    pub(super) outside: Place,
    pool: Pool,
    to_node: Link,
    from_switch: Link,
    _lab: Lab,
}

impl Bed {
    /// `None` when the test cannot be run here.
    pub(super) fn new() -> Option<Self> {
        Self::with(&host_link())
    }

    pub(super) fn with(host: &HostLink) -> Option<Self> {
        let mut lab = Lab::new()?;
        let (node, outside) = (lab.netns("node"), lab.netns("outside"));
        connect(&node, &outside);
        // The kernel makes a new address its own a moment later.
        while !node.run("ip -6 route show table local").contains("local 2001:db8::10 ") {
            std::thread::sleep(Duration::from_millis(1));
        }
        let linux = lab.daemon(&node);
        let port = linux.wire_host(host).unwrap();
        let wire = outside.within(|| PacketPort::open("out0").unwrap());
        let mac = |place: &Place, ifname: &str| -> EthernetAddress {
            let link = place.within(|| Netlink::open().unwrap().link(ifname).unwrap());
            link.unwrap().mac.unwrap()
        };
        let to_node = Link { src: mac(&outside, "out0"), dst: mac(&node, "eth0") };
        let from_switch = Link { src: host.gateway_mac, dst: host.mac };
        Some(Self {
            port,
            wire,
            linux,
            node,
            outside,
            pool: Pool::new(),
            to_node,
            from_switch,
            _lab: lab,
        })
    }

    /// A packet from the outside, as its last hop sends it.
    pub(super) fn of_outside(&self, source: &str, to: &str) -> Ip {
        self.to_node.ip(address(source), address(to)).unwrap()
    }

    /// A packet that the switch gives to the node.
    pub(super) fn of_switch(&self, source: &str, to: &str) -> Ip {
        self.from_switch.ip(address(source), address(to)).unwrap()
    }

    /// Puts a frame on the uplink.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.wire.transmit(&mut Frame::from_bytes(bytes)).unwrap();
    }

    /// Writes a frame to the node's port.
    pub(super) fn give(&mut self, bytes: &[u8]) {
        self.port.device.transmit(&mut Frame::from_bytes(bytes)).unwrap();
    }

    /// The next frame of this kind that the node's port has for the switch.
    pub(super) fn taken(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        next(&mut *self.port.device, &mut self.pool, PATIENCE, wanted)
    }

    /// The next frame of this kind that has left by the uplink.
    pub(super) fn left(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        next(&mut self.wire, &mut self.pool, PATIENCE, wanted)
    }

    /// As [`Bed::left`], of what is believed to stay.
    pub(super) fn stays(&mut self, wanted: impl Fn(&[u8]) -> bool) -> bool {
        next(&mut self.wire, &mut self.pool, SILENCE, wanted).is_none()
    }

    /// The next frame of a side device, if there is one within this time.
    pub(super) fn side(&mut self, v6: bool, patience: Duration) -> Option<Vec<u8>> {
        let side = self.port.sides.get_mut(usize::from(v6)).unwrap();
        next(&mut **side, &mut self.pool, patience, |_any| true)
    }

    /// Gives everything of the node's own that comes to the switch back to it, as the switch does
    /// with what it has no Service or connection for, until `stop`.
    pub(super) fn give_back(&mut self, stop: impl Fn() -> bool) {
        while !stop() {
            let Some(mut frame) = self.port.device.receive(&mut self.pool).unwrap() else {
                std::thread::sleep(Duration::from_micros(200));
                continue;
            };
            let (to, from) = (self.from_switch.dst, self.from_switch.src);
            if let Some(macs) = frame.bytes_mut().get_mut(..12) {
                macs.copy_from_slice(&[to.0, from.0].concat());
            }
            // Groups and neighbors' questions of the node's kernel are answered by nobody.
            if is_to(frame.bytes(), PAIRS[0].0) || is_to(frame.bytes(), PAIRS[1].0) {
                self.port.device.transmit(&mut frame).unwrap();
            }
            self.pool.give(frame);
        }
    }
}

fn next(
    device: &mut dyn PortIo,
    pool: &mut Pool,
    patience: Duration,
    wanted: impl Fn(&[u8]) -> bool,
) -> Option<Vec<u8>> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        match device.receive(pool).unwrap() {
            Some(frame) if wanted(frame.bytes()) => return Some(frame.bytes().to_vec()),
            Some(frame) => pool.give(frame),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    None
}

pub(super) fn address(text: &str) -> IpAddress {
    text.parse().unwrap()
}

/// Source, destination, protocol and what follows the IP header, if it is an IP packet without
/// options or extension headers.
pub(super) fn packet(bytes: &[u8]) -> Option<(IpAddress, IpAddress, u8, &[u8])> {
    match bytes.get(12..15)? {
        [0x08, 0x00, 0x45] => {
            let at = |from: usize| bytes.get(from..)?.first_chunk::<4>().copied().map(IpAddr::from);
            Some((at(26)?.into(), at(30)?.into(), *bytes.get(23)?, bytes.get(34..)?))
        }
        [0x86, 0xdd, _] => {
            let at =
                |from: usize| bytes.get(from..)?.first_chunk::<16>().copied().map(IpAddr::from);
            Some((at(22)?.into(), at(38)?.into(), *bytes.get(20)?, bytes.get(54..)?))
        }
        _ => None,
    }
}

/// Whether it is a packet to this address.
pub(super) fn is_to(bytes: &[u8], to: &str) -> bool {
    packet(bytes).is_some_and(|(_, destination, _, _)| destination == address(to))
}

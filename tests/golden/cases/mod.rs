//! What goes into each golden: the usual node, and conversations on it.
//!
//! ```text
//!   pod/demo/a  10.244.1.2  fd00:1::2 --+                 +-- host (node 192.0.2.10, 2001:db8::10)
//!   pod/demo/b  10.244.1.3  fd00:1::3 --+-- gateway .1 ---+
//!   pod/demo/c  10.244.1.4, MTU 9000  --+   ::1
//! ```

use smoltcp::wire::{EthernetAddress, Ipv4Address, Ipv6Address};
use stack::wire::build::Link;
use stack::{Frame, Instant, NodeConfig, Offload, PortId};

use crate::capture::Seen;
use crate::topology::NODE;

mod hostile;
mod neighbors;
mod paths;
mod services;
mod unreachable;

/// A golden whose input is made here.
pub(crate) struct Case {
    /// Its folder: what happens, as a sentence.
    pub(crate) name: &'static str,
    /// `topology.txt`.
    pub(crate) topology: &'static str,
    /// The frames of `in.pcapng`.
    pub(crate) frames: fn() -> Vec<Seen>,
}

/// Two pods and a jumbo one on a node with the world behind it.
const USUAL: &str = include_str!("usual.txt");

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    let case = |(name, frames)| Case { name, topology: USUAL, frames };
    let with_services = |(name, frames)| Case { name, topology: services::TOPOLOGY, frames };
    let groups = [paths::CASES, neighbors::CASES, unreachable::CASES, hostile::CASES];
    let mut all: Vec<Case> = groups.concat().into_iter().map(case).collect();
    all.extend(services::CASES.iter().copied().map(with_services));
    all.push(Case {
        name: "a_backend_that_goes_keeps_its_tcp_and_loses_its_udp",
        topology: services::ONE_GOES,
        frames: services::goes,
    });
    all.push(Case {
        name: "a_storm_of_broadcasts_ends_at_the_limit",
        topology: concat!(include_str!("usual.txt"), "limit flood_burst 2\n"),
        frames: neighbors::storm,
    });
    all.push(Case {
        name: "a_scan_is_answered_up_to_the_limit",
        topology: concat!(include_str!("usual.txt"), "limit errors_burst 3\n"),
        frames: unreachable::scan,
    });
    all
}

/// A name and what makes its frames.
type Input = (&'static str, fn() -> Vec<Seen>);

const A: PortId = PortId(2);
const B: PortId = PortId(3);
const C: PortId = PortId(4);
const NODE4: Ipv4Address = Ipv4Address::new(192, 0, 2, 10);
const NODE6: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
const OUTSIDE4: Ipv4Address = Ipv4Address::new(198, 51, 100, 7);
const OUTSIDE6: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);
const NOBODY: EthernetAddress = EthernetAddress([0; 6]);

/// The MAC of pod `n` (a is 2), 250 for the node.
fn mac(n: u8) -> EthernetAddress {
    EthernetAddress([0x02, 0x48, 10, 244, 1, n])
}

fn v4(n: u8) -> Ipv4Address {
    Ipv4Address::new(10, 244, 1, n)
}

fn v6(n: u16) -> Ipv6Address {
    Ipv6Address::new(0xfd00, 1, 0, 0, 0, 0, 0, n)
}

/// From host `n` to a MAC.
fn from(n: u8, dst: EthernetAddress) -> Link {
    Link { src: mac(n), dst }
}

fn to_gateway(n: u8) -> Link {
    from(n, NodeConfig::GATEWAY_MAC)
}

/// The frames one after the other, 100 us apart.
fn script(frames: impl IntoIterator<Item = (PortId, Vec<u8>)>) -> Vec<Seen> {
    let plain = |(port, bytes): (PortId, Vec<u8>)| (port, bytes, Offload::default());
    offloaded(frames.into_iter().map(plain))
}

/// The same, each with its offload description.
fn offloaded(frames: impl IntoIterator<Item = (PortId, Vec<u8>, Offload)>) -> Vec<Seen> {
    let mut time = 0;
    let mut seen = Vec::new();
    for (port, bytes, offload) in frames {
        time += 100_000;
        let mut frame = Frame::from_bytes(&bytes);
        frame.set_offload(offload);
        seen.push(Seen { port, time: Instant(time), frame, walk: 0 });
    }
    seen
}

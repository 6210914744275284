//! A capture that is no recording, fed through a configuration made of manifests: an excerpt that
//! replays like any other.
//!
//! Each frame is put in by the port whose MAC is its source. Pods are found in the capture: a MAC
//! that sends from addresses of the node's pod range is a pod's; an address is the MAC's that sends
//! from it most. Everybody else is behind the node's own port, and such frames get the MACs that
//! frames have there. The gateway has the MAC that pods send to when they send to others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use recording::Excerpt;
use recording::pcapng::read::{Block, Packet, Reader, link_and_units};
use recording::pcapng::{LINKTYPE_ETHERNET, OUTBOUND};
use smoltcp::wire::{EthernetAddress, IpCidr};
use stack::config::diff;
use stack::journal::frame::Door;
use stack::journal::{Begin, Chain, Recorder, Tape};
use stack::pipeline::packet::Inner;
use stack::pipeline::parse;
use stack::{
    Config, Frame, Input, Instant, Limits, NodeConfig, Offload, Outbox, PortConfig, PortId,
    PortKind, Route, RouteTarget, Seeds, Switch,
};

use crate::cni::ipam::Range;
use crate::kube::numbers::Numbers;
use crate::kube::objects::Desired;

const GATEWAY: PortId = PortId(0);
const HOST: PortId = PortId(1);
/// The node's MAC behind its own port.
const HOST_MAC: EthernetAddress = EthernetAddress([0x02, 0x48, 0x4f, 0x50, 0x00, 0x02]);
/// Nobody asks about the MTU of a capture.
const MTU: u16 = u16::MAX;
/// Bytes of a frame at most.
const FRAME_MAX: usize = 65_549;

/// Frames of a capture, and what was left out of it.
#[derive(Debug, Default)]
pub struct Capture {
    frames: Vec<(Instant, Frame)>,
    /// Packets that are no Ethernet frames, or that a port sent.
    pub left_out: u64,
}

/// A capture as an excerpt.
#[derive(Debug)]
pub struct Fed {
    /// It.
    pub excerpt: Excerpt,
    /// Frames in it.
    pub frames: usize,
    /// Pods that were found.
    pub pods: usize,
}

impl Capture {
    /// Reads the frames of a pcapng file.
    ///
    /// # Errors
    /// A sentence that says why it is none.
    pub fn read(file: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::default();
        reader.push(file);
        let (mut capture, mut links) = (Self::default(), Vec::new());
        let mut begun = false;
        while let Some((block, raw)) = reader.block().map_err(|error| {
            let what = error.what();
            format!("the capture cannot be read ({what}): editcap FILE NEW makes pcapng of it")
        })? {
            begun |= block == Block::Section;
            match block {
                Block::Section => links.clear(),
                Block::Interface(_) => links.push(link_and_units(raw).unwrap_or_default()),
                Block::Packet(packet) => capture.packet(&packet, &links),
                Block::Statistics(..) | Block::Other => {}
            }
        }
        if begun {
            Ok(capture)
        } else {
            Err("the file is no pcapng: editcap FILE NEW makes one of most captures".to_owned())
        }
    }

    fn packet(&mut self, packet: &Packet, links: &[(u16, u64)]) {
        let link = usize::try_from(packet.interface).ok().and_then(|at| links.get(at));
        let len = usize::try_from(packet.original_len).unwrap_or(usize::MAX);
        let (Some((LINKTYPE_ETHERNET, units)), true) = (link, len <= FRAME_MAX) else {
            self.left_out += 1;
            return;
        };
        // A capture of ours has each frame once more where it left.
        if packet.flags & 0b11 == OUTBOUND {
            self.left_out += 1;
            return;
        }
        let nanos = u128::from(packet.time) * 1_000_000_000 / u128::from(*units).max(1);
        let mut bytes = packet.bytes.clone();
        bytes.resize(len.max(bytes.len().min(FRAME_MAX)), 0);
        let time = Instant(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.frames.push((time, Frame::from_bytes(&bytes)));
    }
}

/// Feeds a capture through a node of these manifests.
///
/// # Errors
/// A sentence that says why there is nothing to feed.
pub fn feed(capture: Capture, desired: &Desired) -> Result<Fed, String> {
    let Some((first, _)) = capture.frames.first() else {
        return Err("the capture holds no Ethernet frames that came in: nothing to feed".to_owned());
    };
    let first = *first;
    let found = Found::new(&capture.frames, &desired.pod_cidrs);
    let config = config(&found, desired)?;
    let (limits, seeds) = (Limits::default(), Seeds::default());
    let mut recorder = Recorder::new(Tape::default(), Chain::new(), false);
    recorder.begin(first, &Begin::new(limits, seeds));
    let mut switch = Switch::new(Config::default(), limits, seeds);
    let mut out = Outbox::default();
    for change in diff(&Config::default(), &config) {
        recorder.change(first, &change);
        put_in(&mut switch, &mut recorder, first, Input::Change(change), &mut out);
    }
    let names = found.ports().map(|(port, mac, _)| (port, pod_name(mac)));
    let labels = [(GATEWAY, "endpoint/gateway".to_owned()), (HOST, "host".to_owned())];
    let labels: Vec<(PortId, String)> = labels.into_iter().chain(names).collect();
    let ports: BTreeMap<EthernetAddress, PortId> =
        found.ports().map(|(port, mac, _)| (mac, port)).collect();
    let (frames, pods) = (capture.frames.len(), ports.len());
    let mut now = first;
    for (time, mut frame) in capture.frames {
        now = now.max(time);
        let port = source(&frame).and_then(|mac| ports.get(&mac).copied()).unwrap_or(HOST);
        if port == HOST {
            from_outside(&mut frame, config.node.gateway_mac);
        }
        recorder.frame(now, Door::Port(port), &frame);
        put_in(&mut switch, &mut recorder, now, Input::Frame { port, frame }, &mut out);
    }
    recorder.digest(now, switch.tables().walks());
    let records = recorder.into_place().bytes().to_vec();
    // Its times are UTC already.
    Ok(Fed { excerpt: Excerpt { labels, records, ..Excerpt::default() }, frames, pods })
}

/// Carries an input out, and what endpoints receive of it.
fn put_in(
    switch: &mut Switch,
    recorder: &mut Recorder<Tape>,
    now: Instant,
    input: Input,
    out: &mut Outbox,
) {
    out.clear();
    switch.input(now, input, out);
    recorder.outcome(out);
    for (endpoint, frame) in std::mem::take(&mut out.deliveries) {
        recorder.frame(now, Door::Endpoint(endpoint), &frame);
        put_in(switch, recorder, now, Input::Deliver { endpoint, frame }, out);
    }
}

/// What a capture says of who is there.
#[derive(Debug, Default)]
struct Found {
    /// Addresses of the pod range by the MAC that sends from them most.
    pods: BTreeMap<EthernetAddress, BTreeSet<IpAddr>>,
    /// How often pods sent to a MAC what was for others than pods.
    gateways: BTreeMap<EthernetAddress, u64>,
}

impl Found {
    fn new(frames: &[(Instant, Frame)], ranges: &[IpCidr]) -> Self {
        let mut found = Self::default();
        let mut senders: BTreeMap<IpAddr, BTreeMap<EthernetAddress, u64>> = BTreeMap::new();
        let in_range =
            |address: IpAddr| ranges.iter().any(|range| range.contains_addr(&address.into()));
        for (_, frame) in frames {
            let Ok(packet) = parse::parse(frame.window(), frame.len(), &Offload::default()) else {
                continue;
            };
            let (from, to) = match packet.inner {
                Inner::Ip(ip) => (IpAddr::from(ip.src), IpAddr::from(ip.dst)),
                Inner::Arp(arp) => (arp.sender.into(), arp.target.into()),
            };
            if in_range(from) {
                *senders.entry(from).or_default().entry(packet.src).or_default() += 1;
                if !in_range(to) && packet.dst.is_unicast() {
                    *found.gateways.entry(packet.dst).or_default() += 1;
                }
            }
        }
        // What the gateway says of its own address, and forwards, is no pod's.
        let gateway = found.gateway();
        for (address, macs) in senders {
            let most = macs.into_iter().max_by_key(|(_, count)| *count).map(|(mac, _)| mac);
            if let Some(mac) = most.filter(|mac| Some(*mac) != gateway) {
                found.pods.entry(mac).or_default().insert(address);
            }
        }
        found
    }

    fn gateway(&self) -> Option<EthernetAddress> {
        self.gateways.iter().max_by_key(|(_, count)| **count).map(|(mac, _)| *mac)
    }

    fn ports(&self) -> impl Iterator<Item = (PortId, EthernetAddress, &BTreeSet<IpAddr>)> {
        (HOST.0 + 1..).zip(&self.pods).map(|(port, (mac, own))| (PortId(port), *mac, own))
    }
}

/// A frame as it comes in by the node's own port.
fn from_outside(frame: &mut Frame, gateway: EthernetAddress) {
    let Some(macs) = frame.window_mut().first_chunk_mut::<12>() else { return };
    let (dst, src) = macs.split_at_mut(6);
    src.copy_from_slice(&HOST_MAC.0);
    // A group's MAC has its lowest bit set.
    if dst.first().is_some_and(|first| first & 1 == 0) {
        dst.copy_from_slice(&gateway.0);
    }
}

fn source(frame: &Frame) -> Option<EthernetAddress> {
    frame.window().get(6..)?.first_chunk().map(|mac| EthernetAddress(*mac))
}

fn pod_name(mac: EthernetAddress) -> String {
    format!("pod/capture/{}", mac.to_string().replace(':', "-"))
}

fn config(found: &Found, desired: &Desired) -> Result<Config, String> {
    let limits = Limits::default();
    if found.pods.len() + 2 > limits.ports_max {
        return Err(format!("the capture has {} pods, more than a switch", found.pods.len()));
    }
    let mut node = NodeConfig {
        addresses: desired.node_addresses.iter().map(|address| (*address).into()).collect(),
        gateway_mac: found.gateway().unwrap_or(NodeConfig::GATEWAY_MAC),
        service_cidrs: desired.service_cidrs.clone(),
        non_masquerade: desired.cluster_cidrs.clone(),
        ..NodeConfig::default()
    };
    let mut routes = Vec::new();
    for range in Range::all(&desired.pod_cidrs).map_err(|error| error.to_string())? {
        let (network, gateway) = (range.network(), range.cidr(range.gateway()));
        match gateway {
            IpCidr::Ipv4(gateway) => node.gateway4 = Some(gateway),
            IpCidr::Ipv6(gateway) => node.gateway6 = Some(gateway),
        }
        let all = match network {
            IpCidr::Ipv4(_) => IpAddr::from([0; 4]),
            IpCidr::Ipv6(_) => IpAddr::from([0; 16]),
        };
        routes.push(Route { prefix: network, target: RouteTarget::Connected });
        let prefix = IpCidr::new(all.into(), 0);
        routes.push(Route { prefix, target: RouteTarget::Port(HOST) });
    }
    let port = |id, kind, mac, addresses| PortConfig {
        id,
        kind,
        mac,
        addresses,
        allowed: Vec::new(),
        mtu: MTU,
        up: true,
    };
    let mut ports = vec![
        Switch::gateway_port(&node, GATEWAY),
        port(HOST, PortKind::Host, HOST_MAC, node.addresses.clone()),
    ];
    for (id, mac, own) in found.ports() {
        let addresses = own.iter().take(limits.addresses_max).map(|address| (*address).into());
        ports.push(port(id, PortKind::Pod, mac, addresses.collect()));
    }
    let mut services = desired.services.clone();
    Numbers::default().number(&mut services);
    Ok(Config { node, ports, routes, services, complete: true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::manifests::parse;
    use crate::kube::objects::{Objects, desired};
    use crate::kube::place::Known;

    #[test]
    fn the_switch_has_the_services_of_the_manifests() {
        let mut objects = Objects::default();
        let text = "
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.1.0.0/24]}
---
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/16]}
---
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.7, ports: [{name: a, port: 80}, {name: b, port: 81}]}
";
        parse("a.yaml", text, &mut objects).unwrap();
        let desired = desired(&objects, &Known::alone("n1")).unwrap();
        let config = config(&Found::default(), &desired).unwrap();
        let names: Vec<_> = config.services.iter().map(|s| (s.id.0, s.name.as_str())).collect();
        assert_eq!(names, [(1, "default/web:a"), (2, "default/web:b")]);
        assert_eq!(config.node.service_cidrs, ["10.96.0.0/16".parse().unwrap()]);
        assert_eq!(config.node.non_masquerade, ["10.1.0.0/24".parse().unwrap()]);
    }
}

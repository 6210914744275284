//! The walk under the laws of simulation: any bytes, said to be offloaded in any way, from any
//! port.

use std::sync::OnceLock;

use smoltcp::wire::{
    EthernetAddress, IpAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr,
};
use stack::input::{Frame, Outbox, PortId};
use stack::{
    Config, Instant, Limits, NodeConfig, Offload, PortConfig, PortKind, Route, RouteTarget, Seeds,
    Switch, Trace, Verdict,
};

use crate::frames;
use crate::laws;

/// Ports of [`switch`] that frames come from, counted from 1: not the endpoint's, whose frames the
/// switch makes itself. The last does not exist.
const PORTS: u32 = 5;
const GATEWAY: EthernetAddress = NodeConfig::GATEWAY_MAC;

/// The frames' own hosts `a` and `b` as pods 2 and 3, a third pod of a small MTU, the node, the
/// gateway.
fn switch(table: u64) -> Switch {
    let four = |n| Ipv4Address::new(10, 1, 1, n);
    let six = |n| Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n);
    let node = NodeConfig {
        gateway4: Some(Ipv4Cidr::new(four(1), 24)),
        gateway6: Some(Ipv6Cidr::new(six(1), 64)),
        addresses: vec![Ipv4Address::new(192, 0, 2, 10).into()],
        ..NodeConfig::default()
    };
    let port = |id: u8, kind, addresses, mtu| PortConfig {
        id: PortId(u32::from(id) + 1),
        kind,
        mac: EthernetAddress([2, 0, 0, 0, 0, id]),
        addresses,
        allowed: vec![],
        mtu,
        up: true,
    };
    let pod = |id, n, mtu| {
        let own = vec![four(n).into(), six(n.into()).into()];
        port(id, PortKind::Pod, own, mtu)
    };
    let host = port(0, PortKind::Host, node.addresses.clone(), 1_500);
    let host = PortConfig { mac: EthernetAddress([2, 0, 0, 0, 0, 9]), ..host };
    let route =
        |address: IpAddress, bits, target| Route { prefix: IpCidr::new(address, bits), target };
    let config = Config {
        ports: vec![
            Switch::gateway_port(&node, PortId(0)),
            host,
            pod(1, 5, 1_500),
            pod(2, 6, 9_000),
            pod(3, 7, 150),
        ],
        routes: vec![
            route(four(0).into(), 24, RouteTarget::Connected),
            route(six(0).into(), 64, RouteTarget::Connected),
            route(Ipv4Address::UNSPECIFIED.into(), 0, RouteTarget::Port(PortId(1))),
            route(Ipv4Address::new(203, 0, 113, 0).into(), 24, RouteTarget::Blackhole),
        ],
        node,
        services: Vec::new(),
        complete: true,
    };
    let limits = Limits { errors_burst: 2, flood_burst: 2, ports_max: 8, ..Limits::default() };
    Switch::new(config, limits, Seeds { table, choice: 1 })
}

/// Panics if a law of the walk is broken.
pub(crate) fn judge(bytes: &[u8], offload: &Offload) {
    let _verdict = verdict(bytes, offload);
}

/// What the walk of a steered frame came to, the laws judged.
pub(crate) fn verdict(bytes: &[u8], offload: &Offload) -> Verdict {
    static ORIGINALS: OnceLock<[Switch; 2]> = OnceLock::new();
    let mut bytes = bytes.to_vec();
    let port = steer(&mut bytes);
    // Now and then once more than the limits of answers and floods allow.
    let times = if bytes.len().is_multiple_of(16) { 3 } else { 1 };
    let originals = ORIGINALS.get_or_init(|| [switch(1), switch(0xdead)]);
    let both = if bytes.len().is_multiple_of(4) { 2 } else { 1 };
    let run = |original: &Switch| {
        let mut switch = original.clone();
        let mut walked = Vec::new();
        for _ in 0..times {
            let mut frame = Frame::from_bytes(&bytes);
            frame.set_offload(*offload);
            walked.extend(put(&mut switch, port, frame));
        }
        (walked, switch.digest())
    };
    let seen: Vec<_> = originals.iter().take(both).map(run).collect();
    assert_eq!(seen.first(), seen.last(), "the table's seed does not show");
    seen[0].0[0].verdict
}

/// Puts a frame in; gives its walk, and those of what the endpoint replied.
fn put(switch: &mut Switch, port: PortId, frame: Frame) -> Vec<Trace> {
    let now = Instant(1_000_000_000);
    let mut out = Outbox::default();
    laws::frame(switch, now, port, frame, &mut out);
    let mut walked: Vec<Trace> = out.walked.drain().collect();
    for (endpoint, frame) in std::mem::take(&mut out.deliveries) {
        laws::deliver(switch, now, endpoint, frame, &mut out);
        walked.extend(out.walked.drain());
    }
    walked
}

/// Gives the ingress port. A frame that lies about its sender gets no further than the source
/// guard, so the MACs are mostly made the port's and a receiver's; what is drawn follows from the
/// bytes alone.
fn steer(frame: &mut [u8]) -> PortId {
    let mut hasher = stack::hash::Hasher::new(0);
    hasher.bytes(frame);
    let mut draws = hasher.finish();
    let mut below = |limit: u64| {
        let drawn = draws % limit;
        draws /= limit;
        drawn
    };
    let by_mac = match frame.get(6..12) {
        Some([2, 0, 0, 0, 0, 1]) => 2,
        Some([2, 0, 0, 0, 0, 2]) => 3,
        _ => 1 + u32::try_from(below(PORTS.into())).unwrap(),
    };
    let port = if below(8) == 0 { 1 + u32::try_from(below(PORTS.into())).unwrap() } else { by_mac };
    let own =
        [GATEWAY.0, [2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3]];
    if let (Some(mac), Some(place), true) =
        (own.get(usize::try_from(port).unwrap()), frame.get_mut(6..12), below(16) != 0)
    {
        place.copy_from_slice(mac);
    }
    let receiver = match below(6) {
        0..3 => Some(GATEWAY.0),
        3 => Some([0xff; 6]),
        4 => Some(own[usize::try_from(2 + below(3)).unwrap()]),
        _ => None,
    };
    if let (Some(mac), Some(place)) = (receiver, frame.get_mut(..6)) {
        place.copy_from_slice(&mac);
    }
    let far = [[10, 1, 1, 1], [10, 1, 1, 7], [10, 1, 1, 99], [198, 51, 100, 7], [203, 0, 113, 1]];
    if below(2) == 0
        && frame.get(12..14) == Some(&[8, 0])
        && let Some(place) = frame.get_mut(30..34)
    {
        place.copy_from_slice(&far[usize::try_from(below(5)).unwrap()]);
        frames::mend(frame);
    }
    PortId(port)
}

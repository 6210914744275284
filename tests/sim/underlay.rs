//! What a node's kernel does between `hop0` and the network of the nodes: it forwards packets by
//! routes and translates nothing, for each node knows where the others' pods are. Beyond is one
//! host outside of the cluster. What the switch takes of the node's own address, and of Services,
//! goes to it, as `vswitchd/src/node/rules.rs` has it.

use smoltcp::wire::{IpAddress, Ipv4Packet};
use stack::Frame;
use stack::NodeConfig;
use stack::pipeline::packet::{Inner, L4, Packet};
use stack::pipeline::parse::parse;

use crate::plan::{self, Id, OUTSIDE};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// Where a node's kernel sends a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Towards {
    /// Out of `hop0`: to a pod of this node, or no packet for a router at all.
    Switch,
    /// To the node's own sockets.
    Own,
    /// To another node.
    Node(u8),
    /// To the host outside.
    Outside,
    /// No route.
    Nowhere,
}

/// The kernel's routes on `node` of `nodes`.
pub(crate) fn route(node: u8, nodes: u8, frame: &Frame) -> Towards {
    let Some(dst) = destination(frame) else {
        return if node == OUTSIDE.node { Towards::Nowhere } else { Towards::Switch };
    };
    let here = |number: u8| plan::subnets(number).iter().any(|subnet| subnet.contains_addr(&dst));
    let is = |number| [false, true].map(|six| plan::address(plan::id(number, 0), six));
    if is(node).contains(&dst) {
        return Towards::Own;
    }
    if node == OUTSIDE.node && plan::is_balancer(&dst) {
        return Towards::Node(plan::entry(&dst, nodes));
    }
    if node != OUTSIDE.node && (here(node) || !dst.is_unicast() || plan::is_service(&dst)) {
        return Towards::Switch;
    }
    if is(OUTSIDE.node).contains(&dst) {
        return Towards::Outside;
    }
    let other = (0..nodes).find(|number| here(*number) || is(*number).contains(&dst));
    other.map_or(Towards::Nowhere, Towards::Node)
}

/// Whether a packet for the node's own address that came over its network goes to the switch: by a
/// port that it is asked for or by which it lets others answer.
pub(crate) fn is_diverted(frame: &Frame) -> bool {
    let Ok(Packet { inner: Inner::Ip(ip), .. }) =
        parse(frame.window(), frame.len(), frame.offload())
    else {
        return false;
    };
    let NodeConfig { snat_ports, node_ports, .. } = NodeConfig::default();
    ip.ports().is_some_and(|(_, port)| snat_ports.contains(port) || node_ports.contains(port))
}

/// Whether a host's own address sent the packet.
pub(crate) fn is_from_itself(id: Id, frame: &Frame) -> bool {
    let own = [false, true].map(|six| plan::address(id, six));
    let packet = parse(frame.window(), frame.len(), frame.offload());
    matches!(packet, Ok(Packet { inner: Inner::Ip(ip), .. }) if own.contains(&ip.src))
}

/// Whether the switch gets a copy of what the node's own stack gets: of all ICMP.
pub(crate) fn is_copied(frame: &Frame) -> bool {
    let packet = parse(frame.window(), frame.len(), frame.offload());
    matches!(packet, Ok(Packet { inner: Inner::Ip(ip), .. }) if matches!(ip.l4, L4::Icmp { .. }))
}

/// The packet's destination, if it is one that is routed: link-local ones are not.
fn destination(frame: &Frame) -> Option<IpAddress> {
    let Ok(Packet { inner: Inner::Ip(ip), .. }) =
        parse(frame.window(), frame.len(), frame.offload())
    else {
        return None;
    };
    let routed = match ip.dst {
        IpAddress::Ipv4(_) => true,
        IpAddress::Ipv6(six) => !six.is_unicast_link_local(),
    };
    routed.then_some(ip.dst)
}

/// A router's part: the header is whole and the hop limit falls by one. `None` when the packet
/// ends here.
pub(crate) fn forward(frame: &Frame) -> Option<Frame> {
    let mut frame = frame.duplicate();
    let packet = frame.bytes_mut().get_mut(ETHERNET..)?;
    if packet.first()? >> 4 == 4 {
        let mut header = Ipv4Packet::new_checked(packet).ok()?;
        let left = header.hop_limit().checked_sub(1).filter(|left| *left > 0)?;
        if !header.verify_checksum() {
            return None;
        }
        header.set_hop_limit(left);
        header.fill_checksum();
    } else {
        let limit = packet.get_mut(7)?;
        *limit = limit.checked_sub(1).filter(|left| *left > 0)?;
    }
    Some(frame)
}

/// The frame with which the kernel of `node` hands a packet to its switch.
pub(crate) fn into_switch(node: u8, frame: &mut Frame) {
    let own = plan::mac(plan::id(node, 0));
    let macs = NodeConfig::GATEWAY_MAC.0.into_iter().chain(own.0);
    frame.bytes_mut().iter_mut().zip(macs).for_each(|(place, byte)| *place = byte);
}

/// The frame that the sockets of `node` get: from whom does not matter to them.
pub(crate) fn into_own(node: u8, frame: &mut Frame) {
    let own = plan::mac(plan::id(node, 0));
    let macs = own.0.into_iter().chain(NodeConfig::GATEWAY_MAC.0);
    frame.bytes_mut().iter_mut().zip(macs).for_each(|(place, byte)| *place = byte);
}

/// Bytes of the IP packet in a frame, 0 if it is none. What pads the frame is not counted.
pub(crate) fn packet_len(frame: &Frame) -> usize {
    match parse(frame.window(), frame.len(), frame.offload()) {
        Ok(Packet { inner: Inner::Ip(ip), .. }) => usize::try_from(ip.total_len).unwrap(),
        Ok(_) | Err(_) => 0,
    }
}

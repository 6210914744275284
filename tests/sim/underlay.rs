//! What a node's kernel does between `hop0` and the network of the nodes: it forwards packets by
//! routes, with their true addresses. There is no NAT: each node knows where the others' pods are.

use smoltcp::wire::{IpAddress, Ipv4Packet};
use stack::Frame;
use stack::NodeConfig;
use stack::pipeline::packet::{Inner, Packet};
use stack::pipeline::parse::parse;

use crate::plan;

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
    /// No route.
    Nowhere,
}

/// The kernel's routes on `node` of `nodes`.
pub(crate) fn route(node: u8, nodes: u8, frame: &Frame) -> Towards {
    let Some(dst) = destination(frame) else { return Towards::Switch };
    let here = |number: u8| plan::subnets(number).iter().any(|subnet| subnet.contains_addr(&dst));
    let is = |number: u8| [false, true].map(|six| plan::address(plan::id(number, 0), six));
    if is(node).contains(&dst) {
        return Towards::Own;
    }
    if here(node) || !dst.is_unicast() {
        return Towards::Switch;
    }
    let other = (0..nodes).find(|number| here(*number) || is(*number).contains(&dst));
    other.map_or(Towards::Nowhere, Towards::Node)
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

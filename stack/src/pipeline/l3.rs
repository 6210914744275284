//! l3: route, hop limit, neighbor, MTU. Only what is sent to the gateway's MAC is routed.
//!
//! RFC 1812 section 5.2 and RFC 8200. The order of checks is Linux's (`ip_forward`): route, hop
//! limit, scope, MTU, and last the neighbor, whose absence a sender learns with the hop limit
//! already lowered.

use core::ops::ControlFlow::{Break, Continue};

use smoltcp::wire::{EthernetAddress, IpAddress};

use super::answer::Reply;
use super::flow::{Flow, is_copy};
use super::l2::Path;
use super::packet::{Fragment, Inner, Ip, Packet};
use super::{Step, Stop, Walk};
use crate::config::{PortKind, RouteTarget};
use crate::drop::DropReason;
use crate::input::EndpointId;
use crate::table::{Port, Slot};
use crate::trace::{Edit, Hop};

/// Where the packet goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    /// Out of one port; the driver fragments when there is an MTU.
    Port(Slot, Option<u16>),
    /// To a group.
    Group(u16),
    /// To the gateway itself, by its endpoint's port.
    Own(Slot),
}

fn refuse<T>(reason: DropReason) -> Step<T> {
    Break(Stop::Drop(reason))
}

fn unreachable<T>(reason: DropReason, mtu: u16) -> Step<T> {
    Break(Stop::Reply(Reply::Error { reason, mtu }))
}

/// Finds the egress port and what must change on the way.
pub(crate) fn route(
    cx: &mut Walk<'_>,
    packet: &Packet,
    path: Path,
    flow: Option<&Flow>,
) -> Step<Next> {
    match (path, &packet.inner) {
        (Path::Own(slot), Inner::Ip(ip)) => {
            cx.hop(Hop::Inside);
            inside(ip, slot)
        }
        (Path::GivenBack, _) => given_back(cx, packet.carried_len(cx.frame)),
        (Path::Group(receivers), _) => {
            cx.hop(Hop::Local);
            Continue(Next::Group(receivers))
        }
        (Path::Bridged(slot), _) => bridged(cx, slot, packet.carried_len(cx.frame)),
        (Path::Routed, Inner::Ip(ip)) => routed(cx, ip, flow),
        (Path::Routed | Path::Own(_), Inner::Arp(_)) => refuse(DropReason::NeighborUnasked),
    }
}

fn bridged(cx: &mut Walk<'_>, slot: Slot, len: u32) -> Step<Next> {
    cx.hop(Hop::Local);
    let Some(port) = cx.tables.ports().get(slot) else { return refuse(DropReason::Bug) };
    if !port.config.up {
        return refuse(DropReason::EgressDown);
    }
    if len > u32::from(port.config.mtu) {
        return refuse(DropReason::MtuExceeded);
    }
    Continue(Next::Port(slot, None))
}

/// Back to the node as it came, its hop limit too: it never left the node.
fn given_back(cx: &mut Walk<'_>, len: u32) -> Step<Next> {
    let ports = cx.tables.ports();
    let slot = ports.slot(cx.ingress);
    let Some((slot, port)) = slot.and_then(|slot| Some((slot, ports.get(slot)?))) else {
        return refuse(DropReason::Bug);
    };
    if len > u32::from(port.config.mtu) {
        return refuse(DropReason::MtuExceeded);
    }
    cx.edit(Edit::Macs { dst: port.config.mac, src: cx.tables.node().gateway_mac });
    Continue(Next::Port(slot, None))
}

/// To a host inside of the switch, which takes whole packets only.
fn inside(ip: &Ip, slot: Slot) -> Step<Next> {
    match ip.fragment {
        Fragment::Whole => Continue(Next::Own(slot)),
        Fragment::First(_) | Fragment::Later(_) => refuse(DropReason::FragmentUnsupported),
    }
}

fn routed(cx: &mut Walk<'_>, ip: &Ip, flow: Option<&Flow>) -> Step<Next> {
    let tables = cx.tables;
    let dst = flow.map_or(ip.dst, |flow| flow.out.dst);
    if let Some(slot) = own(cx, &dst) {
        cx.hop(Hop::Own);
        return inside(ip, slot);
    }
    if group(cx, &dst) {
        return refuse(DropReason::GroupRouted);
    }
    if link_local(&dst) {
        return refuse(DropReason::LinkScope);
    }
    let Some(route) = tables.fib().lookup(&dst) else {
        return unreachable(DropReason::NoRoute, 0);
    };
    let prefix_len = route.prefix_len;
    let (attached, egress) = match route.target {
        RouteTarget::Connected => (true, tables.neighbor(&dst).map(|n| (n.slot, n.mac))),
        RouteTarget::Port(id) => (false, by_port(cx, id)),
        RouteTarget::Blackhole => {
            cx.hop(Hop::Unreachable { prefix_len });
            return unreachable(DropReason::Blackhole, 0);
        }
    };
    let found = egress.and_then(|(slot, mac)| Some((slot, mac, tables.ports().get(slot)?)));
    match found {
        Some((_, _, port)) => {
            cx.hop(Hop::Routed { prefix_len, attached, port: port.config.id });
        }
        None => cx.hop(Hop::Unreachable { prefix_len }),
    }
    if goes_back(cx, found.map(|(slot, ..)| slot)) && !flow.is_some_and(Flow::is_translated) {
        return refuse(DropReason::RoutedBack);
    }
    if ip.hop_limit <= 1 {
        return unreachable(DropReason::HopLimitExceeded, 0);
    }
    // Beyond the scope of its source (RFC 4443 section 3.1): nobody there could answer.
    if link_local(&ip.src) {
        return unreachable(DropReason::LinkScope, 0);
    }
    let Some((slot, mac, port)) = found else {
        cx.edit(Edit::HopLimit(ip.hop_limit - 1));
        return unreachable(DropReason::NeighborFailed, 0);
    };
    if !port.config.up {
        return refuse(DropReason::EgressDown);
    }
    let fragment = fits(cx, ip, port)?;
    cx.leave.routed_len = usize::try_from(ip.total_len).ok();
    cx.edit(Edit::Macs { dst: mac, src: tables.node().gateway_mac });
    cx.edit(Edit::HopLimit(ip.hop_limit - 1));
    if let Some(mtu) = fragment {
        cx.hop(Hop::Fragment(mtu));
    }
    Continue(Next::Port(slot, fragment))
}

/// Whether the node would have the packet back that it sent here. What is translated may go there:
/// to a backend elsewhere, and from one. All else would come here again, until its hop limit ends.
fn goes_back(cx: &Walk<'_>, egress: Option<Slot>) -> bool {
    let ports = cx.tables.ports();
    let is_host = |port: &Port| port.config.kind == PortKind::Host;
    ports.by_id(cx.ingress).is_some_and(is_host)
        && egress.and_then(|slot| ports.get(slot)).is_some_and(is_host)
}

/// Whether the packet fits the port, whole or in fragments.
fn fits(cx: &Walk<'_>, ip: &Ip, port: &Port) -> Step<Option<u16>> {
    let mtu = port.config.mtu;
    if ip.segment_len(cx.frame) <= u32::from(mtu) {
        return Continue(None);
    }
    // A copy comes whole, in however many fragments its sender has sent it to the node: what no
    // router may do to IPv6 its sender has done.
    let was_divided = matches!(ip.src, IpAddress::Ipv6(_)) && is_copy(cx, ip);
    if ip.keep_whole && !was_divided {
        return unreachable(DropReason::MtuExceeded, mtu);
    }
    Continue(Some(mtu))
}

fn by_port(cx: &Walk<'_>, id: crate::PortId) -> Option<(Slot, EthernetAddress)> {
    let slot = cx.tables.ports().slot(id)?;
    Some((slot, cx.tables.ports().get(slot)?.config.mac))
}

/// The gateway's port, when the address is the gateway's own.
fn own(cx: &Walk<'_>, address: &IpAddress) -> Option<Slot> {
    let neighbor = cx.tables.neighbor(address)?;
    let port = cx.tables.ports().get(neighbor.slot)?;
    let kind = PortKind::Endpoint(EndpointId::GATEWAY);
    (port.config.kind == kind).then_some(neighbor.slot)
}

/// Multicast, the limited broadcast, and the pod subnet's own broadcast address.
fn group(cx: &Walk<'_>, address: &IpAddress) -> bool {
    let subnet = cx.tables.node().gateway4.and_then(|gateway| gateway.broadcast());
    match address {
        IpAddress::Ipv4(v4) => v4.is_multicast() || v4.is_broadcast() || subnet == Some(*v4),
        IpAddress::Ipv6(v6) => v6.is_multicast(),
    }
}

/// Of IPv6 alone. IPv4's 169.254/16 is routed as any other prefix, as Linux does (RFC 3927 section
/// 7 says otherwise): the node serves there (NodeLocal DNSCache) and clouds do (metadata).
fn link_local(address: &IpAddress) -> bool {
    matches!(address, IpAddress::Ipv6(v6) if v6.is_unicast_link_local())
}

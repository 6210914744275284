//! l2: may this port say this, and who is meant.
//!
//! RFC 826 (ARP), RFC 4861 (neighbor discovery), RFC 5227 (address conflict detection). Invariants:
//! - Nothing is learned from frames and unknown unicast is never flooded, so a pod cannot draw
//!   another's traffic or fill a table (SEC-30, SEC-31, SEC-40).
//! - What a pod sends carries its own MAC and addresses, in ARP and ND fields as well.
//! - ARP and ND are answered from the attachments, with the owner's real MAC.

use core::ops::ControlFlow::{Break, Continue};

use smoltcp::wire::{EthernetAddress, IpAddress, IpProtocol, Ipv4Address, Ipv6Address};

use super::answer::Reply;
use super::packet::{Arp, Inner, Ip, L4, Nd, Packet};
use super::{Step, Stop, Walk};
use crate::config::PortKind;
use crate::drop::DropReason;
use crate::table::{Effect, Port, Slot};
use crate::trace::Hop;

/// Which way a frame goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path {
    /// To the pod whose MAC it bears.
    Bridged(Slot),
    /// To the gateway's MAC.
    Routed,
    /// To a group: so many pods.
    Group(u16),
}

fn refuse<T>(reason: DropReason) -> Step<T> {
    Break(Stop::Drop(reason))
}

/// Admits the frame, answers neighbors' questions, and finds the receiver of the rest.
pub(crate) fn forward(cx: &mut Walk<'_>, packet: &Packet) -> Step<Path> {
    let tables = cx.tables;
    let Some(slot) = tables.ports().slot(cx.ingress) else {
        return refuse(DropReason::PortUnknown);
    };
    let Some(port) = tables.ports().get(slot) else { return refuse(DropReason::PortUnknown) };
    if !port.config.up {
        return refuse(DropReason::PortDown);
    }
    if !tables.complete() {
        return refuse(DropReason::ConfigurationPending);
    }
    guard(port, packet)?;
    neighbors(cx, slot, packet)?;
    let dst = packet.dst;
    if dst.is_multicast() {
        return group(cx, slot, port, packet);
    }
    if dst == tables.node().gateway_mac {
        if let Inner::Arp(_) | Inner::Ip(Ip { l4: L4::Nd(_), .. }) = packet.inner {
            return refuse(DropReason::NeighborUnasked);
        }
        cx.hop(Hop::Gateway);
        return Continue(Path::Routed);
    }
    match tables.fdb(&dst) {
        Some(egress) if egress == slot => refuse(DropReason::Reflected),
        Some(egress) => match tables.ports().get(egress) {
            Some(other) if same_segment(port.config.kind, other.config.kind) => {
                cx.hop(Hop::Bridged(other.config.id));
                Continue(Path::Bridged(egress))
            }
            _ => refuse(DropReason::UnknownUnicast),
        },
        None => refuse(DropReason::UnknownUnicast),
    }
}

/// The node is behind the gateway, not on the pods' segment; the switch's own hosts are beside
/// everybody.
fn same_segment(from: PortKind, to: PortKind) -> bool {
    match (from, to) {
        (PortKind::Endpoint(_), _) | (PortKind::Pod, PortKind::Pod) => true,
        (PortKind::Pod | PortKind::Host, _) => false,
    }
}

/// The source guard: MAC, addresses, ARP and ND fields (SEC-30..33).
fn guard(port: &Port, packet: &Packet) -> Step<()> {
    if packet.src.is_multicast() {
        return refuse(DropReason::SourceMacMulticast);
    }
    if packet.src != port.config.mac {
        return refuse(DropReason::SourceMacSpoofed);
    }
    match &packet.inner {
        Inner::Ip(ip) => guard_ip(port, ip),
        Inner::Arp(arp) => guard_arp(port, arp),
    }
}

fn guard_ip(port: &Port, ip: &Ip) -> Step<()> {
    if martian_destination(&ip.dst) {
        return refuse(DropReason::Martian);
    }
    if let IpAddress::Ipv6(Ipv6Address::UNSPECIFIED) = ip.src {
        // Only duplicate address detection and multicast listener reports before it (RFC 3590).
        let may = port.config.kind != PortKind::Pod || port.speaks_ipv6();
        return if may && announces_nothing(ip) {
            Continue(())
        } else {
            refuse(DropReason::SourceIpSpoofed)
        };
    }
    if martian_source(&ip.src) {
        return refuse(DropReason::Martian);
    }
    if port.config.kind != PortKind::Pod {
        return Continue(());
    }
    if !port.owns(&ip.src) {
        return refuse(DropReason::SourceIpSpoofed);
    }
    match ip.l4 {
        L4::Nd(Nd::RouterAdvert | Nd::Redirect) => refuse(DropReason::RouterMessageFromPod),
        L4::Nd(Nd::NeighborAdvert { target, link }) => {
            let own_link = link.is_none_or(|mac| mac == port.config.mac);
            let own = own_link && port.owns(&IpAddress::Ipv6(target));
            if own { Continue(()) } else { refuse(DropReason::NdSpoofed) }
        }
        L4::Nd(Nd::NeighborSolicit { link: Some(mac), .. }) if mac != port.config.mac => {
            refuse(DropReason::NdSpoofed)
        }
        L4::Icmp { icmp_type: 5, .. } if ip.protocol == IpProtocol::Icmp => {
            refuse(DropReason::RouterMessageFromPod)
        }
        L4::Udp { src_port: 67 | 547, dst_port: 68 | 546 } => refuse(DropReason::DhcpServer),
        L4::Nd(_) | L4::Icmp { .. } | L4::Udp { .. } => Continue(()),
        L4::Tcp { .. } | L4::Sctp { .. } | L4::Opaque => Continue(()),
    }
}

/// Sender fields must be the port's; 0.0.0.0 is a probe (RFC 5227 section 2.1.1).
fn guard_arp(port: &Port, arp: &Arp) -> Step<()> {
    let probe = arp.request && arp.sender == Ipv4Address::UNSPECIFIED;
    let trusted = port.config.kind != PortKind::Pod;
    let own = trusted || probe || port.owns(&IpAddress::Ipv4(arp.sender));
    if own && arp.sender_mac == port.config.mac {
        return Continue(());
    }
    refuse(DropReason::ArpSpoofed)
}

/// ARP and ND questions end here: answered with the owner's MAC, or by silence when nobody has the
/// address.
fn neighbors(cx: &mut Walk<'_>, slot: Slot, packet: &Packet) -> Step<()> {
    let asked = match packet.inner {
        Inner::Arp(arp) if arp.request && arp.sender != arp.target => IpAddress::Ipv4(arp.target),
        Inner::Ip(Ip { l4: L4::Nd(Nd::NeighborSolicit { target, .. }), .. }) => {
            IpAddress::Ipv6(target)
        }
        // An announcement asks nothing: it goes on as the broadcast it is.
        Inner::Arp(_) | Inner::Ip(_) => return Continue(()),
    };
    cx.hop(Hop::Asked);
    match cx.tables.neighbor(&asked).filter(|neighbor| neighbor.slot != slot) {
        Some(neighbor) => Break(Stop::Reply(Reply::Neighbor(neighbor.mac))),
        None => refuse(DropReason::NeighborUnknown),
    }
}

/// Broadcast and multicast: to the other pods of the node, within the port's share.
fn group(cx: &mut Walk<'_>, slot: Slot, port: &Port, packet: &Packet) -> Step<Path> {
    if reserved(packet.dst) {
        return refuse(DropReason::ReservedGroup);
    }
    if port.config.kind == PortKind::Host {
        return refuse(DropReason::GroupRouted);
    }
    let receivers = cx.tables.segment(slot, packet.carried_len(cx.frame)).count();
    if receivers == 0 {
        let anybody = cx.tables.segment(slot, 0).next().is_some();
        let reason = if anybody { DropReason::MtuExceeded } else { DropReason::FloodScopeEmpty };
        return refuse(reason);
    }
    if !port.floods.has(cx.now, cx.tables.flood_rate()) {
        return refuse(DropReason::StormLimited);
    }
    cx.effect(Effect::SpendFlood(slot));
    let receivers = u16::try_from(receivers).unwrap_or(u16::MAX);
    cx.hop(Hop::Group(receivers));
    Continue(Path::Group(receivers))
}

/// 01:80:c2:00:00:00 to 0f, which no bridge forwards (IEEE 802.1Q table 8-1).
fn reserved(mac: EthernetAddress) -> bool {
    let [a, b, c, d, e, f] = mac.0;
    [a, b, c, d, e] == [0x01, 0x80, 0xc2, 0, 0] && f < 0x10
}

fn announces_nothing(ip: &Ip) -> bool {
    match ip.l4 {
        L4::Nd(Nd::NeighborSolicit { link, .. }) => link.is_none(),
        L4::Icmp { icmp_type, .. } => matches!(icmp_type, 131 | 132 | 143),
        L4::Nd(_) | L4::Tcp { .. } | L4::Udp { .. } | L4::Sctp { .. } | L4::Opaque => false,
    }
}

/// Sources that are no host's (RFC 1812 section 5.3.7, RFC 4291 section 2.5.3).
fn martian_source(address: &IpAddress) -> bool {
    match address {
        IpAddress::Ipv4(v4) => {
            let [first, ..] = v4.octets();
            v4.is_loopback() || first == 0 || first >= 224
        }
        IpAddress::Ipv6(v6) => v6.is_loopback() || v6.is_multicast() || mapped(*v6),
    }
}

fn martian_destination(address: &IpAddress) -> bool {
    match address {
        IpAddress::Ipv4(v4) => {
            let [first, ..] = v4.octets();
            v4.is_loopback() || first == 0 || (first >= 240 && !v4.is_broadcast())
        }
        IpAddress::Ipv6(v6) => v6.is_loopback() || v6.is_unspecified() || mapped(*v6),
    }
}

/// IPv4-mapped addresses never appear on a wire (RFC 4942 section 2.2).
fn mapped(address: Ipv6Address) -> bool {
    address.to_ipv4_mapped().is_some()
}

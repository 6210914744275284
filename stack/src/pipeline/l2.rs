//! l2: may this port say this, and who is meant.
//!
//! RFC 826 (ARP), RFC 4861 (neighbor discovery), RFC 5227 (address conflict detection). Invariants:
//! - Nothing is learned from frames and unknown unicast is never flooded, so a pod cannot draw
//!   another's traffic or fill a table (SEC-30, SEC-31, SEC-40).
//! - What a pod sends carries its own MAC and addresses, in ARP and ND fields as well.
//! - ARP and ND are answered from the attachments, with the owner's real MAC.

use core::ops::ControlFlow::{Break, Continue};

use smoltcp::wire::{EthernetAddress, IpAddress};

use super::answer::Reply;
use super::packet::{Inner, Ip, L4, Nd, Packet};
use super::{Step, Stop, Walk};
use crate::config::PortKind;
use crate::drop::DropReason;
use crate::table::{Effect, Port, Slot};
use crate::trace::Hop;

mod guard;

/// Bytes of copies that one token of a port's share of floods pays for.
const COPIES: usize = 64 * 1_024;
/// What a copy counts at least: writing it costs more than its bytes.
const COPY_MIN: usize = 4 * 1_024;

/// Which way a frame goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path {
    /// To the pod whose MAC it bears.
    Bridged(Slot),
    /// To the gateway's MAC.
    Routed,
    /// To a group: so many pods.
    Group(u16),
    /// To a host inside of the switch that answers at an address of the node.
    Own(Slot),
    /// Back to the node, whose own it is (see [`super::service`]).
    GivenBack,
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
    guard::check(tables, slot, port, packet)?;
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
    let rate = cx.tables.flood_rate();
    let tokens = tokens(receivers, cx.frame.len()).min(rate.burst);
    if !port.floods.has(cx.now, rate, tokens) {
        return refuse(DropReason::StormLimited);
    }
    cx.effect(Effect::SpendFlood(slot, tokens));
    let receivers = u16::try_from(receivers).unwrap_or(u16::MAX);
    cx.hop(Hop::Group(receivers));
    Continue(Path::Group(receivers))
}

/// What a flood costs of its port's share: its work, which is bytes copied and frames written. The
/// caller never asks for more than a full share, or a segment of many pods could carry no flood.
fn tokens(receivers: usize, len: usize) -> u32 {
    let copies = receivers.saturating_mul(len.max(COPY_MIN));
    u32::try_from(copies.div_ceil(COPIES)).unwrap_or(u32::MAX)
}

/// 01:80:c2:00:00:00 to 0f, which no bridge forwards (IEEE 802.1Q table 8-1).
fn reserved(mac: EthernetAddress) -> bool {
    let [a, b, c, d, e, f] = mac.0;
    [a, b, c, d, e] == [0x01, 0x80, 0xc2, 0, 0] && f < 0x10
}

//! answer: what the switch says itself: ARP and ND replies, echo replies, ICMP and ICMPv6 errors,
//! TCP resets.
//!
//! RFC 1812 section 4.3, RFC 1122 section 3.2.2, RFC 4443 section 2.4, RFC 4861 section 7.2.4, RFC
//! 9293 section 3.10.7.1.
//! Whether and what to answer is decided in the walk ([`decide`]); the frame is built afterwards
//! ([`frame`]), so a dry run builds none. Deviation: an error quotes at most what the header window
//! holds, 242 bytes, where RFC 1812 asks for up to 576 octets in all.

use smoltcp::wire::{EthernetAddress, IpAddress, Ipv4Address, Ipv6Address};

use super::Walk;
use super::packet::{Inner, Ip, L4, Packet};
use crate::config::PortKind;
use crate::drop::DropReason;
use crate::input::{Checksum, Frame, PortId};
use crate::table::{Effect, Tables};
use crate::trace::{AnswerKind, Edit, Hop, Silence, Verdict};
use crate::wire::build::{Link, flags};

mod emit;

/// What a stage wants replied.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// To ARP or ND: the address is at this MAC.
    Neighbor(EthernetAddress),
    /// To an echo request for the gateway.
    Echo,
    /// The packet can go no further.
    Error {
        /// Why.
        reason: DropReason,
        /// The MTU to tell, 0 if that is not the reason.
        mtu: u16,
    },
    /// The TCP segment can go no further, and neither can its connection.
    Reset(DropReason),
}

/// Hop limit of everything the switch sends itself.
const HOP_LIMIT: u8 = 64;

/// Decides whether the switch replies.
pub(crate) fn decide(cx: &mut Walk<'_>, packet: Option<&Packet>, reply: Reply) -> Verdict {
    // Only stages behind parse ask for replies.
    let Some(packet) = packet else { return Verdict::Drop(DropReason::Bug) };
    match (reply, &packet.inner) {
        (Reply::Neighbor(mac), Inner::Arp(_)) => answered(cx, AnswerKind::Arp(mac)),
        (Reply::Neighbor(mac), Inner::Ip(_)) => answered(cx, AnswerKind::Neighbor(mac)),
        (Reply::Echo, Inner::Ip(ip)) => echo(cx, packet, ip),
        (Reply::Error { reason, mtu }, Inner::Ip(ip)) => error(cx, ip, reason, mtu),
        (Reply::Reset(reason), Inner::Ip(ip)) => reset(cx, ip, reason),
        (Reply::Echo | Reply::Error { .. } | Reply::Reset(_), Inner::Arp(_)) => {
            Verdict::Drop(DropReason::Bug)
        }
    }
}

fn answered(cx: &mut Walk<'_>, kind: AnswerKind) -> Verdict {
    cx.hop(Hop::Answered(kind));
    Verdict::Answer(kind)
}

/// The request itself goes back, edited: its payload is not looked at, whatever its size.
fn echo(cx: &mut Walk<'_>, packet: &Packet, ip: &Ip) -> Verdict {
    let verdict = answered(cx, AnswerKind::Echo);
    let partial = matches!(cx.frame.offload().checksum, Checksum::Partial { .. });
    cx.edit(Edit::Macs { dst: packet.src, src: cx.tables.node().gateway_mac });
    cx.edit(Edit::SwapAddresses);
    cx.edit(Edit::HopLimit(HOP_LIMIT));
    cx.edit(Edit::EchoReply { at: ip.l4_offset, partial });
    verdict
}

fn silent(cx: &mut Walk<'_>, reason: DropReason, silence: Silence) -> Verdict {
    cx.hop(Hop::Silent(silence));
    Verdict::Drop(reason)
}

fn error(cx: &mut Walk<'_>, ip: &Ip, reason: DropReason, mtu: u16) -> Verdict {
    let source = source(cx.tables, cx.ingress, ip);
    let ingress = cx.tables.ports().slot(cx.ingress);
    let (Some(_), Some(slot), false) = (source, ingress, forbidden(ip)) else {
        return silent(cx, reason, Silence::Forbidden);
    };
    let Some(port) = cx.tables.ports().get(slot) else {
        return silent(cx, reason, Silence::Forbidden);
    };
    if !port.errors.has(cx.now, cx.tables.error_rate(), 1) {
        return silent(cx, reason, Silence::RateLimited);
    }
    cx.effect(Effect::SpendError(slot));
    let (icmp_type, code) = number(ip, reason);
    answered(cx, AnswerKind::Error { reason, icmp_type, code, mtu })
}

/// One small segment for one: there is nothing to gain by having others reset, so no share of the
/// port's limits it. A reset is never answered by another (RFC 9293 section 3.10.7.1).
fn reset(cx: &mut Walk<'_>, ip: &Ip, reason: DropReason) -> Verdict {
    let is_due = matches!(ip.l4, L4::Tcp { flags, .. } if flags & flags::RST == 0);
    if !is_due || forbidden(ip) {
        return silent(cx, reason, Silence::Forbidden);
    }
    answered(cx, AnswerKind::Reset { reason })
}

/// Packets about which no error may be sent, beyond those the source guard stops (RFC 1122 section
/// 3.2.2, RFC 4443 section 2.4(e)).
fn forbidden(ip: &Ip) -> bool {
    let about_group = match ip.dst {
        IpAddress::Ipv4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddress::Ipv6(v6) => v6.is_multicast(),
    };
    let nameless = matches!(ip.src, IpAddress::Ipv6(Ipv6Address::UNSPECIFIED))
        || matches!(ip.src, IpAddress::Ipv4(Ipv4Address::UNSPECIFIED));
    ip.is_icmp_error() || ip.fragment.is_later() || about_group || nameless
}

/// Type and code, as Linux answers (RFC 792, RFC 1812 section 5.2.7.1, RFC 4443 section 3).
fn number(ip: &Ip, reason: DropReason) -> (u8, u8) {
    let v4 = matches!(ip.dst, IpAddress::Ipv4(_));
    match (reason, v4) {
        (DropReason::HopLimitExceeded, true) => (11, 0),
        (DropReason::HopLimitExceeded, false) => (3, 0),
        (DropReason::MtuExceeded, true) => (3, 4),
        (DropReason::MtuExceeded, false) => (2, 0),
        (DropReason::LinkScope, false) => (1, 2),
        (DropReason::NeighborFailed, false) => (1, 3),
        (DropReason::NeighborFailed | DropReason::Blackhole, true) => (3, 1),
        (DropReason::ServiceNoBackend | DropReason::ServicePortUnknown, true) => (3, 3),
        (DropReason::ServiceNoBackend | DropReason::ServicePortUnknown, false) => (1, 4),
        (_, true) => (3, 0),
        (_, false) => (1, 0),
    }
}

/// The gateway's address that the sender knows (RFC 1812 section 4.3.2.4); of the sender's own
/// scope for IPv6 (RFC 6724 section 5, rule 2). Who asks from beyond the node knows the node alone:
/// what bears an address of the pods is filtered there.
fn source(tables: &Tables, ingress: PortId, ip: &Ip) -> Option<IpAddress> {
    let node = tables.node();
    let near = matches!(ip.src, IpAddress::Ipv6(src) if src.is_unicast_link_local());
    let is_outside = tables.ports().by_id(ingress)?.config.kind == PortKind::Host
        && !near
        && !node.addresses.contains(&ip.src);
    let same = |own: &&IpAddress| own.version() == ip.src.version();
    if let Some(own) = node.addresses.iter().find(same).filter(|_| is_outside) {
        return Some(*own);
    }
    match ip.src {
        IpAddress::Ipv4(_) => node.gateway4.map(|cidr| IpAddress::Ipv4(cidr.address())),
        IpAddress::Ipv6(_) => node.gateway6.map(|cidr| {
            IpAddress::Ipv6(if near { node.gateway_link_local() } else { cidr.address() })
        }),
    }
}

/// Builds the frame of an answer that is not the edited request itself.
///
/// `packet` is what came in by `ingress`, and `refused` its frame as it stood when it got no
/// further, but not translated: its sender knows no other ends than those it wrote. An error quotes
/// its header window.
pub(crate) fn frame(
    tables: &Tables,
    (ingress, packet): (PortId, &Packet),
    kind: AnswerKind,
    refused: &Frame,
) -> Option<Frame> {
    let gateway = tables.node().gateway_mac;
    match (kind, &packet.inner) {
        (AnswerKind::Arp(mac), Inner::Arp(arp)) => Some(emit::arp(arp, packet.src, mac)),
        (AnswerKind::Neighbor(mac), Inner::Ip(ip)) => {
            let L4::Nd(super::packet::Nd::NeighborSolicit { target, .. }) = ip.l4 else {
                return None;
            };
            Some(emit::neighbor_advert(ip, packet.src, target, mac, mac == gateway))
        }
        (AnswerKind::Error { icmp_type, code, mtu, .. }, Inner::Ip(ip)) => {
            let addresses = (source(tables, ingress, ip)?, ip.src);
            let header = emit::Header { gateway, dst: packet.src, icmp_type, code, mtu };
            emit::error(&header, addresses, ip, refused)
        }
        (AnswerKind::Reset { .. }, Inner::Ip(ip)) => {
            emit::reset(Link { src: gateway, dst: packet.src }, ip, refused)
        }
        (AnswerKind::Echo, _) | (AnswerKind::Arp(_), Inner::Ip(_)) => None,
        (
            AnswerKind::Neighbor(_) | AnswerKind::Error { .. } | AnswerKind::Reset { .. },
            Inner::Arp(_),
        ) => None,
    }
}

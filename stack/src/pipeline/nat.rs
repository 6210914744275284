//! nat: sources rewritten: masquerade, and what Services did undone.
//!
//! RFC 4787, RFC 5382 and RFC 5508 as ARCHITECTURE declares; kube-proxy's matrix for who is
//! masqueraded (conformance.md 3.3). Invariants:
//! - A new connection's reply flow is free in the table of connections: that is the reservation of
//!   its port, and no two connections share one.
//! - A port is kept where it can be. Where it cannot, the first try follows from a keyed hash, so
//!   the same packet always gets the same.

use core::ops::ControlFlow::{Break, Continue};

use smoltcp::wire::IpAddress;

use super::flow::{Balanced, Flow, Kind, Opening, covered, end, is_from_outside};
use super::l3::Next;
use super::packet::{Fragment, Inner, Ip, L4, Packet};
use super::{Step, Stop, Walk};
use crate::config::{FrontendKind, PortKind, PortRange};
use crate::drop::DropReason;
use crate::table::Effect;
use crate::table::Port;
use crate::table::conntrack::{Connection, ConnectionId, Side, Tuple};
use crate::trace::{Edit, Hop, Masquerade};
use crate::wire::is_loopback;

/// Ports tried before a connection is refused. Where one in a hundred is free, one connection in
/// two hundred is refused too early; a full range never costs more than this.
const TRIES: u32 = 512;
/// Ports that stand in for one that is taken where no range is given (RFC 4787 requirement 3a).
const UNPRIVILEGED: PortRange = PortRange { first: 1_024, last: 65_535 };

fn refuse<T>(reason: DropReason) -> Step<T> {
    Break(Stop::Drop(reason))
}

/// Finds out whom the packet shall seem to come from, and what its connection becomes.
pub(crate) fn translate(
    cx: &mut Walk<'_>,
    packet: &Packet,
    next: &Next,
    flow: &mut Option<Flow>,
) -> Step<()> {
    let (Inner::Ip(ip), Some(flow), Next::Port(egress, _)) = (&packet.inner, flow.as_mut(), next)
    else {
        return Continue(());
    };
    let Some(port) = cx.tables.ports().get(*egress) else { return refuse(DropReason::Bug) };
    match flow.kind {
        Kind::Known { side, connection, track, id } => {
            let out = connection.translated(side);
            refuse_sctp(ip, &flow.seen, &out)?;
            if (out.src, out.src_port) != (flow.seen.src, flow.seen.src_port) {
                cx.hop(Hop::SourceRestored);
                cx.edit(Edit::Source(end(cx, ip, out.src, out.src_port, &out)));
            }
            flow.out = out;
            cx.effect(Effect::Advance(id, track));
        }
        Kind::Following(_) => {
            if flow.out.src != flow.seen.src {
                cx.hop(Hop::SourceRestored);
                cx.edit(Edit::Source(end(cx, ip, flow.out.src, 0, &flow.out)));
            }
        }
        Kind::Related { side, connection, .. } => {
            let (sent, left) = (connection.of(side), connection.translated(side));
            if sent.dst != left.dst {
                cx.hop(Hop::SourceRestored);
                flow.out.src = sent.dst;
                let out = Tuple { src_port: 0, dst_port: 0, ..flow.out };
                cx.edit(Edit::Source(end(cx, ip, sent.dst, 0, &out)));
            }
        }
        Kind::New(opening) => return new(cx, ip, port, flow, opening),
        Kind::Invalid | Kind::Untracked => {
            if leaves_cluster(cx, port, &flow.out) {
                return refuse(match ip.has_stops {
                    true => DropReason::SourceRouted,
                    false => DropReason::ConntrackInvalid,
                });
            }
        }
    }
    Continue(())
}

/// Reserves a new connection's ports.
fn new(cx: &mut Walk<'_>, ip: &Ip, egress: &Port, flow: &mut Flow, opening: Opening) -> Step<()> {
    let victim = room(cx, flow, &opening)?;
    let wanted = masquerade(cx, ip, egress, flow, &opening);
    let (address, range, must) = match wanted {
        None => (flow.seen.src, UNPRIVILEGED, false),
        Some(_) => match outer(cx, egress, &flow.seen.src) {
            Some((address, range)) => (address, range, true),
            None => return refuse(DropReason::SnatExhausted),
        },
    };
    let plain = Tuple { src: address, ..flow.out };
    let kept = !must || range.contains(plain.src_port) || has_no_ports(ip);
    let source = if kept { free(cx, &plain, opening.stale) } else { None };
    let (out, taken) = match source {
        Some(taken) => (plain, taken),
        None if has_no_ports(ip) => return refuse(DropReason::SnatExhausted),
        None => match another(cx, &plain, range, opening.stale) {
            Some(found) => found,
            None => return refuse(DropReason::SnatExhausted),
        },
    };
    refuse_sctp(ip, &flow.seen, &out)?;
    if (out.src, out.src_port) != (flow.seen.src, flow.seen.src_port) {
        cx.hop(Hop::Masqueraded(wanted.unwrap_or(Masquerade::PortTaken)));
        cx.edit(Edit::Source(end(cx, ip, out.src, out.src_port, &out)));
    }
    flow.out = out;
    let connection = Connection {
        tuples: [flow.seen, out.inverse()],
        track: opening.track,
        service: opening.balanced.map(|balanced| balanced.choice.service),
        ports: [cx.ingress, egress.config.id],
    };
    if let Some(Balanced { choice, .. }) = opening.balanced {
        cx.effect(Effect::Chosen(choice.chosen));
    }
    cx.effect(Effect::Track { connection, instead_of: [opening.stale, taken, victim] });
    Continue(())
}

/// Whether there is room for a new connection; if so by which one's end.
fn room(cx: &Walk<'_>, flow: &Flow, opening: &Opening) -> Step<Option<ConnectionId>> {
    let tables = cx.tables;
    let connections = tables.connections();
    let key = key(cx, &flow.seen);
    let port = tables.ports().by_id(cx.ingress);
    let pod = port.filter(|port| port.config.kind == PortKind::Pod);
    let is_ipv6 = matches!(flow.seen.src, IpAddress::Ipv6(_));
    let at_limit = |port: &&Port| port.connections >= tables.limits().pod_connections_max;
    // One that is over leaves room among those of who began it, which may be another pod.
    let stale = opening.stale.and_then(|stale| connections.get(stale));
    let is_its = stale.is_some_and(|stale| stale.port(Side::Originator) == cx.ingress);
    if pod.filter(at_limit).is_some() && !is_its {
        return match connections.victim(&flow.seen, key, cx.now, Some(cx.ingress)) {
            // That of the other family leaves no room in this one's table.
            Some(victim) if connections.is_full(&flow.seen) && victim.is_ipv6 != is_ipv6 => {
                refuse(DropReason::ConntrackFull)
            }
            Some(victim) => Continue(Some(victim)),
            None => refuse(DropReason::PodConnectionsFull),
        };
    }
    if connections.is_full(&flow.seen) && opening.stale.is_none() {
        return match connections.victim(&flow.seen, key, cx.now, None) {
            Some(victim) => Continue(Some(victim)),
            None => refuse(DropReason::ConntrackFull),
        };
    }
    Continue(None)
}

/// Whether, and why, the packet's source gives way to an address of this node.
fn masquerade(
    cx: &Walk<'_>,
    ip: &Ip,
    egress: &Port,
    flow: &Flow,
    opening: &Opening,
) -> Option<Masquerade> {
    let node = cx.tables.node();
    let Some(Balanced { kind, choice }) = opening.balanced else {
        return leaves_cluster(cx, egress, &flow.out).then_some(Masquerade::Egress);
    };
    if flow.out.dst == flow.seen.src {
        return Some(Masquerade::Hairpin);
    }
    let from_pod = is_pod(cx);
    // A hostNetwork backend here: the node would answer by itself, past the switch.
    if node.addresses.contains(&flow.out.dst) {
        return (!from_pod).then_some(Masquerade::Service);
    }
    let external_local = cx
        .tables
        .services()
        .by_id(choice.service)
        .is_some_and(|service| service.config.external_local);
    let is_wanted = match kind {
        FrontendKind::ClusterIp => !from_pod,
        FrontendKind::HostPort => is_loopback(&ip.src),
        FrontendKind::NodePort | FrontendKind::LoadBalancer | FrontendKind::ExternalIp => {
            !external_local || !(from_pod || is_from_outside(cx, ip))
        }
    };
    if is_wanted {
        return Some(Masquerade::Service);
    }
    // Whoever answers outside of the cluster cannot know a pod.
    leaves_cluster(cx, egress, &flow.out).then_some(Masquerade::Egress)
}

/// Whether a pod sends it.
fn is_pod(cx: &Walk<'_>) -> bool {
    let port = cx.tables.ports().by_id(cx.ingress);
    port.is_some_and(|port| port.config.kind == PortKind::Pod)
}

/// Whether a pod's packet goes where pods' addresses are not known.
fn leaves_cluster(cx: &Walk<'_>, egress: &Port, out: &Tuple) -> bool {
    let node = cx.tables.node();
    egress.config.kind == PortKind::Host
        && is_pod(cx)
        && !node.addresses.contains(&out.dst)
        && !covered(&node.non_masquerade, &out.dst)
}

/// The address that stands in for a source, and the ports it may use: towards pods the gateway's,
/// all of whose ports are the switch's, else the node's own.
fn outer(cx: &Walk<'_>, egress: &Port, source: &IpAddress) -> Option<(IpAddress, PortRange)> {
    let node = cx.tables.node();
    let is_ipv4 = matches!(source, IpAddress::Ipv4(_));
    if egress.config.kind == PortKind::Pod {
        let gateway = match is_ipv4 {
            true => IpAddress::Ipv4(node.gateway4?.address()),
            false => IpAddress::Ipv6(node.gateway6?.address()),
        };
        return Some((gateway, UNPRIVILEGED));
    }
    let same = |address: &&IpAddress| matches!(address, IpAddress::Ipv4(_)) == is_ipv4;
    Some((*node.addresses.iter().find(same)?, node.snat_ports))
}

/// Whether the reply flow of `out` is free; if so, what stands there and is over. `stale` is.
fn free(cx: &Walk<'_>, out: &Tuple, stale: Option<ConnectionId>) -> Option<Option<ConnectionId>> {
    let connections = cx.tables.connections();
    let Some((id, _)) = connections.find(&out.inverse()) else { return Some(None) };
    let over = connections.get(id).is_none_or(|other| other.track.deadline <= cx.now);
    (over || stale == Some(id)).then_some(Some(id))
}

/// The first free port of the range, from one on that a keyed hash chooses.
fn another(
    cx: &Walk<'_>,
    plain: &Tuple,
    range: PortRange,
    stale: Option<ConnectionId>,
) -> Option<(Tuple, Option<ConnectionId>)> {
    let count = u32::from(range.last.checked_sub(range.first)?) + 1;
    let begin = u32::try_from(key(cx, plain) % u64::from(count)).ok()?;
    (0..count.min(TRIES)).find_map(|step| {
        let offset = u16::try_from((begin + step) % count).ok()?;
        let port = range.first.checked_add(offset)?;
        let out = Tuple { src_port: port, ..*plain };
        free(cx, &out, stale).map(|taken| (out, taken))
    })
}

/// A keyed hash of a flow.
fn key(cx: &Walk<'_>, tuple: &Tuple) -> u64 {
    tuple.key(cx.tables.choice_seed())
}

/// The first fragment of an SCTP packet keeps its ports: its checksum covers all of the packet, and
/// how a change of them alters it depends on the length, which the first does not know.
fn refuse_sctp(ip: &Ip, seen: &Tuple, out: &Tuple) -> Step<()> {
    let is_first = matches!((ip.l4, ip.fragment), (L4::Sctp { .. }, Fragment::First(_)));
    let is_kept = (seen.src_port, seen.dst_port) == (out.src_port, out.dst_port);
    if is_first && !is_kept { refuse(DropReason::FragmentUntranslatable) } else { Continue(()) }
}

fn has_no_ports(ip: &Ip) -> bool {
    matches!(ip.l4, L4::Opaque)
}

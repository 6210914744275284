//! service: destinations rewritten: Services to backends, and what masquerade did undone.
//!
//! kube-proxy is the model (conformance.md 3); DESIGN 8 lists where we differ. Invariants:
//! - A new connection is balanced once; from then on its own entry says where it goes.
//! - A packet for a Service either goes to one of its backends or is refused, with the answer that
//!   fits: it never goes anywhere else.
//! - What came by the node's port for the node's own address and belongs to nobody here goes back
//!   to the node as it is.

use core::ops::ControlFlow::{Break, Continue};

use smoltcp::wire::IpProtocol;

use super::answer::Reply;
use super::flow::{
    Balanced, Flow, Kind, Opening, covered, end, from_health, is_copy, is_for_node,
    is_from_outside, to_health,
};
use super::l2::Path;
use super::packet::{Inner, Ip, L4, Packet, Quoted};
use super::{Step, Stop, Walk, rewrite};
use crate::config::FrontendKind;
use crate::drop::DropReason;
use crate::table::Effect;
use crate::table::conntrack::{Connection, Side, Tuple};
use crate::table::service::{Found, Refusal, Request, ServiceSlot};
use crate::trace::{Edit, Hop, Quotation, Rewrite};

fn refuse<T>(reason: DropReason) -> Step<T> {
    Break(Stop::Drop(reason))
}

/// Finds out where the packet shall go. The path changes for what goes back to the node.
pub(crate) fn translate(
    cx: &mut Walk<'_>,
    packet: &Packet,
    path: Path,
    flow: &mut Option<Flow>,
) -> Step<Path> {
    let (Inner::Ip(ip), Some(flow)) = (&packet.inner, flow.as_mut()) else {
        return Continue(path);
    };
    if matches!(path, Path::Routed) {
        if from_health(cx, ip) {
            return Continue(path);
        }
        if let Some(slot) = to_health(cx, ip) {
            cx.hop(Hop::HealthCheck);
            return Continue(Path::Own(slot));
        }
    }
    match flow.kind {
        Kind::Known { side, connection, .. } => {
            let out = connection.translated(side);
            if (out.dst, out.dst_port) != (flow.seen.dst, flow.seen.dst_port) {
                cx.hop(Hop::Readdressed);
                cx.edit(Edit::Destination(end(cx, ip, out.dst, out.dst_port, &out)));
            }
            (flow.out.dst, flow.out.dst_port) = (out.dst, out.dst_port);
        }
        Kind::Related { side, connection, quoted } => {
            related(cx, ip, side, &connection, &quoted);
            flow.out.dst = connection.of(side).src;
        }
        Kind::New(opening) if matches!(path, Path::Routed) => {
            return new(cx, ip, flow, opening);
        }
        Kind::Invalid | Kind::Untracked if matches!(path, Path::Routed) => {
            return stray(cx, ip, flow);
        }
        Kind::New(_) | Kind::Invalid | Kind::Untracked => {}
    }
    Continue(path)
}

/// An error goes to whoever sent the packet that it quotes, and quotes it as it was sent.
fn related(cx: &mut Walk<'_>, ip: &Ip, side: Side, connection: &Connection, quoted: &Quoted) {
    let (sent, left) = (connection.of(side), connection.translated(side));
    if sent == left {
        return;
    }
    cx.hop(Hop::Readdressed);
    let partial = rewrite::is_partial(ip, cx.frame);
    let is_echo = matches!(quoted.protocol, IpProtocol::Icmp | IpProtocol::Icmpv6);
    let quotation = |address, port| Quotation {
        icmp: ip.l4_offset,
        offset: quoted.offset,
        partial,
        rewrite: Rewrite {
            address,
            port: if is_echo { sent.src_port | sent.dst_port } else { port },
            at: quoted.l4_offset,
            sum: rewrite::quoted_sum(quoted),
        },
    };
    if (sent.src, sent.src_port) != (left.src, left.src_port) {
        cx.edit(Edit::QuotedSource(quotation(sent.src, sent.src_port)));
    }
    if (sent.dst, sent.dst_port) != (left.dst, left.dst_port) {
        cx.edit(Edit::QuotedDestination(quotation(sent.dst, sent.dst_port)));
    }
    if sent.src != ip.dst {
        cx.edit(Edit::Destination(end(cx, ip, sent.src, 0, &Tuple { src_port: 0, ..sent })));
    }
}

/// The first packet of a connection.
fn new(cx: &mut Walk<'_>, ip: &Ip, flow: &mut Flow, opening: Opening) -> Step<Path> {
    let (slot, kind) = match cx.tables.frontend(&flow.seen) {
        Found::Frontend { slot, kind } => (slot, kind),
        Found::KnownAddress => return not_here(ip),
        Found::Nothing => return elsewhere(cx, ip, flow),
    };
    if !opening.opens && kind == FrontendKind::HostPort {
        // The node's own, from a port that became a pod's meanwhile; or nobody's, which the node
        // resets itself.
        return elsewhere(cx, ip, flow);
    }
    if !opening.opens {
        // kube-proxy would lead it to any backend, which knows nothing of it either.
        return Break(Stop::Reply(Reply::Reset(DropReason::ServiceMidStream)));
    }
    let seen = flow.seen;
    let request = Request {
        slot,
        kind,
        external_to_cluster: is_from_outside(cx, ip),
        client: seen.src,
        tuple: &seen,
        now: cx.now,
        choice_seed: cx.tables.choice_seed(),
    };
    let choice = match cx.tables.services().choose(&request) {
        Ok(choice) => choice,
        Err(refusal) => return refused(cx, ip, slot, refusal),
    };
    let (address, port) = choice.backend;
    (flow.out.dst, flow.out.dst_port) = (address, port);
    flow.kind = Kind::New(Opening { balanced: Some(Balanced { kind, choice }), ..opening });
    cx.hop(Hop::Balanced { service: choice.service, why: choice.why, of: choice.of });
    cx.edit(Edit::Destination(end(cx, ip, address, port, &flow.out)));
    Continue(Path::Routed)
}

/// A packet that is of no connection and can begin none.
fn stray(cx: &mut Walk<'_>, ip: &Ip, flow: &mut Flow) -> Step<Path> {
    match cx.tables.frontend(&flow.seen) {
        Found::Frontend { .. } if ip.has_stops => refuse(DropReason::SourceRouted),
        Found::Frontend { kind: FrontendKind::HostPort, .. } => elsewhere(cx, ip, flow),
        Found::Frontend { .. } if matches!(ip.l4, L4::Tcp { .. }) => {
            Break(Stop::Reply(Reply::Reset(DropReason::ServiceMidStream)))
        }
        Found::Frontend { .. } => refuse(DropReason::ConntrackInvalid),
        Found::KnownAddress => not_here(ip),
        Found::Nothing => elsewhere(cx, ip, flow),
    }
}

/// A Service's address, and nothing of it at this port.
fn not_here<T>(ip: &Ip) -> Step<T> {
    if ip.is_echo_request() {
        return Break(Stop::Reply(Reply::Echo));
    }
    if matches!(ip.l4, L4::Icmp { .. }) {
        return refuse(DropReason::ServicePortUnknown);
    }
    reject(ip, DropReason::ServicePortUnknown)
}

/// No Service's address.
fn elsewhere(cx: &mut Walk<'_>, ip: &Ip, flow: &mut Flow) -> Step<Path> {
    if is_copy(cx, ip) {
        // The node's own stack has it.
        return refuse(DropReason::RelatedUnknown);
    }
    if is_for_node(cx, ip) {
        flow.kind = Kind::Untracked;
        cx.hop(Hop::GivenBack);
        return Continue(Path::GivenBack);
    }
    if covered(&cx.tables.node().service_cidrs, &ip.dst) {
        return refuse(DropReason::ServiceAddressUnallocated);
    }
    Continue(Path::Routed)
}

fn refused<T>(cx: &mut Walk<'_>, ip: &Ip, slot: ServiceSlot, refusal: Refusal) -> Step<T> {
    if let Some(service) = cx.tables.services().get(slot) {
        cx.hop(Hop::Unbalanced(service.config.id));
    }
    cx.effect(Effect::Refused(slot, refusal));
    match refusal {
        Refusal::NoBackends => reject(ip, DropReason::ServiceNoBackend),
        Refusal::NoneLocal => refuse(DropReason::ServiceNoneLocal),
        Refusal::SourceRefused => refuse(DropReason::ServiceSourceRefused),
    }
}

/// TCP hears a reset, the others an ICMP error.
fn reject<T>(ip: &Ip, reason: DropReason) -> Step<T> {
    let is_tcp = matches!(ip.l4, L4::Tcp { .. });
    Break(Stop::Reply(if is_tcp { Reply::Reset(reason) } else { Reply::Error { reason, mtu: 0 } }))
}

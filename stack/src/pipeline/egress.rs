//! egress: the last stage. Whatever leaves, leaves here, and only with policy's witness.

use core::ops::ControlFlow::{Break, Continue};

use super::answer::Reply;
use super::l3::Next;
use super::packet::{Inner, Packet};
use super::policy::Cleared;
use super::{Step, Stop, Walk};
use crate::config::PortKind;
use crate::drop::DropReason;
use crate::input::EndpointId;
use crate::table::{Effect, Port};
use crate::trace::Verdict;

/// Turns the decision into the verdict.
pub(crate) fn emit(
    cx: &mut Walk<'_>,
    packet: &Packet,
    next: Next,
    _cleared: Cleared,
) -> Step<Verdict> {
    match next {
        Next::Port(slot, fragment_mtu) => {
            cx.leave.slot = Some(slot);
            cx.leave.fragment_mtu = fragment_mtu;
            match cx.tables.ports().get(slot) {
                Some(port) => Continue(Verdict::Forward(port.config.id)),
                None => Break(Stop::Drop(DropReason::Bug)),
            }
        }
        Next::Group(receivers) => Continue(Verdict::Flood(receivers)),
        Next::Own(_) if matches!(&packet.inner, Inner::Ip(ip) if ip.is_echo_request()) => {
            Break(Stop::Reply(Reply::Echo))
        }
        Next::Own(slot) => match cx.tables.ports().get(slot).map(|port| port.config.kind) {
            // It has connections, each with its own bounds, and a bounded queue.
            Some(PortKind::Endpoint(id @ EndpointId::HEALTH)) => Continue(Verdict::Deliver(id)),
            Some(PortKind::Endpoint(id)) => deliver(cx, id),
            _ => Break(Stop::Drop(DropReason::Bug)),
        },
    }
}

/// What an endpoint hears it may answer, so it comes out of the port's share of errors.
fn deliver(cx: &mut Walk<'_>, endpoint: EndpointId) -> Step<Verdict> {
    let tables = cx.tables;
    let ports = tables.ports();
    let Some(slot) = ports.slot(cx.ingress) else { return Break(Stop::Drop(DropReason::Bug)) };
    let has_share = |port: &Port| port.errors.has(cx.now, tables.error_rate(), 1);
    if !ports.get(slot).is_some_and(has_share) {
        return Break(Stop::Drop(DropReason::GatewayBusy));
    }
    cx.effect(Effect::SpendError(slot));
    Continue(Verdict::Deliver(endpoint))
}

//! egress: the last stage. Whatever leaves, leaves here, and only with policy's witness.

use core::ops::ControlFlow::{Break, Continue};

use smoltcp::wire::IpProtocol;

use super::answer::Reply;
use super::l3::Next;
use super::packet::{Inner, L4, Packet};
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
            cx.fragment_mtu = fragment_mtu;
            match cx.tables.ports().get(slot) {
                Some(port) => Continue(Verdict::Forward(port.config.id)),
                None => Break(Stop::Drop(DropReason::Bug)),
            }
        }
        Next::Group(receivers) => Continue(Verdict::Flood(receivers)),
        Next::Own(_) if echo_request(packet) => Break(Stop::Reply(Reply::Echo)),
        Next::Own(slot) => match cx.tables.ports().get(slot).map(|port| port.config.kind) {
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

fn echo_request(packet: &Packet) -> bool {
    let Inner::Ip(ip) = &packet.inner else { return false };
    let L4::Icmp { icmp_type, code: 0, .. } = ip.l4 else { return false };
    icmp_type == if ip.protocol == IpProtocol::Icmp { 8 } else { 128 }
}

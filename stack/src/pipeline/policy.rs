//! policy: whether the packet may pass, on the bridged and the routed branch alike.
//!
//! NetworkPolicy is not there yet and belongs here. What is judged already is the one rule
//! that holds on every node whatever the policies say: pods do not speak the overlay's protocol
//! (SEC-45).

use core::ops::ControlFlow::{Break, Continue};

use super::flow::Flow;
use super::l3::Next;
use super::packet::{Inner, Ip, L4, Packet};
use super::{Step, Stop, Walk};
use crate::config::PortKind;
use crate::drop::DropReason;
use crate::trace::Hop;

/// Proof that a packet was judged: [`super::egress::emit`] takes nothing without it.
#[derive(Debug)]
pub(crate) struct Cleared(());

/// Judges the packet.
///
/// It is judged by where it goes, not by the Service it asked for, and by who sent it, not by whom
/// it will seem to come from.
pub(crate) fn check(
    cx: &mut Walk<'_>,
    packet: &Packet,
    flow: Option<&Flow>,
    _next: &Next,
) -> Step<Cleared> {
    let node = cx.tables.node();
    if let Inner::Ip(Ip { l4: L4::Udp { .. }, .. }) = packet.inner
        && let Some(Flow { out, .. }) = flow
        && out.dst_port == node.vxlan_port
        && node.addresses.contains(&out.dst)
        && from_pod(cx)
    {
        return Break(Stop::Drop(DropReason::OverlayFromPod));
    }
    cx.hop(Hop::Cleared);
    Continue(Cleared(()))
}

fn from_pod(cx: &Walk<'_>) -> bool {
    cx.tables.ports().by_id(cx.ingress).is_some_and(|port| port.config.kind == PortKind::Pod)
}

//! policy: whether the packet may pass, on the bridged and the routed branch alike.
//!
//! NetworkPolicy comes in a later issue and belongs here. What is judged already is the one rule
//! that holds on every node whatever the policies say: pods do not speak the overlay's protocol
//! (SEC-45).

use core::ops::ControlFlow::{Break, Continue};

use super::l3::Next;
use super::packet::{Inner, L4, Packet};
use super::{Step, Stop, Walk};
use crate::config::PortKind;
use crate::drop::DropReason;
use crate::trace::Hop;

/// Proof that a packet was judged: [`super::egress::emit`] takes nothing without it.
#[derive(Debug)]
pub(crate) struct Cleared(());

/// Judges the packet.
pub(crate) fn check(cx: &mut Walk<'_>, packet: &Packet, _next: &Next) -> Step<Cleared> {
    if let Inner::Ip(ip) = &packet.inner
        && let L4::Udp { dst_port, .. } = ip.l4
        && dst_port == cx.tables.node().vxlan_port
        && cx.tables.node().addresses.contains(&ip.dst)
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

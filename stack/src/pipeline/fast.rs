//! The fast path: packets of connections whose way a whole walk has found already.
//!
//! The connection is the cache: its entry says where a side's packets go, what they are translated
//! to, and at which version of the tables a whole walk found that ([`Way`]). What frames can vary
//! is asked of each one: form, MACs, ingress port, hop limit, size, deadline, TCP step. Invariants:
//! - The fast path comes to the same verdict, hops, edits and state as the whole walk, or to
//!   nothing; then the whole walk is taken. It never drops a frame.
//! - It recognises only what is plain: Ethernet, IPv4 without options or IPv6 without extension
//!   headers, not fragmented, and TCP or UDP.

use smoltcp::wire::IpProtocol;

use super::Walk;
use super::flow::{Flow, Kind};
use crate::table::conntrack::way;
use crate::table::conntrack::{Address, Glance, State, Track, Way, go_on};
use crate::table::{Effect, Port, Tables};
use crate::trace::{Edit, Hop, Tracked, Verdict};
use crate::wire::is_loopback;

mod head;

use head::Head;

/// Carries the frame as its connection says; `None` when it takes a whole walk.
pub(crate) fn carry(cx: &mut Walk<'_>) -> Option<Verdict> {
    let frame = cx.frame;
    match head::version(frame.window()) {
        head::IPV4 => {
            let head = Head::ipv4(frame)?;
            let glance = cx.tables.connections().glance4(&head.ends, head.protocol)?;
            known(cx, &head, &glance)
        }
        head::IPV6 => {
            let head = Head::ipv6(frame)?;
            let glance = cx.tables.connections().glance6(&head.ends, head.protocol)?;
            known(cx, &head, &glance)
        }
        _ => None,
    }
}

/// A packet of a connection that is known.
#[inline(always)]
fn known<A: Address>(cx: &mut Walk<'_>, head: &Head<A>, glance: &Glance<'_, A>) -> Option<Verdict> {
    let tables = cx.tables;
    let way = glance.way;
    let is_alive = glance.track.deadline > cx.now;
    if way.version != tables.version(head.protocol) || glance.port != cx.ingress || !is_alive {
        return None;
    }
    let ports = tables.ports();
    let (from, to) = (ports.get(cx.slot?)?, ports.get(way.egress())?);
    let may = tables.complete() && from.config.up && to.config.up;
    if !may || head.src != from.config.mac || !fits(tables, head, way, to) {
        return None;
    }
    let state = step(cx, head, glance)?;
    cx.leave.slot = Some(way.egress());
    record(cx, head, glance, state, to);
    let verdict = Verdict::Forward(to.config.id);
    cx.hop(Hop::Verdict(verdict));
    cx.trace.verdict = verdict;
    Some(verdict)
}

/// Whether the frame goes that way as it is: to the right MAC, not too large, with hops left.
#[inline(always)]
fn fits<A>(tables: &Tables, head: &Head<A>, way: Way, to: &Port) -> bool {
    let mtu = u32::from(to.config.mtu);
    match way.kind {
        way::Kind::Bridged => head.dst == to.config.mac && head.carried_len <= mtu,
        way::Kind::Attached | way::Kind::Routed => {
            head.dst == tables.node().gateway_mac && head.segment_len <= mtu && head.hop_limit > 1
        }
    }
}

/// Takes the connection as far as the packet brings it, if that is a plain step: in the place where
/// it is handed over, for a copy would be read before it is written.
#[inline(always)]
fn step<A: Address>(cx: &mut Walk<'_>, head: &Head<A>, glance: &Glance<'_, A>) -> Option<State> {
    let (now, timeouts) = (cx.now, &cx.tables.limits().timeouts);
    cx.effects.push(|| Effect::Advance(glance.id, Track::BLANK));
    let Some(Effect::Advance(_, track)) = cx.effects.last_mut() else { return None };
    *track = *glance.track;
    let goes_on = go_on(track, glance.side, &head.segment, head.protocol, now, timeouts);
    let state = track.state;
    if !goes_on {
        // The whole walk begins anew.
        cx.effects.clear();
        return None;
    }
    Some(state)
}

/// Records what the stages of a whole walk would.
#[inline(always)]
fn record<A: Address>(
    cx: &mut Walk<'_>,
    head: &Head<A>,
    glance: &Glance<'_, A>,
    state: State,
    to: &Port,
) {
    let (way, out, port) = (glance.way, glance.other, to.config.id);
    let is_bridged = way.kind == way::Kind::Bridged;
    if let Some([parsed, l2, tracked]) = cx.trace.hops_ahead() {
        *parsed = Hop::Parsed;
        *l2 = if is_bridged { Hop::Bridged(port) } else { Hop::Gateway };
        *tracked = Hop::Tracked(Tracked::Known { side: glance.side, state });
    }
    if (out.src, out.src_port) != (head.ends.dst, head.ends.dst_port) {
        cx.hop(Hop::Readdressed);
        cx.trace.edit_with(|| Edit::Destination(head.rewrite(out.src, out.src_port)));
    }
    if is_bridged {
        cx.hop(Hop::Local);
    } else {
        let (prefix_len, attached) = (way.prefix_len, way.kind == way::Kind::Attached);
        cx.hop(Hop::Routed { prefix_len, attached, port });
        cx.leave.routed_len = usize::try_from(head.total_len).ok();
        let src = cx.tables.node().gateway_mac;
        cx.trace.edit_with(|| Edit::Macs { dst: to.config.mac, src });
        cx.trace.edit_with(|| Edit::HopLimit(head.hop_limit - 1));
    }
    cx.hop(Hop::Cleared);
    if (out.dst, out.dst_port) != (head.ends.src, head.ends.src_port) {
        cx.hop(Hop::SourceRestored);
        cx.trace.edit_with(|| Edit::Source(head.rewrite(out.dst, out.dst_port)));
    }
}

/// Notes the way that a whole walk found for a packet of a connection.
pub(crate) fn remember(cx: &mut Walk<'_>, flow: Option<&Flow>, verdict: Verdict) {
    let (Some(Flow { seen, kind: Kind::Known { id, side, .. }, .. }), Verdict::Forward(port)) =
        (flow, verdict)
    else {
        return;
    };
    // What is asked for at a loopback address is for the source guard to judge, by the Services
    // there are: no version tells of those where TCP is spoken.
    let is_plain = matches!(seen.ip_protocol(), IpProtocol::Tcp | IpProtocol::Udp);
    if !is_plain || is_loopback(&seen.dst) {
        return;
    }
    let version = cx.tables.version(seen.protocol);
    let way = cx.trace.hops().iter().find_map(way);
    let slot = cx.tables.ports().slot(port);
    let way = way.zip(slot).and_then(|((kind, len), slot)| Way::new(version, slot, len, kind));
    if let Some(way) = way {
        cx.effect(Effect::Carried(*id, *side, way));
    }
}

/// The way that a hop tells of, and the bits of its route's prefix.
fn way(hop: &Hop) -> Option<(way::Kind, u8)> {
    if let Hop::Routed { prefix_len, attached, port: _ } = *hop {
        let kind = if attached { way::Kind::Attached } else { way::Kind::Routed };
        return Some((kind, prefix_len));
    }
    (*hop == Hop::Local).then_some((way::Kind::Bridged, 0))
}

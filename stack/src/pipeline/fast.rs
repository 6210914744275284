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
use crate::table::conntrack::{Address, Advance, Glance, Track, Way, advance};
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
#[inline]
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
    let track = step(cx, head, glance)?;
    record(cx, head, glance, &track, to);
    if track != *glance.track {
        cx.effect(Effect::Advance(glance.id, track));
    }
    let verdict = Verdict::Forward(to.config.id);
    cx.hop(Hop::Verdict(verdict));
    cx.trace.verdict = verdict;
    Some(verdict)
}

/// Whether the frame goes that way as it is: to the right MAC, not too large, with hops left.
#[inline]
fn fits<A>(tables: &Tables, head: &Head<A>, way: Way, to: &Port) -> bool {
    let mtu = u32::from(to.config.mtu);
    match way.kind {
        way::Kind::Bridged => head.dst == to.config.mac && head.carried_len <= mtu,
        way::Kind::Attached | way::Kind::Routed => {
            head.dst == tables.node().gateway_mac && head.segment_len <= mtu && head.hop_limit > 1
        }
    }
}

/// How far the connection comes by the packet, if that is a plain step.
#[inline]
fn step<A: Address>(cx: &Walk<'_>, head: &Head<A>, glance: &Glance<'_, A>) -> Option<Track> {
    let timeouts = &cx.tables.limits().timeouts;
    match advance(glance.track, glance.side, &head.segment, head.protocol, cx.now, timeouts) {
        Advance::Keep(track) => Some(track),
        Advance::Reopen | Advance::Invalid | Advance::Ignored => None,
    }
}

/// Records what the stages of a whole walk would.
#[inline]
fn record<A: Address>(
    cx: &mut Walk<'_>,
    head: &Head<A>,
    glance: &Glance<'_, A>,
    track: &Track,
    to: &Port,
) {
    let (way, out, port) = (glance.way, glance.other, to.config.id);
    let is_bridged = way.kind == way::Kind::Bridged;
    cx.hop(Hop::Parsed);
    cx.hop(if is_bridged { Hop::Bridged(port) } else { Hop::Gateway });
    cx.hop(Hop::Tracked(Tracked::Known { side: glance.side, state: track.state }));
    if (out.src, out.src_port) != (head.ends.dst, head.ends.dst_port) {
        cx.hop(Hop::Readdressed);
        cx.edit(Edit::Destination(head.rewrite(out.src, out.src_port)));
    }
    if is_bridged {
        cx.hop(Hop::Local);
    } else {
        let (prefix_len, attached) = (way.prefix_len, way.kind == way::Kind::Attached);
        cx.hop(Hop::Routed { prefix_len, attached, port });
        cx.routed_len = usize::try_from(head.total_len).ok();
        cx.edit(Edit::Macs { dst: to.config.mac, src: cx.tables.node().gateway_mac });
        cx.edit(Edit::HopLimit(head.hop_limit - 1));
    }
    cx.hop(Hop::Cleared);
    if (out.dst, out.dst_port) != (head.ends.src, head.ends.src_port) {
        cx.hop(Hop::SourceRestored);
        cx.edit(Edit::Source(head.rewrite(out.dst, out.dst_port)));
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

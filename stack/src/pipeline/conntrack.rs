//! conntrack: which connection a packet is of, and whether it makes sense there.
//!
//! RFC 5382 and RFC 5508 for what must pass, Linux's nf_conntrack for the rest. Invariants:
//! - Nothing is written here: what a packet makes of its connection is an effect of egress, so a
//!   packet that is dropped on its way creates and changes nothing.
//! - A connection counts as absent when it is past its deadline, when the side that speaks is
//!   behind another port now (its address was given to another pod), and, for UDP, when its
//!   backend is no longer one of its Service.
//! - A packet that makes no sense (INVALID) is never translated, so it leaves only where its
//!   connection has no translation.

use core::ops::ControlFlow::{Break, Continue};

use smoltcp::wire::IpProtocol;

use super::flow::{self, Flow, Kind, Opening, from_health, is_copy, to_health};
use super::l2::Path;
use super::packet::{Inner, Ip, L4, Packet, Quoted};
use super::{Step, Stop, Walk};
use crate::config::PortKind;
use crate::drop::DropReason;
use crate::input::PortId;
use crate::table::conntrack::{
    Advance, Connection, ConnectionId, Segment, Side, Tuple, advance, begin, is_opening,
};
use crate::table::service::Found;
use crate::trace::{Hop, Tracked};

/// Finds the packet's connection; `None` for what is no IP packet or goes to a group.
pub(crate) fn find(cx: &mut Walk<'_>, packet: &Packet, path: Path) -> Step<Option<Flow>> {
    let Inner::Ip(ip) = &packet.inner else { return Continue(None) };
    if let Path::Group(_) = path {
        return Continue(None);
    }
    if let L4::Icmp { quoted: Some(quoted), .. } = ip.l4 {
        return related(cx, ip, &quoted);
    }
    // Nothing of these is ever translated; and of what still has stops before it, the destination
    // that its connection would be known by is not here.
    if ip.has_stops || from_health(cx, ip) || to_health(cx, ip).is_some() {
        return Continue(Some(Flow::untracked(ip)));
    }
    let Some(seen) = flow::tuple(ip) else { return Continue(Some(Flow::untracked(ip))) };
    let segment = Segment::read(cx.frame.window(), ip);
    let kind = match look_up(cx, &seen) {
        LookUp::Nothing => opening(cx, ip, &seen, &segment, None),
        LookUp::Stale(id) => opening(cx, ip, &seen, &segment, Some(id)),
        LookUp::Live(id, side, connection) => {
            let timeouts = &cx.tables.limits().timeouts;
            match advance(&connection.track, side, &segment, seen.protocol, cx.now, timeouts) {
                Advance::Keep(track) => Kind::Known { id, side, connection, track },
                Advance::Ignored => Kind::Known { id, side, connection, track: connection.track },
                Advance::Reopen => opening(cx, ip, &seen, &segment, Some(id)),
                Advance::Invalid if connection.is_translated() => {
                    cx.hop(Hop::Tracked(Tracked::Invalid));
                    return Break(Stop::Drop(DropReason::ConntrackInvalid));
                }
                Advance::Invalid => Kind::Invalid,
            }
        }
    };
    cx.hop(Hop::Tracked(match &kind {
        Kind::New(_) => Tracked::New,
        Kind::Known { side, track, .. } => Tracked::Known { side: *side, state: track.state },
        Kind::Untracked | Kind::Invalid | Kind::Related { .. } => Tracked::Invalid,
    }));
    Continue(Some(Flow { seen, out: seen, kind }))
}

/// What the table says of a flow.
enum LookUp {
    Nothing,
    /// There is one, and it is over.
    Stale(ConnectionId),
    Live(ConnectionId, Side, Connection),
}

fn look_up(cx: &Walk<'_>, seen: &Tuple) -> LookUp {
    let connections = cx.tables.connections();
    let Some((id, side)) = connections.find(seen) else { return LookUp::Nothing };
    let Some(connection) = connections.get(id) else { return LookUp::Nothing };
    let is_over = connection.track.deadline <= cx.now
        || has_moved(cx, connection.port(side))
        || is_misled(cx, side, &connection);
    if is_over {
        return LookUp::Stale(id);
    }
    LookUp::Live(id, side, connection)
}

/// Whether the side that speaks is behind another port than it was. The node's own port may be
/// made anew with all that lies behind it.
fn has_moved(cx: &Walk<'_>, before: PortId) -> bool {
    let ports = cx.tables.ports();
    let is_node = ports.by_id(cx.ingress).is_some_and(|port| port.config.kind == PortKind::Host);
    before != cx.ingress && !(is_node && ports.slot(before).is_none())
}

/// UDP has no end that could be seen, so what it was led to is judged at each packet: its backend
/// must still serve, and what was led nowhere may be asking for a Service by now.
fn is_misled(cx: &Walk<'_>, side: Side, connection: &Connection) -> bool {
    let seen = connection.of(Side::Originator);
    if seen.ip_protocol() != IpProtocol::Udp {
        return false;
    }
    let found = cx.tables.frontend(&seen);
    match connection.service {
        None => side == Side::Originator && matches!(found, Found::Frontend { .. }),
        Some(service) => {
            let backend = connection.of(Side::Responder);
            let services = cx.tables.services();
            let slot = services.slot(service);
            let serves = |slot| services.serves(slot, &backend.src, backend.src_port);
            let same = matches!(found, Found::Frontend { slot: found, .. } if Some(found) == slot);
            !same || !slot.is_some_and(serves)
        }
    }
}

/// What a packet without a connection begins, if it can begin one.
fn opening(
    cx: &Walk<'_>,
    ip: &Ip,
    seen: &Tuple,
    segment: &Segment,
    stale: Option<ConnectionId>,
) -> Kind {
    // An answer to a question that nobody asked.
    let is_answer = matches!(ip.l4, L4::Icmp { .. }) && seen.src_port == 0 && seen.dst_port != 0;
    if is_answer {
        return Kind::Invalid;
    }
    match begin(segment, seen.protocol, cx.now, &cx.tables.limits().timeouts) {
        Some(track) => {
            let opens = !matches!(segment, Segment::Tcp { .. }) || is_opening(segment);
            Kind::New(Opening { track, opens, stale, balanced: None })
        }
        None => Kind::Invalid,
    }
}

/// An ICMP error is of the connection of the packet that it quotes. It neither ends nor refreshes
/// it (RFC 5508 requirement 8).
fn related(cx: &mut Walk<'_>, ip: &Ip, quoted: &Quoted) -> Step<Option<Flow>> {
    let connections = cx.tables.connections();
    // The quoted packet is as it left the switch, so the other side's frames bear its inverse.
    let found = flow::quoted(quoted).find_map(|tuple| connections.find(&tuple.inverse()));
    let live = found.and_then(|(id, side)| Some((side, connections.get(id)?)));
    let live = live.filter(|(side, connection)| {
        // Only from where the packet went to: nobody else can know of it.
        connection.track.deadline > cx.now
            && connection.port(*side) == cx.ingress
            && connection.translated(side.other()).src == ip.dst
    });
    let Some((other, connection)) = live else {
        return match is_copy(cx, ip) {
            true => Break(Stop::Drop(DropReason::RelatedUnknown)),
            false => Continue(Some(Flow::untracked(ip))),
        };
    };
    let side = other.other();
    cx.hop(Hop::Tracked(Tracked::Related { side }));
    let flow = Flow::untracked(ip);
    Continue(Some(Flow { kind: Kind::Related { side, connection, quoted: *quoted }, ..flow }))
}

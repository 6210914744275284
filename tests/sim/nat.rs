//! Laws of translation, judged by frames: what came in, what left, and what is remembered of both.
//!
//! - **A bijection**: no two connections that live leave by the same flow, and each of both flows
//!   of a connection finds it and no other.
//! - **Replies undo it**: whoever is answered hears from where he sent to, by the port he asked.
//! - **A connection never moves** while it lives: not past its deadline, its sides behind their
//!   ports, and if it is UDP, its backend still serving. What is over is not carried on.
//! - **A new connection** is given a backend that may be given, the one that its client has if it
//!   is remembered ([`crate::sticky`]), and is refused as it should be where there is none.
//! - **An error** quotes to each side the packet as that side sent it.

use std::collections::BTreeMap;

use smoltcp::wire::{IpAddress, IpProtocol};
use stack::config::PortKind;
use stack::input::{Frame, Outbox, PortId};
use stack::table::conntrack::{Connection, ConnectionId, Side, Tuple};
use stack::trace::{State, Tracked};
use stack::wire::build::flags;
use stack::{AnswerKind, Change, DropReason, Hop, Instant, Switch, Trace, Verdict};

use crate::choice::{self, Usable};
use crate::flow::{Borne, as_quoted, borne};
use crate::sticky::Sticky;

/// Not a name that smoltcp has.
const SCTP: IpProtocol = IpProtocol::Unknown(132);

/// What is remembered of the connections so far.
#[derive(Default)]
pub(crate) struct Nat {
    /// How the flow of whoever began it left, by the flow as it came.
    left: BTreeMap<Tuple, Tuple>,
    /// The flow as it came, by what its answers bear.
    asked: BTreeMap<Tuple, Tuple>,
    sticky: Sticky,
}

/// What there was before a frame.
pub(crate) struct Before {
    borne: Borne,
    /// Of the connection that the frame is of, or quotes a packet of.
    entry: Option<Entry>,
}

struct Entry {
    id: ConnectionId,
    side: Side,
    connection: Connection,
    fate: Fate,
}

/// What must become of a connection by a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It goes on as it was.
    Lives,
    /// It is not carried on.
    Over,
    /// A SYN may open another in place of one that closes.
    Either,
}

impl Before {
    /// Before that frame.
    pub(crate) fn of(switch: &Switch, now: Instant, port: PortId, frame: &Frame) -> Self {
        let borne = borne(frame);
        let connections = switch.tables().connections();
        let find = |flow: &Tuple| {
            let (id, side) = connections.find(flow)?;
            Some((id, side, connections.get(id)?))
        };
        let entry = match borne {
            Borne::Flow(flow, flags) => find(&flow).map(|(id, side, connection)| {
                let fate = fate(switch, now, port, flags, side, &connection);
                Entry { id, side, connection, fate }
            }),
            // The quoted packet left: the other side's frames bear its inverse.
            Borne::Error(_, quoted) => find(&quoted.inverse()).map(|(id, other, connection)| {
                let lives = connection.track.deadline > now;
                let fate = if lives { Fate::Lives } else { Fate::Over };
                Entry { id, side: other.other(), connection, fate }
            }),
            Borne::Other => None,
        };
        Self { borne, entry }
    }
}

fn fate(
    switch: &Switch,
    now: Instant,
    port: PortId,
    flags: Option<u8>,
    side: Side,
    connection: &Connection,
) -> Fate {
    let ports = switch.tables().ports();
    let before = connection.port(side);
    let is_node = ports.by_id(port).is_some_and(|it| it.config.kind == PortKind::Host);
    let moved = before != port && !(is_node && ports.by_id(before).is_none());
    // Another pod has the address of whoever is spoken to.
    let (to, its) = (connection.translated(side).dst, connection.port(side.other()));
    let mut pods = ports.iter().map(|(_, it)| &it.config).filter(|it| it.kind == PortKind::Pod);
    let succeeded = pods.any(|it| it.addresses.contains(&to) && it.id != its);
    if connection.track.deadline <= now || moved || succeeded {
        return Fate::Over;
    }
    let protocol = connection.of(Side::Originator).ip_protocol();
    if protocol == IpProtocol::Udp && !still_led(switch, side, connection) {
        return Fate::Over;
    }
    let opens = flags.is_some_and(|it| it & (flags::SYN | flags::ACK) == flags::SYN);
    let open = [State::SynSent, State::SynReceived, State::Established];
    let closing = !open.contains(&connection.track.state);
    if opens && closing || protocol == SCTP { Fate::Either } else { Fate::Lives }
}

/// Whether a UDP connection is where it would be led today, or may stay.
fn still_led(switch: &Switch, side: Side, connection: &Connection) -> bool {
    let found = choice::asked_of(switch, &connection.of(Side::Originator));
    match (connection.service, found) {
        (None, found) => side == Side::Responder || found.is_none(),
        (Some(_), None) => false,
        (Some(service), Some((found, _))) => {
            let backend = connection.of(Side::Responder);
            found.id == service && choice::serves(found, (backend.src, backend.src_port))
        }
    }
}

impl Nat {
    /// A frame was carried out; `switch` is as it is thereafter.
    pub(crate) fn judge(
        &mut self,
        (switch, now, port): (&Switch, Instant, PortId),
        before: &Before,
        out: &Outbox,
    ) {
        let trace = &out.walked[0];
        let forwarded = matches!(trace.verdict, Verdict::Forward(_));
        let left = out.transmits.first().filter(|_| forwarded).map(|it| borne(&it.frame));
        match (before.borne, left) {
            (Borne::Flow(came, flags), Some(Borne::Flow(left, _))) => {
                self.passed(switch, (came, left), before.entry.as_ref(), trace);
                self.balanced((switch, now, port), (came, flags), Some(left), trace);
            }
            (Borne::Flow(came, flags), None) => {
                let lives = before.entry.as_ref().is_some_and(|it| it.fate == Fate::Lives);
                let reset = DropReason::ServiceMidStream;
                let is_reset =
                    trace.verdict == Verdict::Answer(AnswerKind::Reset { reason: reset });
                assert!(!(lives && is_reset), "what lives is no stray segment: {came:?}");
                self.balanced((switch, now, port), (came, flags), None, trace);
            }
            (Borne::Error(..), Some(Borne::Error(ip, quoted))) => {
                quotes(before.entry.as_ref(), ip.dst, quoted, trace);
            }
            _ => {}
        }
    }

    /// A change was accepted.
    pub(crate) fn changed(&mut self, change: &Change) {
        self.sticky.changed(change);
    }

    /// A packet of a flow went through.
    fn passed(
        &mut self,
        switch: &Switch,
        (came, left): (Tuple, Tuple),
        entry: Option<&Entry>,
        trace: &Trace,
    ) {
        let tracked = tracked(trace);
        match entry {
            Some(Entry { side, connection, fate: Fate::Lives, .. }) => {
                let expected = connection.translated(*side);
                assert_eq!(left, expected, "a connection that lives never moves: {came:?}");
                if let Some(asked) = self.asked.get(&came).filter(|_| *side == Side::Responder) {
                    assert_eq!(left, asked.inverse(), "replies undo it");
                }
                if let Some(first) = self.left.get(&came).filter(|_| *side == Side::Originator) {
                    assert_eq!(left, *first, "the first packet of {came:?} left otherwise");
                }
            }
            Some(Entry { connection, fate: Fate::Over, .. }) => {
                let known = matches!(tracked, Some(Tracked::Known { .. }));
                assert!(!known, "over and yet carried on: {connection:?}");
            }
            Some(Entry { fate: Fate::Either, .. }) | None => {}
        }
        if !matches!(tracked, Some(Tracked::New | Tracked::Known { .. }))
            || trace.hops().contains(&Hop::GivenBack)
        {
            return;
        }
        let connections = switch.tables().connections();
        let (one, other) = (connections.find(&came), connections.find(&left.inverse()));
        let (Some((one, side)), Some((other, other_side))) = (one, other) else {
            panic!("both flows of a connection find it: {came:?} {left:?}")
        };
        // Who asks himself by the same port is both sides at once.
        let both = (one, side) == (other, other_side.other()) || came == left.inverse();
        assert!(both, "two connections share a flow: {came:?} {left:?}");
        if tracked == Some(Tracked::New) {
            self.left.insert(came, left);
            self.asked.insert(left.inverse(), came);
        }
    }

    /// Where a packet without a connection was led, or why not.
    fn balanced(
        &mut self,
        (switch, now, port): (&Switch, Instant, PortId),
        (came, flags): (Tuple, Option<u8>),
        left: Option<Tuple>,
        trace: &Trace,
    ) {
        let hops = trace.hops();
        let new = tracked(trace) == Some(Tracked::New) && hops.contains(&Hop::Gateway);
        let Some((service, kind)) = choice::asked_of(switch, &came).filter(|_| new) else {
            let balanced = hops.iter().any(|hop| matches!(hop, Hop::Balanced { .. }));
            assert!(!balanced, "only who asks for a Service is led: {came:?}");
            return;
        };
        let opens = flags.is_none_or(|it| it & (flags::SYN | flags::ACK) == flags::SYN);
        if !opens {
            let reason = drop_reason(trace.verdict);
            assert_eq!(reason, Some(DropReason::ServiceMidStream), "nothing begins amid a stream");
            return;
        }
        let is_node = switch.tables().ports().by_id(port);
        let is_node = is_node.is_some_and(|it| it.config.kind == PortKind::Host);
        let outside = is_node && !switch.tables().node().addresses.contains(&came.src);
        let expected = match choice::usable(service, kind, &came.src, outside) {
            Usable::Refused => DropReason::ServiceSourceRefused,
            Usable::Nobody => DropReason::ServiceNoBackend,
            Usable::NobodyHere => DropReason::ServiceNoneLocal,
            Usable::Some(backends) => {
                let balanced = hops.iter().any(|hop| matches!(hop, Hop::Balanced { .. }));
                assert!(balanced, "{came:?} is led to one of {backends:?}");
                if let Some(left) = left {
                    let backend = (left.dst, left.dst_port);
                    assert!(backends.contains(&backend), "{backend:?} is none of {backends:?}");
                    self.sticky.led(now, service, came.src, backend, &backends);
                }
                return;
            }
        };
        assert_eq!(drop_reason(trace.verdict), Some(expected), "{came:?} is refused");
    }
}

/// An error reaches who sent the packet that it is about, and quotes it as it was sent.
fn quotes(entry: Option<&Entry>, to: IpAddress, quoted: Tuple, trace: &Trace) {
    let Some(Tracked::Related { side }) = tracked(trace) else { return };
    let Some(entry) = entry.filter(|it| it.side == side) else { return };
    assert_eq!(entry.fate, Fate::Lives, "an error about what is over: {:?}", entry.id);
    let sent = entry.connection.of(side);
    assert_eq!((to, quoted), (sent.src, as_quoted(sent)), "an error quotes what was sent");
}

fn tracked(trace: &Trace) -> Option<Tracked> {
    let of = |hop: &Hop| if let Hop::Tracked(tracked) = hop { Some(*tracked) } else { None };
    trace.hops().iter().find_map(of)
}

/// Why a packet got no further, its sender told or not.
fn drop_reason(verdict: Verdict) -> Option<DropReason> {
    let (Verdict::Drop(reason)
    | Verdict::Answer(AnswerKind::Error { reason, .. } | AnswerKind::Reset { reason })) = verdict
    else {
        return None;
    };
    Some(reason)
}

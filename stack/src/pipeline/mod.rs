//! The walk: the life of a frame on one screen.
//!
//! Order of all stages, the two of tunnels included, which have no code yet: parse, (decap), l2,
//! conntrack, service, l3, policy, nat, (encap), egress. Fragments without ports have no conntrack:
//! they follow their first.
//!
//! DNAT comes before routing because a virtual address has no route; policy judges the bridged and
//! the routed branch alike.
//!
//! Stages read [`Tables`] and push effects; only [`Tables::commit`] writes. So
//! [`crate::Switch::trace`] is this same walk without the commit. Stages never call one another:
//! only [`walk`] calls stages.

use core::ops::ControlFlow;
use core::ops::ControlFlow::Continue;

use crate::drop::DropReason;
use crate::input::{Frame, PortId};
use crate::table::fragment::Passage;
use crate::table::{Effect, Effects, Slot, Tables};
use crate::time::Instant;
use crate::trace::{Edit, Hop, Trace, Verdict};

pub mod answer;
pub mod conntrack;
pub mod egress;
pub mod fast;
pub mod flow;
pub mod fragment;
pub mod l2;
pub mod l3;
pub mod nat;
pub mod packet;
pub mod parse;
pub mod policy;
pub mod rewrite;
pub mod segment;
pub mod service;

use packet::Packet;

/// A stage's result: `Break` ends the walk.
pub(crate) type Step<T> = ControlFlow<Stop, T>;

/// How a stage ends a walk early.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// Dropped; the sender is not told.
    Drop(DropReason),
    /// The switch replies, if it may.
    Reply(answer::Reply),
    /// Held until the first fragment of its datagram has come.
    Hold,
}

/// What a walk carries: read-only state, and what it has recorded and wants done.
pub(crate) struct Walk<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) now: Instant,
    pub(crate) ingress: PortId,
    /// Its place, if there is such a port.
    pub(crate) slot: Option<Slot>,
    pub(crate) frame: &'a Frame,
    pub(crate) trace: &'a mut Trace,
    pub(crate) effects: &'a mut Effects,
    pub(crate) leave: Leave,
    /// A fragment that was held: how its first went, which has come now.
    pub(crate) released: Option<&'a Passage>,
}

/// How a frame leaves, beside its edits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leave {
    /// The place of the egress port, of a frame that is forwarded.
    pub(crate) slot: Option<Slot>,
    /// Bytes of an IP packet that the egress port's driver fragments to.
    pub(crate) fragment_mtu: Option<u16>,
    /// Bytes of the IP packet that was routed: what padded its frame stays behind.
    pub(crate) routed_len: Option<usize>,
}

/// The life of a frame. `understood`, which holds nothing before, is the packet where there was one
/// and all stages were walked: what answers are made from.
pub(crate) fn walk(cx: &mut Walk<'_>, understood: &mut Option<Packet>) -> Verdict {
    if let Some(verdict) = fast::carry(cx) {
        return verdict;
    }
    walk_whole(cx, understood)
}

/// The same through all stages.
pub(crate) fn walk_whole(cx: &mut Walk<'_>, understood: &mut Option<Packet>) -> Verdict {
    let end = stages(cx, understood);
    let verdict = match end {
        Continue(verdict) => verdict,
        ControlFlow::Break(Stop::Drop(reason)) => Verdict::Drop(reason),
        ControlFlow::Break(Stop::Hold) => Verdict::Hold,
        ControlFlow::Break(Stop::Reply(reply)) => answer::decide(cx, understood.as_ref(), reply),
    };
    cx.hop(Hop::Verdict(verdict));
    cx.trace.verdict = verdict;
    verdict
}

fn stages(cx: &mut Walk<'_>, understood: &mut Option<Packet>) -> Step<Verdict> {
    let packet = understood.insert(parse::frame(cx)?);
    let path = l2::forward(cx, packet)?;
    let mut flow = match fragment::follow(cx, packet, path)? {
        Some(flow) => Some(flow),
        None => conntrack::find(cx, packet, path)?,
    };
    let path = service::translate(cx, packet, path, &mut flow)?;
    let next = l3::route(cx, packet, path, flow.as_ref())?;
    let cleared = policy::check(cx, packet, flow.as_ref(), &next)?;
    nat::translate(cx, packet, &next, &mut flow)?;
    fragment::lead(cx, packet, path, flow.as_ref());
    let verdict = egress::emit(cx, packet, next, cleared)?;
    fast::remember(cx, flow.as_ref(), verdict);
    Continue(verdict)
}

impl Walk<'_> {
    /// Records a hop.
    #[inline]
    pub(crate) fn hop(&mut self, hop: Hop) {
        self.trace.hop(hop);
    }

    /// Records an edit of the newest hop.
    #[inline]
    pub(crate) fn edit(&mut self, edit: Edit) {
        self.trace.edit(edit);
    }

    /// Asks for a change of state. A walk has at most one of each kind.
    #[inline]
    pub(crate) fn effect(&mut self, effect: Effect) {
        let pushed = self.effects.push(|| effect);
        debug_assert!(pushed, "a walk has few effects");
    }
}

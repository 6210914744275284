//! The public face of the core: one owner of all state, one door.

use alloc::string::String;
use alloc::vec::Vec;
use core::mem::take;

use smoltcp::wire::EthernetAddress;

use crate::config::{Change, Config, Limits, PortKind, Seeds, diff};
use crate::counters::Counters;
use crate::drop::DropReason;
use crate::endpoint;
use crate::input::{EndpointId, Event, Frame, Input, Offload, Outbox, PortId, Transmit};
use crate::pipeline::packet::Packet;
use crate::pipeline::{Leave, Walk, answer, rewrite, walk, walk_whole};
use crate::table::fragment::{End, Loose, Passage};
use crate::table::{Digests, Effects, RestoreError, Slot, Tables};
use crate::time::Instant;
use crate::trace::{AnswerKind, Edit, Hop, Trace, Verdict};
use crate::wire::ETHERNET_HEADER;

/// The switch: everything it does follows from its state, the given time and the input.
#[derive(Clone, Debug)]
pub struct Switch {
    tables: Tables,
    /// What the latest walk wanted changed: no state, only memory that is kept.
    effects: Effects,
}

/// A walk: through whatever stages it takes.
type Walker = fn(&mut Walk<'_>, &mut Option<Packet>) -> Verdict;

/// What a walk came to, for moving the frame.
#[derive(Clone, Copy)]
struct Decision {
    verdict: Verdict,
    leave: Leave,
}

/// What a walk is given.
#[derive(Clone, Copy)]
struct Given<'a> {
    now: Instant,
    ingress: PortId,
    /// The ingress port's place, if there is such a port.
    slot: Option<Slot>,
    frame: &'a Frame,
    /// Of a fragment that was held: how its first went.
    released: Option<&'a Passage>,
}

impl Switch {
    /// A switch in the given state. What of `config` cannot be is left out; [`Switch::input`] with
    /// changes says why.
    #[must_use]
    pub fn new(config: Config, limits: Limits, seeds: Seeds) -> Self {
        let mut tables = Tables::new(limits, seeds);
        for change in diff(&Config::default(), &config) {
            // The caller validates by sending changes; here a bad object must not take the others
            // down.
            let _refused = tables.apply(&change);
        }
        Self { tables, effects: Effects::new() }
    }

    /// The only door. Runs to completion; outputs are appended to `out` in order. Time never goes
    /// back: an earlier `now` counts as the latest seen.
    pub fn input(&mut self, now: Instant, input: Input, out: &mut Outbox) {
        self.tables.advance(now);
        match input {
            Input::Frame { port, mut frame } => self.frame(port, &mut frame, out),
            Input::Deliver { endpoint, frame } => self.deliver(endpoint, &frame, out),
            Input::Change(change) => self.change(&change, out),
            // Every state that ages is read against the clock when it is used; only room is given
            // back here.
            Input::Tick => {
                self.tables.sweep();
                self.let_go(out);
            }
            Input::Import(state) => {
                if let Err(error) = self.tables.import(&state) {
                    out.events.push(Event::NotImported(error));
                }
            }
        }
    }

    /// When the switch wants a [`Input::Tick`] at the latest; `None` while nothing waits for time.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.tables.sweep_due()
    }

    /// The walk this frame would take now. Changes nothing and builds no frame.
    #[must_use]
    pub fn trace(&self, now: Instant, ingress: PortId, frame: &Frame) -> Trace {
        self.dry_run(walk, now, ingress, frame)
    }

    /// The same through all stages, be it known what they come to or not. It is a law that both
    /// give the same.
    #[must_use]
    pub fn trace_whole(&self, now: Instant, ingress: PortId, frame: &Frame) -> Trace {
        self.dry_run(walk_whole, now, ingress, frame)
    }

    fn dry_run(&self, walk: Walker, now: Instant, ingress: PortId, frame: &Frame) -> Trace {
        let mut trace = Trace::new(ingress);
        let now = self.tables.now().max(now);
        let slot = self.tables.ports().slot(ingress);
        let given = Given { now, ingress, slot, frame, released: None };
        decide(&self.tables, walk, given, (&mut trace, &mut Effects::new(), &mut None));
        trace
    }

    /// A copy of all counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.tables.counters()
    }

    /// A hash of all state, equal wherever the same inputs went in.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.tables.digest()
    }

    /// The digest of each table; they sum up to [`Switch::digest`].
    #[must_use]
    pub fn digests(&self) -> Digests {
        self.tables.digests()
    }

    /// All state as text, in canonical order.
    #[must_use]
    pub fn dump(&self) -> String {
        self.tables.dump()
    }

    /// The desired state in force.
    #[must_use]
    pub fn config(&self) -> Config {
        self.tables.config()
    }

    /// The state, to look at.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// All that desired state does not give, for a switch of another build: [`Input::Import`].
    #[must_use]
    pub fn export(&self) -> Vec<u8> {
        self.tables.export()
    }

    /// Begins a snapshot of the state as it is now; its first bytes are appended to `out`. Inputs
    /// may come between the steps. One that was open is given up.
    pub fn snapshot_begin(&mut self, out: &mut Vec<u8>) {
        self.tables.snapshot_begin(out);
    }

    /// Appends the next bytes of the open snapshot: up to `rows` rows, and those that changed
    /// before their turn. True when it is whole.
    pub fn snapshot_step(&mut self, rows: usize, out: &mut Vec<u8>) -> bool {
        self.tables.snapshot_step(rows, out)
    }

    /// Gives an open snapshot up.
    pub fn snapshot_give_up(&mut self) {
        self.tables.snapshot_give_up();
    }

    /// A snapshot at once.
    #[must_use]
    pub fn snapshot(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.snapshot_begin(&mut bytes);
        while !self.snapshot_step(usize::MAX, &mut bytes) {}
        bytes
    }

    /// The switch that a snapshot is of. `table_seed` lays out its tables and shows nowhere.
    ///
    /// # Errors
    /// When the bytes are no whole snapshot of this version.
    pub fn restore(bytes: &[u8], table_seed: u64) -> Result<Self, RestoreError> {
        Tables::restore(bytes, table_seed).map(|tables| Self { tables, effects: Effects::new() })
    }

    /// Changes the bytes of what is held: for recordings without what people said. The switch is
    /// another one from here on; nothing but a snapshot should be asked of it before a replay.
    pub fn blank_held(&mut self, mut blank: impl FnMut(&mut [u8])) {
        self.tables.blank_held(&mut blank);
    }

    fn change(&mut self, change: &Change, out: &mut Outbox) {
        if let Err(error) = self.tables.apply(change) {
            out.events.push(Event::Rejected(error));
        }
    }

    fn frame(&mut self, ingress: PortId, frame: &mut Frame, out: &mut Outbox) {
        self.carry_on(ingress, frame, None, out);
        self.let_go(out);
    }

    /// A frame walks, and what was decided is done; a frame that leaves is taken. `released`: a
    /// fragment that was held goes on, as its first did.
    fn carry_on(
        &mut self,
        ingress: PortId,
        frame: &mut Frame,
        released: Option<&Passage>,
        out: &mut Outbox,
    ) {
        let index = u32::try_from(out.walked.len()).unwrap_or(u32::MAX);
        let Some(trace) = out.walked.begin(ingress) else { return };
        let now = self.tables.now();
        let slot = self.tables.ports().slot(ingress);
        self.effects.clear();
        let given = Given { now, ingress, slot, frame, released };
        let mut packet = None;
        let into = (&mut *trace, &mut self.effects, &mut packet);
        let decision = decide(&self.tables, walk, given, into);
        trace.number = self.tables.number_walk();
        self.tables.commit(now, &self.effects);
        if decision.verdict == Verdict::Hold {
            self.tables.hold(&self.effects, frame);
        }
        let came = if released.is_none() { Some(frame.len()) } else { None };
        self.count(slot, came, decision.verdict);
        self.carry(index, ingress, frame, (decision, packet.as_ref()), out);
    }

    /// What was held and is so no longer walks now, or is dropped. Nothing of what comes of it can
    /// let others go.
    fn let_go(&mut self, out: &mut Outbox) {
        for loose in self.tables.take_loose() {
            let Loose { ingress, end, .. } = loose;
            let walk = u32::try_from(out.walked.len()).unwrap_or(u32::MAX);
            out.released.push((walk, loose.frame()));
            match end {
                End::Walk(passage) => {
                    self.carry_on(ingress, &mut loose.frame(), Some(&passage), out);
                }
                End::Drop(reason) => self.drop_held(ingress, loose.frame(), reason, out),
            }
        }
    }

    /// A fragment that was held in vain.
    fn drop_held(&mut self, ingress: PortId, frame: Frame, reason: DropReason, out: &mut Outbox) {
        let verdict = Verdict::Drop(reason);
        let walk = u32::try_from(out.walked.len()).unwrap_or(u32::MAX);
        let Some(trace) = out.walked.begin(ingress) else { return };
        trace.number = self.tables.number_walk();
        trace.hop(Hop::Verdict(verdict));
        trace.verdict = verdict;
        self.count(self.tables.ports().slot(ingress), None, verdict);
        out.reclaimed.push((walk, frame));
    }

    /// The one place that counts what became of a frame. `came`: the bytes of one that came in now;
    /// one that was held is counted as received already.
    #[inline]
    fn count(&mut self, ingress: Option<Slot>, came: Option<usize>, verdict: Verdict) {
        let counters = self.tables.counters_mut(ingress);
        if let Some(len) = came {
            counters.received += 1;
            counters.received_bytes += len as u64;
        } else {
            counters.held = counters.held.saturating_sub(1);
        }
        match verdict {
            Verdict::Hold => counters.held += 1,
            Verdict::Forward(_) => counters.forwarded += 1,
            Verdict::Flood(_) => counters.flooded += 1,
            Verdict::Deliver(_) => counters.delivered += 1,
            Verdict::Answer(_) => counters.answered += 1,
            Verdict::Drop(reason) => {
                if let Some(count) = counters.dropped.get_mut(reason.index()) {
                    *count += 1;
                }
            }
        }
    }

    /// Does with the frame what was decided.
    #[inline]
    fn carry(
        &mut self,
        walk: u32,
        ingress: PortId,
        frame: &mut Frame,
        (decision, packet): (Decision, Option<&Packet>),
        out: &mut Outbox,
    ) {
        match decision.verdict {
            Verdict::Forward(port) => {
                edit(frame, walk, out, |_| true);
                let Leave { slot, fragment_mtu, routed_len } = decision.leave;
                // A router takes the packet out of its frame, so padding is not carried on.
                if let Some(len) = routed_len
                    && frame.len() > ETHERNET_HEADER + len
                {
                    frame.set_len(ETHERNET_HEADER + len);
                }
                if fragment_mtu != frame.offload().fragment_mtu {
                    frame.set_offload(Offload { fragment_mtu, ..*frame.offload() });
                }
                self.transmit(walk, (slot, port), take(frame), out);
            }
            Verdict::Flood(_) => {
                let len = packet.map_or(0, |packet| packet.carried_len(frame));
                self.flood(walk, ingress, len, take(frame), out);
            }
            Verdict::Deliver(endpoint) => out.deliveries.push((endpoint, take(frame))),
            Verdict::Answer(AnswerKind::Echo) => {
                edit(frame, walk, out, |_| true);
                self.transmit(walk, (self.tables.ports().slot(ingress), ingress), take(frame), out);
            }
            Verdict::Answer(kind) => {
                // The sender is told of the packet as it knows it, whatever it was on the way to.
                edit(frame, walk, out, |edit| !edit.translates());
                let answer = packet
                    .and_then(|packet| answer::frame(&self.tables, (ingress, packet), kind, frame));
                if let Some(answer) = answer {
                    let slot = self.tables.ports().slot(ingress);
                    self.transmit(walk, (slot, ingress), answer, out);
                }
                out.reclaimed.push((walk, take(frame)));
            }
            // What is held was copied: the buffer may be far larger than the fragment.
            Verdict::Drop(_) | Verdict::Hold => out.reclaimed.push((walk, take(frame))),
        }
    }

    /// A copy to each pod of the segment but the sender that takes `len` bytes, the frame itself to
    /// the last.
    fn flood(&mut self, walk: u32, ingress: PortId, len: u32, frame: Frame, out: &mut Outbox) {
        let Some(slot) = self.tables.ports().slot(ingress) else { return };
        let receivers = self.tables.segment(slot, len);
        let receivers: Vec<(Option<Slot>, PortId)> =
            receivers.map(|(slot, port)| (Some(slot), port.config.id)).collect();
        let Some((last, others)) = receivers.split_last() else { return };
        for to in others {
            self.transmit(walk, *to, frame.duplicate(), out);
        }
        self.transmit(walk, *last, frame, out);
    }

    #[inline]
    fn transmit(
        &mut self,
        walk: u32,
        (slot, port): (Option<Slot>, PortId),
        frame: Frame,
        out: &mut Outbox,
    ) {
        let counters = self.tables.counters_mut(slot);
        counters.transmitted += 1;
        counters.transmitted_bytes += frame.len() as u64;
        out.transmits.push(Transmit { port, frame, walk });
    }

    /// Shows a delivered frame to its endpoint; what the endpoint sends walks from the endpoint's
    /// port. One that lives outside of the core has it from who put it in.
    fn deliver(&mut self, endpoint: EndpointId, frame: &Frame, out: &mut Outbox) {
        if endpoint != EndpointId::GATEWAY {
            return;
        }
        let port = self.tables.ports().iter().find_map(|(_, port)| {
            (port.config.kind == PortKind::Endpoint(endpoint)).then_some(&port.config)
        });
        let Some((id, mtu)) = port.map(|config| (config.id, config.mtu)) else { return };
        for mut reply in endpoint::answer(self.tables.node(), mtu, self.tables.now(), frame) {
            self.frame(id, &mut reply, out);
        }
    }

    /// The configuration of the gateway's own port: a host inside the switch that answers for the
    /// gateway.
    #[must_use]
    pub fn gateway_port(node: &crate::NodeConfig, id: PortId) -> crate::PortConfig {
        let addresses =
            [node.gateway4.map(|c| c.address().into()), node.gateway6.map(|c| c.address().into())];
        let mac: EthernetAddress = node.gateway_mac;
        crate::PortConfig {
            id,
            kind: PortKind::Endpoint(EndpointId::GATEWAY),
            mac,
            addresses: addresses.into_iter().flatten().collect(),
            allowed: Vec::new(),
            mtu: u16::MAX,
            up: true,
        }
    }

    /// The configuration of the port of who answers health checks. It speaks by the node's
    /// addresses, which are the node's still: whoever asks for them is not answered by it.
    #[must_use]
    pub fn health_port(id: PortId, mac: EthernetAddress) -> crate::PortConfig {
        crate::PortConfig {
            id,
            kind: PortKind::Endpoint(EndpointId::HEALTH),
            mac,
            addresses: Vec::new(),
            allowed: Vec::new(),
            mtu: u16::MAX,
            up: true,
        }
    }
}

/// Decides what becomes of a frame: changes nothing but what it writes down.
#[inline(always)]
fn decide(
    tables: &Tables,
    walk: Walker,
    given: Given<'_>,
    (trace, effects, understood): (&mut Trace, &mut Effects, &mut Option<Packet>),
) -> Decision {
    let Given { now, ingress, slot, frame, released } = given;
    let leave = Leave::default();
    let mut cx = Walk { tables, now, ingress, slot, frame, trace, effects, leave, released };
    let verdict = walk(&mut cx, understood);
    Decision { verdict, leave: cx.leave }
}

/// Applies those of the walk's edits to the frame itself that `takes` says.
fn edit(frame: &mut Frame, walk: u32, out: &Outbox, takes: fn(&Edit) -> bool) {
    let Some(trace) = out.walked.get(walk as usize) else { return };
    let window = frame.window_mut();
    for (_, edit) in trace.edits().iter().filter(|(_, edit)| takes(edit)) {
        rewrite::apply(window, edit);
    }
}

#[cfg(test)]
mod tests;

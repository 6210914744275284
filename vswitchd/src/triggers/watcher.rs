//! Sees what came of every input and says which rule it fires. Pure: time and walks are given, no
//! clock is read and nothing is sent. An observer: it changes nothing of the switch, and no digest
//! knows of it.
//!
//! Memory is fixed at its start: the rules, and a table of requests ([`Unanswered`]). Without a
//! rule that reads headers a frame that got somewhere costs a look at its verdict; with one it is
//! parsed, as it left, where no translation stands between the switch and whoever answers.

use smoltcp::wire::{IpAddress, IpProtocol};
use stack::pipeline::packet::{Inner, Ip, L4, Packet};
use stack::pipeline::parse;
use stack::wire::build::flags::{ACK, RST, SYN};
use stack::{
    AnswerKind, DropReason, Duration, Frame, Instant, Outbox, PortId, PortKind, Switch, Trace,
    Verdict,
};

use super::grammar::{Kind, PROBE_PATIENCE, Transport};
use super::rule::Rule;
use super::unanswered::{Flow, Request, Unanswered};

/// A rule that fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// Its number.
    pub rule: usize,
    /// When the event began: when a request was sent that found no answer.
    pub began: Instant,
    /// When it fired.
    pub at: Instant,
    /// The walk that it is about.
    pub walk: u64,
    /// Where that came in.
    pub ingress: PortId,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A frame got no further.
    Stopped(DropReason, Window),
    /// A RST went by.
    Reset(Window),
    /// A request found no answer.
    Unanswered(Flow),
    /// A request was refused.
    Refused(Flow, Refusal),
}

/// How a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// By a RST.
    Rst,
    /// By an ICMP error of somebody's.
    Icmp,
    /// By an ICMP error of the switch.
    Switch(DropReason),
}

/// The header window of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Window {
    bytes: [u8; Frame::WINDOW],
    len: usize,
}

impl Window {
    fn copy(frame: &Frame) -> Self {
        let mut bytes = [0; Frame::WINDOW];
        let window = frame.window();
        let len = window.len().min(bytes.len());
        for (to, from) in bytes.iter_mut().zip(window) {
            *to = *from;
        }
        Self { bytes, len }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

impl std::fmt::Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        parse::describe(self.bytes(), &mut text)?;
        f.write_str(&text)
    }
}

/// What a rule has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that fired it.
    pub fired: u64,
    /// Events that came too soon after one that did.
    pub suppressed: u64,
    /// Requests that were given up without having been answered or having waited.
    pub given_up: u64,
}

/// All rules, watching.
#[derive(Debug)]
pub struct Watcher {
    rules: Vec<Watched>,
    /// Rules that want to know of a reason, by [`DropReason::index`].
    stops: Vec<Set>,
    resets: Set,
    probes: Set,
    /// Rules about requests.
    requests: Vec<(Transport, u16, usize)>,
    /// Whether frames are parsed.
    reads_headers: bool,
    /// Whether those that got no further are.
    by_address: bool,
    unanswered: Unanswered,
    fired: Vec<Fired>,
}

#[derive(Debug)]
struct Watched {
    rule: Rule,
    /// The port that its name belongs to now.
    port: Option<PortId>,
    /// When it fired last.
    last: Option<Instant>,
    counts: Counts,
}

/// A set of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Set(u32);

impl Set {
    fn add(&mut self, rule: usize) {
        self.0 |= 1_u32.checked_shl(u32::try_from(rule).unwrap_or(u32::MAX)).unwrap_or(0);
    }

    fn has(self, rule: usize) -> bool {
        self.each().any(|other| other == rule)
    }

    fn each(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let lowest = (rest != 0).then(|| rest.trailing_zeros())?;
            rest &= rest - 1;
            usize::try_from(lowest).ok()
        })
    }
}

/// One walk of an input.
struct Sight<'a> {
    now: Instant,
    switch: &'a Switch,
    out: &'a Outbox,
    number: usize,
    trace: &'a Trace,
    frame: &'a Frame,
    packet: Option<Packet>,
}

impl Watcher {
    /// Watches for these rules, [`super::rule::RULES_MAX`] at most. `key` decides who shares a
    /// place with whom in the table of requests.
    #[must_use]
    pub fn new(rules: Vec<Rule>, key: u64) -> Self {
        let mut stops = vec![Set::default(); DropReason::ALL.len()];
        let (mut resets, mut probes) = (Set::default(), Set::default());
        let mut requests = Vec::new();
        for (number, rule) in rules.iter().enumerate() {
            match &rule.on.kind {
                Kind::Drop { reasons, classes } => {
                    let any = reasons.is_empty() && classes.is_empty();
                    for (reason, set) in DropReason::ALL.iter().zip(&mut stops) {
                        if any || reasons.contains(reason) || classes.contains(&reason.class()) {
                            set.add(number);
                        }
                    }
                }
                Kind::Rst => resets.add(number),
                Kind::NoAnswer { transport, l4_port, .. } => {
                    requests.push((*transport, *l4_port, number));
                }
                Kind::ProbeFailed => probes.add(number),
            }
        }
        let reads_headers = rules.iter().any(|rule| rule.on.kind.reads_headers());
        let by_address = rules.iter().any(|rule| rule.on.address.is_some());
        let watched = |rule| Watched { rule, port: None, last: None, counts: Counts::default() };
        Self {
            fired: Vec::with_capacity(rules.len()),
            rules: rules.into_iter().map(watched).collect(),
            stops,
            resets,
            probes,
            requests,
            reads_headers,
            by_address,
            unanswered: Unanswered::new(key),
        }
    }

    /// A rule fired last at that moment, before this watcher began.
    pub fn fired_before(&mut self, rule: usize, at: Instant) {
        if let Some(watched) = self.rules.get_mut(rule) {
            watched.last = watched.last.max(Some(at));
        }
    }

    /// A port is called so from now on. Numbers of ports are never used again.
    pub fn name(&mut self, port: PortId, name: &str) {
        for watched in &mut self.rules {
            if watched.rule.on.port.as_deref() == Some(name) {
                watched.port = Some(port);
            }
        }
    }

    /// When time alone may fire a rule.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.unanswered.due()
    }

    /// What each rule has seen so far.
    pub fn counts(&self) -> impl Iterator<Item = Counts> + '_ {
        self.rules.iter().map(|watched| watched.counts)
    }

    /// Whether no rule has fired since they were taken.
    #[must_use]
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.fired.is_empty()
    }

    /// The rules that fired since the last time.
    pub fn take_fired(&mut self) -> impl Iterator<Item = Fired> + '_ {
        self.fired.drain(..)
    }

    /// Sees what came of one input.
    #[inline]
    pub fn see(&mut self, now: Instant, switch: &Switch, out: &Outbox) {
        for (number, trace) in out.walked.iter().enumerate() {
            let stopped = stopped_for(trace);
            if stopped.is_none() && !self.reads_headers {
                continue;
            }
            if let Some(frame) = frame_of(out, number) {
                let sight = Sight { now, switch, out, number, trace, frame, packet: None };
                self.walk(sight, stopped);
            }
        }
    }

    /// Time has passed: what was asked and found no answer.
    pub fn expire(&mut self, now: Instant) {
        while let Some(request) = self.unanswered.expired(now) {
            self.fire(request.rule, now, &request, What::Unanswered(request.flow));
        }
    }

    fn walk(&mut self, mut sight: Sight<'_>, stopped: Option<DropReason>) {
        let stops = stopped.and_then(|reason| self.stops.get(reason.index()).copied());
        if self.reads_headers || self.by_address {
            let frame = sight.frame;
            sight.packet = parse::parse(frame.window(), frame.len(), frame.offload()).ok();
        }
        if let (Some(reason), Some(set)) = (stopped, stops) {
            for rule in set.each() {
                if self.admits(rule, &sight) {
                    self.fire_now(rule, &sight, |window| What::Stopped(reason, window));
                }
            }
        }
        if self.reads_headers
            && let Some(Packet { inner: Inner::Ip(ip), .. }) = sight.packet
        {
            self.conversation(&sight, &ip, stopped);
        }
    }

    /// What a packet means for requests and their answers.
    fn conversation(&mut self, sight: &Sight<'_>, ip: &Ip, stopped: Option<DropReason>) {
        let (transport, src_port, dst_port, flags) = match ip.l4 {
            L4::Tcp { src_port, dst_port, flags, .. } => {
                (Transport::Tcp, src_port, dst_port, flags)
            }
            L4::Udp { src_port, dst_port } => (Transport::Udp, src_port, dst_port, 0),
            L4::Icmp { .. } => return self.icmp(sight, ip),
            L4::Sctp { .. } | L4::Nd(_) | L4::Opaque => return,
        };
        let flow = Flow { transport, src: (ip.src, src_port), dst: (ip.dst, dst_port) };
        let reset = flags & RST != 0;
        if reset {
            for rule in self.resets.each() {
                if self.admits(rule, sight) {
                    self.fire_now(rule, sight, What::Reset);
                }
            }
        }
        let answers = match transport {
            Transport::Udp => true,
            Transport::Tcp => reset || flags & (SYN | ACK) == SYN | ACK,
        };
        // What the switch drops, nobody gets as an answer.
        let arrives = matches!(sight.trace.verdict, Verdict::Forward(_) | Verdict::Deliver(_));
        if answers && arrives && self.answered(sight, flow.reversed(), reset) {
            return;
        }
        let asks = match transport {
            Transport::Udp => true,
            Transport::Tcp => flags & (SYN | ACK | RST) == SYN,
        };
        if asks && !matches!(sight.trace.verdict, Verdict::Flood(_)) {
            self.asks(sight, flow, stopped);
        }
    }

    /// Whether the flow was waited for.
    fn answered(&mut self, sight: &Sight<'_>, flow: Flow, reset: bool) -> bool {
        let mut found = false;
        while let Some(request) = self.unanswered.answered(flow, |_any| true) {
            found = true;
            if reset && self.probes.has(request.rule) {
                let what = What::Refused(flow, Refusal::Rst);
                self.fire(request.rule, sight.now, &request, what);
            }
        }
        found
    }

    /// An ICMP error refuses a probe. Whoever else asked goes on waiting: an error is no answer.
    fn icmp(&mut self, sight: &Sight<'_>, ip: &Ip) {
        let L4::Icmp { quoted: Some(quoted), .. } = ip.l4 else { return };
        let tcp = quoted.protocol == IpProtocol::Tcp;
        let Some((src_port, dst_port)) = quoted.ports.filter(|_| tcp) else { return };
        let (src, dst) = ((quoted.src, src_port), (quoted.dst, dst_port));
        let flow = Flow { transport: Transport::Tcp, src, dst };
        let probes = self.probes;
        while let Some(request) = self.unanswered.answered(flow, |rule| probes.has(rule)) {
            self.fire(request.rule, sight.now, &request, What::Refused(flow, Refusal::Icmp));
        }
    }

    fn asks(&mut self, sight: &Sight<'_>, flow: Flow, stopped: Option<DropReason>) {
        for at in 0..self.requests.len() {
            let Some((transport, l4_port, rule)) = self.requests.get(at).copied() else { return };
            if transport == flow.transport && l4_port == flow.dst.1 && self.admits(rule, sight) {
                self.wait(rule, sight, flow);
            }
        }
        if self.probes == Set::default()
            || flow.transport != Transport::Tcp
            || !is_probe(sight, flow)
        {
            return;
        }
        for rule in self.probes.each() {
            if !self.admits(rule, sight) {
                continue;
            }
            match (stopped, sight.trace.verdict) {
                (Some(reason), Verdict::Answer(_)) => {
                    let what = What::Refused(flow, Refusal::Switch(reason));
                    self.fire_now(rule, sight, |_window| what);
                }
                _ => self.wait(rule, sight, flow),
            }
        }
    }

    fn wait(&mut self, rule: usize, sight: &Sight<'_>, flow: Flow) {
        let within = match self.rules.get(rule).map(|watched| &watched.rule.on.kind) {
            Some(Kind::NoAnswer { within, .. }) => within.nanos(),
            Some(Kind::Drop { .. } | Kind::Rst | Kind::ProbeFailed) | None => {
                PROBE_PATIENCE.nanos()
            }
        };
        let (walk, ingress, asked) = (sight.trace.number, sight.trace.ingress, sight.now);
        let within = Duration(within);
        let given_up = self.unanswered.ask(Request { flow, rule, walk, ingress, asked, within });
        if let Some(watched) = given_up.and_then(|request| self.rules.get_mut(request.rule)) {
            watched.counts.given_up += 1;
        }
    }

    /// Whether a rule's filters let a walk in.
    fn admits(&self, rule: usize, sight: &Sight<'_>) -> bool {
        let Some(watched) = self.rules.get(rule) else { return false };
        let on = &watched.rule.on;
        let by_port = on.port.is_none()
            || watched.port.is_some_and(|port| {
                let mut left = sight.out.transmits.iter();
                port == sight.trace.ingress
                    || left.any(|sent| sent.walk as usize == sight.number && sent.port == port)
            });
        let has = |address: IpAddress| match sight.packet.as_ref().map(|packet| &packet.inner) {
            Some(Inner::Ip(ip)) => ip.src == address || ip.dst == address,
            Some(Inner::Arp(arp)) => [arp.sender, arp.target].map(Into::into).contains(&address),
            None => false,
        };
        by_port && on.address.is_none_or(has)
    }

    /// Fires a rule for the walk that is seen; `what` is given the frame's window.
    fn fire_now(&mut self, rule: usize, sight: &Sight<'_>, what: impl FnOnce(Window) -> What) {
        if self.may_fire(rule, sight.now) {
            let (walk, ingress) = (sight.trace.number, sight.trace.ingress);
            let what = what(Window::copy(sight.frame));
            self.fired.push(Fired { rule, began: sight.now, at: sight.now, walk, ingress, what });
        }
    }

    /// Fires a rule for a request of before.
    fn fire(&mut self, rule: usize, now: Instant, request: &Request, what: What) {
        if self.may_fire(rule, now) {
            let Request { walk, ingress, asked, .. } = *request;
            self.fired.push(Fired { rule, began: asked, at: now, walk, ingress, what });
        }
    }

    /// Counts an event; whether it fires the rule.
    fn may_fire(&mut self, rule: usize, now: Instant) -> bool {
        let Some(watched) = self.rules.get_mut(rule) else { return false };
        let every = Duration(watched.rule.every.nanos());
        if watched.last.is_some_and(|last| now.since(last) < every) {
            watched.counts.suppressed += 1;
            return false;
        }
        watched.last = Some(now);
        watched.counts.fired += 1;
        true
    }
}

/// Why a frame got no further, if it did not.
fn stopped_for(trace: &Trace) -> Option<DropReason> {
    match trace.verdict {
        Verdict::Drop(reason)
        | Verdict::Answer(AnswerKind::Error { reason, .. } | AnswerKind::Reset { reason }) => {
            Some(reason)
        }
        Verdict::Forward(_)
        | Verdict::Flood(_)
        | Verdict::Deliver(_)
        | Verdict::Answer(_)
        | Verdict::Hold => None,
    }
}

/// The frame of a walk: what came in, as far as it is still there; a delivered one is the only one
/// of its input.
fn frame_of(out: &Outbox, number: usize) -> Option<&Frame> {
    let of_walk = |walk: u32| walk as usize == number;
    let kept = out.reclaimed.iter().find(|(walk, _)| of_walk(*walk)).map(|(_, frame)| frame);
    let sent = || out.transmits.iter().find(|sent| of_walk(sent.walk)).map(|sent| &sent.frame);
    kept.or_else(sent).or_else(|| out.deliveries.first().map(|(_, frame)| frame))
}

/// Whether a SYN is one of the node itself to a pod.
fn is_probe(sight: &Sight<'_>, flow: Flow) -> bool {
    let ports = sight.switch.tables().ports();
    let Some(ingress) = ports.by_id(sight.trace.ingress) else { return false };
    let own =
        ingress.config.kind == PortKind::Host && ingress.config.addresses.contains(&flow.src.0);
    own && match sight.trace.verdict {
        Verdict::Forward(port) => {
            ports.by_id(port).is_some_and(|port| port.config.kind == PortKind::Pod)
        }
        Verdict::Answer(_) | Verdict::Drop(_) => true,
        Verdict::Flood(_) | Verdict::Deliver(_) | Verdict::Hold => false,
    }
}

#[cfg(test)]
mod tests;

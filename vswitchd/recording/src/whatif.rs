//! What if: the inputs of a recording go into a second switch whose Services are others, and each
//! connection is told once, at its first difference.
//!
//! | of the second switch | is taken from |
//! | --- | --- |
//! | start state: open connections, remembered backends, counters | the recording |
//! | frames, ticks, the clock, seeds, limits | the recording |
//! | ports, routes, the node, and their changes | the recording |
//! | Services, and their ranges beside those recorded | [`Instead`], from begin to end |
//! | Services from [`Instead::stay_from`] on: hostPorts, which are pods' | the recording |
//! | what the switch's own hosts receive | what the second switch delivers |
//!
//! Compared is what became of each frame that came in by a port: see [`compare`]. Frames of no
//! flow (ARP, neighbor discovery, ICMP errors, later fragments) are not. Nobody in a recording
//! answers a backend that was not asked then, so what follows a first difference means nothing,
//! and is not told.
//!
//! Limits: [`CONNECTIONS_MAX`] connections are kept in mind, a hash and a byte each, and
//! [`DIFFERENCES_MAX`] differences are kept whole; beyond that they are counted.

use std::collections::BTreeMap;

use smoltcp::wire::IpCidr;
use stack::config::diff;
use stack::journal::frame::{Door, Recorded};
use stack::journal::{self, BODY_MAX, Kind};
use stack::pipeline::packet::Inner;
use stack::pipeline::{flow, parse};
use stack::replay::Step;
use stack::table::conntrack::{Side, Tuple};
use stack::trace::Tracked;
use stack::{
    Change, ConfigError, Event, Frame, Hop, Input, Instant, Outbox, ServiceConfig, ServiceId,
    Switch, Trace,
};

use crate::replayer::{Done, Replayer};

pub mod compare;

use compare::{Difference, Outcome, Reason, reason};

/// Connections that are kept in mind at most.
pub const CONNECTIONS_MAX: usize = 1 << 20;
/// Differences that are kept whole at most.
pub const DIFFERENCES_MAX: usize = 10_000;

/// Key of the hash by which a connection is known here: any will do, it shows nowhere.
const KEY: u64 = 0x7768_6174_2069_6621;

/// What stands in place of the recording's Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instead {
    /// The Services, numbered. One that the recording has as well has its number.
    pub services: Vec<ServiceConfig>,
    /// Ranges of Services beside those recorded.
    pub ranges: Vec<IpCidr>,
    /// Services of these numbers on stay as they were recorded.
    pub stay_from: ServiceId,
}

/// What came of the comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Frames that were compared.
    pub frames: u64,
    /// Connections that had a frame.
    pub connections: u64,
    /// Connections that differ, by reason.
    pub reasons: BTreeMap<Reason, u64>,
    /// They, in the order of their first difference, up to a limit.
    pub differences: Vec<Difference>,
    /// Frames of connections beyond [`CONNECTIONS_MAX`], not compared.
    pub beyond: u64,
    /// Changes of Services in the recording that were left out.
    pub left_out: u64,
    /// The first recorded change that the second switch refused: its record, and why.
    pub refused: Option<(u64, ConfigError)>,
}

impl Report {
    /// Connections that differ.
    #[must_use]
    pub fn differ(&self) -> u64 {
        self.reasons.values().sum()
    }
}

/// What is kept in mind of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// The recorded switch had an entry of it.
    tracked: bool,
    differs: bool,
}

/// The second switch, beside a replay.
#[derive(Debug, Default)]
pub struct WhatIf {
    other: Option<Switch>,
    instead: Option<Instead>,
    out: Outbox,
    spare: Vec<Frame>,
    /// What the second switch does with the delivery that is recorded next: `None` when it was not
    /// seen from its begin.
    delivers: Option<bool>,
    seen: BTreeMap<u64, Seen>,
    report: Report,
}

impl WhatIf {
    /// What came of it so far.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The second switch, once there is one.
    #[must_use]
    pub fn other(&self) -> Option<&Switch> {
        self.other.as_ref()
    }

    /// The start state stands: the second switch is the same.
    pub fn begin(&mut self, replayer: &Replayer) {
        self.other = replayer.switch().cloned();
        self.instead = None;
    }

    /// Whether [`WhatIf::adopt`] is due: the recorded switch has its whole desired state.
    #[must_use]
    pub fn is_due(&self, replayer: &Replayer) -> bool {
        let complete = replayer.switch().is_some_and(|switch| switch.tables().complete());
        self.instead.is_none() && complete
    }

    /// Gives the second switch other Services.
    ///
    /// # Errors
    /// Why the switch refuses them.
    pub fn adopt(&mut self, instead: Instead) -> Result<(), ConfigError> {
        let Some(other) = &mut self.other else { return Ok(()) };
        let config = other.config();
        let mut wanted = config.clone();
        wanted.services.retain(|service| service.id >= instead.stay_from);
        wanted.services.extend(instead.services.iter().cloned());
        widen(&mut wanted.node.service_cidrs, &instead.ranges);
        let changes = Change::All(diff(&config, &wanted));
        self.instead = Some(instead);
        let now = other.tables().now();
        self.input(now, Input::Change(changes)).map_or(Ok(()), Err)
    }

    /// Takes in what the replay has just carried out.
    pub fn take(&mut self, replayer: &Replayer, done: &Done) {
        let Step::Done(kind) = done.step else { return };
        let now = done.head.time;
        match kind {
            Kind::Frame | Kind::Deliver => {
                if let Some(recorded) = replayer.frame() {
                    self.frame(replayer, done, &recorded);
                }
            }
            Kind::Tick => {
                self.input(now, Input::Tick);
            }
            Kind::Begin => self.begin(replayer),
            Kind::Change => {
                let change = journal::change(replayer.value());
                if let Some(change) = change.and_then(|change| self.kept(change)) {
                    let refused = self.input(now, Input::Change(change));
                    let first = refused.map(|error| (done.number, error));
                    self.report.refused = self.report.refused.take().or(first);
                }
            }
            Kind::Import => {
                self.input(now, Input::Import(replayer.value().to_vec()));
            }
            Kind::Digest
            | Kind::State
            | Kind::Mark
            | Kind::Clock
            | Kind::Skip
            | Kind::Resume
            | Kind::Label => {}
        }
    }

    /// What of a recorded change holds for the second switch too.
    fn kept(&mut self, change: Change) -> Option<Change> {
        let Some(instead) = &self.instead else { return Some(change) };
        let id = match &change {
            Change::Service(service) => service.id,
            Change::ServiceRemoved(id) => *id,
            Change::Node(node) => {
                let mut node = node.clone();
                widen(&mut node.service_cidrs, &instead.ranges);
                return Some(Change::Node(node));
            }
            Change::All(_) => {
                let Change::All(changes) = change else { return None };
                let kept = changes.into_iter().filter_map(|change| self.kept(change));
                return Some(Change::All(kept.collect()));
            }
            Change::Port(_)
            | Change::PortRemoved(_)
            | Change::PortUp(..)
            | Change::Routes(_)
            | Change::Complete(_) => return Some(change),
        };
        if id >= instead.stay_from {
            return Some(change);
        }
        self.report.left_out += 1;
        None
    }

    /// Puts an input into the second switch. A change that it refuses comes back.
    fn input(&mut self, now: Instant, input: Input) -> Option<ConfigError> {
        self.reclaim();
        self.other.as_mut()?.input(now, input, &mut self.out);
        self.out.events.iter().find_map(|event| match event {
            Event::Rejected(error) => Some(error.clone()),
            Event::NotImported(_) => None,
        })
    }

    fn frame(&mut self, replayer: &Replayer, done: &Done, recorded: &Recorded<'_>) {
        let now = done.head.time;
        let mut frame = self.spare.pop().unwrap_or_else(|| Frame::with_capacity(BODY_MAX));
        if !recorded.fill(&mut frame) {
            return;
        }
        let port = match recorded.door {
            Door::Port(port) => port,
            Door::Endpoint(endpoint) => {
                if self.delivers.take().unwrap_or(true) {
                    self.input(now, Input::Deliver { endpoint, frame });
                }
                return;
            }
        };
        self.input(now, Input::Frame { port, frame });
        self.compare(replayer, done, recorded);
        let delivered = self.out.deliveries.pop();
        let was_delivered = replayer.out().is_some_and(|out| !out.deliveries.is_empty());
        // What is recorded whole comes next; what only the second delivers is put in as it is.
        self.delivers = was_delivered.then_some(delivered.is_some());
        if let Some((endpoint, frame)) = delivered.filter(|_| !was_delivered) {
            self.input(now, Input::Deliver { endpoint, frame });
        }
    }

    fn compare(&mut self, replayer: &Replayer, done: &Done, recorded: &Recorded<'_>) {
        let (Some(out), Some(switch)) = (replayer.out(), replayer.switch()) else { return };
        let (Some(was), Some(is)) = (out.walked.first(), self.out.walked.first()) else { return };
        let Some(frame) = flow_of(recorded) else { return };
        let originator = originator(switch, &frame);
        let key = originator.key(KEY);
        let is_full = self.seen.len() >= CONNECTIONS_MAX;
        let known = self.seen.get(&key).copied();
        if known.is_none() && is_full {
            self.report.beyond += 1;
            return;
        }
        self.report.frames += 1;
        let is_new = was.hops().contains(&Hop::Tracked(Tracked::New));
        let mut seen = known.unwrap_or_default();
        if known.is_none() || (is_new && seen.tracked) {
            // The same ends once more are another connection.
            self.report.connections += 1;
            seen = Seen::default();
        }
        seen.tracked |= switch.tables().connections().find(&originator).is_some();
        let (then, now) = (Outcome::of(was, &frame), Outcome::of(is, &frame));
        if let Some(reason) = reason(&then, &now)
            && !seen.differs
        {
            seen.differs = true;
            *self.report.reasons.entry(reason).or_default() += 1;
            let service = service(switch, was, &originator)
                .or_else(|| service(self.other.as_ref()?, is, &originator));
            let difference = Difference {
                reason,
                flow: originator,
                frame,
                record: done.number,
                walk: was.number,
                utc: replayer.utc(done.head.time),
                ingress: was.ingress,
                service,
                then,
                now,
            };
            if self.report.differences.len() < DIFFERENCES_MAX {
                self.report.differences.push(difference);
            }
        }
        self.seen.insert(key, seen);
    }

    /// Empties the outbox; a few buffers are kept for frames to come.
    fn reclaim(&mut self) {
        let out = &mut self.out;
        let sent = out.transmits.drain(..).map(|transmit| transmit.frame);
        let over = out.reclaimed.drain(..).map(|(_, frame)| frame);
        let large = sent.chain(over).filter(|frame| frame.capacity() >= BODY_MAX);
        self.spare.extend(large.take(SPARE_MAX.saturating_sub(self.spare.len())));
        out.clear();
    }
}

/// Buffers kept.
const SPARE_MAX: usize = 4;

/// Adds ranges that none of these holds yet.
fn widen(ranges: &mut Vec<IpCidr>, more: &[IpCidr]) {
    for range in more {
        if !ranges.iter().any(|one| one.contains_subnet(range)) {
            ranges.push(*range);
        }
    }
}

/// The flow that a recorded frame is of, if it is of one.
fn flow_of(recorded: &Recorded<'_>) -> Option<Tuple> {
    let window = recorded.bytes.get(..recorded.bytes.len().min(Frame::WINDOW))?;
    match parse::parse(window, recorded.len, &recorded.offload).ok()?.inner {
        Inner::Ip(ip) => flow::tuple(&ip),
        Inner::Arp(_) => None,
    }
}

/// The flow of the side that began the connection.
fn originator(switch: &Switch, frame: &Tuple) -> Tuple {
    let connections = switch.tables().connections();
    let found = connections.find(frame).and_then(|(id, _)| connections.get(id));
    found.map_or(*frame, |connection| connection.of(Side::Originator))
}

/// The Service that a walk asked for, or that its connection did.
fn service(switch: &Switch, trace: &Trace, originator: &Tuple) -> Option<String> {
    let asked = trace.hops().iter().find_map(|hop| {
        let (Hop::Balanced { service, .. } | Hop::Unbalanced(service)) = hop else { return None };
        Some(*service)
    });
    let connections = switch.tables().connections();
    let of_entry = || connections.get(connections.find(originator)?.0)?.service;
    let id = asked.or_else(of_entry)?;
    Some(switch.tables().services().by_id(id)?.config.name.clone())
}

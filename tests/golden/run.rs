//! A case through a switch: what left, what was decided, what was counted. The inputs are recorded
//! as the daemon records them, and the journal replays to the same.

use std::fmt::Write;

use stack::config::{Change, Config, diff};
use stack::counters::PortCounters;
use stack::journal::frame::Door;
use stack::journal::{Begin, Chain, Recorder, Tape, records};
use stack::{Frame, Input, Instant, Outbox, PortId, Replay, Seeds, Switch, Trace};

use crate::capture::{self, Seen};
use crate::topology::Topology;

/// Everything that can be seen of a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// `out.pcapng`.
    pub(crate) sent: Vec<u8>,
    /// `walk.txt`.
    pub(crate) walk: String,
    /// `counters.txt`.
    pub(crate) counters: String,
    /// All state in the end, and its digest.
    state: (String, u64),
}

/// A switch whose inputs are recorded.
struct Bed {
    switch: Switch,
    recorder: Recorder<Tape>,
    out: Outbox,
}

impl Bed {
    fn new(topology: &Topology, table: u64) -> Self {
        let seeds = Seeds { table, choice: 1 };
        let mut recorder = Recorder::new(Tape::default(), Chain::new(), false);
        recorder.begin(Instant::ZERO, &Begin::new(topology.limits, seeds));
        let switch = Switch::new(Config::default(), topology.limits, seeds);
        let mut bed = Self { switch, recorder, out: Outbox::default() };
        bed.lead_to(Instant::ZERO, &topology.config);
        bed
    }

    fn lead_to(&mut self, now: Instant, config: &Config) {
        for change in diff(&self.switch.config(), config) {
            self.change(now, change);
        }
        assert_eq!(self.switch.config().ports.len(), config.ports.len(), "every port fits");
    }

    fn change(&mut self, now: Instant, change: Change) {
        self.recorder.change(now, &change);
        self.out.clear();
        self.switch.input(now, Input::Change(change), &mut self.out);
        self.recorder.outcome(&self.out);
    }

    fn frame(&mut self, now: Instant, door: Door, frame: Frame) {
        self.recorder.frame(now, door, &frame);
        let input = match door {
            Door::Port(port) => Input::Frame { port, frame },
            Door::Endpoint(endpoint) => Input::Deliver { endpoint, frame },
        };
        self.out.clear();
        self.switch.input(now, input, &mut self.out);
        self.recorder.outcome(&self.out);
    }

    /// What was recorded leads to the same state, step by step to the same chain.
    fn replay(&mut self, now: Instant, table: u64) {
        self.recorder.digest(now, self.switch.tables().walks());
        let mut replay = Replay::from_begin(table);
        for record in records(self.recorder.place().bytes()) {
            let number = replay.records();
            replay
                .record(record.unwrap())
                .unwrap_or_else(|error| panic!("record {number}: {error}"));
        }
        let again = replay.switch().unwrap();
        assert_eq!(again.dump(), self.switch.dump(), "replayed");
        assert_eq!(again.digest(), self.switch.digest());
        assert_eq!(replay.chain(), self.recorder.chain());
    }
}

/// Puts the frames in at their times, endpoints' frames among them, and replays all of it.
pub(crate) fn run(topology: &Topology, frames: &[Seen], table: u64) -> Outcome {
    let mut bed = Bed::new(topology, table);
    let (mut sent, mut walk) = (Vec::new(), String::new());
    let mut later = topology.later.iter().peekable();
    for seen in frames {
        let now = seen.time;
        while let Some((at, config)) = later.next_if(|(at, _)| *at <= now) {
            bed.lead_to(*at, config);
        }
        bed.frame(now, Door::Port(seen.port), seen.frame.duplicate());
        tell(topology, now, &bed.out.walked[0], &seen.frame, &mut walk);
        for (index, held) in &bed.out.released {
            let trace = &bed.out.walked[usize::try_from(*index).unwrap()];
            tell(topology, now, trace, held, &mut walk);
        }
        let deliveries = std::mem::take(&mut bed.out.deliveries);
        collect(now, &mut bed.out, &mut sent);
        for (endpoint, frame) in deliveries {
            bed.frame(now, Door::Endpoint(endpoint), frame);
            for (index, trace) in bed.out.walked.iter().enumerate() {
                tell(topology, now, trace, said(&bed.out, index), &mut walk);
            }
            collect(now, &mut bed.out, &mut sent);
        }
    }
    assert_eq!(bed.switch.counters().imbalances(), [], "received is accounted for");
    bed.replay(frames.last().map_or(Instant::ZERO, |seen| seen.time), table ^ 0x5eed);
    Outcome {
        sent: capture::write(topology, &sent),
        walk,
        counters: counters(topology, &bed.switch),
        state: (bed.switch.dump(), bed.switch.digest()),
    }
}

/// The frame that an endpoint sent: bridged, so it left as it was made.
fn said(out: &Outbox, walk: usize) -> &Frame {
    let of_walk = |number: u32| usize::try_from(number).unwrap() == walk;
    let left = out.transmits.iter().find(|transmit| of_walk(transmit.walk));
    let mut kept = out.reclaimed.iter().filter(|(number, _)| of_walk(*number));
    left.map(|transmit| &transmit.frame).or_else(|| kept.next().map(|(_, frame)| frame)).unwrap()
}

/// Takes what left out of the outbox.
fn collect(time: Instant, out: &mut Outbox, sent: &mut Vec<Seen>) {
    for transmit in out.transmits.drain(..) {
        let walk = out.walked[usize::try_from(transmit.walk).unwrap()].number;
        sent.push(Seen { port: transmit.port, time, frame: transmit.frame, walk });
    }
    out.clear();
}

/// The walk as lines.
fn tell(topology: &Topology, time: Instant, trace: &Trace, frame: &Frame, text: &mut String) {
    let name = |port: PortId| {
        let found = topology.ports().find(|(known, _)| *known == port);
        found.map_or("a port that is gone", |(_, name)| name)
    };
    let (number, ingress, len) = (trace.number, name(trace.ingress), frame.len());
    writeln!(text, "walk {number} at {time}: {len} bytes from {ingress}").unwrap();
    for hop in 0..trace.hops().len() {
        text.push_str("  ");
        trace.line(hop, frame.window(), topology, text).unwrap();
        text.push('\n');
    }
}

/// One paragraph a port: every count that is not zero.
fn counters(topology: &Topology, switch: &Switch) -> String {
    let (counters, mut text) = (switch.counters(), String::new());
    for (port, name) in topology.ports() {
        if let Some(counts) = counters.port(port) {
            paragraph(name, counts, &mut text);
        }
    }
    paragraph("ports that are gone", &counters.gone, &mut text);
    text
}

fn paragraph(name: &str, counts: &PortCounters, text: &mut String) {
    let fields = [
        ("received", counts.received),
        ("received_bytes", counts.received_bytes),
        ("forwarded", counts.forwarded),
        ("flooded", counts.flooded),
        ("answered", counts.answered),
        ("delivered", counts.delivered),
        ("held", counts.held),
        ("transmitted", counts.transmitted),
        ("transmitted_bytes", counts.transmitted_bytes),
    ];
    writeln!(text, "{name}").unwrap();
    for (field, count) in fields.into_iter().filter(|(_, count)| *count > 0) {
        writeln!(text, "  {field} {count}").unwrap();
    }
    for (reason, count) in counts.drops() {
        writeln!(text, "  dropped {} {} {count}", reason.code(), reason.name()).unwrap();
    }
}

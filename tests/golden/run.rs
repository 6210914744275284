//! A case through a switch: what left, what was decided, what was counted.

use std::fmt::Write;

use stack::counters::PortCounters;
use stack::{Frame, Input, Instant, Outbox, PortId, Seeds, Switch, Trace};

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

/// Puts the frames in at their times, endpoints' frames among them.
pub(crate) fn run(topology: &Topology, frames: &[Seen], table: u64) -> Outcome {
    let seeds = Seeds { table, choice: 1 };
    let mut switch = Switch::new(topology.config.clone(), topology.limits, seeds);
    assert_eq!(switch.config().ports.len(), topology.config.ports.len(), "every port fits");
    let (mut out, mut sent, mut walk) = (Outbox::default(), Vec::new(), String::new());
    for seen in frames {
        let (now, port, frame) = (seen.time, seen.port, seen.frame.duplicate());
        switch.input(now, Input::Frame { port, frame }, &mut out);
        let trace = &out.walked[0];
        tell(topology, now, trace, &seen.frame, &mut walk);
        let deliveries = std::mem::take(&mut out.deliveries);
        collect(now, &mut out, &mut sent);
        for (endpoint, frame) in deliveries {
            switch.input(now, Input::Deliver { endpoint, frame }, &mut out);
            for (index, trace) in out.walked.iter().enumerate() {
                let said = said(&out, index);
                tell(topology, now, trace, said, &mut walk);
            }
            collect(now, &mut out, &mut sent);
        }
    }
    assert_eq!(switch.counters().imbalances(), [], "received is accounted for");
    Outcome {
        sent: capture::write(topology, &sent),
        walk,
        counters: counters(topology, &switch),
        state: (switch.dump(), switch.digest()),
    }
}

/// The frame that an endpoint sent: bridged, so it left as it was made.
fn said(out: &Outbox, walk: usize) -> &Frame {
    let of_walk = |number: u32| usize::try_from(number).unwrap() == walk;
    let left = out.transmits.iter().find(|transmit| of_walk(transmit.walk));
    let kept = out.reclaimed.iter().find(|(number, _)| of_walk(*number));
    left.map(|transmit| &transmit.frame).or(kept.map(|(_, frame)| frame)).unwrap()
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

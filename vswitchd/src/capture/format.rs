//! Records to pcapng blocks: which points a walk is shown at, in which form, with which line.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ptr;

use stack::{Checksum, Frame, GsoKind, PortId, Stage};

use super::complete::complete;
use super::packet_id::packet_id;
use super::pcapng::{self, Statistics};
use super::record::{Kept, Point, Record, answered_at};
use super::{Options, Selection, describe};
use crate::directory::{Directory, Shared};

/// Makes the blocks of one file, in order.
pub struct Format {
    points: Selection,
    snaplen: u32,
    filter_text: String,
    directory: Shared,
    /// The interfaces that the file has, with their number and the frames written.
    interfaces: BTreeMap<Point, (u32, u64)>,
    /// Time of the newest record.
    time: u64,
    /// Where a frame is rendered, kept for its allocation.
    scratch: Vec<u8>,
    /// The same for a line.
    comment: String,
}

/// One block to be.
struct Shown<'a> {
    point: Point,
    kept: &'a Kept,
    /// Apply the edits up to and including this hop; `None` leaves the frame as it is.
    rendered_to: Option<usize>,
    /// The hop whose line is the comment.
    line: usize,
    direction: u32,
    id: u64,
}

impl Format {
    /// For a file of these options. `time` is now, in nanoseconds since 1970, UTC.
    #[must_use]
    pub fn new(options: &Options, directory: Shared, time: u64) -> Self {
        Self {
            points: options.points.clone(),
            snaplen: options.snaplen,
            filter_text: options.filter_text.clone(),
            directory,
            interfaces: BTreeMap::new(),
            time,
            scratch: Vec::new(),
            comment: String::new(),
        }
    }

    /// Appends the header and the interfaces known now: every chosen stage, or every port.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        pcapng::section(out, concat!("vswitchd ", env!("CARGO_PKG_VERSION")));
        match self.points.clone() {
            Selection::Stages(stages) => {
                for stage in stages {
                    self.interface(Point::Stage(stage), out);
                }
            }
            Selection::Ports => {
                let ports: Vec<PortId> = self.directory.load().ports.keys().copied().collect();
                for port in ports {
                    self.interface(Point::Port(port), out);
                }
            }
        }
    }

    /// Appends the blocks of a walk.
    pub fn record(&mut self, record: &Record, out: &mut Vec<u8>) {
        self.time = record.time;
        let names = self.directory.load_full();
        // Most hops leave the frame as it was: then what was drawn for the one before serves again.
        let mut drawn: Option<(&Kept, usize, u32)> = None;
        for shown in self.shown(record) {
            let edits = edits_until(record, shown.rendered_to);
            let flags = match drawn {
                Some((kept, before, flags)) if ptr::eq(kept, shown.kept) && before == edits => {
                    flags
                }
                _ => self.draw(record, &shown),
            };
            drawn = Some((shown.kept, edits, flags));
            self.show(record, &shown, flags, &names, out);
        }
    }

    /// Appends what each interface counted. `lost` counts walks by the point that would have shown
    /// them.
    pub fn end(&mut self, lost: &BTreeMap<Point, u64>, out: &mut Vec<u8>) {
        for point in lost.keys() {
            self.interface(*point, out);
        }
        for (point, (number, written)) in &self.interfaces {
            let lost = lost.get(point).copied().unwrap_or(0);
            let counts = Statistics { received: written + lost, lost };
            pcapng::statistics(out, *number, self.time, &counts);
        }
    }

    /// The number of a point's interface, which is described first if the file has it not yet.
    fn interface(&mut self, point: Point, out: &mut Vec<u8>) -> u32 {
        if let Some((number, _)) = self.interfaces.get(&point) {
            return *number;
        }
        let number = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        let names = self.directory.load();
        let (name, description) = match point {
            Point::Port(port) => (port_name(port, &names), "frames in and out of the port"),
            Point::Stage(stage) => (format!("hop/{}", stage.name()), describe(stage)),
        };
        pcapng::interface(
            out,
            &pcapng::Interface {
                name: &name,
                description,
                filter: &self.filter_text,
                snaplen: self.snaplen,
            },
        );
        self.interfaces.insert(point, (number, 0));
        number
    }

    fn shown<'a>(&self, record: &'a Record) -> Vec<Shown<'a>> {
        let own = answered_at(&record.trace);
        let id = record_id(record, own);
        let answer = record.answer.as_ref().map(|kept| (kept, answer_id(kept)));
        match &self.points {
            Selection::Ports => at_ports(record, own, id, answer),
            Selection::Stages(stages) => at_hops(record, stages, own, id, answer),
        }
    }

    /// Makes the frame as it stood there in `scratch`, and gives back what `epb_flags` say of it.
    fn draw(&mut self, record: &Record, shown: &Shown<'_>) -> u32 {
        let kept = shown.kept;
        self.scratch.clear();
        self.scratch.extend(&kept.bytes);
        if let Some(hop) = shown.rendered_to {
            let end = self.scratch.len().min(Frame::WINDOW);
            record.trace.render(self.scratch.get_mut(..end).unwrap_or(&mut []), hop);
        }
        let mut flags = 0;
        let whole = kept.bytes.len() == kept.len;
        let is_partial = matches!(kept.offload.checksum, Checksum::Partial { .. });
        if is_partial && !(whole && complete(&mut self.scratch, kept.offload.checksum)) {
            flags |= pcapng::CHECKSUM_NOT_READY;
        }
        let kind = kept.offload.gso.map(|gso| gso.kind);
        if matches!(kind, Some(GsoKind::Tcp4 | GsoKind::Tcp6)) {
            flags |= pcapng::TCP_SEGMENTATION;
        }
        if self.snaplen != 0 {
            self.scratch.truncate(usize::try_from(self.snaplen).unwrap_or(usize::MAX));
        }
        flags
    }

    /// Appends what was drawn.
    fn show(
        &mut self,
        record: &Record,
        shown: &Shown<'_>,
        flags: u32,
        names: &Directory,
        out: &mut Vec<u8>,
    ) {
        let number = self.interface(shown.point, out);
        if let Some((_, written)) = self.interfaces.get_mut(&shown.point) {
            *written += 1;
        }
        self.comment.clear();
        comment(record, shown.line, names, &mut self.comment);
        pcapng::packet(
            out,
            &pcapng::Packet {
                interface: number,
                time: record.time,
                original_len: shown.kept.len,
                bytes: &self.scratch,
                flags: flags | shown.direction,
                id: Some(shown.id),
                comment: &self.comment,
            },
        );
    }
}

/// The ports' view: in, and out by each egress port; the comment is the verdict.
fn at_ports<'a>(
    record: &'a Record,
    own: usize,
    id: u64,
    answer: Option<(&'a Kept, u64)>,
) -> Vec<Shown<'a>> {
    let line = record.trace.hops().len().saturating_sub(1);
    let mut all = Vec::new();
    let received = Shown {
        point: Point::Port(record.trace.ingress),
        kept: &record.received,
        rendered_to: None,
        line,
        direction: pcapng::INBOUND,
        id,
    };
    if record.wanted {
        for port in &record.egress {
            all.push(Shown {
                point: Point::Port(*port),
                kept: &record.received,
                rendered_to: own.checked_sub(1),
                line,
                direction: pcapng::OUTBOUND,
                id,
            });
        }
    }
    if let Some((kept, id)) = answer {
        all.push(Shown {
            point: Point::Port(record.trace.ingress),
            kept,
            rendered_to: None,
            line,
            direction: pcapng::OUTBOUND,
            id,
        });
    }
    // A fragment that was held is in the capture as it came in, unless it is only now that it can
    // be told to be dropped.
    if record.wanted && (record.came || matches!(record.trace.verdict, stack::Verdict::Drop(_))) {
        all.insert(0, received);
    }
    all
}

/// After each hop of the chosen stages; from the answer on it is the answer that is shown.
fn at_hops<'a>(
    record: &'a Record,
    stages: &[Stage],
    own: usize,
    id: u64,
    answer: Option<(&'a Kept, u64)>,
) -> Vec<Shown<'a>> {
    let mut all = Vec::new();
    for (line, hop) in record.trace.hops().iter().enumerate() {
        let stage = hop.stage();
        let (kept, rendered_to, id) = match answer {
            _ if !stages.contains(&stage) => continue,
            _ if line < own && record.wanted => (&record.received, Some(line), id),
            Some((kept, id)) if line >= own => (kept, None, id),
            _ => continue,
        };
        all.push(Shown { point: Point::Stage(stage), kept, rendered_to, line, direction: 0, id });
    }
    all
}

/// Edits up to and including a hop.
fn edits_until(record: &Record, hop: Option<usize>) -> usize {
    let Some(hop) = hop else { return 0 };
    record.trace.edits().iter().filter(|(at, _)| usize::from(*at) <= hop).count()
}

/// The id of the packet that came in, read off its last form before it was answered.
fn record_id(record: &Record, own: usize) -> u64 {
    let window = record.received.window();
    let mut last = [0_u8; Frame::WINDOW];
    let Some(last) = last.get_mut(..window.len()) else { return 0 };
    last.copy_from_slice(window);
    if let Some(hop) = own.checked_sub(1) {
        record.trace.render(last, hop);
    }
    packet_id(last, record.received.offload.gso)
}

fn answer_id(kept: &Kept) -> u64 {
    packet_id(&kept.bytes, kept.offload.gso)
}

/// The hop's line, and the walk's number.
fn comment(record: &Record, line: usize, names: &Directory, text: &mut String) {
    let written = record
        .trace
        .line(line, record.received.window(), names, text)
        .and_then(|()| write!(text, "; walk {}", record.trace.number));
    debug_assert!(written.is_ok(), "a String takes any text");
}

fn port_name(port: PortId, names: &Directory) -> String {
    match names.ports.get(&port) {
        Some(label) => label.to_string(),
        None => format!("port/{}", port.0),
    }
}

#[cfg(test)]
mod tests;

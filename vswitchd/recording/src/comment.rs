//! The comment of a frame's packet: all of its record that the frame's bytes do not say, for people
//! to read and for the reader to make the record of again, byte for byte.
//!
//! ```text
//! record 1042 of 3f2a91c04d5e6f70: port 3, 1514 bytes, checksum partial 34+16, gso tcp4 1448,
//! time 5.000001001, check 1a2b3c4d, sum 9a8b7c6d
//! ```
//!
//! One line in the file. `whole` stands behind the length when all bytes were recorded, `finished`
//! behind a partial checksum that the packet shows finished ([`mod@crate::finish`]).

use std::borrow::Cow;
use std::fmt::Write;

use stack::journal::frame::{self, Door, Recorded};
use stack::journal::{HEAD, Head, Kind, NOT_DONE};
use stack::{Checksum, EndpointId, Frame, Gso, GsoKind, Instant, Offload, PortId};

use crate::container::{Id, Part, sum};
use crate::finish::{finish, unfinish};

/// A frame's record, apart from the bytes of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The record's number, from 1.
    pub number: u64,
    /// Which recording's.
    pub id: Id,
    /// Where the frame went in.
    pub door: Door,
    /// Bytes of the frame.
    pub len: usize,
    /// Its offload description.
    pub offload: Offload,
    /// Whether the packet shows its partial checksum finished.
    pub finished: bool,
    /// When.
    pub time: Instant,
    /// The chain before the record.
    pub check: u32,
    /// Whether it was skipped: it had crashed the worker.
    pub skipped: bool,
    /// The sum over the record.
    pub sum: u32,
}

impl Facts {
    /// What is to be said of a record, and the bytes of its packet; `None` if it is no frame's, or
    /// cannot be said exactly.
    #[must_use]
    pub fn of(record: &[u8], number: u64, id: Id) -> Option<(Self, Cow<'_, [u8]>)> {
        let head = Head::read(record)?;
        let Recorded { door, offload, len, bytes } = Recorded::read(record, &head)?;
        let sum = sum(Part::Record, id, number, record);
        let Head { time, check, skipped, .. } = head;
        let finished = false;
        let facts = Self { number, id, door, len, offload, finished, time, check, skipped, sum };
        let shown = if bytes.len() == len { finish(bytes, offload.checksum) } else { None };
        if let Some(shown) = shown {
            let facts = Self { finished: true, ..facts };
            if facts.record(&shown).as_deref() == Some(record) {
                return Some((facts, shown.into()));
            }
        }
        (facts.record(bytes).as_deref() == Some(record)).then_some((facts, bytes.into()))
    }

    /// The record again, from its packet's bytes. `None` when they are too many or too few.
    #[must_use]
    pub fn record(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let partial;
        let bytes = if self.finished {
            partial = unfinish(bytes, self.offload.checksum)?;
            &partial
        } else {
            bytes
        };
        let whole = bytes.len() == self.len;
        if self.len > stack::journal::BODY_MAX || !(whole || bytes.len() == Frame::WINDOW) {
            return None;
        }
        let mut frame = Frame::with_capacity(self.len);
        frame.set_len(self.len);
        frame.set_offload(self.offload);
        frame.bytes_mut().get_mut(..bytes.len())?.copy_from_slice(bytes);
        let mut record = vec![0; HEAD + bytes.len()];
        let len = frame::write(&mut record, self.time, self.door, &frame, whole)?.len();
        record.get_mut(16..20)?.copy_from_slice(&self.check.to_le_bytes());
        if self.skipped {
            *record.get_mut(4)? |= NOT_DONE;
        }
        (len == record.len()).then_some(record)
    }

    /// The kind of the record.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.door {
            Door::Port(_) => Kind::Frame,
            Door::Endpoint(_) => Kind::Deliver,
        }
    }

    /// As text. `whole`: all bytes of the frame are there.
    #[must_use]
    pub fn text(&self, whole: bool) -> String {
        let mut text = format!("record {} of {}: ", self.number, self.id);
        let door = match self.door {
            Door::Port(port) => ("port", port.0),
            Door::Endpoint(endpoint) => ("endpoint", u32::from(endpoint.0)),
        };
        // Writing into a String cannot fail, here and below.
        let _written = write!(text, "{} {}, {} bytes", door.0, door.1, self.len);
        if whole {
            text.push_str(" whole");
        }
        match self.offload.checksum {
            Checksum::Complete => {}
            Checksum::Valid => text.push_str(", checksum valid"),
            Checksum::Partial { start, offset } => {
                let finished = if self.finished { " finished" } else { "" };
                let _written = write!(text, ", checksum partial {start}+{offset}{finished}");
            }
        }
        if let Some(Gso { kind, size, ecn }) = self.offload.gso {
            let _written = write!(text, ", gso {} {size}", gso_name(kind));
            if ecn {
                text.push_str(" ecn");
            }
        }
        let (seconds, rest) = (self.time.0 / NANOS, self.time.0 % NANOS);
        let _written = write!(text, ", time {seconds}.{rest:09}, check {:08x}", self.check);
        if self.skipped {
            text.push_str(", not done");
        }
        let _written = write!(text, ", sum {:08x}", self.sum);
        text
    }

    /// Reads the text back, with whether the frame is whole. `None` if it is another's comment.
    #[must_use]
    pub fn read(text: &str) -> Option<(Self, bool)> {
        let (name, rest) = text.strip_prefix("record ")?.split_once(": ")?;
        let (number, id) = name.split_once(" of ")?;
        let mut facts = Self {
            number: number.parse().ok()?,
            id: Id(hex(id)?),
            door: Door::Port(PortId(0)),
            len: 0,
            offload: Offload::default(),
            finished: false,
            time: Instant(0),
            check: 0,
            skipped: false,
            sum: 0,
        };
        let mut whole = false;
        for clause in rest.split(", ") {
            whole |= facts.clause(clause)?;
        }
        // Only what we would write ourselves: a text that differs in anything is damaged.
        (facts.text(whole) == text).then_some((facts, whole))
    }

    /// Takes one clause in. True if it says that the frame is whole.
    fn clause(&mut self, clause: &str) -> Option<bool> {
        let words: Vec<&str> = clause.split(' ').collect();
        match words.as_slice() {
            ["port", number] => self.door = Door::Port(PortId(number.parse().ok()?)),
            ["endpoint", number] => {
                self.door = Door::Endpoint(EndpointId(number.parse().ok()?));
            }
            [len, "bytes", rest @ ..] => {
                self.len = len.parse().ok()?;
                return Some(rest == ["whole"]);
            }
            ["checksum", "valid"] => self.offload.checksum = Checksum::Valid,
            ["checksum", "partial", place, rest @ ..] => {
                self.finished = rest == ["finished"];
                let (start, offset) = place.split_once('+')?;
                let (start, offset) = (start.parse().ok()?, offset.parse().ok()?);
                self.offload.checksum = Checksum::Partial { start, offset };
            }
            ["gso", kind, size, rest @ ..] => {
                let size = size.parse().ok()?;
                let kind = GSO.iter().find(|(_, name)| name == kind)?.0;
                self.offload.gso = Some(Gso { kind, size, ecn: rest == ["ecn"] });
            }
            ["time", time] => {
                let (seconds, rest) = time.split_once('.')?;
                let (seconds, rest): (u64, u64) = (seconds.parse().ok()?, rest.parse().ok()?);
                self.time = Instant(seconds.checked_mul(NANOS)?.checked_add(rest)?);
            }
            ["check", check] => self.check = u32::try_from(hex(check)?).ok()?,
            ["not", "done"] => self.skipped = true,
            ["sum", sum] => self.sum = u32::try_from(hex(sum)?).ok()?,
            _ => return None,
        }
        Some(false)
    }
}

const NANOS: u64 = 1_000_000_000;

const GSO: [(GsoKind, &str); 3] =
    [(GsoKind::Tcp4, "tcp4"), (GsoKind::Tcp6, "tcp6"), (GsoKind::Udp, "udp")];

const fn gso_name(kind: GsoKind) -> &'static str {
    match kind {
        GsoKind::Tcp4 => "tcp4",
        GsoKind::Tcp6 => "tcp6",
        GsoKind::Udp => "udp",
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// Whether a comment speaks of a frame of some recording, damaged or not.
#[must_use]
pub fn is_ours(text: &str) -> bool {
    text.strip_prefix("record ")
        .and_then(|rest| rest.split_once(": "))
        .is_some_and(|(name, _)| name.contains(" of "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<Frame> {
        let checksums = [
            Checksum::Complete,
            Checksum::Valid,
            Checksum::Partial { start: 34, offset: 16 },
            Checksum::Partial { start: 0, offset: u16::MAX },
        ];
        let mut frames = Vec::new();
        for checksum in checksums {
            for kind in [None, Some(GsoKind::Tcp4), Some(GsoKind::Tcp6), Some(GsoKind::Udp)] {
                for len in [0, 1, 60, 255, 256, 257, 9_000] {
                    let gso = kind.map(|kind| Gso { kind, size: 1_448, ecn: len % 2 == 0 });
                    let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
                    let mut frame = Frame::from_bytes(&bytes);
                    frame.set_offload(Offload { checksum, gso, fragment_mtu: None });
                    frames.push(frame);
                }
            }
        }
        frames
    }

    #[test]
    fn records_come_back_byte_for_byte() {
        let doors = [Door::Port(PortId(7)), Door::Endpoint(EndpointId(3))];
        for (number, frame) in (1..).zip(&frames()) {
            for (door, whole) in doors.into_iter().zip([false, true]) {
                let mut place = vec![0xaa; stack::journal::RECORD_MAX];
                let time = Instant(u64::MAX / (number + 1));
                let record = frame::write(&mut place, time, door, frame, whole).unwrap();
                record[16..20].copy_from_slice(&[1, 2, 3, 4]);
                record[4] |= if number % 3 == 0 { NOT_DONE } else { 0 };
                let (facts, bytes) = Facts::of(record, number, Id(9)).unwrap();
                let text = facts.text(bytes.len() == facts.len);
                assert_eq!(Facts::read(&text).unwrap().0, facts, "{text}");
                assert_eq!(facts.record(&bytes).unwrap(), record, "{text}");
            }
        }
    }

    #[test]
    fn no_text_is_taken_for_another() {
        let mut place = [0; 100];
        let frame = Frame::from_bytes(&[5; 60]);
        let door = Door::Port(PortId(7));
        let record = frame::write(&mut place, Instant(9), door, &frame, true).unwrap();
        let text = Facts::of(record, 3, Id(9)).unwrap().0.text(true);
        for end in 0..text.len() {
            assert_eq!(Facts::read(&text[..end]), None, "{}", &text[..end]);
        }
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] ^= 1;
            let other = String::from_utf8(other).unwrap();
            let found = Facts::read(&other).map(|(facts, _)| facts.sum == facts_sum(&facts));
            assert_ne!(found, Some(true), "{other}");
        }
        assert!(is_ours(&text) && !is_ours("record player") && !is_ours("egress  forward"));
    }

    /// The sum over the record that a text says, for a frame of 60 bytes.
    fn facts_sum(facts: &Facts) -> u32 {
        let record = facts.record(&[5; 60]).unwrap_or_default();
        sum(Part::Record, facts.id, facts.number, &record)
    }

    #[test]
    fn what_cannot_be_said_exactly_is_not_said() {
        let mut place = [0; 100];
        let frame = Frame::from_bytes(&[5; 60]);
        let door = Door::Port(PortId(7));
        let len = frame::write(&mut place, Instant(9), door, &frame, true).unwrap().len();
        let mut record = place[..len].to_vec();
        // An offset though the checksum is complete.
        record[28] = 1;
        assert_eq!(Facts::of(&record, 1, Id(1)), None);
    }
}

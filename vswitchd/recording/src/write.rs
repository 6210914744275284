//! An excerpt of a journal to the bytes of a file, piece by piece.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use stack::journal::frame::{Door, Recorded};
use stack::journal::{self, Head, Kind, records, stride};
use stack::{Checksum, GsoKind, Offload, PortId};

use crate::Excerpt;
use crate::about::About;
use crate::comment::Facts;
use crate::container::{self, Begin, Id, Part, STATE_CHUNK};
use crate::pcapng::{self, Interface, LINKTYPE_USER0, Packet};

/// What the writer says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Tells this recording from others in the same file.
    pub id: Id,
    /// Program and version, as in `vswitchd 0.1.0`.
    pub build: String,
    /// Whether payload was zeroed.
    pub redacted: bool,
    /// Why it was taken; `None`: somebody asked for it.
    pub about: Option<About>,
}

/// Appends a whole file.
pub fn write(excerpt: &Excerpt, header: &Header, out: &mut Vec<u8>) {
    let mut writer = Writer::new(excerpt, header.clone());
    while writer.piece(usize::MAX, out) {}
}

/// Writes a file piece by piece.
#[derive(Debug)]
pub struct Writer<E> {
    excerpt: E,
    header: Header,
    /// The interface of a door.
    doors: BTreeMap<Key, u32>,
    utc_offset: i64,
    stage: Stage,
    /// Records written.
    records: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    /// From this byte of the state.
    State(usize),
    /// From this byte of the records.
    Records(usize),
    Done,
}

/// A door that can be sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Port(u32),
    Endpoint(u16),
}

impl From<Door> for Key {
    fn from(door: Door) -> Self {
        match door {
            Door::Port(port) => Self::Port(port.0),
            Door::Endpoint(endpoint) => Self::Endpoint(endpoint.0),
        }
    }
}

/// The interface of all that is no frame.
const JOURNAL: u32 = 0;

impl<E: Borrow<Excerpt>> Writer<E> {
    /// Nothing is written yet.
    pub fn new(excerpt: E, header: Header) -> Self {
        let utc_offset = excerpt.borrow().utc_offset;
        let doors = BTreeMap::new();
        Self { excerpt, header, doors, utc_offset, stage: Stage::Begin, records: 0 }
    }

    /// Appends the next blocks until there are `most` bytes more, a block over at most. False when
    /// the file is whole.
    pub fn piece(&mut self, most: usize, out: &mut Vec<u8>) -> bool {
        let end = out.len().saturating_add(most);
        while self.stage != Stage::Done && out.len() < end {
            self.stage = match self.stage {
                Stage::Begin => self.begin(out),
                Stage::State(from) => self.state(from, out),
                Stage::Records(from) => self.record(from, out),
                Stage::Done => Stage::Done,
            };
        }
        self.stage != Stage::Done
    }

    /// The section, every interface (tools keep those only that come before packets), what the
    /// recording is, and names.
    fn begin(&mut self, out: &mut Vec<u8>) -> Stage {
        pcapng::section(out, &self.header.build);
        let excerpt = self.excerpt.borrow();
        let about = format!("recording {}, all but frames", self.header.id);
        interface(out, LINKTYPE_USER0, "journal", &about);
        let mut names: BTreeMap<PortId, &str> =
            excerpt.labels.iter().map(|(port, name)| (*port, name.as_str())).collect();
        let mut number = JOURNAL;
        for record in records(&excerpt.records).map_while(Result::ok) {
            let Some(head) = Head::read(record) else { continue };
            if head.kind == Kind::Label
                && let Some((port, name)) = journal::read_label(journal::body(record, &head))
            {
                names.insert(port, name);
            }
            if let Some(recorded) = Recorded::read(record, &head) {
                self.doors.entry(recorded.door.into()).or_insert_with(|| {
                    number += 1;
                    number
                });
            }
        }
        let mut doors: Vec<(u32, Key)> =
            self.doors.iter().map(|(key, number)| (*number, *key)).collect();
        doors.sort_unstable();
        for (_, key) in doors {
            let (kind, number, name) = match key {
                Key::Port(port) => ("port", port, names.get(&PortId(port)).copied()),
                Key::Endpoint(endpoint) => ("endpoint", u32::from(endpoint), None),
            };
            let about = format!("recording {}, {kind} {number}", self.header.id);
            let name = name.map_or_else(|| format!("{kind}/{number}"), str::to_owned);
            interface(out, pcapng::LINKTYPE_ETHERNET, &name, &about);
        }
        self.about(out);
        Stage::State(0)
    }

    fn about(&self, out: &mut Vec<u8>) {
        let excerpt = self.excerpt.borrow();
        let begin = Begin {
            records: journal::VERSION,
            reasons: journal::reasons(),
            build: self.header.build.clone(),
            redacted: self.header.redacted,
            utc_offset: excerpt.utc_offset,
            chain: excerpt.chain,
            labels: excerpt.labels.len() as u64,
            state: excerpt.state.as_ref().map(|state| state.len() as u64),
            about: self.header.about.clone(),
        };
        let first = records(&excerpt.records).next().and_then(Result::ok).and_then(Head::read);
        let time = self.utc(first.map_or(0, |head| head.time.0));
        let text = begin.text();
        let mut comment = format!("recording {} of {}", self.header.id, self.header.build);
        if let Some(about) = &begin.about {
            let _written = write!(comment, "; {about}");
        }
        self.part(Part::Begin, 1, text.as_bytes(), time, &comment, out);
        for (number, (port, name)) in (1..).zip(&excerpt.labels) {
            let comment = format!("port {} is {name}", port.0);
            self.part(Part::Label, number, &journal::label(*port, name), time, &comment, out);
        }
    }

    fn state(&self, from: usize, out: &mut Vec<u8>) -> Stage {
        let excerpt = self.excerpt.borrow();
        let state = excerpt.state.as_deref().unwrap_or(&[]);
        let chunk = state.get(from..).and_then(|rest| rest.chunks(STATE_CHUNK).next());
        let Some(chunk) = chunk else { return Stage::Records(0) };
        let number = (from / STATE_CHUNK + 1) as u64;
        let first = records(&excerpt.records).next().and_then(Result::ok).and_then(Head::read);
        let time = self.utc(first.map_or(0, |head| head.time.0));
        let comment = format!("state of the switch, bytes {from} to {}", from + chunk.len());
        self.part(Part::State, number, chunk, time, &comment, out);
        Stage::State(from + chunk.len())
    }

    fn record(&mut self, from: usize, out: &mut Vec<u8>) -> Stage {
        let excerpt = self.excerpt.borrow();
        let rest = excerpt.records.get(from..).unwrap_or(&[]);
        let Some((record, head)) = records(rest).next().and_then(|record| {
            let record = record.ok()?;
            Some((record, Head::read(record)?))
        }) else {
            let time = self.utc(0);
            let comment = format!("end after {} records", self.records);
            self.part(Part::End, self.records, &[], time, &comment, out);
            return Stage::Done;
        };
        self.records += 1;
        if head.kind == Kind::Clock
            && let Some(word) = journal::body(record, &head).first_chunk::<8>()
        {
            self.utc_offset = i64::from_le_bytes(*word);
        }
        let time = self.utc(head.time.0);
        match Facts::of(record, self.records, self.header.id) {
            Some((facts, bytes)) => self.frame(&facts, &bytes, time, out),
            None => {
                let (kind, body) = (head.kind.name(), head.len - journal::HEAD);
                let comment = format!("record {}, {kind}: {body} bytes", self.records);
                self.part(Part::Record, self.records, record, time, &comment, out);
            }
        }
        Stage::Records(from + stride(head.len))
    }

    fn frame(&self, facts: &Facts, bytes: &[u8], time: u64, out: &mut Vec<u8>) {
        let direction = match facts.door {
            Door::Port(_) => pcapng::INBOUND,
            Door::Endpoint(_) => pcapng::OUTBOUND,
        };
        let mut shown = facts.offload;
        if facts.finished {
            shown.checksum = Checksum::Complete;
        }
        pcapng::packet(
            out,
            &Packet {
                interface: self.doors.get(&facts.door.into()).copied().unwrap_or(JOURNAL),
                time,
                original_len: facts.len,
                bytes,
                flags: direction | offload_flags(&shown),
                // The id follows from the egress form, which only a replay knows.
                id: None,
                comment: &facts.text(bytes.len() == facts.len),
            },
        );
    }

    fn part(
        &self,
        part: Part,
        number: u64,
        body: &[u8],
        time: u64,
        comment: &str,
        out: &mut Vec<u8>,
    ) {
        let bytes = container::packet(part, self.header.id, number, body);
        pcapng::packet(
            out,
            &Packet {
                interface: JOURNAL,
                time,
                original_len: bytes.len(),
                bytes: &bytes,
                flags: 0,
                id: None,
                comment,
            },
        );
    }

    fn utc(&self, time: u64) -> u64 {
        time.saturating_add_signed(self.utc_offset)
    }
}

/// What `epb_flags` say of an offload description, as in captures.
#[must_use]
pub fn offload_flags(offload: &Offload) -> u32 {
    let mut flags = 0;
    if matches!(offload.checksum, Checksum::Partial { .. }) {
        flags |= pcapng::CHECKSUM_NOT_READY;
    }
    if matches!(offload.gso.map(|gso| gso.kind), Some(GsoKind::Tcp4 | GsoKind::Tcp6)) {
        flags |= pcapng::TCP_SEGMENTATION;
    }
    flags
}

fn interface(out: &mut Vec<u8>, link_type: u16, name: &str, description: &str) {
    let interface = Interface { name, description, filter: "", snaplen: 0 };
    pcapng::interface_of(out, link_type, &interface);
}

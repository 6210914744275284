//! Bytes of a file in, its start and its records out, as they arrive.
//!
//! Whatever else tools have merged into the file is passed over and counted. Bytes that were
//! changed are an error that names the record; no bytes cause a panic.

use std::collections::BTreeSet;
use std::fmt;

use stack::PortId;
use stack::journal::{self, Chain, Head};

use crate::about::About;
use crate::comment::{Facts, is_ours};
use crate::container::{self, Begin, Id, Part};
use crate::pcapng::read::{self, Block};
use crate::pcapng::{LINKTYPE_ETHERNET, LINKTYPE_USER0};

/// Bytes of a start state at most: a million connections have less.
const STATE_MAX: u64 = 1 << 30;

/// How a recording begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Tells it from others.
    pub id: Id,
    /// Who wrote it.
    pub build: String,
    /// Whether payload was zeroed.
    pub redacted: bool,
    /// The state, unless the records begin with an empty switch.
    pub state: Option<Vec<u8>>,
    /// The chain there.
    pub chain: Chain,
    /// Nanoseconds from CLOCK_MONOTONIC to UTC.
    pub utc_offset: i64,
    /// Names of ports.
    pub labels: Vec<(PortId, String)>,
    /// Why it was taken; `None`: somebody asked for it.
    pub about: Option<About>,
}

/// How a file ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// Records in it.
    pub records: u64,
    /// Whether its end is missing: these are the records up to there.
    pub cut: bool,
    /// Further recordings in the same file, which were passed over.
    pub others: Vec<Id>,
    /// Packets in the file that are no recording's.
    pub foreign: u64,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// How the recording begins: always first.
    Start(Box<Start>),
    /// A record, with its number from 1.
    Record(u64, Vec<u8>),
    /// There is no more.
    End(Ending),
}

/// Why a file cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// No pcapng at all.
    NotPcapng,
    /// Written by a tool on a machine of the other byte order.
    ByteOrder,
    /// A capture, or a file of other packets: how many.
    NotRecording(u64),
    /// Frames of a recording, but not its begin.
    NoBegin,
    /// Of a version to come.
    Newer {
        /// What has the version.
        what: &'static str,
        /// Theirs.
        theirs: u32,
        /// Ours.
        ours: u32,
        /// Who wrote it.
        build: String,
    },
    /// Of a build with other drop reasons: its counters do not fit ours.
    OtherBuild {
        /// Theirs.
        theirs: u32,
        /// Ours.
        ours: u32,
        /// Who wrote it.
        build: String,
    },
    /// The file ends before its first record.
    CutStart,
    /// Bytes were changed.
    Damaged {
        /// The first record that cannot be had; 0: what stands before the records.
        record: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Packets are missing.
    Missing {
        /// The first record that is missing.
        record: u64,
        /// The next one that is there, if any is.
        found: u64,
    },
    /// Packets are not in their order.
    Disorder {
        /// The record that comes once more, or too late.
        record: u64,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPcapng => f.write_str(
                "the file is no pcapng: a recording is made by hopctl record -w FILE; \
                 editcap FILE NEW makes pcapng of a capture of another format",
            ),
            Self::ByteOrder => f.write_str(
                "a tool wrote the file in the other byte order: editcap FILE NEW on a \
                 little-endian machine puts it right",
            ),
            Self::NotRecording(packets) => write!(
                f,
                "the file is a capture of {packets} packets, not a recording: it has no state to \
                 start from; replay --with DIR feeds it through the configuration of manifests"
            ),
            Self::NoBegin => f.write_str(
                "the file holds frames of a recording but not its begin: give the whole file, or \
                 feed the frames through manifests by replay --with DIR",
            ),
            Self::Newer { what, theirs, ours, build } => write!(
                f,
                "the recording has {what} of version {theirs}, this program reads {ours}: replay \
                 it with the hopctl of the build that made it{}",
                named(build)
            ),
            Self::OtherBuild { theirs, ours, build } => write!(
                f,
                "the recording was made by a switch with {theirs} drop reasons, this one has \
                 {ours}: replay it with the hopctl of the build that made it{}",
                named(build)
            ),
            Self::CutStart => f.write_str(
                "the file ends before its start state does: nothing of it can be replayed; copy \
                 it again, or record again",
            ),
            Self::Damaged { record: 0, what } => write!(
                f,
                "the file is damaged before its first record ({what}): copy it again, or record \
                 again"
            ),
            Self::Damaged { record, what } => {
                write!(f, "the file is damaged at record {record} ({what}): copy it again")
            }
            Self::Missing { record, found: 0 } => {
                write!(f, "the records from {record} on are missing though the file has its end")
            }
            Self::Missing { record, found } => write!(
                f,
                "record {record} is missing, {found} follows: a tool left packets out; give the \
                 file as it was recorded"
            ),
            Self::Disorder { record } => write!(
                f,
                "record {record} comes again or too late: a tool changed the order of packets; \
                 give the file as it was recorded"
            ),
        }
    }
}

impl std::error::Error for ReadError {}

fn named(build: &str) -> String {
    if build.is_empty() { String::new() } else { format!(" ({build})") }
}

/// Reads a recording.
#[derive(Debug, Default)]
pub struct Reader {
    blocks: read::Reader,
    /// Whether no more bytes will come.
    finished: bool,
    /// Whether a section's header was read.
    begun: bool,
    /// Link types of the section's interfaces.
    links: Vec<u16>,
    start: Option<Pending>,
    /// Whether the start was given out.
    started: bool,
    records: u64,
    ended: bool,
    others: BTreeSet<Id>,
    foreign: u64,
    /// Frames of recordings seen before any begin.
    orphans: bool,
    failed: Option<ReadError>,
}

/// A start that is not whole yet.
#[derive(Debug)]
struct Pending {
    begin: Begin,
    start: Start,
    chunks: u64,
}

impl Pending {
    fn is_whole(&self) -> bool {
        let bytes = self.start.state.as_ref().map(|state| state.len() as u64);
        self.start.labels.len() as u64 == self.begin.labels && bytes == self.begin.state
    }
}

/// What a block came to.
enum Found {
    Nothing,
    Start,
    Record(Vec<u8>),
}

impl Reader {
    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.blocks.push(bytes);
    }

    /// No more bytes will come.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// What comes next; `None` until more bytes come.
    ///
    /// # Errors
    /// See [`ReadError`]; the same one again when asked again.
    pub fn item(&mut self) -> Result<Option<Item>, ReadError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.advance().inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn advance(&mut self) -> Result<Option<Item>, ReadError> {
        loop {
            let block = match self.blocks.block() {
                Ok(Some((block, raw))) => (block, read::link_and_units(raw)),
                Ok(None) if self.finished => return self.end().map(Some),
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.malformed(&error)),
            };
            match self.take(block.0, block.1.map(|(link, _)| link))? {
                Found::Nothing => {}
                Found::Start => return Ok(self.give_start()),
                Found::Record(record) => return Ok(Some(Item::Record(self.records, record))),
            }
        }
    }

    fn malformed(&self, error: &read::Malformed) -> ReadError {
        match error.what() {
            _ if self.begun => self.damaged(error.what()),
            read::OTHER_ORDER => ReadError::ByteOrder,
            _ => ReadError::NotPcapng,
        }
    }

    fn damaged(&self, what: &'static str) -> ReadError {
        ReadError::Damaged { record: if self.started { self.records + 1 } else { 0 }, what }
    }

    fn give_start(&mut self) -> Option<Item> {
        self.started = true;
        let pending = self.start.as_mut()?;
        let id = pending.start.id;
        let start = std::mem::take(&mut pending.start);
        pending.start.id = id;
        Some(Item::Start(Box::new(start)))
    }

    fn end(&self) -> Result<Item, ReadError> {
        if !self.begun {
            return Err(ReadError::NotPcapng);
        }
        match &self.start {
            None if self.orphans => return Err(ReadError::NoBegin),
            None => return Err(ReadError::NotRecording(self.foreign)),
            Some(_) if !self.started => return Err(ReadError::CutStart),
            Some(_) => {}
        }
        Ok(Item::End(Ending {
            records: self.records,
            cut: !self.ended || self.blocks.has_rest(),
            others: self.others.iter().copied().collect(),
            foreign: self.foreign,
        }))
    }

    fn take(&mut self, block: Block, link: Option<u16>) -> Result<Found, ReadError> {
        match block {
            Block::Section => {
                self.begun = true;
                self.links.clear();
                Ok(Found::Nothing)
            }
            Block::Interface(_) => {
                self.links.extend(link);
                Ok(Found::Nothing)
            }
            Block::Packet(packet) => self.packet(&packet),
            Block::Statistics(..) | Block::Other if self.begun => Ok(Found::Nothing),
            Block::Statistics(..) | Block::Other => Err(ReadError::NotPcapng),
        }
    }

    fn packet(&mut self, packet: &read::Packet) -> Result<Found, ReadError> {
        let at = usize::try_from(packet.interface).unwrap_or(usize::MAX);
        match self.links.get(at).copied() {
            Some(LINKTYPE_USER0) => {
                if let Some(part) = container::Packet::read(&packet.bytes) {
                    return self.part(&part);
                }
            }
            Some(LINKTYPE_ETHERNET) => {
                // Tools and people may have added comments of their own.
                if let Some(comment) = packet.comment.lines().find(|comment| is_ours(comment)) {
                    return self.frame(comment, &packet.bytes);
                }
            }
            Some(_) => {}
            None => return Err(self.damaged("a packet of an interface that is not there")),
        }
        self.foreign += 1;
        Ok(Found::Nothing)
    }

    fn frame(&mut self, comment: &str, bytes: &[u8]) -> Result<Found, ReadError> {
        let Some((facts, whole)) = Facts::read(comment) else {
            self.orphans |= self.start.is_none();
            return match self.start {
                Some(_) => Err(self.damaged("a frame's comment cannot be read")),
                None => Ok(Found::Nothing),
            };
        };
        if !self.is_ours(facts.id) {
            return Ok(Found::Nothing);
        }
        self.expect(facts.number)?;
        let record = facts.record(bytes).filter(|_| whole == (bytes.len() == facts.len));
        let sum = |record: &[u8]| container::sum(Part::Record, facts.id, facts.number, record);
        match record.filter(|record| sum(record) == facts.sum) {
            Some(record) => Ok(self.accept(record)),
            None => Err(self.damaged("a frame is not the one that was recorded")),
        }
    }

    fn part(&mut self, part: &container::Packet<'_>) -> Result<Found, ReadError> {
        if self.start.is_none() && part.part == Some(Part::Begin) {
            return self.begin(part);
        }
        if !self.is_ours(part.id) {
            return Ok(Found::Nothing);
        }
        let Some(kind) = part.part.filter(|_| part.intact) else {
            return Err(self.damaged("a part of it is not what was recorded"));
        };
        match kind {
            Part::Begin => Err(self.damaged("it begins twice")),
            Part::Label | Part::State if self.started => {
                Err(self.damaged("a part of the start comes after it"))
            }
            Part::Label => self.label(part),
            Part::State => self.state(part),
            Part::Record => {
                self.expect(part.number)?;
                match Head::read(part.body) {
                    Some(head) if head.len == part.body.len() => {
                        Ok(self.accept(part.body.to_vec()))
                    }
                    _ => Err(self.damaged("a record that cannot be one")),
                }
            }
            Part::End if !self.started => Err(ReadError::CutStart),
            Part::End if part.number == self.records => {
                self.ended = true;
                Ok(Found::Nothing)
            }
            Part::End => Err(ReadError::Missing { record: self.records + 1, found: 0 }),
        }
    }

    fn begin(&mut self, part: &container::Packet<'_>) -> Result<Found, ReadError> {
        let begin = Begin::read(part.body);
        if part.version > container::VERSION {
            let build = begin.map(|begin| begin.build).unwrap_or_default();
            let (theirs, ours) = (part.version.into(), container::VERSION.into());
            return Err(ReadError::Newer { what: "a container", theirs, ours, build });
        }
        let Some(begin) = begin.filter(|_| part.intact) else {
            return Err(self.damaged("what it says of itself cannot be read"));
        };
        let (theirs, ours, build) = (begin.records, journal::VERSION, begin.build.clone());
        if theirs != ours {
            return Err(ReadError::Newer { what: "records", theirs, ours, build });
        }
        let (theirs, ours) = (begin.reasons, journal::reasons());
        if theirs != ours {
            return Err(ReadError::OtherBuild { theirs, ours, build });
        }
        if begin.state.is_some_and(|bytes| bytes > STATE_MAX) {
            return Err(self.damaged("its start state cannot be that large"));
        }
        let start = Start {
            id: part.id,
            build,
            redacted: begin.redacted,
            state: begin.state.map(|_| Vec::new()),
            chain: begin.chain,
            utc_offset: begin.utc_offset,
            labels: Vec::new(),
            about: begin.about.clone(),
        };
        self.start = Some(Pending { begin, start, chunks: 0 });
        Ok(self.whole_start())
    }

    fn whole_start(&self) -> Found {
        match &self.start {
            Some(pending) if pending.is_whole() => Found::Start,
            _ => Found::Nothing,
        }
    }

    fn label(&mut self, part: &container::Packet<'_>) -> Result<Found, ReadError> {
        let label = journal::read_label(part.body);
        let wrong = self.damaged("a port's name is out of place");
        let Some(pending) = &mut self.start else { return Err(wrong) };
        match label {
            Some((port, name)) if part.number == pending.start.labels.len() as u64 + 1 => {
                pending.start.labels.push((port, name.to_owned()));
            }
            _ => return Err(wrong),
        }
        Ok(self.whole_start())
    }

    fn state(&mut self, part: &container::Packet<'_>) -> Result<Found, ReadError> {
        let wrong = self.damaged("a piece of the start state is out of place");
        let Some(pending) = &mut self.start else { return Err(wrong) };
        pending.chunks += 1;
        let (Some(state), Some(bytes)) = (&mut pending.start.state, pending.begin.state) else {
            return Err(wrong);
        };
        state.extend(part.body);
        if part.number != pending.chunks || state.len() as u64 > bytes {
            return Err(wrong);
        }
        Ok(self.whole_start())
    }

    /// Whether a packet is of the recording that is read; others are remembered.
    fn is_ours(&mut self, id: Id) -> bool {
        match &self.start {
            Some(pending) if pending.start.id == id => true,
            Some(_) => {
                self.others.insert(id);
                false
            }
            None => {
                self.orphans = true;
                false
            }
        }
    }

    /// The next record has to be the next one.
    fn expect(&self, number: u64) -> Result<(), ReadError> {
        let expected = self.records + 1;
        match number.cmp(&expected) {
            _ if !self.started => Err(self.damaged("a piece of the start state is missing")),
            _ if self.ended => Err(ReadError::Disorder { record: number }),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => {
                Err(ReadError::Missing { record: expected, found: number })
            }
            std::cmp::Ordering::Less => Err(ReadError::Disorder { record: number }),
        }
    }

    fn accept(&mut self, record: Vec<u8>) -> Found {
        self.records += 1;
        Found::Record(record)
    }
}

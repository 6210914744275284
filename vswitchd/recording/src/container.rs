//! What stands in a recording beside frames: packets of an interface of link type USER0.
//!
//! | bytes | field | meaning |
//! | --- | --- | --- |
//! | 0..8 | magic | `HOPSCOPE` |
//! | 8 | version | of the container, [`VERSION`] |
//! | 9 | part | [`Part`] |
//! | 10..12 | | zero |
//! | 12..16 | sum | over part, recording, number and body ([`sum`]) |
//! | 16..24 | recording | [`Id`] |
//! | 24..32 | number | of the part among its like, from 1; of the end: how many records there are |
//! | 32.. | body | |
//!
//! Little-endian, as records are. The recording's id and the sums let a reader pick one recording
//! out of a file that tools have merged from several, and name the packet that was damaged.

use std::fmt;

use stack::hash::Hasher;
use stack::journal::Chain;

use crate::about::{About, one_line};

/// Version of the container. A newer one is not read.
pub const VERSION: u8 = 1;
/// Bytes before the body of a USER0 packet.
pub const HEAD: usize = 32;
/// Bytes of a start state in one packet: Wireshark's limit is 262,144 a packet.
pub const STATE_CHUNK: usize = 1 << 16;
/// Comments of frames, and of USER0 packets, begin with it.
const MAGIC: &[u8; 8] = b"HOPSCOPE";
/// Key of the sums, which stand in files: it may never change.
const KEY: u64 = 0x7265_636f_7264_3031;

/// Which recording a packet belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a packet holds. The numbers stand in files and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// What the recording is: the first packet ([`Begin`]).
    Begin = 1,
    /// The name of a port at the begin ([`stack::journal::label`]).
    Label = 2,
    /// A piece of the start state.
    State = 3,
    /// A record. Those of frames are packets of the frame's own interface instead.
    Record = 4,
    /// Nothing follows: the number is that of all records.
    End = 5,
}

impl Part {
    const ALL: [Self; 5] = [Self::Begin, Self::Label, Self::State, Self::Record, Self::End];
}

/// A USER0 packet as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Version of the container.
    pub version: u8,
    /// What it holds; `None` for what only newer versions know.
    pub part: Option<Part>,
    /// Which recording's.
    pub id: Id,
    /// Its number.
    pub number: u64,
    /// Whether its sum is right.
    pub intact: bool,
    /// The body.
    pub body: &'a [u8],
}

/// The sum of a part: 32 bits of a keyed hash.
#[must_use]
pub fn sum(part: Part, id: Id, number: u64, body: &[u8]) -> u32 {
    let mut hasher = Hasher::new(KEY);
    hasher.number(u64::from(part as u8));
    hasher.number(id.0);
    hasher.number(number);
    hasher.bytes(body);
    let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The bytes of a USER0 packet.
#[must_use]
pub fn packet(part: Part, id: Id, number: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + body.len());
    out.extend(MAGIC);
    out.extend([VERSION, part as u8, 0, 0]);
    out.extend(sum(part, id, number, body).to_le_bytes());
    out.extend(id.0.to_le_bytes());
    out.extend(number.to_le_bytes());
    out.extend(body);
    out
}

impl<'a> Packet<'a> {
    /// Reads a USER0 packet; `None` if it is another program's.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, body) = bytes.split_first_chunk::<HEAD>()?;
        let (magic, rest) = head.split_first_chunk::<8>()?;
        let [version, part, _, _, a, b, c, d, words @ ..] = rest else { return None };
        let (id, number) = words.split_first_chunk::<8>()?;
        if magic != MAGIC {
            return None;
        }
        let id = Id(u64::from_le_bytes(*id));
        let number = u64::from_le_bytes(*number.first_chunk()?);
        let part = Part::ALL.into_iter().find(|known| *known as u8 == *part);
        let intact =
            part.is_some_and(|part| sum(part, id, number, body).to_le_bytes() == [*a, *b, *c, *d]);
        Some(Self { version: *version, part, id, number, intact, body })
    }
}

/// What a recording is: lines of a key and a value, for people as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begin {
    /// Version of the records ([`stack::journal::VERSION`]).
    pub records: u32,
    /// Drop reasons that the build knows: counters have a place each.
    pub reasons: u32,
    /// Who wrote it.
    pub build: String,
    /// Whether payload was zeroed.
    pub redacted: bool,
    /// Nanoseconds from CLOCK_MONOTONIC to UTC at the begin.
    pub utc_offset: i64,
    /// The chain at the begin.
    pub chain: Chain,
    /// Ports that have a name at the begin.
    pub labels: u64,
    /// Bytes of the start state; `None` when the records begin with an empty switch.
    pub state: Option<u64>,
    /// Why it was taken; `None`: somebody asked for it.
    pub about: Option<About>,
}

impl Begin {
    /// As text.
    #[must_use]
    pub fn text(&self) -> String {
        let state = self.state.map_or_else(|| "none".to_owned(), |bytes| bytes.to_string());
        let redacted = if self.redacted { "yes" } else { "no" };
        let build = one_line(&self.build);
        let mut text = format!(
            "records {}\nreasons {}\nbuild {build}\nredacted {redacted}\nutc-offset {}\n\
             chain {:016x} {:016x}\nlabels {}\nstate {state}\n",
            self.records,
            self.reasons,
            self.utc_offset,
            self.chain.inputs(),
            self.chain.outcomes(),
            self.labels,
        );
        if let Some(about) = &self.about {
            about.write(&mut text);
        }
        text
    }

    /// Reads it back; `None` when something is missing. Keys that only newer versions know are left
    /// alone.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
            Some(line)
        };
        let (inputs, outcomes) = value("chain")?.split_once(' ')?;
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        Some(Self {
            records: value("records")?.parse().ok()?,
            reasons: value("reasons")?.parse().ok()?,
            build: value("build")?.to_owned(),
            redacted: value("redacted")? == "yes",
            utc_offset: value("utc-offset")?.parse().ok()?,
            chain: Chain::resume(hex(inputs)?, hex(outcomes)?),
            labels: value("labels")?.parse().ok()?,
            state: match value("state")? {
                "none" => None,
                bytes => Some(bytes.parse().ok()?),
            },
            about: About::read(&value),
        })
    }
}

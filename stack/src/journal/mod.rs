//! The journal: every input of the switch as a record, before what came of it leaves.
//!
//! A journal is a sequence of records. Who feeds their inputs to a switch in the state of the first
//! gets the same walks, the same outputs and the same digests: [`crate::replay`].
//!
//! A record is a head of 32 bytes and a body, little-endian, and stands at a multiple of 8 bytes.
//!
//! | bytes | field | meaning |
//! | --- | --- | --- |
//! | 0..4 | length | of head and body, without the padding behind |
//! | 4 | kind | [`Kind`]; [`NOT_DONE`] is added to that of a record that was never carried out |
//! | 5 | flags | see [`frame`], [`FLAG_MORE`], [`FLAG_REST`] |
//! | 6..8 | of the kind | |
//! | 8..16 | time | nanoseconds of CLOCK_MONOTONIC |
//! | 16..20 | check | [`Chain::check`] with this record's bytes, before it is carried out |
//! | 20..32 | of the kind | |
//!
//! So a record that is not what was written is known before it is carried out, and a switch that
//! did not do what was done at the next record.

use alloc::vec::Vec;
use core::fmt;

use crate::config::{Change, Limits, Seeds};
use crate::input::PortId;
use crate::time::Instant;
use crate::words::{self, Words};

pub mod chain;
pub mod frame;
pub mod recorder;

pub use chain::Chain;
pub use recorder::{Place, Recorder, Tape};

/// Bytes of a record's head.
pub const HEAD: usize = 32;
/// Records begin at multiples of this many bytes.
pub const ALIGN: usize = 8;
/// Bytes of a record's body at most: a whole super-frame with its Ethernet header and a tag.
pub const BODY_MAX: usize = 66_048;
/// Bytes of a record at most, padding included.
pub const RECORD_MAX: usize = HEAD + BODY_MAX;
/// Flag of [`Kind::Begin`], [`Kind::Change`], [`Kind::Import`]: the value goes on in the next
/// record.
pub const FLAG_MORE: u8 = 1;
/// Flag of the same: the value began in a record before this one.
pub const FLAG_REST: u8 = 2;
/// Bytes of a value in several records at most: more than the state of all connections that the
/// limits allow. Who reads holds no more than there is of it.
pub const VALUE_MAX: usize = 1 << 30;
/// Bit of the kind's byte: the record crashed whoever carried it out and is skipped. It is set in
/// the record itself, whose other bytes stay, and counts in no chain.
pub const NOT_DONE: u8 = 0x80;
/// Version of records. Another one is not read.
pub const VERSION: u32 = 5;

/// What a record holds. The numbers stand in files and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A journal begins with an empty switch ([`Begin`]).
    Begin = 1,
    /// `Input::Frame`: the header window, or the whole frame.
    Frame = 2,
    /// `Input::Deliver`: the whole frame.
    Deliver = 3,
    /// `Input::Change`.
    Change = 4,
    /// `Input::Tick`.
    Tick = 5,
    /// The chain so far ([`digest`]).
    Digest = 6,
    /// A record before this one is skipped ([`NOT_DONE`]), and why. Body: a text.
    Skip = 7,
    /// The offset to UTC: body of one word, nanoseconds from CLOCK_MONOTONIC, two's complement.
    Clock = 8,
    /// A worker took over after this record. Body: a text.
    Resume = 9,
    /// A snapshot was begun here; its number is the body's word.
    Mark = 10,
    /// The state digest at a mark: two words, the mark's number and the digest.
    State = 11,
    /// A name, such as a port's: for people, not of the chain. Body: a [`label`].
    Label = 12,
    /// `Input::Import`: what another build had.
    Import = 13,
}

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::Begin,
        Self::Frame,
        Self::Deliver,
        Self::Change,
        Self::Tick,
        Self::Digest,
        Self::Skip,
        Self::Clock,
        Self::Resume,
        Self::Mark,
        Self::State,
        Self::Label,
        Self::Import,
    ];

    /// The kind of that number.
    #[must_use]
    pub fn by_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| *kind as u8 == number)
    }

    /// Whether records of this kind are left out of the chain: they are comments.
    #[must_use]
    pub const fn is_comment(self) -> bool {
        matches!(self, Self::Label)
    }

    /// The name in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Frame => "frame",
            Self::Deliver => "deliver",
            Self::Change => "change",
            Self::Tick => "tick",
            Self::Digest => "digest",
            Self::Skip => "skip",
            Self::Clock => "clock",
            Self::Resume => "resume",
            Self::Mark => "mark",
            Self::State => "state",
            Self::Label => "label",
            Self::Import => "import",
        }
    }
}

/// How a journal begins: with an empty switch of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// [`VERSION`] of the records that follow.
    pub version: u32,
    /// Drop reasons that the build knew.
    pub reasons: u32,
    /// Which worker of how many; today 0 of 1.
    pub worker: u32,
    /// How many workers.
    pub workers: u32,
    /// The switch's seeds.
    pub seeds: Seeds,
    /// The switch's limits.
    pub limits: Limits,
}

impl Begin {
    /// What this build begins a journal with.
    #[must_use]
    pub fn new(limits: Limits, seeds: Seeds) -> Self {
        Self { version: VERSION, reasons: reasons(), worker: 0, workers: 1, seeds, limits }
    }
}

/// Drop reasons that this build knows.
#[must_use]
pub fn reasons() -> u32 {
    u32::try_from(crate::drop::DropReason::ALL.len()).unwrap_or(u32::MAX)
}

words::words_of!(Begin { version, reasons, worker, workers, seeds, limits });

/// A record's head as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it holds.
    pub kind: Kind,
    /// Flags of the kind.
    pub flags: u8,
    /// When.
    pub time: Instant,
    /// [`Chain::check`] with this record; 0 in comments.
    pub check: u32,
    /// Whether it is skipped ([`NOT_DONE`]).
    pub skipped: bool,
    /// Bytes of head and body.
    pub len: usize,
}

impl Head {
    /// Reads the head of the record that `bytes` begin with; `None` if they are none.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD>()?;
        let [a, b, c, d, kind, flags, _, _, t @ ..] = head;
        let (time, rest) = t.split_first_chunk::<8>()?;
        let check = rest.first_chunk::<4>()?;
        let len = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).ok()?;
        if !(HEAD..=RECORD_MAX).contains(&len) {
            return None;
        }
        Some(Self {
            kind: Kind::by_number(*kind & !NOT_DONE)?,
            skipped: *kind & NOT_DONE != 0,
            flags: *flags,
            time: Instant(u64::from_le_bytes(*time)),
            check: u32::from_le_bytes(*check),
            len,
        })
    }

    /// Writes the fields that every head has. False when `out` is shorter than a head.
    pub fn write(&self, out: &mut [u8]) -> bool {
        let Some(head) = out.first_chunk_mut::<HEAD>() else { return false };
        let [a, b, c, d] = u32::try_from(self.len).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = [0; HEAD];
        if let Some(first) = bytes.first_chunk_mut::<8>() {
            let skipped = if self.skipped { NOT_DONE } else { 0 };
            *first = [a, b, c, d, self.kind as u8 | skipped, self.flags, 0, 0];
        }
        if let Some(place) = bytes.get_mut(8..16) {
            place.copy_from_slice(&self.time.0.to_le_bytes());
        }
        if let Some(place) = bytes.get_mut(16..20) {
            place.copy_from_slice(&self.check.to_le_bytes());
        }
        *head = bytes;
        true
    }
}

/// Bytes from one record's begin to the next's.
#[must_use]
#[inline]
pub const fn stride(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// The records that `bytes` are, one behind the other. What cannot be a record is an error, the
/// last item.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], Damaged>> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        match Head::read(rest).and_then(|head| rest.get(..head.len)) {
            Some(record) => {
                at += stride(record.len());
                Some(Ok(record))
            }
            None => Some(Err(Damaged { at: core::mem::replace(&mut at, usize::MAX) })),
        }
    })
}

/// What stands at a place of a journal is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Bytes from the begin of what was read.
    pub at: usize,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what stands at byte {} is no record", self.at)
    }
}

impl core::error::Error for Damaged {}

/// The body of a record, or nothing if the record is cut.
#[must_use]
pub fn body<'a>(record: &'a [u8], head: &Head) -> &'a [u8] {
    record.get(HEAD..head.len).unwrap_or(&[])
}

/// A value as bodies of records: all but the last are followed by more. Each is at most
/// [`BODY_MAX`] bytes.
#[must_use]
pub fn pieces(value: &impl Words) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    value.put(&mut words);
    let chunks = words.chunks(BODY_MAX / 8);
    chunks.map(|chunk| chunk.iter().flat_map(|word| word.to_le_bytes()).collect()).collect()
}

/// The words of a body; `None` when it is not of whole words.
#[must_use]
pub fn body_words(body: &[u8]) -> Option<Vec<u64>> {
    let (chunks, rest) = body.as_chunks::<8>();
    rest.is_empty().then(|| chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect())
}

/// The change that assembled bodies are.
#[must_use]
pub fn change(body: &[u8]) -> Option<Change> {
    words::whole(&body_words(body)?)
}

/// The begin that assembled bodies are.
#[must_use]
pub fn begin(body: &[u8]) -> Option<Begin> {
    words::whole(&body_words(body)?)
}

/// The version of records that a begin says, whatever else it holds.
#[must_use]
pub fn begin_version(body: &[u8]) -> Option<u32> {
    let word = body.first_chunk::<8>()?;
    u32::try_from(u64::from_le_bytes(*word)).ok()
}

/// What a digest record's body says: both halves of the chain before it, and the walks so far.
#[must_use]
pub fn digest(chain: &Chain, walks: u64) -> [u64; 3] {
    [chain.inputs(), chain.outcomes(), walks]
}

/// A label's body: the port's number and its name.
#[must_use]
pub fn label(port: PortId, name: &str) -> Vec<u8> {
    let mut body = port.0.to_le_bytes().to_vec();
    body.extend(name.as_bytes());
    body
}

/// Reads a label's body.
#[must_use]
pub fn read_label(body: &[u8]) -> Option<(PortId, &str)> {
    let (port, name) = body.split_first_chunk::<4>()?;
    Some((PortId(u32::from_le_bytes(*port)), core::str::from_utf8(name).ok()?))
}

#[cfg(test)]
mod tests;

//! How a ring lies in its file.
//!
//! ```text
//!   header page | segment 0 | segment 1 | ... | segment n-1
//!                 head 64 B, then records, each at a multiple of 8 bytes
//! ```
//!
//! A **position** counts bytes of segments since the journal's begin and never wraps; the segment
//! of number `position / segment` lies at the place `number % n`. A record never straddles
//! segments: a length of zero says that the rest of a segment is empty.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use stack::hash::Hasher;
use stack::journal;

/// Bytes of the header page.
pub const HEADER: usize = 4_096;
/// Bytes of a segment's head.
pub const SEGMENT_HEAD: usize = 64;
/// "HOPRING" and the form of this page.
const MAGIC: u64 = u64::from_le_bytes(*b"HOPRING1");
/// Bytes of a segment at most.
const SEGMENT_MAX: usize = 1 << 20;
/// At least: the largest record fits, with as much again.
const SEGMENT_MIN: usize = 128 << 10;
/// Segments that a journal of the size asked for has.
const SEGMENTS: usize = 64;
/// Segments beyond the size asked for. With them half of that size can be replayed at any moment,
/// although the oldest segment is being overwritten and a snapshot takes its time.
pub const SPARE: usize = 4;
/// Bytes of a journal at least.
pub const SIZE_MIN: u64 = 4 << 20;
/// Bytes of a journal at most.
pub const SIZE_MAX: u64 = 64 << 30;

/// How the file is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a segment, its head included.
    pub segment: usize,
    /// Segments.
    pub segments: usize,
}

impl Geometry {
    /// A header page alone.
    pub const EMPTY: Self = Self { segment: SEGMENT_MIN, segments: 0 };

    /// For a journal of about that many bytes.
    #[must_use]
    pub fn for_size(size: u64) -> Self {
        let size = usize::try_from(size.clamp(SIZE_MIN, SIZE_MAX)).unwrap_or(usize::MAX);
        let segment = (size / SEGMENTS).next_power_of_two().clamp(SEGMENT_MIN, SEGMENT_MAX);
        Self { segment, segments: size.div_ceil(segment) + SPARE }
    }

    /// Bytes of the file.
    #[must_use]
    pub fn file_len(&self) -> usize {
        HEADER + self.segment * self.segments
    }

    /// Bytes of records that a snapshot for each half must reach back: half of the size asked for.
    #[must_use]
    pub fn half(&self) -> u64 {
        let segments = self.segments.saturating_sub(SPARE).div_ceil(2).max(1);
        (segments * self.segment) as u64
    }

    /// The segment's number of a position.
    #[must_use]
    #[inline]
    pub fn number(&self, position: u64) -> u64 {
        position / self.segment as u64
    }

    /// Where the segment of that number begins.
    #[must_use]
    #[inline]
    pub fn begin(&self, number: u64) -> u64 {
        number * self.segment as u64
    }

    /// The place in the file of the segment of that number.
    #[must_use]
    #[inline]
    pub fn place(&self, number: u64) -> usize {
        usize::try_from(number % self.segments.max(1) as u64).unwrap_or(0)
    }

    /// How far into its segment a position lies.
    #[must_use]
    #[inline]
    pub fn offset(&self, position: u64) -> usize {
        usize::try_from(position % self.segment as u64).unwrap_or(0)
    }

    fn possible(&self) -> bool {
        self.segment.is_power_of_two()
            && (SEGMENT_MIN..=SEGMENT_MAX).contains(&self.segment)
            && (SPARE + 1..=1 << 17).contains(&self.segments)
    }
}

/// What holds for a journal from its begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// [`journal::VERSION`].
    pub version: u64,
    /// Drop reasons of the build that writes it.
    pub reasons: u64,
    /// The boot: positions hold times of its clock.
    pub boot: [u64; 2],
    /// The build that writes it, as text.
    pub build: [u64; 4],
    /// Which worker.
    pub worker: u64,
    /// Of how many.
    pub workers: u64,
}

impl Identity {
    /// This build in that boot, the one worker there is.
    #[must_use]
    pub fn new(boot: [u64; 2]) -> Self {
        let mut build = [0; 4];
        for (word, bytes) in build.iter_mut().zip(name().as_bytes().chunks(8)) {
            let mut padded = [0; 8];
            padded.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
            *word = u64::from_le_bytes(padded);
        }
        Self {
            version: u64::from(journal::VERSION),
            reasons: u64::from(journal::reasons()),
            boot,
            build,
            worker: 0,
            workers: 1,
        }
    }
}

/// The build's name. One with debug assertions takes another one by `HOPSCOPE_BUILD_NAME`, so that
/// tests have two versions out of one build.
fn name() -> String {
    let other = cfg!(debug_assertions).then(|| std::env::var("HOPSCOPE_BUILD_NAME").ok()).flatten();
    other.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned())
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, reasons, boot, build, worker, workers } = self;
        write!(f, "{version}-{reasons}-{boot:x?}-{build:x?}-{worker}/{workers}")
    }
}

/// A chain as it stood behind a record.
#[derive(Debug)]
#[repr(C)]
pub struct Slot {
    /// Behind the record; the other words belong to it.
    pub position: AtomicU64,
    /// Half over the records.
    pub inputs: AtomicU64,
    /// Half over what came of them, once the record was carried out.
    pub outcomes: AtomicU64,
}

/// The header page. What changes with every record shares one cache line.
#[derive(Debug)]
#[repr(C)]
pub struct Header {
    magic: AtomicU64,
    version: AtomicU64,
    reasons: AtomicU64,
    segment: AtomicU64,
    segments: AtomicU64,
    boot: [AtomicU64; 2],
    build: [AtomicU64; 4],
    worker: AtomicU64,
    workers: AtomicU64,
    check: AtomicU64,
    _free: [AtomicU64; 2],
    /// Behind the newest published record.
    pub head: AtomicU64,
    /// Behind the newest record that was carried out.
    pub done: AtomicU64,
    /// The chain behind the newest record, and the one before it.
    pub slots: [Slot; 2],
    /// Nanoseconds from CLOCK_MONOTONIC to UTC, two's complement.
    pub utc_offset: AtomicU64,
    /// Records so far.
    pub records: AtomicU64,
    /// The record that a worker died on, and one: zero says none.
    pub crash_at: AtomicU64,
    /// How often.
    pub crashes: AtomicU64,
    /// The record being replayed by a recovery, and one: zero says none.
    pub replaying: AtomicU64,
    /// When the last records were set aside.
    pub quarantined: [AtomicU64; 3],
}

impl Header {
    /// Describes a new ring, empty.
    pub fn begin(&self, geometry: Geometry, identity: &Identity) {
        let Identity { version, reasons, boot, build, worker, workers } = identity;
        let set = |word: &AtomicU64, value: u64| word.store(value, Ordering::Relaxed);
        set(&self.version, *version);
        set(&self.reasons, *reasons);
        set(&self.segment, geometry.segment as u64);
        set(&self.segments, geometry.segments as u64);
        self.boot.iter().zip(boot).for_each(|(word, value)| set(word, *value));
        self.build.iter().zip(build).for_each(|(word, value)| set(word, *value));
        set(&self.worker, *worker);
        set(&self.workers, *workers);
        set(&self.check, check(&geometry, identity));
        self.magic.store(MAGIC, Ordering::Release);
    }

    /// How the file is divided; `None` when this is no ring's header, or damaged.
    #[must_use]
    pub fn geometry(&self) -> Option<Geometry> {
        let get = |word: &AtomicU64| word.load(Ordering::Acquire);
        let size = |word: &AtomicU64| usize::try_from(get(word)).ok();
        let geometry = Geometry { segment: size(&self.segment)?, segments: size(&self.segments)? };
        let whole = get(&self.magic) == MAGIC
            && geometry.possible()
            && get(&self.check) == check(&geometry, &self.identity());
        whole.then_some(geometry)
    }

    /// Whose it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let get = |word: &AtomicU64| word.load(Ordering::Relaxed);
        Identity {
            version: get(&self.version),
            reasons: get(&self.reasons),
            boot: self.boot.each_ref().map(get),
            build: self.build.each_ref().map(get),
            worker: get(&self.worker),
            workers: get(&self.workers),
        }
    }
}

fn check(geometry: &Geometry, identity: &Identity) -> u64 {
    let Identity { version, reasons, boot, build, worker, workers } = identity;
    let mut hasher = Hasher::new(MAGIC);
    [geometry.segment as u64, geometry.segments as u64, *version, *reasons, *worker, *workers]
        .iter()
        .chain(boot)
        .chain(build)
        .for_each(|word| hasher.number(*word));
    hasher.finish()
}

/// The head of a segment.
#[derive(Debug)]
#[repr(C)]
pub struct SegmentHead {
    /// The segment's number and one; zero while the head is written.
    pub sequence: AtomicU64,
    /// Time of its first record.
    pub time: AtomicU64,
    /// The chain before its first record.
    pub inputs: AtomicU64,
    /// Its other half.
    pub outcomes: AtomicU64,
    /// Walks before its first record.
    pub walks: AtomicU64,
    /// Position of its first record.
    pub first: AtomicU64,
    _free: [AtomicU64; 2],
}

const _: () = assert!(size_of::<SegmentHead>() == SEGMENT_HEAD && size_of::<Header>() <= HEADER);

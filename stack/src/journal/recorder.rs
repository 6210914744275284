//! Writes a journal: a record for each input, before what comes of it leaves.
//!
//! ```text
//!   recorder.frame(now, door, &frame)   the record is in the journal
//!   switch.input(now, input, &mut out)
//!   recorder.outcome(&out)              the chain knows what came of it
//!   (frames leave)
//! ```

use alloc::vec::Vec;

use super::frame::{self, Door};
use super::{
    BODY_MAX, Begin, Chain, FLAG_MORE, FLAG_REST, HEAD, Head, Kind, NOT_DONE, digest, label,
    pieces, records, stride,
};
use crate::config::Change;
use crate::input::{Frame, Outbox, PortId};
use crate::time::Instant;

/// Where records go: a ring in memory, or a [`Tape`].
pub trait Place {
    /// Room for a record of `len` bytes ([`super::RECORD_MAX`] at most), of that time and with that
    /// chain before it.
    fn room(&mut self, len: usize, now: Instant, before: &Chain) -> &mut [u8];

    /// The record of `len` bytes at the begin of the room given last is complete: from now on it is
    /// part of the journal. `after` is the chain with it.
    fn publish(&mut self, len: usize, after: &Chain);

    /// What the records so far stand for was carried out; `after` is the chain with what came of
    /// it. After a crash, a record beyond this point is the one it happened on.
    fn carried_out(&mut self, after: &Chain) {
        let _not_kept = after;
    }
}

/// Where a record's kind stands.
const KIND: usize = 4;
/// Where a record's check stands.
const CHECK: core::ops::Range<usize> = 16..20;

/// A journal in the making.
#[derive(Clone, Debug)]
pub struct Recorder<P> {
    place: P,
    chain: Chain,
    /// Whether all of a frame is recorded, not only its window.
    payload: bool,
}

impl<P: Place> Recorder<P> {
    /// Goes on with a journal whose chain is known. `payload`: frames are recorded whole.
    #[must_use]
    pub fn new(place: P, chain: Chain, payload: bool) -> Self {
        Self { place, chain, payload }
    }

    /// The chain so far.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Where the records go.
    #[must_use]
    pub fn place(&self) -> &P {
        &self.place
    }

    /// Where the records go, to be asked for what is its own.
    #[must_use]
    pub fn place_mut(&mut self) -> &mut P {
        &mut self.place
    }

    /// Takes the place back.
    #[must_use]
    pub fn into_place(self) -> P {
        self.place
    }

    /// Begins a journal: an empty switch of these limits and seeds, and a chain of its own.
    pub fn begin(&mut self, now: Instant, begin: &Begin) {
        self.chain = Chain::new();
        self.value(Kind::Begin, now, &pieces(begin));
        self.place.carried_out(&self.chain);
    }

    /// A frame is about to go in.
    #[inline]
    pub fn frame(&mut self, now: Instant, door: Door, frame: &Frame) {
        let whole = match door {
            Door::Endpoint(_) => true,
            Door::Port(_) => self.payload || frame::is_fragment(frame.window()),
        };
        let record = frame::Record::of(now, door, frame, whole);
        let room = self.place.room(record.len(), now, &self.chain);
        let mut chain = self.chain;
        chain.parts(record.head(), record.body());
        let written = record.write(room, chain.check());
        debug_assert!(written, "a place has room for every record");
        if written {
            self.chain = chain;
            self.place.publish(record.len(), &self.chain);
        }
    }

    /// A change is about to go in.
    pub fn change(&mut self, now: Instant, change: &Change) {
        self.value(Kind::Change, now, &pieces(change));
    }

    /// What another build had is about to go in.
    pub fn import(&mut self, now: Instant, state: &[u8]) {
        let pieces: Vec<Vec<u8>> = state.chunks(BODY_MAX).map(<[u8]>::to_vec).collect();
        self.value(Kind::Import, now, &pieces);
    }

    /// A tick is about to go in.
    pub fn tick(&mut self, now: Instant) {
        self.put(Kind::Tick, 0, now, &[]);
    }

    /// What came of the input recorded last: all of `out`, which held nothing before it.
    #[inline]
    pub fn outcome(&mut self, out: &Outbox) {
        self.chain.outcome(out);
        self.place.carried_out(&self.chain);
    }

    /// The chain so far, for whoever replays: `walks` is the switch's count.
    pub fn digest(&mut self, now: Instant, walks: u64) {
        let words = digest(&self.chain, walks);
        self.note(Kind::Digest, now, bytes_of(&words).as_flattened());
    }

    /// The offset to UTC, in nanoseconds.
    pub fn clock(&mut self, now: Instant, utc_offset: i64) {
        self.note(Kind::Clock, now, &utc_offset.to_le_bytes());
    }

    /// A snapshot begins here.
    pub fn mark(&mut self, now: Instant, number: u64) {
        self.note(Kind::Mark, now, &number.to_le_bytes());
    }

    /// The snapshot of a mark is whole; these were the digests of the state's tables there
    /// (`Digests::words`).
    pub fn state(&mut self, now: Instant, number: u64, digests: impl Iterator<Item = u64>) {
        let words = core::iter::once(number).chain(digests);
        let body: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        self.note(Kind::State, now, &body);
    }

    /// A record before this one is skipped, and why.
    pub fn skip(&mut self, now: Instant, why: &str) {
        self.note(Kind::Skip, now, why.as_bytes());
    }

    /// A worker took over here, and why.
    pub fn resume(&mut self, now: Instant, why: &str) {
        self.note(Kind::Resume, now, why.as_bytes());
    }

    /// A port's name, for people.
    pub fn label(&mut self, now: Instant, port: PortId, name: &str) {
        self.note(Kind::Label, now, &label(port, name));
    }

    /// A record that is no input: nothing comes of it.
    fn note(&mut self, kind: Kind, now: Instant, body: &[u8]) {
        self.put(kind, 0, now, body);
        self.place.carried_out(&self.chain);
    }

    fn value(&mut self, kind: Kind, now: Instant, pieces: &[Vec<u8>]) {
        let last = pieces.len().saturating_sub(1);
        for (number, body) in pieces.iter().enumerate() {
            let more = if number < last { FLAG_MORE } else { 0 };
            let rest = if number > 0 { FLAG_REST } else { 0 };
            self.put(kind, more | rest, now, body);
        }
    }

    fn put(&mut self, kind: Kind, flags: u8, now: Instant, body: &[u8]) {
        let body = body.get(..BODY_MAX).unwrap_or(body);
        let len = HEAD + body.len();
        let head = Head { kind, flags, time: now, check: 0, skipped: false, len };
        let record = self.place.room(len, now, &self.chain).get_mut(..len);
        debug_assert!(record.is_some(), "a place has room for every record");
        let Some(record) = record else { return };
        head.write(record);
        if let Some(place) = record.get_mut(HEAD..) {
            place.copy_from_slice(body);
        }
        if !kind.is_comment() {
            vouch(&mut self.chain, record);
        }
        self.place.publish(len, &self.chain);
    }
}

/// Takes a record into the chain and writes its check.
#[inline]
fn vouch(chain: &mut Chain, record: &mut [u8]) {
    chain.record(record);
    if let Some(place) = record.get_mut(CHECK) {
        place.copy_from_slice(&chain.check().to_le_bytes());
    }
}

fn bytes_of<const N: usize>(words: &[u64; N]) -> [[u8; 8]; N] {
    words.map(u64::to_le_bytes)
}

/// Records one behind the other in memory that grows: for tests and simulations.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    bytes: Vec<u8>,
    end: usize,
}

impl Tape {
    /// The records, padding included.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.end).unwrap_or(&[])
    }

    /// Marks the newest record as not done: it crashed whoever carried it out.
    pub fn set_newest_aside(&mut self) {
        let (mut newest, mut at) = (None, 0);
        for record in records(self.bytes()).map_while(Result::ok) {
            newest = Some(at);
            at += stride(record.len());
        }
        if let Some(kind) = newest.and_then(|at| self.bytes.get_mut(at + KIND)) {
            *kind |= NOT_DONE;
        }
    }

    /// Takes the first `at` bytes away, whole records and no more than there are: what a snapshot
    /// made needless.
    pub fn cut(&mut self, at: usize) -> Vec<u8> {
        let at = at.min(self.end);
        self.end -= at;
        self.bytes.drain(..at).collect()
    }
}

impl Place for Tape {
    fn room(&mut self, len: usize, _now: Instant, _before: &Chain) -> &mut [u8] {
        self.bytes.resize(self.end + stride(len), 0);
        self.bytes.get_mut(self.end..).unwrap_or(&mut [])
    }

    fn publish(&mut self, len: usize, _after: &Chain) {
        self.end += stride(len);
    }
}

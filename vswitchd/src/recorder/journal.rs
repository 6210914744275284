//! The journal as the event loop holds it: records each input, and what must stand between them.

use std::collections::BTreeMap;

use stack::journal::frame::Door;
use stack::journal::{Chain, Recorder};
use stack::{Input, Instant, Outbox, PortId, Switch};

use super::areas::Origin;
use super::ring::Ring;
use super::snapshots::{Taken, Taker};

/// Records between two that hold the chain.
const DIGEST_EVERY: u64 = 4_096;
/// A difference of clocks above this, in nanoseconds, means that UTC was set.
const CLOCK_SET: u64 = 1_000_000;

/// Records what goes into one switch.
#[derive(Debug)]
pub struct Journal {
    recorder: Recorder<Ring>,
    taker: Taker,
    labels: BTreeMap<PortId, String>,
    utc_offset: i64,
    /// Records at the newest digest.
    digest_at: u64,
}

impl Journal {
    /// Goes on writing a ring whose chain is known.
    #[must_use]
    pub fn new(
        ring: Ring,
        chain: Chain,
        payload: bool,
        taker: Taker,
        labels: BTreeMap<PortId, String>,
    ) -> Self {
        let digest_at = ring.records();
        let recorder = Recorder::new(ring, chain, payload);
        Self { recorder, taker, labels, utc_offset: 0, digest_at }
    }

    /// The records' writer, for what is recorded but once.
    pub fn recorder(&mut self) -> &mut Recorder<Ring> {
        &mut self.recorder
    }

    /// Behind the newest record.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.recorder.place().position()
    }

    /// An input is about to go in.
    #[inline]
    pub fn before(&mut self, now: Instant, input: &Input) {
        match input {
            Input::Frame { port, frame } => self.recorder.frame(now, Door::Port(*port), frame),
            Input::Deliver { endpoint, frame } => {
                self.recorder.frame(now, Door::Endpoint(*endpoint), frame);
            }
            Input::Change(change) => self.recorder.change(now, change),
            Input::Tick => self.recorder.tick(now),
            Input::Import(state) => self.recorder.import(now, state),
        }
    }

    /// What came of it: all of `out`.
    #[inline]
    pub fn after(&mut self, out: &Outbox) {
        self.recorder.outcome(out);
    }

    /// Records the offset to UTC when it is another.
    pub fn clock(&mut self, now: Instant, utc_offset: i64) {
        if utc_offset.abs_diff(self.utc_offset) > CLOCK_SET {
            self.utc_offset = utc_offset;
            self.recorder.place().set_utc_offset(utc_offset);
            self.recorder.clock(now, utc_offset);
        }
    }

    /// The offset to UTC as it was recorded last.
    #[must_use]
    pub fn utc_offset(&self) -> i64 {
        self.utc_offset
    }

    /// Records the name of a port.
    pub fn label(&mut self, now: Instant, port: PortId, name: String) {
        if self.labels.get(&port) != Some(&name) {
            self.recorder.label(now, port, &name);
            self.labels.insert(port, name);
        }
    }

    /// Whether there is something to do between batches although no frame came.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.taker.is_open()
    }

    /// What is due between two batches: a digest, a step of a snapshot.
    pub fn between(&mut self, now: Instant, switch: &mut Switch) {
        let walks = switch.tables().walks();
        let records = self.recorder.place().records();
        self.recorder.place_mut().set_walks(walks);
        if records.saturating_sub(self.digest_at) >= DIGEST_EVERY {
            self.digest_at = records;
            self.recorder.digest(now, walks);
        }
        if self.taker.is_open() {
            self.step(now, switch);
        } else if let Some(number) =
            self.taker.due(self.recorder.place().position(), self.recorder.place().records())
        {
            self.begin(now, number, switch);
        }
    }

    fn begin(&mut self, now: Instant, number: u64, switch: &mut Switch) {
        self.recorder.mark(now, number);
        let ring = self.recorder.place();
        let (records, position) = (ring.records(), ring.position());
        let origin = Origin {
            number,
            position,
            chain: *self.recorder.chain(),
            time: now,
            utc_offset: self.utc_offset,
            walks: switch.tables().walks(),
        };
        self.labels.retain(|port, _| switch.tables().ports().slot(*port).is_some());
        if let Err(error) = self.taker.begin(origin, records, &self.labels, switch) {
            tracing::warn!(%error, "a snapshot cannot be begun; the journal reaches less far back");
        }
    }

    fn step(&mut self, now: Instant, switch: &mut Switch) {
        match self.taker.step(switch) {
            Ok(Taken::Part) => {}
            Ok(Taken::Whole(number, digests)) => self.recorder.state(now, number, digests.words()),
            Err(error) => {
                tracing::warn!(%error, "a snapshot cannot be written; free memory of its tmpfs");
            }
        }
    }
}

//! Records in, the same walks out: what recovery, `hopctl replay` and the tests drive a switch by.
//!
//! The driver knows nothing of files: it is given one record after the other, in order, and gives
//! back what came of each. It checks the chain at every record and says where it first differs.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::config::Config;
use crate::input::{Frame, Input, Outbox, PortId};
use crate::journal::frame::{Door, Recorded};
use crate::journal::{self, BODY_MAX, Chain, Head, Kind};
use crate::switch::Switch;
use crate::time::Instant;

/// A switch that is fed from a journal.
#[derive(Debug)]
pub struct Replay {
    switch: Option<Switch>,
    chain: Chain,
    table_seed: u64,
    /// Records seen.
    records: u64,
    /// What the newest record led to.
    out: Outbox,
    /// Bodies of a value in several records, so far.
    pieces: Vec<u8>,
    /// Buffers that frames move through.
    spare: Vec<Frame>,
    /// The mark whose state digest is still to come, with the digest that this switch had there.
    marked: Option<(u64, u64)>,
}

/// What a record was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An input was carried out; what came of it is in [`Replay::out`].
    Done(Kind),
    /// A part of a value; the rest is in records to come.
    Part,
    /// The record was skipped then, and is now.
    Skipped,
    /// A chain or a state was compared, and is equal.
    Verified,
    /// The offset to UTC, in nanoseconds from CLOCK_MONOTONIC.
    Clock(i64),
    /// A name.
    Label(PortId, String),
    /// Nothing to be done, such as a worker's taking over.
    Note(Kind),
}

/// Why a replay cannot go on, or is not what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// The record cannot be read.
    Unreadable {
        /// Its kind, if that much is known.
        kind: Option<Kind>,
    },
    /// The records do not begin with a state, and none was given.
    NoState,
    /// Another version wrote them.
    Version {
        /// Theirs.
        theirs: u32,
        /// This build's.
        ours: u32,
    },
    /// The chain differs: the record before this one was another, or was carried out differently.
    Diverged {
        /// What the record says.
        recorded: u32,
        /// What it came to here.
        replayed: u32,
    },
    /// The halves of the chain differ.
    Digest {
        /// Whether the records themselves are others: the file is damaged.
        damaged: bool,
    },
    /// The state at a mark differs.
    State {
        /// What was recorded.
        recorded: u64,
        /// What it came to here.
        replayed: u64,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { kind: Some(kind) } => {
                write!(f, "a record of kind {} cannot be read", kind.name())
            }
            Self::Unreadable { kind: None } => f.write_str("a record cannot be read"),
            Self::NoState => f.write_str("there is no state to start from"),
            Self::Version { theirs, ours } => {
                write!(f, "the records are of version {theirs}, this program reads {ours}")
            }
            Self::Diverged { recorded, replayed } => write!(
                f,
                "the chain is {replayed:08x} here and was {recorded:08x}: the record before this \
                 one was another, or was carried out differently"
            ),
            Self::Digest { damaged: true } => f.write_str("the records are damaged"),
            Self::Digest { damaged: false } => f.write_str("the switch acted differently"),
            Self::State { recorded, replayed } => {
                write!(f, "the state's digest is {replayed:016x} here and was {recorded:016x}")
            }
        }
    }
}

impl core::error::Error for ReplayError {}

impl Replay {
    /// Waits for records that begin a journal. `table_seed` lays out tables and shows nowhere.
    #[must_use]
    pub fn from_begin(table_seed: u64) -> Self {
        Self {
            switch: None,
            chain: Chain::new(),
            table_seed,
            records: 0,
            out: Outbox::default(),
            pieces: Vec::new(),
            spare: Vec::new(),
            marked: None,
        }
    }

    /// Goes on from a state and the chain that belongs to it.
    #[must_use]
    pub fn from_state(switch: Switch, chain: Chain) -> Self {
        Self { switch: Some(switch), chain, ..Self::from_begin(0) }
    }

    /// The switch, once there is one.
    #[must_use]
    pub fn switch(&self) -> Option<&Switch> {
        self.switch.as_ref()
    }

    /// Takes the switch and its chain, to go on without records.
    #[must_use]
    pub fn into_parts(self) -> (Option<Switch>, Chain) {
        (self.switch, self.chain)
    }

    /// The chain so far.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Records seen so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// What the newest record led to, until the next one.
    #[must_use]
    pub fn out(&self) -> &Outbox {
        &self.out
    }

    /// Takes the next record. `skipped` says that a [`Kind::Skip`] follows it.
    ///
    /// # Errors
    /// See [`ReplayError`]. After [`ReplayError::Diverged`], [`ReplayError::Digest`] and
    /// [`ReplayError::State`] the record was not carried out; [`Replay::accept`] goes on.
    pub fn record(&mut self, record: &[u8], skipped: bool) -> Result<Step, ReplayError> {
        self.reclaim();
        let head = Head::read(record).ok_or(ReplayError::Unreadable { kind: None })?;
        let Some(record) = record.get(..head.len) else {
            return Err(ReplayError::Unreadable { kind: Some(head.kind) });
        };
        self.records += 1;
        if head.kind.is_comment() {
            return label(record, &head);
        }
        if skipped {
            return Ok(Step::Skipped);
        }
        if head.check != self.chain.check() {
            let (recorded, replayed) = (head.check, self.chain.check());
            return Err(ReplayError::Diverged { recorded, replayed });
        }
        self.carry_out(record, &head)
    }

    /// Takes the chain for what a record says it is, and goes on from there.
    pub fn accept(&mut self, chain: Chain) {
        self.chain = chain;
    }

    fn carry_out(&mut self, record: &[u8], head: &Head) -> Result<Step, ReplayError> {
        let body = journal::body(record, head);
        let unreadable = ReplayError::Unreadable { kind: Some(head.kind) };
        match head.kind {
            Kind::Frame | Kind::Deliver => {
                let recorded = Recorded::read(record, head).ok_or(unreadable)?;
                let input = self.frame(&recorded).ok_or(ReplayError::NoState)?;
                self.input(head.time, input, record)?;
                Ok(Step::Done(head.kind))
            }
            Kind::Tick => {
                self.input(head.time, Input::Tick, record)?;
                Ok(Step::Done(head.kind))
            }
            Kind::Change | Kind::Begin => self.assemble(record, head),
            Kind::Digest => {
                let words = journal::body_words(body).ok_or(unreadable)?;
                self.verify(&words)?;
                self.chain.record(record);
                Ok(Step::Verified)
            }
            Kind::State | Kind::Mark => self.state(record, head),
            Kind::Clock => {
                let word = body.first_chunk::<8>().ok_or(unreadable)?;
                self.chain.record(record);
                Ok(Step::Clock(i64::from_le_bytes(*word)))
            }
            Kind::Skip | Kind::Resume => {
                // A value whose last part was never written, or skipped, is forgotten.
                self.pieces.clear();
                self.chain.record(record);
                Ok(Step::Note(head.kind))
            }
            Kind::Label => label(record, head),
        }
    }

    /// A value that may be in several records; the last one carries it out.
    fn assemble(&mut self, record: &[u8], head: &Head) -> Result<Step, ReplayError> {
        let unreadable = ReplayError::Unreadable { kind: Some(head.kind) };
        self.pieces.extend(journal::body(record, head));
        if head.flags & journal::FLAG_MORE != 0 {
            self.chain.record(record);
            return Ok(Step::Part);
        }
        let whole = core::mem::take(&mut self.pieces);
        if head.kind == Kind::Change {
            let change = journal::change(&whole).ok_or(unreadable)?;
            self.input(head.time, Input::Change(change), record)?;
            return Ok(Step::Done(head.kind));
        }
        let begin = journal::begin(&whole).ok_or(unreadable)?;
        if begin.version != journal::VERSION || begin.reasons != journal::reasons() {
            return Err(ReplayError::Version { theirs: begin.version, ours: journal::VERSION });
        }
        let mut seeds = begin.seeds;
        seeds.table = self.table_seed;
        self.switch = Some(Switch::new(Config::default(), begin.limits, seeds));
        self.chain.record(record);
        Ok(Step::Done(head.kind))
    }

    /// A mark is where a snapshot began; the digest of the state there follows when it is whole.
    fn state(&mut self, record: &[u8], head: &Head) -> Result<Step, ReplayError> {
        let words = journal::body_words(journal::body(record, head));
        let unreadable = ReplayError::Unreadable { kind: Some(head.kind) };
        match (head.kind, words.as_deref()) {
            (Kind::Mark, Some([number])) => {
                let digest = self.switch.as_ref().ok_or(ReplayError::NoState)?.digest();
                self.marked = Some((*number, digest));
                self.chain.record(record);
                Ok(Step::Note(Kind::Mark))
            }
            (Kind::State, Some([number, recorded])) => match self.marked.take() {
                Some((marked, replayed)) if marked == *number && replayed != *recorded => {
                    Err(ReplayError::State { recorded: *recorded, replayed })
                }
                // The mark of another lies before where this replay began.
                _ => {
                    self.chain.record(record);
                    Ok(Step::Verified)
                }
            },
            _ => Err(unreadable),
        }
    }

    fn verify(&self, words: &[u64]) -> Result<(), ReplayError> {
        let walks = self.switch.as_ref().map_or(0, |switch| switch.tables().walks());
        match words {
            [inputs, ..] if *inputs != self.chain.inputs() => {
                Err(ReplayError::Digest { damaged: true })
            }
            [_, outcomes, count] if *outcomes == self.chain.outcomes() && *count == walks => Ok(()),
            [_, _, _] => Err(ReplayError::Digest { damaged: false }),
            _ => Err(ReplayError::Unreadable { kind: Some(Kind::Digest) }),
        }
    }

    fn frame(&mut self, recorded: &Recorded<'_>) -> Option<Input> {
        let mut frame = self.spare.pop().unwrap_or_else(|| Frame::with_capacity(BODY_MAX));
        if !recorded.fill(&mut frame) {
            frame = Frame::with_capacity(BODY_MAX);
            if !recorded.fill(&mut frame) {
                return None;
            }
        }
        Some(match recorded.door {
            Door::Port(port) => Input::Frame { port, frame },
            Door::Endpoint(endpoint) => Input::Deliver { endpoint, frame },
        })
    }

    fn input(&mut self, now: Instant, input: Input, record: &[u8]) -> Result<(), ReplayError> {
        let switch = self.switch.as_mut().ok_or(ReplayError::NoState)?;
        self.chain.record(record);
        switch.input(now, input, &mut self.out);
        self.chain.outcome(&self.out);
        Ok(())
    }

    /// Empties the outbox, keeping buffers for frames to come.
    fn reclaim(&mut self) {
        let out = &mut self.out;
        let sent = out.transmits.drain(..).map(|transmit| transmit.frame);
        let dropped = out.reclaimed.drain(..).map(|(_, frame)| frame);
        let delivered = out.deliveries.drain(..).map(|(_, frame)| frame);
        for frame in sent.chain(dropped).chain(delivered) {
            if self.spare.len() < SPARE_MAX && frame.capacity() >= BODY_MAX {
                self.spare.push(frame);
            }
        }
        out.clear();
    }
}

/// Buffers kept.
const SPARE_MAX: usize = 4;

fn label(record: &[u8], head: &Head) -> Result<Step, ReplayError> {
    match journal::read_label(journal::body(record, head)) {
        Some((port, name)) => Ok(Step::Label(port, name.to_string())),
        None => Err(ReplayError::Unreadable { kind: Some(Kind::Label) }),
    }
}

#[cfg(test)]
mod tests;

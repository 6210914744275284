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
use crate::table::{Digests, Table};
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
    /// The kind of those.
    piece_kind: Kind,
    /// The newest value that was whole.
    value: Vec<u8>,
    compare: Compare,
    /// Buffers that frames move through.
    spare: Vec<Frame>,
    /// The mark whose state digest is still to come, with the digest that this switch had there.
    marked: Option<(u64, Digests)>,
}

/// How much a replay compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    /// The chain, and states at marks.
    All,
    /// The chain.
    Chain,
    /// The half of the chain over the inputs.
    Inputs,
}

/// What a record was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An input was carried out; what came of it is in [`Replay::out`].
    Done(Kind),
    /// A part of a value; the rest is in records to come.
    Part,
    /// It had crashed a worker and was skipped then, and is now.
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
    /// The record is not what was written, or one before it is missing.
    Damaged,
    /// The inputs are what they were, and what came of those before this record is not: the switch
    /// acted differently.
    Diverged,
    /// The state at a mark differs.
    State {
        /// What was recorded.
        recorded: u64,
        /// What it came to here.
        replayed: u64,
        /// The tables that differ.
        tables: Vec<Table>,
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
            Self::Damaged => f.write_str(
                "the record is not what was written, or one before it is missing: the journal is \
                 damaged",
            ),
            Self::Diverged => f.write_str(
                "what came of the record before this one is not what came of it then: the switch \
                 acted differently",
            ),
            Self::State { recorded, replayed, tables } => {
                write!(f, "the state's digest is {replayed:016x} here and was {recorded:016x}, ")?;
                for (at, table) in tables.iter().enumerate() {
                    let between = if at == 0 { "by the tables " } else { ", " };
                    write!(f, "{between}{}", table.name())?;
                }
                Ok(())
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
            piece_kind: Kind::Begin,
            value: Vec::new(),
            compare: Compare::All,
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

    /// The body of the newest change, begin or import, put together from all its records.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The state's digests at the newest mark, as they were here, while its digest is to come.
    #[must_use]
    pub fn marked(&self) -> Option<Digests> {
        self.marked.as_ref().map(|(_, digests)| *digests)
    }

    /// Goes on with a switch that need not do what was recorded: of the chain only the inputs are
    /// compared from here on, and no states.
    pub fn compare_inputs_only(&mut self) {
        self.compare = Compare::Inputs;
    }

    /// Leaves out to compare states at marks, which takes a walk over all tables: for a recovery.
    pub fn compare_no_states(&mut self) {
        self.compare = Compare::Chain;
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// See [`ReplayError`]. The record was not carried out, and none can follow.
    pub fn record(&mut self, record: &[u8]) -> Result<Step, ReplayError> {
        self.reclaim();
        let head = Head::read(record).ok_or(ReplayError::Unreadable { kind: None })?;
        let Some(record) = record.get(..head.len) else {
            return Err(ReplayError::Unreadable { kind: Some(head.kind) });
        };
        self.records += 1;
        if head.kind.is_comment() {
            return label(record, &head);
        }
        let rest = head.flags & journal::FLAG_REST != 0;
        if !rest || head.kind != self.piece_kind || head.skipped {
            self.pieces.clear();
        }
        if head.kind == Kind::Begin && !rest {
            self.chain = Chain::new();
            self.marked = None;
        }
        self.chain.record(record);
        self.compare(&head)?;
        if head.skipped {
            self.chain.skip();
            return Ok(Step::Skipped);
        }
        self.carry_out(record, &head)
    }

    /// Compares what the record's head says of the chain.
    fn compare(&self, head: &Head) -> Result<(), ReplayError> {
        let halves = |check: u32| (check & 0xffff, check >> 16);
        let (recorded, replayed) = (halves(head.check), halves(self.chain.check()));
        if recorded.0 != replayed.0 {
            return Err(ReplayError::Damaged);
        }
        if recorded.1 != replayed.1 && self.compare != Compare::Inputs {
            return Err(ReplayError::Diverged);
        }
        Ok(())
    }

    fn carry_out(&mut self, record: &[u8], head: &Head) -> Result<Step, ReplayError> {
        let body = journal::body(record, head);
        let unreadable = ReplayError::Unreadable { kind: Some(head.kind) };
        match head.kind {
            Kind::Frame | Kind::Deliver => {
                let recorded = Recorded::read(record, head).ok_or(unreadable)?;
                let input = self.frame(&recorded).ok_or(ReplayError::NoState)?;
                self.input(head.time, input)?;
                Ok(Step::Done(head.kind))
            }
            Kind::Tick => {
                self.input(head.time, Input::Tick)?;
                Ok(Step::Done(head.kind))
            }
            Kind::Change | Kind::Begin | Kind::Import => self.assemble(record, head),
            Kind::Digest => {
                let words = journal::body_words(body).ok_or(unreadable)?;
                self.verify(&words)
            }
            Kind::State | Kind::Mark => self.state(record, head),
            Kind::Clock => {
                let word = body.first_chunk::<8>().ok_or(unreadable)?;
                Ok(Step::Clock(i64::from_le_bytes(*word)))
            }
            Kind::Skip | Kind::Resume => Ok(Step::Note(head.kind)),
            Kind::Label => label(record, head),
        }
    }

    /// A value that may be in several records; the last one carries it out.
    fn assemble(&mut self, record: &[u8], head: &Head) -> Result<Step, ReplayError> {
        let unreadable = ReplayError::Unreadable { kind: Some(head.kind) };
        let rest = head.flags & journal::FLAG_REST != 0;
        let body = journal::body(record, head);
        let orphan = rest && self.pieces.is_empty();
        if orphan || self.pieces.len().saturating_add(body.len()) > journal::VALUE_MAX {
            return Err(unreadable);
        }
        self.piece_kind = head.kind;
        self.pieces.extend(body);
        if head.flags & journal::FLAG_MORE != 0 {
            return Ok(Step::Part);
        }
        self.value = core::mem::take(&mut self.pieces);
        let whole = &self.value;
        if head.kind == Kind::Change {
            let change = journal::change(whole).ok_or(unreadable)?;
            self.input(head.time, Input::Change(change))?;
            return Ok(Step::Done(head.kind));
        }
        if head.kind == Kind::Import {
            let whole = whole.clone();
            self.input(head.time, Input::Import(whole))?;
            return Ok(Step::Done(head.kind));
        }
        let theirs = journal::begin_version(whole).ok_or_else(|| unreadable.clone())?;
        if theirs != journal::VERSION {
            return Err(ReplayError::Version { theirs, ours: journal::VERSION });
        }
        let begin = journal::begin(whole).filter(|begin| begin.limits.is_possible());
        let begin = begin.ok_or(unreadable)?;
        let mut seeds = begin.seeds;
        seeds.table = self.table_seed;
        self.switch = Some(Switch::new(Config::default(), begin.limits, seeds));
        Ok(Step::Done(head.kind))
    }

    /// A mark is where a snapshot began; the digest of the state there follows when it is whole.
    fn state(&mut self, record: &[u8], head: &Head) -> Result<Step, ReplayError> {
        let words = journal::body_words(journal::body(record, head));
        let unreadable = ReplayError::Unreadable { kind: Some(head.kind) };
        let words = words.ok_or_else(|| unreadable.clone())?;
        if let ([number], Kind::Mark) = (&words[..], head.kind) {
            let switch = self.switch.as_ref().ok_or(ReplayError::NoState)?;
            let all = self.compare == Compare::All;
            self.marked = all.then(|| (*number, switch.digests()));
            return Ok(Step::Note(Kind::Mark));
        }
        let (number, recorded) = words.split_first().ok_or_else(|| unreadable.clone())?;
        let recorded = Digests::of_words(recorded).ok_or_else(|| unreadable.clone())?;
        match self.marked.take() {
            Some((marked, _)) if marked != *number => Err(unreadable),
            Some((_, replayed)) if replayed != recorded => {
                let tables = recorded.differing(replayed).collect();
                let (recorded, replayed) = (recorded.total(), replayed.total());
                Err(ReplayError::State { recorded, replayed, tables })
            }
            Some(_equal) => Ok(Step::Verified),
            // Its mark lies before where this replay began.
            None => Ok(Step::Note(Kind::State)),
        }
    }

    /// Compares a digest record: what had come of all inputs before it.
    fn verify(&self, words: &[u64]) -> Result<Step, ReplayError> {
        let walks = self.switch.as_ref().map_or(0, |switch| switch.tables().walks());
        match words {
            [_, outcomes, count] if *outcomes == self.chain.outcomes() && *count == walks => {
                Ok(Step::Verified)
            }
            [_, _, _] if self.compare == Compare::Inputs => Ok(Step::Note(Kind::Digest)),
            [_, _, _] => Err(ReplayError::Diverged),
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

    fn input(&mut self, now: Instant, input: Input) -> Result<(), ReplayError> {
        let switch = self.switch.as_mut().ok_or(ReplayError::NoState)?;
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

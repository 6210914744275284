//! Drives a switch by a recording: every record is carried out and every digest compared, until the
//! end, a limit, or the first record where this switch is not the one that was recorded.

use std::collections::BTreeMap;
use std::fmt;

use stack::journal::frame::Recorded;
use stack::journal::{Chain, Head, Kind};
use stack::replay::{ReplayError, Step};
use stack::table::RestoreError;
use stack::{Instant, Outbox, PortId, Replay, Switch};

use crate::read::{Ending, Item, ReadError, Reader, Start};

/// A switch that follows a recording.
#[derive(Debug)]
pub struct Replayer {
    reader: Reader,
    table_seed: u64,
    replay: Option<Replay>,
    start: Start,
    names: BTreeMap<PortId, String>,
    utc_offset: i64,
    limit: Limit,
    /// What was read and not taken: it lies beyond the limit, or is the end.
    next: Option<Item>,
    /// The record carried out last.
    newest: Option<(u64, Vec<u8>)>,
    /// The last record that is in the chain, and how many walks there were before it.
    chained: Option<Chained>,
    verified: Verified,
}

/// How far to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// To the end, or to what crashed the switch then.
    #[default]
    End,
    /// Through everything up to this moment, nanoseconds since 1970, UTC, or to what crashed the
    /// switch then.
    Utc(u64),
    /// Through everything up to this record.
    Record(u64),
}

/// What was compared and found equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Records whose check was that of the chain here.
    pub records: u64,
    /// Whole digests of the chain.
    pub digests: u64,
    /// Digests of the state.
    pub states: u64,
}

/// What a turn came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// More bytes are wanted.
    Starved,
    /// The start state stands.
    Started,
    /// A record was taken.
    Done(Done),
    /// The next record is beyond the limit.
    Limit,
    /// All is done.
    End(Ending),
}

/// A record that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Its number, from 1.
    pub number: u64,
    /// Its head.
    pub head: Head,
    /// What it was.
    pub step: Step,
}

/// Why a replay ends before the recording does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The file.
    Read(ReadError),
    /// The start state is none of this build's.
    State(RestoreError),
    /// There is no start state, and the records do not begin with one.
    NoState,
    /// A record cannot be carried out.
    Record {
        /// Which.
        number: u64,
        /// Why.
        error: ReplayError,
    },
    /// This switch is not the one that was recorded, or the records are not.
    Diverged(Box<Divergence>),
}

/// The first difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The record that was carried out differently, or is another than it was.
    pub record: u64,
    /// The record at which that showed.
    pub noticed: u64,
    /// When the record was, nanoseconds since 1970, UTC.
    pub utc: u64,
    /// The first walk that it led to here; 0 for none.
    pub walk: u64,
    /// What the record is.
    pub what: String,
    /// Where the difference lies.
    pub cause: Cause,
    /// What was compared.
    pub error: ReplayError,
}

/// Where a difference lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The records are others than those that were carried out then.
    Damaged,
    /// The records are the same: the switch acted differently.
    Acted,
    /// The outputs are equal and the state is not.
    State,
}

#[derive(Clone, Debug)]
struct Chained {
    number: u64,
    record: Vec<u8>,
    utc: u64,
    walk: u64,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "{error}"),
            Self::State(error) => {
                write!(f, "the start state cannot be restored ({error}): was another build its?")
            }
            Self::NoState => f.write_str(
                "the recording has no start state, so nothing can be replayed: record again by \
                 hopctl record, which puts one in",
            ),
            Self::Record { number, error } => write!(f, "record {number}: {error}"),
            Self::Diverged(divergence) => write!(f, "{divergence}"),
        }
    }
}

impl std::error::Error for Problem {}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record, noticed, walk, what, cause, error, .. } = self;
        write!(f, "diverged at record {record}")?;
        if *walk > 0 {
            write!(f, ", walk {walk}")?;
        }
        write!(f, " ({what}), noticed at record {noticed}, where ")?;
        if matches!(error, ReplayError::State { .. }) {
            write!(f, "{error}: ")?;
        }
        f.write_str(match cause {
            Cause::Damaged => "its bytes are not those that were carried out then",
            Cause::Acted => "the records are as they were, so the switch acted differently",
            Cause::State => "what left was the same, the state is another",
        })
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl Replayer {
    /// Waits for bytes. `table_seed` lays out tables and shows nowhere.
    #[must_use]
    pub fn new(table_seed: u64) -> Self {
        Self {
            reader: Reader::default(),
            table_seed,
            replay: None,
            start: Start::default(),
            names: BTreeMap::new(),
            utc_offset: 0,
            limit: Limit::End,
            next: None,
            newest: None,
            chained: None,
            verified: Verified::default(),
        }
    }

    /// How far to go.
    pub fn limit(&mut self, limit: Limit) {
        self.limit = limit;
    }

    /// Takes bytes of the file in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
    }

    /// No more bytes will come.
    pub fn finish(&mut self) {
        self.reader.finish();
    }

    /// How the recording began; its state is not kept.
    #[must_use]
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// The switch, once it stands.
    #[must_use]
    pub fn switch(&self) -> Option<&Switch> {
        self.replay.as_ref()?.switch()
    }

    /// The chain so far.
    #[must_use]
    pub fn chain(&self) -> Chain {
        self.replay.as_ref().map_or(self.start.chain, |replay| *replay.chain())
    }

    /// What the newest record led to, until the next turn.
    #[must_use]
    pub fn out(&self) -> Option<&Outbox> {
        self.replay.as_ref().map(Replay::out)
    }

    /// The frame that the newest record holds, if it is a frame's.
    #[must_use]
    pub fn frame(&self) -> Option<Recorded<'_>> {
        let (_, record) = self.newest.as_ref()?;
        Recorded::read(record, &Head::read(record)?)
    }

    /// The body of the newest change or import, put together from all its records.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.replay.as_ref().map_or(&[], Replay::value)
    }

    /// What the newest record is, as a clause.
    #[must_use]
    pub fn describe(&self) -> String {
        let newest = self.newest.as_ref();
        newest.map_or_else(String::new, |(_, record)| describe(record, &self.names))
    }

    /// The number and time of the record beyond the limit, if that is where it stopped.
    #[must_use]
    pub fn upcoming(&self) -> Option<(u64, Instant)> {
        let Some(Item::Record(number, record)) = &self.next else { return None };
        Some((*number, Head::read(record)?.time))
    }

    /// The record beyond the limit, if it is the one that crashed the switch this is of, as a
    /// number and a clause. Only [`Limit::Record`] lets it be carried out.
    #[must_use]
    pub fn crash(&self) -> Option<(u64, String)> {
        let Some(Item::Record(number, record)) = &self.next else { return None };
        self.is_crash(*number).then(|| (*number, describe(record, &self.names)))
    }

    fn is_crash(&self, number: u64) -> bool {
        let crashed = self.start.about.as_ref().and_then(|about| about.crashed);
        crashed.is_some_and(|crashed| number >= crashed)
    }

    /// Names of ports so far.
    #[must_use]
    pub fn names(&self) -> &BTreeMap<PortId, String> {
        &self.names
    }

    /// What was compared so far.
    #[must_use]
    pub fn verified(&self) -> Verified {
        self.verified
    }

    /// Nanoseconds from CLOCK_MONOTONIC to UTC, so far.
    #[must_use]
    pub fn utc_offset(&self) -> i64 {
        self.utc_offset
    }

    /// A moment as nanoseconds since 1970, UTC.
    #[must_use]
    pub fn utc(&self, time: Instant) -> u64 {
        time.0.saturating_add_signed(self.utc_offset)
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// See [`Problem`]. There is no going on behind one.
    pub fn turn(&mut self) -> Result<Turn, Problem> {
        let item = match self.next.take() {
            Some(item) => item,
            None => match self.reader.item()? {
                Some(item) => item,
                None => return Ok(Turn::Starved),
            },
        };
        match item {
            Item::Start(start) => self.begin(*start),
            Item::Record(number, record) => {
                let Some(head) = Head::read(&record) else {
                    let error = ReplayError::Unreadable { kind: None };
                    return Err(Problem::Record { number, error });
                };
                if self.is_beyond(number, &head) {
                    self.next = Some(Item::Record(number, record));
                    return Ok(Turn::Limit);
                }
                self.take(number, record, head).map(Turn::Done)
            }
            Item::End(ending) if self.switch().is_none() && ending.records > 0 => {
                Err(Problem::NoState)
            }
            Item::End(ending) => {
                self.next = Some(Item::End(ending.clone()));
                Ok(Turn::End(ending))
            }
        }
    }

    fn begin(&mut self, mut start: Start) -> Result<Turn, Problem> {
        let state = start.state.take();
        self.utc_offset = start.utc_offset;
        self.names = start.labels.iter().cloned().collect();
        self.replay = Some(match state {
            Some(bytes) => {
                let switch = Switch::restore(&bytes, self.table_seed).map_err(Problem::State)?;
                Replay::from_state(switch, start.chain)
            }
            None => Replay::from_begin(self.table_seed),
        });
        self.start = start;
        Ok(Turn::Started)
    }

    fn is_beyond(&self, number: u64, head: &Head) -> bool {
        match self.limit {
            Limit::End => self.is_crash(number),
            Limit::Utc(most) => self.utc(head.time) > most || self.is_crash(number),
            Limit::Record(most) => number > most,
        }
    }

    /// Carries a record out.
    fn take(&mut self, number: u64, record: Vec<u8>, head: Head) -> Result<Done, Problem> {
        let utc = self.utc(head.time);
        let Some(replay) = &mut self.replay else { return Err(Problem::NoState) };
        let is_first = replay.switch().is_none();
        if is_first && head.kind != Kind::Begin && !head.kind.is_comment() {
            return Err(Problem::NoState);
        }
        let walk = replay.switch().map_or(0, |switch| switch.tables().walks());
        let step = match replay.record(&record) {
            Ok(step) => step,
            Err(ReplayError::NoState) => return Err(Problem::NoState),
            Err(error) => return Err(self.differs(number, record, error)),
        };
        match &step {
            Step::Clock(offset) => self.utc_offset = *offset,
            Step::Label(port, name) => {
                self.names.insert(*port, name.clone());
            }
            Step::Verified if head.kind == Kind::Digest => self.verified.digests += 1,
            Step::Verified => self.verified.states += 1,
            Step::Done(_) | Step::Part | Step::Skipped | Step::Note(_) => {}
        }
        if !head.kind.is_comment() {
            self.verified.records += 1;
            let walk = if replay.out().walked.is_empty() { 0 } else { walk + 1 };
            self.chained = Some(Chained { number, record: record.clone(), utc, walk });
        }
        self.newest = Some((number, record));
        Ok(Done { number, head, step })
    }

    fn differs(&mut self, number: u64, record: Vec<u8>, error: ReplayError) -> Problem {
        let cause = match error {
            ReplayError::Damaged => Cause::Damaged,
            ReplayError::Diverged => Cause::Acted,
            ReplayError::State { .. } => Cause::State,
            ReplayError::Unreadable { .. } | ReplayError::NoState | ReplayError::Version { .. } => {
                return Problem::Record { number, error };
            }
        };
        // Damage is in the record itself; what was done differently was done before it.
        let culprit = if cause == Cause::Damaged {
            let utc = Head::read(&record).map_or(0, |head| self.utc(head.time));
            Some(Chained { number, record, utc, walk: 0 })
        } else {
            self.chained.take()
        };
        let what = culprit.as_ref().map_or_else(
            || "the start state".to_owned(),
            |culprit| describe(&culprit.record, &self.names),
        );
        Problem::Diverged(Box::new(Divergence {
            record: culprit.as_ref().map_or(0, |culprit| culprit.number),
            noticed: number,
            utc: culprit.as_ref().map_or(0, |culprit| culprit.utc),
            walk: culprit.as_ref().map_or(0, |culprit| culprit.walk),
            what,
            cause,
            error,
        }))
    }
}

/// What a record is, as a clause.
#[must_use]
pub fn describe(record: &[u8], names: &BTreeMap<PortId, String>) -> String {
    use stack::journal::frame::Door;
    let Some(head) = Head::read(record) else { return "no record".to_owned() };
    let Some(recorded) = Recorded::read(record, &head) else {
        return head.kind.name().to_owned();
    };
    let mut text = match recorded.door {
        Door::Port(port) => match names.get(&port) {
            Some(name) => format!("frame from {name}: "),
            None => format!("frame from port {}: ", port.0),
        },
        Door::Endpoint(endpoint) => format!("frame to endpoint {}: ", endpoint.0),
    };
    let end = recorded.bytes.len().min(stack::Frame::WINDOW);
    let window = recorded.bytes.get(..end).unwrap_or(recorded.bytes);
    // Writing into a String cannot fail.
    let _written = stack::pipeline::parse::describe(window, &mut text);
    text
}

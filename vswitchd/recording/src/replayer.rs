//! Drives a switch by a recording: every record is carried out and every digest compared, until the
//! end, a limit, or the first record where this switch is not the one that was recorded.

use std::collections::BTreeMap;
use std::fmt;

use stack::journal::frame::Recorded;
use stack::journal::{self, Chain, Head, Kind};
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
    /// The record whose turn is next: held until it is known whether the one behind it skips it.
    held: Option<(u64, Vec<u8>)>,
    /// What stands behind the held record.
    next: Option<Item>,
    /// The record carried out last.
    newest: Option<(u64, Vec<u8>)>,
    /// The last record that is in the chain, and how many walks there were before it.
    chained: Option<Chained>,
    verified: Verified,
    /// A difference whose cause is still looked for.
    suspect: Option<Suspect>,
}

/// How far to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// To the end.
    #[default]
    End,
    /// Through everything up to this moment, nanoseconds since 1970, UTC.
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
    /// No digest follows that could tell.
    Unknown,
}

#[derive(Clone, Debug)]
struct Chained {
    number: u64,
    record: Vec<u8>,
    utc: u64,
    walk: u64,
}

#[derive(Debug)]
struct Suspect {
    divergence: Divergence,
    chain: Chain,
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
        match error {
            ReplayError::Diverged { recorded, replayed } => {
                write!(f, "the chain is {replayed:08x} and was {recorded:08x}: ")?;
            }
            ReplayError::Digest { .. } => f.write_str("the digests of the chain differ: ")?,
            ReplayError::State { .. }
            | ReplayError::Unreadable { .. }
            | ReplayError::NoState
            | ReplayError::Version { .. } => write!(f, "{error}: ")?,
        }
        f.write_str(match cause {
            Cause::Damaged => "its bytes are not those that were carried out then",
            Cause::Acted => "the records are as they were, so the switch acted differently",
            Cause::State => "what left was the same, the state is another",
            Cause::Unknown => "no digest follows that tells damage from another behavior",
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
            held: None,
            next: None,
            newest: None,
            chained: None,
            verified: Verified::default(),
            suspect: None,
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

    /// What the newest record is, as a clause.
    #[must_use]
    pub fn describe(&self) -> String {
        let newest = self.newest.as_ref();
        newest.map_or_else(String::new, |(_, record)| describe(record, &self.names))
    }

    /// The number and time of the record whose turn is next, if it is there already.
    #[must_use]
    pub fn upcoming(&self) -> Option<(u64, Instant)> {
        let (number, record) = self.held.as_ref()?;
        Some((*number, Head::read(record)?.time))
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
        loop {
            if self.next.is_none() {
                match self.reader.item() {
                    Ok(Some(item)) => self.next = Some(item),
                    Ok(None) => return Ok(Turn::Starved),
                    // What stands before the damage is carried out first.
                    Err(error) if self.held.is_none() => return Err(self.gone(error)),
                    Err(_) => {}
                }
            }
            if self.suspect.is_some() {
                self.investigate()?;
                continue;
            }
            if let Some((number, record)) = self.held.take() {
                let Some(head) = Head::read(&record) else {
                    let error = ReplayError::Unreadable { kind: None };
                    return Err(Problem::Record { number, error });
                };
                if self.is_beyond(number, &head) {
                    self.held = Some((number, record));
                    return Ok(Turn::Limit);
                }
                match self.take(number, record, head)? {
                    Some(done) => return Ok(Turn::Done(done)),
                    None => continue,
                }
            }
            match self.next.take() {
                Some(Item::Start(start)) => return self.begin(*start),
                Some(Item::Record(number, record)) => self.held = Some((number, record)),
                Some(Item::End(ending)) if self.switch().is_none() && ending.records > 0 => {
                    return Err(Problem::NoState);
                }
                Some(Item::End(ending)) => {
                    self.next = Some(Item::End(ending.clone()));
                    return Ok(Turn::End(ending));
                }
                None => {}
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
            Limit::End => false,
            Limit::Utc(most) => self.utc(head.time) > most,
            Limit::Record(most) => number > most,
        }
    }

    /// Carries a record out. `None`: it showed a difference, which is looked into.
    fn take(&mut self, number: u64, record: Vec<u8>, head: Head) -> Result<Option<Done>, Problem> {
        let skipped = matches!(&self.next, Some(Item::Record(_, next))
            if Head::read(next).is_some_and(|next| next.kind == Kind::Skip));
        let utc = self.utc(head.time);
        let Some(replay) = &mut self.replay else { return Err(Problem::NoState) };
        let is_first = replay.switch().is_none();
        if is_first && head.kind != Kind::Begin && !head.kind.is_comment() {
            return Err(Problem::NoState);
        }
        let walk = replay.switch().map_or(0, |switch| switch.tables().walks());
        let step = match replay.record(&record, skipped) {
            Ok(step) => step,
            Err(ReplayError::NoState) => return Err(Problem::NoState),
            Err(error) => return self.differs(number, record, error).map(|()| None),
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
        let in_chain = step != Step::Skipped && !head.kind.is_comment();
        if in_chain {
            self.verified.records += u64::from(!is_first);
            let walk = if replay.out().walked.is_empty() { 0 } else { walk + 1 };
            self.chained = Some(Chained { number, record: record.clone(), utc, walk });
        }
        self.newest = Some((number, record));
        Ok(Some(Done { number, head, step }))
    }

    fn differs(&mut self, number: u64, record: Vec<u8>, error: ReplayError) -> Result<(), Problem> {
        let cause = match error {
            ReplayError::Diverged { .. } => Cause::Unknown,
            ReplayError::Digest { damaged: true } => Cause::Damaged,
            ReplayError::Digest { damaged: false } => Cause::Acted,
            ReplayError::State { .. } => Cause::State,
            ReplayError::Unreadable { .. } | ReplayError::NoState | ReplayError::Version { .. } => {
                return Err(Problem::Record { number, error });
            }
        };
        let before = self.chained.take();
        let what = before.as_ref().map_or_else(
            || "the start state".to_owned(),
            |chained| describe(&chained.record, &self.names),
        );
        let divergence = Divergence {
            record: before.as_ref().map_or(0, |chained| chained.number),
            noticed: number,
            utc: before.as_ref().map_or(0, |chained| chained.utc),
            walk: before.as_ref().map_or(0, |chained| chained.walk),
            what,
            cause,
            error,
        };
        if cause != Cause::Unknown {
            return Err(Problem::Diverged(Box::new(divergence)));
        }
        self.suspect = Some(Suspect { divergence, chain: self.chain() });
        self.held = Some((number, record));
        Ok(())
    }

    /// Follows the records without a switch up to the next digest: its half over the records alone
    /// tells whether they are those of then.
    fn investigate(&mut self) -> Result<(), Problem> {
        let Some(suspect) = &mut self.suspect else { return Ok(()) };
        let ends = !matches!(self.next, Some(Item::Record(..)));
        if let Some((_, record)) = self.held.take()
            && let Some(head) = Head::read(&record)
        {
            let next = match &self.next {
                Some(Item::Record(_, next)) => Head::read(next),
                _ => None,
            };
            let skipped = next.is_some_and(|next| next.kind == Kind::Skip);
            if head.kind == Kind::Digest
                && let Some([inputs, ..]) =
                    journal::body_words(journal::body(&record, &head)).as_deref()
            {
                let equal = *inputs == suspect.chain.inputs();
                let cause = if equal { Cause::Acted } else { Cause::Damaged };
                return Err(suspect.told(cause));
            }
            if !skipped && !head.kind.is_comment() {
                suspect.chain.record(&record);
            }
        }
        if ends {
            return Err(suspect.told(Cause::Unknown));
        }
        if let Some(Item::Record(number, record)) = self.next.take() {
            self.held = Some((number, record));
        }
        Ok(())
    }

    /// The file cannot be read on.
    fn gone(&mut self, error: ReadError) -> Problem {
        match &mut self.suspect {
            Some(suspect) => suspect.told(Cause::Unknown),
            None => Problem::Read(error),
        }
    }
}

impl Suspect {
    fn told(&mut self, cause: Cause) -> Problem {
        self.divergence.cause = cause;
        Problem::Diverged(Box::new(self.divergence.clone()))
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

//! Opens a journal: the state that the last worker left, or an empty one and why.
//!
//! The newest whole snapshot is restored and the records behind it are replayed, with what they
//! lead to thrown away: it left then. What the switch comes to is compared with the chain at every
//! record, and with the one beside the ring's head at the end, so a journal that was damaged, or
//! that another switch wrote, never becomes a state.
//!
//! **A record that a worker died on** is the one that is published and not carried out. It is
//! replayed once as any other. If the replay dies on it as well it is set aside: it becomes the end
//! of a recording ([`quarantine`]), in the ring it is marked as not done, and the worker goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant as Clock};

use stack::journal::{Chain, NOT_DONE};
use stack::replay::Step;
use stack::{Instant, PortId, Replay, Switch};

use super::areas::{self, Found};
use super::layout::{Header, Identity};
use super::map::Map;
use super::past::Past;
use super::quarantine::{self, QuarantineError};
use super::reader::{ReadError, Reader, reaches};
use super::{Options, poison};

/// A state that was found.
#[derive(Debug)]
pub struct State {
    /// The ring, to be gone on with.
    pub map: Arc<Map>,
    /// The switch at the ring's head.
    pub switch: Switch,
    /// Names of ports.
    pub labels: BTreeMap<PortId, String>,
    /// How it was reached.
    pub how: Recovered,
    /// A record that was set aside, as a file.
    pub set_aside: Option<PathBuf>,
}

/// How a state was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The snapshot restored; `None` when the journal was replayed from its begin.
    pub snapshot: Option<u64>,
    /// Records replayed.
    pub records: u64,
    /// The ring's head.
    pub position: u64,
    /// Digest of the state there.
    pub digest: u64,
    /// The chain there.
    pub chain: Chain,
    /// How long the restore took.
    pub restore: Duration,
    /// How long the replay took.
    pub replay: Duration,
}

/// Why there is no state to go on from. The text ends a sentence that begins with "the journal".
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// None there.
    #[error("is not there")]
    Missing,
    /// No file of ours.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// Before a reboot.
    #[error("is of an earlier boot")]
    Boot,
    /// Another build's.
    #[error("was written by another version")]
    Version,
    /// No start.
    #[error("has no whole snapshot for the records that are left")]
    NoStart,
    /// Bytes that are no record.
    #[error("cannot be read on: {0}")]
    Read(#[from] ReadError),
    /// Bytes that are another record, or a switch that acts differently.
    #[error("does not lead to the state it was recorded from, at position {position}: {why}")]
    Replay {
        /// Where.
        position: u64,
        /// What differs.
        why: stack::replay::ReplayError,
    },
    /// The end.
    #[error("does not end with the record that was written last")]
    End,
    /// A replay that dies on what went well before.
    #[error("crashed the recovery twice at position {position}")]
    Crashes {
        /// Where.
        position: u64,
    },
    /// Too many records set aside.
    #[error("had three records that crashed the switch within a minute (hopctl get recordings)")]
    Poisoned,
    /// What crashed cannot be kept.
    #[error("has a record that crashed the switch, and it cannot be set aside: {0}")]
    SetAside(QuarantineError),
}

/// Reads what a dead worker left.
///
/// # Errors
/// Why it cannot be gone on with.
pub fn recover(
    options: &Options,
    identity: &Identity,
    now: Instant,
    table_seed: u64,
) -> Result<State, Unusable> {
    let map = open(options, identity)?;
    let dead = post_mortem(map.header())?;
    let set_aside = match dead {
        Some(position) => Some(set_aside(&options.directory, &map, position, now)?),
        None => None,
    };
    let mut state = replay(map, &options.directory, table_seed, Purpose::Recover)?;
    state.set_aside = set_aside;
    let header = state.map.header();
    header.crash_at.store(0, Ordering::Relaxed);
    header.crashes.store(0, Ordering::Relaxed);
    header.replaying.store(0, Ordering::Release);
    Ok(state)
}

/// Maps the ring of this boot and build.
pub(super) fn open(options: &Options, identity: &Identity) -> Result<Arc<Map>, Unusable> {
    let path = options.directory.join(super::FILE);
    let map = match Map::open(&path, true) {
        Ok(map) => Arc::new(map),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Unusable::Missing);
        }
        Err(error) => return Err(error.into()),
    };
    let theirs = map.header().identity();
    if theirs.boot != identity.boot {
        return Err(Unusable::Boot);
    }
    if theirs != *identity {
        return Err(Unusable::Version);
    }
    Ok(map)
}

/// What the last worker died on, if it is to be set aside: where its record begins.
fn post_mortem(header: &Header) -> Result<Option<u64>, Unusable> {
    let get = |word: &std::sync::atomic::AtomicU64| word.load(Ordering::Acquire);
    let (head, done) = (get(&header.head), get(&header.done));
    let replaying = get(&header.replaying).checked_sub(1);
    header.replaying.store(0, Ordering::Relaxed);
    // All that was not carried out is one input, if in several records.
    let live = (done < head).then_some(done);
    let Some(at) = replaying.map(|at| at.min(done)).or(live) else { return Ok(None) };
    let known = get(&header.crash_at) == at.saturating_add(1);
    let crashes = match (known, replaying) {
        (false, _) => 1,
        (true, None) => get(&header.crashes),
        (true, Some(_)) => get(&header.crashes).saturating_add(1),
    };
    header.crash_at.store(at.saturating_add(1), Ordering::Relaxed);
    header.crashes.store(crashes, Ordering::Release);
    if crashes < CRASHES_MAX {
        return Ok(None);
    }
    if live == Some(at) { Ok(live) } else { Err(Unusable::Crashes { position: at }) }
}

/// Keeps the records behind `position` with what led to them, and marks the last of them as not
/// done: an input in several records is carried out by the last.
fn set_aside(
    directory: &Path,
    map: &Arc<Map>,
    position: u64,
    now: Instant,
) -> Result<PathBuf, Unusable> {
    let past = Past::new(Arc::clone(map), directory);
    let path = quarantine::keep(&past, directory, position).map_err(Unusable::SetAside)?;
    let mut reader = Reader::new(Arc::clone(map), position);
    let mut last = None;
    while reader.advance()? {
        last = Some(reader.position());
    }
    let (geometry, bodies) = (map.geometry(), map.bodies());
    if let (Some(at), Some(mut bodies)) = (last, bodies)
        && bodies.turn_to(geometry.place(geometry.number(at)))
        && let Some(kind) = bodies.rest(geometry.offset(at)).get_mut(KIND)
    {
        *kind |= NOT_DONE;
    }
    let header = map.header();
    let [first, second, third] = &header.quarantined;
    first.store(second.load(Ordering::Relaxed), Ordering::Relaxed);
    second.store(third.load(Ordering::Relaxed), Ordering::Relaxed);
    third.store(now.0, Ordering::Relaxed);
    let oldest = first.load(Ordering::Relaxed);
    let often = oldest != 0 && now.0.saturating_sub(oldest) < MINUTE;
    if often { Err(Unusable::Poisoned) } else { Ok(path) }
}

/// What a replay of a ring is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To go on: the header says how far it is.
    Recover,
    /// To compare: the ring is not touched.
    Compare,
}

/// Replays a ring from the newest snapshot that can be restored, or from its begin.
///
/// # Errors
/// Why it cannot be done.
pub fn replay(
    map: Arc<Map>,
    directory: &Path,
    table_seed: u64,
    purpose: Purpose,
) -> Result<State, Unusable> {
    Course::newest(map, directory, table_seed, purpose)?.replayed_whole()
}

/// Replays a ring from its begin, if that is still there.
///
/// # Errors
/// Why it cannot be done.
pub fn replay_from_begin(
    map: Arc<Map>,
    table_seed: u64,
    purpose: Purpose,
) -> Result<State, Unusable> {
    Course::from_begin(map, table_seed, purpose)?.replayed_whole()
}

/// A ring being replayed.
#[derive(Debug)]
pub(super) struct Course {
    map: Arc<Map>,
    reader: Reader,
    replay: Replay,
    labels: BTreeMap<PortId, String>,
    purpose: Purpose,
    snapshot: Option<u64>,
    /// Where the newest record ended: that is how the place of a crash is counted.
    behind: u64,
    restore: Duration,
    /// How long the records took.
    took: Duration,
}

impl Course {
    /// From the newest snapshot that can be restored, or from the begin.
    pub(super) fn newest(
        map: Arc<Map>,
        directory: &Path,
        table_seed: u64,
        purpose: Purpose,
    ) -> Result<Self, Unusable> {
        let head = map.header().head.load(Ordering::Acquire);
        let usable =
            |found: &Found| found.origin.position <= head && reaches(&map, found.origin.position);
        for found in areas::find(directory).into_iter().filter(usable) {
            let begun = Clock::now();
            let Some(area) = found.read() else { continue };
            let Ok(switch) = Switch::restore(&area.state, table_seed) else { continue };
            let restore = begun.elapsed();
            let replay = Replay::from_state(switch, area.origin.chain);
            let labels = area.labels.into_iter().collect();
            let course = Self::new(map, area.origin.position, replay, purpose);
            let snapshot = Some(area.origin.number);
            return Ok(Self { labels, snapshot, restore, ..course });
        }
        Self::from_begin(map, table_seed, purpose)
    }

    /// From the begin, if that is still there.
    fn from_begin(map: Arc<Map>, table_seed: u64, purpose: Purpose) -> Result<Self, Unusable> {
        if !reaches(&map, 0) {
            return Err(Unusable::NoStart);
        }
        Ok(Self::new(map, 0, Replay::from_begin(table_seed), purpose))
    }

    fn new(map: Arc<Map>, position: u64, mut replay: Replay, purpose: Purpose) -> Self {
        // The state at a mark takes a walk over all tables; the chain says enough.
        replay.compare_no_states();
        Self {
            reader: Reader::new(Arc::clone(&map), position),
            map,
            replay,
            labels: BTreeMap::new(),
            purpose,
            snapshot: None,
            behind: position,
            restore: Duration::ZERO,
            took: Duration::ZERO,
        }
    }

    /// Where the newest record ended.
    pub(super) fn behind(&self) -> u64 {
        self.behind
    }

    /// The ring.
    pub(super) fn map(&self) -> &Arc<Map> {
        &self.map
    }

    /// The switch, once there is one.
    pub(super) fn switch(&self) -> Option<&Switch> {
        self.replay.switch()
    }

    fn replayed_whole(mut self) -> Result<State, Unusable> {
        let head = self.reader.head();
        self.go_on(head, usize::MAX)?;
        let (snapshot, restore, replay) = (self.snapshot, self.restore, self.took);
        let End { map, switch, labels, chain, records } = self.finish(head)?;
        let (position, digest) = (head, switch.digest());
        let how = Recovered { snapshot, records, position, digest, chain, restore, replay };
        Ok(State { map, switch, labels, how, set_aside: None })
    }

    /// Replays up to a position, and `most` records at most. True when it is there.
    pub(super) fn go_on(&mut self, to: u64, most: usize) -> Result<bool, Unusable> {
        let begun = Clock::now();
        let there = self.advance(to, most);
        self.took += begun.elapsed();
        there
    }

    fn advance(&mut self, to: u64, most: usize) -> Result<bool, Unusable> {
        for _ in 0..most {
            if self.behind >= to {
                return Ok(true);
            }
            if self.purpose == Purpose::Recover {
                let replaying = &self.map.header().replaying;
                replaying.store(self.behind.saturating_add(1), Ordering::Release);
            }
            if !self.reader.advance()? {
                return Ok(true);
            }
            let record = self.reader.record();
            let done = record.get(KIND).is_none_or(|kind| kind & NOT_DONE == 0);
            if done {
                poison::taste(record);
            }
            let step = self.replay.record(record);
            match step.map_err(|why| Unusable::Replay { position: self.behind, why })? {
                Step::Label(port, name) => {
                    self.labels.insert(port, name);
                }
                Step::Done(_)
                | Step::Part
                | Step::Skipped
                | Step::Verified
                | Step::Clock(_)
                | Step::Note(_) => {}
            }
            self.behind = self.reader.behind();
        }
        Ok(self.behind >= to)
    }

    /// The chain is the one that the worker left, or there is no state.
    pub(super) fn finish(self, head: u64) -> Result<End, Unusable> {
        let Self { map, replay, labels, purpose, .. } = self;
        let header = map.header();
        if purpose == Purpose::Recover {
            header.replaying.store(0, Ordering::Release);
        }
        let records = replay.records();
        let (switch, chain) = replay.into_parts();
        let switch = switch.ok_or(Unusable::NoStart)?;
        let carried_out = header.done.load(Ordering::Acquire) == head;
        let mut slots = header.slots.iter();
        let slot = slots.find(|slot| slot.position.load(Ordering::Acquire) == head);
        let same = slot.is_some_and(|slot| {
            slot.inputs.load(Ordering::Relaxed) == chain.inputs()
                && (!carried_out || slot.outcomes.load(Ordering::Relaxed) == chain.outcomes())
        });
        if same { Ok(End { map, switch, labels, chain, records }) } else { Err(Unusable::End) }
    }
}

/// Where a replay came to: the ring's end.
pub(super) struct End {
    pub(super) map: Arc<Map>,
    pub(super) switch: Switch,
    pub(super) labels: BTreeMap<PortId, String>,
    pub(super) chain: Chain,
    /// Records replayed.
    pub(super) records: u64,
}

/// Where a record's kind stands.
const KIND: usize = 4;
/// So often may a record crash a worker.
const CRASHES_MAX: u64 = 2;
/// In nanoseconds.
const MINUTE: u64 = 60_000_000_000;

#[cfg(test)]
mod tests;

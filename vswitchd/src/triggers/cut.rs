//! The seconds around an event, out of an excerpt that may begin much earlier: it begins at a
//! snapshot, and a quiet node takes one seldom.
//!
//! What lies before the moment is replayed and a state is taken there. The chain goes on, so what
//! is left is verified as the whole would be.

use std::collections::BTreeMap;

use recording::Excerpt;
use stack::journal::{Head, Kind, records, stride};
use stack::replay::{ReplayError, Step};
use stack::table::RestoreError;
use stack::{Instant, PortId, Replay, Switch};

/// Why an excerpt cannot be cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// Its state.
    #[error("the state it begins with cannot be restored: {0}")]
    State(RestoreError),
    /// A record.
    #[error("a record before that moment does not replay: {0}")]
    Record(ReplayError),
}

/// The excerpt from one moment up to another, both included.
///
/// # Errors
/// See [`CutError`].
pub fn cut(mut excerpt: Excerpt, since: Instant, until: Instant) -> Result<Excerpt, CutError> {
    let begin = position(&excerpt.records, |time| time >= since);
    let end = position(&excerpt.records, |time| time > until).max(begin);
    // A journal is large: nothing of it is copied.
    excerpt.records.truncate(end);
    let before = excerpt.records.get(..begin).unwrap_or(&[]);
    if before.is_empty() {
        return Ok(excerpt);
    }
    let mut replay = match &excerpt.state {
        Some(state) => {
            Replay::from_state(Switch::restore(state, 0).map_err(CutError::State)?, excerpt.chain)
        }
        None => Replay::from_begin(0),
    };
    // The chain says enough of what was recorded by this very program.
    replay.compare_no_states();
    let mut utc_offset = excerpt.utc_offset;
    let mut labels: BTreeMap<PortId, String> = excerpt.labels.iter().cloned().collect();
    for record in records(before).map_while(Result::ok) {
        match replay.record(record).map_err(CutError::Record)? {
            Step::Clock(offset) => utc_offset = offset,
            Step::Label(port, name) => {
                labels.insert(port, name);
            }
            Step::Done(_) | Step::Part | Step::Skipped | Step::Verified | Step::Note(_) => {}
        }
    }
    let (switch, chain) = replay.into_parts();
    let Some(mut switch) = switch else { return Err(CutError::Record(ReplayError::NoState)) };
    let known = |port: &PortId| switch.tables().ports().slot(*port).is_some();
    labels.retain(|port, _| known(port));
    excerpt.records.drain(..begin);
    Ok(Excerpt {
        state: Some(switch.snapshot()),
        chain,
        utc_offset,
        labels: labels.into_iter().collect(),
        records: excerpt.records,
    })
}

/// Where the first record begins whose time is one of those; the end if there is none.
fn position(bytes: &[u8], is_one: impl Fn(Instant) -> bool) -> usize {
    let mut at = 0;
    for record in records(bytes).map_while(Result::ok) {
        match Head::read(record) {
            Some(head) if is_one(head.time) => return at,
            Some(head) => at += stride(head.len),
            None => break,
        }
    }
    at
}

/// Frames in an excerpt.
#[must_use]
pub fn frames(excerpt: &Excerpt) -> u64 {
    let heads = records(&excerpt.records).map_while(Result::ok).filter_map(Head::read);
    u64::try_from(heads.filter(|head| head.kind == Kind::Frame).count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use recording::{Header, Limit, Replayer, Turn};

    use super::*;
    use crate::capture::world::World;

    /// Replays a file to its end: the digest of the state there, and the walks.
    fn replayed(excerpt: &Excerpt) -> (u64, u64) {
        let mut file = Vec::new();
        recording::write(excerpt, &Header::default(), &mut file);
        let mut replayer = Replayer::new(7);
        replayer.limit(Limit::End);
        replayer.push(&file);
        replayer.finish();
        loop {
            match replayer.turn().unwrap() {
                Turn::End(_) => break,
                Turn::Starved | Turn::Limit => panic!("all is there"),
                Turn::Started | Turn::Done(_) => {}
            }
        }
        let switch = replayer.switch().unwrap();
        (switch.digest(), switch.tables().walks())
    }

    #[test]
    fn a_part_replays_to_the_same_state() {
        let mut world = World::new();
        world.traffic();
        let whole = world.excerpt();
        let times: Vec<Instant> = records(&whole.records)
            .map(|record| Head::read(record.unwrap()).unwrap().time)
            .collect();
        let last = *times.last().unwrap();
        for at in [0, 1, times.len() / 2, times.len() - 1] {
            let part = cut(whole.clone(), times[at], last).unwrap();
            assert_eq!(replayed(&part), replayed(&whole), "from {at}");
            assert_eq!(records(&part.records).count(), times.len() - at);
            assert_eq!(part.labels, whole.labels);
        }
        let middle = times.len() / 2;
        let part = cut(whole.clone(), times[2], times[middle]).unwrap();
        assert_eq!(frames(&part), (middle - 1) as u64);
        let first_half = cut(whole.clone(), Instant(0), times[middle]).unwrap();
        assert_eq!(replayed(&part), replayed(&first_half));
        // Behind all of it nothing is left but the state.
        let nothing = cut(whole.clone(), Instant(last.0 + 1), Instant(u64::MAX)).unwrap();
        assert_eq!((replayed(&nothing), frames(&nothing)), (replayed(&whole), 0));
    }
}

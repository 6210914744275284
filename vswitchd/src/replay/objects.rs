//! What came of a replay, as an object.

use std::collections::BTreeMap;

use recording::{Cause, Divergence};
use serde::Serialize;

use super::{Ended, Stop};
use crate::admin::objects::Kind;
use crate::utc::rfc3339;

/// `hopctl replay -o json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    /// The recording's id, hexadecimal.
    pub recording: String,
    /// Who made it.
    pub build: String,
    /// Whether its payload was zeroed.
    pub redacted: bool,
    /// Why a daemon took it by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken: Option<Taken>,
    /// Whether this switch did what was recorded.
    pub equal: bool,
    /// `end`, `cut`, `until`, `break`, `crash` or `diverged`.
    pub stopped: &'static str,
    /// Records carried out, by kind.
    pub records: BTreeMap<&'static str, u64>,
    /// When the first record was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// When the last record was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Walks.
    pub walks: u64,
    /// Walks by verdict.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Frames that left.
    pub sent: u64,
    /// Drops by reason.
    pub drops: Vec<Dropped>,
    /// What was compared and found equal.
    pub verified: Verified,
    /// Digest of the state where it stopped, hexadecimal.
    pub digest: String,
    /// Further recordings in the file, which were passed over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// Packets in the file that are no recording's.
    pub foreign: u64,
    /// What the breakpoint stopped at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hit: Option<Hit>,
    /// What had crashed the switch: the replay stopped before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash: Option<Crash>,
    /// The first difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<Difference>,
}

impl Kind for Replay {
    const KIND: &'static str = "Replay";
}

/// Why a daemon took a recording by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// The rule that asked for it.
    pub rule: String,
    /// What happened.
    pub event: String,
    /// When.
    pub time: String,
}

/// A record that had crashed the switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Crash {
    /// The record.
    pub record: u64,
    /// What it is.
    pub what: String,
}

/// Frames dropped for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// The reason's name.
    pub reason: &'static str,
    /// Its stable number.
    pub code: u16,
    /// Frames.
    pub count: u64,
    /// What happened.
    pub text: &'static str,
}

/// What was compared and found equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// Records, each by the chain before it.
    pub records: u64,
    /// Whole digests of the chain.
    pub digests: u64,
    /// Digests of the state.
    pub states: u64,
}

/// What a breakpoint stopped at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hit {
    /// The record.
    pub record: u64,
    /// When.
    pub time: String,
    /// What it is.
    pub what: String,
    /// The walk, 0 for none.
    pub walk: u64,
    /// The walk's hops.
    pub hops: Vec<String>,
}

/// The first difference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The record that was carried out differently, or is another than it was.
    pub record: u64,
    /// The record at which it showed.
    pub noticed: u64,
    /// When the record was.
    pub time: String,
    /// The first walk it led to here, 0 for none.
    pub walk: u64,
    /// What the record is.
    pub what: String,
    /// `damaged`, `acted`, `state` or `unknown`.
    pub cause: &'static str,
    /// A sentence.
    pub message: String,
    /// Lines of the state dump that the record changed here.
    pub changed: Vec<String>,
}

impl Replay {
    /// Of a replay that ended. `changed`: what the diverging record changed here.
    #[must_use]
    pub fn new(ended: &Ended, changed: Vec<String>) -> Self {
        let (start, summary) = (ended.replayer.start(), &ended.summary);
        let verified = ended.replayer.verified();
        let (first, last) = summary.times.map(|(a, b)| (rfc3339(a), rfc3339(b))).unzip();
        let mut replay = Self {
            recording: start.id.to_string(),
            build: start.build.clone(),
            redacted: start.redacted,
            taken: start.about.as_ref().map(|about| Taken {
                rule: about.rule.clone(),
                event: about.event.clone(),
                time: rfc3339(about.at),
            }),
            equal: ended.stop.is_ok(),
            records: summary.records.clone(),
            first,
            last,
            walks: summary.walks,
            verdicts: summary.verdicts.clone(),
            sent: summary.sent,
            verified: Verified {
                records: verified.records,
                digests: verified.digests,
                states: verified.states,
            },
            digest: format!("{:016x}", ended.replayer.switch().map_or(0, stack::Switch::digest)),
            ..Self::default()
        };
        for (reason, count) in summary.drops.values() {
            let (name, code, text) = (reason.name(), reason.code(), reason.text());
            replay.drops.push(Dropped { reason: name, code, count: *count, text });
        }
        replay.drops.sort_by(|a, b| (b.count, a.code).cmp(&(a.count, b.code)));
        match &ended.stop {
            Ok(Stop::End(ending)) => {
                replay.stopped = if ending.cut { "cut" } else { "end" };
                replay.others = ending.others.iter().map(ToString::to_string).collect();
                replay.foreign = ending.foreign;
            }
            Ok(Stop::Until | Stop::Enough) => replay.stopped = "until",
            Ok(Stop::Crash { record, what }) => {
                replay.stopped = "crash";
                replay.crash = Some(Crash { record: *record, what: what.clone() });
            }
            Ok(Stop::Break(hit)) => {
                replay.stopped = "break";
                replay.hit = Some(Hit {
                    record: hit.record,
                    time: rfc3339(hit.utc),
                    what: hit.what.clone(),
                    walk: hit.walk,
                    hops: hit.hops.clone(),
                });
            }
            Err(divergence) => {
                replay.stopped = "diverged";
                replay.divergence = Some(difference(divergence, changed));
            }
        }
        replay
    }
}

fn difference(divergence: &Divergence, changed: Vec<String>) -> Difference {
    Difference {
        record: divergence.record,
        noticed: divergence.noticed,
        time: rfc3339(divergence.utc),
        walk: divergence.walk,
        what: divergence.what.clone(),
        cause: match divergence.cause {
            Cause::Damaged => "damaged",
            Cause::Acted => "acted",
            Cause::State => "state",
        },
        message: divergence.to_string(),
        changed,
    }
}

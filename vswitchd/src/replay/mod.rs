//! Runs a recording again: to its end, to a moment or to a breakpoint; shows every hop on the way.
//!
//! - [`recording`] reads the file and drives the switch; [`show`] makes a capture of the walks.
//! - [`explain`]: why a walk ended as it did, and which walks were dropped.
//! - [`connection`]: a connection from its first packet to its end.
//! - [`objects`]: what came of it; [`time`]: moments as people write them.
//! - [`whatif`]: beside a switch of other Services, connection by connection.
//! - [`with`]: captures that are no recordings, through a configuration made of manifests.

use std::io::{self, Read};
use std::sync::Arc;

use arc_swap::ArcSwap;
use recording::breakpoint::{Breakpoint, Moment};
use recording::summary::Summary;
use recording::{Cause, Divergence, Done, Ending, Limit, Problem, Replayer, Turn};
use stack::Switch;
use stack::table::service::Services;

use crate::admin::snapshot::Snapshot;
use crate::directory::{Directory, Label, Named};

pub mod connection;
pub mod explain;
pub mod objects;
pub mod show;
pub mod time;
pub mod whatif;
pub mod with;

use time::Until;

/// Bytes read at once.
const CHUNK: usize = 1 << 18;
/// Lines of a difference that are told.
const LINES_MAX: usize = 20;

/// How far to go.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Through everything up to this moment.
    pub until: Option<Until>,
    /// Up to the first record for which this holds, that one included.
    pub breakpoint: Option<Breakpoint>,
}

/// Where a replay stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At the end of the file.
    End(Ending),
    /// At the moment asked for.
    Until,
    /// Behind the record that the breakpoint holds for.
    Break(Hit),
    /// Where whoever looks on had all that was wanted.
    Enough,
    /// Before the record that had crashed the switch.
    Crash {
        /// Its number.
        record: u64,
        /// What it is.
        what: String,
    },
}

/// What a breakpoint stopped at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hit {
    /// The record.
    pub record: u64,
    /// When, in nanoseconds since 1970, UTC.
    pub utc: u64,
    /// What the record is.
    pub what: String,
    /// The walk's number, 0 if there was none.
    pub walk: u64,
    /// Its hops, a line each.
    pub hops: Vec<String>,
}

/// Who looks on.
pub trait Watch {
    /// Takes in what ports are called at the start.
    fn named(&mut self, replayer: &Replayer);

    /// Takes in what the newest record led to. False when no more is wanted.
    ///
    /// # Errors
    /// Those of what is written.
    fn take(&mut self, replayer: &Replayer, done: &Done) -> io::Result<bool>;

    /// It ended.
    ///
    /// # Errors
    /// Those of what is written.
    fn end(&mut self) -> io::Result<()>;
}

/// Why there is no result.
#[derive(Debug)]
pub enum Failure {
    /// The file cannot be read.
    Input(io::Error),
    /// The capture cannot be written.
    Output(io::Error),
    /// It is no recording, is damaged, or was made by another build.
    Problem(Problem),
    /// The moment asked for cannot be.
    Until(String),
}

/// A replay that ended.
#[derive(Debug)]
pub struct Ended {
    /// The switch and all that is known of the file.
    pub replayer: Replayer,
    /// What was seen.
    pub summary: Summary,
    /// Where it stopped.
    pub stop: Result<Stop, Box<Divergence>>,
}

impl Ended {
    /// Names of ports at the end.
    #[must_use]
    pub fn directory(&self) -> Directory {
        directory(&self.replayer)
    }

    /// The state at the end, as the lists want it. What drivers count is in no recording.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let switch = self.replayer.switch()?;
        let utc_offset = self.replayer.utc_offset();
        Some(Snapshot {
            config: switch.config(),
            counters: switch.counters(),
            drivers: std::collections::BTreeMap::new(),
            gone: crate::event_loop::DriverCounters::default(),
            digest: switch.digest(),
            utc_offset,
            utc: self.replayer.utc(switch.tables().now()),
        })
    }
}

/// Replays a file. `progress` is told the bytes and records so far, now and then.
///
/// # Errors
/// See [`Failure`]. A divergence is no error: it is how the replay ended.
pub fn run(
    file: &mut dyn Read,
    options: &Options,
    mut watch: Option<&mut dyn Watch>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Ended, Failure> {
    let mut replayer = Replayer::new(0);
    // Nothing is carried out before it is known what the limit means in this recording.
    replayer.limit(Limit::Record(0));
    let mut limited = false;
    let (mut summary, mut bytes, mut chunk) = (Summary::default(), 0, vec![0; CHUNK]);
    let mut hit = None;
    let stop = loop {
        if let Some(hit) = hit.take() {
            break Ok(Stop::Break(hit));
        }
        match replayer.turn() {
            Ok(Turn::Starved) => {
                let count = file.read(&mut chunk).map_err(Failure::Input)?;
                match chunk.get(..count) {
                    Some([]) | None => replayer.finish(),
                    Some(read) => replayer.push(read),
                }
                bytes += count as u64;
                progress(bytes, summary.all_records());
            }
            Ok(Turn::Started) => {
                if let Some(watch) = watch.as_deref_mut() {
                    watch.named(&replayer);
                }
            }
            Ok(Turn::Limit) if limited => {
                break Ok(match replayer.crash() {
                    Some((record, what)) if !beyond(options, record) => {
                        Stop::Crash { record, what }
                    }
                    Some(_) | None => Stop::Until,
                });
            }
            Ok(Turn::Limit) => {
                limited = true;
                replayer.limit(limit(options, &replayer).map_err(Failure::Until)?);
            }
            Ok(Turn::Done(done)) => {
                hit = seen(&replayer, &done, options, &mut summary);
                if let Some(watch) = watch.as_deref_mut()
                    && !watch.take(&replayer, &done).map_err(Failure::Output)?
                    && hit.is_none()
                {
                    break Ok(Stop::Enough);
                }
            }
            Ok(Turn::End(ending)) => break Ok(Stop::End(ending)),
            Err(Problem::Diverged(divergence)) => break Err(divergence),
            Err(problem) => return Err(Failure::Problem(problem)),
        }
    };
    if let Some(watch) = watch {
        watch.end().map_err(Failure::Output)?;
    }
    Ok(Ended { replayer, summary, stop })
}

/// Whether more than that record was left out because it was asked for.
fn beyond(options: &Options, record: u64) -> bool {
    matches!(options.until, Some(Until::Record(most)) if most < record)
}

fn limit(options: &Options, replayer: &Replayer) -> Result<Limit, String> {
    let Some(until) = options.until else { return Ok(Limit::End) };
    let first = replayer.upcoming().map_or(0, |(_, time)| replayer.utc(time));
    until.limit(first)
}

/// Counts what a record led to; what the breakpoint says of it.
fn seen(replayer: &Replayer, done: &Done, options: &Options, summary: &mut Summary) -> Option<Hit> {
    let out = replayer.out()?;
    let utc = replayer.utc(done.head.time);
    summary.take(done, utc, out);
    let breakpoint = options.breakpoint.as_ref()?;
    let frame = replayer.frame();
    let moment = Moment { record: done.number, frame, out, names: replayer.names() };
    let trace = breakpoint.hit(&moment)?;
    let mut hit = Hit { record: done.number, utc, what: replayer.describe(), ..Hit::default() };
    if let Some(trace) = trace {
        hit.walk = trace.number;
        let ports = directory(replayer);
        let names = Named { ports: &ports, services: services(replayer) };
        let frame = show::put_in(replayer);
        show::each(replayer, frame.as_ref(), |walk| {
            if walk.trace.number == trace.number {
                hit.hops = lines(walk.trace, walk.received.head, &names);
            }
        });
    }
    Some(hit)
}

/// The hops of a walk as lines.
fn lines(trace: &stack::Trace, window: &[u8], names: &Named<'_>) -> Vec<String> {
    let line = |hop| {
        let mut line = String::new();
        // Writing into a String cannot fail.
        let written = trace.line(hop, window, names, &mut line);
        debug_assert!(written.is_ok(), "a String takes any text");
        line
    };
    (0..trace.hops().len()).map(line).collect()
}

/// What a divergence's record changed in the state here: replayed once more, up to it and behind
/// it. Nothing if the file cannot be had a second time.
pub fn changed_by(
    open: &dyn Fn() -> io::Result<Box<dyn Read>>,
    divergence: &Divergence,
) -> Vec<String> {
    let dump = |record: u64| {
        let mut file = open().ok()?;
        let options = Options { until: Some(Until::Record(record)), breakpoint: None };
        let ended = run(&mut *file, &options, None, &mut |_, _| {}).ok()?;
        ended.replayer.switch().map(Switch::dump)
    };
    // Damage is not carried out.
    if divergence.cause == Cause::Damaged {
        return Vec::new();
    }
    match (dump(divergence.record.saturating_sub(1)), dump(divergence.record)) {
        (Some(before), Some(after)) => recording::difference::lines(&before, &after, LINES_MAX),
        _ => Vec::new(),
    }
}

/// The directory that a recording's labels are, and the Services of that moment.
#[must_use]
pub fn directory(replayer: &Replayer) -> Directory {
    let labels = replayer.names().iter();
    let ports = labels.filter_map(|(port, name)| Some((*port, Label::read(name)?))).collect();
    let services = replayer.switch().map_or_else(Vec::new, |switch| switch.config().services);
    Directory { ports, ..Directory::default() }.with_services(&services)
}

/// The Services at that moment.
fn services(replayer: &Replayer) -> Option<&Services> {
    Some(replayer.switch()?.tables().services())
}

/// A directory that can be replaced while others look.
#[must_use]
pub fn shared() -> crate::directory::Shared {
    Arc::new(ArcSwap::from_pointee(Directory::default()))
}

#[cfg(test)]
mod tests;

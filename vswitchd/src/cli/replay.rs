//! `hopctl replay`.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::Path;

use recording::{Header, Id};
use serde_json::Value;

use super::args::{Get, Replay as Args, Then, What};
use super::output::{Output, Rows, Tone, printable};
use super::progress::Progress;
use super::{Answer, Failure, Outcome, capture, get, whatif};
use crate::admin::objects::{List, Object};
use crate::admin::reply::Failure as Refused;
use crate::admin::{connections, services};
use crate::capture::{Options as Captured, Points, Selection};
use crate::kube::place::Known;
use crate::kube::{manifests, objects as kube};
use crate::replay::objects::{Crash, Replay};
use crate::replay::show::{Part, Show};
use crate::replay::with::{Capture, feed};
use crate::replay::{Ended, Failure as Broken, Options, Watch, changed_by, run};

/// Replays a file and shows what came of it.
///
/// # Errors
/// When the file is no recording, is damaged, or cannot be read.
pub fn replay(args: &Args, namespace: Option<&str>, output: &Output) -> Outcome {
    if args.write.as_deref() == Some(Path::new("-")) && args.then.is_some() {
        return Err(Failure::Usage(
            "-w - and get both want stdout".to_owned(),
            "write the capture to a file".to_owned(),
        ));
    }
    let fed = match &args.with {
        Some(directory) => {
            let objects = manifests::read(directory)
                .map_err(|error| Failure::Usage(error.to_string(), String::new()))?;
            if whatif::is_recording(&args.file)? {
                return whatif::compare(args, &objects, output);
            }
            Some(fed(args, &objects, output)?)
        }
        None => None,
    };
    let open = || -> io::Result<Box<dyn Read>> {
        Ok(match &fed {
            Some(bytes) => Box::new(io::Cursor::new(bytes.clone())),
            None => Box::new(File::open(&args.file)?),
        })
    };
    let mut file = open().map_err(|error| unreadable(&args.file, &error))?;
    let options = Options { until: args.until, breakpoint: args.breakpoint.clone() };
    let mut sink = match &args.write {
        Some(path) => Some((points(&args.hop)?, sink(path)?)),
        None => None,
    };
    let mut show = sink.as_mut().map(|(points, sink)| {
        let captured = Captured { points: points.clone(), ..Captured::default() };
        Show::new(captured, Part::default(), sink)
    });
    let total = match &fed {
        Some(bytes) => bytes.len() as u64,
        None => std::fs::metadata(&args.file).map_or(0, |about| about.len()),
    };
    let watch = show.as_mut().map(|show| show as &mut dyn Watch);
    let mut progress = Progress::new(total, true);
    let ran = run(&mut *file, &options, watch, &mut |bytes, records| {
        progress.at(bytes, records);
    });
    progress.end();
    let ended = ran.map_err(|broken| told(&args.file, broken))?;
    let changed = match &ended.stop {
        Err(divergence) => changed_by(&open, divergence),
        Ok(_) => Vec::new(),
    };
    let answer = if ended.stop.is_ok() { Answer::Yes } else { Answer::No };
    let replay = Replay::new(&ended, changed);
    notices(&replay, output);
    if args.write.as_deref() == Some(Path::new("-")) {
        // The capture has stdout to itself.
        let records: u64 = replay.records.values().sum();
        output.notice(&match &replay.divergence {
            Some(divergence) => divergence.message.clone(),
            None => format!("{records} records replayed as recorded"),
        });
        return Ok(answer);
    }
    if let Some(Then::Get(get)) = &args.then {
        let list = listed(&ended, get, namespace)?;
        get::show(get, namespace, list, output)?;
        return Ok(answer);
    }
    if output.is_object() {
        output.object(&Object::new(replay))?;
    } else {
        print(&replay, output)?;
    }
    Ok(answer)
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Usage(format!("cannot read {}: {error}", path.display()), String::new())
}

pub(super) fn told(path: &Path, broken: Broken) -> Failure {
    let path = path.display();
    match broken {
        Broken::Input(error) => Failure::Negative(format!("cannot read {path}: {error}")),
        Broken::Output(error) => Failure::Output(error),
        Broken::Until(message) => Failure::Usage(message, String::new()),
        Broken::Problem(problem) => Failure::Negative(format!("{path}: {problem}")),
    }
}

/// Where a capture goes. `-` is stdout, but no terminal.
fn sink(path: &Path) -> Result<Box<dyn Write>, Failure> {
    if path != Path::new("-") {
        return Ok(Box::new(BufWriter::new(capture::create(path)?)));
    }
    if io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "-w - would write binary to this terminal".to_owned(),
            "redirect it or pipe it, as in | tshark -r -".to_owned(),
        ));
    }
    Ok(Box::new(io::stdout()))
}

fn points(names: &[String]) -> Result<Selection, Failure> {
    let points = match names {
        [name] if name == "ports" => Points::Ports,
        names if names.iter().any(|name| name == "all") => Points::AllHops,
        names => Points::Hops(names.to_vec()),
    };
    points.select().map_err(|message| Failure::Usage(message, String::new()))
}

/// The file's frames through a switch of the manifests, as a recording.
fn fed(args: &Args, objects: &kube::Objects, output: &Output) -> Result<Vec<u8>, Failure> {
    let negative = |message: String| Failure::Negative(message);
    let usage = |message: String| Failure::Usage(message, String::new());
    let name = node_name(args, objects)?;
    let desired = kube::desired(objects, &Known::alone(&name));
    let desired = desired.map_err(|error| usage(error.to_string()))?;
    desired.faults.iter().for_each(|fault| output.notice(&printable(&fault.to_string())));
    let bytes = std::fs::read(&args.file).map_err(|error| unreadable(&args.file, &error))?;
    let path = args.file.display();
    let capture = Capture::read(&bytes).map_err(|error| negative(format!("{path}: {error}")))?;
    let left_out = capture.left_out;
    let fed = feed(capture, &desired).map_err(|error| negative(format!("{path}: {error}")))?;
    output.notice(&format!(
        "{} frames of {} pods through node {name}, {left_out} packets left out",
        fed.frames, fed.pods
    ));
    let build = concat!("hopctl ", env!("CARGO_PKG_VERSION")).to_owned();
    let mut out = Vec::new();
    recording::write(
        &fed.excerpt,
        &Header { id: Id(0), build, redacted: false, about: None },
        &mut out,
    );
    Ok(out)
}

fn node_name(args: &Args, objects: &kube::Objects) -> Result<String, Failure> {
    if let Some(name) = &args.node_name {
        return Ok(name.clone());
    }
    let mut names = objects.nodes.keys();
    if let (Some(name), None) = (names.next(), names.next()) {
        return Ok(name.clone());
    }
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    host.filter(|name| objects.nodes.contains_key(name)).ok_or_else(|| {
        Failure::Usage(
            format!("the manifests have {} Nodes", objects.nodes.len()),
            "say which one it is by --node-name".to_owned(),
        )
    })
}

fn listed(ended: &Ended, get: &Get, namespace: Option<&str>) -> Result<List<Value>, Failure> {
    let wanted = get::connections(get, namespace)?;
    let (Some(snapshot), Some(switch)) = (ended.snapshot(), ended.replayer.switch()) else {
        return Err(Failure::Negative("the switch has not begun there".to_owned()));
    };
    let names = ended.directory();
    let failed = |error: serde_json::Error| Failure::Negative(error.to_string());
    let tables = switch.tables();
    let list = match get.what {
        What::Ports => serde_json::to_value(List::new(snapshot.ports(&names, &[]))),
        What::Fdb => serde_json::to_value(List::new(snapshot.fdb(&names))),
        What::Routes => serde_json::to_value(List::new(snapshot.routes(&names))),
        What::Neighbors => serde_json::to_value(List::new(snapshot.neighbors(&names))),
        What::Drops => serde_json::to_value(List::new(snapshot.drops(&names))),
        What::Counters => serde_json::to_value(List::new(snapshot.counters(&names))),
        What::Conntrack => {
            let found = connections::at_rest(&wanted, tables, &names);
            let refused =
                |failure: Refused| Failure::Usage(failure.error.message, failure.error.hint);
            serde_json::to_value(found.map_err(refused)?)
        }
        What::Services => serde_json::to_value(services::services_at_rest(tables)),
        What::Backends => serde_json::to_value(services::backends_at_rest(tables)),
        what @ (What::Leases | What::Recordings | What::Triggers) => {
            let name = get::name(what);
            return Err(Failure::Usage(
                format!("{name} are the daemon's, not the switch's: no recording has them"),
                if what == What::Leases { "get neighbors shows who had which address" } else { "" }
                    .to_owned(),
            ));
        }
    };
    serde_json::from_value(list.map_err(failed)?).map_err(failed)
}

/// What is worth knowing beside the result.
fn notices(replay: &Replay, output: &Output) {
    if replay.stopped == "cut" {
        output.notice("the file's end is missing: this is up to its last whole record");
    }
    if !replay.others.is_empty() {
        output.notice(&format!(
            "the file holds further recordings, which were passed over: {}",
            replay.others.join(", ")
        ));
    }
    if replay.foreign > 0 {
        output.notice(&format!("{} packets of no recording were passed over", replay.foreign));
    }
}

fn print(replay: &Replay, output: &Output) -> io::Result<()> {
    if let Some(hit) = &replay.hit {
        let walk = if hit.walk > 0 { format!(", walk {}", hit.walk) } else { String::new() };
        let line = format!("record {}{walk} at {}: {}", hit.record, hit.time, hit.what);
        output.line(Tone::Plain, &printable(&line))?;
        let last = hit.hops.len().saturating_sub(1);
        for (at, hop) in hit.hops.iter().enumerate() {
            let dropped = at == last && hop.contains(" drop ");
            let tone = if dropped { Tone::Bad } else { Tone::Plain };
            output.line(tone, &format!("  {}", printable(hop)))?;
        }
        output.line(Tone::Plain, "")?;
    }
    output.rows(&summary(replay))?;
    if !replay.drops.is_empty() {
        output.line(Tone::Plain, "")?;
        let row = |drop: &crate::replay::objects::Dropped| {
            (Tone::Plain, vec![drop.count.to_string(), drop.reason.into(), drop.text.into()])
        };
        output.rows(&Rows {
            header: vec!["COUNT", "REASON", "WHAT HAPPENED"],
            rows: replay.drops.iter().map(row).collect(),
        })?;
    }
    if let Some(divergence) = &replay.divergence {
        output.line(Tone::Plain, "")?;
        output.line(Tone::Bad, &printable(&divergence.message))?;
        if !divergence.changed.is_empty() {
            output.line(Tone::Plain, "What that record changed in the state here:")?;
        }
        for line in &divergence.changed {
            output.line(Tone::Plain, &format!("  {}", printable(line)))?;
        }
    }
    Ok(())
}

fn summary(replay: &Replay) -> Rows {
    let all: u64 = replay.records.values().sum();
    let counts = |counts: &std::collections::BTreeMap<&str, u64>| {
        let each: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        each.join(", ")
    };
    let verified = &replay.verified;
    let compared = format!(
        "{} records, {} digests, {} states",
        verified.records, verified.digests, verified.states
    );
    let (tone, equal) = match replay.equal {
        true => (Tone::Good, "yes"),
        false => (Tone::Bad, "NO"),
    };
    let redacted = if replay.redacted { ", redacted" } else { "" };
    let nothing = || "-".to_owned();
    let stopped = match replay.stopped {
        "end" => "at the end",
        "cut" => "where the file was cut",
        "until" => "at the moment asked for",
        "break" => "behind the breakpoint",
        "crash" => "before what crashed the switch",
        _ => "where it diverged",
    };
    let row = |tone, name: &str, value: String| (tone, vec![name.to_owned(), value]);
    let plain = |name: &str, value: String| row(Tone::Plain, name, value);
    let mut rows =
        vec![plain("recording", format!("{} by {}{redacted}", replay.recording, replay.build))];
    rows.extend(replay.taken.iter().map(|taken| plain("taken for", taken.rule.clone())));
    rows.extend(
        replay.taken.iter().map(|taken| plain("event", format!("{}: {}", taken.time, taken.event))),
    );
    rows.extend([
        plain("first record", replay.first.clone().unwrap_or_else(nothing)),
        plain("last record", replay.last.clone().unwrap_or_else(nothing)),
        plain("stopped", stopped.to_owned()),
    ]);
    rows.extend(replay.crash.as_ref().map(|crash| {
        let Crash { record, what } = crash;
        let how = format!("record {record}, {what}; --until record={record} carries it out");
        row(Tone::Bad, "crash", how)
    }));
    rows.extend([
        plain("records", format!("{all}: {}", counts(&replay.records))),
        plain("walks", format!("{}: {}", replay.walks, counts(&replay.verdicts))),
        plain("frames sent", replay.sent.to_string()),
        plain("verified", compared),
        plain("state", replay.digest.clone()),
        row(tone, "as recorded", equal.to_owned()),
    ]);
    Rows { header: vec!["REPLAY", ""], rows }
}

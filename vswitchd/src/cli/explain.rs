//! `hopctl explain`.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use recording::breakpoint::Breakpoint;

use super::args::{Explain as Args, Format, Subject};
use super::client::Client;
use super::output::{Output, Tone, printable};
use super::past::{excerpt, told, whole};
use super::progress::Progress;
use super::tables::{Row, rows};
use super::{Answer, Failure, Outcome, connection, trace};
use crate::admin::objects::{List, Object};
use crate::replay::explain::{DroppedWalk, Drops, Explanation, Lookup, explain as explained};
use crate::replay::{Ended, Options, Stop, Watch, run};
use crate::utc::rfc3339;

/// Drops that are listed.
const DROPS: usize = 10;
/// Most questions are about what just happened: the newest state is tried first.
const NEWEST: Duration = Duration::from_millis(1);

/// Explains one, or lists drops.
///
/// # Errors
/// When there is no such walk, no daemon answers, or the ID is none.
pub async fn explain(args: &Args, client: &Client, output: &Output) -> Outcome {
    let usage =
        |message: &str, hint: &str| Err(Failure::Usage(message.to_owned(), hint.to_owned()));
    let ids: Vec<&str> = args.id.iter().map(String::as_str).collect();
    let id = match (args.subject, ids.as_slice()) {
        (Subject::Connection, _) => return connection::explain(args, client, output).await,
        (_, []) => None,
        (_, [id]) => Some(*id),
        (_, [_, more, ..]) => {
            return usage(&format!("one ID will do, and {more} is another"), "");
        }
    };
    match (args.subject, id) {
        (Subject::Packet, None) => usage(
            "explain packet needs an ID",
            "IDs are the numbers of walks, as hopctl capture prints them: walk 4711",
        ),
        (_, None) => drops(args, client, output).await,
        (_, Some(id)) => match id.parse() {
            Ok(number) if number > 0 => walk(args, number, client, output).await,
            _ => usage(
                &format!("{id} is no ID"),
                "IDs are the numbers of walks, as hopctl capture prints them: walk 4711",
            ),
        },
    }
}

/// A recording that is asked, and how long it is.
pub(super) async fn open(
    args: &Args,
    since: Option<Duration>,
    client: &Client,
) -> Result<(Box<dyn Read>, u64), Failure> {
    let Some(path) = &args.file else {
        let bytes = excerpt(since, client).await?.bytes;
        let len = bytes.len() as u64;
        return Ok((Box::new(io::Cursor::new(bytes)), len));
    };
    let unreadable = |error: io::Error| {
        Failure::Usage(format!("cannot read {}: {error}", path.display()), String::new())
    };
    let file = File::open(path).map_err(unreadable)?;
    let len = file.metadata().map_or(0, |about| about.len());
    Ok((Box::new(file), len))
}

pub(super) fn ran(
    (mut file, len): (Box<dyn Read>, u64),
    options: &Options,
    watch: Option<&mut dyn Watch>,
) -> Result<Ended, Failure> {
    let mut progress = Progress::new(len, true);
    let ran = run(&mut *file, options, watch, &mut |at, records| progress.at(at, records));
    progress.end();
    ran.map_err(told)
}

async fn walk(args: &Args, number: u64, client: &Client, output: &Output) -> Outcome {
    let breakpoint = Breakpoint::read(&format!("walk={number}"));
    let breakpoint = Some(breakpoint.map_err(Failure::Negative)?);
    let options = Options { until: None, breakpoint };
    let tries: &[Option<Duration>] =
        if args.file.is_some() { &[None] } else { &[Some(NEWEST), None] };
    for since in tries {
        let opened = match open(args, *since, client).await {
            // The newest state may be younger than that.
            Err(Failure::Negative(_)) if since.is_some() => continue,
            opened => opened?,
        };
        let ended = ran(opened, &options, None)?;
        if let Some(found) = explained(&ended, number) {
            return show(args.subject, &found, output);
        }
        let held = Held::of(&ended);
        if since.is_some() && number <= held.before {
            continue;
        }
        finished(args, &ended, output)?;
        return Err(Failure::Negative(held.absent(number)));
    }
    Err(Failure::Negative(format!("the journal does not hold walk {number}")))
}

/// Whether a replay got to the end. A file may have been cut, a daemon has no reason to.
pub(super) fn finished(args: &Args, ended: &Ended, output: &Output) -> Result<(), Failure> {
    match &ended.stop {
        Ok(Stop::End(ending)) if ending.cut && args.file.is_some() => {
            output.notice("the file's end is missing: this is up to its last whole record");
            Ok(())
        }
        stop => whole(stop.as_ref().map_err(ToString::to_string)).map(|_answer| ()),
    }
}

/// The walks that a recording holds.
pub(super) struct Held {
    /// Walks before its first.
    before: u64,
    last: u64,
    /// When its first record was.
    first: Option<u64>,
}

impl Held {
    pub(super) fn of(ended: &Ended) -> Self {
        let last = ended.replayer.switch().map_or(0, |switch| switch.tables().walks());
        let before = last.saturating_sub(ended.summary.walks);
        Self { before, last, first: ended.summary.times.map(|(first, _)| first) }
    }

    pub(super) fn reach(&self) -> String {
        match self.first {
            Some(first) => format!("what is held begins at {}", rfc3339(first)),
            None => "nothing is held yet".to_owned(),
        }
    }

    /// Whether the walk of that number is one of them.
    pub(super) fn has(&self, number: u64) -> bool {
        (self.before + 1..=self.last).contains(&number)
    }

    /// Why there is no walk of that number.
    pub(super) fn absent(&self, number: u64) -> String {
        if number > self.last {
            format!("there has been no walk {number}: the newest is {}", self.last)
        } else {
            let first = self.before + 1;
            format!("walk {number} is held no more: {}, with walk {first}", self.reach())
        }
    }
}

fn show(subject: Subject, found: &Explanation, output: &Output) -> Outcome {
    if subject == Subject::Drop && found.drop.is_none() {
        let end = found.hops.last().map_or("", |hop| hop.line.as_str());
        let end = printable(end.strip_prefix("egress").unwrap_or(end).trim_start());
        let number = found.walk;
        return Err(Failure::Negative(format!(
            "walk {number} was not dropped: {end}; hopctl explain packet {number} shows it"
        )));
    }
    if output.is_object() {
        output.object(&Object::new(found.clone()))?;
    } else {
        print(found, output)?;
    }
    Ok(Answer::Yes)
}

fn print(found: &Explanation, output: &Output) -> io::Result<()> {
    let Explanation { walk, time, ingress, what, .. } = found;
    let line = format!("walk {walk} at {time}: frame from {ingress}: {what}");
    output.line(Tone::Plain, &printable(&line))?;
    output.line(Tone::Plain, "")?;
    trace::print(&found.hops, found.passed, &found.verdict, output)?;
    for lookup in &found.lookups {
        output.line(Tone::Plain, "")?;
        match lookup {
            Lookup::Ingress { key, row } => table("came in by", key, row.as_ref(), output)?,
            Lookup::Fdb { key, row } => table("destination MAC", key, row.as_ref(), output)?,
            Lookup::Routes { key, row } => table("route to", key, row.as_ref(), output)?,
            Lookup::Neighbors { key, row } => table("neighbor", key, row.as_ref(), output)?,
            Lookup::Egress { key, row } => table("to leave by", key, row.as_ref(), output)?,
        }
    }
    Ok(())
}

/// What a table said about a key: the columns of `hopctl get -o wide`.
fn table<T: Row>(about: &str, key: &str, row: Option<&T>, output: &Output) -> io::Result<()> {
    let key = printable(key);
    let Some(row) = row else {
        return output.line(Tone::Bad, &format!("{about} {key}: there was none"));
    };
    output.line(Tone::Plain, &format!("{about} {key}:"))?;
    output.rows(&rows(std::slice::from_ref(row), output.format == Format::Wide))
}

async fn drops(args: &Args, client: &Client, output: &Output) -> Outcome {
    let opened = open(args, None, client).await?;
    let mut drops = Drops::new(DROPS);
    let ended = ran(opened, &Options::default(), Some(&mut drops))?;
    finished(args, &ended, output)?;
    let newest = drops.newest_first();
    if output.is_object() {
        output.object(&List::new(newest))?;
        return Ok(Answer::Yes);
    }
    if newest.is_empty() {
        output.notice(&format!("no drops: {}", Held::of(&ended).reach()));
        return Ok(Answer::Yes);
    }
    output.rows(&rows(&newest, output.format == Format::Wide))?;
    output.notice("hopctl explain drop WALK says why, with the tables as they were");
    Ok(Answer::Yes)
}

impl Row for DroppedWalk {
    const HEADER: (&'static [&'static str], usize) =
        (&["WALK", "TIME", "PORT", "REASON", "FRAME", "WHAT HAPPENED", "CODE", "WHAT TO DO"], 5);

    fn cells(&self) -> Vec<String> {
        vec![
            self.walk.to_string(),
            self.time.clone(),
            self.port.clone(),
            self.reason.to_owned(),
            self.what.clone(),
            self.text.to_owned(),
            self.code.to_string(),
            self.hint.to_owned(),
        ]
    }
}

//! `hopctl explain connection`.

use std::io;
use std::time::Duration;

use recording::breakpoint::Breakpoint;

use super::args::{Explain as Args, Format};
use super::client::Client;
use super::explain::{Held, finished, open, ran};
use super::output::{Output, Rows, Tone, age, printable};
use super::tables::{Row, rows};
use super::{Answer, Failure, Outcome};
use crate::admin::objects::Object;
use crate::port::wake::now as monotonic;
use crate::replay::connection::story::{Now, Step, Story, Translation, tell};
use crate::replay::connection::wanted::Wanted;
use crate::replay::connection::{Follow, of_walk};
use crate::replay::{Ended, Options};

/// How a connection is named.
const IDS: &str = "name it by its ends, as hopctl get conntrack prints them, with its protocol: \
                   10.244.1.5:43210 10.96.0.10:53/udp; or by the number of a walk of it";

/// Tells of a connection: how it began, what is made of it, where it stands or how it ended.
///
/// # Errors
/// When there is no such connection, no daemon answers, or the ID is none.
pub(super) async fn explain(args: &Args, client: &Client, output: &Output) -> Outcome {
    let usage = |message: String| Failure::Usage(message, IDS.to_owned());
    let wanted = match args.id.as_slice() {
        [id] => match id.parse() {
            Ok(number) if number > 0 => of_number(args, number, client, output).await?,
            _ => return Err(usage(format!("{id} is no walk, and one end only"))),
        },
        [source, destination] => Wanted::read(source, destination).map_err(usage)?,
        _ => return Err(usage("explain connection needs an ID".to_owned())),
    };
    let mut follow = Follow::new(wanted.clone());
    let ended = ran(open(args, None, client).await?, &Options::default(), Some(&mut follow))?;
    finished(args, &ended, output)?;
    let held = ended.summary.times;
    let now = match args.file {
        Some(_) => held.map_or(0, |(_, last)| last),
        // The daemon's clock is this machine's.
        None => ended.replayer.utc(monotonic()),
    };
    let told = tell(&follow, &ended.replayer, held.map(|(first, _)| first), now);
    let story = told.ok_or_else(|| {
        let reach = Held::of(&ended).reach();
        let there =
            if args.file.is_some() { "" } else { "; hopctl get conntrack lists those of now" };
        Failure::Negative(format!("no connection {wanted} is known: {reach}{there}"))
    })?;
    if output.is_object() {
        output.object(&Object::new(story))?;
    } else {
        print(&story, output)?;
    }
    Ok(Answer::Yes)
}

/// The connection that a walk is of.
async fn of_number(
    args: &Args,
    number: u64,
    client: &Client,
    output: &Output,
) -> Result<Wanted, Failure> {
    let breakpoint = Breakpoint::read(&format!("walk={number}")).map_err(Failure::Negative)?;
    let options = Options { until: None, breakpoint: Some(breakpoint) };
    let ended: Ended = ran(open(args, None, client).await?, &options, None)?;
    if let Some(tuple) = of_walk(&ended, number) {
        return Ok(Wanted::exactly(&tuple));
    }
    finished(args, &ended, output)?;
    let held = Held::of(&ended);
    Err(Failure::Negative(match held.has(number) {
        true => format!("walk {number} is of no connection: hopctl explain packet {number}"),
        false => held.absent(number),
    }))
}

fn print(story: &Story, output: &Output) -> io::Result<()> {
    let Story { protocol, source, destination, now, .. } = story;
    let head = printable(&format!("{protocol} {source} -> {destination}: {}", standing(now)));
    output.line(tone(now), &head)?;
    output.line(Tone::Plain, "")?;
    output.rows(&Rows { header: vec!["CONNECTION", ""], rows: facts(story) })?;
    output.line(Tone::Plain, "")?;
    let rows = rows(&story.walks, output.format == Format::Wide);
    if story.walks.is_empty() {
        output.line(Tone::Plain, "no packet of it is held")?;
    } else {
        output.rows(&rows)?;
    }
    if story.more > 0 {
        output.line(Tone::Plain, &format!("and {} more of note", story.more))?;
    }
    if let Some(hint) = &story.hint {
        output.notice(&format!("hint: {}", printable(hint)));
    }
    if story.others > 0 {
        let others = story.others;
        output.notice(&format!(
            "{others} more match, this one was heard of last: name both ports and the protocol"
        ));
    }
    Ok(())
}

fn tone(now: &Now) -> Tone {
    match now.is {
        "open" => Tone::Good,
        "ended" => Tone::Warning,
        _ => Tone::Bad,
    }
}

fn standing(now: &Now) -> String {
    let how = now.how.clone().unwrap_or_default();
    match (now.is, now.state) {
        ("open", Some(state)) => state.to_owned(),
        ("ended", _) => format!("ended, {how}"),
        _ => format!("refused, {how}"),
    }
}

/// What is known, a line each.
fn facts(story: &Story) -> Vec<(Tone, Vec<String>)> {
    let Story { now, service, backend, original, reply, .. } = story;
    let row = |name: &str, value: String| (Tone::Plain, vec![name.to_owned(), value]);
    let mut facts = vec![row("began", began(story))];
    if story.before > 0 {
        let before = match story.previous {
            Some(state) => format!("{} of the same ends, the last in {state}", story.before),
            None => format!("{} of the same ends", story.before),
        };
        facts.push(row("before it", before));
    }
    let from = story.from.clone().unwrap_or_default();
    facts.push(row("from", from));
    facts.extend(story.to.clone().map(|to| row("to", to)));
    facts.extend(service.clone().map(|service| row("service", service)));
    facts.extend(backend.clone().map(|backend| {
        let why = story.chosen_by.map_or_else(
            || ", chosen before what is held".to_owned(),
            |by| format!(" by {by}, of {}", story.candidates.unwrap_or_default()),
        );
        row("backend", format!("{backend}{why}"))
    }));
    facts.extend(story.masquerade.map(|why| row("masqueraded", masqueraded(why).to_owned())));
    if now.is == "refused" {
        facts.push(row("asked", counted(original)));
    } else {
        facts.push(row("there", direction(original)));
        facts.push(row("back", direction(reply)));
    }
    if story.dropped > 0 {
        let dropped = vec!["dropped".to_owned(), packets(story.dropped)];
        facts.push((Tone::Bad, dropped));
    }
    if let Some(gone) = &story.backend_gone {
        let value = format!("serves no more since {gone}");
        facts.push((Tone::Warning, vec!["backend".to_owned(), value]));
    }
    if let (Some(ended), Some(how)) = (&now.ended, &now.how) {
        facts.push(row("ended", format!("{ended}: {how}")));
    }
    facts.extend(now.state.map(|state| {
        let left = now.expires_seconds.map_or_else(
            || "its entry is given up".to_owned(),
            |left| format!("{} left", age(Duration::from_secs(left))),
        );
        row("state", format!("{state}, {left}"))
    }));
    facts
}

fn began(story: &Story) -> String {
    match (&story.began, &story.held_since) {
        (Some(first), _) => format!("{}, walk {}", first.time, first.walk),
        (None, Some(since)) => format!("before {since}, as far back as is held"),
        (None, None) => "before what is held".to_owned(),
    }
}

fn masqueraded(why: &str) -> &'static str {
    match why {
        "egress" => "it leaves the cluster, where the pod's address is not known",
        "service" => "the reply has to come back this way",
        "hairpin" => "the pod asks itself by a Service",
        _ => "the port is another connection's",
    }
}

/// What comes in and what leaves.
fn direction(translation: &Translation) -> String {
    let Translation { source, destination, left_source, left_destination, .. } = translation;
    let counted = counted(translation);
    if (source, destination) == (left_source, left_destination) {
        return format!("{source} -> {destination}, as it is: {counted}");
    }
    format!("{source} -> {destination} leaves as {left_source} -> {left_destination}: {counted}")
}

fn counted(translation: &Translation) -> String {
    format!("{}, {} bytes", packets(translation.packets), translation.bytes)
}

fn packets(count: u64) -> String {
    format!("{count} packet{}", if count == 1 { "" } else { "s" })
}

/// A packet without its addresses, which all packets of a connection share.
fn without_ends(what: &str) -> &str {
    let behind = what.split_once(" > ").and_then(|(_, rest)| rest.split_once(' '));
    behind.map_or(what, |(_, rest)| rest)
}

impl Row for Step {
    const HEADER: (&'static [&'static str], usize) =
        (&["WALK", "TIME", "FROM", "STATE", "VERDICT", "PACKET", "RECORD", "WHOLE PACKET"], 6);

    fn cells(&self) -> Vec<String> {
        vec![
            self.walk.to_string(),
            self.time.clone(),
            self.ingress.clone(),
            self.state.unwrap_or("-").to_owned(),
            self.verdict.clone(),
            without_ends(&self.what).to_owned(),
            self.record.to_string(),
            self.what.clone(),
        ]
    }

    fn tone(&self) -> Tone {
        if self.passed { Tone::Plain } else { Tone::Bad }
    }
}

//! `hopctl replay FILE --with DIR` of a recording: which connections would differ.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use recording::{Item, ReadError, Reader};

use super::args::{Format, Replay as Args};
use super::output::{Output, Tone, printable};
use super::progress::Progress;
use super::replay::{told, unreadable};
use super::tables::{Row, rows};
use super::{Answer, Failure, Outcome};
use crate::admin::objects::Object;
use crate::kube::objects::Objects;
use crate::replay::whatif::{Beside, Comparison, Differing, Group};
use crate::replay::{Options, run};

/// Bytes read at once.
const CHUNK: usize = 1 << 18;
/// Connections shown of a reason, unless more columns are asked for.
const SHOWN: usize = 20;

/// Whether a file is a recording: any other is a capture, to be fed as it is. One that is damaged
/// is told about where it is replayed.
///
/// # Errors
/// When it cannot be read.
pub(super) fn is_recording(path: &Path) -> Result<bool, Failure> {
    let unreadable = |error: io::Error| unreadable(path, &error);
    let mut file = File::open(path).map_err(unreadable)?;
    let (mut reader, mut chunk) = (Reader::default(), vec![0; CHUNK]);
    loop {
        match reader.item() {
            Ok(Some(Item::Start(_) | Item::Record(..))) => return Ok(true),
            Ok(Some(Item::End(_)))
            | Err(ReadError::NotPcapng | ReadError::NotRecording(_) | ReadError::NoBegin) => {
                return Ok(false);
            }
            Err(_damaged) => return Ok(true),
            Ok(None) => {}
        }
        let count = file.read(&mut chunk).map_err(unreadable)?;
        match chunk.get(..count) {
            Some([]) | None => reader.finish(),
            Some(read) => reader.push(read),
        }
    }
}

/// Replays a recording beside a switch of these objects, and shows which connections differ.
///
/// # Errors
/// When the file is damaged or cannot be read, or when nothing could be compared.
pub(super) fn compare(args: &Args, objects: &Objects, output: &Output) -> Outcome {
    if args.write.is_some() || args.breakpoint.is_some() || args.then.is_some() {
        return Err(Failure::Usage(
            "of a recording --with compares connections: -w, --break and get do not go with it"
                .to_owned(),
            "leave --with out to look into the recording; --until stops the comparison".to_owned(),
        ));
    }
    let mut file = File::open(&args.file).map_err(|error| unreadable(&args.file, &error))?;
    let mut progress = Progress::new(file.metadata().map_or(0, |about| about.len()), true);
    let mut beside = Beside::new(objects, args.node_name.as_deref());
    let options = Options { until: args.until, breakpoint: None };
    let ran = run(&mut file, &options, Some(&mut beside), &mut |bytes, records| {
        progress.at(bytes, records);
    });
    progress.end();
    let ended = ran.map_err(|broken| told(&args.file, broken))?;
    if let Some(unfit) = beside.unfit() {
        return Err(Failure::Usage(unfit.message.clone(), unfit.hint.clone()));
    }
    let comparison = Comparison::new(&ended, &beside);
    notices(&comparison, output);
    let same = comparison.differ == 0 && is_whole(&comparison);
    if output.is_object() {
        output.object(&Object::new(comparison))?;
    } else {
        print(&comparison, output)?;
    }
    Ok(if same { Answer::Yes } else { Answer::No })
}

/// Whether all frames were compared, with the Services of the manifests in force: else that nothing
/// differs says too little for exit code 0.
fn is_whole(comparison: &Comparison) -> bool {
    let Comparison { node, refused, beyond, faults, stopped, divergence, .. } = comparison;
    let is_to_the_end = divergence.is_none() && !matches!(*stopped, "cut" | "crash");
    is_to_the_end && !node.is_empty() && faults.is_empty() && refused.is_none() && *beyond == 0
}

/// What limits the comparison.
fn notices(comparison: &Comparison, output: &Output) {
    let Comparison { faults, left_out, beyond, refused, .. } = comparison;
    for fault in faults {
        output.notice(&printable(&format!("left out of the manifests: {fault}")));
    }
    if comparison.node.is_empty() && comparison.divergence.is_none() {
        output.notice("the recording never has its whole configuration: nothing was replaced");
    }
    match comparison.stopped {
        "cut" => output.notice("the file's end is missing: this is up to its last whole record"),
        "crash" => output.notice("this is up to the record that crashed the switch"),
        _ => {}
    }
    if *left_out > 0 {
        output.notice(&format!(
            "the recording changes Services {left_out} times: left out, the manifests hold from \
             begin to end"
        ));
    }
    if let Some(refused) = refused {
        let said = format!("with these Services a recorded change is refused: {refused}");
        output.notice(&printable(&said));
    }
    if *beyond > 0 {
        output.notice(&format!("{beyond} frames were not compared: too many connections"));
    }
}

fn print(comparison: &Comparison, output: &Output) -> io::Result<()> {
    let wide = output.format == Format::Wide;
    for (at, group) in comparison.reasons.iter().enumerate() {
        let of_group = comparison.differences.iter().filter(|one| one.group == at);
        let most = if wide { usize::MAX } else { SHOWN };
        let listed: Vec<Listed> = of_group.take(most).cloned().map(Listed).collect();
        let Group { text, count, .. } = group;
        let plural = if *count == 1 { "" } else { "s" };
        let tone = match group.reason {
            Some(_) => Tone::Bad,
            None => Tone::Warning,
        };
        output.line(tone, &format!("{text}: {count} connection{plural}"))?;
        output.rows(&rows(&listed, wide))?;
        let more = count.saturating_sub(listed.len() as u64);
        if more > 0 {
            let all = if wide { "" } else { ": -o wide or -o json lists them" };
            output.line(Tone::Plain, &format!("and {more} more{all}"))?;
        }
        output.line(Tone::Plain, "")?;
    }
    if let Some(divergence) = &comparison.divergence {
        output.line(Tone::Bad, &printable(&format!("compared up to there: {divergence}")))?;
    }
    let Comparison { connections, differ, reasons, .. } = comparison;
    let each: Vec<_> =
        reasons.iter().map(|group| format!("{} {}", group.count, group.text)).collect();
    let line = match each.as_slice() {
        [] if !is_whole(comparison) => {
            format!("{connections} connections, none known to differ: not all was compared")
        }
        [] => format!("{connections} connections, none differs"),
        each => format!("{connections} connections, {differ} differ: {}", each.join(", ")),
    };
    let is_good = *differ == 0 && is_whole(comparison);
    output.line(if is_good { Tone::Good } else { Tone::Plain }, &line)
}

/// A connection as a row.
struct Listed(Differing);

impl Row for Listed {
    const HEADER: (&'static [&'static str], usize) = (
        &[
            "TIME",
            "WALK",
            "PROTO",
            "SOURCE",
            "DESTINATION",
            "SERVICE",
            "RECORDED",
            "NOW",
            "FROM",
            "RECORD",
            "OF",
        ],
        8,
    );

    fn cells(&self) -> Vec<String> {
        let Self(one) = self;
        vec![
            one.time.clone(),
            one.walk.to_string(),
            one.protocol.clone(),
            one.source.clone(),
            one.destination.clone(),
            one.service.clone().unwrap_or_else(|| "-".to_owned()),
            one.recorded.text.clone(),
            one.now.text.clone(),
            one.ingress.clone(),
            one.record.to_string(),
            if one.is_reply { "reply" } else { "original" }.to_owned(),
        ]
    }
}

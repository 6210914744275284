//! `hopctl capture`: what is asked for, and where packets go, be they to come or of the past.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use super::client::Client;
use super::output::Output;
use super::{Failure, Outcome, args, filter, past};
use crate::admin::capture::ID_HEADER;
use crate::admin::objects::{CaptureRequest, Object};
use crate::capture::Points;
use crate::capture::cbpf::{Instruction, Program};

mod pipe;
mod run;
mod viewer;

pub(super) use run::{Run, Sink};
use viewer::Viewer;

/// First words of filter expressions: with `-n`, any other single word is a pod's name.
const FILTER_WORDS: &[&str] = &[
    "ah",
    "aarp",
    "arp",
    "atalk",
    "broadcast",
    "decnet",
    "dst",
    "esp",
    "ether",
    "gateway",
    "geneve",
    "greater",
    "host",
    "icmp",
    "icmp6",
    "igmp",
    "igrp",
    "inbound",
    "ip",
    "ip6",
    "ipx",
    "iso",
    "len",
    "less",
    "link",
    "llc",
    "mpls",
    "multicast",
    "net",
    "not",
    "outbound",
    "pim",
    "port",
    "portrange",
    "pppoed",
    "pppoes",
    "proto",
    "protochain",
    "rarp",
    "sctp",
    "src",
    "stp",
    "tcp",
    "udp",
    "vlan",
    "vrrp",
];

/// Captures until the daemon ends it or the user does.
///
/// # Errors
/// When the filter does not compile, a name is unknown, no daemon answers, or Wireshark cannot be
/// started.
pub async fn capture(
    args: &args::Capture,
    namespace: Option<&str>,
    client: &Client,
    output: &Output,
) -> Outcome {
    let request = request(args, namespace)?;
    let to_stdout = args.write.as_deref() == Some(Path::new("-"));
    if to_stdout && io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "-w - would write binary to this terminal".to_owned(),
            "redirect it or pipe it, as in | tshark -r -".to_owned(),
        ));
    }
    let sink = match (&args.wireshark, &args.write) {
        (Some(program), _) => Sink::Viewer(Viewer::new(program)),
        (None, None) => Sink::Lines(*output),
        (None, Some(_)) if to_stdout => Sink::Bytes(Box::new(io::stdout())),
        (None, Some(path)) => Sink::File(path.clone()),
    };
    let mut run = Run::new(sink);
    let ended = fetch(request, args.since, client, output, &mut run).await;
    if matches!(&ended, Err(Failure::Output(_))) || !run.has_begun() {
        return ended;
    }
    output.notice(&match run.lost() {
        Some(lost) => format!("{} frames captured, {lost} packets lost", run.seen()),
        None => {
            format!("{} frames captured; the end is missing, and how many were lost", run.seen())
        }
    });
    run.close(output).await?;
    ended
}

/// Lets packets arrive, those to come or those since so long ago.
///
/// # Errors
/// When a name is unknown, no daemon answers, or packets cannot be taken.
pub(super) async fn fetch(
    request: CaptureRequest,
    since: Option<Duration>,
    client: &Client,
    output: &Output,
    run: &mut Run,
) -> Outcome {
    if let Some(since) = since {
        return past::capture(since, &request, client, run).await;
    }
    let has_end = request.count.is_some() || request.duration_ms.is_some();
    // Before anything is made or overwritten: the daemon may refuse.
    let response = client.stream("/v1/capture", &Object::new(request)).await?;
    let id = response.headers().get(ID_HEADER).and_then(|value| value.to_str().ok());
    let id = id.unwrap_or_default().to_owned();
    if let Some(capturing) = run.begin()? {
        output.notice(&capturing);
    }
    let ended = run.receive(response.into_body(), client, &id).await;
    if ended.is_ok() && !has_end && !run.has_been_stopped() {
        output.notice("vswitchd has ended the capture: it stops, or another one takes over");
    }
    ended
}

/// What the arguments ask for.
///
/// # Errors
/// When the filter does not compile.
pub fn request(args: &args::Capture, namespace: Option<&str>) -> Result<CaptureRequest, Failure> {
    let (scope, expression) = split(&args.words, namespace);
    let filter = expression.join(" ");
    let program = program(&filter).map_err(|message| Failure::Usage(message, String::new()))?;
    let points = match args.hop.as_slice() {
        [] => Points::Ports,
        names if names.iter().any(|name| name == "all") => Points::AllHops,
        names => Points::Hops(names.to_vec()),
    };
    points.select().map_err(|message| Failure::Usage(message, String::new()))?;
    Ok(CaptureRequest {
        points,
        scope,
        dropped_only: args.dropped_only,
        program,
        filter,
        snaplen: args.snaplen,
        count: args.count,
        duration_ms: args.duration.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
    })
}

/// Compiles a filter, as far as a daemon takes it; the empty one keeps everything.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub(super) fn program(filter: &str) -> Result<Option<Vec<Instruction>>, String> {
    let text = filter.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let program = filter::compile(text)?;
    match Program::new(&program) {
        Ok(_) => Ok(Some(program)),
        Err(error) => Err(format!("the filter \"{text}\" cannot be used: {error}")),
    }
}

/// The scope, as the daemon names ports, and the words of the filter. No primitive of a filter
/// begins with a word that has a slash in it, so such a first word is a place.
fn split<'a>(words: &'a [String], namespace: Option<&str>) -> (Option<String>, &'a [String]) {
    let Some((first, rest)) = words.split_first() else { return (None, words) };
    if first == "node" {
        return (None, rest);
    }
    let is_name = first.chars().all(|c| c.is_ascii_alphanumeric() || "-./_".contains(c));
    if !is_name {
        return (None, words);
    }
    if let Some(port) = first.strip_prefix("port/") {
        return (Some(port.to_owned()), rest);
    }
    if first.starts_with("pod/") {
        return (Some(first.clone()), rest);
    }
    match namespace {
        _ if first.contains('/') => (Some(format!("pod/{first}")), rest),
        Some(namespace) if !FILTER_WORDS.contains(&first.as_str()) => {
            (Some(format!("pod/{namespace}/{first}")), rest)
        }
        _ => (None, words),
    }
}

/// A file for its owner only: it holds what others say. A link in its place is not followed.
///
/// # Errors
/// When it cannot be written.
pub fn create(path: &Path) -> Result<std::fs::File, Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits());
    options.open(path).map_err(|error| {
        Failure::Usage(format!("cannot write {}: {error}", path.display()), String::new())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, namespace: Option<&str>) -> (Option<String>, String) {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let (scope, filter) = split(&words, namespace);
        (scope, filter.join(" "))
    }

    #[test]
    fn the_first_word_is_a_place_or_the_filter_begins() {
        let some = |scope: &str, filter: &str| (Some(scope.to_owned()), filter.to_owned());
        let none = |filter: &str| (None, filter.to_owned());
        assert_eq!(words("demo/web tcp port 80", None), some("pod/demo/web", "tcp port 80"));
        assert_eq!(words("pod/demo/web tcp", None), some("pod/demo/web", "tcp"));
        assert_eq!(words("port/host", None), some("host", ""));
        assert_eq!(words("port/pod/demo/web", None), some("pod/demo/web", ""));
        assert_eq!(words("node icmp", None), none("icmp"));
        assert_eq!(words("tcp port 80", None), none("tcp port 80"));
        assert_eq!(words("net 10.0.0.0/8", None), none("net 10.0.0.0/8"));
        assert_eq!(words("(tcp or udp) and net 10.0.0.0/8", None).0, None);
        assert_eq!(words("web tcp", Some("demo")), some("pod/demo/web", "tcp"));
        assert_eq!(words("tcp port 80", Some("demo")), none("tcp port 80"));
    }
}

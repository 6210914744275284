//! `hopctl capture`: what is asked for, and where packets go, be they to come or of the past.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::signal::unix::{SignalKind, signal};

use super::client::Client;
use super::output::{Output, Tone};
use super::packet_line::line;
use super::{Answer, Failure, Outcome, args, filter, past};
use crate::admin::capture::ID_HEADER;
use crate::admin::objects::{CaptureRequest, Object};
use crate::capture::Points;
use crate::capture::cbpf::Program;
use crate::capture::pcapng::read::{Block, Reader};

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
/// When the filter does not compile, a name is unknown, or no daemon answers.
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
    let sink = match &args.write {
        None => Sink::Lines(*output),
        Some(_) if to_stdout => Sink::Bytes(Box::new(io::stdout())),
        Some(path) => Sink::File(path.clone()),
    };
    let mut run = Run::new(sink);
    let ended = match args.since {
        Some(since) => past::capture(since, &request, client, &mut run).await,
        None => live(request, client, output, &mut run).await,
    };
    if matches!(&ended, Err(Failure::Output(_))) || !run.begun {
        return ended;
    }
    output.notice(&match run.lost {
        Some(lost) => format!("{} frames captured, {lost} packets lost", run.seen),
        None => format!("{} frames captured; the end is missing, and how many were lost", run.seen),
    });
    ended
}

/// Packets to come.
async fn live(request: CaptureRequest, client: &Client, output: &Output, run: &mut Run) -> Outcome {
    let has_end = request.count.is_some() || request.duration_ms.is_some();
    // Before anything is made or overwritten: the daemon may refuse.
    let response = client.stream("/v1/capture", &Object::new(request)).await?;
    let id = response.headers().get(ID_HEADER).and_then(|value| value.to_str().ok());
    let id = id.unwrap_or_default().to_owned();
    let capturing = match &run.sink {
        Sink::File(path) => Some(format!("capturing to {}; end with Ctrl-C", path.display())),
        Sink::Lines(_) | Sink::Bytes(_) => None,
    };
    run.begin()?;
    if let Some(capturing) = capturing {
        output.notice(&capturing);
    }
    let ended = run.receive(response.into_body(), client, &id).await;
    if ended.is_ok() && !has_end && !run.stopping {
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
    let program = match filter.trim() {
        "" => None,
        text => {
            let usage = |message: String| Failure::Usage(message, String::new());
            let program = filter::compile(text).map_err(usage)?;
            if let Err(error) = Program::new(&program) {
                return Err(usage(format!("the filter \"{text}\" cannot be used: {error}")));
            }
            Some(program)
        }
    };
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

/// Where packets go.
enum Sink {
    /// To people.
    Lines(Output),
    /// To a file that is not made yet: a request may still be refused.
    File(PathBuf),
    /// To a file or pipe.
    Bytes(Box<dyn Write>),
}

/// A capture as it arrives.
pub(super) struct Run {
    sink: Sink,
    /// Whether it was granted.
    begun: bool,
    /// Why blocks could not be taken.
    failure: Option<Failure>,
    reader: Reader,
    /// Names of the interfaces, in order.
    points: Vec<String>,
    /// Frames so far.
    seen: u64,
    /// Packets lost, once the end has come.
    lost: Option<u64>,
    /// Whether its user has asked for the end.
    stopping: bool,
}

impl Run {
    fn new(sink: Sink) -> Self {
        let (reader, points) = (Reader::default(), Vec::new());
        let (begun, failure, lost, stopping) = (false, None, None, false);
        Self { sink, begun, failure, reader, points, seen: 0, lost, stopping }
    }

    /// The capture was granted: its file is made.
    fn begin(&mut self) -> Result<(), Failure> {
        if let Sink::File(path) = &self.sink {
            self.sink = Sink::Bytes(Box::new(create(path)?));
        }
        self.begun = true;
        Ok(())
    }

    /// Why blocks could not be taken, if they could not.
    pub(super) fn failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// Whether packets go to a file or pipe.
    pub(super) fn is_written(&self) -> bool {
        !matches!(self.sink, Sink::Lines(_))
    }

    async fn receive(&mut self, mut body: Incoming, client: &Client, id: &str) -> Outcome {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            let stop = async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = stop => {
                    if self.stopping {
                        // Asked twice: the user does not want to wait for the end.
                        return Ok(Answer::No);
                    }
                    self.stopping = true;
                    client.delete(&format!("/v1/capture/{id}")).await?;
                    continue;
                }
            };
            match frame {
                None if self.lost.is_some() => return Ok(Answer::Yes),
                None | Some(Err(_)) => {
                    return Err(Failure::NoDaemon("the daemon went away".to_owned()));
                }
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.blocks(bytes)?;
                    }
                }
            }
        }
    }

    /// Takes in bytes; what is written is always whole blocks.
    fn blocks(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.begin()?;
        self.reader.push(bytes);
        while let Some((block, raw)) =
            self.reader.block().map_err(|error| Failure::Negative(error.to_string()))?
        {
            if let Sink::Bytes(file) = &mut self.sink {
                file.write_all(raw)?;
            }
            match block {
                Block::Interface(name) => self.points.push(name),
                Block::Packet(packet) => {
                    self.seen += 1;
                    if let Sink::Lines(output) = &self.sink {
                        let at = usize::try_from(packet.interface).unwrap_or(usize::MAX);
                        let point = self.points.get(at).map_or("?", String::as_str);
                        let dropped = packet.comment.starts_with("egress")
                            && packet.comment.contains(" drop ");
                        let tone = if dropped { Tone::Bad } else { Tone::Plain };
                        output.line(tone, &line(&packet, point))?;
                    }
                }
                Block::Statistics(_, counts) => {
                    self.lost = Some(self.lost.unwrap_or(0) + counts.lost);
                }
                Block::Section | Block::Other => {}
            }
        }
        if let Sink::Bytes(file) = &mut self.sink {
            file.flush()?;
        }
        Ok(())
    }
}

/// What a replay writes goes the way of what a daemon sends.
impl Write for Run {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.blocks(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(Failure::Output(error)) => Err(error),
            Err(failure) => {
                self.failure = Some(failure);
                Err(io::Error::other("blocks could not be taken"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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

//! `hopctl trace` asked before, and the same packet then sent and captured: the two must agree hop
//! by hop, in every suite that sends something a trace can ask for.
//!
//! A trace knows what the switch will do, not what a socket will choose: source port, sequence
//! numbers and ids are left out of the comparison, and nothing else. Of sockets' packets only echo
//! requests can be given a hop limit, a size, or no DF.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::process::{Output, Process};
use lab::{Namespace, tshark};
use serde_json::Value;

use crate::World;

/// What a trace puts into its packets; the real ones carry the same, so that lengths are compared.
const PAYLOAD: &str = "hopctl trace";
/// The port that frames made by hand go to.
pub(crate) const BY_HAND: How = How::Udp(33_333);
/// Time that a sender may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a packet carries.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    /// An echo request.
    Icmp,
    /// A SYN to that port.
    Tcp(u16),
    /// A datagram to that port.
    Udp(u16),
}

/// Who sends, as a trace names it, and where it runs.
pub(crate) type Sender<'a> = (&'a str, &'a Namespace);

/// One question to a trace, and what the test knows of its answer without the switch.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    from: Sender<'a>,
    to: String,
    how: How,
    six: bool,
    /// Whether the packet gets there, or the sender at least what it asks for.
    passes: bool,
    /// A part of the last lines.
    ends: &'a str,
    /// The frame itself, for what no socket would send, and the interface to send it from.
    frame: Option<(&'a str, Vec<u8>)>,
    hop_limit: Option<u8>,
    /// Bytes of the IP packet.
    size: Option<u16>,
    may_fragment: bool,
}

/// A question whose packet must pass, and what its end says.
pub(crate) fn passes<'a>(
    from: Sender<'a>,
    to: impl ToString,
    (how, six): (How, bool),
    ends: &'a str,
) -> Question<'a> {
    let to = to.to_string();
    let (frame, hop_limit, size, may_fragment) = (None, None, None, false);
    Question { from, to, how, six, passes: true, ends, frame, hop_limit, size, may_fragment }
}

/// A question whose packet must get no further than what its end says.
pub(crate) fn fails<'a>(
    from: Sender<'a>,
    to: impl ToString,
    (how, six): (How, bool),
    ends: &'a str,
) -> Question<'a> {
    Question { passes: false, ..passes(from, to, (how, six), ends) }
}

impl<'a> Question<'a> {
    /// The same, its packet sent as this frame instead of by a socket.
    pub(crate) fn sent_as(self, interface: &'a str, frame: Vec<u8>) -> Self {
        Self { frame: Some((interface, frame)), ..self }
    }

    /// The same with that hop limit.
    pub(crate) fn hop_limit(self, hop_limit: u8) -> Self {
        Self { hop_limit: Some(hop_limit), ..self }
    }

    /// The same, its IP packet so many bytes long.
    pub(crate) fn size(self, size: u16) -> Self {
        Self { size: Some(size), ..self }
    }

    /// The same without DF.
    pub(crate) fn may_fragment(self) -> Self {
        Self { may_fragment: true, ..self }
    }

    /// Bytes of an echo request's payload.
    fn payload(&self) -> usize {
        let headers = if self.six { 48 } else { 28 };
        self.size.map_or(PAYLOAD.len(), |size| usize::from(size) - headers)
    }
}

/// The lines of a walk, each with its stage.
type Lines = Vec<(String, String)>;

impl World {
    /// Asks all questions, then sends all packets, and compares each prediction with every walk
    /// that a capture shows of such a packet.
    pub(crate) fn foretell(&self, questions: &[Question<'_>]) {
        let traces: Vec<Value> = questions.iter().map(|question| self.asked(question)).collect();
        let file = self.file("foretold.pcapng");
        let capture = self.capture(&file, &["--hop", "all"]).unwrap();
        let senders: Vec<Process> = questions
            .iter()
            .zip(&traces)
            .map(|(question, trace)| question.send(trace["destination"].as_str().unwrap()))
            .collect();
        for sender in senders {
            // Whether somebody answers is not asked here.
            sender.finish(PATIENCE).unwrap();
        }
        whole(&capture.stop().unwrap());
        let walks = walks(&file);
        for (question, trace) in questions.iter().zip(&traces) {
            agree(question, &predicted(trace), &walks);
        }
    }

    /// The answer of `hopctl trace`, which is as the question says.
    fn asked(&self, question: &Question<'_>) -> Value {
        let (protocol, l4_port) = match question.how {
            How::Icmp => ("--icmp", None),
            How::Tcp(l4_port) => ("--tcp", Some(l4_port.to_string())),
            How::Udp(l4_port) => ("--udp", Some(l4_port.to_string())),
        };
        let family = if question.six { "-6" } else { "-4" };
        let mut args = vec!["trace", question.from.0, &question.to, family, protocol];
        args.extend(l4_port.as_deref());
        let hop_limit = question.hop_limit.map(|limit| limit.to_string());
        let size = question.size.map(|size| size.to_string());
        for (flag, value) in [("--hop-limit", &hop_limit), ("--size", &size)] {
            args.extend(value.iter().flat_map(|value| [flag, value]));
        }
        if question.may_fragment {
            args.push("--may-fragment");
        }
        let said = self.hopctl_attempt(&args).unwrap();
        let code = if question.passes { 0 } else { 1 };
        assert_eq!(said.code, Some(code), "{question:?}: {said:?}");
        assert!(said.stdout.contains(question.ends), "{question:?}: {said:?}");
        let output = self.hopctl_attempt(&[&["-o", "json"], &args[..]].concat()).unwrap();
        assert_eq!(output.code, Some(code), "{output:?}");
        let trace: Value = serde_json::from_str(&output.stdout).unwrap();
        // What people read are the lines of the object, and no others.
        let lines: Vec<String> = predicted(&trace).into_iter().map(|(_, line)| line).collect();
        assert_eq!(said.stdout.lines().collect::<Vec<_>>(), lines);
        trace
    }
}

impl Question<'_> {
    /// Starts what really sends the packet.
    fn send(&self, destination: &str) -> Process {
        let netns = self.from.1;
        if let Some((interface, frame)) = &self.frame {
            let file = netns.owner().fresh_path("frames");
            std::fs::write(&file, crate::frames::hex(std::slice::from_ref(frame))).unwrap();
            let mut command = Command::new(lab::binaries::lab().unwrap());
            command.args(["raw", "--interface", interface, "--wait-ms", "1", "--frames"]).arg(file);
            return netns.spawn(command).unwrap();
        }
        let length = self.payload().to_string();
        let hop_limit = self.hop_limit.unwrap_or(64).to_string();
        let pmtu = if self.may_fragment { "dont" } else { "do" };
        let mut command = match self.how {
            How::Icmp => Command::new("ping"),
            How::Tcp(_) | How::Udp(_) => Command::new("timeout"),
        };
        match self.how {
            How::Icmp if destination.starts_with("fe80:") || destination.starts_with("ff02:") => {
                let here = format!("{destination}%eth0");
                command.args(["-c", "1", "-W", "0.5", "-s", &length, &here])
            }
            How::Icmp => command
                .args(["-b", "-c", "1", "-W", "0.5", "-s", &length, "-t", &hop_limit])
                .args(["-M", pmtu, destination]),
            How::Tcp(l4_port) => {
                let script = format!("exec 3<>/dev/tcp/{destination}/{l4_port}");
                command.args(["0.5", "bash", "-c", &script])
            }
            How::Udp(l4_port) => {
                let script = format!("printf '{PAYLOAD}' >/dev/udp/{destination}/{l4_port}");
                command.args(["0.5", "bash", "-c", &script])
            }
        };
        netns.spawn(command).unwrap()
    }
}

/// Nothing was lost on the way from the switch to the file.
pub(crate) fn whole(capture: &Output) {
    assert!(capture.stderr.contains(" 0 packets lost"), "{}", capture.stderr);
}

fn predicted(trace: &Value) -> Lines {
    let text = |hop: &Value, key: &str| hop[key].as_str().unwrap().to_owned();
    let hops = trace["hops"].as_array().unwrap();
    hops.iter().map(|hop| (text(hop, "stage"), text(hop, "line"))).collect()
}

/// Every walk of a capture, hop by hop.
fn walks(file: &Path) -> Vec<Lines> {
    let mut walks: BTreeMap<u64, Lines> = BTreeMap::new();
    for hop in tshark::fields(file, "", &["frame.interface_name", "frame.comment"]).unwrap() {
        let [interface, comment] = hop.try_into().unwrap();
        let stage = interface.strip_prefix("hop/").unwrap().to_owned();
        let (line, walk) = comment.rsplit_once("; walk ").unwrap();
        walks.entry(walk.parse().unwrap()).or_default().push((stage, line.to_owned()));
    }
    walks.into_values().collect()
}

/// The first walk that begins as predicted goes on as predicted, and the others end as it does.
fn agree(question: &Question<'_>, predicted: &Lines, walks: &[Lines]) {
    let known = |lines: &Lines| -> Lines {
        lines.iter().map(|(stage, line)| (stage.clone(), known(line))).collect()
    };
    let expected = known(predicted);
    let walks: Vec<Lines> = walks.iter().map(known).collect();
    let same: Vec<&Lines> = walks.iter().filter(|walk| walk.first() == expected.first()).collect();
    assert!(!same.is_empty(), "{question:?} was never seen: {expected:#?}\n{walks:#?}");
    let (first, again) = same.split_first().unwrap();
    assert_eq!(**first, expected, "{question:?}");
    // Sent again, it is of the connection that the first one began.
    for walk in again {
        let is_tracked = |(stage, _): &&(String, String)| stage == "conntrack";
        if expected.iter().any(|hop| is_tracked(&hop)) {
            assert_eq!(walk.last(), expected.last(), "{question:?}");
        } else {
            assert_eq!(**walk, expected, "{question:?}");
        }
    }
}

/// A line without what a socket chooses: its own port, sequence numbers, ids.
fn known(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let with_ports = ["tcp", "udp"].iter().any(|protocol| words.contains(protocol));
    let mut known: Vec<String> = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|index| words.get(index));
        let chosen = before.is_some_and(|before| ["seq", "id"].contains(before));
        let source = words.get(index + 1) == Some(&">") && with_ports;
        // A masqueraded source gets a port that follows from the one it had.
        let masqueraded = words.first() == Some(&"nat") && before == Some(&"->");
        known.push(match word.trim_end_matches(':').rsplit_once(':') {
            _ if chosen => "?".to_owned(),
            Some((address, _)) if masqueraded => format!("{address}:?"),
            Some((address, _)) if source => format!("{address}:?"),
            _ => (*word).to_owned(),
        });
    }
    known.join(" ")
}

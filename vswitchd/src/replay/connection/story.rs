//! A followed connection, told: `hopctl explain connection`.

use recording::Replayer;
use serde::Serialize;
use stack::pipeline::parse;
use stack::table::conntrack::{Connection, Side, State, Tuple};
use stack::trace::{Masquerade, Why};
use stack::{AnswerKind, Verdict};

use super::{Follow, How, Life, Note};
use crate::admin::connections::{end, protocol};
use crate::admin::objects::Kind;
use crate::admin::snapshot::name_of;
use crate::directory::{Directory, Label};
use crate::replay::directory;
use crate::utc::rfc3339;

/// `hopctl explain connection .. -o json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    /// The protocol's name or number.
    pub protocol: String,
    /// Who began it, as its packets bear it.
    pub source: String,
    /// Whom it asked for.
    pub destination: String,
    /// Where it stands.
    pub now: Now,
    /// Its first packet; absent when that was before what is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<Step>,
    /// When what is held begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_since: Option<String>,
    /// The port behind which the side is that began it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The port behind which the other side is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The Service that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The backend that was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// By what it was chosen: `affinity`, or the Service's method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen_by: Option<&'static str>,
    /// Of so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidates: Option<u16>,
    /// Why its source gave way to another: `egress`, `service`, `hairpin` or `portTaken`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<&'static str>,
    /// What becomes of packets of the side that began it.
    pub original: Translation,
    /// What becomes of the other side's.
    pub reply: Translation,
    /// Packets that were dropped.
    pub dropped: u64,
    /// The first walks that tell something: the first, changes of state, drops; and the newest.
    pub walks: Vec<Step>,
    /// Walks that tell something beyond those.
    pub more: u64,
    /// When its backend went though it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_gone: Option<String>,
    /// Connections of the same ends before it, as far as is held.
    pub before: u64,
    /// The state in which the last of these was when this one took its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<&'static str>,
    /// Other connections that are meant as well.
    pub others: u64,
    /// What can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Kind for Story {
    const KIND: &'static str = "ConnectionStory";
}

/// Where a connection stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Now {
    /// `open`, `ended` or `refused`.
    pub is: &'static str,
    /// The state it is in, or was last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// As a clause: how it ended, or why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub how: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Seconds until its entry is given up, unless more packets come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_seconds: Option<u64>,
}

/// What becomes of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Translation {
    /// Source as it comes in.
    pub source: String,
    /// Destination as it comes in.
    pub destination: String,
    /// Source as it leaves.
    pub left_source: String,
    /// Destination as it leaves.
    pub left_destination: String,
    /// Packets, as far as is held.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A walk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its number.
    pub walk: u64,
    /// The number of its record in what is held.
    pub record: u64,
    /// When it was.
    pub time: String,
    /// The port by which the packet came in.
    pub ingress: String,
    /// `original` or `reply`.
    pub direction: &'static str,
    /// What the packet was.
    pub what: String,
    /// The state behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// What became of it.
    pub verdict: String,
    /// Whether it got somewhere.
    pub passed: bool,
}

/// Tells what was followed: of several the one that was heard of last. `now` is the moment up to
/// which it is told, nanoseconds since 1970, UTC; `held_since` the first that is held.
#[must_use]
pub fn tell(
    follow: &Follow,
    replayer: &Replayer,
    held_since: Option<u64>,
    now: u64,
) -> Option<Story> {
    let (tuple, life, others) = follow.newest()?;
    let names = &directory(replayer);
    let entry = life.entry.as_ref();
    let ended = ended(life, replayer, now);
    let port = |side| entry.map(|entry| name_of(entry.port(side), names));
    let began = life.notes.first().filter(|_| life.is_whole);
    let backend = entry.filter(|entry| life.service.is_some() && entry.has_other_destination());
    let chosen = life.chosen.filter(|_| entry.is_some());
    Some(Story {
        protocol: protocol(tuple.protocol),
        source: end(&tuple.src, tuple.src_port),
        destination: end(&tuple.dst, tuple.dst_port),
        now: standing(life, ended.as_ref(), replayer, now),
        began: began.map(|note| step(note, names)),
        held_since: held_since.map(rfc3339),
        from: port(Side::Originator)
            .or_else(|| life.last.as_ref().map(|note| name_of(note.ingress, names))),
        to: port(Side::Responder),
        service: life.service.clone(),
        backend: backend.map(|entry| {
            let out = entry.translated(Side::Originator);
            end(&out.dst, out.dst_port)
        }),
        chosen_by: chosen.map(|chosen| match chosen.why {
            Why::Affinity => "affinity",
            Why::Method(method) => method.name(),
        }),
        candidates: chosen.map(|chosen| chosen.of),
        masquerade: life.masquerade.map(masquerade),
        original: translation(tuple, life, Side::Originator),
        reply: translation(tuple, life, Side::Responder),
        dropped: life.dropped,
        walks: walks(life, names),
        more: life.more,
        backend_gone: life.orphaned.map(rfc3339),
        before: life.before,
        previous: life.previous.map(State::name),
        others,
        hint: hint(life, ended.is_some(), port(Side::Responder)),
    })
}

const fn masquerade(why: Masquerade) -> &'static str {
    match why {
        Masquerade::Egress => "egress",
        Masquerade::Service => "service",
        Masquerade::Hairpin => "hairpin",
        Masquerade::PortTaken => "portTaken",
    }
}

fn translation(tuple: &Tuple, life: &Life, side: Side) -> Translation {
    let (seen, left) = match (&life.entry, side) {
        (Some(entry), side) => (entry.of(side), entry.translated(side)),
        (None, Side::Originator) => (*tuple, *tuple),
        (None, Side::Responder) => (tuple.inverse(), tuple.inverse()),
    };
    let (packets, bytes) = side.of(life.frames);
    Translation {
        source: end(&seen.src, seen.src_port),
        destination: end(&seen.dst, seen.dst_port),
        left_source: end(&left.src, left.src_port),
        left_destination: end(&left.dst, left.dst_port),
        packets,
        bytes,
    }
}

/// The walks of note, and the newest.
fn walks(life: &Life, names: &Directory) -> Vec<Step> {
    let newest = life.last.as_ref();
    let newest = newest.filter(|last| life.notes.iter().all(|note| note.walk != last.walk));
    life.notes.iter().chain(newest).map(|note| step(note, names)).collect()
}

fn step(note: &Note, names: &Directory) -> Step {
    let mut what = String::new();
    // Writing into a String cannot fail.
    let written = parse::describe(&note.window, &mut what);
    debug_assert!(written.is_ok(), "a String takes any text");
    let (passed, verdict) = match note.verdict {
        Verdict::Forward(port) => (true, format!("forward to {}", name_of(port, names))),
        Verdict::Flood(ports) => (true, format!("flood to {ports} ports")),
        Verdict::Deliver(id) => (true, format!("deliver to {}", Label::of_endpoint(id))),
        Verdict::Answer(AnswerKind::Reset { reason }) => (false, format!("reset: {reason}")),
        Verdict::Answer(AnswerKind::Error { reason, .. }) => {
            (false, format!("ICMP error: {reason}"))
        }
        Verdict::Answer(_) => (true, "answered".to_owned()),
        Verdict::Drop(reason) => (false, format!("drop {reason}")),
        Verdict::Hold => (true, "held until its first fragment comes".to_owned()),
    };
    Step {
        walk: note.walk,
        record: note.record,
        time: rfc3339(note.utc),
        ingress: name_of(note.ingress, names),
        direction: match note.side {
            Side::Originator => "original",
            Side::Responder => "reply",
        },
        what,
        state: note.state.map(State::name),
        verdict,
        passed,
    }
}

/// How it ended, and when (UTC); `None` while it is open, or if it never was.
fn ended(life: &Life, replayer: &Replayer, now: u64) -> Option<(String, u64)> {
    let entry = life.entry.as_ref()?;
    let state = entry.track.state;
    let deadline = replayer.utc(entry.track.deadline);
    let ended = life.ended.or_else(|| (deadline <= now).then_some((How::TimedOut, deadline)));
    let reached = life.notes.iter().rfind(|note| note.state == Some(state));
    match (ended, state) {
        (Some((How::GaveWay(walk), utc)), _) => {
            Some((format!("gave way to a new connection (walk {walk}): there was no room"), utc))
        }
        (Some((How::BackendRemoved, utc)), _) => {
            Some(("its backend serves no more".to_owned(), utc))
        }
        (Some((How::ServiceCame, utc)), _) => {
            Some(("its destination is a Service's by now".to_owned(), utc))
        }
        // What follows upon the end is waiting only.
        (_, State::Close | State::TimeWait) => {
            let utc = reached.map(|note| note.utc).or_else(|| ended.map(|(_, utc)| utc));
            Some((closed(entry, reached), utc.unwrap_or(deadline)))
        }
        (Some((How::TimedOut, utc)), state) => Some((timed_out(state).to_owned(), utc)),
        (None, _) => None,
    }
}

fn closed(entry: &Connection, reached: Option<&Note>) -> String {
    let is_tcp = entry.of(Side::Originator).protocol == 6;
    let by = reached.map_or("", |note| match note.side {
        Side::Originator => " by the side that began it",
        Side::Responder => " by the side that was asked",
    });
    match (entry.track.state, is_tcp) {
        (State::Close, true) => format!("reset (RST){by}"),
        (State::Close, false) => format!("aborted or shut down{by}"),
        _ => "closed by both sides (FIN)".to_owned(),
    }
}

const fn timed_out(state: State) -> &'static str {
    match state {
        State::SynSent
        | State::SynReceived
        | State::SynSent2
        | State::Unreplied
        | State::SctpOpening => "timed out: it was never answered",
        State::FinWait | State::CloseWait | State::LastAck | State::SctpClosing => {
            "timed out amid closing: one side's end never came"
        }
        State::Established
        | State::Replied
        | State::SctpEstablished
        | State::TimeWait
        | State::Close => "timed out: nothing more was said",
    }
}

fn standing(life: &Life, ended: Option<&(String, u64)>, replayer: &Replayer, now: u64) -> Now {
    let Some(entry) = &life.entry else {
        let how = life.refused.map(|reason| format!("{reason}: {}", reason.text()));
        return Now { is: "refused", how, ..Now::default() };
    };
    let left = replayer.utc(entry.track.deadline).saturating_sub(now) / 1_000_000_000;
    let there = life.ended.is_none() && replayer.utc(entry.track.deadline) > now;
    Now {
        is: if ended.is_some() { "ended" } else { "open" },
        state: Some(entry.track.state.name()),
        how: ended.map(|(how, _)| how.clone()),
        ended: ended.map(|(_, utc)| rfc3339(*utc)),
        expires_seconds: there.then_some(left),
    }
}

/// What can be done.
fn hint(life: &Life, is_over: bool, to: Option<String>) -> Option<String> {
    let Some(entry) = &life.entry else {
        return life.refused.map(|reason| reason.hint().to_owned());
    };
    if let Some((How::GaveWay(_), _)) = life.ended {
        return Some("hopctl get conntrack shows who has so many connections".to_owned());
    }
    if life.orphaned.is_some() && !is_over {
        return Some("its backend serves no more; the client should connect anew".to_owned());
    }
    let backend = entry.translated(Side::Originator);
    let at = end(&backend.dst, backend.dst_port);
    let by = to.unwrap_or_default();
    let (_, (answers, _)) = life.frames.into();
    if answers == 0 && life.is_whole && entry.track.state.may_go() {
        return Some(format!(
            "{at} behind {by} has not answered: hopctl capture {} shows what it was sent",
            by.strip_prefix("pod/").unwrap_or("node")
        ));
    }
    if entry.track.state == State::Close && answers <= 1 && life.is_whole {
        return Some(format!("{at} behind {by} refuses: does anything listen there?"));
    }
    life.refused.filter(|_| life.dropped > 0).map(|reason| reason.hint().to_owned())
}

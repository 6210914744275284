//! What if: a recording replayed beside a switch whose Services are those of a directory.
//!
//! The directory is read as the daemon reads its own, with what the recording says of the node:
//! its addresses, its ranges of Services, its node ports ([`recording::whatif`] says what else
//! stays as it was recorded).

use std::io;
use std::net::IpAddr;

use recording::whatif::compare::{Difference, Outcome, Reason};
use recording::whatif::{Instead, Report, WhatIf};
use recording::{Done, Replayer};
use serde::Serialize;
use smoltcp::wire::IpAddress;
use stack::table::conntrack::Tuple;
use stack::{AnswerKind, Config, ServiceId, Verdict};

use super::{Ended, Stop, Watch, directory};
use crate::admin::connections::{end, protocol};
use crate::admin::objects::Kind;
use crate::admin::snapshot::name_of;
use crate::admin::trace;
use crate::directory::Directory;
use crate::kube::numbers::{Numbers, OTHERS};
use crate::kube::objects::{ObjectError, Objects, desired};
use crate::kube::place::Known;
use crate::kube::ranges;
use crate::utc::rfc3339;

/// Why there is nothing to compare with, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// What is wrong.
    pub message: String,
    /// What mends it.
    pub hint: String,
}

/// The second switch, as a replay's watch.
#[derive(Debug)]
pub struct Beside<'a> {
    objects: &'a Objects,
    node_name: Option<&'a str>,
    whatif: WhatIf,
    /// The Node that it is, and what of the objects is refused.
    adopted: Option<(String, Vec<ObjectError>)>,
    unfit: Option<Unfit>,
}

impl<'a> Beside<'a> {
    /// With these objects, as the Node of that name; without one as the one that fits.
    #[must_use]
    pub fn new(objects: &'a Objects, node_name: Option<&'a str>) -> Self {
        let whatif = WhatIf::default();
        Self { objects, node_name, whatif, adopted: None, unfit: None }
    }

    /// Why there was nothing to compare with.
    #[must_use]
    pub fn unfit(&self) -> Option<&Unfit> {
        self.unfit.as_ref()
    }

    /// What of the objects is refused, while all else is in force.
    #[must_use]
    pub fn faults(&self) -> &[ObjectError] {
        self.adopted.as_ref().map_or(&[], |(_, faults)| faults)
    }

    /// What came of it.
    #[must_use]
    pub fn report(&self) -> &Report {
        self.whatif.report()
    }

    fn adopt_when_due(&mut self, replayer: &Replayer) {
        if !self.whatif.is_due(replayer) {
            return;
        }
        let Some(switch) = replayer.switch() else { return };
        let adopted = instead(self.objects, self.node_name, &switch.config());
        let adopted = adopted.and_then(|(instead, node_name, faults)| {
            self.whatif.adopt(instead).map_err(|error| Unfit {
                message: format!("the switch refuses what the manifests say: {error}"),
                hint: "a hostPort of a recorded pod may have the place".to_owned(),
            })?;
            Ok((node_name, faults))
        });
        match adopted {
            Ok(adopted) => self.adopted = Some(adopted),
            Err(unfit) => self.unfit = Some(unfit),
        }
    }
}

impl Watch for Beside<'_> {
    fn named(&mut self, replayer: &Replayer) {
        self.whatif.begin(replayer);
        self.adopt_when_due(replayer);
    }

    fn take(&mut self, replayer: &Replayer, done: &Done) -> io::Result<bool> {
        self.whatif.take(replayer, done);
        self.adopt_when_due(replayer);
        Ok(self.unfit.is_none())
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the objects put in place of the Services of a recorded configuration, as which Node, and
/// what of them is refused.
fn instead(
    objects: &Objects,
    node_name: Option<&str>,
    config: &Config,
) -> Result<(Instead, String, Vec<ObjectError>), Unfit> {
    let node_name = match node_name {
        Some(name) => name.to_owned(),
        None => fitting(objects, config)?,
    };
    let addresses: Vec<IpAddr> = config.node.addresses.iter().map(|own| (*own).into()).collect();
    let known = Known {
        node_name: &node_name,
        node_addresses: Some(&addresses),
        uplink: &[],
        service_cidrs: &config.node.service_cidrs,
        node_ports: config.node.node_ports,
    };
    let desired = desired(objects, &known)
        .map_err(|error| Unfit { message: error.to_string(), hint: String::new() })?;
    let mut services = desired.services;
    Numbers::of(&config.services, &[]).number(&mut services);
    let instead = Instead { services, ranges: desired.service_cidrs, stay_from: ServiceId(OTHERS) };
    Ok((instead, node_name, desired.faults))
}

/// The only Node there is, or the one whose pods had the recorded gateway.
fn fitting(objects: &Objects, config: &Config) -> Result<String, Unfit> {
    let mut names = objects.nodes.keys();
    if let (Some(name), None) = (names.next(), names.next()) {
        return Ok(name.clone());
    }
    let own = [
        config.node.gateway4.map(|gateway| IpAddress::from(gateway.address())),
        config.node.gateway6.map(|gateway| IpAddress::from(gateway.address())),
    ];
    let fits = |name: &str, node| {
        let ranges = ranges::of_pods(name, node).unwrap_or_default();
        own.iter().flatten().any(|own| ranges.iter().any(|range| range.contains_addr(own)))
    };
    let found = objects.nodes.iter().find(|(name, node)| fits(name, node));
    found.map(|(name, _)| name.clone()).ok_or_else(|| Unfit {
        message: format!("the manifests have {} Nodes, none of this gateway", objects.nodes.len()),
        hint: "say which one it is by --node-name".to_owned(),
    })
}

/// `hopctl replay --with DIR -o json` of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// The recording's id, hexadecimal.
    pub recording: String,
    /// The Node of the manifests.
    pub node: String,
    /// What of the manifests is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<ObjectError>,
    /// When the first record was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// When the last record was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// `end`, `cut`, `until`, `crash` or `diverged`.
    pub stopped: &'static str,
    /// Why the recorded switch is not this one, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<String>,
    /// Frames that were compared.
    pub frames: u64,
    /// Connections that had a frame.
    pub connections: u64,
    /// Of these, those that differ.
    pub differ: u64,
    /// Frames that were not compared, since there were too many connections.
    pub beyond: u64,
    /// Changes of Services in the recording, which were left out.
    pub left_out: u64,
    /// The first recorded change that the second switch refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Those that differ by reason, in the order of the list below.
    pub reasons: Vec<Group>,
    /// Each connection at its first difference.
    pub differences: Vec<Differing>,
}

impl Kind for Comparison {
    const KIND: &'static str = "WhatIf";
}

/// Connections that differ in the same way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// `dropped`, `refused`, `answered`, `forwarded`, `backend`, `source` or `port`.
    pub kind: &'static str,
    /// As a clause.
    pub text: String,
    /// Why, of what is dropped or refused: the reason's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
    /// Connections.
    pub count: u64,
}

/// A connection at its first difference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Differing {
    /// Place in the list of reasons.
    pub group: usize,
    /// When the frame came.
    pub time: String,
    /// Its recorded walk.
    pub walk: u64,
    /// Its record.
    pub record: u64,
    /// The port by which it came in.
    pub ingress: String,
    /// The protocol's name or number.
    pub protocol: String,
    /// Who began the connection.
    pub source: String,
    /// Whom it asked for.
    pub destination: String,
    /// The Service that it asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Whether the frame is of the side that was spoken to.
    pub is_reply: bool,
    /// What was.
    pub recorded: Fate,
    /// What would be.
    pub now: Fate,
}

/// What became of a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fate {
    /// What it differs by, in a few words.
    pub text: String,
    /// `forward`, `flood`, `deliver`, `answer` or `drop`.
    pub verdict: &'static str,
    /// Why it was dropped or refused: the reason's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The port by which it left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<String>,
    /// The source with which it left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The destination with which it left: the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
}

impl Comparison {
    /// Of a replay that ended with a switch beside it.
    #[must_use]
    pub fn new(ended: &Ended, beside: &Beside<'_>) -> Self {
        let (report, names) = (beside.report(), directory(&ended.replayer));
        let (first, last) = ended.summary.times.map(|(a, b)| (rfc3339(a), rfc3339(b))).unzip();
        let group = |(reason, count): (&Reason, &u64)| Group {
            kind: reason.name(),
            text: reason.to_string(),
            reason: reason.drop().map(stack::DropReason::name),
            hint: reason.drop().map(stack::DropReason::hint),
            count: *count,
        };
        let place = |reason| report.reasons.keys().position(|other| *other == reason);
        let differing = |one: &Difference| differing(one, place(one.reason).unwrap_or(0), &names);
        Self {
            recording: ended.replayer.start().id.to_string(),
            node: beside.adopted.as_ref().map_or_else(String::new, |(node, _)| node.clone()),
            faults: beside.faults().to_vec(),
            first,
            last,
            stopped: match &ended.stop {
                Ok(Stop::End(ending)) if ending.cut => "cut",
                Ok(Stop::End(_)) => "end",
                Ok(Stop::Until | Stop::Enough | Stop::Break(_)) => "until",
                Ok(Stop::Crash { .. }) => "crash",
                Err(_) => "diverged",
            },
            divergence: ended.stop.as_ref().err().map(ToString::to_string),
            frames: report.frames,
            connections: report.connections,
            differ: report.differ(),
            beyond: report.beyond,
            left_out: report.left_out,
            refused: report.refused.as_ref().map(|(record, why)| format!("record {record}: {why}")),
            reasons: report.reasons.iter().map(group).collect(),
            differences: report.differences.iter().map(differing).collect(),
        }
    }
}

fn differing(one: &Difference, group: usize, names: &Directory) -> Differing {
    let Tuple { src, src_port, dst, dst_port, protocol: number } = one.flow;
    Differing {
        group,
        time: rfc3339(one.utc),
        walk: one.walk,
        record: one.record,
        ingress: name_of(one.ingress, names),
        protocol: protocol(number),
        source: end(&src, src_port),
        destination: end(&dst, dst_port),
        service: one.service.clone(),
        is_reply: one.frame != one.flow,
        recorded: fate(&one.then, one.reason, names),
        now: fate(&one.now, one.reason, names),
    }
}

fn fate(outcome: &Outcome, differs: Reason, names: &Directory) -> Fate {
    let source = outcome.left.map(|left| end(&left.src, left.src_port));
    let destination = outcome.left.map(|left| end(&left.dst, left.dst_port));
    let told = |end: &Option<String>| end.clone().unwrap_or_default();
    let (verdict, egress, reason) = trace::parts(&outcome.verdict, names);
    let text = match (outcome.verdict, differs) {
        (Verdict::Answer(AnswerKind::Reset { reason }), _) => format!("reset: {reason}"),
        (Verdict::Answer(AnswerKind::Error { reason, .. }), _) => format!("ICMP error: {reason}"),
        (Verdict::Answer(_), _) => "answered".to_owned(),
        (Verdict::Drop(reason), _) => format!("dropped: {reason}"),
        (_, Reason::Source) => told(&source),
        (_, Reason::Port) => egress.clone().unwrap_or_default(),
        (..) => told(&destination),
    };
    let reason = reason.map(stack::DropReason::name);
    Fate { text, verdict, reason, egress, source, destination }
}

#[cfg(test)]
pub(super) mod tests;

//! Why a walk ended as it did: its hops, and the rows of the tables that decided, as they were
//! then. And which walks were dropped.
//!
//! A table that was not asked is not shown: a bridged packet had no route.

use std::collections::VecDeque;
use std::io;

use recording::{Done, Replayer};
use serde::Serialize;
use smoltcp::wire::IpAddress;
use stack::pipeline::packet::{Inner, Ip, L4, Nd, Packet};
use stack::pipeline::parse;
use stack::wire::Mac;
use stack::{DropReason, Hop, PortId, Verdict};

use super::show::{each, put_in};
use super::{Ended, Stop, Watch, directory, services};
use crate::admin::objects::{self, Drop, FdbEntry, Kind, Neighbor, Port, Route};
use crate::admin::snapshot::{Snapshot, name_of};
use crate::admin::trace::{hops, passed, verdict};
use crate::capture::session::Observed;
use crate::directory::{Directory, Named};
use crate::utc::rfc3339;

/// `hopctl explain packet ID -o json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The walk's number.
    pub walk: u64,
    /// The number of its record in the excerpt.
    pub record: u64,
    /// When it was.
    pub time: String,
    /// The port it came in by.
    pub ingress: String,
    /// What the frame was.
    pub what: String,
    /// Whether it got somewhere.
    pub passed: bool,
    /// The end.
    pub verdict: objects::Verdict,
    /// Each step.
    pub hops: Vec<objects::Hop>,
    /// Of a drop: the counter that counted it, with what happened and what can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<Drop>,
    /// What the tables said that were asked, in walk order.
    pub lookups: Vec<Lookup>,
}

impl Kind for Explanation {
    const KIND: &'static str = "Explanation";
}

/// What a table said. Without a row it had none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "table", rename_all = "camelCase")]
pub enum Lookup {
    /// The port by which the frame came in.
    Ingress {
        /// Its name.
        key: String,
        /// Its row.
        row: Option<Port>,
    },
    /// Where the destination MAC was.
    Fdb {
        /// The MAC.
        key: String,
        /// Its row.
        row: Option<FdbEntry>,
    },
    /// The longest prefix that covered the destination.
    Routes {
        /// The destination.
        key: String,
        /// The route.
        row: Option<Route>,
    },
    /// Who had an address.
    Neighbors {
        /// The address.
        key: String,
        /// Its row.
        row: Option<Neighbor>,
    },
    /// A port by which it was to leave.
    Egress {
        /// Its name.
        key: String,
        /// Its row.
        row: Option<Port>,
    },
}

/// Of the walk of this number, at which the replay stopped.
#[must_use]
pub fn explain(ended: &Ended, number: u64) -> Option<Explanation> {
    let Ok(Stop::Break(hit)) = &ended.stop else { return None };
    let (snapshot, names) = (ended.snapshot()?, ended.directory());
    let mut found = None;
    each(&ended.replayer, put_in(&ended.replayer).as_ref(), |walk| {
        if walk.trace.number == number {
            let named = Named { ports: &names, services: services(&ended.replayer) };
            let explained = of(walk, &snapshot, &named);
            let (record, time) = (hit.record, rfc3339(hit.utc));
            found = Some(Explanation { record, time, ..explained });
        }
    });
    found
}

fn of(walk: &Observed<'_>, snapshot: &Snapshot, named: &Named<'_>) -> Explanation {
    let names = named.ports;
    let (trace, window) = (walk.trace, window(walk));
    let ingress = name_of(trace.ingress, names);
    let drop = dropped(&trace.verdict).and_then(|reason| {
        let mut drops = snapshot.drops(names).into_iter();
        drops.find(|drop| drop.port == ingress && drop.code == reason.code())
    });
    Explanation {
        walk: trace.number,
        ingress,
        what: what(window),
        passed: passed(&trace.verdict),
        verdict: verdict(&trace.verdict, names),
        hops: hops(trace, window, named),
        drop,
        lookups: lookups(walk, snapshot, names),
        ..Explanation::default()
    }
}

fn window<'a>(walk: &Observed<'a>) -> &'a [u8] {
    walk.received.head
}

fn what(window: &[u8]) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let written = parse::describe(window, &mut text);
    debug_assert!(written.is_ok(), "a String takes any text");
    text
}

fn dropped(verdict: &Verdict) -> Option<DropReason> {
    match verdict {
        Verdict::Drop(reason) => Some(*reason),
        Verdict::Forward(_) | Verdict::Flood(_) | Verdict::Deliver(_) | Verdict::Answer(_) => None,
    }
}

fn lookups(walk: &Observed<'_>, snapshot: &Snapshot, names: &Directory) -> Vec<Lookup> {
    let ports = snapshot.ports(names, &[]);
    let port =
        |id: PortId| (name_of(id, names), ports.iter().find(|port| port.id == id.0).cloned());
    let (key, row) = port(walk.trace.ingress);
    let mut all = vec![Lookup::Ingress { key, row }];
    if let Ok(packet) = parse::parse(window(walk), walk.received.len(), &walk.offload) {
        all.extend(asked(walk, &packet, snapshot, names));
    }
    for id in egress(walk) {
        let (key, row) = port(id);
        all.push(Lookup::Egress { key, row });
    }
    all
}

/// What the tables of MACs, routes and neighbors were asked, as the hops say.
fn asked(
    walk: &Observed<'_>,
    packet: &Packet,
    snapshot: &Snapshot,
    names: &Directory,
) -> Vec<Lookup> {
    let mut all = Vec::new();
    let destination = destination(packet);
    let neighbor = || {
        let key = destination.to_string();
        let row = snapshot.neighbors(names).into_iter().find(|row| row.address == key);
        Lookup::Neighbors { key, row }
    };
    let has = |wanted: Hop| walk.trace.hops().contains(&wanted);
    let bridged = walk.trace.hops().iter().any(|hop| matches!(hop, Hop::Bridged(_)));
    let unknown = dropped(&walk.trace.verdict).is_some_and(|reason| {
        [DropReason::UnknownUnicast, DropReason::Reflected].contains(&reason)
    });
    if has(Hop::Asked) {
        all.push(neighbor());
    }
    if bridged || unknown {
        let key = Mac(packet.dst).to_string();
        let row = snapshot.fdb(names).into_iter().find(|row| row.mac == key);
        all.push(Lookup::Fdb { key, row });
    }
    if has(Hop::Gateway) && !has(Hop::Own) && !has(Hop::Inside) {
        let row = snapshot.route(destination, names);
        let attached = row.as_ref().is_some_and(|row| row.r#type == "connected");
        all.push(Lookup::Routes { key: destination.to_string(), row });
        if attached {
            all.push(neighbor());
        }
    }
    all
}

/// Whom a packet was for, or whom it asked for.
fn destination(packet: &Packet) -> IpAddress {
    match packet.inner {
        Inner::Arp(arp) => arp.target.into(),
        Inner::Ip(Ip { l4: L4::Nd(Nd::NeighborSolicit { target, .. }), .. }) => target.into(),
        Inner::Ip(ip) => ip.dst,
    }
}

/// The ports by which a packet left, or was to leave when it was refused; its answer apart.
fn egress(walk: &Observed<'_>) -> Vec<PortId> {
    let meant = walk.trace.hops().iter().filter_map(|hop| match hop {
        Hop::Bridged(port) | Hop::Routed { port, .. } => Some(*port),
        Hop::Parsed
        | Hop::Gateway
        | Hop::Group(_)
        | Hop::Asked
        | Hop::Local
        | Hop::Own
        | Hop::Inside
        | Hop::Unreachable { .. }
        | Hop::Fragment(_)
        | Hop::Tracked(_)
        | Hop::Balanced { .. }
        | Hop::Unbalanced(_)
        | Hop::Readdressed
        | Hop::HealthCheck
        | Hop::GivenBack
        | Hop::Masqueraded(_)
        | Hop::SourceRestored
        | Hop::Cleared
        | Hop::Answered(_)
        | Hop::Silent(_)
        | Hop::Verdict(_) => None,
    });
    let left = match walk.trace.verdict {
        Verdict::Forward(_) | Verdict::Flood(_) => walk.sent,
        Verdict::Deliver(_) | Verdict::Answer(_) | Verdict::Drop(_) => &[],
    };
    let mut ports = Vec::new();
    for port in meant.chain(left.iter().map(|(port, _)| *port)) {
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    ports
}

/// A walk that was dropped: `hopctl explain drop -o json` lists some.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DroppedWalk {
    /// The walk's number.
    pub walk: u64,
    /// When it was.
    pub time: String,
    /// The port it came in by.
    pub port: String,
    /// What the frame was.
    pub what: String,
    /// The reason's name.
    pub reason: &'static str,
    /// Its stable number.
    pub code: u16,
    /// What happened.
    pub text: &'static str,
    /// What can be done about it.
    pub hint: &'static str,
}

impl Kind for DroppedWalk {
    const KIND: &'static str = "DroppedWalk";
}

/// The newest drops of a replay.
#[derive(Debug)]
pub struct Drops {
    most: usize,
    newest: VecDeque<DroppedWalk>,
}

impl Drops {
    /// So many of them at most.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, newest: VecDeque::new() }
    }

    /// Them, the newest first.
    #[must_use]
    pub fn newest_first(self) -> Vec<DroppedWalk> {
        self.newest.into_iter().rev().collect()
    }
}

impl Watch for Drops {
    fn named(&mut self, _replayer: &Replayer) {}

    fn take(&mut self, replayer: &Replayer, done: &Done) -> io::Result<bool> {
        let is_dropped = |trace: &stack::Trace| dropped(&trace.verdict).is_some();
        if !replayer.out().is_some_and(|out| out.walked.iter().any(is_dropped)) {
            return Ok(true);
        }
        let names = directory(replayer);
        each(replayer, put_in(replayer).as_ref(), |walk| {
            let Some(reason) = dropped(&walk.trace.verdict) else { return };
            if self.newest.len() == self.most {
                self.newest.pop_front();
            }
            self.newest.push_back(DroppedWalk {
                walk: walk.trace.number,
                time: rfc3339(replayer.utc(done.head.time)),
                port: name_of(walk.trace.ingress, &names),
                what: what(window(walk)),
                reason: reason.name(),
                code: reason.code(),
                text: reason.text(),
                hint: reason.hint(),
            });
        });
        Ok(true)
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;

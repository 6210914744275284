//! A connection followed through a recording: how it began, what was made of it, what became of it.
//!
//! [`wanted`] says which one; [`Follow`] watches the replay and keeps of it what is told later;
//! [`story`] tells it. Kept is little: the walks of note ([`NOTES_MAX`]), the newest walk and the
//! entry of the table, of [`LIVES_MAX`] connections at most.

use std::collections::BTreeMap;
use std::io;

use recording::{Done, Replayer};
use smoltcp::wire::IpProtocol;
use stack::journal::Kind;
use stack::pipeline::packet::Inner;
use stack::pipeline::{flow, parse};
use stack::replay::Step;
use stack::table::conntrack::{Connection, Side, State, Tuple};
use stack::table::service::Found;
use stack::trace::{Masquerade, Tracked, Why};
use stack::{DropReason, Frame, Hop, Offload, PortId, Switch, Trace, Verdict};

use super::show::{each, put_in};
use super::{Ended, Watch};
use crate::admin::trace;
use crate::capture::session::Observed;

pub mod story;
pub mod wanted;

use wanted::Wanted;

/// Connections followed at once: so many may match what is asked for.
pub const LIVES_MAX: usize = 64;
/// Walks of note that are kept of a connection: its first, changes of state, drops.
pub const NOTES_MAX: usize = 32;

/// A walk of the connection.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) walk: u64,
    pub(super) record: u64,
    /// Nanoseconds since 1970, UTC.
    pub(super) utc: u64,
    pub(super) ingress: PortId,
    /// Whose packet it is.
    pub(super) side: Side,
    /// How far the connection has come by it, if there is one.
    pub(super) state: Option<State>,
    pub(super) verdict: Verdict,
    /// The header window.
    pub(super) window: Vec<u8>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Its time was over.
    TimedOut,
    /// A new one took its place, since room was needed: that one's walk.
    GaveWay(u64),
    /// Its backend is no more one of its Service.
    BackendRemoved,
    /// What it asked for is a Service's by now.
    ServiceCame,
}

/// How its backend was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) why: Why,
    pub(super) of: u16,
}

/// What is kept of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    /// Whether its first packet was seen.
    pub(super) is_whole: bool,
    /// The newest entry of the table; none of one that was refused.
    pub(super) entry: Option<Connection>,
    /// The Service's name, as it was called when the connection began.
    pub(super) service: Option<String>,
    pub(super) chosen: Option<Chosen>,
    pub(super) masquerade: Option<Masquerade>,
    /// Frames of each side, and their bytes.
    pub(super) frames: [(u64, u64); 2],
    pub(super) dropped: u64,
    /// Why the newest packet that got nowhere did not.
    pub(super) refused: Option<DropReason>,
    pub(super) notes: Vec<Note>,
    /// Walks of note beyond what is kept.
    pub(super) more: u64,
    pub(super) last: Option<Note>,
    /// When its backend went though the connection stays, UTC.
    pub(super) orphaned: Option<u64>,
    /// How and when it ended, UTC.
    pub(super) ended: Option<(How, u64)>,
    /// Connections of the same ends before it, and how far the last of them had come.
    pub(super) before: u64,
    pub(super) previous: Option<State>,
}

/// Follows connections, as a replay's watch.
#[derive(Debug)]
pub struct Follow {
    wanted: Wanted,
    /// By the flow of the side that began each.
    lives: BTreeMap<Tuple, Life>,
    /// Connections beyond those followed.
    beyond: u64,
}

impl Follow {
    /// Those that match.
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        Self { wanted, lives: BTreeMap::new(), beyond: 0 }
    }

    /// The one that matches, of several the one heard of last; and how many others there are.
    #[must_use]
    pub(super) fn newest(&self) -> Option<(&Tuple, &Life, u64)> {
        let heard = |life: &Life| life.last.as_ref().map(|note| note.walk);
        let (tuple, life) = self.lives.iter().max_by_key(|(_, life)| heard(life))?;
        Some((tuple, life, self.lives.len() as u64 - 1 + self.beyond))
    }

    /// The life of that connection, if there is room to follow it.
    fn life(&mut self, originator: Tuple) -> Option<&mut Life> {
        if self.lives.len() >= LIVES_MAX && !self.lives.contains_key(&originator) {
            self.beyond += 1;
            return None;
        }
        Some(self.lives.entry(originator).or_default())
    }

    /// Whose packet it is that came when its connection was over.
    fn late(&self, seen: &Tuple) -> Option<(Tuple, Side)> {
        let is = |life: &Life| life.entry.is_some_and(|entry| entry.of(Side::Responder) == *seen);
        let (originator, _) = self.lives.iter().find(|(_, life)| is(life))?;
        Some((*originator, Side::Responder))
    }

    fn walked(&mut self, replayer: &Replayer, done: &Done, switch: &Switch) {
        let Some(frame) = replayer.frame() else { return };
        let window = frame.bytes.get(..frame.bytes.len().min(Frame::WINDOW)).unwrap_or_default();
        // Most frames are of others: no more is looked at than their flow.
        if flow_of(window, frame.len, &frame.offload)
            .is_none_or(|seen| !self.wanted.is(&connection(switch, &seen), &seen))
        {
            return;
        }
        each(replayer, put_in(replayer).as_ref(), |walk| {
            let Some(seen) = flow_of(walk.received.head, walk.received.len(), &walk.offload) else {
                return;
            };
            let found = connection(switch, &seen);
            let entry = found.map(|(connection, _)| connection);
            let (originator, side) = match found {
                Some((connection, side)) => (connection.of(Side::Originator), side),
                None => self.late(&seen).unwrap_or((seen, Side::Originator)),
            };
            let Some(life) = self.life(originator) else { return };
            let state = entry.map(|entry| entry.track.state);
            let note = Note {
                walk: walk.trace.number,
                record: done.number,
                utc: replayer.utc(done.head.time),
                ingress: walk.trace.ingress,
                side,
                state,
                verdict: walk.trace.verdict,
                window: walk.received.head.to_vec(),
            };
            life.take(walk, note, entry, switch);
        });
    }
}

impl Watch for Follow {
    /// What was open at the begin.
    fn named(&mut self, replayer: &Replayer) {
        let Some(switch) = replayer.switch() else { return };
        let now = switch.tables().now();
        for (_, entry) in switch.tables().connections().iter() {
            let seen = entry.of(Side::Originator);
            let open = entry.track.deadline > now;
            if open && self.wanted.is(&Some((entry, Side::Originator)), &seen) {
                let Some(life) = self.life(seen) else { continue };
                life.entry = Some(entry);
                life.service = service(switch, &entry);
            }
        }
    }

    fn take(&mut self, replayer: &Replayer, done: &Done) -> io::Result<bool> {
        let (Some(switch), Step::Done(kind)) = (replayer.switch(), &done.step) else {
            return Ok(true);
        };
        // What ended before this record ended before its packet was seen.
        let utc = replayer.utc(done.head.time);
        let walk = replayer.out().and_then(|out| Some(out.walked.first()?.number));
        let opens = walk.filter(|_| opens(replayer));
        for (tuple, life) in &mut self.lives {
            life.look(tuple, switch, utc, opens);
        }
        if matches!(kind, Kind::Frame | Kind::Deliver) {
            self.walked(replayer, done, switch);
        }
        Ok(true)
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the newest record began a connection, which another may have given way to.
fn opens(replayer: &Replayer) -> bool {
    let is_new = |trace: &Trace| trace.hops().contains(&Hop::Tracked(Tracked::New));
    replayer.out().is_some_and(|out| out.walked.iter().any(is_new))
}

/// The flow of the side that began the connection of a walk, at which the replay stopped.
#[must_use]
pub fn of_walk(ended: &Ended, number: u64) -> Option<Tuple> {
    let switch = ended.replayer.switch()?;
    let mut found = None;
    each(&ended.replayer, put_in(&ended.replayer).as_ref(), |walk| {
        if walk.trace.number == number {
            let seen = flow_of(walk.received.head, walk.received.len(), &walk.offload);
            let originator =
                |seen| connection(switch, &seen).map(|(found, _)| found.of(Side::Originator));
            found = seen.map(|seen| originator(seen).unwrap_or(seen));
        }
    });
    found
}

/// The flow of a frame.
pub(super) fn flow_of(window: &[u8], len: usize, offload: &Offload) -> Option<Tuple> {
    match parse::parse(window, len, offload).ok()?.inner {
        Inner::Ip(ip) => flow::tuple(&ip),
        Inner::Arp(_) => None,
    }
}

/// The connection that a flow is of, and whose flow it is.
pub(super) fn connection(switch: &Switch, seen: &Tuple) -> Option<(Connection, Side)> {
    let connections = switch.tables().connections();
    let (id, side) = connections.find(seen)?;
    Some((connections.get(id)?, side))
}

fn service(switch: &Switch, entry: &Connection) -> Option<String> {
    Some(switch.tables().services().by_id(entry.service?)?.config.name.clone())
}

impl Life {
    /// Takes in a walk of the connection; `entry` is what stands in the table behind it.
    fn take(&mut self, walk: &Observed<'_>, note: Note, entry: Option<Connection>, at: &Switch) {
        let is_new = walk.trace.hops().contains(&Hop::Tracked(Tracked::New));
        // A packet that was refused and comes again begins nothing else.
        let was = self.entry.is_some() || self.ended.is_some();
        if is_new && was {
            let previous = self.entry.map(|entry| entry.track.state);
            *self = Self { before: self.before + 1, previous, ..Self::default() };
        }
        let is_first = self.last.is_none() && is_new;
        if is_new {
            self.is_whole |= is_first;
            self.read(walk.trace, at);
        }
        let state = self.entry.map(|entry| entry.track.state);
        let passed = trace::passed(&note.verdict);
        if let Some((frames, bytes)) = self.frames.get_mut(note.side.index()) {
            *frames += 1;
            *bytes += walk.received.len() as u64;
        }
        if let Verdict::Drop(reason) = note.verdict {
            self.dropped += 1;
            self.refused = Some(reason);
        }
        if let Verdict::Answer(
            stack::AnswerKind::Reset { reason } | stack::AnswerKind::Error { reason, .. },
        ) = note.verdict
        {
            self.refused = Some(reason);
        }
        let of_note = is_first || !passed || note.state != state || self.notes.is_empty();
        if of_note && self.notes.len() < NOTES_MAX {
            self.notes.push(note.clone());
        } else if of_note {
            self.more += 1;
        }
        if let Some(entry) = entry {
            self.service = self.service.take().or_else(|| service(at, &entry));
            self.entry = Some(entry);
        }
        self.last = Some(note);
    }

    /// What the first packet's walk says of choices.
    fn read(&mut self, trace: &Trace, at: &Switch) {
        let services = at.tables().services();
        let name = |id| services.by_id(id).map(|service| service.config.name.clone());
        for hop in trace.hops() {
            if let Hop::Balanced { service, why, of } = *hop {
                self.service = name(service);
                self.chosen = Some(Chosen { why, of });
            }
            if let Hop::Unbalanced(service) = *hop {
                self.service = name(service);
            }
            if let Hop::Masqueraded(why) = *hop {
                self.masquerade = Some(why);
            }
        }
    }

    /// Looks whether it is still there. `opened` is the walk of the newest record, if that began a
    /// connection.
    fn look(&mut self, tuple: &Tuple, switch: &Switch, utc: u64, opened: Option<u64>) {
        let (Some(entry), None) = (self.entry, self.ended) else { return };
        let now = switch.tables().now();
        let is_it = |found: &Connection| found.tuples == entry.tuples;
        let there = connection(switch, tuple).map(|(found, _)| found).filter(is_it);
        let deadline = entry.track.deadline;
        let past = utc.saturating_sub(now.since(deadline).0);
        let how = match there {
            _ if deadline <= now => Some((How::TimedOut, past)),
            Some(_) => misled(switch, &entry).map(|how| (how, utc)),
            // Where its own ends begin another, that one's life replaces this one.
            None => opened.map(|walk| (How::GaveWay(walk), utc)),
        };
        match how {
            // TCP has an end that can be seen: the connection stays though its backend went.
            Some((How::BackendRemoved, utc)) if tuple.ip_protocol() != IpProtocol::Udp => {
                self.orphaned = self.orphaned.or(Some(utc));
            }
            Some(how) => self.ended = Some(how),
            None => {}
        }
    }
}

/// Whether what the connection was led to has changed: see `is_misled` of the walk's conntrack.
fn misled(switch: &Switch, entry: &Connection) -> Option<How> {
    let tables = switch.tables();
    let (seen, backend) = (entry.of(Side::Originator), entry.of(Side::Responder));
    let found = tables.frontend(&seen);
    let Some(service) = entry.service else {
        let is_udp = seen.ip_protocol() == IpProtocol::Udp;
        let came = matches!(found, Found::Frontend { .. });
        return (is_udp && came).then_some(How::ServiceCame);
    };
    let slot = tables.services().slot(service);
    let serves = |slot| tables.services().serves(slot, &backend.src, backend.src_port);
    let same = matches!(found, Found::Frontend { slot: found, .. } if Some(found) == slot);
    (!same || !slot.is_some_and(serves)).then_some(How::BackendRemoved)
}

#[cfg(test)]
mod tests;

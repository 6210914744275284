//! fragment: what has ports goes first, and what has none follows it (virtual reassembly).
//!
//! RFC 4787 requirement 14, RFC 8200 section 4.5, RFC 1858, RFC 3128, RFC 5722, RFC 6946.
//! Invariants:
//! - A later fragment never goes before its first, and goes only where its first went: what no
//!   policy or translation has seen the ports of does not pass. So which of them may need a
//!   translation is never asked. It could not be told from addresses either: what a backend answers
//!   to a pod beside it is bridged, bears two pods' addresses, and is translated.
//! - What comes before its first is held. Nothing else ever is.
//! - A byte of a datagram passes once for each time that its first is walked. So no fragment can
//!   replace what another one showed: neither the upper header, which the first has whole (parse),
//!   nor anything behind it, until a first is judged anew.
//! - Fragments to a group are not followed: a group has no connections and no translation.
//!
//! A first fragment may come twice. If the second is as long as the one before it may belong to a
//! new datagram of the same identification, and fast senders of IPv4 have no more than 65,536 (RFC
//! 4963): it is walked anew, and what follows goes as it does.

use core::ops::ControlFlow::{Break, Continue};

use smoltcp::wire::IpAddress;

use super::flow::{Flow, tuple};
use super::l2::Path;
use super::packet::{Fragment, Inner, Ip, Packet, Part};
use super::{Step, Stop, Walk};
use crate::drop::DropReason;
use crate::table::Effect;
use crate::table::fragment::{Datagram, DatagramKey, Fate, Fit, Found, Fragmented, Passage, What};
use crate::trace::{Hop, Tracked};

/// Finds out how a later fragment goes on: as its first did. `None` for all that has an upper
/// header of its own.
pub(crate) fn follow(cx: &mut Walk<'_>, packet: &Packet, path: Path) -> Step<Option<Flow>> {
    let Inner::Ip(ip) = &packet.inner else { return Continue(None) };
    if let Path::Group(_) = path {
        return Continue(None);
    }
    match ip.fragment {
        Fragment::Whole => Continue(None),
        Fragment::First(part) => first(cx, key(cx, packet, ip, &part), part),
        Fragment::Later(part) => {
            let passage = match cx.released {
                Some(passage) => *passage,
                None => later(cx, key(cx, packet, ip, &part), part)?,
            };
            cx.hop(Hop::Tracked(Tracked::Fragment));
            Continue(Some(Flow::following(passage)))
        }
    }
}

/// Notes how a first fragment leaves, for those that follow.
pub(crate) fn lead(cx: &mut Walk<'_>, packet: &Packet, path: Path, flow: Option<&Flow>) {
    let (Inner::Ip(ip), Some(flow)) = (&packet.inner, flow) else { return };
    let Fragment::First(_) = ip.fragment else { return };
    // An ICMP error's flow has no ports of its own: its addresses are what counts.
    let seen = tuple(ip).unwrap_or(flow.seen);
    let given_back = matches!(path, Path::GivenBack);
    let passage = Passage { seen, out: flow.out, given_back };
    for effect in cx.effects.iter_mut() {
        if let Effect::Fragment(Fragmented { what: What::First(how), .. }) = effect {
            *how = Some(passage);
        }
    }
}

fn key(cx: &Walk<'_>, packet: &Packet, ip: &Ip, part: &Part) -> DatagramKey {
    let protocol = match ip.dst {
        IpAddress::Ipv4(_) => ip.protocol.into(),
        IpAddress::Ipv6(_) => 0,
    };
    DatagramKey {
        port: cx.ingress,
        mac: packet.dst,
        src: ip.src,
        dst: ip.dst,
        protocol,
        id: part.id,
    }
}

fn refuse<T>(reason: DropReason) -> Step<T> {
    Break(Stop::Drop(reason))
}

fn first(cx: &mut Walk<'_>, key: DatagramKey, part: Part) -> Step<Option<Flow>> {
    let instead_of = match cx.tables.datagrams().find(&key, cx.now) {
        Found::Live(datagram) if datagram.fate == Fate::Overlapping => {
            return refuse(DropReason::FragmentOverlap);
        }
        Found::Live(datagram) => {
            let has_first = datagram.fate != Fate::Waiting;
            let fits = match has_first {
                true => datagram.begins_anew(&part),
                false => datagram.fit(&part) == Fit::New,
            };
            if !fits {
                return overlaps(cx, key, part);
            }
            None
        }
        Found::Stale(slot) => Some((slot, DropReason::FragmentTimeout)),
        Found::Nothing => room(cx, &key)?,
    };
    // Until it has left, it counts as one that does not.
    effect(cx, Fragmented { key, part, what: What::First(None), instead_of });
    Continue(None)
}

fn later(cx: &mut Walk<'_>, key: DatagramKey, part: Part) -> Step<Passage> {
    let tables = cx.tables;
    let datagram = match tables.datagrams().find(&key, cx.now) {
        Found::Live(datagram) => datagram,
        Found::Stale(slot) => {
            return hold(cx, key, part, Some((slot, DropReason::FragmentTimeout)), None);
        }
        Found::Nothing => {
            let instead_of = room(cx, &key)?;
            return hold(cx, key, part, instead_of, None);
        }
    };
    if datagram.fate == Fate::Overlapping {
        return refuse(DropReason::FragmentOverlap);
    }
    match datagram.fit(&part) {
        Fit::New => {}
        Fit::Again => return refuse(DropReason::FragmentDuplicate),
        Fit::Overlaps => return overlaps(cx, key, part),
        Fit::Scattered => return refuse(DropReason::PortFragmentsFull),
    }
    match datagram.fate {
        Fate::Waiting => hold(cx, key, part, None, Some(datagram)),
        Fate::Passed(passage) => {
            effect(cx, Fragmented { key, part, what: What::Later, instead_of: None });
            Continue(passage)
        }
        Fate::Refused => {
            effect(cx, Fragmented { key, part, what: What::Later, instead_of: None });
            refuse(DropReason::FragmentRefused)
        }
        Fate::Overlapping => refuse(DropReason::FragmentOverlap),
    }
}

/// It waits for its first, if there is room.
fn hold<T>(
    cx: &mut Walk<'_>,
    key: DatagramKey,
    part: Part,
    instead_of: Option<(u32, DropReason)>,
    datagram: Option<&Datagram>,
) -> Step<T> {
    let (datagrams, limits) = (cx.tables.datagrams(), cx.tables.limits());
    if datagram.is_some_and(Datagram::holds_many) {
        return refuse(DropReason::PortFragmentsFull);
    }
    if let Err(reason) = datagrams.room_to_hold(key.port, cx.frame.len(), limits) {
        return refuse(reason);
    }
    effect(cx, Fragmented { key, part, what: What::Held, instead_of });
    Break(Stop::Hold)
}

fn overlaps<T>(cx: &mut Walk<'_>, key: DatagramKey, part: Part) -> Step<T> {
    effect(cx, Fragmented { key, part, what: What::Overlaps, instead_of: None });
    refuse(DropReason::FragmentOverlap)
}

/// Whether another datagram can be followed; if so by which one's end.
fn room(cx: &Walk<'_>, key: &DatagramKey) -> Step<Option<(u32, DropReason)>> {
    let tables = cx.tables;
    match tables.datagrams().room(key, tables.limits(), tables.choice_seed()) {
        Ok(victim) => Continue(victim),
        Err(reason) => refuse(reason),
    }
}

fn effect(cx: &mut Walk<'_>, fragment: Fragmented) {
    cx.effect(Effect::Fragment(fragment));
}

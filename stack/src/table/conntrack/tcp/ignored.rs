//! What is let through although it does not fit, and remembered in case it was right.
//!
//! A SYN amid a connection is one of three: old, forged, or the first sign that the originator has
//! begun anew (it was restarted) and we are the ones who know nothing of it. The responder's answer
//! tells: a SYN/ACK to that SYN means a new connection, a reset the end of the old one, and a
//! challenge (RFC 5961 section 4) that the old one lives.

use super::super::advance::Advance;
use super::super::track::{State, Timeouts, Track, flag};
use super::super::tuple::Side;
use super::cells::Class;
use super::{Tcp, go_on};
use crate::time::Instant;

/// How a SYN's options lie above its window.
const SCALE_SHIFT: u32 = 16;
const HAS_SCALE: u32 = 1 << 24;
const HAS_SACK: u32 = 1 << 25;

/// What becomes of a segment that the table ignores.
pub(super) fn advance(
    track: &Track,
    side: Side,
    tcp: &Tcp,
    now: Instant,
    timeouts: &Timeouts,
) -> Advance {
    match (side, tcp.class) {
        (Side::Originator, Class::Syn) => Advance::Keep(remember_syn(track, tcp)),
        (Side::Responder, Class::SynAck) if answers(track, side, tcp) => {
            let begun = resume(track);
            go_on(&begun, State::SynReceived, side, tcp, now, timeouts)
        }
        // The responder knows of an older connection. What the originator answers to this is a
        // reset that fits that one.
        (Side::Responder, Class::Ack) if track.state == State::SynSent => {
            let mut next = *track;
            next.acked = [tcp.end(), tcp.ack];
            next.set(side.flag(flag::ACKED), true);
            Advance::Keep(next)
        }
        _ => Advance::Ignored,
    }
}

/// Whether a SYN/ACK answers the SYN that was ignored.
fn answers(track: &Track, side: Side, tcp: &Tcp) -> bool {
    track.has(flag::SYN_IGNORED) && side == Side::Responder && is_of_syn(track, tcp.ack)
}

/// Whether an acknowledgment number is that of the SYN that was ignored.
pub(super) fn is_of_syn(track: &Track, ack: u32) -> bool {
    let [end, _] = track.acked;
    track.has(flag::SYN_IGNORED) && end == ack
}

fn remember_syn(track: &Track, tcp: &Tcp) -> Track {
    let mut next = *track;
    let scale = tcp.scale.map_or(0, |scale| u32::from(scale) << SCALE_SHIFT | HAS_SCALE);
    let sack = if tcp.sack_permitted { HAS_SACK } else { 0 };
    next.acked = [tcp.end(), u32::from(tcp.window) | scale | sack];
    next.set(flag::ACKED | Side::Responder.flag(flag::ACKED), false);
    next.set(flag::SYN_IGNORED, true);
    next
}

/// The connection that the ignored SYN began, as if it had been the first segment.
fn resume(track: &Track) -> Track {
    let [end, packed] = track.acked;
    let [low, high, scale, _] = packed.to_le_bytes();
    let has_scale = packed & HAS_SCALE != 0;
    let mut begun = Track::new(State::SynSent, track.deadline);
    begun.end = [end, 0];
    begun.limit = [end, 0];
    begun.window = [u32::from(u16::from_le_bytes([low, high])).max(1), 0];
    begun.scale = [if has_scale { scale } else { 0 }, 0];
    begun.set(flag::SCALE, has_scale);
    begun.set(flag::SACK, packed & HAS_SACK != 0);
    begun
}

/// A challenge looks like the acknowledgment of the last FIN. It is taken for one once, and the
/// connection stays in LAST_ACK.
pub(super) fn challenge(track: &Track, side: Side, tcp: &Tcp) -> Option<Track> {
    let challenged = track.state == State::LastAck
        && track.has(flag::SYN_IGNORED)
        && side == Side::Responder
        && tcp.class == Class::Ack;
    challenged.then(|| {
        let mut next = *track;
        forget(&mut next);
        next
    })
}

/// The connection goes on, so what was ignored was wrong.
pub(super) fn forget(track: &mut Track) {
    if track.state == State::SynSent || track.has(flag::SYN_IGNORED) {
        let acked = flag::ACKED | Side::Responder.flag(flag::ACKED);
        track.set(flag::SYN_IGNORED | acked, false);
        track.acked = [0; 2];
    }
}

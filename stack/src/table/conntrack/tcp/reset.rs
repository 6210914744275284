//! When a reset ends a connection, and when it only may.
//!
//! A host takes a reset whose number is exactly the next it expects, and asks back by a challenge
//! when the number is merely within its window (RFC 5961 section 3.2). In the middle we know what a
//! host expects as far as it has acknowledged. A reset that a host may not take must not end the
//! connection here, or anybody who guesses a window could cut it off; and one that it may take must
//! reach it.

use super::super::advance::Advance;
use super::super::track::{State, Timeouts, Track, flag};
use super::super::tuple::Side;
use super::Tcp;
use super::cells::bit;
use super::ignored;
use super::window::{self, Acks, Fit, before};
use crate::time::Instant;

/// What becomes of a reset.
pub(super) fn advance(
    track: &Track,
    side: Side,
    tcp: &Tcp,
    now: Instant,
    timeouts: &Timeouts,
) -> Advance {
    let deadline = now + timeouts.close;
    let mut closed = Track { state: State::Close, deadline, ..*track };
    ignored::forget(&mut closed);
    let closed = Advance::Keep(closed);
    if side == Side::Responder && tcp.has(bit::ACK) && ignored::is_of_syn(track, tcp.ack) {
        return closed;
    }
    let place = place(track, side, tcp.seq);
    let fit = window::judge(track, side, tcp, Acks::of(track, side, tcp));
    let judged = match fit {
        Fit::Within => closed,
        Fit::Beyond => Advance::Invalid,
        Fit::Overshoots | Fit::Stale => Advance::Ignored,
    };
    let is_assured = track.has(flag::ASSURED);
    match track.state {
        State::SynSent if fits_older(track, side, tcp) => closed,
        // Without an acknowledgment it cannot be told from a forged one, and the host drops it.
        State::SynSent if side == Side::Responder && !tcp.has(bit::ACK) => Advance::Ignored,
        State::SynReceived | State::Established if place == Some(Place::Before) => Advance::Invalid,
        // What follows tells: a challenge and another reset, or more of the connection.
        State::Established if is_assured && place == Some(Place::Behind) && fit == Fit::Within => {
            Advance::Keep(Track { deadline: deadline.min(track.deadline), ..*track })
        }
        State::SynSent | State::SynSent2 | State::SynReceived | State::Established => judged,
        // Here the ports may have been taken again by a connection of which we know less.
        State::FinWait | State::CloseWait | State::LastAck | State::TimeWait | State::Close => {
            let fits = fit == Fit::Within && place != Some(Place::Before);
            if fits { closed } else { Advance::Ignored }
        }
        State::Unreplied
        | State::Replied
        | State::SctpOpening
        | State::SctpEstablished
        | State::SctpClosing => Advance::Invalid,
    }
}

/// Where a reset's number lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before what the receiver expects next.
    Before,
    /// What the receiver expects next, or what follows on all its sender sent.
    Next,
    /// Somewhere behind.
    Behind,
}

/// `None` as long as the receiver has acknowledged nothing.
fn place(track: &Track, side: Side, seq: u32) -> Option<Place> {
    let other = side.other();
    let expected = track.has(other.flag(flag::ACKED)).then(|| other.of(track.acked))?;
    Some(if before(seq, expected) {
        Place::Before
    } else if seq == expected || seq == side.of(track.end) {
        Place::Next
    } else {
        Place::Behind
    })
}

/// Whether the originator resets the older connection that the responder spoke of.
fn fits_older(track: &Track, side: Side, tcp: &Tcp) -> bool {
    let [end, ack] = track.acked;
    side == Side::Originator
        && track.has(Side::Responder.flag(flag::ACKED))
        && (tcp.seq == ack || (tcp.has(bit::ACK) && tcp.ack == end))
}

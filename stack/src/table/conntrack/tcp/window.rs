//! Whether a segment lies where its sender and its receiver are, and what it says of them.
//!
//! The conditions are those of Guido van Rooij's "Real Stateful TCP Packet Filtering in IP Filter",
//! as Linux has them: a segment must touch the window, so it may begin before or end behind it,
//! and an acknowledgment may be old. All numbers are compared modulo 2^32.
//!
//! ```text
//! I    seq  <= limit of the sender                  nothing beyond what the receiver takes
//! II   end  >= end of the sender - window of the receiver          nothing from long ago
//! III  edge <= end of the receiver                  nothing acknowledged that was not sent
//! IV   edge >= end of the receiver - the sender's window, 66,000 at least
//! ```
//!
//! `edge` is the right edge of the highest block that is acknowledged selectively, or the
//! acknowledgment number.

use super::super::track::{Track, flag};
use super::super::tuple::Side;
use super::Tcp;
use super::cells::bit;

/// How far back an acknowledgment may lie at least: a window without scaling, and some room.
const ACK_WINDOW_MIN: u32 = 66_000;

/// Whether `a` comes before `b`.
#[inline]
pub(super) const fn before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) >> 31 == 1
}

/// Whether `a` comes after `b`.
#[inline]
pub(super) const fn after(a: u32, b: u32) -> bool {
    before(b, a)
}

/// Where a segment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Where it should.
    Within,
    /// Its data begin behind the receiver's window, and not by more than another window: some
    /// stacks send so, and some receivers take it.
    Overshoots,
    /// It cannot be of this connection.
    Beyond,
    /// Too old to say anything: sent again though it was acknowledged, or much delayed.
    Stale,
}

/// What a segment acknowledges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acks {
    /// All up to here.
    ack: u32,
    /// Something up to here.
    edge: u32,
}

impl Acks {
    /// A segment that acknowledges nothing counts as if it acknowledged everything, and so does a
    /// reset with the number 0, which broken stacks send.
    #[inline]
    pub(super) fn of(track: &Track, side: Side, tcp: &Tcp) -> Self {
        let other = side.other();
        let none = !tcp.has(bit::ACK) || (tcp.has(bit::RST) && tcp.ack == 0);
        if none {
            let end = other.of(track.end);
            return Self { ack: end, edge: end };
        }
        let sacked = tcp.sacked.filter(|_| track.has(other.flag(flag::SACK)));
        Self { ack: tcp.ack, edge: sacked.unwrap_or(tcp.ack) }
    }
}

/// Where a segment lies. Of a connection that was taken up amid the stream the scales are not
/// known, so nothing is known of its windows; of a side that has not spoken, not its numbers.
#[inline]
pub(super) fn judge(track: &Track, side: Side, tcp: &Tcp, acks: Acks) -> Fit {
    if track.has(flag::LIBERAL) {
        return Fit::Within;
    }
    let other = side.other();
    let (limit, end) = (side.of(track.limit), tcp.end());
    let (ours_window, theirs_window) = (side.of(track.window), other.of(track.window));
    let theirs_end = other.of(track.end);
    let sent = !after(acks.edge, theirs_end);
    let reach = ours_window.max(ACK_WINDOW_MIN);
    let recent = !before(acks.edge, theirs_end.wrapping_sub(reach));
    let reaches = !before(end, side.of(track.end).wrapping_sub(theirs_window));
    if ours_window != 0 && after(tcp.seq, limit) {
        let over = end.wrapping_sub(limit).wrapping_add(1);
        let tolerable = theirs_window != 0 && reaches && sent && recent && over <= theirs_window;
        return if tolerable { Fit::Overshoots } else { Fit::Beyond };
    }
    if !sent {
        Fit::Beyond
    } else if recent && (ours_window == 0 || theirs_window == 0 || reaches) {
        Fit::Within
    } else {
        Fit::Stale
    }
}

/// Takes in what a segment says of both sides.
#[inline]
pub(super) fn update(track: &mut Track, side: Side, tcp: &Tcp, acks: Acks) {
    let (other, end) = (side.other(), tcp.end());
    let Acks { ack, edge } = acks;
    // What is acknowledged was sent, be it before the connection was taken up.
    if track.has(flag::LIBERAL) {
        raise(other.of_mut(&mut track.end), edge);
    }
    // The window of a SYN is never scaled (RFC 7323 section 2.2).
    let scale = if tcp.has(bit::SYN) { 0 } else { side.of(track.scale).min(super::SCALE_MAX) };
    let window = u32::from(tcp.window) << scale;
    let widest = side.of_mut(&mut track.window);
    *widest = (*widest).max(window.saturating_add(edge.wrapping_sub(ack)));
    raise(side.of_mut(&mut track.end), end);
    if tcp.has(bit::ACK) {
        acknowledge(track, side, ack);
    }
    // Who takes more than it announced will acknowledge more as well.
    let limit = side.of(track.limit);
    let theirs = other.of_mut(&mut track.window);
    if *theirs != 0 && after(end, limit) {
        *theirs = theirs.saturating_add(end.wrapping_sub(limit));
    }
    // A closed window is probed with one byte.
    let allowed = edge.wrapping_add(window.max(1));
    raise(other.of_mut(&mut track.limit), allowed);
}

/// Takes in the acknowledgment number alone.
#[inline]
fn acknowledge(track: &mut Track, side: Side, ack: u32) {
    let mark = side.flag(flag::ACKED);
    let acked = side.of_mut(&mut track.acked);
    if track.flags & mark == 0 {
        track.flags |= mark;
        *acked = ack;
    } else {
        raise(acked, ack);
    }
}

/// Sets a number that never goes back.
#[inline]
pub(super) fn raise(number: &mut u32, to: u32) {
    if after(to, *number) {
        *number = to;
    }
}

/// Whether one side has sent what the other has not acknowledged.
#[inline]
pub(super) fn is_unacknowledged(track: &Track) -> bool {
    let waits = |side: Side| {
        let other = side.other();
        track.has(other.flag(flag::ACKED)) && other.of(track.acked) != side.of(track.end)
    };
    waits(Side::Originator) || waits(Side::Responder)
}

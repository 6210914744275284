//! What a packet makes of a connection: one way in for all protocols.

use super::sctp::Sctp;
use super::tcp::Tcp;
use super::track::{Segment, Timeouts, Track};
use super::tuple::Side;
use super::{plain, sctp, tcp};
use crate::time::Instant;

/// What a packet of a connection makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// The packet passes, and this is the connection from now on. A packet that is only remembered
    /// (a SYN amid a connection) leaves state and deadline as they were.
    Keep(Track),
    /// The connection is over and the packet opens another one: this one is removed, and the packet
    /// looked at as the first of its connection.
    Reopen,
    /// The packet is none of the connection: it is dropped and nothing changes.
    Invalid,
    /// The packet passes and nothing changes, not even the deadline. It may be right or not, and
    /// who receives it knows better.
    Ignored,
}

/// The connection whose first packet this is, spoken by the originator; `None` if nothing can begin
/// so. `protocol` is asked for [`Segment::Plain`] only: it decides on the time-out.
#[must_use]
pub fn begin(segment: &Segment, protocol: u8, now: Instant, timeouts: &Timeouts) -> Option<Track> {
    match *segment {
        Segment::Tcp { .. } => tcp::begin(&Tcp::of(segment)?, now, timeouts),
        Segment::Sctp { tag, chunk, initiate_tag, reflected } => {
            sctp::begin(Sctp { tag, chunk, initiate_tag, reflected }, now, timeouts)
        }
        Segment::Plain => plain::begin(protocol, now, timeouts),
    }
}

/// Whether a connection opens with this packet, by a SYN or an INIT; of other protocols any packet
/// does. What [`begin`] takes up and this denies comes from amid a connection that is not known
/// here.
#[must_use]
pub fn is_opening(segment: &Segment) -> bool {
    match *segment {
        Segment::Tcp { .. } => Tcp::of(segment).is_some_and(|tcp| tcp.is_opening()),
        Segment::Sctp { chunk, .. } => chunk == sctp::INIT,
        Segment::Plain => true,
    }
}

/// What a packet that `side` sent makes of a connection that is alive at `now`. ICMP errors never
/// come here: they change nothing (RFC 4787 REQ-12, RFC 5382 REQ-10, RFC 5508 REQ-6).
#[must_use]
#[inline]
pub fn advance(
    track: &Track,
    side: Side,
    segment: &Segment,
    protocol: u8,
    now: Instant,
    timeouts: &Timeouts,
) -> Advance {
    match *segment {
        Segment::Tcp { .. } => match Tcp::of(segment) {
            Some(tcp) => tcp::advance(track, side, &tcp, now, timeouts),
            None => Advance::Invalid,
        },
        Segment::Sctp { tag, chunk, initiate_tag, reflected } => {
            let sctp = Sctp { tag, chunk, initiate_tag, reflected };
            sctp::advance(track, side, sctp, now, timeouts)
        }
        Segment::Plain => plain::advance(track, side, protocol, now, timeouts),
    }
}

/// The same in place, where a packet only goes on with what there is: false when it does not, and
/// then `track` is of no use any more.
#[inline]
pub(crate) fn go_on(
    track: &mut Track,
    side: Side,
    segment: &Segment,
    protocol: u8,
    now: Instant,
    timeouts: &Timeouts,
) -> bool {
    if let Some(tcp) = Tcp::of(segment)
        && tcp.is_plain(track)
    {
        return tcp::go_on_plainly(track, side, &tcp, now, timeouts);
    }
    match advance(track, side, segment, protocol, now, timeouts) {
        Advance::Keep(next) => {
            *track = next;
            true
        }
        Advance::Reopen | Advance::Invalid | Advance::Ignored => false,
    }
}

//! UDP, ICMP echo, and protocols of which nothing is known: answered or not.

use super::advance::Advance;
use super::track::{State, Timeouts, Track, flag};
use super::tuple::Side;
use crate::time::{Duration, Instant};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// An exchange of datagrams that goes on for longer is more than a question and its answer. As in
/// Linux, only that makes it assured: resolvers ask far too often for their exchanges to be kept
/// when room is needed.
const STREAM: Duration = Duration::from_secs(2);

pub(super) fn begin(protocol: u8, now: Instant, timeouts: &Timeouts) -> Option<Track> {
    // Of these the header was not there to be read.
    if matches!(protocol, TCP | SCTP) {
        return None;
    }
    let mut track =
        Track::new(State::Unreplied, now + time_out(State::Unreplied, protocol, timeouts));
    if protocol == UDP {
        track.end = halves(now);
    }
    Some(track)
}

pub(super) fn advance(
    track: &Track,
    side: Side,
    protocol: u8,
    now: Instant,
    timeouts: &Timeouts,
) -> Advance {
    let state = match (track.state, side) {
        (State::Replied, _) | (State::Unreplied, Side::Responder) => State::Replied,
        (State::Unreplied, Side::Originator) => State::Unreplied,
        _ => return Advance::Invalid,
    };
    let mut next = *track;
    next.state = state;
    // Both sides refresh: RFC 4787 REQ-6 demands it of the originator's packets.
    next.deadline = now + time_out(state, protocol, timeouts);
    let goes_on = || now.since(whole(track.end)) > STREAM;
    if protocol == UDP && track.state == State::Replied && goes_on() {
        next.set(flag::ASSURED, true);
    }
    Advance::Keep(next)
}

fn time_out(state: State, protocol: u8, timeouts: &Timeouts) -> Duration {
    match protocol {
        UDP if state == State::Replied => timeouts.udp_replied,
        UDP => timeouts.udp,
        ICMP | ICMPV6 => timeouts.icmp,
        _ => timeouts.other,
    }
}

fn halves(moment: Instant) -> [u32; 2] {
    let [a, b, c, d, rest @ ..] = moment.0.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(rest)]
}

fn whole([low, high]: [u32; 2]) -> Instant {
    Instant(u64::from(high) << 32 | u64::from(low))
}

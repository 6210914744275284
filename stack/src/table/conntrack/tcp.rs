//! TCP (RFC 9293): a table of states, the windows of both sides, and what neither of them covers.
//!
//! RFCs to read first: 9293 section 3.3.2 and 3.5, 5961, 7323 section 2. What differs from Linux:
//!
//! - a FIN that is sent again by the same side is not the other side's;
//! - a SYN on a connection in SYN_SENT counts whatever its number is, as long as nobody answered;
//! - a SYN on a connection that is over always opens another one;
//! - a reset never moves a window, one that acknowledges nothing refuses no SYN, and one that does
//!   not fit a closing connection changes nothing;
//! - a refused connection ends by the time-out of CLOSE, not at once;
//! - of a connection taken up amid the stream the numbers are followed;
//! - what is invalid changes nothing, not even the time-out of what it may have ended.

use super::advance::Advance;
use super::track::{Segment, State, Timeouts, Track, flag};
use super::tuple::Side;
use crate::time::{Duration, Instant};

pub(super) mod cells;
mod ignored;
mod reset;
mod window;

use cells::{Cell, Class, bit, cell};
use window::{Acks, Fit};

/// The largest window scale (RFC 7323 section 2.3).
const SCALE_MAX: u8 = 14;
/// So often a segment is sent again before the connection counts as unanswered.
const AGAIN_MAX: u8 = 3;

/// A segment that can be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tcp {
    class: Class,
    seq: u32,
    ack: u32,
    window: u16,
    flags: u8,
    len: u32,
    scale: Option<u8>,
    sack_permitted: bool,
    sacked: Option<u32>,
}

impl Tcp {
    /// `None` when no host sends such flags.
    #[inline]
    pub(super) fn of(segment: &Segment) -> Option<Self> {
        let Segment::Tcp { seq, ack, window, flags, len, scale, sack_permitted, sacked } = *segment
        else {
            return None;
        };
        let class = Class::of(flags)?;
        Some(Self { class, seq, ack, window, flags, len, scale, sack_permitted, sacked })
    }

    /// Whether it neither opens nor ends anything, and the connection is open.
    #[inline]
    pub(super) fn is_plain(&self, track: &Track) -> bool {
        self.class == Class::Ack && track.state == State::Established
    }

    /// A SYN without ACK.
    pub(super) fn is_opening(&self) -> bool {
        self.class == Class::Syn
    }

    #[inline]
    const fn has(&self, bit: u8) -> bool {
        self.flags & bit != 0
    }

    /// One past the last sequence number: SYN and FIN take one each.
    #[inline]
    fn end(&self) -> u32 {
        let marks = u32::from(self.has(bit::SYN)) + u32::from(self.has(bit::FIN));
        self.seq.wrapping_add(self.len).wrapping_add(marks)
    }
}

pub(super) fn begin(tcp: &Tcp, now: Instant, timeouts: &Timeouts) -> Option<Track> {
    match cell(None, Side::Originator, tcp.class) {
        Cell::To(State::SynSent) => Some(opening(tcp, now + timeouts.syn_sent)),
        Cell::To(_) => {
            let mut track = amid(tcp);
            track.deadline = now + time_out(&track, false, timeouts);
            Some(track)
        }
        Cell::Invalid | Cell::Ignored => None,
    }
}

/// A connection whose first segment is a SYN.
fn opening(tcp: &Tcp, deadline: Instant) -> Track {
    let mut track = Track::new(State::SynSent, deadline);
    introduce(&mut track, Side::Originator, tcp);
    track
}

/// A connection that is taken up by an acknowledgment. Its scales are not known.
fn amid(tcp: &Tcp) -> Track {
    let mut track = Track::new(State::Established, Instant::ZERO);
    let sack = Side::Originator.flag(flag::SACK) | Side::Responder.flag(flag::SACK);
    track.set(flag::LIBERAL | sack, true);
    track.end = [tcp.end(), tcp.ack];
    track.limit = track.end;
    join(&mut track, Side::Originator, tcp);
    track
}

/// Takes in a side's SYN, with or without ACK.
fn introduce(track: &mut Track, side: Side, tcp: &Tcp) {
    let end = tcp.end();
    *side.of_mut(&mut track.end) = end;
    *side.of_mut(&mut track.limit) = end;
    *side.of_mut(&mut track.window) = u32::from(tcp.window).max(1);
    *side.of_mut(&mut track.scale) = tcp.scale.unwrap_or(0).min(SCALE_MAX);
    track.set(side.flag(flag::SCALE), tcp.scale.is_some());
    track.set(side.flag(flag::SACK), tcp.sack_permitted);
    // Windows are scaled only if both sides offered it (RFC 7323 section 2.2).
    let other = side.other();
    let both = track.has(side.flag(flag::SCALE)) && track.has(other.flag(flag::SCALE));
    if side == Side::Responder && !both {
        track.scale = [0; 2];
    }
}

/// Takes in the first segment that is seen of a side, which is not its SYN.
fn join(track: &mut Track, side: Side, tcp: &Tcp) {
    let scale = side.of(track.scale).min(SCALE_MAX);
    let window = (u32::from(tcp.window) << scale).max(1);
    *side.of_mut(&mut track.window) = window;
    window::raise(side.of_mut(&mut track.limit), tcp.end().wrapping_add(window));
    let acks = Acks::of(track, side, tcp);
    window::update(track, side, tcp, acks);
    repeat(track, side, tcp);
}

/// What a segment makes of a connection.
#[inline]
pub(super) fn advance(
    track: &Track,
    side: Side,
    tcp: &Tcp,
    now: Instant,
    timeouts: &Timeouts,
) -> Advance {
    match cell(Some(track.state), side, tcp.class) {
        Cell::Invalid => Advance::Invalid,
        Cell::Ignored => ignored::advance(track, side, tcp, now, timeouts),
        Cell::To(State::SynSent) if track.state == State::SynSent => {
            // A deadline that moved on with each SYN would keep a dead backend for as long as
            // somebody tries.
            Advance::Keep(opening(tcp, track.deadline))
        }
        // Linux asks neither RFC 1122 section 4.2.2.13 nor RFC 6191 whether the number is beyond
        // the old ones; the hosts do.
        Cell::To(State::SynSent) => Advance::Reopen,
        Cell::To(_) if tcp.class == Class::Rst => reset::advance(track, side, tcp, now, timeouts),
        Cell::To(next) => match ignored::challenge(track, side, tcp) {
            Some(track) => Advance::Keep(track),
            None => go_on(track, next_state(track, side, tcp, next), side, tcp, now, timeouts),
        },
    }
}

/// Where the table alone would be wrong.
#[inline]
fn next_state(track: &Track, side: Side, tcp: &Tcp, next: State) -> State {
    match (next, tcp.class) {
        // Both sent their SYN, so this is what acknowledges the second one.
        (State::SynReceived, Class::Ack) if track.has(flag::SIMULTANEOUS) => State::Established,
        // The same side's FIN once more.
        (State::LastAck, Class::Fin) if !track.has(side.other().flag(flag::FIN)) => track.state,
        _ => next,
    }
}

/// The connection after a segment, if that lies where it should.
#[inline]
fn go_on(
    track: &Track,
    state: State,
    side: Side,
    tcp: &Tcp,
    now: Instant,
    timeouts: &Timeouts,
) -> Advance {
    let mut next = *track;
    match follow(&mut next, state, side, tcp, now, timeouts) {
        Fit::Within => Advance::Keep(next),
        Fit::Overshoots => {
            // It may be taken, so its acknowledgment must not look wrong.
            let mut same = *track;
            window::raise(side.of_mut(&mut same.end), tcp.end());
            Advance::Keep(same)
        }
        Fit::Beyond => Advance::Invalid,
        Fit::Stale => Advance::Ignored,
    }
}

/// The same of an open connection and a segment that neither opens nor ends anything
/// ([`Tcp::is_plain`]), in place. False where it is more than that.
#[inline]
pub(super) fn go_on_plainly(
    track: &mut Track,
    side: Side,
    tcp: &Tcp,
    now: Instant,
    timeouts: &Timeouts,
) -> bool {
    follow(track, State::Established, side, tcp, now, timeouts) == Fit::Within
}

/// The connection after a segment, in place; of no use if that does not lie where it should.
#[inline]
fn follow(
    track: &mut Track,
    state: State,
    side: Side,
    tcp: &Tcp,
    now: Instant,
    timeouts: &Timeouts,
) -> Fit {
    let answered = Side::Responder.of(track.window) != 0;
    let was_open = matches!(track.state, State::SynReceived | State::Established);
    ignored::forget(track);
    let fit = take_in(track, side, tcp);
    if fit != Fit::Within {
        return fit;
    }
    track.state = state;
    if tcp.class == Class::Fin {
        track.set(side.flag(flag::FIN), true);
    }
    if state == State::SynSent2 {
        track.set(flag::SIMULTANEOUS, true);
    }
    track.deadline = now + time_out(track, answered, timeouts);
    if answered && was_open && state == State::Established {
        track.set(flag::ASSURED, true);
    }
    Fit::Within
}

/// Takes in a segment if it lies where it should, and says where it lies.
#[inline]
fn take_in(track: &mut Track, side: Side, tcp: &Tcp) -> Fit {
    let known = side.of(track.window) != 0;
    match (known, tcp.class) {
        (true, _) => {}
        (false, Class::Syn) => {
            introduce(track, side, tcp);
            return Fit::Within;
        }
        (false, Class::SynAck) => introduce(track, side, tcp),
        (false, _) => {
            join(track, side, tcp);
            return Fit::Within;
        }
    }
    let acks = Acks::of(track, side, tcp);
    let fit = window::judge(track, side, tcp, acks);
    if fit == Fit::Within {
        window::update(track, side, tcp, acks);
        repeat(track, side, tcp);
    }
    fit
}

/// Counts how often the same segment comes. One in 65,536 others is taken for the same, which does
/// no harm: it takes three in a row, and the time-out is the longer one again after the next.
#[inline]
fn repeat(track: &mut Track, side: Side, tcp: &Tcp) {
    if tcp.class != Class::Ack {
        return;
    }
    let mark = mark(side, tcp);
    track.again = if mark == track.last { track.again.saturating_add(1).min(AGAIN_MAX) } else { 0 };
    track.last = mark;
    track.set(flag::UNANSWERED, track.again == AGAIN_MAX);
    track.set(flag::ZERO_WINDOW, tcp.window == 0);
}

/// 16 bits by which a segment is known. Its end stands for its length.
#[inline]
fn mark(side: Side, tcp: &Tcp) -> u16 {
    let numbers = u64::from(tcp.seq) << 32 | u64::from(tcp.ack);
    let rest = u64::from(tcp.end()) << 32 | u64::from(tcp.window) << 8 | u64::from(side as u8);
    let mixed =
        numbers.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ rest.wrapping_mul(0xd6e8_feb8_6659_fd93);
    u16::try_from(mixed >> 48).unwrap_or(0)
}

/// How long the connection is kept without another segment. `answered` is whether the responder had
/// spoken before this one: what was taken up amid the stream is worth little until then.
#[inline]
fn time_out(track: &Track, answered: bool, timeouts: &Timeouts) -> Duration {
    let full = match track.state {
        State::SynSent | State::SynSent2 => timeouts.syn_sent,
        State::SynReceived => timeouts.syn_received,
        State::Established => timeouts.established,
        State::FinWait => timeouts.fin_wait,
        State::CloseWait => timeouts.close_wait,
        State::LastAck => timeouts.last_ack,
        State::TimeWait => timeouts.time_wait,
        State::Close
        | State::Unreplied
        | State::Replied
        | State::SctpOpening
        | State::SctpEstablished
        | State::SctpClosing => timeouts.close,
    };
    let open = !answered && track.state == State::Established;
    let waits = track.has(flag::UNANSWERED | flag::ZERO_WINDOW);
    if open || waits || window::is_unacknowledged(track) {
        full.min(timeouts.unanswered)
    } else {
        full
    }
}

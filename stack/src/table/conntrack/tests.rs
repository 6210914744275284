//! Tests of the state machines: the table of cells, what it does not cover, laws over any input.

use super::{Advance, Segment, Side, State, Timeouts, Track, advance, begin, flag, is_opening};
use crate::time::{Duration, Instant};
use crate::wire::build::flags::{ACK, FIN, PSH, RST, SYN};

mod cells;
mod closing;
mod deadlines;
mod exchange;
mod laws;
mod opening;
mod pickup;
mod plain;
mod resets;
mod sctp;
mod windows;

const O: Side = Side::Originator;
const R: Side = Side::Responder;
const TCP: u8 = 6;
const NOW: Instant = Instant(5_000_000_000_000);

/// What the sides of [`Talk::open`] begin with; each SYN takes one number.
const O_FIRST: u32 = 1_000;
const R_FIRST: u32 = 5_000;
const WINDOW: u16 = 10_000;

fn later(seconds: u64) -> Instant {
    NOW + Duration::from_secs(seconds)
}

/// A segment without payload and options.
fn tcp(flags: u8, seq: u32, ack: u32) -> Segment {
    data(flags, seq, ack, 0)
}

/// A segment without options.
fn data(flags: u8, seq: u32, ack: u32, len: u32) -> Segment {
    Segment::Tcp {
        seq,
        ack,
        window: WINDOW,
        flags,
        len,
        scale: None,
        sack_permitted: false,
        sacked: None,
    }
}

/// The same with another window.
fn window(mut segment: Segment, to: u16) -> Segment {
    let Segment::Tcp { window, .. } = &mut segment else { unreachable!() };
    *window = to;
    segment
}

/// The same with a window scale and SACK permitted, as a SYN has them.
fn offering(mut segment: Segment, offer: u8) -> Segment {
    let Segment::Tcp { scale, sack_permitted, .. } = &mut segment else { unreachable!() };
    (*scale, *sack_permitted) = (Some(offer), true);
    segment
}

/// The same with a block that is acknowledged selectively.
fn sacking(mut segment: Segment, right: u32) -> Segment {
    let Segment::Tcp { sacked, .. } = &mut segment else { unreachable!() };
    *sacked = Some(right);
    segment
}

/// The track, of a packet that passes and counts.
#[track_caller]
fn kept(advance: Advance) -> Track {
    let Advance::Keep(track) = advance else { panic!("{advance:?}") };
    track
}

/// A connection between two sides, as it is seen in the middle.
#[derive(Clone, Debug)]
struct Talk {
    track: Track,
    now: Instant,
}

impl Talk {
    /// The originator's first segment.
    fn begin(segment: &Segment) -> Self {
        let track = begin(segment, TCP, NOW, &Timeouts::default()).expect("it can begin");
        Self { track, now: NOW }
    }

    /// A SYN of the originator.
    fn syn() -> Self {
        Self::begin(&tcp(SYN, O_FIRST, 0))
    }

    /// A connection that is open and assured, without options; nothing was said yet.
    fn open() -> Self {
        Self::with(&tcp(SYN, O_FIRST, 0), &tcp(SYN | ACK, R_FIRST, O_FIRST + 1))
    }

    /// A connection that was opened by these.
    fn with(syn: &Segment, answer: &Segment) -> Self {
        let mut talk = Self::begin(syn);
        talk.say(R, answer, State::SynReceived);
        talk.say(O, &tcp(ACK, O_FIRST + 1, R_FIRST + 1), State::Established);
        assert!(talk.track.has(flag::ASSURED));
        talk
    }

    /// What a segment would make of it.
    fn judge(&self, side: Side, segment: &Segment) -> Advance {
        advance(&self.track, side, segment, TCP, self.now, &Timeouts::default())
    }

    /// A segment that passes and leads to `state`.
    #[track_caller]
    fn say(&mut self, side: Side, segment: &Segment, state: State) -> &mut Self {
        self.track = kept(self.judge(side, segment));
        assert_eq!(self.track.state, state, "{segment:?} from {side:?}");
        self
    }

    /// A segment that is remembered and changes neither state nor deadline.
    #[track_caller]
    fn remember(&mut self, side: Side, segment: &Segment) -> &mut Self {
        let (state, deadline) = (self.track.state, self.track.deadline);
        self.say(side, segment, state);
        assert_eq!(self.track.deadline, deadline, "{segment:?} from {side:?}");
        self
    }

    /// Time passes.
    fn wait(&mut self, seconds: u64) -> &mut Self {
        self.now = self.now + Duration::from_secs(seconds);
        self
    }

    /// Seconds from now to the deadline.
    fn rest(&self) -> u64 {
        let rest = self.track.deadline.since(self.now).0;
        assert_eq!(rest % 1_000_000_000, 0);
        rest / 1_000_000_000
    }
}

#[test]
fn a_track_is_small() {
    assert_eq!(size_of::<Track>(), 48);
    let _: fn(Track) -> (Track, Track) = |track| (track, track);
}

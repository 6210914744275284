//! SCTP (RFC 9260): verification tags, and the chunks that open and close an association.
//!
//! Linux's nine states (nf_conntrack_proto_sctp.c) are three here and CLOSE, for the others differ
//! in their time-outs only. What differs beside that: Linux takes an association up by HEARTBEAT
//! and SHUTDOWN ACK alone, here DATA and SACK do it as well; and an INIT amid an association does
//! not replace the tags before its cookie has come back, or a forged one would cut it off.

use super::advance::Advance;
use super::track::{State, Timeouts, Track, flag};
use super::tuple::Side;
use crate::time::{Duration, Instant};

/// Chunk types (RFC 9260 section 3.2, RFC 8260 section 2.1).
const DATA: u8 = 0;
pub(super) const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
const I_DATA: u8 = 64;

/// A packet, by its common header and its first chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sctp {
    pub(super) tag: u32,
    pub(super) chunk: u8,
    pub(super) initiate_tag: u32,
    pub(super) reflected: bool,
}

pub(super) fn begin(sctp: Sctp, now: Instant, timeouts: &Timeouts) -> Option<Track> {
    let mut track = match sctp.chunk {
        INIT if sctp.tag == 0 && sctp.initiate_tag != 0 => {
            let mut track = Track::new(State::SctpOpening, now);
            track.end = [0, sctp.initiate_tag];
            track
        }
        DATA | I_DATA | SACK | HEARTBEAT | HEARTBEAT_ACK if sctp.tag != 0 => {
            let mut track = Track::new(State::SctpEstablished, now);
            track.end = [sctp.tag, 0];
            track.set(flag::LIBERAL, true);
            track
        }
        _ => return None,
    };
    track.deadline = now + time_out(&track, timeouts);
    Some(track)
}

pub(super) fn advance(
    track: &Track,
    side: Side,
    sctp: Sctp,
    now: Instant,
    timeouts: &Timeouts,
) -> Advance {
    let step = Step { track, side, sctp, now, timeouts };
    let open = [State::SctpOpening, State::SctpEstablished, State::SctpClosing, State::Close];
    if !open.contains(&track.state) {
        return Advance::Invalid;
    }
    match sctp.chunk {
        INIT => step.init(),
        INIT_ACK => step.init_ack(),
        COOKIE_ECHO => step.cookie_echo(),
        COOKIE_ACK => step.cookie_ack(),
        ABORT | SHUTDOWN_COMPLETE => step.end(),
        _ => step.go_on(),
    }
}

/// A packet on an association.
struct Step<'a> {
    track: &'a Track,
    side: Side,
    sctp: Sctp,
    now: Instant,
    timeouts: &'a Timeouts,
}

impl Step<'_> {
    /// Whether the packet has the tag that its side's must have.
    fn bears(&self, tags: [u32; 2]) -> bool {
        self.sctp.tag != 0 && self.sctp.tag == self.side.of(tags)
    }

    /// The connection from now on, with a new deadline.
    fn renewed(&self, mut next: Track) -> Advance {
        next.deadline = self.now + time_out(&next, self.timeouts);
        Advance::Keep(next)
    }

    /// The tag of an INIT is 0 (RFC 9260 section 8.5.1), so anybody can forge one.
    fn init(&self) -> Advance {
        if self.sctp.tag != 0 || self.sctp.initiate_tag == 0 {
            return Advance::Invalid;
        }
        if self.track.state == State::Close {
            return Advance::Reopen;
        }
        let mut next = *self.track;
        let tags = if self.track.state == State::SctpOpening {
            // Sent again, or by both. The deadline stays as it is, as it does for a SYN.
            &mut next.end
        } else {
            // The side may have been restarted (section 5.2.2): its cookie will tell.
            &mut next.limit
        };
        *self.side.other().of_mut(tags) = self.sctp.initiate_tag;
        Advance::Keep(next)
    }

    fn init_ack(&self) -> Advance {
        let mut next = *self.track;
        let opening = self.track.state == State::SctpOpening;
        let (tags, known) = if opening && self.bears(self.track.end) {
            (&mut next.end, true)
        } else {
            (&mut next.limit, self.bears(self.track.limit))
        };
        if !known {
            return self.go_on();
        }
        if self.sctp.initiate_tag == 0 {
            return Advance::Invalid;
        }
        *self.side.other().of_mut(tags) = self.sctp.initiate_tag;
        if opening { self.renewed(next) } else { Advance::Keep(next) }
    }

    fn cookie_echo(&self) -> Advance {
        if self.bears(self.track.limit) { Advance::Keep(*self.track) } else { self.go_on() }
    }

    /// The responder has taken the cookie: the association is open, or open anew.
    fn cookie_ack(&self) -> Advance {
        let mut next = *self.track;
        let open = |tags: [u32; 2]| self.bears(tags) && self.side.other().of(tags) != 0;
        if open(self.track.limit) {
            next.end = self.track.limit;
            next.limit = [0; 2];
        } else if !(open(self.track.end) && self.track.state == State::SctpOpening) {
            return self.go_on();
        }
        next.state = State::SctpEstablished;
        next.set(flag::ASSURED, true);
        next.set(flag::LIBERAL, false);
        self.renewed(next)
    }

    /// ABORT and SHUTDOWN COMPLETE, whose T bit says that their sender knows no association and
    /// returns the tag it was sent (sections 8.4 and 8.5.1).
    fn end(&self) -> Advance {
        let whose = if self.sctp.reflected { self.side.other() } else { self.side };
        let tag = whose.of(self.track.end);
        if tag != 0 && tag == self.sctp.tag {
            return self.renewed(Track { state: State::Close, ..*self.track });
        }
        let unknown = tag == 0 && self.track.has(flag::LIBERAL);
        // Who was asked to open anew refuses, and an older association ends while one opens.
        let refused = self.sctp.chunk == ABORT && self.bears(self.track.limit);
        let older = self.sctp.chunk == SHUTDOWN_COMPLETE
            && self.sctp.reflected
            && self.track.state == State::SctpOpening;
        if unknown || refused || older { Advance::Ignored } else { Advance::Invalid }
    }

    /// All other chunks, and those above where they are nothing special.
    fn go_on(&self) -> Advance {
        let mut next = *self.track;
        if !self.bears(self.track.end) {
            let unknown = self.side.of(self.track.end) == 0 && self.track.has(flag::LIBERAL);
            if unknown && self.sctp.tag != 0 {
                *self.side.of_mut(&mut next.end) = self.sctp.tag;
                next.set(flag::ASSURED, true);
            } else if self.sctp.chunk == SHUTDOWN_ACK && self.track.state == State::SctpOpening {
                // Of an older association: whoever opens a new one answers it (section 8.5.1, E).
                return Advance::Ignored;
            } else {
                return Advance::Invalid;
            }
        }
        let closes = matches!(self.sctp.chunk, SHUTDOWN | SHUTDOWN_ACK);
        if closes && self.track.state == State::SctpEstablished {
            next.state = State::SctpClosing;
        }
        self.renewed(next)
    }
}

/// How long the association is kept without another packet.
fn time_out(track: &Track, timeouts: &Timeouts) -> Duration {
    let both = track.end.iter().all(|tag| *tag != 0);
    if track.state == State::Close {
        timeouts.close
    } else if track.state == State::SctpEstablished && both {
        timeouts.sctp_established
    } else {
        // One packet that may be forged is not worth a day either.
        timeouts.sctp_opening
    }
}

//! How far a connection has come, in a form small enough to be kept a million times.

pub use crate::config::Timeouts;
use crate::time::Instant;
pub use crate::trace::State;

/// How far a connection has come.
///
/// Linux's names of what TCP keeps stand behind each field (struct ip_ct_tcp_state).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track {
    /// From when on it counts as absent.
    pub deadline: Instant,
    /// TCP: for each side one past the highest sequence number it sent (td_end). SCTP: the
    /// verification tag that its packets must bear, 0 while that is not known. UDP: the moment of
    /// the first packet, its low half first.
    pub end: [u32; 2],
    /// TCP: for each side the highest sequence number it may send (td_maxend). SCTP: the tag that
    /// its packets will bear once a restart is through, else 0.
    pub limit: [u32; 2],
    /// TCP: for each side the largest window it announced, scaled (td_maxwin); 0 as long as it has
    /// not spoken.
    pub window: [u32; 2],
    /// TCP: for each side the highest acknowledgment number it sent (td_maxack), if
    /// [`flag::ACKED`] says so. With [`flag::SYN_IGNORED`] instead: one past that SYN, then its
    /// window and options. In the state SYN_SENT, with [`flag::ACKED`] of the responder: one past
    /// an acknowledgment that was ignored, then its acknowledgment number.
    pub acked: [u32; 2],
    /// The state.
    pub state: State,
    /// See [`flag`].
    pub flags: u16,
    /// TCP: by what the last segment that only acknowledges, or brings data, is known when it is
    /// sent again: 16 bits of a hash.
    pub last: u16,
    /// TCP: how often that segment was sent again, 3 for more.
    pub again: u8,
    /// TCP: for each side its window scale (RFC 7323), at most 14.
    pub scale: [u8; 2],
}

impl Track {
    /// Of no connection.
    pub(crate) const BLANK: Self = Self::new(State::Close, Instant::ZERO);

    /// A connection in a state of which nothing else is known.
    pub(super) const fn new(state: State, deadline: Instant) -> Self {
        Self {
            deadline,
            end: [0; 2],
            limit: [0; 2],
            window: [0; 2],
            acked: [0; 2],
            state,
            flags: 0,
            last: 0,
            again: 0,
            scale: [0; 2],
        }
    }

    /// Whether one of these flags is set.
    #[must_use]
    #[inline]
    pub const fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    /// Sets these flags or takes them away.
    #[inline]
    pub(super) const fn set(&mut self, flags: u16, on: bool) {
        if on {
            self.flags |= flags;
        } else {
            self.flags &= !flags;
        }
    }
}

/// What else is known of a connection, as bits of [`Track::flags`]. Those of a side are shifted
/// left by its index.
pub mod flag {
    /// Both sides have spoken, and as they should: it is not the first to go when room is needed.
    pub const ASSURED: u16 = 1;
    /// The side sent a FIN.
    pub const FIN: u16 = 1 << 2;
    /// The side offered window scaling.
    pub const SCALE: u16 = 1 << 4;
    /// The side permits selective acknowledgments.
    pub const SACK: u16 = 1 << 6;
    /// Taken up amid the stream: windows are not judged.
    pub const LIBERAL: u16 = 1 << 8;
    /// Sent again and again without an answer: the time-out is the short one.
    pub const UNANSWERED: u16 = 1 << 9;
    /// The side has acknowledged something.
    pub const ACKED: u16 = 1 << 10;
    /// The originator's last segment was a SYN that does not fit the connection. It was let
    /// through, and will have been right if the responder answers it.
    pub const SYN_IGNORED: u16 = 1 << 12;
    /// Both sides opened (RFC 9293 section 3.5, figure 7).
    pub const SIMULTANEOUS: u16 = 1 << 13;
    /// The last acknowledgment closed its sender's window.
    pub const ZERO_WINDOW: u16 = 1 << 14;
}

/// What the state machines read of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// TCP.
    Tcp {
        /// Sequence number.
        seq: u32,
        /// Acknowledgment number.
        ack: u32,
        /// The window field as it stands, not scaled.
        window: u16,
        /// Flags, from bit 0: FIN SYN RST PSH ACK URG ECE CWR.
        flags: u8,
        /// Bytes of payload, of a super-frame all of it.
        len: u32,
        /// The window scale option, at most 14 (RFC 7323 section 2.3).
        scale: Option<u8>,
        /// Whether the SACK-permitted option is there.
        sack_permitted: bool,
        /// The right edge of the highest SACK block, if it lies beyond the acknowledgment.
        sacked: Option<u32>,
    },
    /// SCTP: the first chunk decides.
    Sctp {
        /// Verification tag.
        tag: u32,
        /// Type of the first chunk, 255 when it is not within sight.
        chunk: u8,
        /// The initiate tag of INIT and INIT ACK, else 0.
        initiate_tag: u32,
        /// The T bit of ABORT and SHUTDOWN COMPLETE: the tag is the receiver's own, sent back.
        reflected: bool,
    },
    /// UDP, ICMP echo, and protocols of which nothing is known.
    Plain,
}

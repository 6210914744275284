//! What hops say of connections and Services.

use crate::config::Method;

/// State of a connection: TCP's as Linux names them (nf_conntrack_proto_tcp.c), SCTP's, and one
/// pair for all that only answers or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// A SYN was seen.
    SynSent = 1,
    /// A SYN and its SYN/ACK.
    SynReceived = 2,
    /// Open.
    Established = 3,
    /// One side has closed.
    FinWait = 4,
    /// The FIN is acknowledged; the other side may still speak.
    CloseWait = 5,
    /// Both have closed, the last ACK is missing.
    LastAck = 6,
    /// All acknowledged.
    TimeWait = 7,
    /// Reset; SCTP: aborted, or shut down by both.
    Close = 8,
    /// Both sides sent a SYN.
    SynSent2 = 9,
    /// UDP, ICMP and others: no answer yet.
    Unreplied = 16,
    /// UDP, ICMP and others: answered.
    Replied = 17,
    /// SCTP: INIT was seen, or its answer, or COOKIE ECHO.
    SctpOpening = 24,
    /// SCTP: COOKIE ACK was seen.
    SctpEstablished = 25,
    /// SCTP: SHUTDOWN or its answer was seen.
    SctpClosing = 26,
}

impl State {
    /// All states.
    pub const ALL: [Self; 14] = [
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait,
        Self::CloseWait,
        Self::LastAck,
        Self::TimeWait,
        Self::Close,
        Self::SynSent2,
        Self::Unreplied,
        Self::Replied,
        Self::SctpOpening,
        Self::SctpEstablished,
        Self::SctpClosing,
    ];

    /// The state of that number.
    #[must_use]
    pub fn by_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u64 == number)
    }

    /// Whether a connection in this state may go where room is needed: it was never answered or
    /// never opened, or it is over.
    #[must_use]
    pub const fn may_go(self) -> bool {
        match self {
            Self::SynSent
            | Self::SynReceived
            | Self::SynSent2
            | Self::Unreplied
            | Self::SctpOpening
            | Self::TimeWait
            | Self::Close => true,
            Self::Established
            | Self::FinWait
            | Self::CloseWait
            | Self::LastAck
            | Self::Replied
            | Self::SctpEstablished
            | Self::SctpClosing => false,
        }
    }

    /// Its name, as Linux and operators write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECV",
            Self::Established | Self::SctpEstablished => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::SynSent2 => "SYN_SENT2",
            Self::Unreplied => "UNREPLIED",
            Self::Replied => "REPLIED",
            Self::SctpOpening => "OPENING",
            Self::SctpClosing => "CLOSING",
        }
    }
}

/// Which side of a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The one that began it.
    Originator,
    /// The one that was spoken to.
    Responder,
}

impl Side {
    /// The other side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Originator => Self::Responder,
            Self::Responder => Self::Originator,
        }
    }

    /// 0 for the originator, 1 for the responder: the place in arrays of two.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Originator => 0,
            Self::Responder => 1,
        }
    }

    /// This side's of two.
    #[must_use]
    #[inline]
    pub const fn of<T: Copy>(self, [originator, responder]: [T; 2]) -> T {
        match self {
            Self::Originator => originator,
            Self::Responder => responder,
        }
    }

    /// This side's of two, to be changed.
    #[inline]
    pub const fn of_mut<T>(self, [originator, responder]: &mut [T; 2]) -> &mut T {
        match self {
            Self::Originator => originator,
            Self::Responder => responder,
        }
    }

    /// A flag of this side.
    #[must_use]
    #[inline]
    pub const fn flag(self, flag: u16) -> u16 {
        match self {
            Self::Originator => flag,
            Self::Responder => flag << 1,
        }
    }
}

/// What a packet is to the table of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// The first of a connection.
    New,
    /// Of a connection.
    Known {
        /// Whose packet it is.
        side: Side,
        /// How far the connection comes by it.
        state: State,
    },
    /// An ICMP error about a packet of a connection.
    Related {
        /// Who sent the packet that it quotes.
        side: Side,
    },
    /// It makes no sense where its connection stands, or begins none.
    Invalid,
    /// A later fragment, which goes as the first of its datagram did.
    Fragment,
}

/// Why a source gives way to an address of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masquerade {
    /// It leaves the cluster, where pods' addresses are not known.
    Egress,
    /// The reply has to come back this way.
    Service,
    /// A pod asks itself by a Service.
    Hairpin,
    /// Another connection has the port.
    PortTaken,
}

/// Why a backend was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The client had it before.
    Affinity,
    /// By the Service's method.
    Method(Method),
}

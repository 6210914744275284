//! Which state follows on which: Linux's table (nf_conntrack_proto_tcp.c).

use super::super::track::State;
use super::super::tuple::Side;

/// TCP flags that decide, as [`super::Tcp::flags`] has them.
pub(crate) mod bit {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 1 << 1;
    pub(crate) const RST: u8 = 1 << 2;
    pub(crate) const ACK: u8 = 1 << 4;
    pub(crate) const URG: u8 = 1 << 5;
}

/// What a segment is for the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    Syn = 0,
    SynAck,
    Fin,
    Ack,
    Rst,
}

impl Class {
    /// `None` for combinations of flags that no host sends: nothing at all, SYN with FIN or RST,
    /// FIN without ACK, and the like. PSH, ECE and CWR go with any.
    pub(crate) const fn of(flags: u8) -> Option<Self> {
        use bit::{ACK, FIN, RST, SYN, URG};
        const SYN_ACK: u8 = SYN | ACK;
        const SYN_URG: u8 = SYN | URG;
        const FIN_ACK: u8 = FIN | ACK;
        const FIN_ACK_URG: u8 = FIN | ACK | URG;
        const ACK_URG: u8 = ACK | URG;
        const RST_ACK: u8 = RST | ACK;
        match flags & (FIN | SYN | RST | ACK | URG) {
            ACK | ACK_URG => Some(Self::Ack),
            SYN | SYN_URG => Some(Self::Syn),
            SYN_ACK => Some(Self::SynAck),
            FIN_ACK | FIN_ACK_URG => Some(Self::Fin),
            RST | RST_ACK => Some(Self::Rst),
            _ => None,
        }
    }
}

/// What the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// The connection goes on to this state.
    To(State),
    /// No host sends this now.
    Invalid,
    /// It can be right if we are the ones who are wrong about the connection.
    Ignored,
}

/// The cell for a segment of `class` from `side`; `state` is `None` before the first one.
#[inline]
pub(crate) fn cell(state: Option<State>, side: Side, class: Class) -> Cell {
    let table = match side {
        Side::Originator => &ORIGINATOR,
        Side::Responder => &RESPONDER,
    };
    let column = state.map_or(0, |state| usize::from(state as u8));
    let row = table.get(usize::from(class as u8));
    row.and_then(|row| row.get(column)).copied().unwrap_or(Cell::Invalid)
}

const IV: Cell = Cell::Invalid;
const IG: Cell = Cell::Ignored;
const SS: Cell = Cell::To(State::SynSent);
const SR: Cell = Cell::To(State::SynReceived);
const ES: Cell = Cell::To(State::Established);
const FW: Cell = Cell::To(State::FinWait);
const CW: Cell = Cell::To(State::CloseWait);
const LA: Cell = Cell::To(State::LastAck);
const TW: Cell = Cell::To(State::TimeWait);
const CL: Cell = Cell::To(State::Close);
const S2: Cell = Cell::To(State::SynSent2);

/// For each class a row of cells, for each number of a state a column; 0 stands for none yet.
type Table = [[Cell; 10]; 5];

const ORIGINATOR: Table = [
    // SYN, SYN/ACK, FIN, ACK, RST.
    [SS, SS, IG, IG, IG, IG, IG, SS, SS, S2],
    [IV, IV, SR, IV, IV, IV, IV, IV, IV, SR],
    [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV],
    [ES, IV, ES, ES, CW, CW, TW, TW, CL, IV],
    [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL],
];

const RESPONDER: Table = [
    [IV, S2, IV, IV, IV, IV, IV, SS, IV, S2],
    [IV, SR, IG, IG, IG, IG, IG, IG, IG, SR],
    [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV],
    [IV, IG, SR, ES, CW, CW, TW, TW, CL, IG],
    [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL],
];

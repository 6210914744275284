//! Recordings: a state of the switch and the records that follow it, as a file that Wireshark opens
//! and that replays anywhere.
//!
//! No I/O: bytes in, bytes out. It also builds for WebAssembly, where a test replays the same
//! recordings to the same digests.

use stack::PortId;
use stack::journal::Chain;

/// A part of a journal that can be replayed: a state and the records that follow it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// The state to start from, as [`stack::Switch::snapshot`] made it. `None`: the records begin a
    /// journal themselves ([`stack::journal::Kind::Begin`]).
    pub state: Option<Vec<u8>>,
    /// The chain at that state.
    pub chain: Chain,
    /// Nanoseconds from CLOCK_MONOTONIC to UTC at the begin; records of kind Clock change it.
    pub utc_offset: i64,
    /// Names of ports at the begin; records of kind Label add to them.
    pub labels: Vec<(PortId, String)>,
    /// The records, each padded to a multiple of eight bytes ([`stack::journal::records`]).
    pub records: Vec<u8>,
}

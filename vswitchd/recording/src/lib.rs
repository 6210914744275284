//! Recordings: a state of the switch and the records that follow it, as a file that Wireshark opens
//! and that replays anywhere.
//!
//! - [`mod@write`]: an excerpt of a journal to a file; [`read`]: the file back to records.
//! - [`container`], [`comment`]: how records stand in packets; [`pcapng`]: the blocks below them.
//! - [`mod@finish`]: checksums that a kernel left to its device.
//! - [`replayer`]: drives a switch by a file and verifies every digest on the way.
//! - [`about`]: why a daemon made it by itself.
//! - [`breakpoint`]: where to stop; [`summary`]: what was seen; [`difference`]: of two states.
//! - [`whatif`]: the same inputs through other Services, connection by connection.
//! - [`redact`]: the same recording without payload.
//!
//! No I/O: bytes in, bytes out. It also builds for WebAssembly, where a test replays the same
//! recordings to the same digests.

use stack::PortId;
use stack::journal::Chain;

pub mod about;
pub mod breakpoint;
pub mod comment;
pub mod container;
pub mod difference;
pub mod finish;
pub mod pcapng;
pub mod read;
pub mod redact;
pub mod replayer;
pub mod summary;
pub mod whatif;
pub mod write;

pub use about::About;
pub use container::Id;
pub use read::{Ending, Item, ReadError, Reader, Start};
pub use replayer::{Cause, Divergence, Done, Limit, Problem, Replayer, Turn};
pub use write::{Header, Writer, write};

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

impl Excerpt {
    /// The excerpt that a whole file holds.
    ///
    /// # Errors
    /// Those of the [`Reader`]. A file that was cut gives what is there.
    pub fn read(file: &[u8]) -> Result<(Self, Start, Ending), ReadError> {
        let mut reader = Reader::default();
        reader.push(file);
        reader.finish();
        let (mut excerpt, mut begun) = (Self::default(), Start::default());
        loop {
            match reader.item()? {
                Some(Item::Start(start)) => {
                    begun = *start;
                    excerpt.state = begun.state.take();
                    excerpt.chain = begun.chain;
                    excerpt.utc_offset = begun.utc_offset;
                    excerpt.labels.clone_from(&begun.labels);
                }
                Some(Item::Record(_, record)) => excerpt.push(&record),
                Some(Item::End(ending)) => return Ok((excerpt, begun, ending)),
                // All bytes are there.
                None => return Err(ReadError::CutStart),
            }
        }
    }

    /// Appends a record, with its padding.
    pub fn push(&mut self, record: &[u8]) {
        self.records.extend(record);
        self.records.resize(stack::journal::stride(self.records.len()), 0);
    }
}

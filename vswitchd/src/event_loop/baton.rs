//! What a worker leaves for the next at the last moment: a file in memory that both have.
//!
//! ```text
//!   8 bytes: length of what follows, 0 until all of it is there
//!   JSON: what is said of it, whose version decides how the rest is read
//!   the state, where one was asked for
//! ```
//!
//! Two workers of different builds may be at its ends, so it says itself what it holds: unknown
//! fields are passed over, and missing ones have a value.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use stack::{Instant, journal};

/// Bytes of the first field.
const LENGTH: u64 = 8;
/// What is said may have so many bytes.
const SAID_MAX: u64 = 4_096;
/// The state may have so many bytes: as many as the journal takes of it.
const STATE_MAX: u64 = journal::VALUE_MAX as u64;

/// The file.
#[derive(Debug)]
pub struct Baton {
    file: File,
}

/// What was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// When the ports were looked at last, on CLOCK_MONOTONIC.
    pub last_read: Instant,
    /// Where the journal ends.
    pub position: Option<u64>,
    /// The state, as `Switch::export` has it.
    pub state: Option<Vec<u8>>,
}

/// The same in the file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Said {
    last_read: u64,
    position: Option<u64>,
    state_len: Option<u64>,
}

impl Baton {
    /// An empty one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Self> {
        let file = memfd_create(c"hopscope-baton", MFdFlags::MFD_CLOEXEC)?;
        Ok(Self::from(file))
    }

    /// The same file once more.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn share(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// Writes all, and then that it is there.
    ///
    /// # Errors
    /// The file system's.
    pub fn leave(&self, left: &Left) -> io::Result<()> {
        let state_len = left.state.as_ref().map(|state| state.len() as u64);
        let said = Said { last_read: left.last_read.0, position: left.position, state_len };
        let said = serde_json::to_vec(&said)?;
        self.file.write_all_at(&said, LENGTH)?;
        if let Some(state) = &left.state {
            self.file.write_all_at(state, LENGTH + said.len() as u64)?;
        }
        self.file.write_all_at(&(said.len() as u64).to_le_bytes(), 0)
    }

    /// What is there, if anything is.
    ///
    /// # Errors
    /// The file system's, and what cannot be read.
    pub fn look(&self) -> io::Result<Option<Left>> {
        let odd = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        let mut length = [0; size_of::<u64>()];
        if self.file.read_at(&mut length, 0)? < length.len() {
            return Ok(None);
        }
        let said_len = match u64::from_le_bytes(length) {
            0 => return Ok(None),
            len if len <= SAID_MAX => len,
            _ => return Err(odd("what the worker before says is too long")),
        };
        let bytes = |at: u64, len: u64| -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
            self.file.read_exact_at(&mut bytes, at)?;
            Ok(bytes)
        };
        let Said { last_read, position, state_len } =
            serde_json::from_slice(&bytes(LENGTH, said_len)?)?;
        if state_len.is_some_and(|len| len > STATE_MAX) {
            return Err(odd("the state of the worker before is too long"));
        }
        let state = state_len.map(|len| bytes(LENGTH + said_len, len)).transpose()?;
        Ok(Some(Left { last_read: Instant(last_read), position, state }))
    }
}

impl From<OwnedFd> for Baton {
    fn from(descriptor: OwnedFd) -> Self {
        Self { file: descriptor.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_there_until_all_is() {
        let ours = Baton::new().unwrap();
        let theirs = Baton::from(ours.share().unwrap());
        assert_eq!(theirs.look().unwrap(), None);
        let left =
            Left { last_read: Instant(7), position: Some(1 << 40), state: Some(vec![5; 100_000]) };
        ours.leave(&left).unwrap();
        assert_eq!(theirs.look().unwrap(), Some(left));
    }

    #[test]
    fn a_stranger_says_more_or_less_and_a_liar_is_caught() {
        let left = |text: &str, len: u64| {
            let baton = Baton::new().unwrap();
            baton.file.write_all_at(&len.to_le_bytes(), 0).unwrap();
            baton.file.write_all_at(text.as_bytes(), LENGTH).unwrap();
            baton.look()
        };
        let text = r#"{"lastRead":3,"mood":"good"}"#;
        let expected = Left { last_read: Instant(3), position: None, state: None };
        assert_eq!(left(text, text.len() as u64).unwrap(), Some(expected));
        let huge = r#"{"stateLen":99999999999}"#;
        let short = r#"{"stateLen":9}"#;
        for (text, len) in [(text, 5), (text, 1 << 20), (huge, 24), (short, 14)] {
            left(text, len).unwrap_err();
        }
    }
}

//! Snapshot areas: files beside the ring, each with a state, where it belongs, and names of ports.
//!
//! | file | holds |
//! | --- | --- |
//! | `snapshot-0`, `snapshot-1` | the two newest, for recovery |
//! | `snapshot-2`, `snapshot-3` | one for each half of the ring: at least half can be replayed |
//!
//! The header is taken away first and written last, so a half-written area is none. Its check
//! covers header and names; the state proves itself when it is restored. A file has as much memory
//! as its state.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use stack::hash::Hasher;
use stack::journal::Chain;
use stack::{Instant, PortId};

/// Areas there are: two newest, two halves.
pub const AREAS: usize = 4;
/// Of those: for recovery.
pub const RECENT: usize = 2;

/// "HOPSNAP" and the form of the header.
const MAGIC: u64 = u64::from_le_bytes(*b"HOPSNAP1");
/// Words of the header.
const WORDS: usize = 11;
/// Bytes before the names.
const BODY: u64 = 128;
/// Bytes of names at most: 65,536 ports.
const LABELS_MAX: u64 = 64 << 20;

/// Where a state belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The snapshot's number, that of its mark; they are counted from 1.
    pub number: u64,
    /// Position of the record behind the mark.
    pub position: u64,
    /// The chain there.
    pub chain: Chain,
    /// When it was begun.
    pub time: Instant,
    /// Nanoseconds from CLOCK_MONOTONIC to UTC.
    pub utc_offset: i64,
    /// Walks so far.
    pub walks: u64,
}

/// A snapshot that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it belongs.
    pub origin: Origin,
    /// The file.
    pub path: PathBuf,
    labels_len: u64,
    state_len: u64,
}

/// A whole snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Where it belongs.
    pub origin: Origin,
    /// Names of ports.
    pub labels: Vec<(PortId, String)>,
    /// As [`stack::Switch::snapshot`] made it.
    pub state: Vec<u8>,
}

/// The file of an area.
#[must_use]
pub fn path(directory: &Path, area: usize) -> PathBuf {
    directory.join(format!("snapshot-{area}"))
}

/// An area being written.
#[derive(Debug)]
pub struct Writing {
    file: File,
    origin: Origin,
    labels: Vec<u8>,
    state_len: u64,
}

impl Writing {
    /// Takes the area's old snapshot away and begins a new one.
    ///
    /// # Errors
    /// The file system's.
    pub fn begin(
        path: &Path,
        origin: Origin,
        labels: &BTreeMap<PortId, String>,
    ) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
        // First of all it is no snapshot any more; a reader who has begun sees that at its end.
        file.write_all_at(&[0; 8], 0)?;
        file.set_len(BODY)?;
        let mut bytes = Vec::new();
        for (port, name) in labels {
            let len = u32::try_from(name.len()).unwrap_or(0);
            bytes.extend(port.0.to_le_bytes());
            bytes.extend(len.to_le_bytes());
            bytes.extend(name.as_bytes().get(..len as usize).unwrap_or(&[]));
        }
        file.write_all_at(&bytes, BODY)?;
        Ok(Self { file, origin, labels: bytes, state_len: 0 })
    }

    /// Where it belongs.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Appends bytes of the state.
    ///
    /// # Errors
    /// The file system's.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = BODY + self.labels.len() as u64 + self.state_len;
        self.file.write_all_at(bytes, at)?;
        self.state_len += bytes.len() as u64;
        Ok(())
    }

    /// The state is whole.
    ///
    /// # Errors
    /// The file system's.
    pub fn finish(self) -> io::Result<()> {
        let labels_len = self.labels.len() as u64;
        let words = words(&self.origin, labels_len, self.state_len, &self.labels);
        let bytes = words.map(u64::to_le_bytes);
        self.file.write_all_at(bytes.as_flattened(), 0)
    }
}

fn words(origin: &Origin, labels_len: u64, state_len: u64, labels: &[u8]) -> [u64; WORDS] {
    let Origin { number, position, chain, time, utc_offset, walks } = origin;
    let offset = u64::from_ne_bytes(utc_offset.to_ne_bytes());
    let mut words = [
        MAGIC,
        *number,
        *position,
        chain.inputs(),
        chain.outcomes(),
        time.0,
        offset,
        *walks,
        labels_len,
        state_len,
        0,
    ];
    let mut hasher = Hasher::new(MAGIC);
    words.iter().for_each(|word| hasher.number(*word));
    hasher.bytes(labels);
    if let Some(check) = words.last_mut() {
        *check = hasher.finish();
    }
    words
}

/// The snapshots in a directory, newest first.
#[must_use]
pub fn find(directory: &Path) -> Vec<Found> {
    let each = (0..AREAS).map(|area| path(directory, area));
    let mut found: Vec<Found> = each
        .filter_map(|path| {
            let file = open(&path).ok()?;
            let (origin, labels_len, state_len, _) = header(&file)?;
            Some(Found { origin, path, labels_len, state_len })
        })
        .collect();
    found.sort_by_key(|found| std::cmp::Reverse(found.origin.position));
    found
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// What the header says: origin, bytes of names and state, and the words themselves. The check is
/// still to be made, by [`Found::read`].
fn header(file: &File) -> Option<(Origin, u64, u64, [u64; WORDS])> {
    let mut bytes = [[0; 8]; WORDS];
    file.read_exact_at(bytes.as_flattened_mut(), 0).ok()?;
    let words = bytes.map(u64::from_le_bytes);
    let [magic, number, position, inputs, outcomes, time, offset, walks, labels, state, _] = words;
    let len = file.metadata().ok()?.len();
    let whole = BODY.checked_add(labels)?.checked_add(state)?;
    if magic != MAGIC || labels > LABELS_MAX || whole != len {
        return None;
    }
    let origin = Origin {
        number,
        position,
        chain: Chain::resume(inputs, outcomes),
        time: Instant(time),
        utc_offset: i64::from_ne_bytes(offset.to_ne_bytes()),
        walks,
    };
    Some((origin, labels, state, words))
}

impl Found {
    /// Reads it whole; `None` when it was overwritten meanwhile, or is damaged.
    #[must_use]
    pub fn read(&self) -> Option<Area> {
        let file = open(&self.path).ok()?;
        let (origin, labels_len, state_len, before) = header(&file)?;
        if (origin, labels_len, state_len) != (self.origin, self.labels_len, self.state_len) {
            return None;
        }
        let mut labels = vec![0; usize::try_from(labels_len).ok()?];
        let mut state = vec![0; usize::try_from(state_len).ok()?];
        file.read_exact_at(&mut labels, BODY).ok()?;
        file.read_exact_at(&mut state, BODY + labels_len).ok()?;
        let (_, _, _, after) = header(&file)?;
        let whole = before == after && words(&origin, labels_len, state_len, &labels) == after;
        if !whole {
            return None;
        }
        Some(Area { origin, labels: read_labels(&labels)?, state })
    }
}

fn read_labels(mut bytes: &[u8]) -> Option<Vec<(PortId, String)>> {
    let mut labels = Vec::new();
    while !bytes.is_empty() {
        let (port, rest) = bytes.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        labels
            .push((PortId(u32::from_le_bytes(*port)), std::str::from_utf8(name).ok()?.to_owned()));
        bytes = rest;
    }
    Some(labels)
}

#[cfg(test)]
mod tests;

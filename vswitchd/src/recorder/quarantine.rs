//! Records that crashed the switch, kept as a recording: the newest state before them, what led
//! from there to them, and they themselves, as they came in.
//!
//! A recovery writes it beside the journal, where it fails as little as can be; the daemon takes it
//! from there ([`crate::triggers`]).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use recording::replayer::describe;
use recording::{About, Excerpt, Header, Id, Writer};
use stack::hash::Hasher;
use stack::journal::{Head, Kind, body, read_label, records};
use stack::{Instant, PortId};

use super::past::{Past, PastError};

/// The rule that such recordings are listed under.
pub const RULE: &str = "quarantine";
/// How the files' names begin and end.
const PREFIX: &str = "quarantine-";
const SUFFIX: &str = ".pcapng";
/// Bytes that are written at once.
const PIECE: usize = 1 << 18;

/// Why records cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// The journal.
    #[error(transparent)]
    Past(#[from] PastError),
    /// The file.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The files in that directory.
#[must_use]
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_one = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
    };
    entries.filter(is_one).map(|entry| entry.path()).collect()
}

/// Keeps all records from `position` on, a journal that ends with one input that was not carried
/// out, and what led to them if there is room for it.
///
/// # Errors
/// When they cannot be read, and the file system's.
pub fn keep(past: &Past, directory: &Path, position: u64) -> Result<PathBuf, QuarantineError> {
    let mut reader = past.reader(position);
    reader.advance().map_err(PastError::Read)?;
    let first = Head::read(reader.record());
    let time = first.map_or(Instant::ZERO, |head| head.time);
    let path = directory.join(format!("{PREFIX}{position}{SUFFIX}"));
    let put = |excerpt: &Excerpt| write(&path, excerpt, header(past, excerpt, (position, time)));
    let whole = past.excerpt(Some(time));
    let kept = match &whole {
        Ok(excerpt) => put(excerpt).map_err(QuarantineError::from),
        Err(error) => Err((*error).into()),
    };
    if let Err(error) = kept {
        // For want of room, most likely: then at least what crashed, without what led to it.
        tracing::warn!(%error, "what led to a record that crashed the switch cannot be kept");
        let records = past.reader(position).rest().map_err(PastError::Read)?;
        let labels = whole.map(|excerpt| names(&excerpt)).unwrap_or_default();
        let (labels, utc_offset) = (labels.into_iter().collect(), past.utc_offset());
        put(&Excerpt { records, labels, utc_offset, ..Excerpt::default() })?;
    }
    Ok(path)
}

fn write(path: &Path, excerpt: &Excerpt, header: Header) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = BufWriter::new(options.open(path)?);
    let mut writer = Writer::new(excerpt, header);
    let mut piece = Vec::new();
    while writer.piece(PIECE, &mut piece) {
        file.write_all(&piece)?;
        piece.clear();
    }
    file.write_all(&piece)?;
    file.flush()
}

fn header(past: &Past, excerpt: &Excerpt, (position, time): (u64, Instant)) -> Header {
    let heads = || records(&excerpt.records).map_while(Result::ok).filter_map(Head::read);
    let utc = |time: Instant| time.0.saturating_add_signed(past.utc_offset());
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let frames = heads().filter(|head| head.kind == Kind::Frame).count();
    let what = records(&excerpt.records).map_while(Result::ok).last();
    let what = what.map_or_else(String::new, |record| describe(record, &names(excerpt)));
    let mut hasher = Hasher::new(utc(time));
    hasher.number(position);
    Header {
        id: Id(hasher.finish()),
        build: concat!("vswitchd ", env!("CARGO_PKG_VERSION")).to_owned(),
        redacted: false,
        about: Some(About {
            rule: RULE.to_owned(),
            event: format!("crashed the switch twice: {what}; journal position {position}"),
            at: utc(time),
            covers: (utc(heads().next().map_or(time, |head| head.time)), utc(time)),
            missing: 0,
            packets: count(frames),
            crashed: Some(count(heads().count())),
        }),
    }
}

/// Names of ports at the end of an excerpt.
fn names(excerpt: &Excerpt) -> BTreeMap<PortId, String> {
    let mut names: BTreeMap<PortId, String> = excerpt.labels.iter().cloned().collect();
    for record in records(&excerpt.records).map_while(Result::ok) {
        let head = Head::read(record).filter(|head| head.kind == Kind::Label);
        let label = head.and_then(|head| read_label(body(record, &head)));
        names.extend(label.map(|(port, name)| (port, name.to_owned())));
    }
    names
}

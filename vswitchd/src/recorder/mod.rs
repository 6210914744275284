//! The recorder: every input of the switch in a ring in memory, and the way back from it.
//!
//! - [`mod@ring`]: the writer, on the data thread; [`reader`]: everybody else. [`map`], [`layout`]:
//!   the file. Nothing is half written for a reader, nor after a crash.
//! - [`areas`], [`snapshots`]: states beside the ring, taken between two batches.
//! - [`journal`]: what the event loop calls; [`mod@past`]: what the control side asks.
//! - [`recovery`]: the state a dead worker left; [`quarantine`]: what it died on, kept.
//! - [`follow`]: the state of a worker that lives, until it hands over; [`home`]: where all lies.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stack::journal::{Begin, Chain};
use stack::{Config, Instant, Limits, PortId, Seeds, Switch};

pub mod areas;
pub mod follow;
pub mod home;
pub mod journal;
pub mod layout;
pub mod map;
pub mod past;
pub mod poison;
pub mod quarantine;
pub mod reader;
pub mod recovery;
pub mod ring;
pub mod snapshots;

pub use follow::{Follower, Staged};
pub use home::{FILE, Home, HomeError};
pub use journal::Journal;
pub use past::{Horizon, Past, PastError};
pub use reader::{Overwritten, ReadError, Reader};
pub use recovery::{Purpose, Recovered, State, Unusable};

pub use layout::Identity;

use layout::Geometry;
use map::Map;
use ring::Ring;
use snapshots::Taker;

/// How a journal is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where: a private directory on tmpfs ([`Home`]).
    pub directory: PathBuf,
    /// Bytes of the ring, about; one that is there keeps its size.
    pub size: u64,
    /// Whether all of a frame is recorded.
    pub payload: bool,
}

/// What a worker begins with.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// The time.
    pub now: Instant,
    /// Nanoseconds from CLOCK_MONOTONIC to UTC.
    pub utc_offset: i64,
    /// Seeds for an empty switch; the table seed for a recovered one as well.
    pub seeds: Seeds,
    /// Limits of an empty switch.
    pub limits: Limits,
}

/// A journal that goes on, and the switch it is of.
#[derive(Debug)]
pub struct Opened {
    /// The switch.
    pub switch: Switch,
    /// For the event loop.
    pub journal: Journal,
    /// For the control side.
    pub past: Past,
    /// How the state was reached; `None`: the switch is empty.
    pub recovered: Option<Recovered>,
    /// What the operator should know: why the switch is empty, or what was set aside.
    pub notice: Option<String>,
}

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its file.
    #[error(
        "the journal {path} cannot be made with {size} bytes: free memory of its tmpfs, set \
             journal-size to less, or name another tmpfs as journal-dir"
    )]
    Create {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: usize,
        /// Why.
        source: io::Error,
    },
    /// The kernel.
    #[error("the kernel's boot id cannot be read; mount /proc")]
    Boot(#[source] io::Error),
    /// Two writers.
    #[error("the journal {0} is being written already; stop the other vswitchd")]
    Busy(PathBuf),
}

/// The files of a journal in that directory, for who has to tidy up after a start that came to
/// nothing.
pub fn files(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let areas = (0..areas::AREAS).map(|area| areas::path(directory, area));
    [FILE, follow::NEXT].map(|name| directory.join(name)).into_iter().chain(areas)
}

/// This boot and this build: what a journal must be of to be gone on with.
///
/// # Errors
/// [`OpenError::Boot`].
pub fn identity() -> Result<Identity, OpenError> {
    Ok(Identity::new(boot_id().map_err(OpenError::Boot)?))
}

/// Goes on with the journal that is there, or begins one.
///
/// # Errors
/// See [`OpenError`]. A journal that cannot be used is none; [`Opened::notice`] says why.
pub fn open(options: &Options, begun: &Begun) -> Result<Opened, OpenError> {
    let identity = identity()?;
    match recovery::recover(options, &identity, begun.now, begun.seeds.table) {
        Ok(state) => resume(options, begun, state),
        Err(Unusable::Missing) => begin(options, begun, &identity, None),
        Err(why) => {
            let notice = format!("the journal {why}: the switch started empty");
            begin(options, begun, &identity, Some(notice))
        }
    }
}

/// Goes on behind a state.
fn resume(options: &Options, begun: &Begun, state: State) -> Result<Opened, OpenError> {
    let State { map, switch, labels, how, set_aside } = state;
    if *map.geometry() != Geometry::for_size(options.size) {
        tracing::info!("journal-size takes effect with the next journal; this one keeps its size");
    }
    populate(&map);
    let mut journal = go_on(&map, options, how.chain, how.records, labels)?;
    let notice = set_aside.map(|_path| {
        journal.recorder().skip(begun.now, "it crashed the worker twice");
        "a record that crashed the switch twice was set aside: hopctl get recordings names the \
         file, please report it"
            .to_owned()
    });
    journal.recorder().resume(begun.now, "recovered from the journal");
    journal.clock(begun.now, begun.utc_offset);
    let past = past(&map, options);
    Ok(Opened { switch, journal, past, recovered: Some(how), notice })
}

/// The writer behind the newest record, of which the last `replayed` were.
fn go_on(
    map: &Arc<Map>,
    options: &Options,
    chain: Chain,
    replayed: u64,
    labels: BTreeMap<PortId, String>,
) -> Result<Journal, OpenError> {
    let ring = ring(options, map)?;
    let mut found = areas::find(&options.directory);
    found.retain(|found| found.origin.position <= ring.position());
    // The tail was replayed and counts for the next one, or it would grow from crash to crash.
    let at = ring.records().saturating_sub(replayed);
    let taker = Taker::new(options.directory.clone(), map.geometry().half(), &found, at);
    Ok(Journal::new(ring, chain, options.payload, taker, labels))
}

/// Begins a journal with an empty switch, in place of the one that is there.
fn begin(
    options: &Options,
    begun: &Begun,
    identity: &Identity,
    notice: Option<String>,
) -> Result<Opened, OpenError> {
    let path = options.directory.join(FILE);
    // Whoever still reads the old one keeps it: it is removed, not overwritten.
    remove_areas(&options.directory).map_err(|source| cannot(options, &path, source))?;
    let opened = begin_at(path, options, begun, identity)?;
    Ok(Opened { notice, ..opened })
}

/// Begins a journal with an empty switch, in that file.
fn begin_at(
    path: PathBuf,
    options: &Options,
    begun: &Begun,
    identity: &Identity,
) -> Result<Opened, OpenError> {
    let geometry = Geometry::for_size(options.size);
    let map = remove(&path)
        .and_then(|()| Map::create(&path, geometry))
        .map_err(|source| cannot(options, &path, source))
        .map(Arc::new)?;
    map.header().begin(geometry, identity);
    let taker = Taker::new(options.directory.clone(), geometry.half(), &[], 0);
    let ring = ring(options, &map)?;
    populate(&map);
    let mut journal = Journal::new(ring, Chain::new(), options.payload, taker, BTreeMap::new());
    journal.recorder().begin(begun.now, &Begin::new(begun.limits, begun.seeds));
    journal.clock(begun.now, begun.utc_offset);
    let switch = Switch::new(Config::default(), begun.limits, begun.seeds);
    Ok(Opened { switch, journal, past: past(&map, options), recovered: None, notice: None })
}

fn cannot(options: &Options, path: &Path, source: io::Error) -> OpenError {
    let size = Geometry::for_size(options.size).file_len();
    OpenError::Create { path: path.to_owned(), size, source }
}

fn remove_areas(directory: &Path) -> io::Result<()> {
    (0..areas::AREAS).try_for_each(|area| remove(&areas::path(directory, area)))
}

fn ring(options: &Options, map: &Arc<Map>) -> Result<Ring, OpenError> {
    Ring::new(map).ok_or_else(|| OpenError::Busy(options.directory.join(FILE)))
}

fn past(map: &Arc<Map>, options: &Options) -> Past {
    Past::new(Arc::clone(map), &options.directory)
}

/// Maps the ring's pages ahead of the writer, on a thread that ends with it. Without the thread the
/// writer meets a page fault for each page of its first lap.
fn populate(map: &Arc<Map>) {
    let map = Arc::clone(map);
    let work = move || {
        let geometry = *map.geometry();
        let position = map.header().head.load(std::sync::atomic::Ordering::Acquire);
        let first = geometry.place(geometry.number(position));
        for place in 0..geometry.segments {
            map.populate((first + place) % geometry.segments);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("journal".to_owned()).spawn(work) {
        tracing::debug!(%error, "the journal's pages are mapped one by one");
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// This boot, as two words.
fn boot_id() -> io::Result<[u64; 2]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let half = |part: Option<&str>| u64::from_str_radix(part.unwrap_or(""), 16);
    let (high, low) = (half(digits.get(..16)), half(digits.get(16..)));
    Ok([high.map_err(io::Error::other)?, low.map_err(io::Error::other)?])
}

#[cfg(test)]
pub(crate) mod tests;

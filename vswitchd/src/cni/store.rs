//! Attachments and leases in files (SEC-25): `attachments/*.json`, one an attachment, and
//! `leases.json` in the state directory. 0600 in 0700, renamed into place, each with its schema's
//! version and a checksum. What does not pass is moved to `damaged/` and logged, never taken in
//! part.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stack::hash::Hasher;

use super::attachment::{Attachment, Key};

/// Version of the files' form.
const SCHEMA: u32 = 1;
const LEASES: &str = "leases.json";
const KEY: u64 = 0x6c65_6173_6573;

/// What outlives attachments: freed addresses in the order they were freed, cursors, port numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leases {
    /// Port numbers below this one may have been given out.
    pub ports_reserved: u32,
    /// Where the search for never used addresses goes on, an address a range.
    pub cursors: Vec<String>,
    /// Freed addresses, the one freed first in front.
    pub freed: Vec<FreedText>,
}

/// A freed address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreedText {
    /// The address.
    pub address: String,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refuses.
    #[error("state-dir: {path}")]
    Io {
        /// Of which file.
        path: PathBuf,
        /// Its errno.
        source: io::Error,
    },
    /// Others could have put anything in.
    #[error("state-dir: {0} may be written to by others; run chmod 0700 on it")]
    Writable(PathBuf),
    /// A later version wrote it.
    #[error(
        "state-dir: {path} has schema {schema}, this vswitchd knows {SCHEMA}: start the newer one, \
         or remove its attachments first"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        schema: u32,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    schema: u32,
    checksum: String,
    body: Value,
}

/// All that was found at start.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Whole attachments, in the order of their file names.
    pub attachments: Vec<Attachment>,
    /// The leases; default when there were none.
    pub leases: Leases,
    /// Files that were set aside, now or at an earlier start.
    pub damaged: Vec<PathBuf>,
}

/// The state directory.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
}

enum Read<T> {
    Whole(T),
    Damaged(String),
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}

fn checksum(body: &str) -> String {
    let mut hasher = Hasher::new(KEY);
    hasher.bytes(body.as_bytes());
    format!("{:016x}", hasher.finish())
}

/// Makes a private directory, or checks that it is one.
///
/// # Errors
/// The file system's, and [`StoreError::Writable`].
pub(crate) fn private_directory(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).recursive(true).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(io_at(path))?,
    }
    let meta = fs::symlink_metadata(path).map_err(io_at(path))?;
    if !meta.is_dir() || meta.mode() & 0o022 != 0 {
        return Err(StoreError::Writable(path.to_owned()));
    }
    Ok(())
}

/// Where attachments lie in a state directory.
#[must_use]
pub fn attachments(state_dir: &Path) -> PathBuf {
    state_dir.join("attachments")
}

impl Store {
    /// Opens the state directory, making what is missing, and reads all of it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(directory: &Path) -> Result<(Self, Loaded), StoreError> {
        let store = Self { directory: directory.to_owned() };
        private_directory(directory)?;
        private_directory(&store.attachments())?;
        let mut loaded = Loaded::default();
        let leases = directory.join(LEASES);
        if let Some(read) = store.read(&leases)? {
            loaded.leases = read;
        }
        for path in files(&store.attachments())? {
            if path.extension().is_none_or(|extension| extension != "json") {
                // What a writer left that was killed before its rename.
                fs::remove_file(&path).map_err(io_at(&path))?;
            } else if let Some(read) = store.read::<Attachment>(&path)? {
                let clash = |other: &Attachment| {
                    other.port == read.port
                        || other.addresses.iter().any(|address| read.addresses.contains(address))
                };
                if path != store.path(&read.key) || loaded.attachments.iter().any(clash) {
                    let why = "it holds what belongs to another attachment";
                    store.set_aside(&path, why)?;
                } else {
                    loaded.attachments.push(read);
                }
            }
        }
        loaded.damaged = files(&store.damaged())?;
        Ok((store, loaded))
    }

    /// Writes an attachment. `durable` waits for the disk: needed once an ADD has succeeded; a
    /// crash of the daemon alone loses nothing without.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, attachment: &Attachment, durable: bool) -> Result<(), StoreError> {
        self.replace(&self.path(&attachment.key), attachment, durable)
    }

    /// Forgets an attachment; one that is not there is no error.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove(&self, key: &Key) -> Result<(), StoreError> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(io_at(&path)),
        }
    }

    /// Writes the leases.
    ///
    /// # Errors
    /// The file system's.
    pub fn write_leases(&self, leases: &Leases) -> Result<(), StoreError> {
        self.replace(&self.directory.join(LEASES), leases, true)
    }

    fn attachments(&self) -> PathBuf {
        attachments(&self.directory)
    }

    fn damaged(&self) -> PathBuf {
        self.directory.join("damaged")
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.attachments().join(format!("{}.json", key.file_stem()))
    }

    fn replace(&self, path: &Path, body: &impl Serialize, durable: bool) -> Result<(), StoreError> {
        let io = |source| StoreError::Io { path: path.to_owned(), source };
        let body = serde_json::to_value(body).map_err(|error| io(error.into()))?;
        let checksum = checksum(&body.to_string());
        let envelope = Envelope { schema: SCHEMA, checksum, body };
        let bytes = serde_json::to_vec(&envelope).map_err(|error| io(error.into()))?;
        let temporary = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(io)?;
        let written = file
            .write_all(&bytes)
            .and_then(|()| if durable { file.sync_all() } else { Ok(()) })
            .and_then(|()| fs::rename(&temporary, path));
        if let Err(error) = written {
            // The first error is the one to tell; the next start sweeps what cannot be removed.
            drop(fs::remove_file(&temporary));
            return Err(io(error));
        }
        match path.parent() {
            Some(parent) if durable => File::open(parent).and_then(|d| d.sync_all()).map_err(io),
            _ => Ok(()),
        }
    }

    /// Reads a file; `None` when it is not there or was set aside.
    fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, StoreError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_at(path)(error)),
        };
        match decode(path, &bytes)? {
            Read::Whole(body) => Ok(Some(body)),
            Read::Damaged(why) => {
                self.set_aside(path, &why)?;
                Ok(None)
            }
        }
    }

    fn set_aside(&self, path: &Path, why: &str) -> Result<(), StoreError> {
        let place = self.damaged();
        private_directory(&place)?;
        let name = path.file_name().unwrap_or_default();
        let to = place.join(name);
        fs::rename(path, &to).map_err(io_at(path))?;
        tracing::error!(
            file = %path.display(), moved_to = %to.display(), why,
            "a state file is damaged and was set aside; the attachment in it is forgotten"
        );
        Ok(())
    }
}

/// What a directory holds, sorted; nothing when it is not there.
fn files(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_at(directory))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(io_at(directory))?.path());
    }
    paths.sort();
    Ok(paths)
}

fn decode<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<Read<T>, StoreError> {
    let envelope: Envelope = match serde_json::from_slice(bytes) {
        Ok(envelope) => envelope,
        Err(error) => return Ok(Read::Damaged(error.to_string())),
    };
    if envelope.schema > SCHEMA {
        return Err(StoreError::Newer { path: path.to_owned(), schema: envelope.schema });
    }
    if checksum(&envelope.body.to_string()) != envelope.checksum {
        return Ok(Read::Damaged("its checksum differs".into()));
    }
    Ok(match serde_json::from_value(envelope.body) {
        Ok(body) => Read::Whole(body),
        Err(error) => Read::Damaged(error.to_string()),
    })
}

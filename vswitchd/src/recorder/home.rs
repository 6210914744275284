//! Where the journal lies: in memory, and private.
//!
//! A journal on a disk would wear it, and a write could wait for it. So `journal-dir` must be on
//! tmpfs; without it run-dir is taken, or, where that is on a disk, a directory of /dev/shm that
//! `run-dir/journal` points to.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use stack::hash::Hasher;

use super::{areas, follow};

/// The ring's file.
pub const FILE: &str = "journal";
/// Where every Linux has a tmpfs.
const SHARED_MEMORY: &str = "/dev/shm";

/// Where the journal lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The directory.
    pub directory: PathBuf,
    /// Whether it was chosen because run-dir is on a disk.
    pub chosen: bool,
}

/// Why there is no place for a journal.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Not in memory.
    #[error(
        "`{key}` {path} is not on tmpfs: name a directory that is, such as /dev/shm/hopscope, as \
         journal-dir"
    )]
    OnDisk {
        /// The setting.
        key: &'static str,
        /// Its directory.
        path: PathBuf,
    },
    /// Somebody else's.
    #[error("{path} belongs to another user: remove it, or set journal-dir to another directory")]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// The file system.
    #[error("journal-dir {path}: {doing}; see that the directory can be written to")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What failed.
        doing: &'static str,
        /// Its errno.
        source: io::Error,
    },
}

impl Home {
    /// Finds and makes the directory.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn make(run_dir: &Path, journal_dir: Option<&Path>) -> Result<Self, HomeError> {
        if let Some(given) = journal_dir {
            private(given)?;
            in_memory("journal-dir", given)?;
            point(run_dir, given)?;
            return Ok(Self { directory: given.to_owned(), chosen: false });
        }
        if in_memory("run-dir", run_dir).is_ok() {
            return Ok(Self { directory: run_dir.to_owned(), chosen: false });
        }
        let directory = fallback(run_dir);
        in_memory("run-dir", Path::new(SHARED_MEMORY))
            .map_err(|_also| HomeError::OnDisk { key: "run-dir", path: run_dir.to_owned() })?;
        private(&directory)?;
        point(run_dir, &directory)?;
        Ok(Self { directory, chosen: true })
    }
}

/// A directory of shared memory for this run-dir and no other.
fn fallback(run_dir: &Path) -> PathBuf {
    let path = fs::canonicalize(run_dir).unwrap_or_else(|_gone| run_dir.to_owned());
    let mut hasher = Hasher::new(0);
    hasher.bytes(path.as_os_str().as_encoded_bytes());
    Path::new(SHARED_MEMORY).join(format!("hopscope-{:016x}", hasher.finish()))
}

/// Makes a directory that nobody else can look into. In a directory that all may write to, somebody
/// else may have been first.
fn private(directory: &Path) -> Result<(), HomeError> {
    let fault = |doing| move |source| HomeError::Io { path: directory.to_owned(), doing, source };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(fault("it cannot be made"))?;
    let metadata = fs::symlink_metadata(directory).map_err(fault("it cannot be looked at"))?;
    if !metadata.is_dir() || metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(HomeError::Foreign { path: directory.to_owned() });
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(directory, Permissions::from_mode(0o700))
            .map_err(fault("it cannot be made private"))?;
    }
    Ok(())
}

fn in_memory(key: &'static str, directory: &Path) -> Result<(), HomeError> {
    let kind = statfs(directory).map_err(|errno| HomeError::Io {
        path: directory.to_owned(),
        doing: "its file system cannot be asked",
        source: errno.into(),
    })?;
    if kind.filesystem_type() == TMPFS_MAGIC {
        return Ok(());
    }
    Err(HomeError::OnDisk { key, path: directory.to_owned() })
}

/// `run-dir/journal` leads to the ring, wherever it is.
fn point(run_dir: &Path, directory: &Path) -> Result<(), HomeError> {
    let (link, target) = (run_dir.join(FILE), directory.join(FILE));
    if link == target || fs::read_link(&link).is_ok_and(|there| there == target) {
        return Ok(());
    }
    let fault = |doing| move |source| HomeError::Io { path: run_dir.to_owned(), doing, source };
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(fault("an old journal cannot be removed from run-dir")(error));
        }
        Ok(()) | Err(_) => {}
    }
    symlink(&target, &link).map_err(fault("the link run-dir/journal cannot be made"))
}

/// Removes the journal of a run-dir with its snapshots, wherever it is. Gives back what was
/// removed.
///
/// # Errors
/// The file system's, beside the file.
pub fn remove(run_dir: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let link = run_dir.join(FILE);
    let ring = fs::read_link(&link).unwrap_or_else(|_no_link| link.clone());
    let Some(directory) = ring.parent() else { return Ok(Vec::new()) };
    let mut removed = Vec::new();
    let areas = (0..areas::AREAS).map(|area| areas::path(directory, area));
    for path in areas.chain([directory.join(follow::NEXT), ring.clone(), link]) {
        match fs::remove_file(&path) {
            Ok(()) => removed.push(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err((path, error)),
        }
    }
    if directory == fallback(run_dir) {
        // Records that were set aside keep the directory: they are for people.
        drop(fs::remove_dir(directory));
    }
    Ok(removed)
}

#[cfg(test)]
mod tests;

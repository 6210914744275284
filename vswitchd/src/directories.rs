//! run-dir and state-dir: private, locked by whoever works on them, and as they were again when a
//! start is refused.
//!
//! One daemon each. Two on one state-dir would give an address to two pods, two on one run-dir
//! would take each other's sockets, and a cleanup beside a daemon would take its node away. The
//! locks go with the process, however it ends.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Both directories, for as long as this lives.
#[derive(Debug, Default)]
pub struct Directories {
    // Removes the files of locks while they are still held.
    made: Made,
    /// A lock goes with the last descriptor of its file, whichever process has that.
    locks: Vec<File>,
}

/// A directory that cannot be used: which setting it is, why, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} {path}: {why}")]
pub struct DirectoryError {
    key: &'static str,
    path: PathBuf,
    why: String,
}

impl DirectoryError {
    /// Whether another vswitchd has it.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.why == IN_USE
    }
}

impl Directories {
    /// Both, as another process had taken them.
    #[must_use]
    pub fn handed_over(locks: Vec<OwnedFd>) -> Self {
        Self { made: Made::default(), locks: locks.into_iter().map(File::from).collect() }
    }

    /// What to hand over: whoever has these has the locks.
    pub fn locks(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.locks.iter().map(AsFd::as_fd)
    }

    /// Makes what is missing, and takes both. What was made goes again with this, unless it is
    /// kept.
    ///
    /// # Errors
    /// See [`DirectoryError`]; nothing was made then.
    pub fn take(run_dir: &Path, state_dir: &Path) -> Result<Self, DirectoryError> {
        let mut places = Vec::new();
        for (key, path) in named(run_dir, state_dir) {
            check(path).map_err(|why| refused(key, path, why))?;
            places.push((key, path));
        }
        let mut taken = Self::default();
        for (key, path) in places {
            taken.made.note(path);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|error| refused(key, path, format!("cannot be made: {error}")))?;
            taken.lock(path).map_err(|why| refused(key, path, why))?;
        }
        Ok(taken)
    }

    /// Takes those that exist: who has none has no daemon either.
    ///
    /// # Errors
    /// When a daemon runs on one of them, and the file system's.
    pub fn take_existing(run_dir: &Path, state_dir: &Path) -> Result<Self, DirectoryError> {
        let mut taken = Self::default();
        for (key, path) in named(run_dir, state_dir).into_iter().filter(|(_, path)| path.is_dir()) {
            taken.lock(path).map_err(|why| refused(key, path, why))?;
        }
        Ok(taken)
    }

    /// What is going to be made here, to be removed if it comes to nothing.
    pub fn note(&mut self, path: &Path) {
        self.made.note(path);
    }

    /// What was made stays.
    pub fn keep(&mut self) {
        self.made.0.clear();
    }

    fn lock(&mut self, directory: &Path) -> Result<(), String> {
        let path = directory.join(LOCK);
        self.made.note(&path);
        loop {
            let opened =
                File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
            let file = opened.map_err(|error| format!("cannot be written to: {error}"))?;
            let own = file.metadata().map_err(|error| format!("cannot be looked at: {error}"))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    // It is that one's, not ours to remove.
                    self.made.forget(&path);
                    return Err(IN_USE.to_owned());
                }
                Err(TryLockError::Error(error)) => {
                    return Err(format!("cannot be locked: {error}"));
                }
            }
            // Who was refused in between has removed its file, and nobody would look at this one.
            let inode = |file: &fs::Metadata| (file.dev(), file.ino());
            if fs::metadata(&path).is_ok_and(|there| inode(&there) == inode(&own)) {
                self.locks.push(file);
                return Ok(());
            }
        }
    }
}

/// Paths that were not there before. They go again with this, what was made last first; a directory
/// only if it is empty.
#[derive(Debug, Default)]
struct Made(Vec<PathBuf>);

impl Made {
    /// Remembers a path that is about to be made, and those above it.
    fn note(&mut self, path: &Path) {
        let named = |path: &&Path| !path.as_os_str().is_empty();
        let missing = path.ancestors().filter(named).take_while(|path| !path.exists());
        let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        missing.reverse();
        self.0.extend(missing);
    }

    fn forget(&mut self, path: &Path) {
        self.0.retain(|made| made != path);
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let is_dir = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
            let removed = if is_dir { fs::remove_dir(path) } else { fs::remove_file(path) };
            match removed.map_err(|error| error.kind()) {
                // What was noted may never have been made, or be somebody else's by now.
                Ok(()) | Err(io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {}
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "not removed again");
                }
            }
        }
    }
}

/// The directories with the settings that name them, once if both are one.
fn named<'a>(run_dir: &'a Path, state_dir: &'a Path) -> Vec<(&'static str, &'a Path)> {
    let real = |path: &Path| fs::canonicalize(path).ok();
    let one = run_dir == state_dir
        || real(run_dir).is_some_and(|path| real(state_dir).is_some_and(|other| other == path));
    let both = [("run-dir", run_dir), ("state-dir", state_dir)];
    both.into_iter().take(if one { 1 } else { 2 }).collect()
}

/// What is there already must be private: others could have put anything in.
fn check(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("cannot be looked at: {error}; name another directory")),
        Ok(meta) if !meta.is_dir() => Err("is no directory; name one".to_owned()),
        Ok(meta) if meta.mode() & 0o022 != 0 => {
            Err("may be written to by others; run chmod 0700 on it".to_owned())
        }
        Ok(_private) => Ok(()),
    }
}

fn refused(key: &'static str, path: &Path, why: String) -> DirectoryError {
    DirectoryError { key, path: path.to_owned(), why }
}

/// Name of the file that is locked.
const LOCK: &str = "lock";
const IN_USE: &str = "another vswitchd runs on it; stop that one or name another directory";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("hs-dirs-{name}-{}", std::process::id()));
            fs::create_dir_all(&root).unwrap();
            Self(root)
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn one_at_a_time_on_either_directory() {
        let place = Place::new("one");
        let (run, state) = (place.at("a/run"), place.at("state"));
        let mut first = Directories::take(&run, &state).unwrap();
        first.keep();
        for (run, state, key) in [
            (&run, &place.at("other-state"), "run-dir"),
            (&place.at("other-run"), &state, "state-dir"),
        ] {
            let error = Directories::take(run, state).unwrap_err().to_string();
            assert!(error.starts_with(key) && error.contains("another vswitchd"), "{error}");
            let error = Directories::take_existing(run, state).unwrap_err().to_string();
            assert!(error.starts_with(key) && error.contains("another vswitchd"), "{error}");
        }
        assert_eq!(place.names().len(), 2, "nothing was made: {:?}", place.names());
        // The lock goes with the last one that has it.
        let copies: Vec<OwnedFd> =
            first.locks().map(|lock| lock.try_clone_to_owned().unwrap()).collect();
        drop(first);
        assert!(Directories::take(&run, &state).unwrap_err().is_in_use());
        let second = Directories::handed_over(copies);
        assert_eq!(second.locks().count(), 2);
        drop(second);
        assert!(run.join(LOCK).exists() && state.join(LOCK).exists());
        drop(Directories::take_existing(&run, &state).unwrap());
        assert!(run.join(LOCK).exists() && state.join(LOCK).exists());
        drop(Directories::take(&place.at("both"), &place.at("both")).unwrap());
    }

    #[test]
    fn what_was_made_for_nothing_goes_again() {
        let place = Place::new("nothing");
        let (run, state) = (place.at("x/y/run"), place.at("state"));
        let mut taken = Directories::take(&run, &state).unwrap();
        let attachments = state.join("attachments");
        taken.note(&attachments);
        fs::create_dir(&attachments).unwrap();
        drop(taken);
        assert_eq!(place.names(), Vec::<String>::new());
        // What somebody else has put in by then is not taken along.
        let taken = Directories::take(&run, &state).unwrap();
        fs::write(state.join("note"), "").unwrap();
        drop(taken);
        assert_eq!(place.names(), ["state"]);
        drop(Directories::take_existing(&run, &state).unwrap());
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "nor is a lock left");
    }

    #[test]
    fn what_is_not_private_is_refused_before_anything_is_made() {
        let place = Place::new("open");
        let (run, state) = (place.at("run"), place.at("state"));
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
        let error = Directories::take(&run, &state).unwrap_err().to_string();
        assert!(error.starts_with("state-dir") && error.contains("chmod 0700"), "{error}");
        assert_eq!(place.names(), ["state"]);
        fs::remove_dir(&state).unwrap();
        fs::write(&state, "").unwrap();
        let error = Directories::take(&run, &state).unwrap_err().to_string();
        assert!(error.contains("is no directory"), "{error}");
    }
}

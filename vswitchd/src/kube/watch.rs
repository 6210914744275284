//! Tells when a directory of manifests changed, whatever becomes of the directory itself.
//!
//! inotify(7) watches an inode, not a path. Whoever deploys by renaming a new directory into place,
//! or by pointing a symbolic link elsewhere, leaves the watch on what was there before, and for the
//! latter nothing is reported at all. So the path is looked up again after each event and once a
//! second.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::sync::mpsc;

use super::manifests::ManifestError;

/// Tells when a directory's files changed.
#[derive(Debug)]
pub struct Watcher {
    changes: mpsc::UnboundedReceiver<io::Result<()>>,
    /// A change was heard of and not returned yet.
    pending: bool,
}

impl Watcher {
    /// Watches a directory from now on, on a thread of its own that lives as long as the daemon.
    /// Made before the directory is read, it misses nothing.
    ///
    /// # Errors
    /// When there is no such directory, and the kernel's.
    pub fn new(directory: &Path) -> Result<Self, ManifestError> {
        let fault = |error: io::Error| ManifestError {
            file: directory.display().to_string(),
            message: format!("the directory cannot be watched: {error}; name one that exists"),
        };
        let mut watch = Watch::new(directory).map_err(|errno| fault(errno.into()))?;
        let (sender, changes) = mpsc::unbounded_channel();
        let run = move || loop {
            let told = match watch.changed() {
                Ok(true) => Ok(()),
                Ok(false) => continue,
                Err(errno) => Err(errno.into()),
            };
            let ended = told.is_err();
            if sender.send(told).is_err() || ended {
                return;
            }
        };
        std::thread::Builder::new().name("manifests".to_owned()).spawn(run).map_err(fault)?;
        Ok(Self { changes, pending: false })
    }

    /// Returns after a change, when the directory has been quiet for a moment. Whoever stops
    /// waiting, as a branch of `select!` does, loses no change: the next call returns it.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn changed(&mut self) -> io::Result<()> {
        if !self.pending {
            self.next().await?;
            self.pending = true;
        }
        while let Ok(next) = tokio::time::timeout(SETTLE, self.next()).await {
            next?;
        }
        self.pending = false;
        Ok(())
    }

    async fn next(&mut self) -> io::Result<()> {
        let ended = || Err(io::Error::other("the thread that watches manifests has ended"));
        self.changes.recv().await.unwrap_or_else(ended)
    }
}

/// The thread's side.
struct Watch {
    inotify: Inotify,
    path: PathBuf,
    /// What the path led to when it was last looked up; `None` while it leads nowhere.
    current: Option<WatchDescriptor>,
}

impl Watch {
    fn new(directory: &Path) -> Result<Self, Errno> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let current = Some(inotify.add_watch(directory, events())?);
        Ok(Self { inotify, path: directory.to_owned(), current })
    }

    /// Waits for an event, or until it is time to look at the path again. Whether anything changed.
    fn changed(&mut self) -> Result<bool, Errno> {
        let patience = if self.current.is_some() { LOOK_AGAIN } else { LOOK_FOR_IT };
        let mut wanted = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wanted, PollTimeout::from(patience)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        let events = match self.inotify.read_events() {
            Ok(events) => events,
            Err(Errno::EAGAIN | Errno::EINTR) => Vec::new(),
            Err(errno) => return Err(errno),
        };
        let changed = events.iter().any(|event| self.matters(event));
        Ok(self.look_up() || changed)
    }

    /// Follows the path to the directory that it leads to now. Whether that is another one.
    fn look_up(&mut self) -> bool {
        // The same inode gives the same descriptor.
        let found = self.inotify.add_watch(&self.path, events()).ok();
        if found == self.current {
            return false;
        }
        if let Some(old) = self.current {
            // The kernel drops the watch of a directory that is gone by itself.
            self.inotify.rm_watch(old).unwrap_or_default();
        }
        self.current = found;
        true
    }

    /// Which file it was does not matter otherwise: the directory is read whole.
    fn matters(&self, event: &InotifyEvent) -> bool {
        if !event.mask.contains(AddWatchFlags::IN_CREATE) {
            return true;
        }
        // A file that was just made is empty, and its closing will be told. A link to one that is
        // there already has its text at once, and no other event tells of it.
        let Some(name) = &event.name else { return true };
        let made = self.path.join(name).symlink_metadata();
        made.is_ok_and(|made| made.is_symlink() || (made.is_file() && made.nlink() > 1))
    }
}

fn events() -> AddWatchFlags {
    AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_ONLYDIR
}

/// Editors write in several steps; what follows within this time is one change.
const SETTLE: Duration = Duration::from_millis(100);
/// Milliseconds after which the path may lead elsewhere without an event.
const LOOK_AGAIN: u16 = 1_000;
/// The same while it leads nowhere: most likely somebody is about to put a new one there.
const LOOK_FOR_IT: u16 = 100;

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory `m` to watch, in one of its own.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("hs-watch-{name}-{}", std::process::id()));
            fs::create_dir_all(root.join("m")).unwrap();
            Self(root)
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    async fn told(watcher: &mut Watcher, what: &str) {
        let told = tokio::time::timeout(Duration::from_secs(5), watcher.changed()).await;
        told.unwrap_or_else(|_late| panic!("{what} was not told")).unwrap();
    }

    async fn quiet(watcher: &mut Watcher, what: &str) {
        let told = tokio::time::timeout(Duration::from_millis(300), watcher.changed()).await;
        assert!(told.is_err(), "{what} was told");
    }

    #[tokio::test]
    async fn files_are_told_when_they_are_whole() {
        let place = Place::new("files");
        let mut watcher = Watcher::new(&place.at("m")).unwrap();
        quiet(&mut watcher, "nothing").await;
        let mut file = File::create(place.at("m/a.yaml")).unwrap();
        quiet(&mut watcher, "an empty file").await;
        file.write_all(b"kind: Node\n").unwrap();
        drop(file);
        told(&mut watcher, "a file").await;
        fs::write(place.at("b"), "").unwrap();
        symlink("../b", place.at("m/b.yaml")).unwrap();
        told(&mut watcher, "a symbolic link").await;
        fs::hard_link(place.at("b"), place.at("m/c.yaml")).unwrap();
        told(&mut watcher, "a hard link").await;
        fs::rename(place.at("m/c.yaml"), place.at("m/d.yaml")).unwrap();
        told(&mut watcher, "another name").await;
        fs::remove_file(place.at("m/a.yaml")).unwrap();
        told(&mut watcher, "a removed file").await;
        quiet(&mut watcher, "nothing").await;
    }

    #[tokio::test]
    async fn a_change_outlives_those_who_stop_waiting_for_it() {
        let place = Place::new("cancelled");
        let mut watcher = Watcher::new(&place.at("m")).unwrap();
        fs::write(place.at("m/a.yaml"), "").unwrap();
        // The event is heard of at once, and has not settled when the wait ends.
        let stopped = tokio::time::timeout(SETTLE / 2, watcher.changed()).await;
        assert!(stopped.is_err(), "a change is told when it has settled");
        told(&mut watcher, "a change whose wait was given up").await;
        quiet(&mut watcher, "nothing").await;
    }

    #[tokio::test]
    async fn a_directory_that_takes_its_place_is_watched() {
        let place = Place::new("replaced");
        let mut watcher = Watcher::new(&place.at("m")).unwrap();
        fs::create_dir(place.at("new")).unwrap();
        fs::rename(place.at("m"), place.at("old")).unwrap();
        told(&mut watcher, "a directory that is gone").await;
        fs::rename(place.at("new"), place.at("m")).unwrap();
        told(&mut watcher, "its successor").await;
        fs::write(place.at("old/a.yaml"), "").unwrap();
        quiet(&mut watcher, "the old one's file").await;
        fs::write(place.at("m/a.yaml"), "").unwrap();
        told(&mut watcher, "the new one's file").await;
        fs::remove_dir_all(place.at("m")).unwrap();
        told(&mut watcher, "its end").await;
        fs::create_dir(place.at("m")).unwrap();
        told(&mut watcher, "one made anew").await;
    }

    #[tokio::test]
    async fn a_link_that_leads_elsewhere_is_followed() {
        let place = Place::new("link");
        fs::create_dir(place.at("v2")).unwrap();
        symlink("m", place.at("current")).unwrap();
        let mut watcher = Watcher::new(&place.at("current")).unwrap();
        symlink("v2", place.at("next")).unwrap();
        fs::rename(place.at("next"), place.at("current")).unwrap();
        told(&mut watcher, "a link").await;
        fs::write(place.at("v2/a.yaml"), "").unwrap();
        told(&mut watcher, "a file behind it").await;
    }

    #[test]
    fn a_directory_that_is_none_is_named() {
        let error = Watcher::new(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.file, "/nowhere/at/all");
        assert!(error.message.contains("name one that exists"), "{error}");
    }
}

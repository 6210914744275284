//! The lock that says that a worker is there.
//!
//! A parent shares it with its workers. When the parent dies its worker ends at once, but dying
//! takes its time: until then it holds the lock, and with it the ports, which the next parent waits
//! for. That there is one parent is seen to by [`crate::directories`].

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long an orphaned worker may take to end; it does so at once, but dying takes its time too.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const GLANCE: Duration = Duration::from_millis(2);

/// The lock, for as long as parent or worker live.
#[derive(Debug)]
pub(super) struct Tether {
    file: File,
}

/// Its file.
#[must_use]
pub(super) fn file(run_dir: &Path) -> PathBuf {
    run_dir.join("worker.lock")
}

impl Tether {
    /// Takes it, once a worker of before has ended.
    ///
    /// # Errors
    /// The file system's; `TimedOut` when that one does not end.
    pub(super) fn take(run_dir: &Path) -> io::Result<Self> {
        let path = file(run_dir);
        let file =
            File::options().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        let deadline = Instant::now() + ORPHAN_PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(GLANCE);
                }
                Err(TryLockError::WouldBlock) => {
                    let text = format!(
                        "a worker of an earlier vswitchd holds {} and does not end; kill it",
                        path.display()
                    );
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// The worker's share.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(super) fn share(&self) -> io::Result<OwnedFd> {
        self.file.try_clone().map(OwnedFd::from)
    }
}

/// As another parent had taken it, whose workers share it as well.
impl From<OwnedFd> for Tether {
    fn from(descriptor: OwnedFd) -> Self {
        Self { file: descriptor.into() }
    }
}

impl AsFd for Tether {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_parent_waits_for_an_orphan() {
        let dir = std::env::temp_dir().join(format!("hopscope-tether-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let tether = Tether::take(&dir).unwrap();
        let orphan = tether.share().unwrap();
        drop(tether);
        let waiting = std::thread::spawn({
            let dir = dir.clone();
            move || Tether::take(&dir)
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished());
        drop(orphan);
        waiting.join().unwrap().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

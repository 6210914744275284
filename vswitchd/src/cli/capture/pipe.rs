//! Pipes to other programs.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

use crate::cli::Failure;

/// The end that is written to.
pub(super) struct Pipe(OwnedFd);

/// The other end, as seen from this one.
pub(super) struct Reader(Sender);

impl Pipe {
    /// Takes a pipe that nobody else writes to.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn new(end: OwnedFd) -> io::Result<(Self, Reader)> {
        // From here on writes to either do not block: they are one description.
        let watched = Sender::from_owned_fd(end.try_clone()?)?;
        Ok((Self(end), Reader(watched)))
    }

    /// Opens a FIFO, as soon as somebody reads it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn open(path: &Path) -> Result<(Self, Reader), Failure> {
        let opened = OpenOptions::new().write(true).open(path);
        let opened = opened.map_err(|error| {
            Failure::Usage(format!("cannot write {}: {error}", path.display()), String::new())
        })?;
        Ok(Self::new(opened.into())?)
    }
}

/// Waits while the pipe is full, for who is not waiting for anything else: a signal that came just
/// before would not be heard.
impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match nix::unistd::write(&self.0, bytes) {
                Err(Errno::EAGAIN) => {}
                written => return Ok(written?),
            }
            let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut polled, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                ready => drop(ready?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Reader {
    /// Gives it as many of the bytes as it takes, as soon as it takes any.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) async fn give(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.0.writable().await?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                given => return given,
            }
        }
    }

    /// Waits until it is closed.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) async fn gone(&self) -> io::Result<()> {
        self.0.ready(Interest::ERROR).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_end_without_a_reader_is_noticed_though_nothing_is_written() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (read, write) = nix::unistd::pipe().unwrap();
            let (mut pipe, reader) = Pipe::new(write).unwrap();
            pipe.write_all(b"something").unwrap();
            let early = tokio::time::timeout(Duration::from_millis(50), reader.gone()).await;
            assert!(early.is_err(), "a reader that has not read yet is none that is gone");
            drop(read);
            let late = tokio::time::timeout(Duration::from_secs(10), reader.gone()).await;
            late.expect("noticed").unwrap();
            let error = pipe.write_all(b"more").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        });
    }
}

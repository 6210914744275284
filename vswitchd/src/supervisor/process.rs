//! One worker, as its parent sees it.

use std::fs::DirEntry;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;

use super::channel::{Channel, Received};
use super::protocol::{self, Report, Welcome, Word};
use crate::worker;

/// This very program, even after an upgrade has put another in its place.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// What the thread that reads the ports is called, as `/proc` has it.
const READER: &str = "data\n";
/// The niceness of who is never nice.
const LEAST_NICE: i32 = -20;

/// A worker. Dropping it kills it: there are never two.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    life: Channel,
    /// Until the worker closes its end.
    requests: Option<Channel>,
    ready: Option<Instant>,
    /// Whether it follows another vswitchd's worker.
    succeeds: bool,
}

/// What a worker said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing yet.
    Nothing,
    /// How far it is.
    Reported(Report),
    /// It has closed its channel, or says what no worker says.
    Gone,
}

impl Worker {
    /// Starts one. `handed` are the descriptors of a welcome beside the channel of requests. It is
    /// announced before it has any of them.
    ///
    /// # Errors
    /// The kernel's, and the announcement's.
    pub(super) fn start(
        welcome: Welcome,
        handed: &[BorrowedFd<'_>],
        announce: impl FnOnce(&Self) -> io::Result<()>,
    ) -> io::Result<Self> {
        let (life, worker_life) = Channel::pair()?;
        let (requests, worker_requests) = Channel::pair()?;
        let child = Command::new(OWN_PROGRAM)
            .arg0("vswitchd")
            .arg(worker::ARGUMENT)
            .stdin(Stdio::from(worker_life.into_socket()))
            .stdout(Stdio::null())
            .spawn()?;
        // From here on an error kills it.
        let succeeds = welcome.predecessor.is_some();
        let started = Self { child, life, requests: Some(requests), ready: None, succeeds };
        // Frames wait for one that follows nobody; the threads that it starts are as it is.
        if !succeeds {
            started.set_niceness(LEAST_NICE, |_any| true);
        }
        announce(&started)?;
        let asks: OwnedFd = worker_requests.into_socket();
        let descriptors: Vec<_> =
            std::iter::once(asks.as_fd()).chain(handed.iter().copied()).collect();
        started.say(Word::Welcome(Box::new(welcome)), &descriptors)?;
        Ok(started)
    }

    /// Whether it was started to follow another vswitchd's worker.
    #[must_use]
    pub(super) fn succeeds(&self) -> bool {
        self.succeeds
    }

    /// The process, to see its end by.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn process(&self) -> io::Result<OwnedFd> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
    }

    /// Tells it something.
    ///
    /// # Errors
    /// When it cannot be told.
    pub(super) fn say(&self, word: Word, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.life.send(&protocol::encode(&word)?, descriptors)
    }

    /// Gives the thread that reads its ports the largest share of a core, or the usual one: while
    /// the ports change hands, two processes more begin and end beside it. A real-time policy would
    /// do it harm: a thread that polls is throttled for fifty milliseconds of each second then.
    pub(super) fn prefer(&self, before: bool) {
        let reads = |thread: &DirEntry| {
            std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name == READER)
        };
        self.set_niceness(if before { LEAST_NICE } else { 0 }, reads);
    }

    /// Has some of its threads as nice as that. One that keeps its share of a core does no harm.
    fn set_niceness(&self, niceness: i32, of: impl Fn(&DirEntry) -> bool) {
        let tasks = format!("/proc/{}/task", self.id());
        let threads = std::fs::read_dir(tasks).into_iter().flatten().flatten();
        let number = |thread: DirEntry| thread.file_name().to_str()?.parse().ok();
        for thread in threads.filter(of).filter_map(number) {
            let thread = rustix::process::Pid::from_raw(thread);
            if let Err(error) = rustix::process::setpriority_process(thread, niceness) {
                tracing::debug!(%error, niceness, "a thread of the worker keeps its share");
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Since when it is ready.
    #[must_use]
    pub(super) fn ready(&self) -> Option<Instant> {
        self.ready
    }

    /// The channel of life.
    #[must_use]
    pub(super) fn life(&self) -> &Channel {
        &self.life
    }

    /// The channel of requests, unless it was closed.
    pub(super) fn requests(&self) -> Option<&Channel> {
        self.requests.as_ref()
    }

    /// Takes no more requests. A worker that is about to end closes its channel before it has said
    /// why it does.
    pub(super) fn close_requests(&mut self) {
        self.requests = None;
    }

    /// Hears what it says.
    pub(super) fn hear(&mut self) -> Said {
        match self.life.receive() {
            Ok(Received::Message(bytes, _none)) => match protocol::decode(&bytes) {
                Ok(report) => {
                    if report == Report::Ready {
                        self.ready.get_or_insert_with(Instant::now);
                        if !self.succeeds {
                            self.set_niceness(0, |_all| true);
                        }
                    }
                    Said::Reported(report)
                }
                Err(error) => {
                    tracing::warn!(%error, "the worker says what no worker says");
                    Said::Gone
                }
            },
            Ok(Received::Oversized | Received::Ended) => Said::Gone,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Said::Nothing,
            Err(_broken) => Said::Gone,
        }
    }

    /// Ends it; its end is seen by [`Worker::ended`].
    pub(super) fn kill(&mut self) {
        // One that has ended already is what is wanted.
        drop(self.child.kill());
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
        // Without a wait it would stay as a zombie, and its ports a moment longer.
        drop(self.child.wait());
    }
}

/// How a process ended, as a clause.
#[must_use]
pub(super) fn end_of(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_unknown) => format!("killed by signal {number}"),
        },
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        assert_eq!(end_of(ExitStatus::from_raw(0x0100)), "ended with status 1");
        assert_eq!(end_of(ExitStatus::from_raw(9)), "killed by SIGKILL");
        assert_eq!(end_of(ExitStatus::from_raw(11)), "killed by SIGSEGV");
        assert_eq!(end_of(ExitStatus::from_raw(64)), "killed by signal 64");
    }
}

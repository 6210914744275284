//! The data thread: drains ports into the switch and the switch into ports. Time and seeds go into
//! the core here alone: the waiter of [`crate::port::wake`] reads the clock once a wake-up, `clock`
//! what relates it to UTC, and nothing else on a frame's way reads one; tests/tidy holds it to
//! that.
//!
//! Everybody else speaks to it through a [`Handle`]: changes, ports to attach, questions.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;

use stack::{Change, ConfigError, Instant, PortId, Switch};

use crate::capture::session::Session;
use crate::port::{Losses, PortIo};
use crate::triggers::watcher::{Counts, Watcher};
use watch::Watching;

pub mod baton;
mod clock;
mod dispatch;
mod run;
mod turn;
mod watch;

use baton::Baton;
pub use clock::{monotonic, seeds, utc, utc_offset};
pub use run::{start, start_recorded, start_waiting};
pub use turn::{Herald, Taken, Turn, Way};
pub use watch::Event;

/// Counted outside the core, per port. `transmitted = written + failed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverCounters {
    /// Frames written whole.
    pub written: u64,
    /// Frames that a write failed on, by errno.
    pub failed: BTreeMap<i32, u64>,
    /// Reads that failed, by errno.
    pub receive_failed: BTreeMap<i32, u64>,
    /// What the kernel lost before us.
    pub lost: Losses,
    /// Frames given to the port before this process began; whether the last of them were written is
    /// not known.
    pub earlier: u64,
}

/// What a question may look at, between two batches.
pub struct View<'a> {
    /// The switch.
    pub switch: &'a Switch,
    /// The time of the last batch, CLOCK_MONOTONIC.
    pub now: Instant,
    /// Nanoseconds from CLOCK_MONOTONIC to UTC.
    pub utc_offset: i64,
    /// Counters of the drivers, by port.
    pub drivers: &'a BTreeMap<PortId, DriverCounters>,
    /// What the drivers of removed ports had counted.
    pub gone: &'a DriverCounters,
    /// What each rule has seen.
    pub rules: &'a [Counts],
}

impl DriverCounters {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        let Self { written, failed, receive_failed, lost, earlier } = other;
        self.written += written;
        self.earlier += earlier;
        for (errno, count) in failed {
            *self.failed.entry(*errno).or_default() += count;
        }
        for (errno, count) in receive_failed {
            *self.receive_failed.entry(*errno).or_default() += count;
        }
        self.lost.frames += lost.frames;
    }
}

type Question = Box<dyn FnOnce(&View<'_>) + Send>;

/// What the control side asks of the loop.
pub(crate) enum Command {
    /// Apply a change; answer when it is done.
    Change(Change, tokio::sync::oneshot::Sender<Result<(), ConfigError>>),
    /// Poll this device for this port from now on. The port itself is made by a change.
    Attach(PortId, Box<dyn PortIo>),
    /// Poll this device as well for that port, whose frames go to another one.
    AttachSide(PortId, Box<dyn PortIo>),
    /// Close the port's devices.
    Detach(PortId, tokio::sync::oneshot::Sender<()>),
    /// Look at the switch.
    Ask(Question),
    /// Show every walk to this session until its reader is gone.
    Capture(Box<Session>),
    /// Show every walk to these rules from now on.
    Watch(Box<Watching>),
    /// What a port is called, for the journal and for rules.
    Label(PortId, String),
    /// Poll devices from now on, if desired state is complete and no other worker reads them.
    Serve,
    /// Leave the ports to the next worker, with the state if that is asked for; then end.
    Yield(Baton, bool, tokio::sync::oneshot::Sender<std::io::Result<()>>),
    /// End the loop after this batch.
    Stop,
}

/// The control side's end.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    wake: Arc<OwnedFd>,
}

/// The loop has ended.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the event loop has ended")]
pub struct Ended;

impl Handle {
    fn send(&self, command: Command) -> Result<(), Ended> {
        self.commands.send(command).map_err(|_gone| Ended)?;
        nix::unistd::write(&self.wake, &1_u64.to_ne_bytes()).map_err(|_gone| Ended)?;
        Ok(())
    }

    /// Applies a change between two frames.
    ///
    /// # Errors
    /// The outer error when the loop is gone, the inner when the switch refuses the change.
    pub async fn change(&self, change: Change) -> Result<Result<(), ConfigError>, Ended> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.send(Command::Change(change, sender))?;
        receiver.await.map_err(|_gone| Ended)
    }

    /// Tells the journal what a port is called.
    ///
    /// # Errors
    /// When the loop is gone.
    pub fn label(&self, port: PortId, name: String) -> Result<(), Ended> {
        self.send(Command::Label(port, name))
    }

    /// Lets frames in. A loop that began with a recovered switch waits for this, so that what its
    /// state is reconciled with comes first.
    ///
    /// # Errors
    /// When the loop is gone.
    pub fn serve(&self) -> Result<(), Ended> {
        self.send(Command::Serve)
    }

    /// Hands a device over for a port.
    ///
    /// # Errors
    /// When the loop is gone.
    pub fn attach(&self, port: PortId, io: Box<dyn PortIo>) -> Result<(), Ended> {
        self.send(Command::Attach(port, io))
    }

    /// Hands a device over that is only read, and whose frames come in by a port that has a device
    /// of its own. It goes with that one.
    ///
    /// # Errors
    /// When the loop is gone.
    pub fn attach_side(&self, port: PortId, io: Box<dyn PortIo>) -> Result<(), Ended> {
        self.send(Command::AttachSide(port, io))
    }

    /// Closes a port's devices; returns when they are closed.
    ///
    /// # Errors
    /// When the loop is gone.
    pub async fn detach(&self, port: PortId) -> Result<(), Ended> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.send(Command::Detach(port, sender))?;
        receiver.await.map_err(|_gone| Ended)
    }

    /// Asks a question of the switch; the closure runs on the loop's thread between two batches.
    ///
    /// # Errors
    /// When the loop is gone.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&View<'_>) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.send(Command::Ask(Box::new(move |view| {
            // Nobody waits any more when the asker was cancelled: then the answer is of no use.
            drop(sender.send(question(view)));
        })))?;
        receiver.await.map_err(|_gone| Ended)
    }

    /// Starts a capture session.
    ///
    /// # Errors
    /// When the loop is gone.
    pub fn capture(&self, session: Session) -> Result<(), Ended> {
        self.send(Command::Capture(Box::new(session)))
    }

    /// Shows every walk to rules from now on. The receiver is told of each event that fires one.
    ///
    /// # Errors
    /// When the loop is gone.
    pub fn watch(&self, watcher: Watcher) -> Result<tokio::sync::mpsc::Receiver<Event>, Ended> {
        let (watching, events) = watch::open(watcher);
        self.send(Command::Watch(Box::new(watching)))?;
        Ok(events)
    }

    /// Ends the loop between two batches and leaves the ports to the worker that looks at the
    /// baton; returns when no port is read and the journal is not written any more.
    ///
    /// # Errors
    /// The outer error when the loop is gone, the inner when nothing could be left.
    pub async fn give_turn(
        &self,
        baton: Baton,
        with_state: bool,
    ) -> Result<std::io::Result<()>, Ended> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.send(Command::Yield(baton, with_state, sender))?;
        receiver.await.map_err(|_gone| Ended)
    }

    /// Ends the loop after its current batch.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn stop(&self) -> Result<(), Ended> {
        self.send(Command::Stop)
    }
}

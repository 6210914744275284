//! The side that takes over.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use super::super::channel::{Channel, Received};
use super::super::keeper::Keeper;
use super::super::lock::Tether;
use super::super::process::Worker;
use super::super::protocol::{self, Predecessor};
use super::super::{Holdings, Supervisor, SupervisorError};
use super::{Door, Hello, Inventory, Message, VERSION, journal, knock, say};
use crate::directories::Directories;
use crate::event_loop::baton::Baton;
use crate::port::Parts;
use crate::settings::Settings;

/// How long the other one may take to hand its holdings over: its own bounds are below.
const PATIENCE: Duration = Duration::from_secs(20);

/// A take-over under way.
#[derive(Debug)]
pub(in super::super) struct Taking {
    /// Until the other parent ends.
    channel: Option<Channel>,
    before: Predecessor,
    /// The other worker's process.
    process: Option<OwnedFd>,
    baton: Baton,
    step: Step,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Our worker prepares itself.
    Preparing,
    /// The other one was asked to leave the ports.
    Asked,
    /// The ports are ours.
    Ours,
}

/// What this parent does once it has heard the other one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ends: the other one goes on, for this reason.
    Ends(String),
    /// Its worker reads the ports as soon as the baton is there.
    Reads,
    /// Has another worker, by the journal of the one that has ended.
    Recovers,
    /// Has the ports already; what the other one does is of no matter any more.
    IsLeftAlone,
    /// Has another worker once the other one's is gone: that parent has ended.
    Replaces,
}

impl Step {
    /// What follows from a message; `None` is the end, or what cannot be understood.
    pub(super) fn after(self, message: Option<Message>) -> Next {
        match (message, self) {
            // What it has left is ours; nothing more is expected of it.
            (_, Self::Ours) => Next::IsLeftAlone,
            // A refusal may cross our request. The other one then never hears that, and goes on as
            // it says: a worker here would be the second one that reads the ports.
            (Some(Message::Refused { why }), Self::Preparing | Self::Asked) => Next::Ends(why),
            (Some(Message::Yielded), Self::Asked) => Next::Reads,
            (Some(Message::Ended), Self::Asked) => Next::Recovers,
            (_, Self::Preparing | Self::Asked) => Next::Replaces,
        }
    }
}

impl Taking {
    /// The channel to the other parent.
    pub(in super::super) fn channel(&self) -> Option<&Channel> {
        self.channel.as_ref()
    }

    /// Whether no worker may be started: the other one may still read the ports.
    pub(in super::super) fn must_wait(&self) -> bool {
        self.step == Step::Asked
    }

    /// Whether the ports are still the other's, who goes on when this comes to nothing.
    pub(in super::super) fn is_preparing(&self) -> bool {
        self.step == Step::Preparing
    }

    /// What a worker that starts now has before it.
    pub(in super::super) fn predecessor(&self) -> Option<(Predecessor, &Baton)> {
        self.is_preparing().then_some((self.before, &self.baton))
    }
}

/// What comes of asking the vswitchd that runs.
#[derive(Debug)]
pub(in super::super) enum Asked {
    /// Nobody listens.
    Nobody,
    /// A signal ended the wait.
    Stopped,
    /// It has ended before it had handed over.
    Ended,
    /// All it has, as copies.
    Handed(Box<(Holdings, Taking)>),
}

/// Asks the vswitchd that runs on these directories for all it has.
///
/// # Errors
/// When it refuses, or ends meanwhile.
pub(in super::super) fn ask(
    settings: &Settings,
    mut keeper: Keeper,
    signals: &SignalFd,
) -> Result<Asked, SupervisorError> {
    let broken = |source| SupervisorError::Io { doing: "cannot take over", source };
    let Some(channel) = knock(&settings.run_dir).map_err(broken)? else {
        return Ok(Asked::Nobody);
    };
    let given = settings.state_dir.clone();
    let hello = Hello {
        form: VERSION,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        state_dir: settings.state_dir.canonicalize().unwrap_or(given),
        host_port: settings.host_port.clone(),
        journal_dir: settings.journal_dir.clone(),
    };
    if say(&channel, &Message::Hello(hello), &[]).is_err() {
        return Ok(Asked::Ended);
    }
    let wait = Wait { channel: &channel, signals, until: Instant::now() + PATIENCE, settings };
    let (first, descriptors) = match wait.next()? {
        Heard::Message(message, descriptors) => (message, descriptors),
        Heard::Nothing(why) => return Ok(why),
    };
    let Message::Inventory(inventory) = first else { return Err(wait.strange()) };
    let (locks, rest) = wait.split(descriptors, inventory.locks)?;
    let [tether, cni, admin, door, process]: [OwnedFd; 5] =
        rest.try_into().map_err(|_other| wait.strange())?;
    for _ in 0..inventory.ports {
        let (message, descriptors) = match wait.next()? {
            Heard::Message(message, descriptors) => (message, descriptors),
            Heard::Nothing(why) => return Ok(why),
        };
        match message {
            Message::Pod { inode, ifname, host_ifname, device } => {
                keeper.keep(inode, ifname, host_ifname, Parts { description: device, descriptors });
            }
            Message::Host { device } => {
                keeper.keep_host(Parts { description: device, descriptors });
            }
            Message::HostSide { device } => {
                keeper.keep_host_side(Parts { description: device, descriptors });
            }
            Message::Hello(_)
            | Message::Refused { .. }
            | Message::Inventory(_)
            | Message::Yield { .. }
            | Message::Yielded
            | Message::Ended
            | Message::Worker
            | Message::Ready => return Err(wait.strange()),
        }
    }
    let before = wait.predecessor(&inventory)?;
    let held = Holdings {
        tether: Tether::from(tether),
        cni: UnixListener::from(cni),
        admin: UnixListener::from(admin),
        door: Door::from(door),
        keeper,
        directories: Directories::handed_over(locks),
    };
    let baton = Baton::new().map_err(broken)?;
    let (process, step) = (Some(process), Step::Preparing);
    let taking = Taking { channel: Some(channel), before, process, baton, step };
    Ok(Asked::Handed(Box::new((held, taking))))
}

/// What the other one said, or why nothing more will be said.
enum Heard {
    Message(Message, Vec<OwnedFd>),
    Nothing(Asked),
}

/// The wait for the other's answers.
struct Wait<'a> {
    channel: &'a Channel,
    signals: &'a SignalFd,
    until: Instant,
    settings: &'a Settings,
}

impl Wait<'_> {
    /// The next message.
    fn next(&self) -> Result<Heard, SupervisorError> {
        let broken = |source| SupervisorError::Io { doing: "cannot hear the other", source };
        loop {
            match self.channel.receive() {
                Ok(Received::Message(bytes, descriptors)) => {
                    return match protocol::decode(&bytes) {
                        Ok(Message::Refused { why }) => Err(self.refused(why)),
                        Ok(message) => Ok(Heard::Message(message, descriptors)),
                        Err(_strange) => Err(self.strange()),
                    };
                }
                Ok(Received::Oversized) => return Err(self.strange()),
                Ok(Received::Ended) => return Ok(Heard::Nothing(Asked::Ended)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(broken(error)),
            }
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.refused("it does not answer; stop it, then start this one"));
            }
            let mut sources = [
                PollFd::new(self.channel.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut sources, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(broken(errno.into())),
            }
            if sources.last().and_then(PollFd::any).unwrap_or(false) {
                return Ok(Heard::Nothing(Asked::Stopped));
            }
        }
    }

    fn split(
        &self,
        mut descriptors: Vec<OwnedFd>,
        locks: usize,
    ) -> Result<(Vec<OwnedFd>, Vec<OwnedFd>), SupervisorError> {
        if locks > descriptors.len() {
            return Err(self.strange());
        }
        let rest = descriptors.split_off(locks);
        Ok((descriptors, rest))
    }

    /// How its state is had.
    fn predecessor(&self, theirs: &Inventory) -> Result<Predecessor, SupervisorError> {
        let ours = journal(self.settings);
        let follow = ours.is_some() && ours == theirs.journal;
        let newest = stack::table::export::MAJOR;
        if !follow && theirs.state > newest {
            return Err(self.refused(format!(
                "it is newer, and leaves its state in form {}, of which this one knows {newest}; \
                 stop it, then start this one",
                theirs.state
            )));
        }
        let (worker, parent) = (theirs.worker, theirs.parent);
        Ok(Predecessor { worker, parent, follow })
    }

    fn refused(&self, why: impl Into<String>) -> SupervisorError {
        SupervisorError::NotHandedOver { run_dir: self.settings.run_dir.clone(), why: why.into() }
    }

    fn strange(&self) -> SupervisorError {
        self.refused("it answers what this one does not understand; stop it, then start this one")
    }
}

impl Supervisor {
    /// Our worker is prepared: the other one may leave the ports.
    pub(in super::super) fn ask_to_yield(&mut self) {
        let (Some(taking), Some(worker)) = (&mut self.taking, &mut self.worker) else { return };
        let Some(channel) = taking.channel.as_ref().filter(|_| taking.step == Step::Preparing)
        else {
            return;
        };
        // Until the other one is gone, who takes time for that.
        worker.prefer(true);
        let message = Message::Yield { with_state: !taking.before.follow };
        let said = worker.process().and_then(|process| {
            let baton = taking.baton.share()?;
            say(channel, &message, &[baton.as_fd(), process.as_fd()])
        });
        match said {
            Ok(()) => taking.step = Step::Asked,
            Err(error) => {
                // It ends as one does whose predecessor goes on.
                tracing::warn!(%error, "the vswitchd that runs cannot be asked for the ports");
                worker.kill();
            }
        }
    }

    /// Hears the other parent.
    ///
    /// # Errors
    /// When it goes on after all.
    pub(in super::super) fn hear_predecessor(&mut self) -> Result<(), SupervisorError> {
        let Some(taking) = &mut self.taking else { return Ok(()) };
        let Some(channel) = &taking.channel else { return Ok(()) };
        let message = match channel.receive() {
            Ok(Received::Message(bytes, _none)) => protocol::decode::<Message>(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Ok(Received::Oversized | Received::Ended) | Err(_) => None,
        };
        match taking.step.after(message) {
            Next::Ends(why) => {
                let run_dir = self.settings.run_dir.clone();
                return Err(SupervisorError::NotHandedOver { run_dir, why });
            }
            Next::Reads => taking.step = Step::Ours,
            Next::Recovers => {
                tracing::warn!("the worker before has ended over it; its journal is recovered");
                self.start_anew(None);
            }
            Next::IsLeftAlone => {
                taking.channel = None;
                if let Some(worker) = &self.worker {
                    worker.prefer(false);
                }
            }
            Next::Replaces => {
                tracing::warn!("the vswitchd before has ended; this one goes on in its place");
                let process = taking.process.take();
                self.start_anew(process);
            }
        }
        Ok(())
    }

    /// A worker that waits for its turn waits for nothing: the next one recovers the journal, once
    /// that process has ended.
    fn start_anew(&mut self, after: Option<OwnedFd>) {
        if let Some(taking) = &mut self.taking {
            taking.step = Step::Ours;
            if after.is_some() {
                taking.channel = None;
            }
        }
        if after.is_some() {
            self.blocked_by = after;
        }
        if let Some(worker) = &mut self.worker {
            worker.kill();
        }
    }

    /// Tells the other parent which process has the ports from now on, before that can touch them:
    /// should this parent end, the other one waits for its end.
    pub(in super::super) fn announce(&self, worker: &Worker) -> io::Result<()> {
        let Some(taking) = self.taking.as_ref().filter(|taking| taking.step == Step::Ours) else {
            return Ok(());
        };
        match &taking.channel {
            Some(channel) => say(channel, &Message::Worker, &[worker.process()?.as_fd()]),
            None => Ok(()),
        }
    }

    /// Our worker works: the other one may end.
    pub(in super::super) fn tell_ready(&mut self) {
        let Some(taking) = self.taking.take() else { return };
        if let Some(channel) = &taking.channel
            && let Err(error) = say(channel, &Message::Ready, &[])
        {
            tracing::debug!(%error, "the vswitchd before has ended already");
        }
    }
}

//! How the worker begins: it takes what its parent hands over, gives up all privileges, and watches
//! for its parent's end.
//!
//! The worker does all that is dangerous: it reads pods' frames, plugins' requests, operators'
//! files. It holds descriptors and no capability: it makes no interface, enters no namespace and
//! opens no device. It stays uid 0 because its files are root's (attachments, leases, what the
//! plugin noted while there was no daemon, manifests), and so are the peers it serves.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use tokio::sync::mpsc;

use crate::event_loop::baton::Baton;
use crate::node::{Kernel, Remote};
use crate::settings::Settings;
use crate::supervisor::channel::{Channel, Received};
use crate::supervisor::protocol::{self, Predecessor, Report, Upkeep, Welcome, Word};

mod privileges;

/// The one argument of a worker. It is started by its parent only.
pub const ARGUMENT: &str = "worker";

/// Why a worker cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Nobody's worker.
    #[error("`vswitchd {ARGUMENT}` is started by vswitchd itself; leave the word out")]
    NoParent,
    /// The parent is gone, or says what no parent says.
    #[error("the parent process: {0}")]
    Parent(String),
    /// Privileges cannot be given up.
    #[error("cannot give up privileges")]
    Privileges(#[source] io::Error),
    /// A system call.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Its errno.
        source: io::Error,
    },
}

fn io(doing: &'static str) -> impl FnOnce(io::Error) -> WorkerError {
    move |source| WorkerError::Io { doing, source }
}

/// What a worker has from its parent.
pub struct Worker {
    /// The settings.
    pub settings: Settings,
    /// The node's kernel, by the parent.
    pub kernel: Arc<dyn Kernel>,
    /// `cni.sock`, listening.
    pub cni: UnixListener,
    /// `admin.sock`, listening.
    pub admin: UnixListener,
    /// What the parent says from here on.
    pub words: mpsc::UnboundedReceiver<Told>,
    /// The worker that still reads the ports.
    pub succession: Option<Succession>,
    /// What it knows of its parent.
    pub parent: Parent,
}

/// What a worker has that is to follow another one.
#[derive(Debug)]
pub struct Succession {
    /// The other one.
    pub before: Predecessor,
    /// What that one leaves it.
    pub baton: Baton,
}

/// What the parent wants.
#[derive(Debug)]
pub enum Told {
    /// To end.
    Stop,
    /// To let nobody in any more.
    Quiet,
    /// To go on.
    Resume,
    /// How the node is kept.
    Upkeep(Upkeep),
    /// To leave the ports by this baton, with the state if that is asked for.
    Yield(Baton, bool),
}

/// The parent, as its worker knows it.
#[derive(Debug)]
pub struct Parent {
    life: Arc<Channel>,
    /// Held for as long as the worker lives.
    _lock: OwnedFd,
    /// Its process id.
    pub id: u32,
    /// When it was started.
    pub started: Instant,
    /// Workers before this one.
    pub restarts: u64,
    /// How the last one ended.
    pub last_end: Option<String>,
}

impl Parent {
    /// Tells it how far this worker is.
    ///
    /// # Errors
    /// When it is gone.
    pub fn report(&self, report: Report) -> io::Result<()> {
        self.life.send(&protocol::encode(&report)?, &[])
    }
}

/// Begins a worker. Called first thing, before there is any other thread: each has privileges of
/// its own.
///
/// # Errors
/// See [`WorkerError`].
pub fn begin() -> Result<Worker, WorkerError> {
    let life = io::stdin().as_fd().try_clone_to_owned();
    let life = Channel::new(life.map_err(io("cannot copy standard input"))?);
    if !life.is_sound() {
        return Err(WorkerError::NoParent);
    }
    leave_signals_to_the_parent().map_err(io("cannot block signals"))?;
    // A belt: the end of the channel is noticed too, but by a thread that has to run for it.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|errno| io("cannot ask for the parent's death")(errno.into()))?;
    let (welcome, descriptors) = receive(&life)?;
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    if parent != Some(welcome.parent) {
        return Err(WorkerError::Parent("it has ended".to_owned()));
    }
    privileges::give_up().map_err(WorkerError::Privileges)?;
    let ([requests, cni, admin, lock], baton) = descriptors;
    let succession = welcome
        .predecessor
        .zip(baton)
        .map(|(before, baton)| Succession { before, baton: Baton::from(baton) });
    let life = Arc::new(life);
    let words = watch(life.clone()).map_err(io("cannot start a thread"))?;
    let now = Instant::now();
    Ok(Worker {
        settings: welcome.settings,
        kernel: Arc::new(Remote::new(Channel::new(requests))),
        cni: cni.into(),
        admin: admin.into(),
        words,
        succession,
        parent: Parent {
            life,
            _lock: lock,
            id: welcome.parent,
            started: now.checked_sub(Duration::from_millis(welcome.uptime_ms)).unwrap_or(now),
            restarts: welcome.restarts,
            last_end: welcome.last_end,
        },
    })
}

/// What ends a daemon is told to its parent, or to both: a terminal's Ctrl-C, a service's end. The
/// worker then ends when its parent says so.
fn leave_signals_to_the_parent() -> io::Result<()> {
    SigSet::all().thread_unblock()?;
    Ok(SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]).thread_block()?)
}

/// The descriptors of a welcome, and the baton.
type Handed = ([OwnedFd; Welcome::DESCRIPTORS], Option<OwnedFd>);

fn receive(life: &Channel) -> Result<(Welcome, Handed), WorkerError> {
    let strange = |why: String| WorkerError::Parent(why);
    match life.receive().map_err(io("cannot hear the parent"))? {
        Received::Message(bytes, mut descriptors) => {
            let word = protocol::decode(&bytes).map_err(|error| strange(error.to_string()))?;
            let Word::Welcome(welcome) = word else {
                return Err(strange("it stops before it begins".to_owned()));
            };
            let baton = descriptors.pop_if(|_last| welcome.predecessor.is_some());
            let handed = descriptors.try_into().map_err(|other: Vec<OwnedFd>| {
                strange(format!("it hands over {} descriptors", other.len()))
            })?;
            Ok((*welcome, (handed, baton)))
        }
        Received::Oversized => Err(strange("its welcome is too long".to_owned())),
        Received::Ended => Err(strange("it has ended".to_owned())),
    }
}

/// Waits for the parent's word on a thread of its own, whatever the others are busy with.
fn watch(life: Arc<Channel>) -> io::Result<mpsc::UnboundedReceiver<Told>> {
    let (sender, words) = mpsc::unbounded_channel();
    let wait = move || {
        loop {
            let told = match life.receive() {
                Ok(Received::Message(bytes, descriptors)) => understood(&bytes, descriptors),
                Ok(Received::Oversized | Received::Ended) | Err(_) => None,
            };
            match told {
                // Nobody waits any more when the daemon has ended by itself.
                Some(told) => drop(sender.send(told)),
                None => end(),
            }
        }
    };
    std::thread::Builder::new().name("parent".to_owned()).spawn(wait)?;
    Ok(words)
}

fn understood(bytes: &[u8], descriptors: Vec<OwnedFd>) -> Option<Told> {
    Some(match protocol::decode(bytes).ok()? {
        Word::Welcome(_) => return None,
        Word::Stop => Told::Stop,
        Word::Quiet => Told::Quiet,
        Word::Resume => Told::Resume,
        Word::Upkeep(upkeep) => Told::Upkeep(upkeep),
        Word::Yield { with_state } => {
            Told::Yield(Baton::from(descriptors.into_iter().next()?), with_state)
        }
    })
}

/// Without its parent nobody holds the ports for the next worker, and the next parent waits for
/// this one's end.
#[expect(clippy::exit, reason = "nothing else may run any more, on any thread")]
fn end() -> ! {
    std::process::exit(1)
}

//! The parent process: owns privileges, sockets, locks and a copy of every port's descriptors, and
//! sees to it that there is one worker.
//!
//! One thread without tokio; work in another namespace has a thread for its time. It parses nothing
//! that comes from pods or from desired state, only its worker's requests, and those as a
//! stranger's. So it has next to nothing to die of, and what it holds outlives every worker.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::admin;
use crate::cli::local;
use crate::cni;
use crate::cni::server::ListenError;
use crate::directories::{Directories, DirectoryError};
use crate::node::{Linux, NodeError};
use crate::recorder;
use crate::settings::Settings;

pub mod bounds;
pub mod channel;
mod handover;
pub mod keeper;
mod lock;
mod process;
pub mod protocol;
mod restarts;
mod upkeep;

use bounds::Bounds;
use handover::give::Giving;
use handover::take::{Asked, Taking};
use handover::{Door, has_ended};
use keeper::Keeper;
use lock::Tether;
use process::{Said, Worker};
use protocol::{Report, Welcome, Word};
use restarts::Restarts;
use upkeep::Upkeep;

pub use handover::SOCKET;

/// How long a worker may take to end in good order.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How long one that ended while it handed over may keep its locks, and how often it is looked.
const ENDING_PATIENCE: Duration = Duration::from_secs(5);
/// How long one that does not listen may hold its locks: it may be about to be gone.
const DYING_PATIENCE: Duration = Duration::from_millis(500);
const GLANCE: Duration = Duration::from_millis(5);
/// Descriptors the two processes may have: two a port in each, and some.
const DESCRIPTORS: u64 = 16_384;

/// Why the parent does not start, or ended. Each says what to mend.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The node lacks something.
    #[error("{what}: {mend}")]
    Unable {
        /// What is missing.
        what: String,
        /// What mends it.
        mend: String,
    },
    /// The run or the state directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// `cni.sock`.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The node's own namespace.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Another vswitchd runs there and keeps it.
    #[error("run-dir {run_dir}: the vswitchd that runs on it does not hand over: {why}")]
    NotHandedOver {
        /// Its directory.
        run_dir: PathBuf,
        /// Why, and what mends it.
        why: String,
    },
    /// A system call.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Its errno.
        source: io::Error,
    },
}

fn io(doing: &'static str) -> impl FnOnce(io::Error) -> SupervisorError {
    move |source| SupervisorError::Io { doing, source }
}

/// All that must outlive a worker, and could go to another parent.
#[derive(Debug)]
struct Holdings {
    tether: Tether,
    cni: UnixListener,
    admin: UnixListener,
    door: Door,
    keeper: Keeper,
    /// The last to go, and with it what was made for nothing.
    directories: Directories,
}

/// The parent.
#[derive(Debug)]
struct Supervisor {
    settings: Settings,
    holdings: Holdings,
    signals: SignalFd,
    started: Instant,
    worker: Option<Worker>,
    /// Not before this.
    next_start: Instant,
    restarts: Restarts,
    upkeep: Upkeep,
    /// Whether the line `ready` was printed.
    said_ready: bool,
    /// Until when the worker may end in good order, once it was told to.
    stopping: Option<Instant>,
    /// Another vswitchd that takes over.
    giving: Option<Giving>,
    /// Another vswitchd that this one takes over from.
    taking: Option<Taking>,
    /// Another vswitchd's worker, without whose end no worker may start here.
    blocked_by: Option<OwnedFd>,
    /// Process id of the vswitchd that took over.
    handed_to: Option<u32>,
}

/// Runs the parent until a signal ends it, or its first worker cannot start.
///
/// # Errors
/// See [`SupervisorError`]. What a worker cannot do it says itself.
pub fn run(settings: Settings) -> Result<ExitCode, SupervisorError> {
    let started = Instant::now();
    // Before any thread: threads inherit which signals they leave to the descriptor.
    let signals = block_signals().map_err(io("cannot wait for signals"))?;
    if let Some(missing) = local::check().into_iter().find(|check| !check.ok) {
        let mend = missing.mend.unwrap_or_default();
        return Err(SupervisorError::Unable { what: missing.message, mend });
    }
    raise_descriptor_limit();
    let Some((holdings, taking)) = obtain(&settings, &signals)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let upkeep = Upkeep::new(&holdings.keeper, started);
    let supervisor = Supervisor {
        settings,
        holdings,
        signals,
        started,
        worker: None,
        next_start: started,
        restarts: Restarts::default(),
        upkeep,
        said_ready: false,
        stopping: None,
        giving: None,
        taking,
        blocked_by: None,
        handed_to: None,
    };
    supervisor.run()
}

/// Makes all that must outlive a worker, or has it from the vswitchd that runs. `None` when a
/// signal came meanwhile.
fn obtain(
    settings: &Settings,
    signals: &SignalFd,
) -> Result<Option<(Holdings, Option<Taking>)>, SupervisorError> {
    // Until when one that ended while it was asked may keep its locks.
    let mut ending = None;
    loop {
        let linux = Linux::new(settings.run_dir.clone())?;
        let keeper = Keeper::new(linux, Bounds::of(settings));
        let taken = match Directories::take(&settings.run_dir, &settings.state_dir) {
            Ok(directories) => {
                return Ok(Some((Holdings::make(settings, directories, keeper)?, None)));
            }
            Err(taken) if taken.is_in_use() && !settings.no_takeover => taken,
            Err(refused) => return Err(refused.into()),
        };
        match handover::take::ask(settings, keeper, signals)? {
            Asked::Handed(handed) => return Ok(Some((handed.0, Some(handed.1)))),
            Asked::Stopped => return Ok(None),
            Asked::Ended => ending = Some(Instant::now() + ENDING_PATIENCE),
            Asked::Nobody => {
                // One that was killed since its lock was found held does not listen any more, and
                // lets go of it in a moment.
                let until = *ending.get_or_insert_with(|| Instant::now() + DYING_PATIENCE);
                if Instant::now() >= until {
                    return Err(taken.into());
                }
                std::thread::sleep(GLANCE);
            }
        }
    }
}

impl Holdings {
    /// Of a vswitchd that takes over from nobody. Files are made, which go again if the first
    /// worker does not come to work.
    fn make(
        settings: &Settings,
        mut directories: Directories,
        keeper: Keeper,
    ) -> Result<Self, SupervisorError> {
        let Settings { run_dir, state_dir, .. } = settings;
        for file in cni::files(run_dir, state_dir) {
            directories.note(&file);
        }
        directories.note(&run_dir.join(admin::socket::NAME));
        directories.note(&run_dir.join(SOCKET));
        directories.note(&lock::file(run_dir));
        for file in recorder::files(settings.journal_dir.as_ref().unwrap_or(run_dir)) {
            directories.note(&file);
        }
        let tether = Tether::take(run_dir).map_err(io("cannot take the workers' lock"))?;
        // Once and for all workers: while none is there, clients wait in the backlog.
        let cni = listen(run_dir)?;
        let admin = admin::socket::bind(run_dir).map_err(io("cannot listen on admin.sock"))?;
        let door = Door::make(run_dir).map_err(io("cannot listen on takeover.sock"))?;
        Ok(Self { tether, cni, admin, door, keeper, directories })
    }
}

/// Listens on `cni.sock`. A process that was killed lets go of its locks and of its sockets one
/// after the other, in an order that is the kernel's: for a moment it may seem to serve still.
fn listen(run_dir: &Path) -> Result<UnixListener, ListenError> {
    let until = Instant::now() + DYING_PATIENCE;
    loop {
        match cni::server::bind(run_dir) {
            Err(ListenError::InUse(_)) if Instant::now() < until => std::thread::sleep(GLANCE),
            bound => return bound,
        }
    }
}

fn block_signals() -> io::Result<SignalFd> {
    let mask = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]);
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// The usual soft limit of 1,024 is that of programs that use select(2).
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        if let Err(errno) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%errno, "the limit of open files stays, and with it that of pods");
        }
    }
}

/// Who has something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Signals,
    Life,
    Requests,
    Door,
    Successor,
    Predecessor,
    /// A rule of the node has changed.
    Rules,
    /// The process that no worker may start before the end of.
    Blocking,
}

impl Supervisor {
    fn run(mut self) -> Result<ExitCode, SupervisorError> {
        loop {
            self.start_if_due();
            for source in self.wait().map_err(io("cannot wait for the worker"))? {
                match source {
                    Source::Signals => {
                        self.heed_signals().map_err(io("cannot read signals"))?;
                    }
                    Source::Requests => self.serve(),
                    Source::Life => self.hear().map_err(io("cannot say that it is ready"))?,
                    Source::Door => self.answer_the_door(),
                    Source::Successor => self.hear_successor(),
                    Source::Predecessor => self.hear_predecessor()?,
                    Source::Rules => self.upkeep.hear(Instant::now()),
                    Source::Blocking => self.blocked_by = None,
                }
            }
            self.keep_node();
            self.giving_takes_too_long();
            if let Some(code) = self.bury().map_err(io("cannot wait for the worker's end"))? {
                return Ok(code);
            }
        }
    }

    fn start_if_due(&mut self) {
        let now = Instant::now();
        if self.worker.is_some() || self.stopping.is_some() || now < self.next_start {
            return;
        }
        if self.ports_are_of_another() {
            return;
        }
        match self.start_worker() {
            Ok(worker) => {
                tracing::debug!(pid = worker.id(), kept = self.holdings.keeper.kept(), "a worker");
                self.worker = Some(worker);
            }
            Err(error) => {
                tracing::error!(%error, "no worker can be started");
                let how = format!("could not be started: {error}");
                self.next_start = now + self.restarts.ended(how, None, now);
            }
        }
    }

    /// Whether another vswitchd's worker reads the ports, or may.
    fn ports_are_of_another(&self) -> bool {
        self.blocked_by.as_ref().is_some_and(|process| !has_ended(process))
            || self.giving.as_ref().is_some_and(Giving::is_given)
            || self.taking.as_ref().is_some_and(Taking::must_wait)
    }

    fn start_worker(&self) -> io::Result<Worker> {
        let Holdings { tether, cni, admin, .. } = &self.holdings;
        let before = self.taking.as_ref().and_then(Taking::predecessor);
        let welcome = Welcome {
            settings: self.settings.clone(),
            parent: std::process::id(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            restarts: self.restarts.total(),
            last_end: self.restarts.last_end().map(ToOwned::to_owned),
            predecessor: before.map(|(predecessor, _)| predecessor),
        };
        let (lock, baton) = (tether.share()?, before.map(|(_, baton)| baton.share()).transpose()?);
        let mut handed = vec![cni.as_fd(), admin.as_fd(), lock.as_fd()];
        handed.extend(baton.iter().map(AsFd::as_fd));
        Worker::start(welcome, &handed, |worker| self.announce(worker))
    }

    /// Waits for anything to happen, or for the time of the next thing to do.
    fn wait(&self) -> io::Result<Vec<Source>> {
        let due = match (&self.worker, self.stopping) {
            (Some(_), deadline) => deadline,
            (None, _) if self.ports_are_of_another() => None,
            (None, _) => Some(self.next_start),
        };
        let giving = self.giving.as_ref().and_then(Giving::due);
        let upkeep = self.keeps_node().then(|| self.upkeep.due());
        let due = due.into_iter().chain(giving).chain(upkeep).min();
        let timeout = match due.map(|due| due.saturating_duration_since(Instant::now())) {
            // Rounded up: a wake-up before the time would be one for nothing.
            Some(left) => {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        let (worker, giving, taking) = (&self.worker, &self.giving, &self.taking);
        let sources = [
            (Source::Signals, Some(self.signals.as_fd())),
            (Source::Life, worker.as_ref().map(|worker| worker.life().as_fd())),
            (Source::Requests, worker.as_ref().and_then(Worker::requests).map(AsFd::as_fd)),
            (Source::Door, Some(self.holdings.door.as_fd())),
            (Source::Successor, giving.as_ref().map(|giving| giving.channel().as_fd())),
            (Source::Predecessor, taking.as_ref().and_then(Taking::channel).map(AsFd::as_fd)),
            (Source::Rules, self.upkeep.monitor().filter(|_| self.keeps_node())),
            (Source::Blocking, self.blocked_by.as_ref().map(AsFd::as_fd)),
        ];
        let sources: Vec<_> =
            sources.into_iter().filter_map(|(source, fd)| Some((source, fd?))).collect();
        let mut polled: Vec<_> =
            sources.iter().map(|(_, fd)| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let awake = sources.iter().zip(&polled).filter(|(_, fd)| fd.any().unwrap_or(false));
        Ok(awake.map(|((source, _), _)| *source).collect())
    }

    /// Whether the node is this parent's to keep: not while another one makes it its own.
    fn keeps_node(&self) -> bool {
        self.holdings.keeper.has_host() && self.giving.is_none() && self.stopping.is_none()
    }

    /// Puts right what somebody has changed of the node's port and what belongs to it.
    fn keep_node(&mut self) {
        let now = Instant::now();
        if !self.keeps_node() || now < self.upkeep.due() {
            return;
        }
        if self.upkeep.look(&self.holdings.keeper, now) {
            self.tell_upkeep();
        }
    }

    /// A worker that is on its way there asks nobody, and waits for other words.
    fn tell_upkeep(&self) {
        let Some(worker) = self.worker.as_ref().filter(|worker| worker.ready().is_some()) else {
            return;
        };
        let report = self.upkeep.report(Instant::now());
        if let Err(error) = worker.say(Word::Upkeep(report), &[]) {
            tracing::debug!(%error, "the worker is not told how the node is kept");
        }
    }

    fn heed_signals(&mut self) -> io::Result<()> {
        while let Some(signal) = self.signals.read_signal()? {
            // SIGCHLD only wakes up: the worker's end is looked for in any case.
            if signal.ssi_signo == Signal::SIGCHLD as u32 || self.stopping.is_some() {
                continue;
            }
            tracing::info!("stopping; pods, interfaces and routes stay");
            // Whoever is at the other end of a hand-over goes on without this one.
            (self.giving, self.taking) = (None, None);
            self.stop_worker();
        }
        Ok(())
    }

    fn stop_worker(&mut self) {
        self.stopping = Some(Instant::now() + STOP_PATIENCE);
        if let Some(worker) = &mut self.worker
            && let Err(error) = worker.say(Word::Stop, &[])
        {
            tracing::warn!(%error, "the worker cannot be told to stop");
            worker.kill();
        }
    }

    /// Answers one request. Whoever does not take the answer asks for no more.
    fn serve(&mut self) {
        let Some(worker) = &mut self.worker else { return };
        let Some(requests) = worker.requests() else { return };
        let answer = match requests.receive() {
            Ok(received) => self.holdings.keeper.answer_received(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_broken) => None,
        };
        let Some((reply, descriptors)) = answer else { return worker.close_requests() };
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let sent = protocol::encode(&reply).and_then(|bytes| requests.send(&bytes, &descriptors));
        if let Err(error) = sent {
            tracing::warn!(%error, "the worker cannot be answered");
            worker.close_requests();
        }
    }

    fn hear(&mut self) -> io::Result<()> {
        let Some(worker) = &mut self.worker else { return Ok(()) };
        match worker.hear() {
            Said::Nothing => Ok(()),
            Said::Gone => {
                worker.kill();
                Ok(())
            }
            Said::Reported(Report::Ready) => {
                self.tell_upkeep();
                self.tell_ready();
                self.say_ready()
            }
            Said::Reported(Report::Prepared) => {
                self.ask_to_yield();
                Ok(())
            }
            Said::Reported(report) => {
                self.worker_on_its_way(report);
                Ok(())
            }
        }
    }

    /// The one line that says that pods can be wired.
    fn say_ready(&mut self) -> io::Result<()> {
        if self.said_ready {
            return Ok(());
        }
        self.said_ready = true;
        self.holdings.directories.keep();
        let mut out = io::stdout().lock();
        writeln!(out, "ready")?;
        out.flush()
    }

    /// Looks whether the worker has ended, and decides what follows. With a code, the parent ends.
    fn bury(&mut self) -> io::Result<Option<ExitCode>> {
        let now = Instant::now();
        let Some(worker) = &mut self.worker else {
            return Ok(self.stopping.map(|_deadline| self.ended_well()));
        };
        let Some(status) = worker.ended()? else {
            if self.stopping.is_some_and(|deadline| deadline <= now) {
                tracing::warn!("the worker does not end in good order and is killed");
                self.stopping = Some(now + STOP_PATIENCE);
                worker.kill();
            }
            return Ok(None);
        };
        let (pid, ready, succeeds) = (worker.id(), worker.ready(), worker.succeeds());
        self.worker = None;
        if self.stopping.is_some() {
            return Ok(Some(self.ended_well()));
        }
        let how = process::end_of(status);
        if self.taking.as_ref().is_some_and(Taking::is_preparing) {
            tracing::error!(pid, how, "no hand-over: the vswitchd that runs goes on");
            return Ok(Some(ExitCode::FAILURE));
        }
        if !self.said_ready
            && !succeeds
            && let Some(code) = status.code()
        {
            // It has said why; what it lacks at the first start it would lack again.
            let code = u8::try_from(code).unwrap_or(1);
            return Ok(Some(ExitCode::from(code.max(1))));
        }
        if self.worker_gone_on_its_way(&how) {
            return Ok(None);
        }
        let pause = self.restarts.ended(how.clone(), ready, now);
        tracing::error!(
            pid,
            how,
            pause_ms = pause.as_millis(),
            restarts = self.restarts.total(),
            "the worker has ended; its ports are kept for the next one"
        );
        self.next_start = now + pause;
        Ok(None)
    }

    /// The last word.
    fn ended_well(&self) -> ExitCode {
        if let Some(to) = self.handed_to {
            tracing::info!(to, "handed over to the vswitchd of that process");
        }
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_about_to_be_gone_may_hold_the_socket_for_a_moment() {
        let name = format!("hs-listen-{}", std::process::id());
        let run_dir = std::env::temp_dir().join(name);
        let first = listen(&run_dir).unwrap();
        // One that stays keeps it.
        let begun = Instant::now();
        assert!(matches!(listen(&run_dir), Err(ListenError::InUse(_))));
        assert!(begun.elapsed() >= DYING_PATIENCE);
        let dying = std::thread::spawn(move || {
            std::thread::sleep(GLANCE * 4);
            drop(first);
        });
        let second = listen(&run_dir).unwrap();
        dying.join().unwrap();
        drop(second);
        std::fs::remove_dir_all(&run_dir).unwrap();
    }
}

//! The loop itself: wait, drain what is ready, write what came of it, then see to the control side.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};

use foldhash::fast::RandomState;
use stack::{Change, ConfigError, Duration, Event, Input, Instant, Outbox, PortId, Switch};
use tokio::sync::oneshot;

use super::dispatch::Attached;
use super::turn::{Herald, Turn, Waiting};
use super::watch::Watching;
use super::{Command, DriverCounters, Handle, View, utc_offset};
use crate::capture::session::Session;
use crate::port::wake::Waiter;
use crate::port::{Pool, PortIo};
use crate::recorder::{Journal, poison};

/// Frames read from one port before the next has its turn.
const BATCH: usize = 64;

/// A difference of clocks above this, in nanoseconds, means that UTC was set.
const CLOCK_SET: u64 = 1_000_000;

/// How often the clocks are compared while frames come.
const CLOCK_EVERY: Duration = Duration::from_secs(1);

/// How old the kernel's counts of lost frames may be in an answer.
const LOSSES_FRESH: Duration = Duration::from_millis(100);

/// All that lives on the data thread.
pub(super) struct Loop {
    pub(super) switch: Switch,
    /// Absent in benches only, to see what it costs.
    pub(super) journal: Option<Journal>,
    pub(super) out: Outbox,
    pub(super) pool: Pool,
    pub(super) ports: Vec<Option<Attached>>,
    pub(super) index: HashMap<PortId, usize, RandomState>,
    pub(super) sessions: Vec<Session>,
    /// Rules, if there are any.
    pub(super) watching: Option<Box<Watching>>,
    /// Ports with frames waiting for the end of the batch.
    pub(super) pending: Vec<usize>,
    /// The header window of a walk's frame as it came in, kept only while somebody captures.
    pub(super) received: Vec<u8>,
    /// What devices that are gone had counted, and frames for ports without one. Joins `gone` with
    /// its port.
    pub(super) detached: BTreeMap<PortId, DriverCounters>,
    /// What devices of removed ports had counted.
    gone: DriverCounters,
    pub(super) now: Instant,
    pub(super) utc_offset: i64,
    /// When the clocks were compared.
    clock_at: Instant,
    /// Whether frames may come in; a recovered switch is reconciled first.
    serving: bool,
    /// Until the worker before has left the ports.
    pub(super) waiting: Option<Waiting>,
    /// When the kernel was last asked what it lost.
    losses_at: Instant,
    pub(super) waiter: Waiter,
    commands: mpsc::Receiver<Command>,
}

/// Starts the data thread with a switch and no journal.
///
/// # Errors
/// As [`start_recorded`].
pub fn start(switch: Switch) -> io::Result<(Handle, oneshot::Receiver<()>)> {
    start_recorded(switch, None)
}

/// Starts the data thread with a switch and the journal that it comes from. The receiver completes,
/// with an error, when the thread ends.
///
/// # Errors
/// When epoll, eventfd or the thread cannot be had.
pub fn start_recorded(
    switch: Switch,
    journal: Option<Journal>,
) -> io::Result<(Handle, oneshot::Receiver<()>)> {
    start_with(switch, journal, None)
}

/// Starts the data thread beside another worker's: it reads no port before it is its turn. `switch`
/// is as that one's by now, or, with a journal of its own, empty.
///
/// # Errors
/// As [`start_recorded`].
pub fn start_waiting(
    switch: Switch,
    journal: Option<Journal>,
    turn: Turn,
) -> io::Result<(Handle, oneshot::Receiver<()>, Herald)> {
    let (waiting, herald) = Waiting::new(turn);
    let (handle, ended) = start_with(switch, journal, Some(waiting))?;
    Ok((handle, ended, herald))
}

fn start_with(
    switch: Switch,
    journal: Option<Journal>,
    waiting: Option<Waiting>,
) -> io::Result<(Handle, oneshot::Receiver<()>)> {
    let (sender, commands) = mpsc::channel();
    // The waiter watches the load of its own thread, so it is made there.
    let (made, making) = mpsc::channel::<io::Result<Arc<OwnedFd>>>();
    let (ends, ended) = oneshot::channel::<()>();
    let work = move || {
        match Waiter::new() {
            Ok(waiter) => {
                if made.send(Ok(waiter.waker())).is_ok() {
                    Loop::new(switch, journal, waiting, waiter, commands).run();
                }
            }
            // The one who waits for it reports it.
            Err(error) => drop(made.send(Err(error))),
        }
        // Nobody may wait any more.
        drop(ends);
    };
    std::thread::Builder::new().name("data".to_owned()).spawn(work)?;
    let wake =
        making.recv().map_err(|_ended| io::Error::other("the data thread ended at once"))??;
    Ok((Handle { commands: sender, wake }, ended))
}

impl Loop {
    fn new(
        switch: Switch,
        journal: Option<Journal>,
        waiting: Option<Waiting>,
        waiter: Waiter,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        // Captures of the past bear the times of live ones: both are told by one offset.
        let utc_offset = journal.as_ref().map_or_else(utc_offset, Journal::utc_offset);
        let serving = journal.is_none() || !switch.tables().complete();
        let mut fresh = Self {
            journal,
            detached: BTreeMap::new(),
            gone: DriverCounters::default(),
            serving,
            waiting,
            clock_at: Instant::ZERO,
            switch,
            out: Outbox::default(),
            pool: Pool::new(),
            ports: Vec::new(),
            index: HashMap::default(),
            sessions: Vec::new(),
            watching: None,
            pending: Vec::new(),
            received: Vec::new(),
            now: Instant::ZERO,
            utc_offset,
            losses_at: Instant::ZERO,
            waiter,
            commands,
        };
        fresh.count_from_here();
        fresh
    }

    /// What the switch gave to its ports so far was written by another process.
    pub(super) fn count_from_here(&mut self) {
        let earlier = |transmitted| DriverCounters { earlier: transmitted, ..Default::default() };
        let counters = self.switch.counters();
        let before = counters.ports.iter().map(|(id, port)| (*id, earlier(port.transmitted)));
        self.detached = before.collect();
        self.gone = earlier(counters.gone.transmitted);
    }

    fn run(&mut self) {
        if !self.await_turn() {
            return;
        }
        let mut ready = Vec::new();
        loop {
            ready.clear();
            match self.waiter.wait(self.wait_until(), &mut ready) {
                Ok(now) => self.now = now,
                Err(error) => {
                    tracing::error!(%error, "waiting for ports failed; the data thread ends");
                    return;
                }
            }
            if self.switch.poll_at().is_some_and(|due| due <= self.now) {
                self.feed(Input::Tick);
                // Fragments whose time is over.
                self.show_walks();
                self.carry_out();
            }
            let mut commanded = false;
            for token in &ready {
                match usize::try_from(*token) {
                    Ok(port) if *token != Waiter::WAKER => self.drain(port),
                    _ => commanded = true,
                }
            }
            self.flush();
            self.watch_time();
            if commanded && !self.obey() {
                return;
            }
            self.keep_journal();
        }
    }

    /// Until when to wait for frames: not at all while a snapshot is being taken.
    fn wait_until(&self) -> Option<Instant> {
        let busy = self.journal.as_ref().is_some_and(Journal::is_busy);
        if busy {
            return Some(self.now);
        }
        let rules = self.watching.as_ref().and_then(|watching| watching.due());
        [self.switch.poll_at(), rules].into_iter().flatten().min()
    }

    /// The only way into the switch: what goes in is recorded first.
    #[inline]
    pub(super) fn feed(&mut self, input: Input) {
        let Some(journal) = &mut self.journal else {
            return self.switch.input(self.now, input, &mut self.out);
        };
        journal.before(self.now, &input);
        if let Input::Frame { frame, .. } = &input {
            poison::taste(frame.window());
        }
        self.switch.input(self.now, input, &mut self.out);
        journal.after(&self.out);
    }

    /// What the journal needs between two batches.
    fn keep_journal(&mut self) {
        if self.now.since(self.clock_at) >= CLOCK_EVERY {
            self.clock_at = self.now;
            self.compare_clocks();
        }
        if let Some(journal) = &mut self.journal {
            journal.between(self.now, &mut self.switch);
        }
    }

    /// UTC is sampled anew only when the clock was set: two captures of one packet bear the same
    /// time.
    fn compare_clocks(&mut self) {
        let fresh = utc_offset();
        if fresh.abs_diff(self.utc_offset) > CLOCK_SET {
            self.utc_offset = fresh;
        }
        if let Some(journal) = &mut self.journal {
            journal.clock(self.now, self.utc_offset);
        }
    }

    /// Reads a port until it is empty or has had its share.
    fn drain(&mut self, port: usize) {
        for earlier in 0..BATCH {
            let Some(attached) = self.ports.get_mut(port).and_then(Option::as_mut) else { return };
            match attached.io.receive(&mut self.pool) {
                Ok(Some(frame)) => {
                    let id = attached.id;
                    // Who sends one at a time waits for what comes of it, and most likely has sent
                    // no second: it leaves before that is asked.
                    let at_once = earlier == 0 && attached.lone;
                    attached.lone &= earlier == 0;
                    self.put_in(id, frame);
                    if at_once {
                        self.flush();
                    }
                }
                Ok(None) => {
                    attached.lone = earlier <= 1;
                    return;
                }
                Err(error) => return self.broken(port, &error),
            }
        }
    }

    /// A device that cannot be read is polled no more and its port is down; CNI DEL or a restart
    /// clears it. A port that has another one to write to stays up.
    fn broken(&mut self, port: usize, error: &io::Error) {
        let Some(attached) = self.ports.get_mut(port).and_then(Option::as_mut) else { return };
        let id = attached.id;
        let errno = error.raw_os_error().unwrap_or(0);
        *attached.counters.receive_failed.entry(errno).or_default() += 1;
        let down = self.index.get(&id) == Some(&port);
        tracing::warn!(port = id.0, %error, down, "cannot read a device of the port");
        if let Err(error) = self.waiter.remove(attached.io.descriptor()) {
            tracing::warn!(port = id.0, %error, "cannot stop polling the port's device");
        }
        if down {
            self.feed(Input::Change(Change::PortUp(id, false)));
            self.out.events.clear();
        }
    }

    /// Does what the control side asked. False: the loop ends.
    pub(super) fn obey(&mut self) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Change(change, reply) => {
                    // A cancelled asker does not undo the change.
                    drop(reply.send(self.change(change)));
                }
                Command::Attach(id, io) => self.attach(id, io),
                Command::AttachSide(id, io) => {
                    self.place(Attached::new(id, io));
                }
                Command::Detach(id, reply) => {
                    self.detach(id);
                    let _cancelled = reply.send(());
                }
                Command::Ask(question) => self.ask(question),
                Command::Capture(session) => self.sessions.push(*session),
                Command::Watch(watching) => self.watching = Some(watching),
                Command::Label(port, name) => self.label(port, name),
                Command::Serve => {
                    self.serving = true;
                    match &mut self.waiting {
                        Some(waiting) => waiting.arm(),
                        None => self.poll_devices(),
                    }
                }
                Command::Yield(baton, with_state, reply) => {
                    let left = self.leave(&baton, with_state);
                    drop(reply.send(left));
                    return false;
                }
                Command::Stop => return false,
            }
        }
        true
    }

    pub(super) fn change(&mut self, change: Change) -> Result<(), ConfigError> {
        let again = self.waiting.is_some().then(|| change.clone());
        self.feed(Input::Change(change));
        if let Some(Event::Rejected(error)) = self.out.events.drain(..).next() {
            return Err(error);
        }
        if let Some((waiting, change)) = self.waiting.as_mut().zip(again) {
            waiting.remember(change);
        }
        self.poll_devices();
        Ok(())
    }

    pub(super) fn label(&mut self, port: PortId, name: String) {
        if let Some(watching) = &mut self.watching {
            watching.name(port, &name);
        }
        match (&mut self.journal, &mut self.waiting) {
            (Some(journal), _) => journal.label(self.now, port, name),
            (None, Some(waiting)) => waiting.label(port, name),
            (None, None) => {}
        }
    }

    /// Polls every device not polled yet, once desired state is complete. Until then frames wait in
    /// the kernel's queues: after a restart they would be dropped for want of a configuration
    /// that is on its way.
    pub(super) fn poll_devices(&mut self) {
        if !self.serving || self.waiting.is_some() || !self.switch.tables().complete() {
            return;
        }
        for (token, attached) in self.ports.iter_mut().enumerate() {
            let Some(attached) = attached.as_mut().filter(|attached| !attached.polled) else {
                continue;
            };
            attached.polled = true;
            if let Err(error) = self.waiter.add(attached.io.descriptor(), token as u64) {
                tracing::error!(port = attached.id.0, %error, "cannot poll the port's device");
            }
        }
    }

    fn attach(&mut self, id: PortId, io: Box<dyn PortIo>) {
        self.detach(id);
        let place = self.place(Attached::new(id, io));
        self.index.insert(id, place);
    }

    /// Reads a device from now on. Only what is in the index is written to.
    fn place(&mut self, attached: Attached) -> usize {
        let free = self.ports.iter().position(Option::is_none).unwrap_or(self.ports.len());
        match self.ports.get_mut(free) {
            Some(place) => *place = Some(attached),
            None => self.ports.push(Some(attached)),
        }
        self.poll_devices();
        free
    }

    fn detach(&mut self, id: PortId) {
        self.index.remove(&id);
        let mut ports = std::mem::take(&mut self.ports);
        for place in &mut ports {
            if let Some(attached) = place.take_if(|attached| attached.id == id) {
                self.close(attached);
            }
        }
        self.ports = ports;
    }

    fn close(&mut self, mut attached: Attached) {
        let id = attached.id;
        if self.waiting.is_none()
            && let Ok(lost) = attached.io.losses()
        {
            attached.counters.lost = lost;
        }
        self.detached.entry(id).or_default().add(&attached.counters);
        if attached.polled
            && let Err(error) = self.waiter.remove(attached.io.descriptor())
        {
            tracing::debug!(port = id.0, %error, "the device was polled no more");
        }
    }

    fn ask(&mut self, question: super::Question) {
        let mut drivers = BTreeMap::new();
        // Asking the kernel takes a system call a port: not for each of many questions in a row.
        // And while another worker reads the ports it asks by the same sockets.
        let fresh = self.now.since(self.losses_at) < LOSSES_FRESH || self.waiting.is_some();
        if !fresh {
            self.losses_at = self.now;
        }
        for attached in self.ports.iter_mut().flatten() {
            if !fresh && let Ok(lost) = attached.io.losses() {
                attached.counters.lost = lost;
            }
            let of_port: &mut DriverCounters = drivers.entry(attached.id).or_default();
            of_port.add(&attached.counters);
        }
        let removed = |id: &PortId| self.switch.tables().ports().slot(*id).is_none();
        let (gone, kept) =
            std::mem::take(&mut self.detached).into_iter().partition(|(id, _)| removed(id));
        let gone: BTreeMap<PortId, DriverCounters> = gone;
        gone.values().for_each(|counters| self.gone.add(counters));
        self.detached = kept;
        for (id, counters) in &self.detached {
            drivers.entry(*id).or_default().add(counters);
        }
        self.compare_clocks();
        let (now, utc_offset) = (self.now, self.utc_offset);
        let (switch, gone) = (&self.switch, &self.gone);
        let rules = self.watching.as_ref().map_or_else(Vec::new, |watching| watching.counts());
        question(&View { switch, now, utc_offset, drivers: &drivers, gone, rules: &rules });
    }
}

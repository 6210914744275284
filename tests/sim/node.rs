//! A node: a switch whose every input is in its journal before anything comes of it, snapshots
//! that are taken while frames go on, and a worker that dies at the worst moments.
//!
//! What a crash leaves is the journal behind the newest whole snapshot, and that snapshot. The
//! switch that stood before the crash is kept to be compared with, and for nothing else.

use std::collections::VecDeque;

use stack::config::Timeouts;
use stack::input::{EndpointId, Frame, Input, Outbox, PortId};
use stack::journal::frame::Door;
use stack::journal::{Begin, Chain, Place, Recorder, Tape};
use stack::replay::Replay;
use stack::table::Digests;
use stack::{Change, Config, Duration, Instant, Limits, Seeds, Switch};

use crate::draw::Draw;
use crate::options::Options;
use crate::plan::Base;
use crate::subject::Subject;
use crate::{churn, journal, plan, state};

/// Frames that a port without a reader keeps, as a TAP's queue does.
const QUEUE_MAX: usize = 256;
/// Inputs between two digests in the journal.
const DIGEST_EVERY: u64 = 50;
/// The seeds that every journal names. The one that lays out tables shows nowhere, so a node with
/// another one has the same journal.
const SEEDS: Seeds = Seeds { table: 1, choice: 1 };

/// When a worker dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doom {
    /// Between two inputs.
    Between,
    /// With an input in the journal whose outputs never left.
    BeforeOutputs,
    /// With a snapshot half written.
    InSnapshot,
    /// At an input that crashed it twice: the next worker skips that one.
    Poison,
}

impl Doom {
    pub(crate) const ALL: [Self; 4] =
        [Self::Between, Self::BeforeOutputs, Self::InSnapshot, Self::Poison];
}

/// What came of an input for the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was carried out; what is in the outbox leaves, whether the worker died thereafter or not.
    Done,
    /// It was carried out, and its outputs were lost with the worker.
    Lost,
    /// It was never carried out.
    Skipped,
}

/// A snapshot, whole or in the making.
struct Area {
    number: u64,
    bytes: Vec<u8>,
    /// Bytes of the tape before it.
    at: usize,
    chain: Chain,
    /// The state at its begin, to be compared with.
    dump: String,
    digests: Digests,
}

/// What happened to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// Which node.
    pub(crate) number: u8,
    /// Crashes by [`Doom::ALL`].
    pub(crate) crashes: [u64; 4],
    /// Recoveries from a snapshot, and from the journal's begin.
    pub(crate) recoveries: [u64; 2],
    /// Whole snapshots.
    pub(crate) snapshots: u64,
    /// Records of the whole journal.
    pub(crate) records: u64,
    /// The chain in the end.
    pub(crate) chain: [u64; 2],
    /// The state in the end.
    pub(crate) dump: String,
}

/// A node.
pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) subject: Subject,
    /// The model of the configuration in force.
    pub(crate) desired: Config,
    /// The port of each host.
    pub(crate) ports: Vec<PortId>,
    /// Ports so far: the next one's number.
    numbered: u32,
    recorder: Recorder<Tape>,
    /// What snapshots made needless: no node has it, only the laws.
    archive: Vec<u8>,
    whole: Option<Area>,
    open: Option<Area>,
    /// Inputs, and those since the last snapshot began.
    inputs: u64,
    since: u64,
    doom: Option<Doom>,
    /// The worker is dead; the last record is to be skipped.
    pub(crate) down: bool,
    skip: bool,
    /// What waits at the ports of a dead worker.
    queue: VecDeque<(PortId, Frame)>,
    /// Changes that came while it was.
    pub(crate) missed: u64,
    pub(crate) past: Past,
    options: Options,
}

/// What the switches of simulated nodes may hold: little, so that limits are met.
pub(crate) fn limits(options: &Options) -> Limits {
    let (connections_max, pod_connections_max) =
        if options.scarce { (24, 6) } else { (1_024, 512) };
    let timeouts = Timeouts {
        established: Duration::from_secs(90),
        fin_wait: Duration::from_secs(60),
        close_wait: Duration::from_secs(60),
        time_wait: Duration::from_secs(10),
        ..Timeouts::default()
    };
    Limits {
        ports_max: 8,
        errors_burst: 3,
        flood_burst: 3,
        flood_interval: Duration::from_millis(20),
        affinities_max: 1_024,
        connections_max,
        pod_connections_max,
        timeouts,
        ..Limits::default()
    }
}

impl Node {
    /// A node on which nothing has happened but its configuration.
    pub(crate) fn new(base: &Base, options: Options, table: u64) -> Self {
        let mut node = Self::empty(base.number, options, table);
        node.lead_to(Instant(1), &plan::config(base, &node.ports), &mut Outbox::default());
        node
    }

    /// A node on which nothing has happened.
    pub(crate) fn empty(number: u8, options: Options, table: u64) -> Self {
        let ports: Vec<PortId> = (1..=u32::from(options.pods) + 1).map(PortId).collect();
        let now = Instant(1);
        let mut recorder = Recorder::new(Tape::default(), Chain::new(), options.payload);
        recorder.begin(now, &Begin::new(limits(&options), SEEDS));
        recorder.clock(now, 1_700_000_000_000_000_000);
        recorder.label(now, plan::GATEWAY, "gateway");
        let subject = Subject::new(limits(&options), Seeds { table, ..SEEDS }, options.broken);
        Self {
            number,
            subject,
            desired: Config::default(),
            numbered: u32::from(options.pods) + 2,
            recorder,
            archive: Vec::new(),
            whole: None,
            open: None,
            inputs: 0,
            since: 0,
            doom: None,
            down: false,
            skip: false,
            queue: VecDeque::new(),
            missed: 0,
            past: Past { number, ..Past::default() },
            options,
            ports,
        }
    }

    /// A port's number that was never used.
    pub(crate) fn fresh(&mut self) -> PortId {
        self.numbered += 1;
        PortId(self.numbered)
    }

    /// The worker is to die.
    pub(crate) fn doom(&mut self, doom: Doom) {
        if self.down {
            return;
        }
        match doom {
            Doom::Between => self.crash(Doom::Between),
            Doom::BeforeOutputs | Doom::InSnapshot | Doom::Poison => self.doom = Some(doom),
        }
    }

    /// The worker is to live.
    pub(crate) fn spare(&mut self) {
        self.doom = None;
    }

    /// A frame comes to a port.
    pub(crate) fn frame(
        &mut self,
        now: Instant,
        port: PortId,
        frame: Frame,
        out: &mut Outbox,
    ) -> Fate {
        self.alive();
        self.recorder.frame(now, Door::Port(port), &frame);
        if self.poisoned() {
            return Fate::Skipped;
        }
        self.subject.frame(now, port, frame, out);
        self.after(now, out)
    }

    /// A frame comes back for an endpoint.
    pub(crate) fn deliver(
        &mut self,
        now: Instant,
        endpoint: EndpointId,
        frame: Frame,
        out: &mut Outbox,
    ) -> Fate {
        self.alive();
        self.recorder.frame(now, Door::Endpoint(endpoint), &frame);
        if self.poisoned() {
            return Fate::Skipped;
        }
        self.subject.deliver(now, endpoint, frame, out);
        self.after(now, out)
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Outbox) -> Fate {
        self.alive();
        self.recorder.tick(now);
        if self.poisoned() {
            return Fate::Skipped;
        }
        self.subject.tick(now, out);
        self.after(now, out)
    }

    /// A change comes. `accepted` is what the model says of it, if it does.
    pub(crate) fn change(
        &mut self,
        now: Instant,
        change: &Change,
        accepted: Option<bool>,
        out: &mut Outbox,
    ) -> Fate {
        // Time is state, and moves with every input.
        out.clear();
        if self.tick(now, out) != Fate::Done || self.down {
            return Fate::Skipped;
        }
        out.clear();
        self.alive();
        self.recorder.change(now, change);
        if self.poisoned() {
            return Fate::Skipped;
        }
        let done = self.subject.change(now, change, out);
        assert_eq!(done, accepted.unwrap_or(done), "{change:?}: {:?}", out.events);
        if done {
            churn::apply(&mut self.desired, change);
        }
        let found = plan::sorted(self.subject.switch.config());
        assert_eq!(found, plan::sorted(self.desired.clone()), "after {change:?}");
        self.tables();
        self.after(now, out)
    }

    /// The changes that lead to `target`. False when the worker died on the way.
    pub(crate) fn lead_to(&mut self, now: Instant, target: &Config, out: &mut Outbox) -> bool {
        for change in stack::config::diff(&self.subject.switch.config(), target) {
            if self.change(now, &change, Some(true), out) != Fate::Done || self.down {
                return false;
            }
        }
        let found = plan::sorted(self.subject.switch.config());
        assert_eq!(found, plan::sorted(target.clone()), "the difference leads to the target");
        true
    }

    /// The order of changes that do not depend on each other does not matter: where each of those
    /// that lead to `target` is accepted in another order, they lead there as well.
    pub(crate) fn in_any_order(&self, now: Instant, target: &Config, draw: &mut Draw) {
        let mut switch = self.subject.switch.clone();
        let mut changes = stack::config::diff(&switch.config(), target);
        let mut out = Outbox::default();
        while !changes.is_empty() {
            let change = changes.swap_remove(draw.index(changes.len()));
            switch.input(now, Input::Change(change), &mut out);
        }
        if out.events.is_empty() {
            assert_eq!(plan::sorted(switch.config()), plan::sorted(target.clone()), "in any order");
        }
    }

    /// Laws of the tables.
    pub(crate) fn tables(&self) {
        let (macs, addresses) = plan::universe(self.number, self.ports.len());
        state::tables(&self.subject.switch, &macs, &addresses);
    }

    /// A frame waits until there is a worker again, if there is room.
    pub(crate) fn wait(&mut self, port: PortId, frame: Frame) {
        if self.queue.len() < QUEUE_MAX {
            self.queue.push_back((port, frame));
        }
    }

    /// The next frame that waited.
    pub(crate) fn waited(&mut self) -> Option<(PortId, Frame)> {
        if self.down { None } else { self.queue.pop_front() }
    }

    /// A dead worker takes no input.
    fn alive(&self) {
        assert!(!self.down, "inputs of a dead worker wait");
    }

    /// Whether the worker dies of the input recorded last.
    fn poisoned(&mut self) -> bool {
        let dies = self.doom == Some(Doom::Poison);
        if dies {
            // It stays in the journal, and nothing came of it.
            let mut chain = *self.recorder.chain();
            chain.skip();
            let mut tape = std::mem::take(self.recorder.place_mut());
            tape.set_newest_aside();
            self.recorder = Recorder::new(tape, chain, self.options.payload);
            self.skip = true;
            self.crash(Doom::Poison);
        }
        dies
    }

    /// An input was carried out.
    fn after(&mut self, now: Instant, out: &Outbox) -> Fate {
        self.recorder.outcome(out);
        self.inputs += 1;
        if self.doom == Some(Doom::BeforeOutputs) {
            self.crash(Doom::BeforeOutputs);
            return Fate::Lost;
        }
        if self.inputs.is_multiple_of(DIGEST_EVERY) {
            self.recorder.digest(now, self.subject.switch.tables().walks());
        }
        self.snapshot(now);
        Fate::Done
    }

    /// A step of a snapshot.
    fn snapshot(&mut self, now: Instant) {
        let switch = &mut self.subject.switch;
        self.since += 1;
        let in_it = self.doom == Some(Doom::InSnapshot);
        let Some(mut area) = self.open.take() else {
            if self.since >= self.options.snapshot_every || in_it {
                self.since = 0;
                let number = self.past.snapshots + 1;
                self.recorder.mark(now, number);
                let (dump, digests) = (switch.dump(), switch.digests());
                let (at, chain) = (self.recorder.place().bytes().len(), *self.recorder.chain());
                let mut bytes = Vec::new();
                switch.snapshot_begin(&mut bytes);
                self.open = Some(Area { number, bytes, at, chain, dump, digests });
            }
            return;
        };
        let rows = if in_it { 1 } else { self.options.rows };
        if !switch.snapshot_step(rows, &mut area.bytes) {
            self.open = Some(area);
            if in_it {
                self.crash(Doom::InSnapshot);
            }
            return;
        }
        let restored = Switch::restore(&area.bytes, self.since).unwrap();
        assert_eq!(restored.dump(), area.dump, "a snapshot is of the state of its begin");
        self.recorder.state(now, area.number, area.digests.words());
        self.archive.extend(self.recorder.place_mut().cut(area.at));
        self.past.snapshots += 1;
        self.whole = Some(area);
    }

    fn crash(&mut self, how: Doom) {
        self.doom = None;
        self.down = true;
        let kind = Doom::ALL.iter().position(|doom| *doom == how).unwrap();
        self.past.crashes[kind] += 1;
        if let Some(area) = self.open.take() {
            let half = Switch::restore(&area.bytes, 1).unwrap_err();
            assert_eq!(half, stack::RestoreError::Cut, "half a snapshot is none");
        }
        self.subject.switch.snapshot_give_up();
        // A record that was being written is no record before it is published.
        let chain = *self.recorder.chain();
        self.recorder.place_mut().room(200, Instant::ZERO, &chain).fill(0xa5);
    }

    /// The next worker: the newest whole snapshot and the tail, outputs suppressed. It comes to the
    /// state and the chain of the one that died, and so does a replay from the very begin.
    pub(crate) fn recover(&mut self, now: Instant, table: u64) {
        assert!(self.down, "nobody died");
        // A copy, so that the journal is there to be looked at if this fails.
        let tape = self.recorder.place().clone();
        let mut replay = match &self.whole {
            Some(area) => {
                Replay::from_state(Switch::restore(&area.bytes, table).unwrap(), area.chain)
            }
            None => Replay::from_begin(table),
        };
        self.past.recoveries[usize::from(self.whole.is_none())] += 1;
        if let Err(error) = journal::feed(&mut replay, tape.bytes()) {
            panic!("record {} of the tail: {error}", replay.records());
        }
        let (switch, chain) = replay.into_parts();
        let switch = switch.unwrap();
        let dead = &self.subject.switch;
        assert_eq!(switch.dump(), dead.dump(), "the recovered state is the one before the crash");
        assert_eq!(switch.digest(), dead.digest());
        assert_eq!(&chain, self.recorder.chain(), "the recovered chain is the one before");
        let all = [&self.archive, tape.bytes()].concat();
        let again = journal::replay(&all, table + 1);
        assert_eq!(again.switch().unwrap().dump(), dead.dump(), "replayed from the begin");
        assert_eq!(again.chain(), &chain, "the chain from the begin");
        self.subject.switch = switch;
        self.recorder = Recorder::new(tape, chain, self.options.payload);
        if std::mem::take(&mut self.skip) {
            self.recorder.skip(now, "it crashed the worker twice");
        }
        self.recorder.resume(now, "the worker died");
        self.down = false;
    }

    /// A frame goes into the journal and nowhere else, as when it kills the worker.
    pub(crate) fn record_frame(&mut self, now: Instant, port: PortId, frame: &Frame) {
        self.recorder.frame(now, Door::Port(port), frame);
    }

    /// The same for a change.
    pub(crate) fn record_change(&mut self, now: Instant, change: &Change) {
        self.recorder.change(now, change);
    }

    /// Ends the journal with digests of chain and state.
    pub(crate) fn finish(&mut self, now: Instant) {
        self.subject.switch.snapshot_give_up();
        self.open = None;
        let number = self.past.snapshots + 1;
        self.recorder.mark(now, number);
        self.recorder.state(now, number, self.subject.switch.digests().words());
        self.recorder.digest(now, self.subject.switch.tables().walks());
        let chain = self.recorder.chain();
        self.past.chain = [chain.inputs(), chain.outcomes()];
        self.past.dump = self.subject.switch.dump();
    }

    /// The whole journal.
    pub(crate) fn journal(&self) -> Vec<u8> {
        [&self.archive, self.recorder.place().bytes()].concat()
    }

    /// The whole journal replays to the state there is, tables laid out by another seed, and if
    /// `flip`, a turned bit is found.
    pub(crate) fn judge(&mut self, table: u64, flip: bool, draw: &mut Draw) {
        let journal = self.journal();
        let replay = journal::replay(&journal, table);
        assert_eq!(replay.switch().unwrap().dump(), self.past.dump, "replayed to the end");
        assert_eq!(replay.chain(), self.recorder.chain());
        self.past.records = replay.records();
        if flip {
            journal::flip(&journal, table, draw);
        }
    }
}

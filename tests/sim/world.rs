//! A node in a simulated world: one switch, a host behind every port, links between, virtual time.

use std::collections::{BTreeMap, VecDeque};

use stack::hash::Hasher;
use stack::input::{Frame, Offload, Outbox, PortId};
use stack::pipeline::packet::{Inner, Packet};
use stack::pipeline::parse::parse;
use stack::trace::Numbered;
use stack::trace::Silence;
use stack::{
    Change, Config, DropReason, Duration, Hop, Instant, Limits, Seeds, Switch, Trace, Verdict,
};
use vswitchd::port::offload::{checksum, prepare};
use vswitchd::port::{Capabilities, Pool};

use crate::draw::Draw;
use crate::frames::Maker;
use crate::host::Host;
use crate::link::Towards;
use crate::options::Options;
use crate::share::Shares;
use crate::{churn, hostile, laws, link, plan, state};

/// Events of a run at most: a world that never rests is a bug of its own.
const EVENTS_MAX: u64 = 400_000;
/// Walks told when a run fails.
const RECENT: usize = 20;

/// What happens at a moment.
enum Event {
    ToSwitch(usize, Frame),
    ToHost(usize, Frame),
    Change,
    Hostile,
}

/// The world.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) hosts: Vec<Host>,
    pub(crate) now: Instant,
    pub(crate) seen: Seen,
    /// Links have faults.
    pub(crate) faulty: bool,
    switch: Switch,
    /// The model of the configuration in force.
    desired: Config,
    /// The port of each host.
    ports: Vec<PortId>,
    /// Ports so far: the next one's number.
    numbered: u32,
    events: BTreeMap<(u64, u64), Event>,
    happened: u64,
    draw: Draw,
    maker: Maker,
    out: Outbox,
    pool: Pool,
    recent: VecDeque<(Trace, Frame)>,
    floods: Shares,
    errors: Shares,
}

/// What was seen of a run: equal for equal seeds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// A hash over every frame that left, its port and moment, in order.
    pub(crate) sent: u64,
    /// The switch's digest in the end.
    pub(crate) digest: u64,
    /// Its state as text.
    pub(crate) dump: String,
    /// Walks by verdict: forward, flood, deliver, answer, drop.
    pub(crate) verdicts: [u64; 5],
    /// Changes accepted and refused.
    pub(crate) changes: [u64; 2],
    /// Super-frames among those forwarded.
    pub(crate) super_frames: u64,
}

fn limits() -> Limits {
    Limits {
        ports_max: 8,
        errors_burst: 3,
        flood_burst: 3,
        flood_interval: Duration::from_millis(20),
        ..Limits::default()
    }
}

impl World {
    /// A fault-free world in which nothing has happened yet.
    pub(crate) fn new(options: Options, table: u64, mut draw: Draw) -> Self {
        let ports: Vec<PortId> = (1..=u32::from(options.pods) + 1).map(PortId).collect();
        let desired = plan::config(&ports);
        let switch = Switch::new(desired.clone(), limits(), Seeds { table, choice: 1 });
        let hosts =
            (0..=options.pods).map(|n| Host::new(n, options.offload, draw.next())).collect();
        Self {
            options,
            hosts,
            now: Instant::ZERO,
            seen: Seen::default(),
            faulty: false,
            switch,
            desired,
            numbered: u32::from(options.pods) + 2,
            ports,
            events: BTreeMap::new(),
            happened: 0,
            maker: Maker::new(draw.next()),
            draw,
            out: Outbox::default(),
            pool: Pool::new(),
            recent: VecDeque::new(),
            floods: Shares::new("floods", limits().flood_burst, limits().flood_interval),
            errors: Shares::new("errors", limits().errors_burst, limits().errors_interval),
        }
    }

    /// Faults from now on for as long as the options say, with changes and hostile frames in
    /// between.
    pub(crate) fn disturb(&mut self) {
        self.faulty = true;
        let span = self.options.faulty * 1_000;
        for _ in 0..self.options.changes {
            let time = self.now.0 + 1_000 * self.draw.below(span);
            self.schedule(time, Event::Change);
        }
        for _ in 0..self.options.hostile {
            let time = self.now.0 + 1_000 * self.draw.below(span);
            self.schedule(time, Event::Hostile);
        }
    }

    /// No faults any more, and the configuration as it should be, by the changes that lead there.
    pub(crate) fn heal(&mut self) {
        self.faulty = false;
        for n in 0..self.ports.len() {
            if !self.desired.ports.iter().any(|port| port.id == self.ports[n]) {
                self.ports[n] = self.fresh();
            }
        }
        let target = plan::config(&self.ports);
        for change in stack::config::diff(&self.switch.config(), &target) {
            self.change(&change, true);
        }
        let found = plan::sorted(self.switch.config());
        assert_eq!(found, plan::sorted(target), "the difference leads to the target");
    }

    /// Lives on until `end` (nanoseconds) or until `pump`, called whenever something happened, says
    /// true. True if it did.
    pub(crate) fn live(&mut self, end: u64, mut pump: impl FnMut(&mut [Host]) -> bool) -> bool {
        loop {
            self.poll();
            if pump(&mut self.hosts) {
                return true;
            }
            self.happened += 1;
            assert!(self.happened < EVENTS_MAX, "the world does not come to rest");
            if self.hosts.iter().any(|host| host.awake) {
                continue;
            }
            let events = self.events.keys().next().map(|(time, _)| *time);
            let hosts = self.hosts.iter().filter_map(|host| host.next).min();
            let next = [events, hosts].into_iter().flatten().min().unwrap_or(u64::MAX);
            if next > end {
                self.now = Instant(end);
                return false;
            }
            self.now = Instant(self.now.0.max(next));
            while let Some(entry) = self.events.first_entry()
                && entry.key().0 <= self.now.0
            {
                let event = entry.remove();
                self.happen(event);
            }
        }
    }

    /// What was seen so far, the state at the end with it.
    pub(crate) fn finish(&mut self) -> Seen {
        self.tables();
        let mut seen = std::mem::take(&mut self.seen);
        seen.digest = self.switch.digest();
        seen.dump = self.switch.dump();
        seen
    }

    fn schedule(&mut self, time: u64, event: Event) {
        // Events of one moment happen in the order they were made.
        let order = u64::try_from(self.events.len()).unwrap() + self.happened * 1_000_000;
        let mut key = (time, order);
        while self.events.contains_key(&key) {
            key.1 += 1;
        }
        self.events.insert(key, event);
    }

    fn fresh(&mut self) -> PortId {
        self.numbered += 1;
        PortId(self.numbered)
    }

    /// Lets the hosts work that want to, and puts what they send on their links.
    fn poll(&mut self) {
        for n in 0..self.hosts.len() {
            let host = &mut self.hosts[n];
            if !host.awake && host.next.is_none_or(|next| next > self.now.0) {
                continue;
            }
            for frame in host.poll(self.now) {
                let arriving = self.link(frame, Towards::Switch);
                for (delay, frame) in arriving {
                    self.schedule(self.now.0 + delay, Event::ToSwitch(n, frame));
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToHost(n, frame) => self.hosts[n].receive(frame.bytes().to_vec()),
            Event::ToSwitch(n, frame) => self.put(self.ports[n], frame),
            Event::Hostile => {
                let n = self.draw.index(self.hosts.len());
                let (host, hosts) = (u8::try_from(n).unwrap(), self.options.pods + 1);
                let frame = hostile::frame(host, hosts, &mut self.maker, &mut self.draw);
                // Some come from ports that are gone or never were.
                let port = if self.draw.chance(950) { self.ports[n] } else { PortId(1_000) };
                // Some say it again and again.
                let again = if self.draw.chance(200) { self.draw.below(12) } else { 0 };
                for _ in 0..again {
                    self.put(port, frame.duplicate());
                }
                self.put(port, frame);
            }
            Event::Change => {
                let fresh = self.fresh();
                if self.draw.chance(250) {
                    let change = churn::bad(&self.desired, fresh, &mut self.draw);
                    return self.change(&change, false);
                }
                let change = churn::good(&self.desired, &mut self.ports, fresh, &mut self.draw);
                self.change(&change, true);
            }
        }
    }

    fn change(&mut self, change: &Change, accepted: bool) {
        self.out.clear();
        let done = state::change(&mut self.switch, self.now, change.clone(), &mut self.out);
        assert_eq!(done, accepted, "{change:?}: {:?}", self.out.events);
        if done {
            churn::apply(&mut self.desired, change);
        }
        self.seen.changes[usize::from(!done)] += 1;
        let found = plan::sorted(self.switch.config());
        assert_eq!(found, plan::sorted(self.desired.clone()), "after {change:?}");
        self.tables();
    }

    fn tables(&self) {
        let (macs, addresses) = plan::universe(self.hosts.len());
        state::tables(&self.switch, &macs, &addresses);
    }

    /// A frame into the switch, and what follows onto the links.
    fn put(&mut self, port: PortId, frame: Frame) {
        self.out.clear();
        let before = frame.duplicate();
        laws::frame(&mut self.switch, self.now, port, frame, &mut self.out);
        let trace = self.out.walked[0].clone();
        self.note(&trace, before);
        for (endpoint, mut frame) in self.carry() {
            checksum::complete(&mut frame);
            self.out.clear();
            laws::deliver(&mut self.switch, self.now, endpoint, frame, &mut self.out);
            assert!(self.carry().is_empty());
        }
    }

    /// Keeps a walk for the case of failure, and counts.
    fn note(&mut self, trace: &Trace, frame: Frame) {
        let kind = match trace.verdict {
            Verdict::Forward(_) => 0,
            Verdict::Flood(_) => 1,
            Verdict::Deliver(_) => 2,
            Verdict::Answer(_) => 3,
            Verdict::Drop(_) => 4,
        };
        self.seen.verdicts[kind] += 1;
        self.seen.super_frames += u64::from(kind == 0 && frame.offload().gso.is_some());
        let (port, now) = (trace.ingress, self.now);
        match trace.verdict {
            Verdict::Flood(_) => self.floods.judge(port, now, true),
            Verdict::Drop(DropReason::StormLimited) => self.floods.judge(port, now, false),
            // What the gateway hears comes out of the share of errors as well.
            Verdict::Answer(stack::AnswerKind::Error { .. }) | Verdict::Deliver(_) => {
                self.errors.judge(port, now, true);
            }
            Verdict::Drop(DropReason::GatewayBusy) => self.errors.judge(port, now, false),
            Verdict::Drop(_) if trace.hops().contains(&Hop::Silent(Silence::RateLimited)) => {
                self.errors.judge(port, now, false);
            }
            Verdict::Answer(_) | Verdict::Forward(_) | Verdict::Drop(_) => {}
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((trace.clone(), frame));
    }

    /// Writes what left to the hosts, in software what a wire cannot carry; gives the deliveries.
    fn carry(&mut self) -> Vec<(stack::EndpointId, Frame)> {
        let mut pieces = Vec::new();
        for transmit in std::mem::take(&mut self.out.transmits) {
            let verdict = self.out.walked[usize::try_from(transmit.walk).unwrap()].verdict;
            self.remember(&transmit.frame, transmit.port);
            let known = self.desired.ports.iter().find(|port| port.id == transmit.port);
            let mtu = usize::from(known.expect("only ports that exist are written to").mtu);
            let n = self.ports.iter().position(|port| *port == transmit.port);
            let n = n.expect("each port but the gateway's has its host");
            prepare(transmit.frame, &Capabilities::default(), &mut self.pool, &mut pieces);
            for frame in pieces.drain(..) {
                if let Verdict::Forward(_) = verdict {
                    assert!(packet_len(&frame) <= mtu, "{} bytes on the wire", packet_len(&frame));
                }
                let mut frame = frame.duplicate();
                frame.set_offload(Offload::default());
                let arriving = self.link(frame, Towards::Host);
                for (delay, frame) in arriving {
                    self.schedule(self.now.0 + delay, Event::ToHost(n, frame));
                }
            }
        }
        for (_, frame) in self.out.reclaimed.drain(..) {
            self.pool.give(frame);
        }
        std::mem::take(&mut self.out.deliveries)
    }

    fn link(&mut self, frame: Frame, towards: Towards) -> Vec<(u64, Frame)> {
        link::carry(frame, towards, self.faulty, &self.options, &mut self.draw)
    }

    /// Takes a frame that left into the hash of all.
    fn remember(&mut self, frame: &Frame, port: PortId) {
        let mut hasher = Hasher::new(self.seen.sent);
        hasher.number(self.now.0);
        hasher.number(u64::from(port.0));
        hasher.bytes(frame.bytes());
        hasher.bytes(format!("{:?}", frame.offload()).as_bytes());
        self.seen.sent = hasher.finish();
    }
}

/// Bytes of the IP packet in a frame, 0 if it is none. What pads the frame is not counted.
fn packet_len(frame: &Frame) -> usize {
    match parse(frame.window(), frame.len(), frame.offload()) {
        Ok(Packet { inner: Inner::Ip(ip), .. }) => usize::try_from(ip.total_len).unwrap(),
        Ok(_) | Err(_) => 0,
    }
}

/// A run that fails tells its last walks and the state it fell in.
#[expect(clippy::print_stderr, reason = "what a failing test has to say")]
impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("at {}; the last walks:", self.now);
        for (trace, frame) in &self.recent {
            eprintln!("walk {} from port {}", trace.number, trace.ingress.0);
            for hop in 0..trace.hops().len() {
                let mut line = String::new();
                if trace.line(hop, frame.window(), &Numbered, &mut line).is_ok() {
                    eprintln!("  {line}");
                }
            }
        }
        eprintln!("{:#?}\n{}", self.switch.config(), self.switch.dump());
    }
}

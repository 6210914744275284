//! The simulated cluster: nodes with a switch each, a host behind every port, links between them,
//! the nodes' kernels as routers, virtual time.

use std::collections::{BTreeMap, VecDeque};

use stack::input::{Frame, Offload, Outbox, PortId};
use stack::trace::Numbered;
use stack::{Instant, Trace, Verdict};
use vswitchd::port::offload::{checksum, prepare};
use vswitchd::port::{Capabilities, Pool};

use crate::draw::Draw;
use crate::frames::Maker;
use crate::host::Host;
use crate::link::{Links, Way};
use crate::node::{Doom, Fate, Node, Past};
use crate::options::Options;
use crate::plan::{Base, OUTSIDE};
use crate::services::{self, Service};
use crate::subject::remember;
use crate::tally::Tally;
use crate::underlay::{self, Towards, packet_len};
use crate::{churn, hostile, plan};

/// Events of a run at most: a world that never rests is a bug of its own.
const EVENTS_MAX: u64 = 600_000;
/// Walks told when a run fails.
const RECENT: usize = 20;

/// What happens at a moment.
enum Event {
    ToSwitch(usize, Frame),
    ToHost(usize, Frame),
    /// A packet from another node arrives at a node's kernel.
    ToKernel(u8, Frame),
    Change,
    Hostile,
    Cut,
    Narrow,
    Crash,
    Recover(usize),
}

/// The world.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) services: Vec<Service>,
    bases: Vec<Base>,
    /// Those of all nodes, and last the one outside.
    pub(crate) hosts: Vec<Host>,
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Node>,
    pub(crate) seen: Seen,
    links: Links,
    /// Until when things go wrong.
    end: u64,
    table: u64,
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    happened: u64,
    draw: Draw,
    maker: Maker,
    out: Outbox,
    pool: Pool,
    recent: VecDeque<(u8, Trace, Frame)>,
}

/// What was seen of a run: equal for equal seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// A hash over every frame that left a switch, its port and moment, in order.
    pub(crate) sent: u64,
    /// What happened to each node, its state and its chain in the end.
    pub(crate) nodes: Vec<Past>,
    /// Walks by verdict: forward, flood, deliver, answer, drop.
    pub(crate) verdicts: [u64; 6],
    /// Changes accepted and refused.
    pub(crate) changes: [u64; 2],
    /// Super-frames among those forwarded.
    pub(crate) super_frames: u64,
    /// Packets that went from node to node.
    pub(crate) crossed: u64,
    /// What was seen of connections and Services.
    pub(crate) tally: Tally,
}

/// What whoever uses the hosts' sockets has to say.
pub(crate) enum Pumped {
    /// All is done.
    Done,
    /// Wake him at that time (nanoseconds), or when something comes.
    Wake(Option<u64>),
}

impl World {
    /// A fault-free world in which nothing has happened yet.
    pub(crate) fn new(options: Options, table: u64, mut draw: Draw) -> Self {
        let services = services::draw(&options, &mut draw);
        let base = |number| Base::new(number, &options, services::configs(&services, number));
        let bases: Vec<Base> = (0..options.nodes).map(base).collect();
        let nodes = bases.iter().map(|base| Node::new(base, options, table)).collect();
        let hosts = (0..options.nodes).flat_map(|node| (0..=options.pods).map(move |n| (node, n)));
        let mut hosts: Vec<Host> = hosts
            .map(|(node, n)| Host::new(plan::id(node, n), options.offload, draw.next()))
            .collect();
        hosts.push(Host::outside(draw.next()));
        Self {
            options,
            services,
            bases,
            hosts,
            now: Instant(1),
            nodes,
            seen: Seen::default(),
            links: Links::default(),
            end: 0,
            table,
            events: BTreeMap::new(),
            scheduled: 0,
            happened: 0,
            maker: Maker::new(draw.next()),
            draw,
            out: Outbox::default(),
            pool: Pool::new(),
            recent: VecDeque::new(),
        }
    }

    /// Faults from now on for as long as the options say, with changes, crashes and hostile frames
    /// in between.
    pub(crate) fn disturb(&mut self) {
        self.links.faulty = true;
        let span = self.options.faulty * 1_000;
        self.end = self.now.0 + 1_000 * span;
        let Options { changes, hostile, partitions, narrowings, crashes, .. } = self.options;
        let kinds: [(u64, fn() -> Event); 5] = [
            (changes, || Event::Change),
            (hostile, || Event::Hostile),
            (partitions, || Event::Cut),
            (narrowings, || Event::Narrow),
            (crashes, || Event::Crash),
        ];
        for (count, event) in kinds {
            for _ in 0..count {
                let time = self.now.0 + 1_000 * self.draw.below(span);
                self.schedule(time, event());
            }
        }
    }

    /// No faults any more: everybody lives, and the configuration is as it should be, by the
    /// changes that lead there.
    pub(crate) fn heal(&mut self) {
        self.links.heal();
        for index in 0..self.nodes.len() {
            self.nodes[index].spare();
            if self.nodes[index].down {
                self.recover(index);
            }
            let (node, out) = (&mut self.nodes[index], &mut self.out);
            for n in 0..node.ports.len() {
                if !node.desired.ports.iter().any(|port| port.id == node.ports[n]) {
                    node.ports[n] = node.fresh();
                }
            }
            let target = plan::config(&self.bases[index], &node.ports);
            node.in_any_order(self.now, &target, &mut self.draw);
            assert!(node.lead_to(self.now, &target, out), "nobody dies any more");
        }
    }

    /// The hosts behind the nodes' switches.
    pub(crate) fn attached(&mut self) -> &mut [Host] {
        let outside = self.hosts.len() - 1;
        &mut self.hosts[..outside]
    }

    /// Lives on until `end` (nanoseconds) or until `pump`, called with the time whenever something
    /// happened, says that all is done. True if it did.
    pub(crate) fn live(
        &mut self,
        end: u64,
        mut pump: impl FnMut(u64, &mut [Host]) -> Pumped,
    ) -> bool {
        loop {
            self.poll();
            let Pumped::Wake(wake) = pump(self.now.0, &mut self.hosts) else { return true };
            self.hosts.iter_mut().for_each(|host| host.fresh = false);
            self.happened += 1;
            assert!(self.happened < EVENTS_MAX, "the world does not come to rest");
            if self.hosts.iter().any(|host| host.awake) {
                continue;
            }
            let events = self.events.keys().next().map(|(time, _)| *time);
            let hosts = self.hosts.iter().filter_map(|host| host.next).min();
            let next = [events, hosts, wake].into_iter().flatten().min().unwrap_or(u64::MAX);
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

    /// What was seen, the state and the journals of the end with it. `flip`: journals are damaged
    /// to see that it is noticed.
    pub(crate) fn finish(&mut self, flip: bool) -> Seen {
        for node in &mut self.nodes {
            node.tables();
            node.finish(self.now);
            node.judge(self.table + 2, flip, &mut self.draw);
            self.seen.nodes.push(node.past.clone());
        }
        std::mem::take(&mut self.seen)
    }

    fn schedule(&mut self, time: u64, event: Event) {
        // Events of one moment happen in the order they were made.
        self.scheduled += 1;
        self.events.insert((time, self.scheduled), event);
    }

    /// The host `n` of a node.
    fn host(&self, node: u8, n: usize) -> usize {
        usize::from(node) * (usize::from(self.options.pods) + 1) + n
    }

    /// Lets the hosts work that want to, and puts what they send on their links.
    fn poll(&mut self) {
        for n in 0..self.hosts.len() {
            let host = &mut self.hosts[n];
            if !host.awake && host.next.is_none_or(|next| next > self.now.0) {
                continue;
            }
            let id = host.id;
            for frame in host.poll(self.now) {
                if id == OUTSIDE {
                    self.kernel(id.node, frame, true);
                    continue;
                }
                if id.n == 0
                    && underlay::route(id.node, self.options.nodes, &frame) != Towards::Switch
                {
                    self.kernel(id.node, frame, true);
                    continue;
                }
                for (delay, frame) in self.link(frame, Way::FromHost(n), true) {
                    self.schedule(self.now.0 + delay, Event::ToSwitch(n, frame));
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToHost(n, frame) => {
                let id = self.hosts[n].id;
                let towards = underlay::route(id.node, self.options.nodes, &frame);
                let here = matches!(towards, Towards::Switch | Towards::Own);
                if id.n > 0 || here {
                    // A host without a loopback would ask for its own MAC for ever.
                    if !underlay::is_from_itself(id, &frame) {
                        self.hosts[n].receive(frame.bytes().to_vec());
                    }
                } else if let Some(frame) = underlay::forward(&frame) {
                    self.kernel(id.node, frame, false);
                }
            }
            Event::ToKernel(node, frame) => self.arrived(node, frame),
            Event::ToSwitch(n, frame) => {
                let id = self.hosts[n].id;
                let node = usize::from(id.node);
                let port = self.nodes[node].ports[usize::from(id.n)];
                self.put(node, port, frame);
            }
            Event::Hostile => self.hostile(),
            Event::Change => {
                let node = self.draw.index(self.nodes.len());
                self.change(node);
            }
            Event::Cut | Event::Narrow => {
                let end = self.now.0 + 1 + self.draw.below(self.end - self.now.0);
                let (hosts, nodes) = (self.hosts.len() - 1, self.options.nodes);
                if matches!(event, Event::Cut) {
                    self.links.cut(hosts, nodes, end, &mut self.draw);
                } else {
                    self.links.narrow(hosts, nodes, end, &mut self.draw);
                }
            }
            Event::Crash => {
                let node = self.draw.index(self.nodes.len());
                let doom = Doom::ALL[self.draw.index(Doom::ALL.len())];
                self.nodes[node].doom(doom);
                self.mourn(node);
            }
            Event::Recover(node) => {
                if self.nodes[node].down {
                    self.recover(node);
                }
            }
        }
    }

    /// Another worker follows a dead one, after a while.
    fn mourn(&mut self, node: usize) {
        if self.nodes[node].down {
            let time = self.now.0 + 1_000 * self.draw.below(50_000);
            self.schedule(time, Event::Recover(node));
        }
    }

    /// The next worker of a node: it makes up for the changes that it missed, then reads what
    /// waited at the ports.
    fn recover(&mut self, index: usize) {
        let table = self.table ^ self.happened;
        let node = &mut self.nodes[index];
        node.recover(self.now, table);
        let (mut target, mut ports) = (node.desired.clone(), node.ports.clone());
        for _ in 0..std::mem::take(&mut node.missed) {
            let fresh = node.fresh();
            let change =
                churn::good(&self.bases[index], &target, &mut ports, fresh, &mut self.draw);
            churn::apply(&mut target, &change);
        }
        node.ports = ports;
        node.lead_to(self.now, &target, &mut self.out);
        while let Some((port, frame)) = self.nodes[index].waited() {
            self.put(index, port, frame);
        }
    }

    fn hostile(&mut self) {
        let n = self.draw.index(self.hosts.len() - 1);
        let (id, hosts) = (self.hosts[n].id, self.options.pods + 1);
        let frame = hostile::frame(id, hosts, &self.services, &mut self.maker, &mut self.draw);
        let node = usize::from(id.node);
        // Some come from ports that are gone or never were.
        let known = self.nodes[node].ports[usize::from(id.n)];
        let port = if self.draw.chance(950) { known } else { PortId(1_000) };
        // Some say it again and again.
        let again = if self.draw.chance(200) { self.draw.below(12) } else { 0 };
        for _ in 0..again {
            self.put(node, port, frame.duplicate());
        }
        self.put(node, port, frame);
    }

    fn change(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.down {
            node.missed += 1;
            return;
        }
        let (number, fresh, ports) = (node.number, node.fresh(), node.ports.clone());
        let bad = self.draw.chance(250);
        let change = if bad {
            churn::bad(number, &node.desired, fresh, &mut self.draw)
        } else {
            churn::good(&self.bases[index], &node.desired, &mut node.ports, fresh, &mut self.draw)
        };
        if node.change(self.now, &change, Some(!bad), &mut self.out) == Fate::Skipped {
            node.ports = ports;
        }
        self.seen.changes[usize::from(bad)] += 1;
        self.mourn(index);
    }

    /// A frame into a switch, and what follows onto the links.
    fn put(&mut self, index: usize, port: PortId, frame: Frame) {
        if self.nodes[index].down {
            return self.nodes[index].wait(port, frame);
        }
        self.out.clear();
        let before = frame.duplicate();
        let fate = self.nodes[index].frame(self.now, port, frame, &mut self.out);
        self.note(index, before);
        if fate != Fate::Done {
            return self.mourn(index);
        }
        for (endpoint, mut frame) in self.carry(index) {
            if self.nodes[index].down {
                break;
            }
            checksum::complete(&mut frame);
            self.out.clear();
            let fate = self.nodes[index].deliver(self.now, endpoint, frame, &mut self.out);
            if fate != Fate::Done {
                break;
            }
            assert!(self.carry(index).is_empty());
        }
        self.mourn(index);
    }

    /// Keeps a walk for the case of failure, and counts.
    fn note(&mut self, index: usize, frame: Frame) {
        let Some(trace) = self.out.walked.first() else { return };
        let kind = match trace.verdict {
            Verdict::Forward(_) => 0,
            Verdict::Flood(_) => 1,
            Verdict::Deliver(_) => 2,
            Verdict::Answer(_) => 3,
            Verdict::Drop(_) => 4,
            Verdict::Hold => 5,
        };
        self.seen.verdicts[kind] += 1;
        self.seen.tally.note(trace);
        self.seen.super_frames += u64::from(kind == 0 && frame.offload().gso.is_some());
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((self.nodes[index].number, trace.clone(), frame));
    }

    /// Writes what left to the hosts, in software what a wire cannot carry; gives the deliveries.
    fn carry(&mut self, index: usize) -> Vec<(stack::EndpointId, Frame)> {
        let mut pieces = Vec::new();
        for transmit in std::mem::take(&mut self.out.transmits) {
            let verdict = self.out.walked[usize::try_from(transmit.walk).unwrap()].verdict;
            remember(&mut self.seen.sent, self.now, &transmit.frame, transmit.port);
            let node = &self.nodes[index];
            let known = node.desired.ports.iter().find(|port| port.id == transmit.port);
            let mtu = usize::from(known.expect("only ports that exist are written to").mtu);
            let n = node.ports.iter().position(|port| *port == transmit.port);
            let n = n.expect("each port but the gateway's has its host");
            let n = self.host(node.number, n);
            prepare(transmit.frame, &Capabilities::default(), &mut self.pool, &mut pieces);
            for frame in pieces.drain(..) {
                if let Verdict::Forward(_) = verdict {
                    assert!(packet_len(&frame) <= mtu, "{} bytes on the wire", packet_len(&frame));
                }
                let mut frame = frame.duplicate();
                frame.set_offload(Offload::default());
                for (delay, frame) in self.link(frame, Way::ToHost(n), false) {
                    self.schedule(self.now.0 + delay, Event::ToHost(n, frame));
                }
            }
        }
        for (_, frame) in self.out.reclaimed.drain(..) {
            self.pool.give(frame);
        }
        std::mem::take(&mut self.out.deliveries)
    }

    /// A node's kernel sends a packet to another node. `fresh`: its own sockets made it.
    fn kernel(&mut self, node: u8, frame: Frame, fresh: bool) {
        let other = match underlay::route(node, self.options.nodes, &frame) {
            Towards::Node(other) => other,
            Towards::Outside => OUTSIDE.node,
            Towards::Switch | Towards::Own | Towards::Nowhere => return,
        };
        let mut pieces = Vec::new();
        prepare(frame, &Capabilities::default(), &mut self.pool, &mut pieces);
        for mut frame in pieces {
            frame.set_offload(Offload::default());
            for (delay, frame) in self.link(frame, Way::Between(node, other), fresh) {
                self.seen.crossed += 1;
                self.schedule(self.now.0 + delay, Event::ToKernel(other, frame));
            }
        }
    }

    /// A packet came to a node's kernel from another one.
    fn arrived(&mut self, node: u8, mut frame: Frame) {
        if node == OUTSIDE.node {
            let outside = self.hosts.len() - 1;
            return self.hosts[outside].receive(frame.bytes().to_vec());
        }
        let n = self.host(node, 0);
        match underlay::route(node, self.options.nodes, &frame) {
            Towards::Own if underlay::is_diverted(&frame) => self.hand_over(node, &frame),
            Towards::Own => {
                let mut copy = frame.duplicate();
                underlay::into_own(node, &mut frame);
                self.hosts[n].receive(frame.bytes().to_vec());
                if underlay::is_copied(&copy) {
                    underlay::into_switch(node, &mut copy);
                    self.happen(Event::ToSwitch(n, copy));
                }
            }
            Towards::Switch => self.hand_over(node, &frame),
            // A turned bit in an address without a checksum over it.
            Towards::Node(_) | Towards::Outside | Towards::Nowhere => {}
        }
    }

    /// A node's kernel forwards a packet to its switch.
    fn hand_over(&mut self, node: u8, frame: &Frame) {
        if let Some(mut frame) = underlay::forward(frame) {
            underlay::into_switch(node, &mut frame);
            self.happen(Event::ToSwitch(self.host(node, 0), frame));
        }
    }

    fn link(&mut self, frame: Frame, way: Way, fresh: bool) -> Vec<(u64, Frame)> {
        self.links.carry(frame, (way, fresh), self.now.0, &self.options, &mut self.draw)
    }

    /// What a run that failed has to say: who is where, the last walks, the state it fell in.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("at {}; the last walks:\n", self.now);
        for (node, trace, frame) in &self.recent {
            let (number, port) = (trace.number, trace.ingress.0);
            text += &format!("node {node}, walk {number} from port {port}\n");
            for hop in 0..trace.hops().len() {
                text.push_str("  ");
                let _infallible = trace.line(hop, frame.window(), &Numbered, &mut text);
                text.push('\n');
            }
        }
        for node in &self.nodes {
            let down = if node.down { ", without a worker" } else { "" };
            text += &format!("node {}{down}: ports of hosts {:?}\n", node.number, node.ports);
            let switch = &node.subject.switch;
            text += &format!("{:#?}\n{}", switch.config(), switch.dump());
        }
        text
    }
}

//! Simulation: a cluster from a seed. Nodes with a switch and a journal each, real TCP/IP stacks
//! as pods, links with faults, workers that die and recover, configuration that changes under way,
//! hostile frames; Services, and clients that ask them and the outside. The laws are judged at
//! every step ([`laws`], [`nat`], [`state`], [`subject`]). When the faults end every transfer
//! completes, every client is served, every datagram is answered, and the whole journal of each
//! node replays to the same state.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `HOPSCOPE_SIM_SEEDS` | how many seeds run (default [`SEEDS`]) |
//! | `HOPSCOPE_SIM_SEED` | the first one (default 1) |
//! | `LAB_RECORDINGS` | a directory for the journals of the first seeds ([`failure`]) |
//!
//! Each seed runs twice with one table seed and once with another, and everything that was seen is
//! equal. One that fails is printed with its options and the command that reruns it, and is shrunk
//! to a small recording.
#![expect(
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    reason = "all of it is one test program"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

mod candidate;
#[path = "../golden/capture.rs"]
mod capture;
mod choice;
mod churn;
mod clients;
mod datagrams;
mod draw;
mod failure;
mod flow;
#[path = "../fuzz/frames.rs"]
mod frames;
#[path = "../golden/run.rs"]
mod golden;
mod host;
mod hostile;
mod journal;
#[path = "../laws/mod.rs"]
mod laws;
mod link;
mod nat;
mod node;
mod options;
mod plan;
mod servers;
mod services;
mod share;
mod shrink;
mod state;
mod sticky;
mod subject;
mod sum;
mod tally;
#[path = "../golden/topology.rs"]
mod topology;
mod transfer;
mod underlay;
mod world;

use clients::Client;
use datagrams::Datagrams;
use draw::Draw;
use host::Host;
use options::Options;
use servers::Servers;
use sum::Sum;
use transfer::Transfer;
use world::{Pumped, Seen, World};

/// Seeds of a run that says nothing else: what `make test` runs, in a debug build.
const SEEDS: u64 = 200;
/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;
/// After the faults a transfer has this long: retransmission time-outs have grown to a minute by
/// then.
const PATIENCE: u64 = 600 * SECOND;
/// Neighbor entries of hosts live for a minute; damaged ones too.
const NEIGHBORS: u64 = 70 * SECOND;
/// One seed of so many has its journals damaged to see that it is noticed.
const FLIP_EVERY: u64 = 4;

/// One run. The world stays in `place`, for who wants to see where it fell.
fn run(
    options: Options,
    draw: &Draw,
    (table, flip): (u64, bool),
    place: &mut Option<World>,
) -> Seen {
    let mut draw = draw.clone();
    let world = place.insert(World::new(options, table, Draw::new(draw.next())));
    let mut datagrams = Datagrams::open(world.attached());
    let mut talk = Talk::open(world, &mut draw);
    world.disturb();
    let end = options.faulty * 1_000_000;
    world.live(end, |now, hosts| Pumped::Wake(talk.pump(now, hosts)));
    world.heal();
    let done = world.live(end + PATIENCE, |now, hosts| {
        let wake = talk.pump(now, hosts);
        if talk.done(hosts) { Pumped::Done } else { Pumped::Wake(wake) }
    });
    let states = talk.describe(&world.hosts);
    assert!(done, "without faults every transfer completes: {states:#?}");
    world.seen.tally.questions = talk.asked();
    let rested = world.now.0.max(end + NEIGHBORS);
    world.live(rested, |_, hosts| {
        datagrams.pump(hosts);
        Pumped::Wake(None)
    });
    datagrams.ask(world.attached());
    // smoltcp asks for one neighbor a second.
    world.live(rested + 120 * SECOND, |_, hosts| {
        datagrams.pump(hosts);
        Pumped::Wake(None)
    });
    datagrams.judge(options.scarce);
    world.finish(flip)
}

/// Who talks over TCP, and by Services and with the outside.
struct Talk {
    transfers: Vec<Transfer>,
    servers: Servers,
    clients: Vec<Client>,
}

impl Talk {
    fn open(world: &mut World, draw: &mut Draw) -> Self {
        let options = world.options;
        let transfers = (0..options.transfers)
            .map(|number| Transfer::open(number, world.attached(), &options, draw))
            .collect();
        let (hosts, services) = (&mut world.hosts, &world.services);
        let servers = Servers::open(hosts, services);
        let clients = (0..options.clients)
            .map(|number| Client::open(number, hosts, (&options, services), draw))
            .collect();
        Self { transfers, servers, clients }
    }

    /// When it wants to be asked again.
    fn pump(&mut self, now: u64, hosts: &mut [Host]) -> Option<u64> {
        self.transfers.iter_mut().for_each(|transfer| transfer.pump(hosts));
        self.servers.pump(now, hosts);
        self.clients.iter_mut().filter_map(|client| client.pump(now, hosts)).min()
    }

    fn done(&self, hosts: &[Host]) -> bool {
        self.transfers.iter().all(|transfer| transfer.done(hosts))
            && self.clients.iter().all(Client::done)
    }

    fn asked(&self) -> u64 {
        self.clients.iter().map(|client| u64::from(client.asked())).sum()
    }

    fn describe(&self, hosts: &[Host]) -> Vec<String> {
        let transfers = self.transfers.iter().map(|transfer| transfer.describe(hosts));
        transfers.chain(self.clients.iter().map(|client| client.describe(hosts))).collect()
    }
}

/// One seed: all its runs are equal.
fn seed(seed: u64) -> (Options, Seen) {
    let mut draw = Draw::new(seed);
    let options = Options::draw(&mut draw);
    let mut place = None;
    let runs = catch_unwind(AssertUnwindSafe(|| {
        let first = run(options, &draw, (1, seed.is_multiple_of(FLIP_EVERY)), &mut place);
        failure::keep_journals(seed, place.as_ref());
        for table in [1, 0xdead_beef] {
            let again = run(options, &draw, (table, seed.is_multiple_of(FLIP_EVERY)), &mut place);
            assert_eq!(first, again, "another run with table seed {table}");
        }
        first
    }));
    match runs {
        Ok(seen) => (options, seen),
        Err(_) => panic!("{}", failure::tell(seed, options, &draw, place.as_ref())),
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number; give a whole one"))
}

#[test]
fn seeds_keep_the_laws() {
    let (first, count) = (number("HOPSCOPE_SIM_SEED", 1), number("HOPSCOPE_SIM_SEEDS", SEEDS));
    println!("HOPSCOPE_SIM_SEED={first} HOPSCOPE_SIM_SEEDS={count}");
    let (next, sum) = (AtomicU64::new(first), Mutex::new(Sum::default()));
    let end = first.saturating_add(count);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end {
                return;
            }
            let result = catch_unwind(|| seed(number));
            let Ok((_, seen)) = result else {
                // The other workers end with the seed they have.
                next.store(end, Ordering::Relaxed);
                std::panic::resume_unwind(result.unwrap_err());
            };
            sum.lock().unwrap().add(&seen);
            if number.is_multiple_of(1_000) {
                println!("seed {number}");
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            if let Err(failure) = worker.join() {
                std::panic::resume_unwind(failure);
            }
        }
    });
    let sum = sum.into_inner().unwrap();
    println!("{sum}");
    // A simulation in which nothing happens keeps every law.
    assert!(sum.counts().iter().all(|n| *n > 0) || count < SEEDS, "each kind occurs: {sum:?}");
}

#[test]
fn other_seeds_are_other_worlds() {
    assert_ne!(seed(1).1.sent, seed(2).1.sent);
}

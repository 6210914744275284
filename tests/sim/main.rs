//! Simulation: a whole node from a seed. Real TCP/IP stacks as pods, links with faults,
//! configuration that changes under way, hostile frames; the laws are judged at every step
//! ([`laws`], [`state`]), and when the faults end every transfer completes and every datagram is
//! answered.
//!
//! `HOPSCOPE_SIM_SEEDS` is how many seeds run (default [`SEEDS`]), `HOPSCOPE_SIM_SEED` the first
//! one (default 1). Each runs twice with one table seed and once with another, and everything that
//! was seen is equal. A seed that fails is printed with its options and the command that reruns it.
#![expect(
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    reason = "all of it is one test program"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};

mod churn;
mod datagrams;
mod draw;
#[path = "../fuzz/frames.rs"]
mod frames;
mod host;
mod hostile;
#[path = "../laws/mod.rs"]
mod laws;
mod link;
mod options;
mod plan;
mod share;
mod state;
mod transfer;
mod world;

use datagrams::Datagrams;
use draw::Draw;
use options::Options;
use transfer::Transfer;
use world::{Seen, World};

/// Seeds of a run that says nothing else: about 20 s in a debug build.
const SEEDS: u64 = 40;
/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;
/// After the faults a transfer has this long: retransmission time-outs have grown to a minute by
/// then.
const PATIENCE: u64 = 600 * SECOND;
/// Neighbor entries of hosts live for a minute; damaged ones too.
const NEIGHBORS: u64 = 70 * SECOND;

/// One run.
fn run(options: Options, draw: &Draw, table: u64) -> Seen {
    let mut draw = draw.clone();
    let mut world = World::new(options, table, Draw::new(draw.next()));
    let mut datagrams = Datagrams::open(&mut world.hosts);
    let mut transfers: Vec<Transfer> = (0..options.transfers)
        .map(|number| Transfer::open(number, &mut world.hosts, &options, &mut draw))
        .collect();
    world.disturb();
    let end = options.faulty * 1_000_000;
    world.live(end, |hosts| {
        transfers.iter_mut().for_each(|transfer| transfer.pump(hosts));
        false
    });
    world.heal();
    let done = world.live(end + PATIENCE, |hosts| {
        transfers.iter_mut().for_each(|transfer| transfer.pump(hosts));
        transfers.iter().all(|transfer| transfer.done(hosts))
    });
    let states: Vec<String> = transfers.iter().map(|t| t.describe(&world.hosts)).collect();
    assert!(done, "without faults every transfer completes: {states:#?}");
    let rested = world.now.0.max(end + NEIGHBORS);
    world.live(rested, |hosts| {
        datagrams.pump(hosts);
        false
    });
    datagrams.ask(&mut world.hosts);
    // smoltcp asks for one neighbor a second.
    world.live(rested + 120 * SECOND, |hosts| {
        datagrams.pump(hosts);
        false
    });
    datagrams.judge();
    world.finish()
}

/// One seed: all its runs are equal.
fn seed(seed: u64) -> (Options, Seen) {
    let mut draw = Draw::new(seed);
    let options = Options::draw(&mut draw);
    let runs = catch_unwind(AssertUnwindSafe(|| {
        let first = run(options, &draw, 1);
        for table in [1, 0xdead_beef] {
            assert_eq!(first, run(options, &draw, table), "another run with table seed {table}");
        }
        first
    }));
    match runs {
        Ok(seen) => (options, seen),
        Err(_) => panic!(
            "seed {seed} failed with {options:#?}\nrerun it: HOPSCOPE_SIM_SEED={seed} \
             HOPSCOPE_SIM_SEEDS=1 cargo test -p tests --test sim seeds_keep -- --nocapture"
        ),
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
    let (mut verdicts, mut changes, mut super_frames) = ([0_u64; 5], [0_u64; 2], 0_u64);
    for number in first..first.saturating_add(count) {
        let (_, seen) = seed(number);
        verdicts.iter_mut().zip(seen.verdicts).for_each(|(sum, count)| *sum += count);
        changes.iter_mut().zip(seen.changes).for_each(|(sum, count)| *sum += count);
        super_frames += seen.super_frames;
        if number % 1_000 == 0 {
            println!("seed {number}");
        }
    }
    let [forward, flood, deliver, answer, drop] = verdicts;
    println!("{forward} forwarded, {flood} flooded, {deliver} delivered, {answer} answered");
    println!("{drop} dropped; {} changes accepted, {} refused", changes[0], changes[1]);
    println!("{super_frames} of the forwarded were super-frames");
    // A simulation in which nothing happens keeps every law.
    let enough = verdicts.iter().chain(&changes).chain([&super_frames]).all(|count| *count > 0);
    assert!(enough || count < SEEDS, "each kind occurs: {verdicts:?} {changes:?} {super_frames}");
}

#[test]
fn other_seeds_are_other_worlds() {
    assert_ne!(seed(1).1.sent, seed(2).1.sent);
}

//! Whoever dies, is told to end, or stands still amid a hand-over: one daemon goes on, and never
//! two read the ports.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lab::Pod;
use lab::process::{Output, Process};
use vswitchd::recorder::map::Map;

use super::{PATIENCE, Stream, hand_over, kept, pid, ping, worker};
use crate::{KINDS, World, state};

fn signal(pid: u32, signal: &str) {
    assert!(try_signal(pid, signal), "kill {signal} {pid}");
}

/// Whether there was such a process.
fn try_signal(pid: u32, signal: &str) -> bool {
    let output = Command::new("kill").args([signal, &pid.to_string()]).output();
    output.unwrap().status.success()
}

#[track_caller]
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A parent's worker, once it runs its program.
fn child(parent: u32) -> u32 {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let read = || -> Option<u32> {
        let pid = fs::read_to_string(&path).ok()?.split_whitespace().next()?.parse().ok()?;
        // Until then its parent waits for it, and cannot be waited for.
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        line.contains("\0worker").then_some(pid)
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(pid) = read() {
            return pid;
        }
        assert!(Instant::now() < deadline, "{parent} has a worker");
    }
}

/// A node whose daemon is being followed by another one, which stands still before it is prepared.
struct Amid {
    world: World,
    pods: [Pod; 2],
    /// The new parent.
    next: Process,
    /// Its worker, stopped.
    next_worker: u32,
    /// The old one.
    worker: u32,
    before: [Vec<String>; 2],
}

impl Amid {
    fn new(kind: &str) -> Self {
        let mut world = World::new(kind);
        let pods = world.pods(["a", "b"]);
        let before = kept(&world);
        for _ in 0..10 {
            let worker = pid(&worker(&world), "pid");
            let mut next = world.netns.spawn(world.daemon_command().unwrap()).unwrap();
            let next_worker = child(next.id());
            signal(next_worker, "-STOP");
            std::thread::sleep(Duration::from_millis(100));
            let is_ready = next.output().stdout.contains("ready");
            if !is_ready && next.is_running().unwrap() {
                return Self { world, pods, next, next_worker, worker, before };
            }
            // It was quicker than we are.
            signal(next_worker, "-CONT");
            next.wait_ready(PATIENCE).unwrap();
            let old = world.adopt(next).unwrap();
            old.finish(PATIENCE).unwrap().success().unwrap();
        }
        panic!("no worker could be stopped in time");
    }

    /// The old daemon's parent.
    fn parent(&mut self) -> u32 {
        self.world.daemon().unwrap().id()
    }

    /// The old daemon goes on, with the worker it had or with another. What the new one has said.
    fn old_goes_on(self, worker_stays: bool) -> Output {
        let Self { world, pods, next, worker: was, before, .. } = self;
        let ended = next.finish(PATIENCE).unwrap();
        let now = worker(&world);
        assert_eq!(pid(&now, "pid") == was, worker_stays, "{now}");
        assert_eq!(now["takeover"], serde_json::Value::Null);
        works(world, pods, before);
        ended
    }

    /// The new daemon goes on; the old one has ended with that success or not.
    fn new_goes_on(self, old_ends_well: bool) -> World {
        let Self { mut world, pods, mut next, before, .. } = self;
        next.wait_ready(PATIENCE).unwrap();
        let id = next.id();
        let old = world.adopt(next).unwrap().finish(PATIENCE).unwrap();
        assert_eq!(old.code == Some(0), old_ends_well, "{old:?}");
        assert_eq!(pid(&worker(&world), "parentPid"), id);
        works_still(&world, &pods, &before);
        world
    }
}

fn works_still(world: &World, [a, b]: &[Pod; 2], before: &[Vec<String>; 2]) {
    assert_eq!(&kept(world), before);
    ping(a, b);
    let c = world.pod("later").unwrap();
    ping(&c, a);
    c.remove().unwrap();
    let problems = world.hopctl_json(&["status"]).unwrap()["problems"].clone();
    assert!(!problems.to_string().contains("cannot be taken back"), "{problems}");
}

fn works(mut world: World, pods: [Pod; 2], before: [Vec<String>; 2]) {
    works_still(&world, &pods, &before);
    // And it can still hand over.
    let command = world.daemon_command().unwrap();
    hand_over(&mut world, command);
    works_still(&world, &pods, &before);
    pods.into_iter().for_each(|pod| pod.remove().unwrap());
    assert_eq!(state::left(&world), Vec::<String>::new());
}

#[test]
fn the_new_one_dies_before_it_has_the_ports() {
    for kind in KINDS {
        // With its worker, or its worker alone; or it is told to end.
        for which in ["parent", "worker", "told"] {
            let amid = Amid::new(kind);
            let stream = Stream::start(&amid.pods[0], &amid.pods[1], 2);
            match which {
                "parent" => signal(amid.next.id(), "-KILL"),
                "worker" => signal(amid.next_worker, "-KILL"),
                _ => {
                    signal(amid.next.id(), "-TERM");
                    signal(amid.next_worker, "-CONT");
                }
            }
            println!("{kind}, {which}:");
            if kind == "veth" {
                stream.all_came();
            } else {
                stream.whole();
            }
            let ended = amid.old_goes_on(true);
            match which {
                "parent" => assert_eq!(ended.code, None),
                "worker" => {
                    assert_eq!(ended.code, Some(1), "{ended:?}");
                    assert!(ended.stderr.contains("goes on"), "{ended:?}");
                }
                _ => assert_eq!(ended.code, Some(0), "{ended:?}"),
            }
        }
    }
}

#[test]
fn the_old_one_dies_before_the_new_one_has_the_ports() {
    for which in ["parent", "worker", "told"] {
        let mut amid = Amid::new("tap");
        let parent = amid.parent();
        match which {
            // The new one goes on in its place, by its journal.
            "parent" => {
                signal(parent, "-KILL");
                amid.new_goes_on(false);
            }
            "told" => {
                signal(parent, "-TERM");
                amid.new_goes_on(true);
            }
            // The old one has another worker before the new one is of any use.
            _ => {
                signal(amid.worker, "-KILL");
                let said = amid.old_goes_on(false).stderr;
                let why = said.lines().last().unwrap_or_default();
                assert!(
                    why.contains("does not hand over: its worker is gone (killed by"),
                    "{said}"
                );
            }
        }
    }
}

#[test]
fn the_old_worker_dies_over_it() {
    for how in ["killed", "stands still"] {
        let amid = Amid::new("tap");
        // It hears of nothing from here on, and leaves the ports to nobody.
        signal(amid.worker, "-STOP");
        signal(amid.next_worker, "-CONT");
        if how == "killed" {
            std::thread::sleep(Duration::from_millis(500));
            signal(amid.worker, "-KILL");
        }
        let world = amid.new_goes_on(true);
        let now = worker(&world);
        assert_eq!(now["takeover"], serde_json::Value::Null, "by recovery, not by turn");
        assert!(world.log().contains("recovered from the journal"), "{}", world.log());
    }
}

#[test]
fn the_new_one_dies_when_it_has_the_ports() {
    // Its worker: the next one is its own.
    let mut world = World::new("tap");
    let pods = world.pods(["a", "b"]);
    let before = kept(&world);
    let command = world.daemon_command().unwrap();
    hand_over(&mut world, command);
    signal(pid(&worker(&world), "pid"), "-KILL");
    assert_eq!(worker(&world)["restarts"], 1);
    works(world, pods, before);
    // With its worker, while the old parent has not heard that it is ready.
    let mut amid = Amid::new("tap");
    let parent = amid.parent();
    signal(parent, "-STOP");
    signal(amid.next_worker, "-CONT");
    std::thread::sleep(Duration::from_millis(500));
    signal(amid.next.id(), "-KILL");
    signal(parent, "-CONT");
    eventually("the old one has a worker again", || {
        let log = amid.world.log();
        log.contains("goes on when") && log.matches(" ready node").count() == 2
    });
    amid.old_goes_on(false);
}

#[test]
fn a_journal_that_does_not_lead_to_the_state_is_said_to() {
    for _ in 0..10 {
        let amid = Amid::new("tap");
        // What came of the last record is another than it was.
        let map = Arc::new(Map::open(&amid.world.run_dir().join("journal"), true).unwrap());
        for slot in &map.header().slots {
            slot.outcomes.fetch_xor(1, Ordering::Relaxed);
        }
        signal(amid.next_worker, "-CONT");
        let world = amid.new_goes_on(true);
        let log = world.log();
        if log.contains("cannot take over") {
            assert!(log.contains("does not end with"), "{log}");
            let problems = world.hopctl_json(&["status"]).unwrap()["problems"].to_string();
            assert!(problems.contains("the switch started empty"), "{problems}");
            return;
        }
        // A frame came in between, and with it a record that ends as it should.
    }
    panic!("a frame came in between each time");
}

/// Whether the old daemon ends in the next moments, because the new one had said that it is ready.
fn ends(world: &mut World) -> bool {
    let deadline = Instant::now() + Duration::from_millis(500);
    while world.daemon().unwrap().is_running().unwrap() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn killed_at_any_moment_one_goes_on() {
    for kind in KINDS {
        let mut world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let before = kept(&world);
        // A TAP whose last descriptor goes has no carrier, and the pod's kernel forgets its
        // neighbors over that: what waits there to be resolved anew is overtaken by the sender
        // itself.
        let (to, mac) = (b.v4().unwrap().to_string(), b.mac().unwrap());
        a.ip(&["neigh", "replace", &to, "lladdr", &mac, "dev", "eth0", "nud", "permanent"])
            .unwrap();
        let stream = Stream::start(&a, &b, 10);
        for round in 0..16_u64 {
            let old = world.daemon().unwrap().id();
            let mut next = world.netns.spawn(world.daemon_command().unwrap()).unwrap();
            // It may have taken over by then. The old one ends all the same, and a start is due.
            let may_be_the_only_one = round % 4 == 0;
            let victim = match round % 4 {
                0 => next.id(),
                1 => child(next.id()),
                2 => old,
                _ => child(old),
            };
            std::thread::sleep(Duration::from_micros(round * 2_113 % 40_000));
            // One that has ended by now is a hand-over that went well.
            try_signal(victim, "-KILL");
            let is_ready = |next: &Process| next.output().stdout.contains("ready");
            eventually("one of the two goes on alone", || {
                let both = world.daemon().unwrap().is_running().unwrap();
                match (both, next.is_running().unwrap()) {
                    (true, true) => false,
                    (false, true) => is_ready(&next),
                    (true, false) => true,
                    (false, false) => {
                        let said = next.output().stderr;
                        assert!(may_be_the_only_one, "neither:\n{}\n{said}", world.log());
                        true
                    }
                }
            });
            if next.is_running().unwrap() {
                drop(world.adopt(next).unwrap());
            } else if may_be_the_only_one && ends(&mut world) {
                world.kill();
                world.start().unwrap();
            }
            world.hopctl(&["status", "--wait"]).unwrap();
            assert_eq!(kept(&world), before, "round {round}");
        }
        let (said, received) = stream.end();
        println!("{kind}: {said}");
        assert!(received.ends_with("reordered 0"), "{said}");
        works(world, [a, b], before);
    }
}

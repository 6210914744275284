//! Two processes: workers that die and are followed by the next, and what of it anybody notices.

use std::fs;
use std::time::{Duration, Instant};

use lab::cni::Attachment;
use lab::process::Process;
use lab::{Namespace, NodeSpec, Pod};
use serde_json::Value;

use crate::state::listed;
use crate::{KINDS, World, crash, state};

/// Time for a worker to be there, or to be gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// Kills of a test, unless `LAB_KILLS` says how many.
const KILLS: u64 = 10;

/// With as many kills the time that they take is judged.
const MEASURED: u64 = 100;

pub(crate) fn kills() -> u64 {
    std::env::var("LAB_KILLS").map_or(KILLS, |text| text.parse().unwrap())
}

fn status(world: &World) -> Value {
    world.hopctl_json(&["status"]).unwrap()
}

pub(crate) fn worker(world: &World) -> u32 {
    u32::try_from(status(world)["worker"]["pid"].as_u64().unwrap()).unwrap()
}

fn signal(pid: u32, signal: &str) {
    let output = std::process::Command::new("kill").args([signal, &pid.to_string()]).output();
    assert!(output.unwrap().status.success(), "kill {signal} {pid}");
}

fn is_there(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Whether all threads of a stopped process have stopped.
fn stands(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}

/// The niceness of each thread of a process.
fn niceness(pid: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stats = threads.flatten().map(|thread| fs::read_to_string(thread.path().join("stat")));
    // Behind the name come the state and fifteen fields more, then it.
    let of = |stat: String| stat.rsplit_once(") ")?.1.split(' ').nth(16).map(str::to_owned);
    stats.filter_map(Result::ok).filter_map(of).collect()
}

#[track_caller]
fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Kills the worker and waits until the next one answers.
pub(crate) fn replace(world: &World, old: u32) -> u32 {
    signal(old, "-KILL");
    let new = worker(world);
    assert_ne!(old, new);
    new
}

fn field(pid: u32, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

#[test]
fn the_worker_has_no_privileges_and_pods_are_wired_all_the_same() {
    for kind in KINDS {
        let mut world = World::new(kind);
        let parent = world.daemon().unwrap().id();
        let pid = worker(&world);
        assert_ne!(pid, parent);
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(pid, set), "0000000000000000", "{set}");
        }
        assert_eq!(field(pid, "NoNewPrivs"), "1");
        assert_eq!(field(pid, "PPid"), parent.to_string());
        assert_eq!(field(parent, "Threads"), "1");
        assert_eq!(status(&world)["worker"]["parentPid"], parent);
        let [a, b] = world.pods(["a", "b"]);
        for to in [b.v4().unwrap().to_string(), b.v6().unwrap().to_string()] {
            a.run("ping", &["-c", "1", "-W", "2", &to]).unwrap();
        }
        let outside = world.v4().unwrap().to_owned();
        a.run("ping", &["-c", "1", "-W", "2", &outside]).unwrap();
        let pid = replace(&world, pid);
        assert_eq!(field(pid, "CapEff"), "0000000000000000");
        eventually("the worker takes its turn as others do", || {
            let all = niceness(pid);
            !all.is_empty() && all.iter().all(|niceness| niceness == "0")
        });
        for pod in [&a, &b] {
            pod.check().unwrap();
        }
        world.hopctl(&["check"]).unwrap();
        let [c] = world.pods(["c"]);
        c.run("ping", &["-c", "1", "-W", "2", &a.v4().unwrap().to_string()]).unwrap();
        world.settle(&[]);
        for pod in [a, b, c] {
            pod.remove().unwrap();
        }
        assert_eq!(state::left(&world), Vec::<String>::new(), "{kind}");
    }
}

/// Resets that a namespace has sent or seen: `OutRsts` and `EstabResets` of TCP.
pub(crate) fn resets(netns: &Namespace) -> u64 {
    let text = netns.within(|| fs::read_to_string("/proc/thread-self/net/snmp").unwrap()).unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let counts = names.split(' ').zip(values.split(' '));
    let wanted = counts.filter(|(name, _)| ["OutRsts", "EstabResets"].contains(name));
    wanted.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
}

fn start(pod: &Pod, program: &str, args: &[&str]) -> Process {
    let mut command = std::process::Command::new(program);
    command.args(args);
    pod.spawn(command).unwrap()
}

fn start_lab(pod: &Pod, args: &[&str]) -> Process {
    let program = lab::binaries::lab().unwrap();
    start(pod, &program.to_string_lossy(), args)
}

/// What runs between two pods while workers die: iperf3, 200 HTTP connections and a UDP echo.
struct Load {
    iperf: Process,
    http: Process,
    echo: Process,
    _servers: [Process; 3],
}

impl Load {
    /// Starts it, for so many seconds.
    fn start(a: &Pod, b: &Pod, seconds: u64) -> Self {
        let (to, seconds) = (b.v4().unwrap().to_string(), seconds.to_string());
        let servers = [
            start(b, "iperf3", &["-s", "-p", "5201"]),
            b.serve(&["http", "--keep-alive", "--listen", "[::]:80"]).unwrap(),
            b.serve(&["udp-echo", "--listen", "[::]:7"]).unwrap(),
        ];
        let asks = format!("[{}]:80", b.v6().unwrap());
        let http = ["http-ask", "--to", &asks, "--connections", "200", "--seconds", &seconds];
        let mut http = start_lab(a, &http);
        http.wait_ready(PATIENCE).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        let iperf = ["-c", &to, "-p", "5201", "-t", &seconds, "-b", "200M"];
        let iperf = start(a, "iperf3", &iperf);
        let echoed = format!("[{}]:7", b.v6().unwrap());
        let echo = ["udp-rr", "--to", &echoed, "--size", "64", "--count", "1000000000"];
        let echo = start_lab(a, &[&echo[..], &["--again-ms", "200"]].concat());
        std::thread::sleep(Duration::from_secs(1));
        Self { iperf, http, echo, _servers: servers }
    }
}

#[test]
fn a_worker_killed_again_and_again_costs_no_connection() {
    for kind in KINDS {
        // A small ring is soon copied, and turns several times meanwhile.
        let spec = NodeSpec::numbered(1).with("port-kind", kind).with("journal-size", "16Mi");
        let mut world = World::prepare(spec);
        world.start().unwrap();
        let [a, b] = world.pods(["a", "b"]);
        // Each kill takes up to a second and a half here.
        let seconds = 10 + kills() * 3 / 2;
        let load = Load::start(&a, &b, seconds);
        let views = || {
            (
                listed(&world, "leases", &["address", "pod", "containerId"]),
                listed(&world, "ports", &["name", "id", "mac", "addresses", "up"]),
                [&a, &b].map(|pod| resets(pod)),
            )
        };
        let before = views();
        // Moments that differ, the same in every run.
        let mut draw = 0x2545_f491_4f6c_dd1d_u64;
        let mut pid = worker(&world);
        let files = world.netns.owner().dir("ring").unwrap();
        for round in 0..kills() {
            draw ^= draw << 13;
            draw ^= draw >> 7;
            draw ^= draw << 17;
            std::thread::sleep(Duration::from_millis(300 + draw % 900));
            // Stopped first, so that what it leaves can be copied before the next one goes on.
            signal(pid, "-STOP");
            eventually("the worker stands", || stands(pid));
            crash::copy(&world.run_dir(), &files);
            pid = replace(&world, pid);
            crash::recovered_as(&files, round, &world.log());
        }
        assert_eq!(views(), before, "{kind}");
        drop(load.echo);
        let told = status(&world)["worker"].clone();
        assert_eq!(told["restarts"], kills(), "{told}");
        assert_eq!(told["lastEnd"], "killed by SIGKILL", "{told}");
        let patience = Duration::from_secs(50 + seconds);
        let http = load.http.finish(patience).unwrap().success().unwrap();
        println!("{kind}: {}", http.stdout.trim().replace('\n', ", "));
        let iperf = load.iperf.finish(patience).unwrap().success().unwrap();
        println!("{kind}: {}", iperf.stdout.lines().rev().nth(2).unwrap_or_default());
        assert_eq!(views().2, before.2, "{kind}: resets");
        for pod in [&a, &b] {
            pod.check().unwrap();
        }
        world.settle(&["ConfigurationPending"]);
    }
}

#[test]
fn frames_wait_for_the_next_worker() {
    for kind in KINDS {
        let world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let before = [&a, &b].map(|pod| resets(pod));
        let seconds = 5 + kills() * 5 / 4;
        let load = (kills() >= MEASURED).then(|| Load::start(&a, &b, seconds));
        let to = format!("{}:9000", b.v4().unwrap());
        let receiver = b.serve(&["pace-receive", "--listen", "0.0.0.0:9000"]).unwrap();
        let count = (kills() * 1_000 + 3_000).to_string();
        let pace = ["pace-send", "--to", &to, "--interval-us", "1000", "--count", &count];
        let sender = start_lab(&a, &pace);
        std::thread::sleep(Duration::from_secs(1));
        let gaps = |receiver: &Process| -> Vec<u64> {
            let text = receiver.output().stdout;
            let gaps = text.lines().filter_map(|line| line.strip_prefix("gap "));
            gaps.map(|gap| gap.parse().unwrap()).collect()
        };
        let mut pid = worker(&world);
        let mut longest = Vec::new();
        for _ in 0..kills() {
            let seen = gaps(&receiver).len();
            pid = replace(&world, pid);
            std::thread::sleep(Duration::from_millis(800));
            longest.push(gaps(&receiver).into_iter().skip(seen).max().unwrap_or(0));
        }
        sender.finish(Duration::from_secs(60)).unwrap().success().unwrap();
        let received = receiver.finish(Duration::from_secs(30)).unwrap().success().unwrap();
        let last = received.stdout.lines().last().unwrap_or_default().to_owned();
        longest.sort_unstable();
        let at = |share: usize| longest[(longest.len() - 1) * share / 100];
        println!(
            "{kind}: gap at the kill of a worker, {} times: p50 {} us, p99 {} us; {last}",
            kills(),
            at(50),
            at(99)
        );
        assert!(last.contains("reordered 0"), "{kind}: {last}");
        // What the project is judged by holds for the builds for users on a quiet machine, which
        // who asks for many kills has; else the figure printed is the measure.
        assert!(kills() < MEASURED || at(99) < 100_000, "{kind}: {longest:?}");
        if let Some(load) = load {
            drop(load.echo);
            for program in [load.http, load.iperf] {
                program.finish(Duration::from_secs(50 + seconds)).unwrap().success().unwrap();
            }
        }
        assert_eq!([&a, &b].map(|pod| resets(pod)), before, "{kind}: resets");
        world.settle(&["ConfigurationPending"]);
    }
}

#[test]
fn the_parents_end_is_the_workers_and_the_next_start_takes_everything_back() {
    for kind in KINDS {
        let mut world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let before = listed(&world, "ports", &["name", "id", "mac", "addresses"]);
        for _ in 0..3 {
            let pid = worker(&world);
            world.kill();
            eventually("the worker ends with its parent", || !is_there(pid));
            world.start().unwrap();
            assert_eq!(listed(&world, "ports", &["name", "id", "mac", "addresses"]), before);
            a.run("ping", &["-c", "1", "-W", "2", &b.v4().unwrap().to_string()]).unwrap();
        }
        // Even one that is stopped, and hears of nothing.
        let pid = worker(&world);
        signal(pid, "-STOP");
        world.kill();
        eventually("a stopped worker ends with its parent", || !is_there(pid));
        world.start().unwrap();
        for pod in [a, b] {
            pod.check().unwrap();
            pod.remove().unwrap();
        }
        world.settle(&["ConfigurationPending"]);
        assert_eq!(state::left(&world), Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn requests_that_come_while_no_worker_is_there_are_answered_by_the_next() {
    for kind in KINDS {
        let world = World::new(kind);
        let pid = worker(&world);
        // Away from here on: it takes no request any more.
        signal(pid, "-STOP");
        let names: Vec<String> = (0..8).map(|n| format!("w{n}")).collect();
        let netns: Vec<Namespace> =
            names.iter().map(|name| Namespace::new(world.netns.owner(), name).unwrap()).collect();
        let attachments: Vec<Attachment> = netns
            .iter()
            .zip(&names)
            .map(|(netns, name)| Attachment {
                container_id: name.clone(),
                netns: netns.path().to_string_lossy().into_owned(),
                ifname: "eth0".to_owned(),
                pod: ("default".to_owned(), name.clone()),
            })
            .collect();
        let runtime = world.runtime();
        let configuration = runtime.configuration(lab::cni::VERSION);
        std::thread::scope(|scope| {
            let asked: Vec<_> = attachments
                .iter()
                .map(|attachment| scope.spawn(|| runtime.add(attachment, &configuration)))
                .collect();
            std::thread::sleep(Duration::from_millis(300));
            assert!(asked.iter().all(|asked| !asked.is_finished()));
            signal(pid, "-KILL");
            for asked in asked {
                asked.join().unwrap().unwrap();
            }
        });
        let listed = listed(&world, "leases", &["containerId"]);
        assert_eq!(listed.len(), 2 * attachments.len(), "{listed:?}");
        for attachment in &attachments {
            runtime.del(attachment, None).unwrap();
        }
        assert_eq!(state::left(&world), Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn broken_manifests_stop_no_worker_that_follows_another() {
    let mut world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    let to = b.v4().unwrap().to_string();
    let problems = |world: &World| -> Vec<String> {
        let problems = status(world)["problems"].as_array().unwrap().clone();
        problems.iter().map(|problem| problem["message"].as_str().unwrap().to_owned()).collect()
    };
    let broken = world.manifests().join("broken.yaml");
    let leases = listed(&world, "leases", &["address", "pod", "containerId"]);
    fs::write(&broken, "kind: [").unwrap();
    eventually("the problem is seen", || problems(&world).len() == 1);
    let told = problems(&world);
    let pid = worker(&world);
    replace(&world, pid);
    assert_eq!(problems(&world), told, "the next worker has the same problem");
    a.run("ping", &["-c", "1", "-W", "2", &to]).unwrap();
    world.kill();
    world.start().unwrap();
    assert_eq!(problems(&world), told, "and so has the next daemon");
    a.run("ping", &["-c", "1", "-W", "2", &to]).unwrap();
    assert_eq!(listed(&world, "leases", &["address", "pod", "containerId"]), leases);
    fs::remove_file(&broken).unwrap();
    eventually("the manifests are taken again", || problems(&world).is_empty());
    // Who stops it and starts it is told.
    fs::write(&broken, "kind: [").unwrap();
    eventually("the problem is seen again", || problems(&world) == told);
    world.stop().unwrap();
    let refused = world.start().unwrap_err().to_string();
    assert!(refused.contains("broken.yaml"), "{refused}");
    fs::remove_file(&broken).unwrap();
    world.start().unwrap();
    a.run("ping", &["-c", "1", "-W", "2", &to]).unwrap();
    world.settle(&["ConfigurationPending"]);
}

#[test]
fn workers_that_cannot_begin_are_tried_in_growing_pauses_until_one_can() {
    let world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    let to = b.v4().unwrap().to_string();
    let pid = worker(&world);
    let broken = world.manifests().join("broken.yaml");
    fs::write(&broken, "kind: [").unwrap();
    // Nor is there anything to go on with.
    fs::remove_file(world.run_dir().join("desired.json")).unwrap();
    let restarts = || world.log().matches("the worker has ended").count();
    let before = restarts();
    signal(pid, "-KILL");
    std::thread::sleep(Duration::from_secs(3));
    let tried = restarts() - before;
    // The one that was killed, a few at once, then after 100, 200, 400, 800 ms.
    assert!((6..=11).contains(&tried), "{tried} in three seconds\n{}", world.log());
    fs::remove_file(&broken).unwrap();
    world.hopctl(&["status", "--wait"]).unwrap();
    let told = status(&world)["worker"].clone();
    assert!(told["restarts"].as_u64().unwrap() >= 6, "{told}");
    assert_eq!(told["lastEnd"], "ended with status 1", "{told}");
    a.run("ping", &["-c", "1", "-W", "2", &to]).unwrap();
    assert_eq!(world.log().matches("ready\n").count(), 1, "said once\n{}", world.log());
    world.settle(&["ConfigurationPending"]);
}

//! The daemon is killed under traffic: the next one goes on from the journal, and comes to the
//! state that an independent replay of the same files comes to.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::process::Process;
use lab::{NodeSpec, Pod, binaries, counters};
use serde_json::Value;
use vswitchd::recorder::map::Map;
use vswitchd::recorder::recovery::{self, Purpose};

use crate::World;
use crate::disk::Disk;
use crate::state::listed;

/// What of a node must be as before: its ports with their numbers, and its leases.
fn kept(world: &World) -> (Vec<String>, Vec<String>) {
    let ports = listed(world, "ports", &["name", "id", "mac"]);
    (ports, listed(world, "leases", &["address", "pod", "containerId"]))
}

/// A field of the line that tells of the recovery.
fn field(log: &str, name: &str) -> String {
    let line = log.lines().rfind(|line| line.contains("recovered from the journal"));
    let line = line.unwrap_or_else(|| panic!("nothing was recovered:\n{log}"));
    let value = line.split(&format!("{name}=")).nth(1).unwrap_or_else(|| panic!("{name}: {line}"));
    value.split(' ').next().unwrap().trim_matches('"').to_owned()
}

/// An independent replay of files that a dead worker left comes to what the next one logged.
pub(crate) fn recovered_as(files: &Path, table_seed: u64, log: &str) {
    let map = Arc::new(Map::open(&files.join("journal"), true).unwrap());
    let state = recovery::replay(map, files, table_seed, Purpose::Compare).unwrap();
    let chain = state.how.chain;
    for (name, value) in
        [("digest", state.how.digest), ("inputs", chain.inputs()), ("outcomes", chain.outcomes())]
    {
        assert_eq!(field(log, name), format!("{value:016x}"), "{name} by {files:?}\n{log}");
    }
}

/// Journal and snapshots as the dead daemon left them.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "journal" || name.starts_with("snapshot-") {
            std::fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

#[test]
fn a_killed_daemon_goes_on_from_its_journal() {
    let mut world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    let _listener = b.serve(&["listener", "--listen", "[::]:22"]).unwrap();
    let mut session = Command::new(binaries::lab().unwrap());
    session.args(["session", "--lines", "300"]);
    session.args(["--to", &format!("[{}]:22", b.v6().unwrap())]);
    let mut session = a.spawn(session).unwrap();
    session.wait_ready(Duration::from_secs(5)).unwrap();
    let mut ping = Command::new("ping");
    ping.args(["-q", "-i", "0.002", "-s", "700", &b.v4().unwrap().to_string()]);
    let ping = a.spawn(ping).unwrap();
    let before = kept(&world);
    let place = world.netns.owner().dir("crashes").unwrap();
    for round in 0..crate::worker::kills() {
        std::thread::sleep(Duration::from_millis(150 + round * 37 % 100));
        world.kill();
        let files = place.join(round.to_string());
        copy(&world.run_dir(), &files);
        world.start().unwrap();
        recovered_as(&files, round, &world.log());
        assert_eq!(kept(&world), before, "round {round}");
        std::fs::remove_dir_all(&files).unwrap();
    }
    let status = world.hopctl_json(&["status"]).unwrap();
    let journal = &status["journal"];
    assert!(
        journal["horizon"].is_string() && journal["records"].as_u64() > Some(1_000),
        "{status}"
    );
    assert_eq!(status["problems"].as_array().map(Vec::len), Some(0), "{status}");
    session.finish(Duration::from_secs(60)).unwrap().success().unwrap();
    drop(ping);
    let ports = world.settle(&[]);
    assert!(received(&ports, "pod/default/a") > 1_000, "counters outlive their daemons");
    for pod in [a, b] {
        pod.check().unwrap();
        pod.remove().unwrap();
    }
}

fn received(ports: &[counters::Port], name: &str) -> u64 {
    ports.iter().find(|port| port.name == name).unwrap().received
}

/// Starts a daemon whose workers die of a certain frame.
fn start_that_can_die(world: &World) -> Process {
    let mut command = world.daemon_command().unwrap();
    command.env("HOPSCOPE_POISON", "deadlynightshade");
    let mut daemon = world.netns.spawn(command).unwrap();
    daemon.wait_ready(Duration::from_secs(20)).unwrap();
    daemon
}

/// Sends that frame and waits until it was set aside. No answer comes: the worker dies of it, and
/// the next one in its replay. The third leaves the record out.
fn poison(world: &World, from: &Pod, to: &str) {
    let mut poison = Command::new("ping");
    let nightshade = "646561646c796e696768747368616465";
    poison.args(["-c", "1", "-W", "1", "-s", "200", "-p", nightshade, to]);
    assert_ne!(from.spawn(poison).unwrap().finish(Duration::from_secs(5)).unwrap().code, Some(0));
    let told = || world.hopctl_json(&["status"]).ok();
    let set_aside = |status: &Value| {
        let problem = status["problems"][0]["message"].as_str();
        problem.is_some_and(|problem| problem.contains("set aside"))
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    let status = loop {
        match told().filter(set_aside) {
            Some(status) => break status,
            None => assert!(Instant::now() < deadline, "{:?}", told()),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status["worker"]["restarts"], 2, "{status}");
}

/// The pods go on, and so does the daemon: the frame is not met again.
fn goes_on(world: &World, from: &Pod, to: &str) {
    from.run("ping", &["-c", "3", "-i", "0.2", "-W", "2", to]).unwrap();
    let later = world.hopctl_json(&["status"]).unwrap();
    assert_eq!(later["worker"]["restarts"], 2, "{later}");
}

#[test]
fn a_frame_that_crashes_the_switch_is_set_aside() {
    let mut world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    world.kill();
    let daemon = start_that_can_die(&world);
    let to = b.v4().unwrap().to_string();
    poison(&world, &a, &to);
    goes_on(&world, &a, &to);
    is_a_recording(&world);
    drop(daemon);
}

#[test]
fn what_crashed_is_kept_though_there_is_no_room_for_what_led_to_it() {
    let world = World::prepare(NodeSpec::numbered(1));
    let disk = Disk::new(world.netns.owner().dir("journal").unwrap().join("disk"), "48m");
    let mut world = world;
    world.set("journal-dir", disk.path().to_string_lossy().into_owned());
    let daemon = start_that_can_die(&world);
    let [a, b] = world.pods(["a", "b"]);
    let to = b.v4().unwrap().to_string();
    a.run("ping", &["-c", "20", "-i", "0.01", "-W", "2", &to]).unwrap();
    disk.fill_but(1);
    poison(&world, &a, &to);
    goes_on(&world, &a, &to);
    let listed = world.hopctl_json(&["get", "recordings"]).unwrap();
    let [kept] = &listed["items"].as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!((&kept["rule"], &kept["packets"]), (&"quarantine".into(), &1.into()));
    let file = kept["path"].as_str().unwrap();
    let frame = lab::tshark::fields(Path::new(file), "eth", &["icmp.type", "frame.len"]).unwrap();
    assert_eq!(frame, [["8", "242"]]);
    let told = world.hopctl_json(&["replay", file]).unwrap();
    assert_eq!((&told["stopped"], &told["crash"]["record"]), (&"crash".into(), &1.into()));
    let what = told["crash"]["what"].as_str().unwrap();
    assert!(what.starts_with("frame from pod/default/a: ipv4 "), "{told}");
    let refused = world.hopctl_attempt(&["replay", file, "--until", "record=1"]).unwrap();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("no start state"), "{refused:?}");
    for pod in [a, b] {
        pod.remove().unwrap();
    }
    daemon.terminate(Duration::from_secs(20)).unwrap().success().unwrap();
}

/// What was set aside is listed, and replays up to what crashed the switch.
fn is_a_recording(world: &World) {
    let listed = world.hopctl_json(&["get", "recordings"]).unwrap();
    let [kept] = &listed["items"].as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!(kept["rule"], "quarantine");
    let event = kept["event"].as_str().unwrap();
    assert!(
        event.starts_with("crashed the switch twice: frame from pod/default/a: ipv4"),
        "{event}"
    );
    let file = kept["path"].as_str().unwrap();
    assert!(Path::new(file).starts_with(world.state_dir()), "{file}");
    let left = std::fs::read_dir(world.run_dir()).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.starts_with("quarantine")), "{left:?}");
    let told = world.hopctl_json(&["replay", file]).unwrap();
    assert!(told["equal"] == true && told["stopped"] == "crash", "{told}");
    assert!(event.contains(told["crash"]["what"].as_str().unwrap()), "{told}");
    let shown = world.hopctl(&["replay", file]).unwrap();
    let record = told["crash"]["record"].as_u64().unwrap();
    assert!(shown.contains(&format!("--until record={record} carries it out")), "{shown}");
    let moment = format!("record={record}");
    let on = world.hopctl_json(&["replay", file, "--until", &moment]).unwrap();
    assert!(on["equal"] == true && on["stopped"] == "end", "{on}");
    let walks = |told: &Value| told["walks"].as_u64().unwrap();
    assert_eq!(walks(&on), walks(&told) + 1);
    let last = lab::tshark::fields(Path::new(file), "icmp", &["icmp.type", "frame.len"]).unwrap();
    assert_eq!(last.last().unwrap(), &["8", "242"]);
}

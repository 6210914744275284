//! To another build, which cannot follow the journal: the state goes over by itself.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{Stream, TIMES, hand_over, kept, listed, ping, told, worker};
use crate::{KINDS, World};

/// The daemon's command, as if it were of another build.
fn of_build(world: &World, build: &str) -> Command {
    let mut command = world.daemon_command().unwrap();
    command.env("HOPSCOPE_BUILD_NAME", build);
    command
}

/// What a port has counted.
fn counted(world: &World, port: &str, what: &str) -> u64 {
    let list = world.hopctl_json(&["get", "counters"]).unwrap();
    let items = list["items"].as_array().unwrap();
    let item = items.iter().find(|item| item["port"] == port).unwrap();
    item[what].as_u64().unwrap()
}

#[test]
fn another_build_takes_over_without_a_loss_and_counts_on() {
    if std::env::var("HOPSCOPE_LAB_RATE").is_ok() {
        println!("builds for users have one name: nothing is tested here");
        return;
    }
    for kind in KINDS {
        let mut world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let before = kept(&world);
        let stream = Stream::start(&a, &b, u64::from(TIMES) / 4 + 2);
        let mut blind = Vec::new();
        for time in 0..TIMES / 2 {
            std::thread::sleep(Duration::from_millis(200));
            let sent = counted(&world, "pod/default/b", "transmitted");
            let command = of_build(&world, &format!("other-{time}"));
            blind.push(hand_over(&mut world, command));
            assert!(world.log().contains("follow=false"), "{}", world.log());
            assert!(counted(&world, "pod/default/b", "transmitted") >= sent);
        }
        println!("{kind}, {} other builds, {}:", TIMES / 2, told(blind));
        stream.whole();
        assert_eq!(kept(&world), before);
        let status = world.hopctl_json(&["status"]).unwrap();
        assert_eq!(status["problems"].as_array().map(Vec::len), Some(0), "{status}");
        // The journal began anew, and what is in it replays: a worker comes back from it alone.
        let [c] = world.pods(["c"]);
        ping(&c, &b);
        let received = counted(&world, "pod/default/c", "received");
        let pid = worker(&world)["pid"].to_string();
        let killed = Command::new("kill").args(["-KILL", &pid]).status().unwrap();
        assert!(killed.success());
        assert_eq!(worker(&world)["restarts"], 1);
        assert!(counted(&world, "pod/default/c", "received") >= received);
        let dropped = listed(&world, "drops", &["reason"]);
        assert!(!dropped.iter().any(|line| line.contains("Configuration")), "{dropped:?}");
        let problems = world.hopctl_json(&["status"]).unwrap()["problems"].clone();
        assert_eq!(problems, Value::Array(Vec::new()));
        let file = world.file("after.pcapng");
        let path = file.to_string_lossy().into_owned();
        world.hopctl(&["record", "-w", &path]).unwrap();
        let replayed = world.hopctl(&["replay", &path]).unwrap();
        println!("{}", replayed.trim());
        world.settle(&[]);
    }
}

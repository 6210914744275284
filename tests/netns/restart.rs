//! The daemon goes and comes: pods stay, connections live, leases are the same, and a second daemon
//! on the same run-dir is refused.

use std::process::Command;
use std::time::Duration;

use lab::binaries;

use crate::{KINDS, World};

#[test]
fn pods_and_connections_outlive_the_daemon() {
    for kind in KINDS {
        let mut world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let _listener = b.serve(&["listener", "--listen", "[::]:22"]).unwrap();
        let to = format!("{}:22", b.v4().unwrap());
        let mut command = Command::new(binaries::lab().unwrap());
        command.args(["session", "--to", &to, "--lines", "200"]);
        let mut session = a.spawn(command).unwrap();
        session.wait_ready(Duration::from_secs(5)).unwrap();
        let leases = world.hopctl_json(&["get", "leases"]).unwrap()["items"].clone();
        let addresses = |list: &serde_json::Value| -> Vec<String> {
            let items = list.as_array().unwrap();
            items.iter().map(|item| item["address"].to_string()).collect()
        };
        world.stop().unwrap();
        world.start().unwrap();
        world.kill();
        world.start().unwrap();
        session.finish(Duration::from_secs(30)).unwrap().success().unwrap();
        let now = world.hopctl_json(&["get", "leases"]).unwrap()["items"].clone();
        assert_eq!(addresses(&now), addresses(&leases));
        for pod in [&a, &b] {
            pod.check().unwrap();
        }
        let [c] = world.pods(["c"]);
        c.run("ping", &["-c", "1", "-W", "2", &a.v6().unwrap().to_string()]).unwrap();
        // What pods sent while nobody was there is read before desired state is whole.
        world.settle(&["ConfigurationPending"]);
    }
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused() {
    let world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    let second = world.netns.spawn(world.daemon_command().unwrap()).unwrap();
    let output = second.finish(Duration::from_secs(10)).unwrap();
    assert!(output.code.is_some_and(|code| code != 0), "{output:?}");
    assert!(output.stderr.contains("run-dir"), "{}", output.stderr);
    a.run("ping", &["-c", "1", "-W", "2", &b.v4().unwrap().to_string()]).unwrap();
    world.settle(&[]);
}

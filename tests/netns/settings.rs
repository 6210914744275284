//! Bad input: one clear sentence that names the field, an exit code other than 0, and nothing
//! changed. A broken manifest keeps the last good state.

use std::fs;
use std::time::{Duration, Instant};

use lab::NodeSpec;

use crate::World;

/// Starts a daemon that must refuse: its message names `field`, and the node is as it was.
fn refused(spec: NodeSpec, field: &str) {
    let world = World::prepare(spec);
    let state = || {
        let show = |args: &[&str]| world.netns.ip(args).unwrap();
        (show(&["rule"]), show(&["-6", "rule"]), world.netns.interfaces().unwrap())
    };
    let before = state();
    let daemon = world.netns.spawn(world.daemon_command().unwrap()).unwrap();
    let output = daemon.finish(Duration::from_secs(10)).unwrap();
    assert!(output.code.is_some_and(|code| code != 0), "{field}: {output:?}");
    let said = output.stderr.to_lowercase();
    assert!(said.contains(&field.to_lowercase()), "{field}: {said}");
    assert!(!output.stdout.lines().any(|line| line == "ready"), "{}", output.stdout);
    assert_eq!(state(), before, "{field}");
}

#[test]
fn bad_settings_are_refused_by_name() {
    let spec = || NodeSpec::numbered(1);
    refused(spec().with("port-knid", "tap"), "port-knid");
    refused(spec().with("port-kind", "macvtap"), "port-kind");
    refused(spec().with("uplink", "eth7"), "eth7");
    refused(spec().with("mtu", 100), "mtu");
    let mut without = spec();
    without.object.pod_cidrs.clear();
    refused(without, "podCIDR");
    let mut overlapping = spec();
    overlapping.object.pod_cidrs = vec!["192.0.2.0/24".to_owned()];
    refused(overlapping, "192.0.2");
}

#[test]
fn a_broken_manifest_keeps_the_last_good_state() {
    let world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    let path = world.manifests().join("broken.yaml");
    fs::write(&path, "apiVersion: v1\nkind: Pod\nmetadata:\n  name: [\n").unwrap();
    let status = || world.hopctl_attempt(&["status"]).unwrap().stdout;
    let wait = |wanted: &dyn Fn(&str) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !wanted(&status()) {
            assert!(Instant::now() < deadline, "{}", status());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait(&|text| text.contains("broken.yaml"));
    a.run("ping", &["-c", "1", "-W", "2", &b.v4().unwrap().to_string()]).unwrap();
    fs::remove_file(path).unwrap();
    wait(&|text| !text.contains("broken.yaml"));
    world.settle(&[]);
}

//! Starts that must be refused: one sentence that names the field and the mend, an exit code other
//! than 0, and nothing changed in the node.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::process::Output;
use lab::{Node, NodeSpec, manifest};

use crate::{World, state};

/// Runs a daemon that must refuse to start: it says one sentence with all these parts, and the
/// node's kernel and its files are as before.
fn refused(node: &Node, command: Command, parts: &[&str]) {
    let shown = || (state::kernel(&node.netns), state::all_files(node));
    let before = shown();
    let output = node.netns.spawn(command).unwrap().finish(Duration::from_secs(10)).unwrap();
    one_sentence(&output, parts);
    let after = shown();
    state::same(&before.0, &after.0, &format!("{parts:?}"));
    state::same(&before.1, &after.1, &format!("{parts:?}"));
}

fn one_sentence(output: &Output, parts: &[&str]) {
    let said = &output.stderr;
    assert!(output.code.is_some_and(|code| code != 0), "{parts:?}: {output:?}");
    assert_eq!(output.stdout, "", "{parts:?}");
    // A wrong flag is clap's to explain, with a line of usage behind.
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 1, "{parts:?}: {said}");
    assert!(lines[0].starts_with("vswitchd: "), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// A node whose daemon is never started as it should be.
fn idle(change: impl FnOnce(&mut NodeSpec)) -> World {
    let mut spec = NodeSpec::numbered(1);
    change(&mut spec);
    World::prepare(spec)
}

/// The settings' key and value, and what the sentence says.
fn refused_setting(key: &str, value: &str, parts: &[&str]) {
    let world = idle(|spec| {
        spec.settings.insert(key.to_owned(), value.into());
    });
    refused(&world, world.daemon_command().unwrap(), parts);
}

#[test]
fn wrong_settings() {
    refused_setting("port-knid", "tap", &["port-knid", "port-kind"]);
    refused_setting("port-kind", "macvtap", &["port-kind", "veth", "macvtap"]);
    refused_setting("mtu", "100", &["mtu", "1280", "100"]);
    refused_setting("uplink", "eth7", &["uplink", "eth7", "up0"]);
    refused_setting("host-port", "a/b", &["host-port", "a/b"]);
    refused_setting("manifests", "/nonexistent", &["manifests", "/nonexistent"]);
    let world = idle(|_| {});
    let mut command = world.daemon_command().unwrap();
    command.args(["--config", "/nonexistent.yaml"]);
    let program = command.get_program().to_owned();
    let mut command = Command::new(program);
    command.args(["--config", "/nonexistent.yaml"]);
    refused(&world, command, &["--config", "/nonexistent.yaml"]);
}

#[test]
fn the_flag_wins_over_the_environment_and_that_over_the_file() {
    // Each value is refused, and the sentence says which one was taken.
    for (key, values) in [
        ("host-port", ["flag/1", "env/1", "file/1"]),
        ("uplink", ["flag1", "env1", "file1"]),
        ("node-name", ["flag-node", "env-node", "file-node"]),
        ("manifests", ["/flag/m", "/env/m", "/file/m"]),
        ("run-dir", ["/proc/flag", "/proc/env", "/proc/file"]),
        ("state-dir", ["/proc/flag", "/proc/env", "/proc/file"]),
        ("node-addresses", ["198.51.100.1", "198.51.100.2", "198.51.100.3"]),
    ] {
        let [flag, variable, file] = values;
        let mut world = idle(|_| {});
        let in_file = if key == "node-addresses" {
            serde_json::json!([file])
        } else {
            serde_json::json!(file)
        };
        world.set(key, in_file);
        for given in 0..3 {
            let mut command = world.daemon_command().unwrap();
            if given > 0 {
                let name = format!("HOPSCOPE_{}", key.to_uppercase().replace('-', "_"));
                command.env(name, variable);
            }
            if given > 1 {
                command.arg(format!("--{key}")).arg(flag);
            }
            refused(&world, command, &[[file, variable, flag][given]]);
        }
    }
    let mut world = idle(|_| {});
    let mut command = world.daemon_command().unwrap();
    command.env("HOPSCOPE_MTUU", "1400");
    refused(&world, command, &["HOPSCOPE_MTUU", "HOPSCOPE_MTU,"]);
    world.set("mtu", 1300);
    for (variable, flag, taken) in
        [(None, None, "1300"), (Some("1310"), None, "1310"), (Some("1310"), Some("1320"), "1320")]
    {
        let mut command = world.daemon_command().unwrap();
        command.envs(variable.map(|bytes| ("HOPSCOPE_MTU", bytes)));
        command.args(flag.map(|bytes| ["--mtu", bytes]).into_iter().flatten());
        let mut daemon = world.netns.spawn(command).unwrap();
        daemon.wait_ready(Duration::from_secs(10)).unwrap();
        let shown = world.netns.ip(&["link", "show", "hop0"]).unwrap();
        assert!(shown.contains(&format!("mtu {taken} ")), "{taken}: {shown}");
        daemon.terminate(Duration::from_secs(10)).unwrap().success().unwrap();
    }
}

#[test]
fn nodes_that_cannot_be() {
    let ranges = |ranges: &[&str], parts: &[&str]| {
        let world = idle(|spec| {
            spec.object.pod_cidrs = ranges.iter().map(|range| (*range).to_owned()).collect();
        });
        refused(&world, world.daemon_command().unwrap(), parts);
    };
    ranges(&[], &["Node node1", "spec.podCIDRs", "10.244.1.0/24"]);
    ranges(&["10.244.1.0/24", "10.244.1.128/25"], &["spec.podCIDRs", "10.244.1.128/25", "IPv4"]);
    ranges(&["10.244.1.0/31"], &["spec.podCIDRs", "10.244.1.0/31"]);
    ranges(&["10.244.1.0/33"], &["spec.podCIDRs", "10.244.1.0/33"]);
    ranges(&["192.0.2.0/24"], &["192.0.2.0/24", "another range"]);
    // Without the node's own address, but on its uplink nevertheless.
    ranges(&["192.0.2.128/25"], &["192.0.2.128/25", "up0", "another range"]);
    ranges(&["2001:db8::/32"], &["2001:db8::/32", "another range"]);
    ranges(&["127.0.0.0/24"], &["Node node1", "spec.podCIDRs", "127.0.0.0/24", "loopback"]);
    ranges(&["169.254.0.0/16"], &["spec.podCIDRs", "169.254.0.0/16", "link-local"]);
    ranges(&["10.244.1.0/24", "fe80::/64"], &["spec.podCIDRs", "fe80::/64", "link-local"]);
    let world = idle(|spec| spec.object.name = "node1".to_owned());
    let mut command = world.daemon_command().unwrap();
    command.args(["--node-name", "nobody"]);
    refused(&world, command, &["nobody", "node-name"]);
}

#[test]
fn nodes_that_share_a_range() {
    let world = idle(|_| {});
    let other = "apiVersion: v1\nkind: Node\nmetadata: {name: other}\n\
                 spec: {podCIDRs: [10.244.0.0/16]}\n";
    fs::write(world.manifests().join("other.yaml"), other).unwrap();
    refused(
        &world,
        world.daemon_command().unwrap(),
        &["node1", "spec.podCIDRs", "10.244.1.0/24", "10.244.0.0/16", "Node other"],
    );
}

#[test]
fn a_manifest_that_does_not_parse() {
    let world = idle(|_| {});
    fs::write(world.manifests().join("bad.yaml"), "kind: Node\nspec:\n  podCIDRs: x\n").unwrap();
    refused(&world, world.daemon_command().unwrap(), &["bad.yaml", "line 3", "podCIDRs"]);
}

/// The daemon's command, run by another program.
fn by(world: &World, program: &str, args: &[&str]) -> Command {
    let daemon = world.daemon_command().unwrap();
    let mut command = Command::new(program);
    command.args(args).arg(daemon.get_program()).args(daemon.get_args());
    command
}

#[test]
fn without_the_device_or_the_right() {
    let world = idle(|_| {});
    let hide = "mount -t tmpfs none /dev/net && exec \"$@\"";
    let hidden = by(&world, "unshare", &["--mount", "sh", "-c", hide, "sh"]);
    refused(&world, hidden, &["/dev/net/tun", "modprobe tun"]);
    let nobody = by(&world, "setpriv", &["--reuid=65534", "--regid=65534", "--clear-groups"]);
    refused(&world, nobody, &["root"]);
    let bare = by(&world, "setpriv", &["--bounding-set=-all", "--inh-caps=-all"]);
    refused(&world, bare, &["NET_ADMIN", "root"]);
}

#[test]
fn directories_others_may_write_to() {
    for (key, dir) in [("state-dir", "state"), ("run-dir", "run")] {
        let world = idle(|_| {});
        let path = world.state_dir().with_file_name(dir);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        refused(&world, world.daemon_command().unwrap(), &[key, "by others"]);
    }
    refused_setting("state-dir", "/proc/nowhere", &["state-dir", "/proc/nowhere"]);
    refused_setting("run-dir", "/proc/nowhere", &["run-dir", "/proc/nowhere"]);
}

#[test]
fn interfaces_of_strangers() {
    let world = idle(|_| {});
    world.netns.ip(&["link", "add", "hop0", "type", "bridge"]).unwrap();
    refused(&world, world.daemon_command().unwrap(), &["hop0", "bridge", "host-port"]);
    world.netns.ip(&["link", "del", "hop0"]).unwrap();
    let mut command = world.daemon_command().unwrap();
    command.args(["--node-addresses", "198.51.100.7"]);
    refused(&world, command, &["node-addresses", "198.51.100.7"]);
}

#[test]
fn sockets_that_cannot_be_made() {
    // Found after the locks: what was made until then goes again.
    for socket in ["admin.sock", "cni.sock"] {
        let world = idle(|_| {});
        fs::create_dir_all(world.run_dir().join(socket)).unwrap();
        fs::set_permissions(world.run_dir(), fs::Permissions::from_mode(0o700)).unwrap();
        refused(&world, world.daemon_command().unwrap(), &[socket]);
    }
}

#[test]
fn routes_of_strangers() {
    let mut world = idle(|_| {});
    for prefix in ["10.244.1.0/24", "10.244.1.128/25"] {
        world.netns.ip(&["route", "add", prefix, "via", "192.0.2.1"]).unwrap();
        refused(&world, world.daemon_command().unwrap(), &[prefix, "up0", "another range"]);
        world.netns.ip(&["route", "del", prefix]).unwrap();
    }
    // A connected subnet around the range: its hosts are neighbors there.
    world.netns.ip(&["addr", "add", "10.9.9.9/8", "dev", "up0"]).unwrap();
    refused(&world, world.daemon_command().unwrap(), &["10.0.0.0/8", "up0", "another range"]);
    world.netns.ip(&["addr", "del", "10.9.9.9/8", "dev", "up0"]).unwrap();
    // A wider route by a gateway is no such thing: the longest prefix wins.
    world.netns.ip(&["route", "add", "10.0.0.0/8", "via", "192.0.2.1"]).unwrap();
    world.start().unwrap();
    let [a] = world.pods(["a"]);
    world.netns.run("ping", &["-c", "1", "-W", "2", &a.v4().unwrap().to_string()]).unwrap();
    let checked = world.hopctl(&["check"]).unwrap();
    assert!(checked.contains("no overlap"), "{checked}");
    world.settle(&[]);
}

#[test]
fn a_second_daemon_on_the_same_run_dir() {
    let mut world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    let left = state::left(&world);
    // By default it takes over; that can be ruled out in each of the three ways.
    let as_before = ["run-dir", "another vswitchd", "stop"];
    let mut by_flag = world.daemon_command().unwrap();
    by_flag.arg("--no-takeover");
    refused(&world, by_flag, &as_before);
    let mut by_variable = world.daemon_command().unwrap();
    by_variable.env("HOPSCOPE_NO_TAKEOVER", "true");
    refused(&world, by_variable, &as_before);
    world.set("no-takeover", true);
    refused(&world, world.daemon_command().unwrap(), &as_before);
    world.set("no-takeover", false);
    assert_eq!(state::left(&world), left);
    // What a hand-over cannot change.
    for (key, value) in [
        ("host-port", "hop9"),
        ("state-dir", "/var/lib/elsewhere"),
        ("journal-dir", "/dev/shm/elsewhere"),
    ] {
        let mut command = world.daemon_command().unwrap();
        command.arg(format!("--{key}")).arg(value);
        refused(&world, command, &["run-dir", "does not hand over", key, value]);
    }
    assert_eq!(state::left(&world), left);
    // Nor on the same state-dir: both would give out its addresses.
    let mut command = world.daemon_command().unwrap();
    let elsewhere = world.run_dir().with_file_name("run2");
    command.arg("--run-dir").arg(&elsewhere);
    refused(&world, command, &["state-dir", "another vswitchd", "stop"]);
    assert!(!elsewhere.exists());
    a.run("ping", &["-c", "1", "-W", "2", &b.v4().unwrap().to_string()]).unwrap();
    let [c] = world.pods(["c"]);
    c.check().unwrap();
    world.settle(&[]);
}

/// Waits until `hopctl status` says something, or no longer.
fn status(world: &World, wanted: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let said = world.hopctl_attempt(&["status"]).unwrap().stdout;
        if wanted(&said) {
            return said;
        }
        assert!(Instant::now() < deadline, "{said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_the_node_cannot_do_yet_is_done_as_soon_as_it_can() {
    const LATER: &str = "192.0.2.77";
    let world = World::new("tap");
    let [a] = world.pods(["a"]);
    let mut node = NodeSpec::numbered(1).object;
    // The first of them is the source of routes to pods.
    node.addresses.insert(0, LATER.to_owned());
    let ping = || {
        let args = ["-c", "3", "-i", "0.1", "-W", "2", &a.v4().unwrap().to_string()];
        world.netns.run("ping", &args).unwrap()
    };
    manifest::write(&world.manifests(), "node-node1", &node.to_json()).unwrap();
    status(&world, |said| said.contains("no interface of the node has 192.0.2.77"));
    // What was in force is, and goes on: nothing was tried that could only fail.
    ping();
    let reloads = world.log().matches("is not taken").count();
    world.netns.ip(&["address", "add", &format!("{LATER}/32"), "dev", "lo"]).unwrap();
    let began = Instant::now();
    while !world.hopctl(&["get", "ports"]).unwrap().contains(LATER) {
        assert!(began.elapsed() < Duration::from_secs(25), "{}", world.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!((world.log().matches("is not taken").count(), reloads), (1, 1), "said once");
    status(&world, |said| !said.contains("no interface"));
    ping();
    world.settle(&[]);
}

#[test]
fn a_bad_reload_keeps_the_last_good_state() {
    let world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    let own = fs::read_dir(world.manifests()).unwrap().flatten().next().unwrap().path();
    let later = "apiVersion: v1\nkind: Service\nmetadata: {name: later}\n";
    fs::write(world.manifests().join("later.yaml"), later).unwrap();
    status(&world, |said| said.contains("Service"));
    let good = fs::read_to_string(&own).unwrap();
    let before = state::kernel(&world.netns);
    let leases = state::left(&world);
    let foreign = good.replace("10.244.1.0/24", "192.0.2.128/25");
    let stranger = good.replace("10.244.1.0/24", "198.51.100.0/24");
    // This one is found after the switch has it: the way back is tried as well.
    let homeless = good.replace("192.0.2.11", "198.51.100.7");
    assert!(foreign != good && stranger != good && homeless != good);
    world.netns.ip(&["route", "add", "198.51.100.0/24", "via", "192.0.2.1"]).unwrap();
    let before_stranger = state::kernel(&world.netns);
    world.netns.ip(&["route", "del", "198.51.100.0/24"]).unwrap();
    let bad: [(&str, &[&str]); 6] = [
        ("kind: Node\nmetadata: {name: node1\n", &["line"]),
        ("kind: Node\nmetadata: {name: node1}\nspec: {}\n", &["Node node1", "spec.podCIDRs"]),
        ("kind: Node\nmetadata: {name: node7}\n", &["node1", "no Node object"]),
        (&foreign, &["192.0.2.128/25", "up0"]),
        (&stranger, &["198.51.100.0/24", "up0"]),
        (&homeless, &["198.51.100.7", "node-addresses", "status.addresses"]),
    ];
    for (text, parts) in bad {
        let stranger_too = text == stranger;
        if stranger_too {
            world.netns.ip(&["route", "add", "198.51.100.0/24", "via", "192.0.2.1"]).unwrap();
        }
        let expected = if stranger_too { &before_stranger } else { &before };
        fs::write(&own, text).unwrap();
        let said = status(&world, |said| parts.iter().all(|part| said.contains(part)));
        assert!(said.contains("Service"), "what of before is refused is still told: {said}");
        state::same(expected, &state::kernel(&world.netns), &said);
        assert_eq!(state::left(&world), leases);
        for (from, to) in [(&a, b.v4().unwrap().to_string()), (&b, a.v6().unwrap().to_string())] {
            from.run("ping", &["-c", "1", "-W", "2", &to]).unwrap();
        }
        // The node's own port works as well, and pods still come and go.
        world.netns.run("ping", &["-c", "1", "-W", "2", &a.v4().unwrap().to_string()]).unwrap();
        let pod = world.pod("meanwhile").unwrap();
        assert!(pod.v4().unwrap().to_string().starts_with("10.244.1."));
        if stranger_too {
            world.netns.ip(&["route", "del", "198.51.100.0/24"]).unwrap();
        }
        fs::write(&own, &good).unwrap();
        status(&world, |said| !parts.iter().all(|part| said.contains(part)));
    }
    world.settle(&[]);
}

#[test]
fn a_directory_of_manifests_that_is_replaced_is_taken_in() {
    let world = World::new("tap");
    let manifests = world.manifests();
    let next = manifests.with_file_name("next");
    fs::create_dir(&next).unwrap();
    for entry in fs::read_dir(&manifests).unwrap().flatten() {
        fs::copy(entry.path(), next.join(entry.file_name())).unwrap();
    }
    fs::rename(&manifests, manifests.with_file_name("before")).unwrap();
    status(&world, |said| said.contains("manifests") && said.contains("problem"));
    fs::rename(&next, &manifests).unwrap();
    status(&world, |said| !said.contains("problem"));
    fs::write(manifests.join("later.yaml"), "kind: Service\n").unwrap();
    status(&world, |said| said.contains("Service"));
    let [a, b] = world.pods(["a", "b"]);
    a.run("ping", &["-c", "1", "-W", "2", &b.v4().unwrap().to_string()]).unwrap();
}

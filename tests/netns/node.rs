//! The node and its pods: both see the true addresses, and the node's own sockets never notice the
//! rules.
//!
//! ```text
//!   lan ── up0 [ node: sockets, hop0 ] ── vswitchd ── eth0 pod a
//! ```

use std::process::Command;
use std::time::{Duration, Instant};

use lab::binaries;
use lab::pod::{lab_run, lab_serve};
use lab::process::Process;
use lab::{Namespace, NodeSpec};

use crate::foretell::{How, passes};
use crate::{KINDS, World};

/// The clients that a server has seen.
pub(crate) fn peers(server: &Process) -> Vec<String> {
    let output = server.output();
    output.stdout.lines().filter_map(|line| line.strip_prefix("peer ").map(str::to_owned)).collect()
}

/// Talks UDP and TCP from one namespace to addresses of another; servers see exactly these clients.
fn true_addresses(client: &Namespace, server: &Namespace, pairs: &[(String, String)]) {
    let udp = lab_serve(server, &["udp-echo", "--listen", "[::]:7002"]).unwrap();
    let tcp = lab_serve(server, &["listener", "--listen", "[::]:7003"]).unwrap();
    for (address, _) in pairs {
        let address = address.parse().unwrap();
        let at = |l4_port| std::net::SocketAddr::new(address, l4_port).to_string();
        lab_run(client, &["udp-rr", "--to", &at(7002), "--size", "1000", "--count", "3"]).unwrap();
        lab_run(client, &["session", "--to", &at(7003), "--lines", "3"]).unwrap();
    }
    let expected: Vec<String> = pairs.iter().map(|(_, source)| source.clone()).collect();
    assert_eq!(peers(&udp), expected, "UDP: sources as the server saw them");
    assert_eq!(peers(&tcp), expected, "TCP: sources as the server saw them");
}

#[test]
fn node_and_pods_see_each_others_true_addresses() {
    for kind in KINDS {
        let world = World::new(kind);
        let [pod] = world.pods(["a"]);
        let node4 = world.v4().unwrap().to_owned();
        let node6 = world.v6().unwrap().to_owned();
        let pod4 = pod.v4().unwrap().to_string();
        let pod6 = pod.v6().unwrap().to_string();
        let to_pod = [(pod4.clone(), node4.clone()), (pod6.clone(), node6.clone())];
        true_addresses(&world.netns, &pod, &to_pod);
        true_addresses(&pod, &world.netns, &[(node4, pod4), (node6, pod6)]);
        let (pod, node) = (("default/a", &*pod), ("node", &world.netns));
        let mut questions = Vec::new();
        for six in [false, true] {
            for how in [How::Udp(7002), How::Tcp(7003)] {
                questions.push(passes(node, "default/a", (how, six), "forward to pod/default/a"));
                questions.push(passes(pod, "node", (how, six), "forward to host"));
            }
        }
        world.foretell(&questions);
        world.settle(&[]);
    }
}

/// Starts a session of five seconds with a listener and waits for its banner.
pub(crate) fn session(from: &Namespace, to: &str) -> Process {
    let mut command = Command::new(binaries::lab().unwrap());
    command.args(["session", "--to", to, "--lines", "250"]);
    let mut process = from.spawn(command).unwrap();
    process.wait_ready(Duration::from_secs(5)).unwrap();
    process
}

#[test]
fn listeners_on_the_nodes_own_address_are_untouched() {
    let mut world = World::prepare(NodeSpec::numbered(1));
    // One like SSH, one in the range of node ports, one in that of SNAT.
    let l4_ports = ["22", "31000", "61234"];
    let _listeners = l4_ports.map(|l4_port| {
        let listen = format!("[::]:{l4_port}");
        lab_serve(&world.netns, &["listener", "--listen", &listen]).unwrap()
    });
    let rules = world.netns.ip(&["rule"]).unwrap();
    let rules6 = world.netns.ip(&["-6", "rule"]).unwrap();
    let before: Vec<Process> = l4_ports
        .iter()
        .map(|l4_port| session(&world.lan().netns, &format!("192.0.2.11:{l4_port}")))
        .collect();
    world.start().unwrap();
    let [pod] = world.pods(["a"]);
    for l4_port in l4_ports {
        for address in ["192.0.2.11", "[2001:db8::11]"] {
            let to = format!("{address}:{l4_port}");
            for from in [&world.lan().netns, &world.netns, &*pod] {
                lab_run(from, &["session", "--to", &to, "--lines", "2"]).unwrap();
            }
        }
    }
    world.kill();
    let away = "192.0.2.11:22";
    lab_run(&world.lan().netns, &["session", "--to", away, "--lines", "2"]).unwrap();
    world.start().unwrap();
    for session in before {
        session.finish(Duration::from_secs(20)).unwrap().success().unwrap();
    }
    world.settle(&[]);
    pod.remove().unwrap();
    world.stop().unwrap();
    world.hopctl(&["node", "cleanup"]).unwrap();
    assert_eq!(world.netns.ip(&["rule"]).unwrap(), rules);
    assert_eq!(world.netns.ip(&["-6", "rule"]).unwrap(), rules6);
    assert_eq!(world.netns.interfaces().unwrap(), ["lo", "up0"]);
}

/// Rules and routes of the node that are the switch's, in no order.
fn taken_care_of(world: &World) -> Vec<String> {
    let mut all = String::new();
    for family in ["-4", "-6"] {
        all += &world.netns.ip(&[family, "rule"]).unwrap();
        all += &world.netns.ip(&[family, "route", "show", "table", "all", "proto", "104"]).unwrap();
    }
    let mut lines: Vec<String> = all.lines().map(|line| line.trim().to_owned()).collect();
    lines.sort_unstable();
    lines
}

/// Takes something away and waits until it is back. How long that took.
fn taken_away(world: &World, damage: &[&str]) -> Duration {
    let before = taken_care_of(world);
    let begin = Instant::now();
    world.netns.ip(damage).unwrap();
    while taken_care_of(world) != before {
        assert!(begin.elapsed() < Duration::from_secs(20), "{damage:?}: {before:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    begin.elapsed()
}

#[test]
fn what_somebody_takes_from_the_node_comes_back_and_is_told() {
    let world = World::new("tap");
    let status = || world.hopctl_json(&["status"]).unwrap();
    assert_eq!(status()["upkeep"]["mended"], 0);
    let damages: [&[&str]; 4] = [
        &["rule", "del", "pref", "100"],
        &["-6", "rule", "del", "pref", "56"],
        &["route", "flush", "table", "77"],
        &["-6", "route", "del", "default", "table", "77"],
    ];
    for damage in damages {
        let took = taken_away(&world, damage);
        println!("{damage:?}: {} ms", took.as_millis());
        assert!(took < Duration::from_secs(2), "{damage:?} is back after {took:?}");
    }
    // The node itself goes on, and the switch too.
    let [pod] = world.pods(["a"]);
    pod.run("ping", &["-c", "1", "-W", "2", "192.0.2.11"]).unwrap();
    let told = status();
    assert_eq!(told["upkeep"]["mended"], damages.len());
    let last = told["upkeep"]["last"].as_str().unwrap();
    assert!(last.contains("the route ::/0 via") && last.contains("table 77"), "{last}");
    assert_eq!(told["problems"].as_array().map(Vec::len), Some(0), "{told}");
    assert!(world.hopctl(&["status"]).unwrap().contains("put right 4 times"));
    world.hopctl(&["check"]).unwrap();

    // Who does it again and again is not fought without end.
    let mut rounds = 0;
    while status()["problems"].as_array().is_none_or(Vec::is_empty) {
        assert!(rounds < 20, "{}", status());
        rounds += 1;
        drop(world.netns.ip(&["rule", "del", "pref", "40"]));
        std::thread::sleep(Duration::from_millis(200));
    }
    let told = status();
    let wrong = told["problems"][0]["message"].as_str().unwrap();
    assert!(wrong.contains("again and again") && wrong.contains("rule 40"), "{wrong}");
    let failed = world.hopctl(&["check"]).unwrap_err().to_string();
    assert!(failed.contains("upkeep") && failed.contains("again and again"), "{failed}");
    // And yet it comes back, later.
    let begin = Instant::now();
    while !world.netns.ip(&["rule"]).unwrap().contains("iif hop0") {
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50));
    }
    world.settle(&[]);
}

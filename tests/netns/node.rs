//! The node and its pods: both see the true addresses, and the node's own sockets never notice the
//! rules.
//!
//! ```text
//!   lan ── up0 [ node: sockets, hop0 ] ── vswitchd ── eth0 pod a
//! ```

use std::process::Command;
use std::time::Duration;

use lab::binaries;
use lab::pod::{lab_run, lab_serve};
use lab::process::Process;
use lab::{Namespace, NodeSpec};

use crate::foretell::{How, passes};
use crate::{KINDS, World};

/// The clients that a server has seen.
fn peers(server: &Process) -> Vec<String> {
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
fn session(from: &Namespace, to: &str) -> Process {
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

//! Datagrams larger than the MTU: in fragments through every translation, and back (SVC-14).

use lab::Namespace;
use lab::pod::lab_run;
use serde_json::json;

use super::{NODE, OUTSIDE, PORTS, node_ports, servers, serving, to, vips, world};
use crate::KINDS;

/// Bytes of a datagram in two fragments, and in as many as there can be: what the e2e test of
/// Kubernetes sends, and the largest.
const SIZES: [&str; 2] = ["2000", "65000"];

/// Asks an echo server there, and is answered with the same.
#[track_caller]
fn echoes(from: &Namespace, address: &str, l4_port: u16) {
    for size in SIZES {
        let there = to(address, l4_port);
        lab_run(from, &["udp-rr", "--to", &there, "--size", size, "--count", "5"]).unwrap();
    }
}

#[test]
fn large_datagrams_pass_services_both_ways() {
    for kind in KINDS {
        let world = world(kind);
        let [client, server] = world.pods(["client", "server"]);
        let _servers = servers(&server);
        serving(&world, 1, &[&server], &node_ports("Cluster"));
        let (_, _, at_vip, _, at_node) = PORTS[1];
        for (family, vip) in vips(1).iter().enumerate() {
            echoes(&client, vip, at_vip);
            // A pod asks itself; the node asks; the outside asks the node.
            echoes(&server, vip, at_vip);
            echoes(&world.netns, vip, at_vip);
            echoes(&world.lan().netns, NODE[family], at_node);
        }
        world.settle(&[]);
    }
}

#[test]
fn large_datagrams_and_pings_go_outside_and_back() {
    for kind in KINDS {
        let world = world(kind);
        let [pod] = world.pods(["a"]);
        let _outside = servers(&world.lan().netns);
        for address in OUTSIDE {
            echoes(&pod, address, PORTS[1].3);
            let args = ["-c", "3", "-i", "0.05", "-W", "2", "-s", "3000", address];
            pod.run("ping", &args).unwrap();
        }
        world.settle(&[]);
    }
}

#[test]
fn large_datagrams_of_the_node_are_its_own() {
    let world = world("tap");
    // A resolver's answers: the node's own socket asks, and is answered in fragments.
    let _outside = servers(&world.lan().netns);
    for address in OUTSIDE {
        echoes(&world.netns, address, PORTS[1].3);
    }
    let status = world.hopctl_json(&["status"]).unwrap();
    assert_eq!(status["traffic"]["held"], json!(0), "all went back");
    world.settle(&[]);
}

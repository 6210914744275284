//! Ports of the node that lead to pods, by the capability `portMappings`.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use lab::pod::{lab_run, lab_serve};
use lab::{Namespace, Pod, Result, counters};
use serde_json::{Value, json};

use super::{
    GATEWAYS, NODE, OUTSIDE, PATIENCE, node_ports, page, seen_as, servers, serving, socket, to,
    world,
};
use crate::node::peers;
use crate::{KINDS, World};

/// A pod with these `portMappings`.
fn pod(world: &World, name: &str, mappings: &Value) -> Result<Pod> {
    let runtime_config = json!({"portMappings": mappings});
    let extra = BTreeMap::from([("runtimeConfig".to_owned(), runtime_config)]);
    world.pod_with(("default", name), &extra)
}

fn mapping(host_port: u16, container_port: u16, protocol: &str) -> Value {
    json!({"hostPort": host_port, "containerPort": container_port, "protocol": protocol})
}

/// Web at 8090 and at a port among the node ports, echo at 8091.
fn mappings() -> Value {
    json!([mapping(8090, 8080, "TCP"), mapping(30_700, 8080, "tcp"), mapping(8091, 7007, "udp")])
}

fn at(index: usize) -> u16 {
    [8090, 8091][index]
}

/// Asks from that address of the node, and shows the page.
fn page_as(node: &Namespace, source: &str, to: &str) -> String {
    let url = format!("http://{to}/");
    let args = ["-gsS", "--max-time", "3", "--interface", source, &url];
    node.run("curl", &args).unwrap().stdout.trim_end().to_owned()
}

#[test]
fn everybody_reaches_a_host_port_and_is_seen_as_it_is() {
    for kind in KINDS {
        let world = world(kind);
        let [client] = world.pods(["client"]);
        let server = pod(&world, "server", &mappings()).unwrap();
        let backend = servers(&server);
        for (family, node) in NODE.into_iter().enumerate() {
            let own = client.addresses()[family].to_string();
            for (from, expected) in [
                (&world.netns, node),
                (&world.lan().netns, OUTSIDE[family]),
                (&*client, own.as_str()),
                (&*server, GATEWAYS[family]),
            ] {
                seen_as((from, node), at, &backend, expected);
                assert_eq!(page(from, &to(node, 30_700)), format!("hello, {expected}"));
            }
        }
        // By the loopback address, with whatever source.
        seen_as((&world.netns, "127.0.0.1"), at, &backend, NODE[0]);
        for (source, expected) in [(NODE[0], NODE[0]), ("127.0.0.1", GATEWAYS[0])] {
            for port in [8090, 30_700] {
                let seen = page_as(&world.netns, source, &to("127.0.0.1", port));
                assert_eq!(seen, format!("hello, {expected}"), "as {source} to {port}");
            }
        }
        let shown = world.hopctl(&["get", "services"]).unwrap();
        assert!(shown.contains("default/server:hostPort-8090"), "{shown}");
        world.settle(&[]);
    }
}

/// The conformance test "no conflict between pods with same hostPort but different hostIP and
/// protocol", with servers that tell who came.
#[test]
fn one_port_at_other_addresses_and_protocols_is_no_conflict() {
    let world = world("tap");
    let at = |host_ip: &str, container_port, protocol: &str| {
        let mut one = mapping(54_323, container_port, protocol);
        one["hostIP"] = host_ip.into();
        json!([one])
    };
    let local = pod(&world, "local", &at("127.0.0.1", 7022, "TCP")).unwrap();
    let named = pod(&world, "named", &at(NODE[0], 7022, "TCP")).unwrap();
    let datagrams = pod(&world, "datagrams", &at(NODE[0], 7007, "UDP")).unwrap();
    let shells = [&local, &named].map(|pod| servers(pod));
    let echo = servers(&datagrams).echo;
    let session = |from: &Namespace, address| {
        lab_run(from, &["session", "--to", &to(address, 54_323), "--lines", "3"]).unwrap();
        shells.each_ref().map(|servers| peers(&servers.shell).len())
    };
    assert_eq!(session(&world.netns, "127.0.0.1"), [1, 0]);
    assert_eq!(session(&world.netns, NODE[0]), [1, 1]);
    assert_eq!(session(&world.lan().netns, NODE[0]), [1, 2]);
    let ask = ["udp-rr", "--to", &to(NODE[0], 54_323), "--size", "1000", "--count", "3"];
    lab_run(&world.lan().netns, &ask).unwrap();
    assert_eq!(peers(&echo), [OUTSIDE[0]]);
    world.settle(&[]);
}

/// The code and the sentence of an ADD that is refused.
fn refusal(world: &World, name: &str, mapping: Value) -> String {
    let error = pod(world, name, &json!([mapping])).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("\"code\":7"), "{text}");
    text
}

#[test]
fn host_ports_outlive_the_daemon_and_belong_to_one_pod_each() {
    let mut world = world("tap");
    let first = pod(&world, "first", &mappings()).unwrap();
    let backend = servers(&first);
    let text = refusal(&world, "second", mapping(8090, 80, "tcp"));
    let said = "runtimeConfig.portMappings[0].hostPort: 8090 of tcp is pod/default/first's";
    assert!(text.contains(said), "{text}");
    let mut elsewhere = mapping(8099, 80, "tcp");
    elsewhere["hostIP"] = "198.51.100.1".into();
    let text = refusal(&world, "second", elsewhere.clone());
    assert!(text.contains("hostIP: 198.51.100.1 is no address of this node"), "{text}");
    elsewhere["hostIP"] = "::1".into();
    let text = refusal(&world, "second", elsewhere);
    assert!(text.contains("of loopback addresses 127.0.0.1 can"), "{text}");
    let text = refusal(&world, "second", mapping(10_256, 80, "tcp"));
    assert!(text.contains("10256 of tcp is the node's own, for health checks"), "{text}");
    let peer = to(NODE[0], 8091).parse().unwrap();
    let udp = socket(&world.lan().netns, peer);
    asks(&udp);
    world.stop().unwrap();
    world.start().unwrap();
    asks(&udp);
    for (family, node) in NODE.into_iter().enumerate() {
        seen_as((&world.lan().netns, node), at, &backend, OUTSIDE[family]);
    }
    seen_as((&world.netns, "127.0.0.1"), at, &backend, NODE[0]);
    assert!(refusal(&world, "second", mapping(8090, 80, "tcp")).contains("pod/default/first's"));
    // What somebody takes away is put back.
    let rule = ["rule", "del", "pref", "50", "to", "127.0.0.1", "ipproto", "tcp", "dport", "8090"];
    world.netns.ip(&rule).unwrap();
    let began = Instant::now();
    while !world.netns.ip(&["rule"]).unwrap().contains("127.0.0.1 ipproto tcp dport 8090") {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    seen_as((&world.netns, "127.0.0.1"), at, &backend, NODE[0]);
    first_is_whole(&world, &first);
    // What is free after a DEL is the next one's, datagrams of an open flow too.
    drop((backend, first));
    let second = pod(&world, "second", &mappings()).unwrap();
    let backend = servers(&second);
    asks(&udp);
    assert_eq!(peers(&backend.echo), [OUTSIDE[0]], "the same socket, another pod");
    drop((backend, second));
    let rules = world.netns.ip(&["rule"]).unwrap();
    assert!(!rules.contains("dport 809"), "{rules}");
    // And with nobody's, the node's own listener is asked.
    let _own = lab_serve(&world.netns, &["http", "--listen", "[::]:8090"]).unwrap();
    assert_eq!(page(&world.lan().netns, &to(NODE[0], 8090)), format!("hello, {}", OUTSIDE[0]));
    assert_eq!(page(&world.netns, &to("127.0.0.1", 8090)), "hello, 127.0.0.1");
    world.settle(crate::world::LEAVING);
}

/// CHECK finds nothing.
fn first_is_whole(world: &World, first: &Pod) {
    world.runtime().check(first.attachment(), first.result()).unwrap();
}

fn asks(udp: &UdpSocket) {
    let began = Instant::now();
    udp.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    loop {
        udp.send(b"question").unwrap();
        match udp.recv(&mut [0; 16]) {
            Ok(_) => return,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
    }
}

#[test]
fn a_service_comes_before_a_host_port() {
    let world = world("tap");
    let [server] = world.pods(["server"]);
    let backend = servers(&server);
    serving(&world, 60, &[&server], &node_ports("Cluster"));
    // The port of the Service's web, and nobody listens behind it.
    let _greedy = pod(&world, "greedy", &json!([mapping(30_080, 9999, "tcp")])).unwrap();
    for node in NODE {
        assert!(page(&world.lan().netns, &to(node, 30_080)).starts_with("hello, "));
    }
    drop(backend);
    world.settle(&[]);
}

#[test]
fn what_nobody_has_runs_in_no_circle() {
    let world = world("tap");
    // As it is for a moment when a Service goes: the route still stands.
    let route = ["route", "add", "203.0.113.77/32", "via", "10.244.1.1", "dev", "hop0", "onlink"];
    world.netns.ip(&route).unwrap();
    let ping = ["-c", "3", "-i", "0.05", "-W", "1", "203.0.113.77"];
    world.netns.attempt("ping", &ping, PATIENCE).unwrap();
    let ports = world.settle(&["host:RoutedBack"]);
    assert_eq!(counters::drops(&ports, "host", "RoutedBack"), 3, "each came once");
}

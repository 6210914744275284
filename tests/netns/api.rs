//! The API server as the source of desired state: what a daemon waits for, and what it does while
//! the server is away.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use lab::cni::{Attachment, error_of};
use lab::{Namespace, NodeSpec};
use serde_json::{Value, json};

use crate::worker::{replace, worker};
use crate::{World, state};

mod server;

use server::Server;

/// Longer than a pause between two tries of a daemon that has just lost its server.
const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for something that must not happen.
const MOMENT: Duration = Duration::from_millis(700);

/// A node that asks a server which has its Node, and Services' range.
fn node() -> (World, Server) {
    let mut world = World::prepare(NodeSpec::numbered(1).with("manifests", Value::Null));
    let server = Server::new(&world.netns);
    let kubeconfig = world.config().with_file_name("kubeconfig");
    fs::write(&kubeconfig, server.kubeconfig()).unwrap();
    world.set("kubeconfig", kubeconfig.to_string_lossy().as_ref());
    server.apply("nodes", NodeSpec::numbered(1).object.to_json());
    let range = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}});
    server.apply("servicecidrs", range);
    (world, server)
}

fn pod(name: &str, uid: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "uid": uid}})
}

/// A Service with one endpoint.
fn service(server: &Server, name: &str, address: &str, endpoint: &str) {
    let metadata = json!({"name": name, "namespace": "default",
                          "labels": {"kubernetes.io/service-name": name}});
    let spec = json!({"clusterIP": address, "ports": [{"port": 80}]});
    server.apply("services", json!({"metadata": metadata, "spec": spec}));
    let endpoints = json!([{"addresses": [endpoint], "nodeName": "node1"}]);
    server.apply(
        "endpointslices",
        json!({"metadata": metadata, "addressType": "IPv4", "ports": [{"port": 8080}],
               "endpoints": endpoints}),
    );
}

fn services(world: &World) -> Vec<String> {
    state::listed(world, "services", &["name"])
}

fn problems(world: &World) -> String {
    world.hopctl_json(&["status"]).unwrap()["problems"].to_string()
}

#[track_caller]
fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A namespace, and the attachment of that pod, whose uid is the container's id.
fn unwired(world: &World, name: &str) -> (Namespace, Attachment) {
    let netns = Namespace::new(world.netns.owner(), name).unwrap();
    let attachment = Attachment {
        container_id: format!("uid-{name}"),
        netns: netns.path().to_string_lossy().into_owned(),
        ifname: "eth0".to_owned(),
        pod: ("default".to_owned(), name.to_owned()),
    };
    (netns, attachment)
}

#[test]
fn nothing_is_wired_before_all_is_known_and_no_pod_before_its_object() {
    let (mut world, server) = node();
    server.hold("services");
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(MOMENT);
            server.release();
        });
        world.start().unwrap();
        assert!(begun.elapsed() >= MOMENT, "ready without Services");
    });
    assert_eq!(problems(&world), "[]");
    let runtime = world.runtime();
    let configuration = runtime.configuration(lab::cni::VERSION);

    let (netns, attachment) = unwired(&world, "late");
    thread::scope(|scope| {
        let added = scope.spawn(|| runtime.add(&attachment, &configuration));
        // One of its name that was there before it.
        server.apply("pods", pod("late", "uid-before"));
        thread::sleep(MOMENT);
        assert!(!added.is_finished(), "wired without its object");
        assert_eq!(netns.interfaces().unwrap(), ["lo"]);
        server.apply("pods", pod("late", "uid-late"));
        added.join().unwrap().unwrap();
    });
    assert_eq!(netns.interfaces().unwrap(), ["eth0", "lo"]);

    let (netns, attachment) = unwired(&world, "never");
    let input = configuration.to_string();
    let refused = runtime.call(&attachment.environment("ADD"), &input).unwrap();
    let (code, message) = error_of(&refused).unwrap();
    assert_eq!((code, message.contains("default/never")), (11, true), "{message}");
    assert_eq!(netns.interfaces().unwrap(), ["lo"]);
    assert_eq!(state::listed(&world, "leases", &["pod"]).len(), 2, "of `late` alone");
}

#[test]
fn the_server_is_away_and_nothing_changes() {
    let (mut world, mut server) = node();
    world.start().unwrap();
    let runtime = world.runtime();
    let configuration = runtime.configuration(lab::cni::VERSION);
    let [(a, first), (_b, second)] = ["a", "b"].map(|name| unwired(&world, name));
    let mut addresses = Vec::new();
    for attachment in [&first, &second] {
        server.apply("pods", pod(&attachment.pod.1, &attachment.container_id));
        let result = runtime.add(attachment, &configuration).unwrap();
        let address = result["ips"][0]["address"].as_str().unwrap();
        addresses.push(address.split('/').next().unwrap().to_owned());
    }
    service(&server, "web", "10.96.0.7", &addresses[1]);
    eventually("the Service is there", || services(&world).len() == 1);
    let before = services(&world);
    let works = |what: &str, world: &World| {
        let ping = a.run("ping", &["-c", "1", "-W", "2", &addresses[1]]);
        assert!(ping.is_ok(), "{what}: {ping:?}");
        assert_eq!(services(world), before, "{what}");
    };

    server.go_away();
    let missed = |world: &World| problems(world).contains("the API server");
    eventually("it is missed", || missed(&world));
    works("the server is away", &world);
    replace(&world, worker(&world));
    assert!(missed(&world), "{}", problems(&world));
    works("the worker has died meanwhile", &world);
    world.stop().unwrap();
    world.start().unwrap();
    assert!(missed(&world), "{}", problems(&world));
    works("the daemon was stopped and started meanwhile", &world);

    server.clear("services");
    service(&server, "next", "10.96.0.8", &addresses[1]);
    works("what is written meanwhile is not known", &world);
    server.come_back(&world.netns);
    eventually("all is well", || problems(&world) == "[]");
    let after = services(&world);
    assert!(after.len() == 1 && after[0].contains("next"), "{after:?}");
    a.run("ping", &["-c", "1", "-W", "2", &addresses[1]]).unwrap();
}

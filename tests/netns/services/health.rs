//! Health checks at the node's addresses, asked as load balancers do.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use lab::manifest::{self, NodeObject};
use lab::pod::lab_serve;
use lab::{Namespace, NodeSpec};
use serde_json::{Value, json};

use super::{
    NODE, OUTSIDE, PATIENCE, PORTS, addresses, lead, page, publish, servers, service, to, told,
    world,
};
use crate::World;

/// Where a Service is asked for its health here.
const CHECK: u16 = 32_000;
const HEALTHZ: u16 = 10_256;

/// Status, head and body of a page; status 0 without one.
fn get(from: &Namespace, address: &str, port: u16, path: &str) -> (u16, String, Value) {
    let url = format!("http://{}{path}", to(address, port));
    let output = from.attempt("curl", &["-gsS", "-i", "--max-time", "3", &url], PATIENCE).unwrap();
    if output.code != Some(0) {
        return (0, output.stderr, Value::Null);
    }
    let (head, body) = output.stdout.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), serde_json::from_str(body).unwrap())
}

/// Waits until a health check says so.
fn becomes(world: &World, port: u16, path: &str, wanted: u16) {
    for address in NODE {
        let began = Instant::now();
        loop {
            let (status, head, body) = get(&world.netns, address, port, path);
            if status == wanted {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{head}: {body}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn the_node_says_how_it_is() {
    let mut world = world("tap");
    let [client] = world.pods(["client"]);
    for restarted in [false, true] {
        for address in NODE {
            for from in [&world.lan().netns, &world.netns, &*client] {
                let (status, head, body) = get(from, address, HEALTHZ, "/healthz");
                assert_eq!((status, &body["nodeEligible"]), (200, &json!(true)), "{head}");
                assert!(head.contains("Content-Type: application/json"), "{head}");
                assert!(head.contains("X-Content-Type-Options: nosniff"), "{head}");
                assert_eq!(body["lastUpdated"], body["currentTime"]);
                let (status, _, body) = get(from, address, HEALTHZ, "/livez");
                assert_eq!((status, body.get("nodeEligible")), (200, None));
                assert_eq!(get(from, address, HEALTHZ, "/").0, 404);
            }
        }
        if !restarted {
            world.stop().unwrap();
            world.start().unwrap();
        }
    }
    // A node that is about to go: load balancers leave, and the node still lives.
    let mut node = NodeObject::to_json(&NodeSpec::numbered(1).object);
    node["spec"]["taints"] = json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "x"}]);
    manifest::write(&world.manifests(), "node-node1", &node).unwrap();
    becomes(&world, HEALTHZ, "/healthz", 503);
    let (status, _, body) = get(&world.lan().netns, NODE[0], HEALTHZ, "/healthz");
    assert_eq!((status, &body["nodeEligible"]), (503, &json!(false)));
    assert_eq!(get(&world.lan().netns, NODE[0], HEALTHZ, "/livez").0, 200);
    // What was heard and said is in the journal, and replays to the same.
    let file = world.file("health.pcapng");
    let file = file.to_str().unwrap();
    world.hopctl(&["record", "-w", file]).unwrap();
    world.hopctl(&["replay", file]).unwrap();
    world.settle(&[]);
}

/// A Service of a load balancer that keeps clients' addresses.
fn balanced() -> Value {
    let more = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": CHECK,
    });
    service("web", 70, &more)
}

/// The Service's slice of IPv4 with one endpoint in that state.
fn lead_with(world: &World, address: &str, conditions: &Value) {
    let ports = PORTS.map(|(name, protocol, _, target, _)| {
        json!({"name": name, "protocol": protocol, "port": target})
    });
    let object = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "web-ipv4", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4", "ports": ports,
        "endpoints": [
            {"addresses": [address], "conditions": conditions, "nodeName": world.name()},
        ],
    });
    manifest::write(&world.manifests(), "slice-web-ipv4", &object).unwrap();
}

#[test]
fn a_service_says_whether_this_node_serves_it() {
    let world = world("tap");
    let [client, server] = world.pods(["client", "server"]);
    let _servers = servers(&server);
    publish(&world, &balanced());
    becomes(&world, CHECK, "/healthz", 503);
    lead(&world, "web", &addresses(&[&server]), world.name());
    becomes(&world, CHECK, "/healthz", 200);
    for address in NODE {
        for from in [&world.lan().netns, &world.netns, &*client] {
            let (status, head, body) = get(from, address, CHECK, "/any/path?at=all");
            assert_eq!(status, 200);
            assert!(head.contains("X-Load-Balancing-Endpoint-Weight: 1"), "{head}");
            let wanted = json!({
                "service": {"namespace": "default", "name": "web"},
                "localEndpoints": 1, "serviceProxyHealthy": true,
            });
            assert_eq!(body, wanted);
        }
    }
    // Leaving, it still serves, and load balancers go already.
    let four = server.addresses()[0].to_string();
    lead_with(&world, &four, &json!({"ready": false, "serving": true, "terminating": true}));
    let began = Instant::now();
    while get(&world.netns, NODE[0], CHECK, "/").0 != 503 {
        assert!(began.elapsed() < PATIENCE);
    }
    assert_eq!(page(&world.lan().netns, &to(NODE[0], 30_080)), format!("hello, {}", OUTSIDE[0]));
    assert_eq!(get(&world.netns, NODE[1], CHECK, "/").0, 200, "the other family has its own");
    // With another policy there is no such check, and the node's own listener is asked.
    let mut cluster = balanced();
    cluster["spec"]["externalTrafficPolicy"] = "Cluster".into();
    publish(&world, &cluster);
    let _own = lab_serve(&world.netns, &["http", "--listen", &format!("[::]:{CHECK}")]).unwrap();
    told(&world, 70, ", of 1\n");
    let began = Instant::now();
    let url = format!("http://{}/", to(NODE[0], CHECK));
    // One that is asked amid the change may be hung up on.
    let is_asked = || {
        let args = ["-gsS", "--max-time", "3", &url];
        let output = world.lan().netns.attempt("curl", &args, 2 * PATIENCE).unwrap();
        output.stdout.starts_with("hello")
    };
    while !is_asked() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    world.settle(&[]);
}

/// What a client is told that sends these bytes, to the end.
fn told_to(from: &Namespace, bytes: &[u8]) -> String {
    let to: SocketAddr = to(NODE[0], HEALTHZ).parse().unwrap();
    let mut stream = from.within(|| TcpStream::connect_timeout(&to, PATIENCE).unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end as well.
    let _end = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn hostile_clients_keep_nobody_from_an_answer() {
    let world = world("tap");
    let [client] = world.pods(["client"]);
    assert!(told_to(&client, b"\x16\x03\x01\x02\x00").starts_with("HTTP/1.1 400 "));
    assert!(told_to(&client, b"POST /healthz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(5_000));
    assert!(told_to(&client, long.as_bytes()).starts_with("HTTP/1.1 431 "));
    assert!(told_to(&client, b"GET /livez HTTP/1.0\n\n").starts_with("HTTP/1.1 200 "));
    let head = told_to(&client, b"HEAD /livez HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    // More than there are connections for, each silent.
    let to: SocketAddr = to(NODE[0], HEALTHZ).parse().unwrap();
    let silent: Vec<TcpStream> = client
        .within(|| {
            let open = |_| TcpStream::connect_timeout(&to, PATIENCE).unwrap();
            (0..300).map(open).collect()
        })
        .unwrap();
    for address in NODE {
        assert_eq!(get(&world.lan().netns, address, HEALTHZ, "/healthz").0, 200);
    }
    // Whoever says nothing is hung up on.
    let mut last = silent.last().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let began = Instant::now();
    assert!(matches!(last.read(&mut [0; 16]), Ok(0) | Err(_)));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    world.settle(&[]);
}

#[test]
fn without_a_port_for_it_the_nodes_health_is_another_ones_to_tell() {
    let mut world = World::prepare(NodeSpec::numbered(1).with("healthz-port", 0));
    world.start().unwrap();
    // kube-proxy, for one.
    let own = format!("[::]:{HEALTHZ}");
    let _other = lab_serve(&world.netns, &["http", "--listen", &own]).unwrap();
    for (family, address) in NODE.into_iter().enumerate() {
        let seen = page(&world.lan().netns, &to(address, HEALTHZ));
        assert_eq!(seen, format!("hello, {}", OUTSIDE[family]));
    }
    world.settle(&[]);
}

//! Services from manifests: pods, the node and the outside as clients, pods as backends, and the
//! way of pods to the outside.
//!
//! ```text
//!   lan ── up0 [ node: sockets, hop0 ] ── vswitchd ┬─ eth0 pod (client)
//!   192.0.2.1          192.0.2.11                  └─ eth0 pod (backend)   VIPs 10.96.0.N
//! ```

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use lab::lan::{ADDRESS4, ADDRESS6};
use lab::manifest::{self, NodeObject};
use lab::pod::{lab_run, lab_serve};
use lab::process::Process;
use lab::{Namespace, NodeSpec, Pod, binaries, counters};
use serde_json::{Value, json};

use crate::foretell::{How, passes};
use crate::node::peers;
use crate::pods::at;
use crate::{KINDS, World};

mod egress;
mod explained;
mod fragments;
mod health;
mod hostport;
mod lasting;
mod rate;
mod whatif;

/// What a masqueraded client looks like to a pod.
pub(crate) const GATEWAYS: [&str; 2] = ["10.244.1.1", "fd00:10:244:1::1"];
/// The node's addresses.
pub(crate) const NODE: [&str; 2] = ["192.0.2.11", "2001:db8::11"];
/// The outside's addresses.
pub(crate) const OUTSIDE: [&str; 2] = [ADDRESS4, ADDRESS6];
/// Name, protocol, number at the VIP, at a backend and at a node, of the ports of every Service
/// here.
const PORTS: [(&str, &str, u16, u16, u16); 4] = [
    ("web", "TCP", 80, 8080, 30_080),
    ("echo", "UDP", 7, 7007, 30_007),
    ("bulk", "TCP", 5001, 7001, 30_501),
    ("shell", "TCP", 22, 7022, 30_022),
];
/// Bytes of a transfer: more than a window, so that super-frames form.
const BYTES: &str = "20000000";
/// Time for manifests to be read, and for a client's answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A refusal comes at once; no client's time-out is as short.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A world with ranges of Services.
pub(crate) fn world(kind: &str) -> World {
    let ranges = json!(["10.96.0.0/16", "fd00:96::/112"]);
    let spec = NodeSpec::numbered(1).with("port-kind", kind).with("service-cidrs", ranges);
    let mut world = World::prepare(spec);
    world.start().unwrap();
    world
}

/// The addresses of the Service of that number.
fn vips(number: u8) -> [String; 2] {
    [format!("10.96.0.{number}"), format!("fd00:96::{number:x}")]
}

/// `ADDRESS:PORT`, brackets where they belong.
fn to(address: &str, l4_port: u16) -> String {
    at(address.parse().unwrap(), l4_port)
}

/// The part of a Service's `spec` that gives it node ports, with that policy for the outside.
fn node_ports(policy: &str) -> Value {
    json!({"type": "NodePort", "externalTrafficPolicy": policy})
}

/// A Service of that number; `more` is put into its `spec`. One of a type has node ports.
fn service(name: &str, number: u8, more: &Value) -> Value {
    let ports = PORTS.map(|(name, protocol, l4_port, target, node_port)| {
        let mut one =
            json!({"name": name, "protocol": protocol, "port": l4_port, "targetPort": target});
        if more["type"].is_string() {
            one["nodePort"] = json!(node_port);
        }
        one
    });
    let mut spec = json!({
        "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
        "clusterIP": vips(number)[0], "clusterIPs": vips(number), "ports": ports,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let metadata = json!({"name": name, "namespace": "default"});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
}

/// Writes a Service.
fn publish(world: &World, service: &Value) {
    let name = service["metadata"]["name"].as_str().unwrap();
    manifest::write(&world.manifests(), &format!("service-{name}"), service).unwrap();
}

/// Writes the EndpointSlices of a Service, with those addresses on that node.
fn lead(world: &World, name: &str, addresses: &[IpAddr], node: &str) {
    for (family, six) in [("IPv4", false), ("IPv6", true)] {
        let of_family = addresses.iter().filter(|address| address.is_ipv6() == six);
        let endpoints: Vec<Value> = of_family
            .map(|address| {
                json!({"addresses": [address], "conditions": {"ready": true}, "nodeName": node})
            })
            .collect();
        let ports = PORTS.map(|(name, protocol, _, target, _)| {
            json!({"name": name, "protocol": protocol, "port": target})
        });
        let slice = format!("{name}-{}", family.to_lowercase());
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": slice, "namespace": "default",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": family, "endpoints": endpoints, "ports": ports,
        });
        manifest::write(&world.manifests(), &format!("slice-{slice}"), &object).unwrap();
    }
}

/// Waits until a trace from the node to the Service of that number says so, in both families:
/// asking for it sends nothing.
fn told(world: &World, number: u8, said: &str) {
    for vip in vips(number) {
        let began = Instant::now();
        loop {
            let args = ["trace", "node", &vip, "--tcp", "80"];
            let output = world.hopctl_attempt(&args).unwrap();
            if output.stdout.contains(said) {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{said}: {output:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The addresses of pods.
fn addresses(pods: &[&Pod]) -> Vec<IpAddr> {
    pods.iter().flat_map(|pod| pod.addresses()).collect()
}

/// A Service of that number whose backends are those pods, as soon as it is served.
fn serving(world: &World, number: u8, pods: &[&Pod], more: &Value) {
    publish(world, &service("web", number, more));
    lead(world, "web", &addresses(pods), world.name());
    told(world, number, &format!(", of {}\n", pods.len()));
}

/// The servers of a backend.
struct Servers {
    echo: Process,
    shell: Process,
    _others: [Process; 2],
}

fn servers(pod: &Namespace) -> Servers {
    let [web, echo, bulk, shell] = ["http", "udp-echo", "tcp-receive", "listener"]
        .into_iter()
        .zip(PORTS)
        .map(|(program, (.., target, _))| {
            lab_serve(pod, &[program, "--listen", &format!("[::]:{target}")]).unwrap()
        })
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    Servers { echo, shell, _others: [web, bulk] }
}

/// The page that a web server shows to that client.
fn page(from: &Namespace, to: &str) -> String {
    let output = from.run("curl", &["-gsS", "--max-time", "3", &format!("http://{to}/")]).unwrap();
    output.stdout.trim_end().to_owned()
}

/// The address by which a backend knows a client that asks there by TCP and UDP, ports being
/// numbered by `of`.
#[track_caller]
fn seen_as(
    (from, address): (&Namespace, &str),
    of: impl Fn(usize) -> u16,
    backend: &Servers,
    expected: &str,
) {
    assert_eq!(page(from, &to(address, of(0))), format!("hello, {expected}"), "{address}: TCP");
    lab_run(from, &["udp-rr", "--to", &to(address, of(1)), "--size", "1000", "--count", "3"])
        .unwrap();
    let seen = peers(&backend.echo);
    assert_eq!(seen.last().map(String::as_str), Some(expected), "{address}: UDP");
}

fn at_vip(index: usize) -> u16 {
    PORTS[index].2
}

fn at_node(index: usize) -> u16 {
    PORTS[index].4
}

#[test]
fn pods_and_the_node_reach_a_vip_and_pods_are_seen_as_they_are() {
    for kind in KINDS {
        let world = world(kind);
        let [client, server] = world.pods(["client", "server"]);
        let backend = servers(&server);
        serving(&world, 10, &[&server], &json!({}));
        for (family, vip) in vips(10).iter().enumerate() {
            let own = client.addresses()[family].to_string();
            seen_as((&client, vip), at_vip, &backend, &own);
            seen_as((&world.netns, vip), at_vip, &backend, GATEWAYS[family]);
            // Its own backend.
            seen_as((&server, vip), at_vip, &backend, GATEWAYS[family]);
            for from in [&*client, &world.netns, &server] {
                let bulk = to(vip, at_vip(2));
                lab_run(from, &["tcp-send", "--to", &bulk, "--bytes", BYTES]).unwrap();
            }
            client.run("ping", &["-c", "2", "-i", "0.05", "-W", "2", vip]).unwrap();
        }
        world.settle(&[]);
    }
}

#[test]
fn node_ports_serve_the_node_pods_and_the_outside() {
    for (policy, number) in [("Cluster", 20), ("Local", 21)] {
        let world = world("tap");
        let [client, server] = world.pods(["client", "server"]);
        let backend = servers(&server);
        serving(&world, number, &[&server], &node_ports(policy));
        let outside = &world.lan().netns;
        let is_local = policy == "Local";
        for (family, address) in NODE.into_iter().enumerate() {
            let gateway = GATEWAYS[family];
            let own = client.addresses()[family].to_string();
            seen_as((&world.netns, address), at_node, &backend, gateway);
            let expected = if is_local { &own } else { gateway };
            seen_as((&client, address), at_node, &backend, expected);
            let expected = if is_local { OUTSIDE[family] } else { gateway };
            seen_as((outside, address), at_node, &backend, expected);
            for from in [outside, &world.netns, &client] {
                let bulk = to(address, at_node(2));
                lab_run(from, &["tcp-send", "--to", &bulk, "--bytes", BYTES]).unwrap();
            }
        }
        world.settle(&[]);
    }
}

/// TCP and UDP are refused, both at once.
#[track_caller]
fn refused(from: &Namespace, address: &str, of: impl Fn(usize) -> u16) {
    let program = binaries::lab().unwrap();
    let program = program.to_string_lossy();
    let page = format!("http://{}/", to(address, of(0)));
    let echo = to(address, of(1));
    for (program, args) in [
        ("curl", &["-gsS", "-v", "--max-time", "3", &page][..]),
        (&program, &["udp-rr", "--to", &echo, "--size", "10"]),
    ] {
        let began = Instant::now();
        let output = from.attempt(program, args, PATIENCE).unwrap();
        assert!(output.stderr.to_lowercase().contains("connection refused"), "{output:?}");
        assert!(began.elapsed() < AT_ONCE, "{output:?} after {:?}", began.elapsed());
    }
}

/// A socket of that namespace, connected.
fn socket(from: &Namespace, peer: SocketAddr) -> UdpSocket {
    let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = from.within(|| UdpSocket::bind(any).unwrap()).unwrap();
    socket.connect(peer).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// TCP and UDP are neither answered nor refused.
#[track_caller]
fn unanswered(from: &Namespace, address: &str, of: impl Fn(usize) -> u16) {
    let page = format!("http://{}/", to(address, of(0)));
    let output = from.attempt("curl", &["-gsS", "--max-time", "1", &page], PATIENCE).unwrap();
    assert_eq!(output.code, Some(28), "it times out: {output:?}");
    let udp = socket(from, to(address, of(1)).parse().unwrap());
    udp.set_read_timeout(Some(AT_ONCE)).unwrap();
    udp.send(b"question").unwrap();
    let error = udp.recv(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
}

#[test]
fn without_backends_clients_are_refused_and_without_local_ones_they_wait() {
    let world = world("tap");
    let far = NodeSpec::numbered(2).object;
    manifest::write(&world.manifests(), "node-node2", &NodeObject::to_json(&far)).unwrap();
    let [client, server] = world.pods(["client", "server"]);
    let _backend = servers(&server);
    publish(&world, &service("empty", 30, &node_ports("Cluster")));
    serving(&world, 31, &[&server], &json!({}));
    let outside = &world.lan().netns;
    for (family, address) in NODE.into_iter().enumerate() {
        for from in [&*client, &world.netns] {
            refused(from, &vips(30)[family], at_vip);
            refused(from, address, at_node);
            // A port that the Service does not have.
            refused(from, &vips(31)[family], |index| 9_000 + u16::try_from(index).unwrap());
        }
        refused(outside, address, at_node);
    }
    publish(&world, &service("empty", 30, &node_ports("Local")));
    let remote = ["10.244.2.9".parse().unwrap(), "fd00:10:244:2::9".parse().unwrap()];
    lead(&world, "empty", &remote, "node2");
    told(&world, 30, ", of 1\n");
    for address in NODE {
        unanswered(outside, address, at_node);
    }
    for number in ["10.96.0.99", "fd00:96::99"] {
        unanswered(&client, number, at_vip);
    }
    let ports = world.settle(&[
        "ServiceNoBackend",
        "ServicePortUnknown",
        "ServiceNoneLocal",
        "ServiceAddressUnallocated",
    ]);
    assert!(counters::drops(&ports, "host", "ServiceNoneLocal") >= 4);
    assert!(counters::drops(&ports, "pod/default/client", "ServiceAddressUnallocated") >= 4);
}

#[test]
fn listeners_among_the_node_ports_keep_answering() {
    let world = world("tap");
    let [client, server] = world.pods(["client", "server"]);
    let _backend = servers(&server);
    serving(&world, 40, &[&server], &node_ports("Cluster"));
    let udp = lab_serve(&world.netns, &["udp-echo", "--listen", "[::]:31000"]).unwrap();
    let _tcp = lab_serve(&world.netns, &["http", "--listen", "[::]:31000"]).unwrap();
    for (family, address) in NODE.into_iter().enumerate() {
        let own = client.addresses()[family].to_string();
        for (from, expected) in [
            (&world.lan().netns, OUTSIDE[family]),
            (&*client, own.as_str()),
            (&world.netns, address),
        ] {
            let there = to(address, 31_000);
            assert_eq!(page(from, &there), format!("hello, {expected}"));
            lab_run(from, &["udp-rr", "--to", &there, "--size", "1000", "--count", "3"]).unwrap();
            assert_eq!(peers(&udp).last().map(String::as_str), Some(expected));
        }
    }
    world.settle(&[]);
}

#[test]
fn a_backend_on_the_nodes_own_address() {
    for kind in KINDS {
        let world = world(kind);
        let [client] = world.pods(["client"]);
        let backend = servers(&world.netns);
        publish(&world, &service("own", 80, &node_ports("Cluster")));
        let addresses = NODE.map(|address| address.parse().unwrap());
        lead(&world, "own", &addresses, world.name());
        told(&world, 80, "forward to host");
        for (family, vip) in vips(80).iter().enumerate() {
            let (node, own) = (NODE[family], client.addresses()[family].to_string());
            seen_as((&client, vip), at_vip, &backend, &own);
            seen_as((&client, node), at_node, &backend, &own);
            seen_as((&world.netns, vip), at_vip, &backend, node);
            seen_as((&world.netns, node), at_node, &backend, node);
            seen_as((&world.lan().netns, node), at_node, &backend, node);
            for (from, bulk) in [
                (&*client, to(vip, at_vip(2))),
                (&world.netns, to(vip, at_vip(2))),
                (&world.lan().netns, to(node, at_node(2))),
            ] {
                lab_run(from, &["tcp-send", "--to", &bulk, "--bytes", BYTES]).unwrap();
            }
        }
        world.settle(&[]);
    }
}

#[test]
fn what_a_backend_itself_refuses_is_refused_by_the_vip() {
    let world = world("tap");
    let [client, server] = world.pods(["client", "server"]);
    // Nobody listens there.
    serving(&world, 90, &[&server], &node_ports("Cluster"));
    for (family, vip) in vips(90).iter().enumerate() {
        for from in [&*client, &server, &world.netns] {
            refused(from, vip, at_vip);
        }
        refused(&world.lan().netns, NODE[family], at_node);
    }
    world.settle(&[]);
}

#[test]
fn the_outside_may_route_to_vips() {
    let world = world("tap");
    let [server] = world.pods(["server"]);
    let backend = servers(&server);
    serving(&world, 100, &[&server], &json!({}));
    let outside = &world.lan().netns;
    for (family, range) in ["10.96.0.0/16", "fd00:96::/112"].into_iter().enumerate() {
        outside.ip(&["route", "add", range, "via", NODE[family]]).unwrap();
        seen_as((outside, &vips(100)[family]), at_vip, &backend, GATEWAYS[family]);
    }
    world.settle(&[]);
}

#[test]
fn addresses_beside_the_vip_serve_whom_they_may() {
    let world = world("tap");
    let [client, server] = world.pods(["client", "server"]);
    let backend = servers(&server);
    let outside = &world.lan().netns;
    let (balanced, external) =
        (["203.0.113.10", "2001:db8:9::10"], ["203.0.113.20", "2001:db8:9::20"]);
    let ranges = OUTSIDE
        .map(|address| format!("{address}/{}", if address.contains(':') { 128 } else { 32 }));
    let mut made = service(
        "web",
        110,
        &json!({
            "type": "LoadBalancer", "loadBalancerSourceRanges": ranges, "externalIPs": external,
        }),
    );
    made["status"] = json!({"loadBalancer": {"ingress": balanced.map(|ip| json!({"ip": ip}))}});
    publish(&world, &made);
    lead(&world, "web", &addresses(&[&server]), world.name());
    told(&world, 110, ", of 1\n");
    for (family, node) in NODE.into_iter().enumerate() {
        outside
            .ip(&["route", "add", ["203.0.113.0/24", "2001:db8:9::/64"][family], "via", node])
            .unwrap();
        let gateway = GATEWAYS[family];
        seen_as((outside, balanced[family]), at_vip, &backend, gateway);
        unanswered(&client, balanced[family], at_vip);
        for from in [outside, &*client, &world.netns] {
            seen_as((from, external[family]), at_vip, &backend, gateway);
        }
    }
    world.settle(&["pod/default/client:ServiceSourceRefused"]);
}

#[test]
fn a_trace_tells_what_a_services_packet_then_does() {
    let world = world("tap");
    let [a, b] = world.pods(["a", "b"]);
    let _servers = servers(&b);
    serving(&world, 10, &[&b], &json!({}));
    let [four, six] = vips(10);
    let end = "is attached: pod/default/b";
    world.foretell(&[
        passes(("default/a", &a), &four, (How::Tcp(80), false), end),
        passes(("default/a", &a), &six, (How::Tcp(80), true), end),
        passes(("node", &world.netns), &four, (How::Tcp(80), false), end),
    ]);
    let said = world.hopctl(&["trace", "default/a", "svc/default/web", "--tcp", "80"]).unwrap();
    assert!(said.contains("service    default/web:"), "{said}");
    world.settle(&[]);
}

//! Services from manifests: pods, the node and the outside as clients, pods as backends, and the
//! way of pods to the outside.
//!
//! ```text
//!   lan ── up0 [ node: sockets, hop0 ] ── vswitchd ┬─ eth0 pod (client)
//!   192.0.2.1          192.0.2.11                  └─ eth0 pod (backend)   VIPs 10.96.0.N
//! ```

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::lan::{ADDRESS4, ADDRESS6};
use lab::manifest::{self, NodeObject};
use lab::pod::{lab_run, lab_serve};
use lab::process::Process;
use lab::{Namespace, NodeSpec, Pod, binaries};
use serde_json::{Value, json};

use crate::errors::shows;
use crate::node::{peers, session};
use crate::pods::at;
use crate::worker::{replace, resets, worker};
use crate::{KINDS, World};

/// What a masqueraded client looks like to a pod.
const GATEWAYS: [&str; 2] = ["10.244.1.1", "fd00:10:244:1::1"];
/// The node's addresses.
const NODE: [&str; 2] = ["192.0.2.11", "2001:db8::11"];
/// The outside's addresses.
const OUTSIDE: [&str; 2] = [ADDRESS4, ADDRESS6];
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
const AT_ONCE: Duration = Duration::from_secs(1);

/// A world with ranges of Services.
fn world(kind: &str) -> World {
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

/// Writes a Service of that number; `policy` is that of outside traffic, of one with node ports.
fn publish(world: &World, name: &str, number: u8, policy: Option<&str>) {
    let ports: Vec<Value> = PORTS
        .iter()
        .map(|(name, protocol, l4_port, target, node_port)| {
            let mut one = json!({
                "name": name, "protocol": protocol, "port": l4_port, "targetPort": target,
            });
            if policy.is_some() {
                one["nodePort"] = json!(node_port);
            }
            one
        })
        .collect();
    let mut spec = json!({
        "type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
        "clusterIP": vips(number)[0], "clusterIPs": vips(number), "ports": ports,
    });
    if let Some(policy) = policy {
        spec["type"] = json!("NodePort");
        spec["externalTrafficPolicy"] = json!(policy);
    }
    let object = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"}, "spec": spec,
    });
    manifest::write(&world.manifests(), &format!("service-{name}"), &object).unwrap();
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

/// A Service whose backends are those pods, as soon as it is served.
fn serving(world: &World, name: &str, number: u8, pods: &[&Pod], policy: Option<&str>) {
    let addresses: Vec<IpAddr> = pods.iter().flat_map(|pod| pod.addresses()).collect();
    publish(world, name, number, policy);
    lead(world, name, &addresses, world.name());
    told(world, number, "forward to pod/default/");
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
        serving(&world, "web", 10, &[&server], None);
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
        serving(&world, "shop", number, &[&server], Some(policy));
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
        assert!(output.stderr.contains("onnection refused"), "{output:?}");
        assert!(began.elapsed() < AT_ONCE, "{output:?} after {:?}", began.elapsed());
    }
}

#[test]
fn without_backends_clients_are_refused_and_without_local_ones_they_wait() {
    let world = world("tap");
    let far = NodeSpec::numbered(2).object;
    manifest::write(&world.manifests(), "node-node2", &NodeObject::to_json(&far)).unwrap();
    let [client, server] = world.pods(["client", "server"]);
    let _backend = servers(&server);
    publish(&world, "empty", 30, Some("Cluster"));
    serving(&world, "web", 31, &[&server], None);
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
    publish(&world, "empty", 30, Some("Local"));
    let remote = ["10.244.2.9".parse().unwrap(), "fd00:10:244:2::9".parse().unwrap()];
    lead(&world, "empty", &remote, "node2");
    std::thread::sleep(AT_ONCE);
    for address in NODE {
        let url = format!("http://{}/", to(address, at_node(0)));
        let args = ["-gsS", "--max-time", "2", &url];
        let output = outside.attempt("curl", &args, PATIENCE).unwrap();
        assert_eq!(output.code, Some(28), "it times out: {output:?}");
    }
    world.settle(&["ServiceNoBackend", "ServicePortUnknown", "host:ServiceNoneLocal"]);
}

#[test]
fn pods_reach_the_outside_as_the_node() {
    for kind in KINDS {
        let world = world(kind);
        let [pod] = world.pods(["a"]);
        let host = servers(&world.lan().netns);
        for (family, address) in OUTSIDE.into_iter().enumerate() {
            seen_as((&pod, address), |index| PORTS[index].3, &host, NODE[family]);
            pod.run("ping", &["-c", "3", "-i", "0.05", "-W", "2", address]).unwrap();
            pod.lab(&["tcp-send", "--to", &to(address, 7001), "--bytes", BYTES]).unwrap();
            for (program, args) in [
                ("traceroute", &["-n", "-q", "1", "-w", "2", address][..]),
                ("traceroute", &["-n", "-I", "-q", "1", "-w", "2", address]),
                ("tracepath", &["-n", address]),
            ] {
                let output = pod.run(program, args).unwrap().stdout;
                let hops = [GATEWAYS[family], NODE[family], address];
                for (number, hop) in (1..).zip(hops) {
                    assert!(shows(&output, number, hop), "{program}: hop {number}: {output}");
                }
            }
        }
        world.settle(&["HopLimitExceeded"]);
    }
}

#[test]
fn listeners_among_the_node_ports_keep_answering() {
    let world = world("tap");
    let [client, server] = world.pods(["client", "server"]);
    let _backend = servers(&server);
    serving(&world, "shop", 40, &[&server], Some("Cluster"));
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

/// A socket of that namespace, connected.
fn socket(from: &Namespace, peer: SocketAddr) -> UdpSocket {
    let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = from.within(|| UdpSocket::bind(any).unwrap()).unwrap();
    socket.connect(peer).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A session with one of the listeners, its banner read.
struct Shell {
    stream: TcpStream,
    lines: u32,
}

impl Shell {
    fn open(from: &Namespace, peer: SocketAddr) -> Self {
        let stream = from.within(|| TcpStream::connect_timeout(&peer, PATIENCE).unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut shell = Self { stream, lines: 0 };
        assert_eq!(shell.answer(), "SSH-2.0-lab");
        shell
    }

    fn answer(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.last() != Some(&b'\n') {
            self.stream.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    /// One line, and its answer with the number that the connection is at.
    fn says(&mut self) {
        self.lines += 1;
        self.stream.write_all(b"here\n").unwrap();
        assert_eq!(self.answer(), format!("{} here", self.lines));
    }
}

/// Which of the backends has seen one client more since.
fn came(before: &[usize], now: &[usize]) -> usize {
    let more: Vec<usize> = (0..before.len()).filter(|index| now[*index] > before[*index]).collect();
    assert_eq!(more.len(), 1, "{before:?}, {now:?}");
    more[0]
}

#[test]
fn a_backend_that_is_no_longer_one_keeps_its_connections_and_gets_no_new_ones() {
    let world = world("tap");
    let [client, one, other] = world.pods(["client", "one", "other"]);
    let pods = [&one, &other];
    let backends = pods.map(|pod| servers(pod));
    let echoes = || backends.each_ref().map(|backend| peers(&backend.echo).len());
    let shells = || backends.each_ref().map(|backend| peers(&backend.shell).len());
    for (family, vip) in vips(50).iter().enumerate() {
        serving(&world, "pair", 50, &pods, None);
        let told_of = |pod: &Pod| format!("forward to pod/{}", pod.reference());
        let before = echoes();
        let peer = |index| to(vip, at_vip(index)).parse().unwrap();
        let udp = socket(&client, peer(1));
        let ask = |text: &[u8]| {
            udp.send(text).unwrap();
            let mut answer = [0; 16];
            let length = udp.recv(&mut answer).unwrap();
            assert_eq!(&answer[..length], text);
        };
        ask(b"first");
        ask(b"second");
        let left = came(&before, &echoes());
        let stays = 1 - left;
        // Sessions until both have one.
        let mut old: Vec<(usize, Shell)> = Vec::new();
        while !(0..2).all(|wanted| old.iter().any(|(index, _)| *index == wanted)) {
            assert!(old.len() < 64, "all go to one");
            let before = shells();
            let shell = Shell::open(&client, peer(3));
            old.push((came(&before, &shells()), shell));
        }
        lead(&world, "pair", &pods[stays].addresses(), world.name());
        told(&world, 50, &told_of(pods[stays]));
        // A trace may have gone there before.
        std::thread::sleep(AT_ONCE);
        let before = echoes();
        ask(b"third");
        assert_eq!(came(&before, &echoes()), stays, "family {family}: the next datagram");
        let before = shells();
        let new: Vec<Shell> = (0..8).map(|_| Shell::open(&client, peer(3))).collect();
        assert_eq!(came(&before, &shells()), stays, "family {family}: new connections");
        old.iter_mut().for_each(|(_, shell)| shell.says());
        old.iter_mut().for_each(|(_, shell)| shell.says());
        drop(new);
    }
    world.settle(&[]);
}

#[test]
fn workers_that_are_killed_cost_no_translated_connection() {
    for kind in KINDS {
        let world = world(kind);
        let [client, server] = world.pods(["client", "server"]);
        let _backend = servers(&server);
        let outside = &world.lan().netns;
        let _host = servers(outside);
        serving(&world, "shop", 60, &[&server], Some("Cluster"));
        let mut ways: Vec<(&Namespace, String)> = Vec::new();
        for family in 0..2 {
            let vip = &vips(60)[family];
            ways.push((&client, to(vip, at_vip(3))));
            ways.push((&server, to(vip, at_vip(3))));
            ways.push((&world.netns, to(vip, at_vip(3))));
            ways.push((outside, to(NODE[family], at_node(3))));
            ways.push((&client, to(OUTSIDE[family], PORTS[3].3)));
        }
        let places = [&*client, &server, &world.netns, outside];
        let before = places.map(resets);
        let sessions: Vec<Process> = ways.iter().map(|(from, to)| session(from, to)).collect();
        let vip = &vips(60)[0];
        let echo = format!("{}:{}", vip, at_vip(1));
        let mut command = Command::new(binaries::lab().unwrap());
        command.args(["udp-rr", "--to", &echo, "--size", "64", "--count", "3000"]);
        command.args(["--again-ms", "200"]);
        let echo = client.spawn(command).unwrap();
        let mut pid = worker(&world);
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(700));
            pid = replace(&world, pid);
        }
        for session in sessions {
            session.finish(Duration::from_secs(30)).unwrap().success().unwrap();
        }
        echo.finish(Duration::from_secs(30)).unwrap().success().unwrap();
        assert_eq!(places.map(resets), before, "{kind}: resets");
        world.settle(&["ConfigurationPending"]);
    }
}

//! Connections with Services, and what happens to them when backends, workers or daemons go.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::pod::lab_serve;
use lab::process::Process;
use lab::{Namespace, binaries};
use serde_json::json;

use super::{
    NODE, OUTSIDE, PATIENCE, PORTS, addresses, at_node, at_vip, lead, node_ports, publish, servers,
    service, serving, socket, to, told, vips, world,
};
use crate::KINDS;
use crate::node::{peers, session};
use crate::pods::at;
use crate::worker::{replace, resets, worker};

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
        serving(&world, 50, &pods, &json!({}));
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
        lead(&world, "web", &pods[stays].addresses(), world.name());
        told(&world, 50, ", of 1\n");
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
        serving(&world, 60, &[&server], &node_ports("Cluster"));
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

#[test]
fn a_daemon_that_follows_another_goes_on_with_translated_connections() {
    let mut world = world("tap");
    let [client, server] = world.pods(["client", "server"]);
    let _backend = servers(&server);
    let _host = servers(&world.lan().netns);
    serving(&world, 70, &[&server], &node_ports("Cluster"));
    let mut shells = Vec::new();
    for family in 0..2 {
        let vip = to(&vips(70)[family], at_vip(3)).parse().unwrap();
        shells.push(Shell::open(&client, vip));
        shells.push(Shell::open(&server, vip));
        shells.push(Shell::open(&world.netns, vip));
        let node = to(NODE[family], at_node(3)).parse().unwrap();
        shells.push(Shell::open(&world.lan().netns, node));
        let outside = to(OUTSIDE[family], PORTS[3].3).parse().unwrap();
        shells.push(Shell::open(&client, outside));
    }
    shells.iter_mut().for_each(Shell::says);
    world.hand_over().unwrap();
    shells.iter_mut().for_each(Shell::says);
    world.stop().unwrap();
    world.start().unwrap();
    shells.iter_mut().for_each(Shell::says);
    world.kill();
    world.start().unwrap();
    shells.iter_mut().for_each(Shell::says);
    world.settle(&["ConfigurationPending"]);
}

/// Each such address is a route of the node to its own port of the switch.
#[test]
fn a_service_that_gets_and_loses_addresses_costs_others_no_datagram() {
    let world = world("tap");
    let [client] = world.pods(["client"]);
    let outside = &world.lan().netns;
    let _host = servers(outside);
    let udp = socket(&client, to(OUTSIDE[0], PORTS[1].3).parse().unwrap());
    let done = Arc::new(AtomicBool::new(false));
    let is_done = done.clone();
    // It ends with the world if the test fails.
    let echoes = std::thread::spawn(move || {
        let mut count = 0_u32;
        while !is_done.load(Ordering::Relaxed) {
            udp.send(&count.to_be_bytes()).unwrap();
            let mut answer = [0; 16];
            let received = loop {
                match udp.recv(&mut answer) {
                    // A child of this process has ended.
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    received => break received,
                }
            };
            let length = received.expect("a datagram or its answer is lost");
            assert_eq!(answer[..length], count.to_be_bytes());
            count += 1;
        }
        count
    });
    for round in 0..10_u8 {
        let external = [format!("203.0.113.1{round}"), format!("2001:db8:9::1{round}")];
        publish(&world, &service("web", 130, &json!({"externalIPs": external})));
        let has_come = || {
            let [four, six] = [&["route"][..], &["-6", "route"]];
            let listed = [four, six].map(|args| world.netns.ip(args).unwrap());
            (0..2).all(|family| listed[family].contains(&external[family]))
        };
        let began = Instant::now();
        while !has_come() {
            assert!(began.elapsed() < PATIENCE, "no route to {external:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    done.store(true, Ordering::Relaxed);
    let count = echoes.join().unwrap();
    assert!(count > 100, "{count} in ten changes");
    world.settle(&[]);
}

#[test]
fn a_client_keeps_its_backend_where_the_service_says_so() {
    let world = world("tap");
    let [client, one, other] = world.pods(["client", "one", "other"]);
    let pods = [&one, &other];
    let backends = pods.map(|pod| servers(pod));
    let shells = || backends.each_ref().map(|backend| peers(&backend.shell).len());
    serving(&world, 120, &pods, &json!({"sessionAffinity": "ClientIP"}));
    for vip in vips(120) {
        let peer = to(&vip, at_vip(3)).parse().unwrap();
        let before = shells();
        let mut all: Vec<Shell> = (0..16).map(|_| Shell::open(&client, peer)).collect();
        let kept = came(&before, &shells());
        lead(&world, "web", &addresses(&[pods[1 - kept]]), world.name());
        told(&world, 120, ", of 1\n");
        let before = shells();
        all.push(Shell::open(&client, peer));
        assert_eq!(came(&before, &shells()), 1 - kept);
        lead(&world, "web", &addresses(&pods), world.name());
        told(&world, 120, ", of 2\n");
        let before = shells();
        all.extend((0..16).map(|_| Shell::open(&client, peer)));
        assert_eq!(came(&before, &shells()), 1 - kept, "the one that it has now");
        all.iter_mut().for_each(Shell::says);
    }
    world.settle(&[]);
}

#[test]
fn a_socket_that_asked_too_early_is_served_as_soon_as_there_is_a_backend() {
    let world = world("tap");
    let [client, server] = world.pods(["client", "server"]);
    let _backend = servers(&server);
    for (family, vip) in vips(130).into_iter().enumerate() {
        publish(&world, &service("web", 130, &node_ports("Cluster")));
        lead(&world, "web", &[], world.name());
        told(&world, 130, "nobody to choose");
        let outside = &world.lan().netns;
        let sockets = [
            socket(&client, to(&vip, at_vip(1)).parse().unwrap()),
            socket(outside, to(NODE[family], at_node(1)).parse().unwrap()),
            socket(&world.netns, to(&vip, at_vip(1)).parse().unwrap()),
        ];
        for udp in &sockets {
            udp.send(b"early").unwrap();
            let error = udp.recv(&mut [0; 16]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        }
        lead(&world, "web", &addresses(&[&server]), world.name());
        told(&world, 130, ", of 1\n");
        for udp in &sockets {
            udp.send(b"again").unwrap();
            assert_eq!(udp.recv(&mut [0; 16]).unwrap(), 5);
        }
    }
    world.settle(&["ServiceNoBackend"]);
}

#[test]
fn a_node_port_taken_by_a_new_service_leaves_the_nodes_own_listener() {
    // The socket has asked the node itself before: no connection was kept of that.
    let world = world("tap");
    let [server] = world.pods(["server"]);
    let backend = servers(&server);
    let own = lab_serve(&world.netns, &["udp-echo", "--listen", "[::]:30007"]).unwrap();
    for (family, address) in NODE.into_iter().enumerate() {
        let udp = socket(&world.lan().netns, to(address, at_node(1)).parse().unwrap());
        let ask = || {
            udp.send(b"who").unwrap();
            assert_eq!(udp.recv(&mut [0; 16]).unwrap(), 3);
        };
        ask();
        assert_eq!(peers(&own).len(), family + 1);
        serving(&world, 140, &[&server], &node_ports("Local"));
        ask();
        assert_eq!(peers(&own).len(), family + 1);
        assert_eq!(peers(&backend.echo).len(), family + 1);
        std::fs::remove_file(world.manifests().join("service-web.yaml")).unwrap();
        told(&world, 140, "ServiceAddressUnallocated");
        ask();
        assert_eq!(peers(&backend.echo).len(), family + 1);
    }
    world.settle(&[]);
}

#[test]
fn a_service_that_is_deleted_ends_nothing_that_has_begun() {
    let world = world("tap");
    let [client, server] = world.pods(["client", "server"]);
    let _backend = servers(&server);
    serving(&world, 150, &[&server], &json!({}));
    let peers = vips(150).map(|vip| to(&vip, at_vip(3)).parse::<SocketAddr>().unwrap());
    let mut shells = peers.map(|peer| Shell::open(&client, peer));
    shells.iter_mut().for_each(Shell::says);
    std::fs::remove_file(world.manifests().join("service-web.yaml")).unwrap();
    told(&world, 150, "ServiceAddressUnallocated");
    shells.iter_mut().for_each(Shell::says);
    for peer in peers {
        let began = client.within(|| TcpStream::connect_timeout(&peer, Duration::from_secs(1)));
        assert_eq!(began.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    }
    shells.iter_mut().for_each(Shell::says);
    world.settle(&["pod/default/client:ServiceAddressUnallocated"]);
}

#[test]
fn one_port_of_a_client_for_a_vip_and_for_its_backend() {
    let world = world("tap");
    let [client, server] = world.pods(["client", "server"]);
    let backend = servers(&server);
    serving(&world, 160, &[&server], &json!({}));
    for (family, vip) in vips(160).into_iter().enumerate() {
        let seen = peers(&backend.echo).len();
        let target = server.addresses()[family];
        // Not connected: one socket asks both.
        let any = ["0.0.0.0:5555", "[::]:5555"][family];
        let udp = client.within(|| UdpSocket::bind(any).unwrap()).unwrap();
        udp.set_read_timeout(Some(PATIENCE)).unwrap();
        for there in [to(&vip, at_vip(1)), at(target, PORTS[1].3), to(&vip, at_vip(1))] {
            udp.send_to(b"who", &there).unwrap();
            let (_, from) = udp.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(from.to_string(), there);
        }
        // The later one came by another port.
        assert_eq!(peers(&backend.echo).len(), seen + 3);
    }
    world.settle(&[]);
}

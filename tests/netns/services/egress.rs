//! The way of pods to the outside, which sees the node.

use std::net::UdpSocket;

use super::{
    BYTES, GATEWAYS, NODE, OUTSIDE, PATIENCE, PORTS, refused, seen_as, servers, to, world,
};
use crate::KINDS;
use crate::errors::shows;
use crate::pods::at;

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
fn pods_with_the_same_port_are_told_apart_outside() {
    let world = world("tap");
    let [a, b] = world.pods(["a", "b"]);
    let outside = &world.lan().netns;
    for (family, address) in OUTSIDE.into_iter().enumerate() {
        let any = ["0.0.0.0", "::"][family];
        let server = outside.within(|| UdpSocket::bind(at(any.parse().unwrap(), 9000)).unwrap());
        let server = server.unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let clients = [&a, &b].map(|pod| {
            // One of the ports that masquerade would keep.
            let from = at(pod.addresses()[family], 61_500);
            let socket = pod.within(|| UdpSocket::bind(&from).unwrap()).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(to(address, 9000)).unwrap();
            socket
        });
        let mut seen = Vec::new();
        for (name, client) in [b"a", b"b"].into_iter().zip(&clients) {
            client.send(name).unwrap();
            let mut got = [0; 1];
            let (_, peer) = server.recv_from(&mut got).unwrap();
            assert_eq!((&got, peer.ip().to_string()), (name, NODE[family].to_owned()));
            seen.push((*name, peer));
        }
        assert_eq!(seen[0].1.port(), 61_500, "kept where it is free");
        assert!((61_000..65_535).contains(&seen[1].1.port()), "{seen:?}");
        assert_ne!(seen[0].1, seen[1].1);
        for (name, peer) in seen.iter().rev() {
            server.send_to(name, peer).unwrap();
        }
        for (name, client) in [b"a", b"b"].into_iter().zip(&clients) {
            let mut got = [0; 2];
            assert_eq!((client.recv(&mut got).unwrap(), got[0]), (1, name[0]));
        }
    }
    world.settle(&[]);
}

#[test]
fn refusals_of_the_outside_find_their_pod() {
    let world = world("tap");
    let [pod] = world.pods(["a"]);
    for address in OUTSIDE {
        refused(&pod, address, |index| PORTS[index].3);
    }
    world.settle(&[]);
}

#[test]
fn pods_learn_of_narrow_ways_outside() {
    for kind in KINDS {
        let world = world(kind);
        let [pod] = world.pods(["a"]);
        let _host = servers(&world.lan().netns);
        for address in OUTSIDE {
            let family = if address.contains(':') { "-6" } else { "-4" };
            let way = [family, "route", "add", address, "dev", "up0", "mtu", "1300"];
            world.netns.ip(&way).unwrap();
            pod.lab(&["tcp-send", "--to", &to(address, 7001), "--bytes", BYTES]).unwrap();
            let args = ["-M", "do", "-s", "1400", "-c", "1", "-W", "2", address];
            let output = pod.attempt("ping", &args, PATIENCE).unwrap();
            let said = output.stdout + &output.stderr;
            assert!(said.contains("mtu=1300") || said.contains("mtu: 1300"), "{said}");
            let args = ["-c", "1", "-W", "2", "-s", "1200", address];
            pod.run("ping", &args).unwrap();
        }
        world.settle(&[]);
    }
}

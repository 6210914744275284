//! Pods of one node reach each other, TAP and veth, IPv4 and IPv6.
//!
//! ```text
//!   pod a ── eth0 ┐
//!                 vswitchd
//!   pod b ── eth0 ┘
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use lab::Pod;

use crate::{KINDS, World};

/// Bytes of the transfer that is compared by SHA-256.
const GIGABYTE: &str = "1000000000";

/// `ADDRESS:PORT`, brackets where they belong.
fn at(address: IpAddr, l4_port: u16) -> String {
    std::net::SocketAddr::new(address, l4_port).to_string()
}

/// Three echoes in each family, from pod to pod.
fn ping(from: &Pod, to: &Pod) {
    for address in to.addresses() {
        let target = address.to_string();
        let output = from.run("ping", &["-c", "3", "-i", "0.05", "-W", "2", &target]).unwrap();
        assert!(
            output.stdout.contains("ttl=64"),
            "bridged: the hop limit stays: {}",
            output.stdout
        );
    }
}

#[test]
fn two_pods_ping_each_other_and_the_gateway() {
    for kind in KINDS {
        let world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        assert_eq!(a.addresses().len(), 2, "IPv4 and IPv6: {}", a.result());
        ping(&a, &b);
        ping(&b, &a);
        for gateway in ["10.244.1.1", "fd00:10:244:1::1"] {
            a.run("ping", &["-c", "2", "-i", "0.05", "-W", "2", gateway]).unwrap();
        }
        world.settle(&[]);
    }
}

#[test]
fn tcp_and_datagrams_of_every_size_pass() {
    for kind in KINDS {
        let world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let _tcp = b.serve(&["tcp-receive", "--listen", "[::]:7001"]).unwrap();
        let _udp = b.serve(&["udp-echo", "--listen", "[::]:7002"]).unwrap();
        for address in b.addresses() {
            a.lab(&["tcp-send", "--to", &at(address, 7001), "--bytes", "20000000"]).unwrap();
            // IPv6 has no place for more than 65487 bytes after its header and UDP's, as the kernel
            // counts.
            let most = if address.is_ipv4() { "65507" } else { "65487" };
            for size in ["0", "1", "1452", "1472", "1473", "2000", "9000", most] {
                let to = at(address, 7002);
                a.lab(&["udp-rr", "--to", &to, "--size", size, "--count", "5"]).unwrap();
            }
        }
        world.settle(&[]);
    }
}

#[test]
fn a_gigabyte_arrives_equal_between_tap_and_veth() {
    let mut world = World::new("tap");
    let [tap, near] = world.pods(["tap", "near"]);
    // The kind is of new pods: a restart changes it, and the first two stay as they are.
    world.stop().unwrap();
    world.set("port-kind", "veth");
    world.start().unwrap();
    let [veth] = world.pods(["veth"]);
    ping(&tap, &veth);
    ping(&veth, &tap);
    for (from, to) in [(&tap, &near), (&tap, &veth), (&veth, &tap)] {
        let _server = to.serve(&["tcp-receive", "--listen", "[::]:7001"]).unwrap();
        let target = at(to.v4().unwrap().into(), 7001);
        let sent = from.lab(&["tcp-send", "--to", &target, "--bytes", GIGABYTE]).unwrap();
        assert!(sent.starts_with(GIGABYTE), "{sent}");
    }
    world.settle(&["ConfigurationPending"]);
}

#[test]
fn jumbo_pods_carry_9000_bytes() {
    for kind in KINDS {
        let world = World::new(kind);
        let jumbo: BTreeMap<_, _> = [("mtu".to_owned(), 9000.into())].into();
        let [a, b] = ["a", "b"].map(|name| world.pod_with(("default", name), &jumbo).unwrap());
        assert_eq!(a.mtu().unwrap(), 9000);
        let v4 = b.v4().unwrap().to_string();
        let v6 = b.v6().unwrap().to_string();
        a.run("ping", &["-M", "do", "-s", "8972", "-c", "2", "-i", "0.05", "-W", "2", &v4])
            .unwrap();
        a.run("ping", &["-M", "do", "-s", "8952", "-c", "2", "-i", "0.05", "-W", "2", &v6])
            .unwrap();
        let _server = b.serve(&["tcp-receive", "--listen", "[::]:7001"]).unwrap();
        let to = at(b.v6().unwrap().into(), 7001);
        a.lab(&["tcp-send", "--to", &to, "--bytes", "50000000"]).unwrap();
        world.settle(&[]);
    }
}

#[test]
fn a_hundred_and_ten_pods_all_reach_each_other() {
    let world = World::new("tap");
    let pods: Vec<Pod> = (0..110).map(|n| world.pod(&format!("p{n}")).unwrap()).collect();
    let servers: Vec<_> =
        pods.iter().map(|pod| pod.serve(&["udp-echo", "--listen", "[::]:7002"]).unwrap()).collect();
    let targets: Vec<String> =
        pods.iter().flat_map(Pod::addresses).map(|address| at(address, 7002)).collect();
    assert_eq!(targets.len(), 220);
    for (turn, pod) in pods.iter().enumerate() {
        // The kernel has one neighbor table for all namespaces, of 1024 entries by default.
        if turn % 4 == 0 {
            pods.iter().for_each(|pod| drop(pod.ip(&["neigh", "flush", "dev", "eth0"]).unwrap()));
        }
        let mut args = vec!["udp-rr", "--size", "100"];
        for target in &targets {
            args.extend(["--to", target]);
        }
        let said = pod.lab(&args).unwrap();
        assert!(said.starts_with("220 of 100 bytes"), "{said}");
    }
    let listed = world.hopctl_json(&["get", "ports"]).unwrap();
    let ports = listed["items"].as_array().unwrap();
    assert_eq!(ports.iter().filter(|port| port["type"] == "pod").count(), 110);
    drop(servers);
    world.settle(&[]);
    for pod in pods {
        pod.remove().unwrap();
    }
    let leases = world.hopctl_json(&["get", "leases"]).unwrap();
    assert_eq!(leases["items"].as_array().unwrap().len(), 0, "{leases}");
}

#[test]
fn a_pod_that_is_gone_is_unreachable_at_once() {
    let world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    ping(&a, &b);
    let target = b.v4().unwrap().to_string();
    b.remove().unwrap();
    let output =
        a.attempt("ping", &["-c", "1", "-W", "1", &target], Duration::from_secs(5)).unwrap();
    assert_eq!(output.code, Some(1), "{output:?}");
    world.settle(&["UnknownUnicast", "NeighborUnknown"]);
}

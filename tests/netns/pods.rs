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

use crate::foretell::{How, fails, passes};
use crate::{KINDS, World};

/// Bytes of the transfer that is compared by SHA-256.
const GIGABYTE: &str = "1000000000";

/// `ADDRESS:PORT`, brackets where they belong.
pub(crate) fn at(address: IpAddr, l4_port: u16) -> String {
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
        let (from, back) = (("default/a", &*a), ("default/b", &*b));
        world.foretell(&[
            passes(from, b.v4().unwrap(), (How::Icmp, false), "forward to pod/default/b"),
            passes(from, b.v6().unwrap(), (How::Icmp, true), "forward to pod/default/b"),
            passes(back, a.v4().unwrap(), (How::Icmp, false), "forward to pod/default/a"),
            passes(from, "10.244.1.1", (How::Icmp, false), "echo reply of the gateway"),
            passes(from, "fd00:10:244:1::1", (How::Icmp, true), "echo reply of the gateway"),
        ]);
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
fn a_gigabyte_arrives_equal_between_every_two_kinds() {
    let mut world = World::new("tap");
    let [tap, near] = world.pods(["tap", "near"]);
    // The kind is of new pods: a restart changes it, and the first two stay as they are.
    world.stop().unwrap();
    world.set("port-kind", "veth");
    world.start().unwrap();
    let [veth, beside] = world.pods(["veth", "beside"]);
    ping(&tap, &veth);
    ping(&veth, &tap);
    let mut questions = Vec::new();
    for six in [false, true] {
        let how = (How::Tcp(7001), six);
        questions.push(passes(("default/tap", &tap), "default/veth", how, "pod/default/veth"));
        questions.push(passes(("default/veth", &veth), "default/tap", how, "pod/default/tap"));
    }
    world.foretell(&questions);
    let v4 = |pod: &Pod| IpAddr::from(pod.v4().unwrap());
    let v6 = |pod: &Pod| IpAddr::from(pod.v6().unwrap());
    // A gigabyte for each pair of kinds, and each family from and to each kind.
    for (from, to, address) in [
        (&tap, &near, v6(&near)),
        (&tap, &veth, v4(&veth)),
        (&veth, &tap, v6(&tap)),
        (&veth, &beside, v4(&beside)),
    ] {
        transfer(from, to, address, GIGABYTE);
    }
    // Where the family may matter to a driver, less of it does.
    for (from, to, address) in
        [(&tap, &near, v4(&near)), (&veth, &beside, v6(&beside)), (&veth, &tap, v4(&tap))]
    {
        transfer(from, to, address, "100000000");
    }
    world.settle(&[]);
}

/// Sends that many bytes, which are compared by their SHA-256.
fn transfer(from: &Pod, to: &Pod, address: IpAddr, bytes: &str) {
    let _server = to.serve(&["tcp-receive", "--listen", "[::]:7001"]).unwrap();
    let sent = from.lab(&["tcp-send", "--to", &at(address, 7001), "--bytes", bytes]).unwrap();
    assert!(sent.starts_with(bytes), "{sent}");
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

/// That many pods, each of which speaks to each other's every address.
fn all_reach_each_other(kind: &str, count: usize) {
    let world = World::new(kind);
    let pods: Vec<Pod> = (0..count).map(|n| world.pod(&format!("p{n}")).unwrap()).collect();
    let servers: Vec<_> =
        pods.iter().map(|pod| pod.serve(&["udp-echo", "--listen", "[::]:7002"]).unwrap()).collect();
    let targets: Vec<String> =
        pods.iter().flat_map(Pod::addresses).map(|address| at(address, 7002)).collect();
    assert_eq!(targets.len(), 2 * count);
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
        assert!(said.starts_with(&format!("{} of 100 bytes", targets.len())), "{said}");
    }
    let listed = world.hopctl_json(&["get", "ports"]).unwrap();
    let ports = listed["items"].as_array().unwrap();
    assert_eq!(ports.iter().filter(|port| port["type"] == "pod").count(), count);
    drop(servers);
    world.settle(&[]);
    for pod in pods {
        pod.remove().unwrap();
    }
    let leases = world.hopctl_json(&["get", "leases"]).unwrap();
    assert_eq!(leases["items"].as_array().unwrap().len(), 0, "{leases}");
}

#[test]
fn a_hundred_and_ten_pods_all_reach_each_other() {
    all_reach_each_other("tap", 110);
}

#[test]
fn as_many_veth_pods_all_reach_each_other() {
    all_reach_each_other("veth", 110);
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
    // Who asks anew hears nothing either.
    a.ip(&["neigh", "flush", "dev", "eth0"]).unwrap();
    world.foretell(&[fails(("default/a", &a), target, (How::Icmp, false), "drop NeighborUnknown")]);
    world.settle(&["UnknownUnicast", "NeighborUnknown"]);
}

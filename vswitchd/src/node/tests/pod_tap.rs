//! A TAP in a pod's namespace.

use super::{Lab, once_free, pod_link, sentences};
use crate::node::{Kernel, LinkKind, NodeError, PodLink};

#[test]
fn it_is_made_as_asked_for() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, pod) = (lab.netns("node"), lab.netns("pod"));
    let linux = lab.daemon(&node);
    let node_before = node.state();
    let link = pod_link(LinkKind::Tap, 7);
    pod.run("ip link set lo down");
    let port = linux.wire(&pod.netns, &link).unwrap();

    let shown = pod.run("ip -d link show eth0");
    for part in [
        "mtu 1400",
        "qlen 256",
        "link/ether 02:00:00:00:00:07",
        "tun type tap",
        "persist on",
        ",UP",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(pod.run("ip link show lo").contains(",UP"));
    let addresses = pod.run("ip -o address show eth0");
    assert_eq!(addresses.lines().count(), 3, "{addresses}");
    for part in [
        "inet 10.1.2.7/24 brd 10.1.2.255 scope global",
        "inet6 fd00:1:2::7/64 scope global nodad",
        "inet6 fe80::ff:fe00:7/64 scope link nodad",
    ] {
        assert!(addresses.contains(part), "{part} in {addresses}");
    }
    let routes = pod.run("ip -4 route") + &pod.run("ip -6 route");
    for part in [
        "default via 10.1.2.1 dev eth0",
        "10.1.2.0/24 dev eth0",
        "192.0.2.0/24 via 10.1.2.1 dev eth0",
        "default via fd00:1:2::1 dev eth0",
        "fd00:1:2::/64 dev eth0",
        "2001:db8:5::/48 via fe80::1 dev eth0",
    ] {
        assert!(routes.contains(part), "{part} in {routes}");
    }
    assert_eq!(pod.run("sysctl -n net.ipv6.conf.eth0.accept_ra").trim(), "0");
    assert_eq!(sentences(linux.check(&pod.netns, &link)), Vec::<String>::new());
    assert_eq!(node.state(), node_before, "the node is not concerned");
    drop(port);
}

#[test]
fn check_names_each_difference_and_nothing_else() {
    let Some(mut lab) = Lab::new() else { return };
    let node = lab.netns("node");
    let linux = lab.daemon(&node);
    let link = pod_link(LinkKind::Tap, 7);
    let cases: [(&str, &[&str]); 7] = [
        ("ip link set eth0 mtu 1300", &["eth0 has MTU 1300 instead of 1400"]),
        (
            "ip link set eth0 address 02:00:00:00:00:08",
            &["eth0 has MAC 02-00-00-00-00-08 instead of 02-00-00-00-00-07"],
        ),
        ("ip route del 192.0.2.0/24", &["eth0 lacks the route 192.0.2.0/24 via 10.1.2.1"]),
        ("ip -6 route del default", &["eth0 lacks the route ::/0 via fd00:1:2::1"]),
        ("ip address del fd00:1:2::7/64 dev eth0", &["eth0 lacks the address fd00:1:2::7/64"]),
        ("ip link del eth0", &["the interface eth0 is missing"]),
        (
            "ip -4 route replace default via 10.1.2.9",
            &["eth0 lacks the route 0.0.0.0/0 via 10.1.2.1"],
        ),
    ];
    for (number, (damage, wanted)) in cases.into_iter().enumerate() {
        let pod = lab.netns(&format!("pod{number}"));
        let port = linux.wire(&pod.netns, &link).unwrap();
        pod.run(damage);
        assert_eq!(sentences(linux.check(&pod.netns, &link)), wanted, "{damage}");
        drop(port);
    }
    let pod = lab.netns("down");
    let port = linux.wire(&pod.netns, &link).unwrap();
    pod.run("ip link set eth0 down");
    let said = sentences(linux.check(&pod.netns, &link));
    assert!(said.contains(&"eth0 is down".to_owned()), "{said:?}");
    drop(port);
}

#[test]
fn a_name_that_is_taken_stays_untouched() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, pod) = (lab.netns("node"), lab.netns("pod"));
    let linux = lab.daemon(&node);
    let port = linux.wire(&pod.netns, &pod_link(LinkKind::Tap, 7)).unwrap();
    let before = pod.state();
    for kind in [LinkKind::Tap, LinkKind::Veth] {
        match linux.wire(&pod.netns, &pod_link(kind, 8)) {
            Err(NodeError::Exists { what }) => {
                assert_eq!(what, "the interface eth0 in the pod's namespace");
            }
            Err(other) => panic!("{other}"),
            Ok(_port) => panic!("made twice"),
        }
    }
    assert_eq!(pod.state(), before);
    drop(port);
}

#[test]
fn a_second_interface_stands_behind_the_first_in_the_routes() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, pod) = (lab.netns("node"), lab.netns("pod"));
    let linux = lab.daemon(&node);
    let first = pod_link(LinkKind::Tap, 7);
    let second = PodLink { ifname: "eth1".to_owned(), ..pod_link(LinkKind::Tap, 8) };
    let ports = [&first, &second].map(|link| linux.wire(&pod.netns, link).unwrap());
    for link in [&first, &second] {
        assert_eq!(sentences(linux.check(&pod.netns, link)), Vec::<String>::new());
    }
    let out = pod.run("ip route get 198.51.100.1") + &pod.run("ip route get 2001:db8::1");
    assert_eq!(out.matches("dev eth0").count(), 2, "{out}");
    linux.unwire(Some(&pod.netns), &first).unwrap();
    let out = pod.run("ip route get 198.51.100.1") + &pod.run("ip route get 2001:db8::1");
    assert_eq!(out.matches("dev eth1").count(), 2, "{out}");
    drop(ports);
}

#[test]
fn a_failure_at_any_step_leaves_nothing_behind() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, pod) = (lab.netns("node"), lab.netns("pod"));
    let linux = lab.daemon(&node);
    let before = pod.state();
    let good = pod_link(LinkKind::Tap, 7);
    let broken: [(&str, PodLink); 4] = [
        ("MTU", PodLink { mtu: 67, ..good.clone() }),
        ("MAC", PodLink { mac: smoltcp::wire::EthernetAddress::BROADCAST, ..good.clone() }),
        ("address", PodLink { addresses: vec!["ff02::5/64".parse().unwrap()], ..good.clone() }),
        ("route", PodLink { gateways: vec!["224.0.0.1".parse().unwrap()], ..good }),
    ];
    for (step, link) in broken {
        for kind in [LinkKind::Tap, LinkKind::Veth] {
            match linux.wire(&pod.netns, &PodLink { kind, ..link.clone() }) {
                Err(NodeError::Kernel { doing, .. }) => {
                    assert!(doing.contains(step), "{step}: {doing}");
                }
                Err(other) => panic!("{step}: {other}"),
                Ok(_port) => panic!("{step}: made"),
            }
            assert_eq!(pod.state(), before, "{step}");
        }
    }
}

#[test]
fn it_outlives_the_daemon_and_is_taken_back() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, pod) = (lab.netns("node"), lab.netns("pod"));
    let link = pod_link(LinkKind::Tap, 7);
    drop(lab.daemon(&node).wire(&pod.netns, &link).unwrap());

    let linux = lab.daemon(&node);
    let port = once_free(|| linux.take_back(&pod.netns, &link));
    assert_eq!(sentences(linux.check(&pod.netns, &link)), Vec::<String>::new());
    drop(port);

    pod.run("ip link del eth0");
    let before = pod.state();
    let Err(NodeError::Kernel { .. }) = linux.take_back(&pod.netns, &link) else { panic!("made") };
    assert_eq!(pod.state(), before, "what is gone is not made anew");
}

#[test]
fn it_is_removed_and_removing_it_again_is_fine() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, pod) = (lab.netns("node"), lab.netns("pod"));
    let linux = lab.daemon(&node);
    let before = pod.state();
    let link = pod_link(LinkKind::Tap, 7);
    let port = linux.wire(&pod.netns, &link).unwrap();
    linux.unwire(Some(&pod.netns), &link).unwrap();
    assert_eq!(pod.state(), before);
    drop(port);
    linux.unwire(Some(&pod.netns), &link).unwrap();
    linux.unwire(None, &link).unwrap();
    pod.run("ip link add eth0 type veth peer name far0");
    linux.unwire(Some(&pod.netns), &link).unwrap();
    assert!(pod.run("ip link show eth0").contains("eth0"), "a stranger's interface stays");
}

#[test]
fn a_pod_of_one_family_has_nothing_of_the_other() {
    let Some(mut lab) = Lab::new() else { return };
    let node = lab.netns("node");
    let linux = lab.daemon(&node);
    let both = pod_link(LinkKind::Tap, 7);
    for (family, number, absent) in [(0, "4", "inet6"), (1, "6", "inet ")] {
        let link = PodLink {
            addresses: vec![both.addresses[family]],
            gateways: vec![both.gateways[family]],
            routes: vec![both.routes[family]],
            ..both.clone()
        };
        let pod = lab.netns(&format!("pod{number}"));
        let port = linux.wire(&pod.netns, &link).unwrap();
        let addresses = pod.run("ip -o address show eth0");
        assert!(!addresses.contains(absent), "{addresses}");
        assert_eq!(sentences(linux.check(&pod.netns, &link)), Vec::<String>::new());
        drop(port);
    }
}

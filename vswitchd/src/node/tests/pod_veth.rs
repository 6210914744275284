//! A veth pair between a pod and the switch's namespace.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

use super::{Lab, Place, connect, inode, pod_link, sentences};
use crate::node::{Kernel, LinkKind, NodeError, PodLink, netns};

const NO_PROBLEM: &[String] = &[];

/// The switch's namespace of a lab, once there is one.
fn switch(lab: &Lab) -> Place {
    let path = lab.dir.join("run/netns");
    Place { netns: netns::open(&path, &netns::own().unwrap()).unwrap(), path }
}

#[test]
fn its_node_end_is_in_a_namespace_with_nothing_else() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, pod) = (lab.netns("node"), lab.netns("pod"));
    let linux = lab.daemon(&node);
    // What a new namespace would inherit.
    let node_before = node.state();
    let link = pod_link(LinkKind::Veth, 7);
    let port = linux.wire(&pod.netns, &link).unwrap();
    assert_eq!(sentences(linux.check(&pod.netns, &link)), NO_PROBLEM);
    assert_eq!(node.state(), node_before, "the node is not concerned");

    let switch = switch(&lab);
    let links = switch.run("ip -o link show");
    let end = links.lines().find(|line| line.contains("hopt7@")).unwrap();
    assert!(end.contains("NOARP") && end.contains(",UP") && end.contains("mtu 1400"), "{end}");
    let loopback = links.lines().find(|line| line.contains("lo:")).unwrap();
    assert!(!loopback.contains("UP"), "{loopback}");
    assert_eq!(switch.run("ip -o address show"), "");
    assert_eq!(
        switch.run("ip route show table all") + &switch.run("ip -6 route show table all"),
        ""
    );
    for key in ["ipv4.ip_forward", "ipv4.conf.hopt7.forwarding", "ipv6.conf.hopt7.forwarding"] {
        assert_eq!(switch.run(&format!("sysctl -n net.{key}")).trim(), "0", "{key}");
    }

    let shown = pod.run("ip link show eth0");
    assert!(
        shown.contains("link/ether 02:00:00:00:00:07") && shown.contains("mtu 1400"),
        "{shown}"
    );
    let features = pod.run("ethtool -k eth0");
    for feature in ["tx-checksum-sctp", "tx-sctp-segmentation"] {
        let line = features.lines().find(|line| line.trim().starts_with(feature)).unwrap();
        assert!(line.contains("off"), "{line}");
    }
    let checksum =
        features.lines().find(|line| line.trim().starts_with("tx-checksum-ip-generic")).unwrap();
    assert!(checksum.contains("on"), "no other offload is touched: {checksum}");
    drop(port);
}

#[test]
fn a_pair_whose_end_in_the_pod_cannot_be_found_again_is_removed() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, pod) = (lab.netns("node"), lab.netns("pod"));
    let linux = lab.daemon(&node);
    let before = pod.state();
    // The kernel makes eth0 of it, so that what was asked for is missing right after.
    let pattern = PodLink { ifname: "eth%d".to_owned(), ..pod_link(LinkKind::Veth, 7) };
    linux.wire(&pod.netns, &pattern).map(drop).unwrap_err();
    assert_eq!(pod.state(), before);
    assert!(!switch(&lab).run("ip -o link show").contains("hopt7"), "the node's end is left");
    drop(linux.wire(&pod.netns, &pod_link(LinkKind::Veth, 7)).unwrap());
    // Whose name is taken is another's and stays.
    let second = linux.wire(&pod.netns, &pod_link(LinkKind::Veth, 7)).map(drop);
    assert!(matches!(second, Err(NodeError::Exists { .. })), "{second:?}");
    assert_eq!(sentences(linux.check(&pod.netns, &pod_link(LinkKind::Veth, 7))), NO_PROBLEM);
}

#[test]
fn check_sees_both_ends() {
    let Some(mut lab) = Lab::new() else { return };
    let node = lab.netns("node");
    let linux = lab.daemon(&node);
    for (number, damage, wanted) in [
        (2, "ip link set hopt2 down", "the node's end hopt2 of the veth pair is down"),
        (3, "ip link set hopt3 mtu 1300", "the node's end hopt3 has MTU 1300 instead of 1400"),
        (4, "ip link del hopt4", "the node's end hopt4 of the veth pair is missing"),
    ] {
        let pod = lab.netns(&format!("pod{number}"));
        let link = pod_link(LinkKind::Veth, number);
        let port = linux.wire(&pod.netns, &link).unwrap();
        switch(&lab).run(damage);
        let said = sentences(linux.check(&pod.netns, &link));
        assert!(said.contains(&wanted.to_owned()), "{damage}: {said:?}");
        drop(port);
    }
}

#[test]
fn it_outlives_the_daemon_and_goes_with_its_pod_or_by_name() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, pod) = (lab.netns("node"), lab.netns("pod"));
    let pod_before = pod.state();
    let link = pod_link(LinkKind::Veth, 7);
    drop(lab.daemon(&node).wire(&pod.netns, &link).unwrap());

    let linux = lab.daemon(&node);
    drop(linux.take_back(&pod.netns, &link).unwrap());
    assert_eq!(sentences(linux.check(&pod.netns, &link)), NO_PROBLEM);
    for known in [None, Some(&pod.netns)] {
        linux.unwire(known, &link).unwrap();
        assert_eq!(pod.state(), pod_before);
        drop(linux.wire(&pod.netns, &link).unwrap());
    }
    linux.cleanup("hop0").unwrap();
    assert!(!lab.dir.join("run/netns").exists());
    linux.unwire(Some(&pod.netns), &link).unwrap();
    let Err(NodeError::Kernel { doing, .. }) = linux.take_back(&pod.netns, &link) else {
        panic!("made")
    };
    assert_eq!(doing, "cannot take back hopt7: the switch's namespace is gone");
    assert!(!lab.dir.join("run/netns").exists(), "what is gone is not made anew");
}

#[test]
fn ends_that_nobody_has_on_record_are_swept() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, pod, other) = (lab.netns("node"), lab.netns("pod"), lab.netns("other"));
    let linux = lab.daemon(&node);
    assert_eq!(linux.sweep(&BTreeSet::new()).unwrap(), Vec::<String>::new(), "no namespace yet");
    let end = |name: &str| PodLink { host_ifname: name.into(), ..pod_link(LinkKind::Veth, 7) };
    drop(linux.wire(&pod.netns, &end("hv1")).unwrap());
    drop(linux.wire(&other.netns, &end("hv2")).unwrap());
    switch(&lab).run("ip link add mine type veth peer name mine2");
    assert_eq!(linux.sweep(&BTreeSet::from(["hv1".to_owned()])).unwrap(), ["hv2"]);
    assert_eq!(sentences(linux.check(&pod.netns, &end("hv1"))), NO_PROBLEM);
    assert!(!other.run("ip -o link show").contains("eth0"));
    assert!(switch(&lab).run("ip -o link show").contains("mine"));
}

#[test]
fn many_at_once_share_one_namespace() {
    let Some(mut lab) = Lab::new() else { return };
    let node = lab.netns("node");
    let linux = lab.daemon(&node);
    let pods: Vec<_> = (2..10).map(|number| (number, lab.netns(&format!("pod{number}")))).collect();
    let ports: Vec<_> = std::thread::scope(|scope| {
        let linux = &linux;
        let threads: Vec<_> = pods
            .iter()
            .map(|(number, pod)| {
                scope.spawn(move || linux.wire(&pod.netns, &pod_link(LinkKind::Veth, *number)))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
    });
    let ends = switch(&lab).run("ip -o link show type veth");
    assert_eq!(ends.lines().count(), 8, "{ends}");
    drop(ports);
}

/// Sends datagrams from a pod to all that could be a socket of the node, with the MAC `mac` where
/// unicast.
fn attack(pod: &Place, mac: &str, l4_port: u16) {
    for (family, target) in [("-4", "192.0.2.10"), ("-4", "10.1.2.1"), ("-6", "2001:db8::10")] {
        pod.run(&format!("ip {family} neigh replace {target} lladdr {mac} dev eth0"));
        pod.run(&format!("ip {family} route replace {target} dev eth0"));
    }
    // Loopback addresses on the wire, as a pod with its own kernel settings can have them.
    pod.run("sysctl -qw net.ipv4.conf.eth0.route_localnet=1");
    pod.run("ip address del 127.0.0.1/8 dev lo");
    pod.run("ip route add 127.0.0.1 dev eth0");
    pod.run(&format!("ip neigh replace 127.0.0.1 lladdr {mac} dev eth0"));
    pod.run("ip route replace 224.0.0.0/4 dev eth0");
    pod.within(|| {
        let v4 = UdpSocket::bind("10.1.2.7:0").unwrap();
        v4.set_broadcast(true).unwrap();
        for target in
            ["192.0.2.10", "10.1.2.1", "10.1.2.255", "255.255.255.255", "224.0.0.1", "127.0.0.1"]
        {
            v4.send_to(target.as_bytes(), (target, l4_port)).unwrap();
        }
        let v6 = UdpSocket::bind("[fd00:1:2::7]:0").unwrap();
        v6.send_to(b"2001:db8::10", ("2001:db8::10", l4_port)).unwrap();
        let scope = nix::net::if_::if_nametoindex("eth0").unwrap();
        let all = std::net::SocketAddrV6::new("ff02::1".parse().unwrap(), l4_port, 0, scope);
        v6.send_to(b"ff02::1", all).unwrap();
    });
}

/// What arrives at a socket within a while, sorted.
fn arrivals(socket: &UdpSocket) -> Vec<String> {
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut got = Vec::new();
    let mut bytes = [0; 64];
    while let Ok(length) = socket.recv(&mut bytes) {
        got.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
    }
    got.sort();
    got
}

/// Frames the pod got, and sent, on its interface.
fn frames(pod: &Place) -> (u64, u64) {
    let line = pod.within(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap());
    let line = line.lines().find_map(|line| line.trim().strip_prefix("eth0:")).unwrap().to_owned();
    let numbers: Vec<u64> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
    (numbers[1], numbers[9])
}

#[test]
fn nothing_a_hostile_pod_sends_reaches_a_socket_of_the_node() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, outside, pod) = (lab.netns("node"), lab.netns("outside"), lab.netns("pod"));
    connect(&node, &outside);
    let linux = lab.daemon(&node);
    let link = pod_link(LinkKind::Veth, 7);
    let mut port = linux.wire(&pod.netns, &link).unwrap();
    // The machine forwards, as one with pods does; a new namespace may inherit that.
    node.run("sysctl -qw net.ipv4.ip_forward=1");
    let socket = node.within(|| UdpSocket::bind("[::]:0").unwrap());
    let l4_port = socket.local_addr().unwrap().port();
    let switch = switch(&lab);
    assert_ne!(switch.netns.inode, inode(&node.path));
    let shown = switch.run("ip -o link show hopt7");
    let mac = shown.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    let before = frames(&pod);
    attack(&pod, mac, l4_port);
    assert_eq!(arrivals(&socket), Vec::<String>::new());
    let after = frames(&pod);
    assert!(after.1 >= before.1 + 8, "the frames did leave the pod: {before:?}, {after:?}");
    assert_eq!(after.0, before.0, "nobody answers");
    let mut pool = crate::port::Pool::default();
    let mut seen = 0;
    while let Some(frame) = port.receive(&mut pool).unwrap() {
        pool.give(frame);
        seen += 1;
    }
    assert!(seen >= 8, "the switch sees them: {seen}");
}

#[test]
fn the_same_attack_on_an_ordinary_veth_does_reach_the_node() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, outside, pod) = (lab.netns("node"), lab.netns("outside"), lab.netns("pod"));
    connect(&node, &outside);
    // The host end in the node's namespace, without addresses, as the simplest design would have
    // it.
    pod.within(|| {
        let descriptor = std::os::fd::AsFd::as_fd(&node.netns.descriptor);
        super::Netlink::open().unwrap().add_veth("eth0", "hopt7", descriptor).unwrap();
    });
    node.run("ip link set hopt7 up");
    pod.run("ip address add 10.1.2.7/24 dev eth0");
    pod.run("ip address add fd00:1:2::7/64 dev eth0 nodad");
    pod.run("ip link set eth0 up");
    node.run("sysctl -qw net.ipv4.conf.hopt7.rp_filter=0");
    node.run("sysctl -qw net.ipv4.conf.all.rp_filter=0");
    let socket = node.within(|| UdpSocket::bind("[::]:0").unwrap());
    let l4_port = socket.local_addr().unwrap().port();
    let shown = node.run("ip -o link show hopt7");
    let mac = shown.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    attack(&pod, mac, l4_port);
    let got = arrivals(&socket);
    for target in ["192.0.2.10", "2001:db8::10", "255.255.255.255"] {
        assert!(
            got.contains(&target.to_owned()),
            "{target} in {got:?}: this attack would prove nothing"
        );
    }
}

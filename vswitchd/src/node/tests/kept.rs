//! What somebody else changes, and how it is put right; what is the node's alone and comes back.

use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use stack::PortRange;

use super::{Lab, connect, host_link, once_free, sentences};
use crate::node::{HostLink, Kernel};

const NO_PROBLEM: &[String] = &[];

/// Whether it is readable within that many milliseconds.
fn readable(descriptor: BorrowedFd<'_>, patience: u16) -> bool {
    let mut sources = [PollFd::new(descriptor, PollFlags::POLLIN)];
    poll(&mut sources, PollTimeout::from(patience)).unwrap() > 0
}

#[test]
fn what_was_taken_away_is_put_back_beside_a_device_that_is_open() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, outside) = (lab.netns("node"), lab.netns("outside"));
    connect(&node, &outside);
    let linux = lab.daemon(&node);
    let link = host_link();
    let port = linux.wire_host(&link).unwrap();
    let before = node.state();
    for damage in [
        "ip rule del pref 40",
        "ip rule del pref 50",
        "ip -6 rule del pref 50",
        "ip -6 rule del pref 55",
        "ip rule del pref 56",
        "ip rule add pref 0 lookup local",
        "ip route flush table 77",
        "ip -6 route flush table 77",
        "ip route del 10.1.2.0/24",
        "ip -6 route del fd00:1:2::/64",
        "ip link set hop0 down",
        "ip link set hop0 mtu 1300",
        "ip address flush dev hop0",
        "ip neigh del 10.1.2.1 dev hop0",
        "sysctl -qw net.ipv4.conf.hop0.rp_filter=1",
        "sysctl -qw net.ipv4.conf.hop0.accept_local=0",
        "sysctl -qw net.ipv4.conf.hop0.route_localnet=0",
        "sysctl -qw net.ipv4.tcp_early_demux=1",
        "sysctl -qw net.ipv4.udp_early_demux=1",
        "sysctl -qw net.ipv4.ip_forward=0",
        "sysctl -qw net.ipv6.conf.all.forwarding=0",
        "sysctl -qw net.ipv4.ip_local_reserved_ports=31000",
    ] {
        node.run(damage);
        assert_ne!(sentences(linux.check_host(&link)), NO_PROBLEM, "not seen: {damage}");
        linux.adjust_host(&link).unwrap();
        assert_eq!(sentences(linux.check_host(&link)), NO_PROBLEM, "mended after {damage}");
    }
    // Rules of one preference have no order among them.
    let sorted = |state: Vec<(String, String)>| -> Vec<(String, Vec<String>)> {
        let lines = |text: String| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        state.into_iter().map(|(of, text)| (of, lines(text))).collect()
    };
    assert_eq!(sorted(node.state()), sorted(before));
    // The device itself is not made anew: whoever reads it would not know.
    node.run("ip link del hop0");
    assert!(linux.adjust_host(&link).is_err());
    assert!(!node.attempt("ip link show hop0").0);
    drop(port);
}

#[test]
fn a_change_of_rules_is_heard_and_nothing_else_is() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, outside) = (lab.netns("node"), lab.netns("outside"));
    connect(&node, &outside);
    let linux = lab.daemon(&node);
    let monitor = linux.watch_rules().unwrap();
    node.run("ip route add 198.51.100.0/24 via 192.0.2.1");
    node.run("ip link set eth0 mtu 1400");
    outside.run("ip rule add pref 7 lookup main");
    assert!(!readable(monitor.as_fd(), 50));
    for change in [
        "ip rule add pref 7 lookup main",
        "ip rule del pref 7",
        "ip -6 rule add pref 7 lookup main",
    ] {
        node.run(change);
        assert!(readable(monitor.as_fd(), 1_000), "{change}");
        monitor.drain();
        assert!(!readable(monitor.as_fd(), 0), "drained after {change}");
    }
    // More than its queue holds.
    for _ in 0..300 {
        node.run("ip rule add pref 8 lookup main");
        node.run("ip rule del pref 8");
    }
    assert!(readable(monitor.as_fd(), 0));
    monitor.drain();
    assert!(!readable(monitor.as_fd(), 0));
}

#[test]
fn reserved_ports_are_added_to_others_and_those_alone_stay() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, outside) = (lab.netns("node"), lab.netns("outside"));
    connect(&node, &outside);
    let linux = lab.daemon(&node);
    let key = "net.ipv4.ip_local_reserved_ports";
    let reserved = || node.run(&format!("sysctl -n {key}")).trim().to_owned();
    let set = |value: &str| node.run(&format!("sysctl -qw {key}={value}"));
    set("8080,31000-31010");
    drop(once_free(|| linux.wire_host(&host_link())));
    assert_eq!(reserved(), "8080,30000-32767,61000-65534");
    // Somebody else adds one, and the switch's are others after a restart.
    set("8080,9090,30000-32767,61000-65534");
    let moved = vec![PortRange { first: 20_000, last: 20_010 }];
    let changed = HostLink { diverted: moved, ..host_link() };
    drop(once_free(|| lab.daemon(&node).wire_host(&changed)));
    assert_eq!(reserved(), "8080,9090,20000-20010,31000-31010");
    // Somebody forgets ours, again and again.
    for _ in 0..3 {
        set("8080,9090,31000-31010");
        let said = sentences(linux.check_host(&changed));
        assert_eq!(said, ["net/ipv4/ip_local_reserved_ports lacks 20000-20010"]);
        linux.adjust_host(&changed).unwrap();
    }
    let record = std::fs::read_to_string(lab.dir.join("run/sysctl-before")).unwrap();
    let lines = record.lines().filter(|line| line.starts_with("ipv4/ip_local_reserved_ports"));
    assert_eq!(lines.count(), 2, "one for each time that there is something new: {record}");
    lab.daemon(&node).cleanup("hop0").unwrap();
    assert_eq!(reserved(), "8080,9090,31000-31010");
}

#[test]
fn the_last_reserved_port_of_all_is_taken_back_as_well() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, outside) = (lab.netns("node"), lab.netns("outside"));
    connect(&node, &outside);
    let linux = lab.daemon(&node);
    node.run("sysctl -qw net.ipv4.tcp_early_demux=0");
    let before = node.state();
    drop(once_free(|| linux.wire_host(&host_link())));
    assert_ne!(node.state(), before);
    linux.unwire_host(&host_link()).unwrap();
    assert_eq!(node.state(), before, "and what had its value already keeps it");
}

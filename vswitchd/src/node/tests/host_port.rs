//! The node's own port.

use smoltcp::wire::IpCidr;

use super::{Lab, connect, host_link, once_free, sentences};
use crate::node::{HostLink, Kernel, NodeError};

const NO_PROBLEM: &[String] = &[];

/// The rules of a family with the node's address, as they are shown; `more` stand behind those of
/// their preference.
fn rules(address: &str, more: &[&str]) -> String {
    let divert =
        |rest: &str| format!("50:\tfrom all to {address} ipproto {rest} lookup 77 proto 104");
    let mut rules = vec!["40:\tfrom all iif hop0 lookup local proto 104".to_owned()];
    for range in ["30000-32767", "61000-65534"] {
        rules.extend(["tcp", "udp", "sctp"].map(|l4| divert(&format!("{l4} dport {range}"))));
    }
    rules.extend(more.iter().map(|rule| (*rule).to_owned()));
    rules.extend([
        format!("55:\tfrom all to {address} ipproto udp dport 1-65534 lookup local proto 104"),
        format!("56:\tfrom all to {address} ipproto udp lookup 77 proto 104"),
        "100:\tfrom all lookup local proto 104".to_owned(),
        "32766:\tfrom all lookup main\n".to_owned(),
    ]);
    rules.join("\n")
}

#[test]
fn it_is_made_once_and_removed_without_a_trace() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, outside) = (lab.netns("node"), lab.netns("outside"));
    connect(&node, &outside);
    let linux = lab.daemon(&node);
    let link = host_link();
    let before = node.state();
    let port = linux.wire_host(&link).unwrap();

    assert_eq!(sentences(linux.check_host(&link)), NO_PROBLEM);
    assert_eq!(node.run("ip -6 rule show"), rules("2001:db8::10", &[]));
    let loopback = "50:\tfrom all to 127.0.0.1 ipproto tcp dport 8080 lookup 77 proto 104";
    let rules4 = rules("192.0.2.10", &[loopback]) + "32767:\tfrom all lookup default\n";
    assert_eq!(node.run("ip -4 rule show"), rules4);
    for (family, gateway, source) in
        [("-4", "10.1.2.1", "192.0.2.10"), ("-6", "fd00:1:2::1", "2001:db8::10")]
    {
        let table = node.run(&format!("ip {family} route show table 77"));
        let route = format!("default via {gateway} dev hop0 proto 104 src {source}");
        assert!(table.starts_with(&route) && table.lines().count() == 1, "{table}");
    }
    for (to, source) in [("10.1.2.5", "192.0.2.10"), ("fd00:1:2::5", "2001:db8::10")] {
        let got = node.run(&format!("ip route get {to}"));
        assert!(got.contains("dev hop0") && got.contains(&format!("src {source} ")), "{got}");
    }
    let addresses = node.run("ip -o address show hop0");
    assert_eq!(addresses.lines().count(), 2, "{addresses}");
    assert!(addresses.contains("inet 192.0.0.8/32 scope host"), "{addresses}");
    assert!(addresses.contains("inet6 fe80::ff:fe00:101/64 scope link"), "{addresses}");
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        assert_eq!(node.run(&format!("sysctl -n {key}")).trim(), "1");
    }
    drop(port);

    let once = node.state();
    let port = once_free(|| lab.daemon(&node).wire_host(&link));
    let carrier = |state: Vec<(String, String)>| -> Vec<(String, String)> {
        let plain = |text: String| text.replace(" linkdown", "").replace("NO-CARRIER,", "");
        state
            .into_iter()
            .filter(|(of, _)| of != "ip -o link show")
            .map(|(of, text)| (of, plain(text)))
            .collect()
    };
    assert_eq!(carrier(node.state()), carrier(once), "the second time changes nothing");
    drop(port);
    linux.unwire_host(&link).unwrap();
    assert_eq!(node.state(), before);
    linux.unwire_host(&link).unwrap();
    assert_eq!(node.state(), before);
}

#[test]
fn check_names_what_is_missing_and_wiring_again_mends_it() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, outside) = (lab.netns("node"), lab.netns("outside"));
    connect(&node, &outside);
    let linux = lab.daemon(&node);
    let link = host_link();
    drop(once_free(|| linux.wire_host(&link)));
    for (damage, wanted) in [
        ("ip rule del pref 40", "the IPv4 rule 40: iif hop0 lookup local is missing"),
        ("ip -6 rule del pref 40", "the IPv6 rule 40: iif hop0 lookup local is missing"),
        (
            "ip rule add pref 0 lookup local",
            "the IPv4 rule 0: lookup local stands before the switch's rules",
        ),
        (
            "ip route del 10.1.2.0/24",
            "the route 10.1.2.0/24 via 10.1.2.1 src 192.0.2.10 dev hop0 is missing",
        ),
        (
            "ip neigh del fd00:1:2::1 dev hop0",
            "the neighbor fd00:1:2::1 on hop0 is not set to 02-48-4f-50-00-01",
        ),
        ("ip link set hop0 mtu 1300", "hop0 has MTU 1300 instead of 1400"),
        ("sysctl -qw net.ipv4.conf.hop0.rp_filter=1", "net/ipv4/conf/hop0/rp_filter is not 2"),
        (
            "sysctl -qw net.ipv4.ip_forward=0",
            "IPv4 forwarding is off: net/ipv4/ip_forward is not 1",
        ),
        (
            "ip link set hop0 address 02:00:00:00:01:02",
            "hop0 does not have the MAC 02-00-00-00-01-01",
        ),
        ("ip link set hop0 down", "hop0 is down"),
        ("ip link del hop0", "the node's port hop0 is missing"),
    ] {
        node.run(damage);
        let said = sentences(linux.check_host(&link));
        assert!(said.iter().any(|sentence| sentence.starts_with(wanted)), "{damage}: {said:?}");
        drop(once_free(|| linux.wire_host(&link)));
        assert_eq!(sentences(linux.check_host(&link)), NO_PROBLEM, "mended after {damage}");
    }
}

#[test]
fn a_changed_configuration_replaces_the_old_one() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, outside) = (lab.netns("node"), lab.netns("outside"));
    connect(&node, &outside);
    let linux = lab.daemon(&node);
    drop(once_free(|| linux.wire_host(&host_link())));
    let changed = HostLink {
        mac: smoltcp::wire::EthernetAddress([0x02, 0, 0, 0, 1, 9]),
        gateways: vec!["10.9.0.1".parse().unwrap(), "fd00:9::1".parse().unwrap()],
        prefixes: vec!["10.9.0.0/24".parse().unwrap(), "fd00:9::/64".parse().unwrap()],
        ..host_link()
    };
    drop(once_free(|| linux.wire_host(&changed)));
    assert_eq!(sentences(linux.check_host(&changed)), NO_PROBLEM);
    let routes = node.run("ip -4 route show dev hop0") + &node.run("ip -6 route show dev hop0");
    assert!(!routes.contains("10.1.2.") && !routes.contains("fd00:1:2:"), "{routes}");
    assert_eq!(node.run("ip -o address show hop0").lines().count(), 2);
}

#[test]
fn strangers_are_respected_and_a_failure_leaves_nothing_behind() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, outside) = (lab.netns("node"), lab.netns("outside"));
    connect(&node, &outside);
    let linux = lab.daemon(&node);

    node.run("ip link add hop0 type veth peer name far0");
    let before = node.state();
    let Err(NodeError::Setting { field, why }) = linux.wire_host(&host_link()) else {
        panic!("made")
    };
    assert!(field == "host-port" && why.contains("hop0 of kind veth"), "{why}");
    assert_eq!(node.state(), before);
    node.run("ip link del hop0");

    node.run("ip route add 10.1.2.0/24 via 192.0.2.1");
    let before = node.state();
    let Err(NodeError::Exists { what }) = linux.wire_host(&host_link()) else { panic!("made") };
    assert_eq!(what, "a route to 10.1.2.0/24");
    assert_eq!(node.state(), before);
    node.run("ip route del 10.1.2.0/24");

    node.run("ip route add 203.0.113.9 via 192.0.2.1");
    let mut link = host_link();
    link.prefixes
        .extend(["203.0.113.8/32", "203.0.113.9/32"].map(|vip| -> IpCidr { vip.parse().unwrap() }));
    drop(once_free(|| linux.wire_host(&link)));
    let theirs = node.run("ip route show 203.0.113.9");
    assert!(theirs.contains("via 192.0.2.1"), "a Service's address takes nobody's route: {theirs}");
    assert!(node.run("ip route show 203.0.113.8").contains("dev hop0"));
    let missing = sentences(linux.check_host(&link));
    assert!(missing.len() == 1 && missing[0].contains("203.0.113.9"), "{missing:?}");
    lab.daemon(&node).cleanup("hop0").unwrap();
    node.run("ip route del 203.0.113.9");

    let foreign = HostLink { node_addresses: vec!["198.51.100.7".parse().unwrap()], ..host_link() };
    let before = node.state();
    let Err(NodeError::Setting { field, why }) = linux.wire_host(&foreign) else { panic!("made") };
    assert!(field == "node-addresses" && why.contains("198.51.100.7"), "{why}");
    assert_eq!(node.state(), before);
}

#[test]
fn router_advertisements_stay_accepted_and_settings_come_back() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, outside) = (lab.netns("node"), lab.netns("outside"));
    connect(&node, &outside);
    let linux = lab.daemon(&node);
    let accept = || node.run("sysctl -n net.ipv6.conf.eth0.accept_ra").trim().to_owned();
    assert_eq!(accept(), "1");
    drop(once_free(|| linux.wire_host(&host_link())));
    assert_eq!(accept(), "2");
    lab.daemon(&node).cleanup("hop0").unwrap();
    assert_eq!(accept(), "1");
    assert!(!lab.dir.join("run/sysctl-before").exists());
}

#[test]
fn a_node_of_one_family_has_nothing_of_the_other() {
    let Some(mut lab) = Lab::new() else { return };
    let node = lab.netns("node");
    node.run("ip link add eth0 up type veth peer name far0");
    node.run("ip address add 192.0.2.10/24 dev eth0");
    let linux = lab.daemon(&node);
    let mut link = host_link();
    link.gateways.pop();
    link.prefixes.pop();
    link.node_addresses.pop();
    let (rules, forwarding) = ("ip -6 rule show", "sysctl net.ipv6.conf.all.forwarding");
    let before = (node.run(rules), node.run(forwarding));
    let port = linux.wire_host(&link).unwrap();
    assert_eq!(sentences(linux.check_host(&link)), NO_PROBLEM);
    assert_eq!((node.run(rules), node.run(forwarding)), before);
    assert_eq!(node.run("ip -6 address show hop0"), "");
    drop(port);
}

//! Finding the interface that leads out of the node, and the facts about it.

use super::{Lab, connect, host_link};
use crate::node::{Kernel, NodeError};

#[test]
fn the_default_route_decides_unless_the_setting_does() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, outside) = (lab.netns("node"), lab.netns("outside"));
    connect(&node, &outside);
    node.run("ip link add spare0 mtu 9000 up type veth peer name far0");
    let linux = lab.daemon(&node);
    let found = linux.uplink(None).unwrap().unwrap();
    assert_eq!((found.ifname.as_str(), found.mtu), ("eth0", 1500));
    assert_eq!(found.addresses, ["192.0.2.10".parse().unwrap(), "2001:db8::10".parse().unwrap()]);
    assert_eq!(linux.uplink(Some("spare0")).unwrap().unwrap().mtu, 9000);
    for absent in ["eth7", "lo"] {
        let Err(NodeError::Setting { field, why }) = linux.uplink(Some(absent)) else {
            panic!("found")
        };
        assert_eq!(field, "uplink");
        assert!(why.contains(absent) && why.contains("name one of eth0, far0, spare0"), "{why}");
    }
    node.run("ip route del default");
    node.run("ip -6 route del default");
    assert_eq!(linux.uplink(None).unwrap().unwrap().ifname, "eth0", "by its address");
}

#[test]
fn a_node_that_leads_nowhere_has_none() {
    let Some(mut lab) = Lab::new() else { return };
    let node = lab.netns("node");
    assert_eq!(lab.daemon(&node).uplink(None).unwrap(), None);
}

#[test]
fn facts_follow_the_node() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, outside) = (lab.netns("node"), lab.netns("outside"));
    connect(&node, &outside);
    node.run("sysctl -qw net.ipv4.ip_forward=0");
    let linux = lab.daemon(&node);
    let facts = linux.facts("hop0", None).unwrap();
    assert_eq!(facts.tun, Ok(()));
    assert_eq!((facts.host_port, facts.rp_filter), (false, None));
    assert_eq!((facts.forwarding_v4, facts.forwarding_v6), (false, Some(false)));
    assert_eq!(facts.uplink.map(|uplink| uplink.ifname), Some("eth0".to_owned()));
    let used: Vec<String> =
        facts.used.iter().map(|used| format!("{} {}", used.prefix, used.ifname)).collect();
    assert_eq!(used, ["192.0.2.0/24 eth0", "2001:db8::/64 eth0"]);

    drop(linux.wire_host(&host_link()).unwrap());
    let facts = linux.facts("hop0", None).unwrap();
    assert_eq!((facts.host_port, facts.rp_filter), (true, Some(2)));
    assert_eq!((facts.forwarding_v4, facts.forwarding_v6), (true, Some(true)));
    assert_eq!(facts.used.len(), 2, "the port's own routes are no overlap");
}

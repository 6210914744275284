//! Finding the interface that leads out of the node.

use super::{Lab, connect};
use crate::node::NodeError;

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

//! The objects, as far as they matter here, and what they mean. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::Deserialize;
use smoltcp::wire::{IpCidr, Ipv4Cidr, Ipv6Cidr};

use crate::text::prefix;

/// Annotation with further prefixes a pod may send from, separated by commas.
pub const ALLOWED_ADDRESSES: &str = "hopscope.dev/allowed-addresses";

/// Metadata of any object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// Its namespace; empty is `default`.
    pub namespace: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A Node (core/v1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    /// Its metadata.
    pub metadata: Metadata,
    /// What is desired.
    pub spec: NodeSpec,
    /// What is.
    pub status: NodeStatus,
}

/// A Node's `spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// The pod ranges, one a family at most.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
    /// The first of them, as older clusters write it.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
}

/// A Node's `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// Its addresses.
    pub addresses: Vec<NodeAddress>,
}

/// One of a Node's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// The address or name.
    pub address: String,
}

/// A Pod (core/v1), as far as this daemon reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Its metadata.
    pub metadata: Metadata,
}

/// All objects, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// Pods by namespace and name.
    pub pods: BTreeMap<(String, String), Pod>,
    /// Kinds that were there and that nothing acts on yet.
    pub idle: BTreeSet<String>,
}

/// What the objects mean for this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// This node's pod ranges.
    pub pod_cidrs: Vec<IpCidr>,
    /// This node's own addresses, by its object.
    pub node_addresses: Vec<IpAddr>,
    /// Further source prefixes of pods, by namespace and name.
    pub allowed: BTreeMap<(String, String), Vec<IpCidr>>,
    /// Kinds of objects that nothing acts on yet.
    pub idle: BTreeSet<String>,
}

/// An object that cannot be meant so: its kind and name, the field, why, and the mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field}: {why}")]
pub struct ObjectError {
    /// `Node n1`, `Pod ns/name`.
    pub object: String,
    /// The field's path.
    pub field: String,
    /// What is wrong and what mends it.
    pub why: String,
}

fn fault(object: &str, field: &str, why: impl Into<String>) -> ObjectError {
    ObjectError { object: object.to_owned(), field: field.to_owned(), why: why.into() }
}

/// What the objects mean for the node of that name.
///
/// # Errors
/// The first object that cannot be meant so.
pub fn desired(objects: &Objects, node_name: &str) -> Result<Desired, ObjectError> {
    let object = format!("Node {node_name}");
    let Some(node) = objects.nodes.get(node_name) else {
        let why = "no Node object of this name; add one to the manifests or set node-name";
        return Err(fault(&object, "metadata.name", why));
    };
    let pod_cidrs = ranges(&object, node)?;
    refuse_shared(&object, node_name, &pod_cidrs, objects)?;
    let mut desired = Desired { pod_cidrs, idle: objects.idle.clone(), ..Desired::default() };
    for address in node.status.addresses.iter().filter(|a| a.kind == "InternalIP") {
        match IpAddr::from_str(&address.address) {
            Ok(ip) => desired.node_addresses.push(ip),
            Err(_) => {
                let why = format!("`{}` is no IP address", address.address);
                return Err(fault(&object, "status.addresses", why));
            }
        }
    }
    for (key, pod) in &objects.pods {
        let Some(list) = pod.metadata.annotations.get(ALLOWED_ADDRESSES) else { continue };
        let pod_object = format!("Pod {}/{}", key.0, key.1);
        let field = format!("metadata.annotations[{ALLOWED_ADDRESSES}]");
        let mut prefixes = Vec::new();
        for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let parsed = prefix(item).ok_or_else(|| {
                fault(&pod_object, &field, format!("`{item}` is no address or prefix"))
            })?;
            prefixes.push(parsed);
        }
        desired.allowed.insert(key.clone(), prefixes);
    }
    Ok(desired)
}

/// An address must be of one node only. Ranges of other nodes that are none are those nodes' own
/// matter.
fn refuse_shared(
    object: &str,
    node_name: &str,
    own: &[IpCidr],
    objects: &Objects,
) -> Result<(), ObjectError> {
    for (other_name, other) in objects.nodes.iter().filter(|(name, _)| *name != node_name) {
        let Ok(ranges) = ranges(other_name, other) else { continue };
        for (mine, theirs) in own.iter().flat_map(|mine| ranges.iter().map(move |r| (mine, r))) {
            if mine.contains_subnet(theirs) || theirs.contains_subnet(mine) {
                let why = format!(
                    "{mine} overlaps {theirs} of Node {other_name}; give one of them another range"
                );
                return Err(fault(object, "spec.podCIDRs", why));
            }
        }
    }
    Ok(())
}

/// The pod ranges: at least one, one a family, room for the gateway and a pod, none within another.
fn ranges(object: &str, node: &Node) -> Result<Vec<IpCidr>, ObjectError> {
    let field = "spec.podCIDRs";
    let mut texts: Vec<&str> = node.spec.pod_cidrs.iter().map(String::as_str).collect();
    if texts.is_empty() {
        texts.extend(node.spec.pod_cidr.as_deref());
    }
    if texts.is_empty() {
        return Err(fault(object, field, "empty; give the node a range, such as 10.244.1.0/24"));
    }
    let mut ranges: Vec<IpCidr> = Vec::new();
    for text in texts {
        let range = prefix(text).ok_or_else(|| {
            fault(object, field, format!("`{text}` is no range such as 10.244.1.0/24"))
        })?;
        let (family, bits_max) = match range {
            IpCidr::Ipv4(_) => ("IPv4", 29),
            IpCidr::Ipv6(_) => ("IPv6", 125),
        };
        if range.prefix_len() > bits_max {
            let why = format!("`{text}` has no room for a gateway and pods; at most /{bits_max}");
            return Err(fault(object, field, why));
        }
        if let Some(whose) = reserved(&range) {
            let why = format!(
                "`{text}` overlaps {whose}; give the node a range of its own, such as \
                 10.244.1.0/24"
            );
            return Err(fault(object, field, why));
        }
        if ranges.iter().any(|other| other.address().version() == range.address().version()) {
            let why =
                format!("`{text}` is a second {family} range; one of each family is supported");
            return Err(fault(object, field, why));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

/// What can be no pod's address anywhere (RFC 6890, RFC 4291), with what it is for.
const RESERVED: [(IpCidr, &str); 9] = [
    (v4([0, 0, 0, 0], 8), "0.0.0.0/8, which means this network"),
    (v4([127, 0, 0, 0], 8), "127.0.0.0/8, which is loopback"),
    (v4([169, 254, 0, 0], 16), "169.254.0.0/16, which is link-local"),
    (v4([224, 0, 0, 0], 4), "224.0.0.0/4, which is multicast"),
    (v4([240, 0, 0, 0], 4), "240.0.0.0/4, which is reserved"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "::/96, which holds loopback"),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), "::ffff:0:0/96, which is IPv4 in other words"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "fe80::/10, which is link-local"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "ff00::/8, which is multicast"),
];

const fn v4(octets: [u8; 4], bits: u8) -> IpCidr {
    let [a, b, c, d] = octets;
    IpCidr::Ipv4(Ipv4Cidr::new(Ipv4Addr::new(a, b, c, d), bits))
}

const fn v6(words: [u16; 8], bits: u8) -> IpCidr {
    let [a, b, c, d, e, f, g, h] = words;
    IpCidr::Ipv6(Ipv6Cidr::new(Ipv6Addr::new(a, b, c, d, e, f, g, h), bits))
}

/// The reserved prefix that a range shares addresses with, and what it is for.
fn reserved(range: &IpCidr) -> Option<&'static str> {
    let shared = |other: &IpCidr| other.contains_subnet(range) || range.contains_subnet(other);
    RESERVED.iter().find(|(prefix, _)| shared(prefix)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ranges: &[&str]) -> Objects {
        let mut objects = Objects::default();
        let mut node = Node::default();
        node.spec.pod_cidrs = ranges.iter().map(|range| (*range).to_owned()).collect();
        objects.nodes.insert("n1".to_owned(), node);
        objects
    }

    #[test]
    fn ranges_of_both_families() {
        let desired = desired(&node(&["10.244.1.0/24", "fd00:1::/64"]), "n1").unwrap();
        assert_eq!(desired.pod_cidrs.len(), 2);
    }

    #[test]
    fn each_wrong_range_names_its_field() {
        for (ranges, part) in [
            (&[] as &[&str], "empty"),
            (&["10.0.0.0/33"], "no range"),
            (&["10.0.0.0/24", "10.0.0.128/25"], "second IPv4"),
            (&["10.0.0.0/31"], "no room"),
            (&["127.0.0.0/24"], "127.0.0.0/8, which is loopback"),
            (&["169.254.0.0/16"], "169.254.0.0/16, which is link-local"),
            (&["10.244.1.0/24", "fe80::/64"], "`fe80::/64` overlaps fe80::/10"),
            (&["::ffff:0:0/112"], "::ffff:0:0/96"),
            (&["::/112"], "loopback"),
            (&["239.1.0.0/16"], "multicast"),
            (&["ff05::/64"], "multicast"),
            (&["128.0.0.0/1"], "169.254.0.0/16"),
        ] {
            let error = desired(&node(ranges), "n1").unwrap_err();
            assert_eq!(error.field, "spec.podCIDRs");
            assert!(error.why.contains(part), "{error}");
        }
        assert!(desired(&node(&[]), "n2").unwrap_err().why.contains("node-name"));
    }

    #[test]
    fn nodes_share_no_range() {
        let mut objects = node(&["10.244.1.0/24", "fd00:1::/64"]);
        let mut other = |ranges: &[&str]| {
            let other = node(ranges).nodes.remove("n1").unwrap();
            objects.nodes.insert("n2".to_owned(), other);
            desired(&objects, "n1").map(|_| ()).map_err(|error| error.why)
        };
        other(&["10.244.2.0/24", "fd00:2::/64"]).unwrap();
        for shared in ["10.244.0.0/16", "10.244.1.128/25", "fd00::/16"] {
            let why = other(&[shared]).unwrap_err();
            assert!(why.contains(shared) && why.contains("Node n2"), "{why}");
        }
    }

    #[test]
    fn allowed_addresses_are_prefixes() {
        let mut objects = node(&["10.244.1.0/24"]);
        let mut pod = Pod::default();
        pod.metadata
            .annotations
            .insert(ALLOWED_ADDRESSES.to_owned(), "10.9.0.7, fd00::/64".to_owned());
        let key = ("default".to_owned(), "vip".to_owned());
        objects.pods.insert(key.clone(), pod);
        assert_eq!(desired(&objects, "n1").unwrap().allowed[&key].len(), 2);
        objects
            .pods
            .get_mut(&key)
            .unwrap()
            .metadata
            .annotations
            .insert(ALLOWED_ADDRESSES.into(), "x".into());
        assert!(desired(&objects, "n1").unwrap_err().object.contains("default/vip"));
    }
}

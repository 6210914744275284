//! The objects, as far as they matter here, and what they mean. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use smoltcp::wire::{IpAddress, IpCidr};
use stack::ServiceConfig;

use super::faults::Faults;
use super::place::{Known, Place};
use super::ranges::{self, ServiceCidr};
use super::service::Service;
use super::services::{HealthCheck, services};
use super::slice::EndpointSlice;
use crate::text::{prefix, quoted, single};

/// Annotation with further prefixes a pod may send from, separated by commas.
pub const ALLOWED_ADDRESSES: &str = "hopscope.dev/allowed-addresses";

/// Taint of a Node that the cluster autoscaler is about to remove.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// Host routes at most, for addresses of Services outside of `service-cidrs`: the kernel looks each
/// up, and the parent takes no longer list.
pub const HOST_ROUTES_MAX: usize = 4_096;

/// Metadata of any object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// Its namespace; empty is `default`.
    pub namespace: String,
    /// What tells it from others of its name, before and after it.
    pub uid: String,
    /// Labels.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
    /// Since when it is being deleted, if it is.
    pub deletion_timestamp: Option<String>,
}

/// Reads a field whose `null` means that it is not there, as the API's server has it and writes it.
///
/// # Errors
/// The field's own.
pub(crate) fn or_default<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
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
    /// What keeps pods away.
    #[serde(deserialize_with = "or_default")]
    pub taints: Vec<Taint>,
}

/// One of a Node's taints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Taint {
    /// Its key.
    pub key: String,
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
    /// Services by namespace and name.
    pub services: BTreeMap<(String, String), Service>,
    /// EndpointSlices by namespace and name.
    pub slices: BTreeMap<(String, String), EndpointSlice>,
    /// ServiceCIDRs by name.
    pub service_cidrs: BTreeMap<String, ServiceCidr>,
    /// Objects that could not be read, each left out for itself.
    pub faults: Vec<ObjectError>,
    /// Kinds that were there and that nothing acts on yet.
    pub idle: BTreeSet<String>,
}

/// What the objects mean for this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// This node's pod ranges.
    pub pod_cidrs: Vec<IpCidr>,
    /// The pod ranges of all nodes, this one's too; in order.
    pub cluster_cidrs: Vec<IpCidr>,
    /// The ranges of Services, in order, none within another.
    pub service_cidrs: Vec<IpCidr>,
    /// This node's own addresses, by its object.
    pub node_addresses: Vec<IpAddr>,
    /// Further source prefixes of pods, by namespace and name.
    pub allowed: BTreeMap<(String, String), Vec<IpCidr>>,
    /// Services, in the order of name, protocol and family. As objects say they have no numbers
    /// yet: those are given by [`Numbers`](super::numbers::Numbers).
    pub services: Vec<ServiceConfig>,
    /// Health checks of Services.
    pub health_checks: Vec<HealthCheck>,
    /// Whether this node is about to go: load balancers shall lead nobody here any more (KEP-3836).
    pub leaving: bool,
    /// What of the objects is refused, while all else is in force.
    pub faults: Vec<ObjectError>,
    /// Kinds of objects that nothing acts on yet.
    pub idle: BTreeSet<String>,
}

/// An object that cannot be meant so: its kind and name, the field, why, and the mend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{object}: {field}: {why}")]
#[serde(deny_unknown_fields)]
pub struct ObjectError {
    /// `Node n1`, `Pod ns/name`.
    pub object: String,
    /// The field's path.
    pub field: String,
    /// What is wrong and what mends it.
    pub why: String,
}

pub(super) fn fault(object: &str, field: &str, why: impl Into<String>) -> ObjectError {
    ObjectError { object: object.to_owned(), field: field.to_owned(), why: why.into() }
}

impl Desired {
    /// What of Services the node has to route to the switch: their ranges, and their addresses
    /// outside of these. In order; of very many addresses the first ones.
    #[must_use]
    pub fn routed(&self) -> Vec<IpCidr> {
        let mut routed = self.service_cidrs.clone();
        routed.extend(self.outside().into_iter().take(HOST_ROUTES_MAX).map(single));
        routed
    }

    /// Addresses of Services outside of their ranges, in order.
    fn outside(&self) -> BTreeSet<IpAddress> {
        let frontends = self.services.iter().flat_map(|service| &service.frontends);
        frontends
            .filter_map(|frontend| frontend.address)
            .filter(|address| !self.service_cidrs.iter().any(|range| range.contains_addr(address)))
            .collect()
    }
}

/// What the objects mean for a node.
///
/// # Errors
/// The first object that cannot be meant so, if nothing could work beside it. Faults of Services
/// and what belongs to them are in [`Desired::faults`] instead.
pub fn desired(objects: &Objects, known: &Known<'_>) -> Result<Desired, ObjectError> {
    let node_name = known.node_name;
    let object = format!("Node {node_name}");
    let Some(node) = objects.nodes.get(node_name) else {
        let why = "no Node object of this name; add one, or set node-name";
        return Err(fault(&object, "metadata.name", why));
    };
    let pod_cidrs = ranges::of_pods(&object, node)?;
    ranges::refuse_shared(&object, node_name, &pod_cidrs, objects)?;
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
    desired.leaving = node.metadata.deletion_timestamp.is_some()
        || node.spec.taints.iter().any(|taint| taint.key == TO_BE_DELETED);
    let mut faults = Faults::default();
    objects.faults.iter().for_each(|error| faults.push(error.clone()));
    desired.allowed = allowed(objects, &mut faults);
    let mut place = Place::new(objects, known, &desired.node_addresses);
    desired.cluster_cidrs = ranges::outermost(place.pods.iter().map(|(range, _)| *range).collect());
    place.service_cidrs = ranges::of_services(objects, known.service_cidrs, &place, &mut faults)?;
    (desired.services, desired.health_checks) = services(objects, &place, &mut faults);
    desired.service_cidrs = place.service_cidrs;
    let count = desired.outside().len();
    if count > HOST_ROUTES_MAX {
        let why = format!(
            "{count} addresses lie outside of the ranges of Services, and the node is given \
             routes to {HOST_ROUTES_MAX}; set service-cidrs"
        );
        faults.add("Services", "addresses", why);
    }
    desired.faults = faults.finish();
    Ok(desired)
}

/// The prefixes that pods' annotations allow. Whoever may write one Pod must not hold up the state
/// of all: an annotation with a fault allows nothing, and that is all.
fn allowed(objects: &Objects, faults: &mut Faults) -> BTreeMap<(String, String), Vec<IpCidr>> {
    let mut allowed = BTreeMap::new();
    for (key, pod) in &objects.pods {
        let Some(list) = pod.metadata.annotations.get(ALLOWED_ADDRESSES) else { continue };
        let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
        let read = |item: &str| prefix(item).ok_or_else(|| quoted(item));
        match items.map(read).collect::<Result<Vec<_>, _>>() {
            Ok(prefixes) => drop(allowed.insert(key.clone(), prefixes)),
            Err(item) => faults.add(
                &format!("Pod {}/{}", key.0, key.1),
                format!("metadata.annotations[{ALLOWED_ADDRESSES}]"),
                format!("{item} is no address or prefix; nothing is allowed"),
            ),
        }
    }
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired(objects: &Objects, node_name: &str) -> Result<Desired, ObjectError> {
        super::desired(objects, &Known::alone(node_name))
    }

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

    fn with_cidrs(cidrs: &[&[&str]]) -> Objects {
        let mut objects = node(&["10.244.1.0/24", "fd00:1::/64"]);
        for (number, cidrs) in cidrs.iter().enumerate() {
            let mut object = ServiceCidr::default();
            object.spec.cidrs = cidrs.iter().map(|cidr| (*cidr).to_owned()).collect();
            objects.service_cidrs.insert(format!("c{number}"), object);
        }
        objects
    }

    #[test]
    fn ranges_of_services_are_those_of_objects_and_settings() {
        let objects = with_cidrs(&[&["10.96.0.0/16", "fd00:96::/112"], &["10.96.7.0/24"]]);
        let set: Vec<IpCidr> = ["10.96.0.0/16", "172.20.0.0/20"].map(|c| prefix(c).unwrap()).into();
        let known = Known { service_cidrs: &set, ..Known::alone("n1") };
        let found = super::desired(&objects, &known).unwrap();
        let shown: Vec<String> = found.service_cidrs.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.96.0.0/16", "172.20.0.0/20", "fd00:96::/112"]);
        assert_eq!((found.routed(), found.faults), (found.service_cidrs, vec![]));
    }

    #[test]
    fn ranges_of_services_hold_no_pods_and_no_nodes() {
        let mut other = node(&["10.244.7.0/24"]).nodes.remove("n1").unwrap();
        let address = NodeAddress { kind: "InternalIP".into(), address: "192.0.2.7".into() };
        other.status.addresses.push(address);
        for (cidr, whose) in [
            ("10.0.0.0/8", "the pod range 10.244.1.0/24 of Node n1"),
            ("10.244.7.128/25", "the pod range 10.244.7.0/24 of Node n2"),
            ("fd00:1::/112", "the pod range fd00:1::/64 of Node n1"),
            ("192.0.2.0/24", "192.0.2.7, an address of Node n2"),
            ("198.51.100.0/24", "198.51.100.1, an address of this node"),
            ("127.0.0.0/16", "127.0.0.0/8, which is loopback"),
        ] {
            let uplink = ["198.51.100.1".parse().unwrap()];
            let why = format!("{cidr} overlaps {whose}; give Services a range of their own");
            let mut objects = with_cidrs(&[&["10.96.0.0/16"], &[cidr]]);
            objects.nodes.insert("n2".to_owned(), other.clone());
            let known = Known { uplink: &uplink, ..Known::alone("n1") };
            let error = super::desired(&objects, &known).unwrap_err();
            assert_eq!(error, fault("ServiceCIDR c1", "spec.cidrs[0]", why.as_str()));
            objects.service_cidrs.clear();
            let known = Known { service_cidrs: &[prefix(cidr).unwrap()], ..known };
            let error = super::desired(&objects, &known).unwrap_err();
            assert_eq!(error, fault("settings", "service-cidrs", why));
        }
    }

    #[test]
    fn a_service_cidr_that_is_none_is_left_out_alone() {
        let found = desired(&with_cidrs(&[&["10.96.0.0/33", "10.97.0.0/16"], &[]]), "n1").unwrap();
        assert_eq!(found.service_cidrs, [prefix("10.97.0.0/16").unwrap()]);
        let faults: Vec<String> = found.faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [
                "ServiceCIDR c0: spec.cidrs[0]: `10.96.0.0/33` is no range such as 10.96.0.0/16",
                "ServiceCIDR c1: spec.cidrs: empty; give it a range, such as 10.96.0.0/16",
            ]
        );
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
        let found = desired(&objects, "n1").unwrap();
        assert_eq!((found.allowed.len(), found.faults.len()), (0, 1));
        let said = found.faults[0].to_string();
        let field = "Pod default/vip: metadata.annotations[hopscope.dev/allowed-addresses]: ";
        assert!(said.starts_with(field), "{said}");
    }
}

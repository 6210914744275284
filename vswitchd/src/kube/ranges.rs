//! Ranges of addresses: pods' by Node, Services' by ServiceCIDR, and what can be neither.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Deserialize;
use smoltcp::wire::{IpCidr, Ipv4Cidr, Ipv6Cidr};

use super::faults::Faults;
use super::objects::{Metadata, Node, ObjectError, Objects, fault, or_default};
use super::place::Place;
use crate::text::{overlap, prefix, quoted};

/// A ServiceCIDR (networking.k8s.io/v1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceCidr {
    /// Its metadata.
    pub metadata: Metadata,
    /// What is desired.
    #[serde(deserialize_with = "or_default")]
    pub spec: ServiceCidrSpec,
}

/// A ServiceCIDR's `spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceCidrSpec {
    /// The ranges, one a family at most.
    #[serde(deserialize_with = "or_default")]
    pub cidrs: Vec<String>,
}

/// An address must be of one node only. Ranges of other nodes that are none are those nodes' own
/// matter.
pub(super) fn refuse_shared(
    object: &str,
    node_name: &str,
    own: &[IpCidr],
    objects: &Objects,
) -> Result<(), ObjectError> {
    for (other_name, other) in objects.nodes.iter().filter(|(name, _)| *name != node_name) {
        let Ok(ranges) = of_pods(other_name, other) else { continue };
        for (mine, theirs) in own.iter().flat_map(|mine| ranges.iter().map(move |r| (mine, r))) {
            if overlap(mine, theirs) {
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
pub(crate) fn of_pods(object: &str, node: &Node) -> Result<Vec<IpCidr>, ObjectError> {
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

/// The ranges of Services: those of the setting `service-cidrs` and of all ServiceCIDRs, in order,
/// none within another. A ServiceCIDR with something that is no range is its own fault alone.
///
/// # Errors
/// A range that holds addresses of pods or nodes: what goes there would be lost or led astray.
pub(super) fn of_services(
    objects: &Objects,
    set: &[IpCidr],
    place: &Place,
    faults: &mut Faults,
) -> Result<Vec<IpCidr>, ObjectError> {
    let mut ranges: Vec<IpCidr> = Vec::new();
    for range in set {
        refuse_taken("settings", "service-cidrs", range, place)?;
        ranges.push(*range);
    }
    for (name, of) in &objects.service_cidrs {
        let object = format!("ServiceCIDR {name}");
        if of.spec.cidrs.is_empty() {
            faults.add(&object, "spec.cidrs", "empty; give it a range, such as 10.96.0.0/16");
        }
        for (at, text) in of.spec.cidrs.iter().enumerate() {
            let field = format!("spec.cidrs[{at}]");
            match prefix(text) {
                Some(range) => {
                    refuse_taken(&object, &field, &range, place)?;
                    ranges.push(range);
                }
                None => {
                    let why = format!("{} is no range such as 10.96.0.0/16", quoted(text));
                    faults.add(&object, field, why);
                }
            }
        }
    }
    Ok(outermost(ranges))
}

fn refuse_taken(
    object: &str,
    field: &str,
    range: &IpCidr,
    place: &Place,
) -> Result<(), ObjectError> {
    let pods = place.pods.iter().find(|(pods, _)| overlap(pods, range));
    let node = place.nodes.iter().find(|(address, _)| range.contains_addr(address));
    let whose = match (reserved(range), pods, node) {
        (Some(whose), ..) => whose.to_owned(),
        (None, Some((pods, owner)), _) => format!("the pod range {pods} of {owner}"),
        (None, None, Some((address, owner))) => format!("{address}, an address of {owner}"),
        (None, None, None) => return Ok(()),
    };
    let why = format!("{range} overlaps {whose}; give Services a range of their own");
    Err(fault(object, field, why))
}

/// In order, without those that lie within others.
pub(super) fn outermost(mut ranges: Vec<IpCidr>) -> Vec<IpCidr> {
    ranges.sort_unstable_by_key(|range| (range.address(), range.prefix_len()));
    let mut outer: Vec<IpCidr> = Vec::new();
    for range in ranges {
        // What holds it begins with it or before it, and is the last that does.
        if !outer.last().is_some_and(|last| last.contains_subnet(&range)) {
            outer.push(range);
        }
    }
    outer
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
pub(super) fn reserved(range: &IpCidr) -> Option<&'static str> {
    RESERVED.iter().find(|(prefix, _)| overlap(prefix, range)).map(|(_, name)| *name)
}

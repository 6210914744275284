//! Who answers for a Service: the endpoints of all its slices, joined and sifted.
//!
//! An endpoint is a claim as well (CVE-2021-25737): whoever may write an EndpointSlice would reach
//! what listens on the node's loopback, or at a cloud's link-local services, by the switch's hand.
//! Nor does an endpoint lead to another Service: a packet's destination is translated once.

use std::collections::BTreeMap;

use smoltcp::wire::{IpAddress, IpVersion};
use stack::Backend;

use super::super::faults::Faults;
use super::super::objects::{Metadata, Objects};
use super::super::place::Place;
use super::super::ranges::reserved;
use super::super::service::ServicePort;
use super::super::slice::{AddressType, Endpoint, EndpointPort, EndpointSlice, Named};
use super::frontends::Claims;
use super::{HEADLESS, WEIGHT};
use crate::text::{address, quoted, single};

/// Endpoints and ports of a slice at most, as the API has it.
const ENDPOINTS_MAX: usize = 1_000;
const PORTS_MAX: usize = 100;

/// Weights of Pods, by namespace and name. A Pod without one has the weight 1.
pub(super) struct Weights<'a>(BTreeMap<(&'a str, &'a str), u16>);

impl<'a> Weights<'a> {
    /// Reads all Pods' annotations; one that is no weight is taken as 1.
    pub(super) fn new(objects: &'a Objects, faults: &mut Faults) -> Self {
        let weights = objects.pods.iter().map(|((namespace, name), pod)| {
            let weight = weight(&format!("Pod {namespace}/{name}"), &pod.metadata, faults);
            ((namespace.as_str(), name.as_str()), weight)
        });
        Self(weights.collect())
    }

    /// The weight of the Pod behind an endpoint, if that is known.
    fn of(&self, namespace: &str, endpoint: &Endpoint) -> Option<u16> {
        let pod = endpoint.target_ref.as_ref().filter(|target| target.kind == "Pod")?;
        let namespace = if pod.namespace.is_empty() { namespace } else { &pod.namespace };
        self.0.get(&(namespace, pod.name.as_str())).copied()
    }
}

fn weight(object: &str, metadata: &Metadata, faults: &mut Faults) -> u16 {
    let Some(text) = metadata.annotations.get(WEIGHT) else { return 1 };
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| plain).unwrap_or_else(|| {
        let why = format!("{} is no number of 0 to 65535; taken as 1", quoted(text));
        faults.add(object, format!("metadata.annotations[{WEIGHT}]"), why);
        1
    })
}

/// What of a slice can be used, whichever the port.
pub(super) struct Usable<'a> {
    version: IpVersion,
    ports: &'a [EndpointPort],
    /// Its endpoints, without a port yet.
    hosts: Vec<Backend>,
}

impl<'a> Usable<'a> {
    /// Sifts a slice; `None` when it is not for us, or as a whole not what a slice may be.
    pub(super) fn new(
        namespace: &str,
        name: &str,
        slice: &'a EndpointSlice,
        place: &Place,
        claims: &Claims,
        weights: &Weights<'_>,
        faults: &mut Faults,
    ) -> Option<Self> {
        let object = format!("EndpointSlice {namespace}/{name}");
        let version = match slice.address_type {
            AddressType::IPv4 => IpVersion::Ipv4,
            AddressType::IPv6 => IpVersion::Ipv6,
            AddressType::Fqdn => return None,
        };
        if slice.metadata.labels.contains_key(HEADLESS) {
            return None;
        }
        for (field, count, max) in [
            ("endpoints", slice.endpoints.len(), ENDPOINTS_MAX),
            ("ports", slice.ports.len(), PORTS_MAX),
        ] {
            if count > max {
                let why = format!("{count} are more than {max}; write several slices");
                faults.add(&object, field, why);
                return None;
            }
        }
        for (at, _) in slice.ports.iter().enumerate().filter(|(_, of)| of.port.is_none()) {
            let why = "missing: a Service cannot lead to every port; name one";
            faults.add(&object, format!("ports[{at}].port"), why);
        }
        let common = weight(&object, &slice.metadata, faults);
        let mut hosts = Vec::new();
        for (at, endpoint) in slice.endpoints.iter().enumerate() {
            match host(endpoint, version, place, claims) {
                Ok(host) => {
                    let weight = weights.of(namespace, endpoint).unwrap_or(common);
                    hosts.push(Backend { weight, ..host });
                }
                Err(why) => faults.add(&object, format!("endpoints[{at}].addresses"), why),
            }
        }
        Some(Self { version, ports: &slice.ports, hosts })
    }
}

/// An endpoint as a backend, without port and weight.
fn host(
    endpoint: &Endpoint,
    version: IpVersion,
    place: &Place,
    claims: &Claims,
) -> Result<Backend, String> {
    // All of them mean the same endpoint, and the API asks for the first to be used.
    let text = endpoint.addresses.first().ok_or("empty; give the endpoint an address")?;
    let address = address(text)?;
    if address.version() != version {
        return Err(format!("{address} is not of the slice's addressType"));
    }
    if let Some(what) = reserved(&single(address)) {
        return Err(format!("{address} is of {what}: no backend may be there"));
    }
    if let Some(why) = claims.of_services(&address, place) {
        return Err(format!("{why}: name the backends themselves"));
    }
    let Endpoint { conditions, hints, .. } = endpoint;
    let names = |list: &[Named], name: &str| list.iter().any(|named| named.name == name);
    let (nodes, zones) = (&hints.for_nodes, &hints.for_zones);
    let zone = place.zone.as_deref().filter(|_| !zones.is_empty());
    Ok(Backend {
        address,
        port: 0,
        weight: 1,
        local: endpoint.node_name.as_deref() == Some(&place.node_name),
        ready: conditions.ready.unwrap_or(true),
        serving: conditions.serving.unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        for_node: (!nodes.is_empty()).then(|| names(nodes, &place.node_name)),
        for_zone: zone.map(|zone| names(zones, zone)),
    })
}

/// The backends of a Service's port in one family: of the slices' ports of the same name and
/// protocol. What several slices have, as while the controller moves it, is there once.
pub(super) fn join(slices: &[Usable<'_>], port: &ServicePort, version: IpVersion) -> Vec<Backend> {
    let mut joined: BTreeMap<(IpAddress, u16), Backend> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.version == version) {
        let same = |of: &&EndpointPort| of.name == port.name && of.protocol == port.protocol;
        for number in slice.ports.iter().filter(same).filter_map(|of| of.port) {
            for host in &slice.hosts {
                let found = Backend { port: number.get(), ..*host };
                let has = joined.entry((found.address, found.port)).or_insert(found);
                if availability(&found) > availability(has) {
                    *has = found;
                }
            }
        }
    }
    joined.into_values().collect()
}

/// Of two that are one, the greater is kept: the more available first, and then by all that may
/// differ, so that the order of slices does not show.
fn availability(backend: &Backend) -> (bool, bool, bool, bool, Option<bool>, Option<bool>, u16) {
    let Backend { ready, serving, terminating, local, for_node, for_zone, weight, .. } = *backend;
    (ready, serving, !terminating, local, for_node, for_zone, weight)
}

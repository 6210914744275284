//! Where a Service is asked for: its addresses, and who of several Services has one.
//!
//! An address is a claim on other people's traffic (CVE-2020-8554). So no Service has one of a
//! node or of a pod range: processes of the node (the kubelet, the API's server) and pods answer
//! there, and a Service that took such a port would be served in their place. kube-proxy lets it;
//! who wants a node's port has NodePort. And none has another one's cluster address, at any port.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use smoltcp::wire::{IpAddress, IpVersion};
use stack::{Frontend, FrontendKind, ServiceProtocol};

use super::super::faults::Faults;
use super::super::objects::Objects;
use super::super::place::Place;
use super::super::ranges::reserved;
use super::super::service::{IpMode, Service, ServicePort, ServiceSpec, ServiceType};
use crate::text::{address, quoted, single};

/// An address of a Service.
pub(super) struct Vip {
    kind: FrontendKind,
    address: IpAddress,
    /// Where it stands.
    field: String,
}

/// One port of a Service in one family.
pub(super) struct Wanted<'a> {
    /// The switch's name for it.
    pub(super) name: &'a str,
    /// Its place among the Service's ports.
    pub(super) at: usize,
    pub(super) port: &'a ServicePort,
    pub(super) version: IpVersion,
    /// The port of every node that leads to it.
    pub(super) node_port: Option<u16>,
}

/// Who has what, by the order of Services' names: manifests have no age.
pub(super) struct Claims {
    /// Cluster addresses of all Services, whoever serves them, with whose they are.
    cluster: BTreeMap<IpAddress, String>,
    /// Frontends so far, each with its owner's name. One without address is the nodes', of which
    /// each family has its own.
    owners: BTreeMap<(IpVersion, Option<IpAddress>, u16, ServiceProtocol), String>,
}

impl Claims {
    /// No frontend is anybody's yet.
    pub(super) fn new(objects: &Objects) -> Self {
        let mut cluster = BTreeMap::new();
        for ((namespace, name), service) in &objects.services {
            for address in texts(&service.spec).filter_map(|(_, text)| address(text).ok()) {
                cluster.entry(address).or_insert_with(|| format!("Service {namespace}/{name}"));
            }
        }
        Self { cluster, owners: BTreeMap::new() }
    }

    /// Whose cluster address this is, or that it is one of the Services' ranges.
    pub(super) fn of_services(&self, address: &IpAddress, place: &Place) -> Option<String> {
        if let Some(owner) = self.cluster.get(address) {
            return Some(format!("{address} is the cluster address of {owner}"));
        }
        let range = place.service_cidrs.iter().find(|range| range.contains_addr(address))?;
        Some(format!("{address} is of the Services' range {range}"))
    }

    /// Gives a frontend to a Service's port. Whether it has it now; `Err` is who has it instead.
    fn give(&mut self, frontend: &Frontend, wanted: &Wanted<'_>) -> Result<bool, &str> {
        let protocol = wanted.port.protocol.into();
        let key = (wanted.version, frontend.address, frontend.port, protocol);
        match self.owners.entry(key) {
            Entry::Vacant(free) => {
                free.insert(wanted.name.to_owned());
                Ok(true)
            }
            // Two fields may name one address.
            Entry::Occupied(taken) if taken.get() == wanted.name => Ok(false),
            Entry::Occupied(taken) => Err(taken.into_mut()),
        }
    }
}

impl Claims {
    /// Gives a port of every node to a Service's health check, in both families.
    ///
    /// # Errors
    /// Who has it.
    pub(super) fn give_health(&mut self, port: u16, name: &str) -> Result<(), String> {
        let keys = [IpVersion::Ipv4, IpVersion::Ipv6]
            .map(|version| (version, None, port, ServiceProtocol::Tcp));
        match keys.iter().find_map(|key| self.owners.get(key)) {
            Some(owner) => Err(owner.clone()),
            None => {
                // No port of a Service has a name with capitals.
                let owner = format!("{name}:healthCheck");
                self.owners.extend(keys.map(|key| (key, owner.clone())));
                Ok(())
            }
        }
    }
}

/// The cluster addresses as they are written, each with its field.
fn texts(spec: &ServiceSpec) -> impl Iterator<Item = (String, &str)> {
    let old = spec.cluster_ips.is_empty() && !spec.cluster_ip.is_empty();
    let first = old.then_some(("spec.clusterIP".to_owned(), spec.cluster_ip.as_str()));
    let all = spec.cluster_ips.iter().enumerate();
    first.into_iter().chain(all.map(|(at, text)| (format!("spec.clusterIPs[{at}]"), text.as_str())))
}

/// All addresses of a Service, cluster addresses first; `None` when there is a fault in these.
/// Others that cannot be are left out.
pub(super) fn vips(
    object: &str,
    service: &Service,
    claims: &Claims,
    place: &Place,
    faults: &mut Faults,
) -> Option<Vec<Vip>> {
    let mut vips = cluster_vips(object, &service.spec, place, faults)?;
    let cluster: Vec<IpVersion> = vips.iter().map(|vip| vip.address.version()).collect();
    let balanced = service.spec.kind == ServiceType::LoadBalancer;
    let ingress = service.status.load_balancer.ingress.iter().enumerate();
    let ingress = ingress
        .filter(|(_, point)| balanced && point.ip_mode == IpMode::Vip && !point.ip.is_empty())
        .map(|(at, point)| {
            let field = format!("status.loadBalancer.ingress[{at}].ip");
            (FrontendKind::LoadBalancer, field, &point.ip)
        });
    let external = service
        .spec
        .external_ips
        .iter()
        .enumerate()
        .map(|(at, text)| (FrontendKind::ExternalIp, format!("spec.externalIPs[{at}]"), text));
    // Ranges of sources are the load balancer's, so it comes first where both have an address.
    for (kind, field, text) in ingress.chain(external) {
        let found = address(text).and_then(|address| {
            let taken = refusal(&address, place).or_else(|| {
                let owner = claims.cluster.get(&address)?;
                Some(format!("{address} is the cluster address of {owner}; use another"))
            });
            match taken {
                Some(why) => Err(why),
                None if cluster.contains(&address.version()) => Ok(address),
                None => Err(format!(
                    "{address} is of a family in which the Service has no cluster address; add \
                     one, or leave it out"
                )),
            }
        });
        match found {
            Ok(address) => vips.push(Vip { kind, address, field }),
            Err(why) => faults.add(object, field, why),
        }
    }
    Some(vips)
}

/// The cluster addresses: one a family, of the families that are named.
fn cluster_vips(
    object: &str,
    spec: &ServiceSpec,
    place: &Place,
    faults: &mut Faults,
) -> Option<Vec<Vip>> {
    let mut vips: Vec<Vip> = Vec::new();
    let mut good = true;
    for (at, (field, text)) in texts(spec).enumerate() {
        let found = address(text).and_then(|address| {
            let version = address.version();
            if let Some(why) = refusal(&address, place) {
                return Err(why);
            }
            if let Some(other) = vips.iter().find(|vip| vip.address.version() == version) {
                return Err(format!("{address} is of the family of {}", other.address));
            }
            match spec.ip_families.get(at) {
                Some(family) if IpVersion::from(*family) != version => {
                    Err(format!("{address} is not {family:?}, which spec.ipFamilies[{at}] says"))
                }
                None | Some(_) => Ok(address),
            }
        });
        match found {
            Ok(address) => vips.push(Vip { kind: FrontendKind::ClusterIp, address, field }),
            Err(why) => {
                faults.add(object, field, why);
                good = false;
            }
        }
    }
    match spec.cluster_ips.first() {
        Some(first) if !spec.cluster_ip.is_empty() && spec.cluster_ip != *first => {
            let (first, single) = (quoted(first), quoted(&spec.cluster_ip));
            let why = format!("{first} comes first, and spec.clusterIP is {single}");
            faults.add(object, "spec.clusterIPs", why);
            good = false;
        }
        None if spec.cluster_ip.is_empty() => {
            let why = "missing, and nobody gives one without an API server; write an address of \
                       the Services' range";
            faults.add(object, "spec.clusterIP", why);
            good = false;
        }
        Some(_) | None => {}
    }
    good.then_some(vips)
}

/// Why no Service may have that address.
fn refusal(address: &IpAddress, place: &Place) -> Option<String> {
    if let Some(what) = reserved(&single(*address)) {
        return Some(format!("{address} is of {what}; use another"));
    }
    if let Some(owner) = place.nodes.get(address) {
        return Some(format!(
            "{address} is an address of {owner}, whose own processes answer there; use another, or \
             a NodePort"
        ));
    }
    let (range, owner) = place.pods.iter().find(|(range, _)| range.contains_addr(address))?;
    Some(format!("{address} is of the pod range {range} of {owner}; use another"))
}

/// The frontends of one port in one family, in order, with those left out that others have. `None`
/// without a cluster address: it says what family the rest is of.
pub(super) fn claim(
    object: &str,
    vips: &[Vip],
    wanted: &Wanted<'_>,
    claims: &mut Claims,
    faults: &mut Faults,
) -> Option<Vec<Frontend>> {
    let of_family = vips.iter().filter(|vip| vip.address.version() == wanted.version);
    let port = wanted.port.port.get();
    let mut asked: Vec<(Frontend, String)> = of_family
        .map(|vip| {
            let frontend = Frontend { kind: vip.kind, address: Some(vip.address), port };
            (frontend, vip.field.clone())
        })
        .collect();
    if asked.is_empty() {
        return None;
    }
    if let Some(port) = wanted.node_port {
        let frontend = Frontend { kind: FrontendKind::NodePort, address: None, port };
        asked.push((frontend, format!("spec.ports[{}].nodePort", wanted.at)));
    }
    let mut given = Vec::new();
    for (frontend, field) in asked {
        match claims.give(&frontend, wanted) {
            Ok(true) => given.push(frontend),
            Ok(false) => {}
            Err(owner) => {
                let at = match frontend.address {
                    Some(address) => format!("{address} port"),
                    None => "node port".to_owned(),
                };
                let why = format!(
                    "{at} {} belongs to Service {owner}, which comes first by name; use another",
                    frontend.port
                );
                faults.add(object, field, why);
                if frontend.kind == FrontendKind::ClusterIp {
                    return None;
                }
            }
        }
    }
    given.sort_unstable();
    Some(given)
}

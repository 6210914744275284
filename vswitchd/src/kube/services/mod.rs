//! Services and their EndpointSlices as the switch wants them. Pure.
//!
//! One [`ServiceConfig`] is made of each port of a Service and each of its families. A fault takes
//! away as little as can be told apart: an endpoint, an address, a port, a Service. It never holds
//! up another object, since whoever may write one Service must not freeze everybody's.
//!
//! Read first: the documentation of `ServiceSpec` (core/v1) and `EndpointSlice`
//! (discovery.k8s.io/v1); CVE-2020-8554 and CVE-2021-25737 for what is refused and why.

use std::collections::{BTreeMap, BTreeSet};

use smoltcp::wire::{IpCidr, IpVersion};
use stack::{Duration, Method, ServiceConfig, ServiceId};

use super::faults::Faults;
use super::objects::Objects;
use super::place::Place;
use super::service::{Service, ServicePort, ServiceSpec, ServiceType, SessionAffinity};
use super::slice::EndpointSlice;
use crate::text::{prefix, quoted};

mod backends;
mod frontends;
mod health;
#[cfg(test)]
mod tests;

use backends::{Usable, Weights};
use frontends::{Claims, Vip};
pub use health::HealthCheck;

/// Annotation of a Service: how a backend is chosen.
pub const METHOD: &str = "hopscope.dev/load-balancer";
/// Annotation of a backend's Pod, or of an EndpointSlice for endpoints without one: its weight.
pub const WEIGHT: &str = "hopscope.dev/weight";
/// Label of a Service that another proxy serves.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Label of what no proxy serves.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Label of an EndpointSlice: its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// `clusterIP` of a headless Service.
const NO_ADDRESS: &str = "None";
/// Session affinity's time-out where none is given, and at most, in seconds.
const AFFINITY: (u32, u32) = (10_800, 86_400);

/// What the Services mean on that node, in the order of name, protocol and family; without numbers.
/// And their health checks, in the order of names. What of them is refused is added to `faults`.
pub(super) fn services(
    objects: &Objects,
    place: &Place,
    faults: &mut Faults,
) -> (Vec<ServiceConfig>, Vec<HealthCheck>) {
    let slices = by_service(objects);
    let weights = Weights::new(objects, faults);
    let mut claims = Claims::new(objects);
    let (mut made, mut health_checks) = (Vec::new(), Vec::new());
    for ((namespace, name), service) in &objects.services {
        if !is_proxied(service) {
            continue;
        }
        let Some(sound) = Sound::new(namespace, name, service, &claims, place, faults) else {
            continue;
        };
        let of_it = slices.get(&(namespace.as_str(), name.as_str())).into_iter().flatten();
        let usable: Vec<Usable<'_>> = of_it
            .filter_map(|(name, slice)| {
                Usable::new(namespace, name, slice, place, &claims, &weights, faults)
            })
            .collect();
        let ports = sound.ports(&usable, place, &mut claims, faults);
        let named = (namespace.as_str(), name.as_str());
        health_checks.extend(sound.health_check(named, &ports, place, &mut claims, faults));
        made.extend(ports);
    }
    made.sort_by(|(one, version), (other, than)| {
        (&one.name, one.protocol, version).cmp(&(&other.name, other.protocol, than))
    });
    (made.into_iter().map(|(service, _)| service).collect(), health_checks)
}

/// Whether a proxy has anything to do with it.
fn is_proxied(service: &Service) -> bool {
    let Service { metadata, spec, .. } = service;
    let headless =
        spec.cluster_ip == NO_ADDRESS || spec.cluster_ips.iter().any(|ip| ip == NO_ADDRESS);
    spec.kind != ServiceType::ExternalName
        && !headless
        && !metadata.labels.contains_key(PROXY_NAME)
        && !metadata.labels.contains_key(HEADLESS)
}

/// EndpointSlices, each with its name, by namespace and name of their Service.
type Slices<'a> = BTreeMap<(&'a str, &'a str), Vec<(&'a str, &'a EndpointSlice)>>;

fn by_service(objects: &Objects) -> Slices<'_> {
    let mut slices = Slices::new();
    for ((namespace, name), slice) in &objects.slices {
        if let Some(service) = slice.metadata.labels.get(SERVICE_NAME) {
            slices.entry((namespace, service)).or_default().push((name, slice));
        }
    }
    slices
}

/// A Service, and what all its ports share.
struct Sound<'a> {
    /// As errors call it.
    object: String,
    /// As the switch calls it, but for the port.
    name: String,
    spec: &'a ServiceSpec,
    vips: Vec<Vip>,
    method: Method,
    affinity: Option<Duration>,
    source_ranges: Vec<IpCidr>,
}

impl<'a> Sound<'a> {
    /// Reads what its ports share; `None` when there is a fault in it.
    fn new(
        namespace: &str,
        name: &str,
        service: &'a Service,
        claims: &Claims,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<Self> {
        let object = format!("Service {namespace}/{name}");
        let spec = &service.spec;
        if spec.ports.is_empty() {
            faults.add(&object, "spec.ports", "empty; give it a port, or `clusterIP: None`");
        }
        let named = is_named(&object, "metadata.namespace", namespace, faults)
            && is_named(&object, "metadata.name", name, faults)
            && !spec.ports.is_empty();
        let vips = frontends::vips(&object, service, claims, place, faults);
        let affinity = affinity(&object, spec, faults);
        let source_ranges = source_ranges(&object, spec, faults);
        let method = method(&object, service, faults);
        let (vips, affinity, source_ranges) = (vips?, affinity?, source_ranges?);
        let name = format!("{namespace}/{name}");
        named.then_some(Self { object, name, spec, vips, method, affinity, source_ranges })
    }

    /// The switch's Services of all its ports and families.
    fn ports(
        &self,
        slices: &[Usable<'_>],
        place: &Place,
        claims: &mut Claims,
        faults: &mut Faults,
    ) -> Vec<(ServiceConfig, IpVersion)> {
        let mut made = Vec::new();
        let mut names = BTreeSet::new();
        for (at, port) in self.spec.ports.iter().enumerate() {
            let field = format!("spec.ports[{at}].name");
            if !port.name.is_empty() && !is_named(&self.object, &field, &port.name, faults) {
                continue;
            }
            if !names.insert(port.name.as_str()) {
                let why = format!("`{}` is another port's name already; give it one", port.name);
                faults.add(&self.object, field, why);
                continue;
            }
            let node_port = self.node_port(at, port, place, faults);
            for version in [IpVersion::Ipv4, IpVersion::Ipv6] {
                let name = match port.name.as_str() {
                    "" => self.name.clone(),
                    port => format!("{}:{port}", self.name),
                };
                let wanted = frontends::Wanted { name: &name, at, port, version, node_port };
                let frontends = frontends::claim(&self.object, &self.vips, &wanted, claims, faults);
                let Some(frontends) = frontends else { continue };
                let backends = backends::join(slices, port, version);
                made.push((self.config(name, port, frontends, backends), version));
            }
        }
        made
    }

    fn config(
        &self,
        name: String,
        port: &ServicePort,
        frontends: Vec<stack::Frontend>,
        backends: Vec<stack::Backend>,
    ) -> ServiceConfig {
        let local = super::service::TrafficPolicy::Local;
        ServiceConfig {
            id: ServiceId::default(),
            name,
            protocol: port.protocol.into(),
            frontends,
            method: self.method,
            affinity: self.affinity,
            internal_local: self.spec.internal_traffic_policy == local,
            external_local: self.spec.external_traffic_policy == local,
            source_ranges: self.source_ranges.clone(),
            backends,
        }
    }

    /// The port of every node that leads to this one.
    fn node_port(
        &self,
        at: usize,
        port: &ServicePort,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<u16> {
        let number = port.node_port;
        if self.spec.kind < ServiceType::NodePort || number == 0 {
            return None;
        }
        let range = place.node_ports;
        if !range.contains(number) {
            let why = format!(
                "{number} is no port of {} to {}; choose another, or set node-port-range",
                range.first, range.last
            );
            faults.add(&self.object, format!("spec.ports[{at}].nodePort"), why);
            return None;
        }
        Some(number)
    }
}

/// Names are shown and stand in the journal: they are what Kubernetes takes for one, and no longer.
fn is_named(object: &str, field: &str, name: &str, faults: &mut Faults) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let good = (1..=253).contains(&name.len()) && name.bytes().all(plain);
    if !good {
        let why = "is no name: 1 to 253 of a to z, 0 to 9, `-` and `.`";
        faults.add(object, field, format!("{} {why}", quoted(name)));
    }
    good
}

/// How long clients keep their backend; the outer `None` is a fault.
fn affinity(object: &str, spec: &ServiceSpec, faults: &mut Faults) -> Option<Option<Duration>> {
    if spec.session_affinity == SessionAffinity::None {
        return Some(None);
    }
    let (default, max) = AFFINITY;
    let seconds = spec.session_affinity_config.client_ip.timeout_seconds.unwrap_or(default);
    if (1..=max).contains(&seconds) {
        return Some(Some(Duration::from_secs(seconds.into())));
    }
    let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    faults.add(object, field, format!("{seconds} is not within 1 to {max}"));
    None
}

/// Who may use the load balancer's addresses. Each family has the ranges of both: who is named by
/// addresses of one family alone has not let the other one's world in.
fn source_ranges(object: &str, spec: &ServiceSpec, faults: &mut Faults) -> Option<Vec<IpCidr>> {
    let mut ranges = Vec::new();
    let mut good = true;
    for (at, text) in spec.load_balancer_source_ranges.iter().enumerate() {
        // Its API takes blanks around them.
        match prefix(text.trim()) {
            Some(range) => ranges.push(range),
            None => {
                good = false;
                let field = format!("spec.loadBalancerSourceRanges[{at}]");
                faults.add(
                    object,
                    field,
                    format!("{} is no range such as 192.0.2.0/24", quoted(text)),
                );
            }
        }
    }
    ranges.sort_unstable();
    ranges.dedup();
    good.then_some(ranges)
}

fn method(object: &str, service: &Service, faults: &mut Faults) -> Method {
    let Some(word) = service.metadata.annotations.get(METHOD) else { return Method::default() };
    let known = METHODS.iter().find(|(name, _)| name == word);
    if known.is_none() {
        let names: Vec<&str> = METHODS.iter().map(|(name, _)| *name).collect();
        let why = format!("{} is none of {}; taken as random", quoted(word), names.join(", "));
        faults.add(object, format!("metadata.annotations[{METHOD}]"), why);
    }
    known.map(|(_, method)| *method).unwrap_or_default()
}

/// What the annotation may say.
const METHODS: [(&str, Method); 6] = [
    ("random", Method::Random),
    ("round-robin", Method::RoundRobin),
    ("weighted-round-robin", Method::WeightedRoundRobin),
    ("least-connections", Method::LeastConnections),
    ("source-hash", Method::SourceHash),
    ("maglev", Method::Maglev),
];

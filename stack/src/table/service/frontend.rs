//! Where Services are asked for: what a frame's destination is looked up by.

use alloc::vec::Vec;

use smoltcp::wire::IpAddress;

use crate::config::{ConfigError, Frontend, FrontendKind, Limits, ServiceConfig};
use crate::words::service::NAME_MAX;

/// What a Service is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) at: At,
    pub(super) protocol: u8,
    pub(super) port: u16,
}

/// Which addresses are meant, in the order in which a destination is looked up. A container's
/// `hostPort` comes last: it never takes a Service's traffic away (CVE-2019-9946). Those of the
/// node match its own addresses only, named or not (CVE-2025-67499).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum At {
    /// An address that is a Service's.
    Vip(IpAddress),
    /// A NodePort of that address of the node.
    Node(IpAddress),
    /// A NodePort of all the node's addresses of a family.
    AnyNode(Family),
    /// A `hostPort` of that address of the node.
    Host(IpAddress),
    /// A `hostPort` of all the node's addresses of a family.
    AnyHost(Family),
}

/// Which IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(address: &IpAddress) -> Self {
        match address {
            IpAddress::Ipv4(_) => Self::V4,
            IpAddress::Ipv6(_) => Self::V6,
        }
    }
}

impl Key {
    fn new(frontend: &Frontend, protocol: u8, family: Family) -> Option<Self> {
        let at = match (frontend.kind, frontend.address) {
            (FrontendKind::NodePort, Some(address)) => At::Node(address),
            (FrontendKind::NodePort, None) => At::AnyNode(family),
            (FrontendKind::HostPort, Some(address)) => At::Host(address),
            (FrontendKind::HostPort, None) => At::AnyHost(family),
            (
                FrontendKind::ClusterIp | FrontendKind::LoadBalancer | FrontendKind::ExternalIp,
                address,
            ) => At::Vip(address?),
        };
        Some(Self { at, protocol, port: frontend.port })
    }
}

/// The keys of a Service that can be, in the order of its frontends.
pub(super) fn keys(config: &ServiceConfig) -> Vec<Key> {
    // Without any address there is no frontend either.
    let family = addresses(config).next().map_or(Family::V4, |address| Family::of(&address));
    let key = |frontend| Key::new(frontend, config.protocol as u8, family);
    config.frontends.iter().filter_map(key).collect()
}

/// All addresses of a Service.
fn addresses(config: &ServiceConfig) -> impl Iterator<Item = IpAddress> {
    let frontends = config.frontends.iter().filter_map(|frontend| frontend.address);
    frontends.chain(config.backends.iter().map(|backend| backend.address))
}

/// Whether a Service can be, by itself, and the keys of its frontends.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(config: &ServiceConfig, limits: &Limits) -> Result<Vec<Key>, ConfigError> {
    match wrong(config, limits) {
        Some(why) => Err(ConfigError::ServiceInvalid { service: config.id, why }),
        None => {
            let keys = keys(config);
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            sorted.dedup();
            if sorted.len() == config.frontends.len() {
                return Ok(keys);
            }
            let why = "a frontend is there twice: name each address and port once";
            Err(ConfigError::ServiceInvalid { service: config.id, why })
        }
    }
}

fn wrong(config: &ServiceConfig, limits: &Limits) -> Option<&'static str> {
    let ServiceConfig { name, frontends, affinity, source_ranges, backends, .. } = config;
    let family = addresses(config).next().map(|address| Family::of(&address));
    let of_node = |kind| matches!(kind, FrontendKind::NodePort | FrontendKind::HostPort);
    let sorted =
        backends.is_sorted_by(|one, other| (one.address, one.port) < (other.address, other.port));
    let ports = frontends.iter().map(|it| it.port).chain(backends.iter().map(|it| it.port));
    let faults = [
        (name.len() > NAME_MAX, "its name is longer than 4,096 bytes: shorten it"),
        (
            frontends.len() > limits.service_frontends_max,
            "it has more frontends than one Service may: make several of it",
        ),
        (
            source_ranges.len() > limits.service_frontends_max,
            "it has more source ranges than one Service may: join them",
        ),
        (
            backends.len() > limits.service_backends_max,
            "it has more backends than one Service may: make several of it",
        ),
        (affinity.is_some_and(|it| it.0 == 0), "its affinity lasts no time: leave it out"),
        (ports.min() == Some(0), "a frontend or backend has port 0: name the port"),
        (!sorted, "its backends are not in the order of address and port, each once: sort them"),
        (
            frontends.iter().any(|it| it.address.is_none() && !of_node(it.kind)),
            "a frontend that is none of the node's has no address: name it",
        ),
        (
            family.is_none() && !frontends.is_empty(),
            "nothing tells its family: name an address of a frontend or backend",
        ),
        (
            addresses(config).any(|address| Some(Family::of(&address)) != family),
            "it has addresses of both families: make one Service for each",
        ),
    ];
    faults.iter().find(|(fault, _)| *fault).map(|(_, why)| *why)
}

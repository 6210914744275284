//! The model of a Service: which one a packet asks for, and which of its backends it may be led to,
//! read off the configuration once more. No backend of the simulation has hints.

use smoltcp::wire::IpAddress;
use stack::config::{Backend, FrontendKind, ServiceConfig};
use stack::table::conntrack::Tuple;
use stack::{NodeConfig, Switch};

/// The Service that a destination is of, and what kind of frontend that is.
pub(crate) fn asked<'a>(
    services: impl Iterator<Item = &'a ServiceConfig>,
    node: &NodeConfig,
    flow: &Tuple,
) -> Option<(&'a ServiceConfig, FrontendKind)> {
    let is_here = |address: &Option<IpAddress>, service: &ServiceConfig| match address {
        Some(address) => *address == flow.dst,
        None => node.addresses.contains(&flow.dst) && family(service) == is_six(&flow.dst),
    };
    let mut all = services.flat_map(|it| it.frontends.iter().map(move |frontend| (it, frontend)));
    let found = all.find(|(service, frontend)| {
        let same = (service.protocol as u8, frontend.port) == (flow.protocol, flow.dst_port);
        same && is_here(&frontend.address, service)
    });
    found.map(|(service, frontend)| (service, frontend.kind))
}

/// The same, of a switch.
pub(crate) fn asked_of<'a>(
    switch: &'a Switch,
    flow: &Tuple,
) -> Option<(&'a ServiceConfig, FrontendKind)> {
    let services = switch.tables().services().iter().map(|(_, service)| &service.config);
    asked(services, switch.tables().node(), flow)
}

fn is_six(address: &IpAddress) -> bool {
    matches!(address, IpAddress::Ipv6(_))
}

/// Whether a Service is IPv6's.
fn family(service: &ServiceConfig) -> bool {
    let named = service.frontends.iter().filter_map(|frontend| frontend.address);
    named.chain(service.backends.iter().map(|it| it.address)).any(|address| is_six(&address))
}

/// Who may be given a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Usable {
    /// The client is in no source range.
    Refused,
    /// One of these, of which there is one at least.
    Some(Vec<(IpAddress, u16)>),
    /// Nobody anywhere.
    Nobody,
    /// Nobody here, and the policy is Local.
    NobodyHere,
}

/// Who may be given a new connection of a client that is `outside` of the cluster, or not.
pub(crate) fn usable(
    service: &ServiceConfig,
    kind: FrontendKind,
    client: &IpAddress,
    outside: bool,
) -> Usable {
    let ranges = &service.source_ranges;
    let admitted = ranges.is_empty() || ranges.iter().any(|range| range.contains_addr(client));
    if kind == FrontendKind::LoadBalancer && !admitted {
        return Usable::Refused;
    }
    let local = if kind == FrontendKind::ClusterIp {
        service.internal_local
    } else {
        service.external_local && outside
    };
    let anywhere = candidates(&service.backends, |_| true);
    let found = if local { candidates(&service.backends, |it| it.local) } else { anywhere.clone() };
    match (found.is_empty(), anywhere.is_empty()) {
        (false, _) => Usable::Some(found),
        (true, true) => Usable::Nobody,
        (true, false) => Usable::NobodyHere,
    }
}

/// The ready ones; without any, those that leave and still serve.
fn candidates(backends: &[Backend], here: impl Fn(&Backend) -> bool) -> Vec<(IpAddress, u16)> {
    let all = || backends.iter().filter(|it| it.weight > 0 && here(it));
    let ready: Vec<&Backend> = all().filter(|it| it.ready).collect();
    let leaving = || all().filter(|it| it.serving && it.terminating).collect();
    let chosen = if ready.is_empty() { leaving() } else { ready };
    chosen.iter().map(|it| (it.address, it.port)).collect()
}

/// Whether a backend answers, whatever new connections are given.
pub(crate) fn serves(service: &ServiceConfig, at: (IpAddress, u16)) -> bool {
    let mut backends = service.backends.iter().filter(|it| (it.address, it.port) == at);
    backends.any(|it| it.ready || it.serving)
}

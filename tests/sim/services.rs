//! The Services of the simulated cluster, drawn once, and what becomes of them under way.

use smoltcp::wire::{IpAddress, IpCidr, Ipv4Address, Ipv6Address};
use stack::config::{
    Backend, Frontend, FrontendKind, Method, ServiceConfig, ServiceId, ServiceProtocol,
};
use stack::{Change, Config, Duration};

use crate::draw::Draw;
use crate::options::Options;
use crate::plan::{self, Base, Id, OUTSIDE};

/// The port of a Service's cluster and balancer's addresses.
pub(crate) const PORT: u16 = 80;

/// A Service of both families.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    number: u8,
    pub(crate) protocol: ServiceProtocol,
    method: Method,
    affinity: Option<Duration>,
    internal_local: bool,
    external_local: bool,
    /// It has a node port and an address of a balancer; else it may have nodes among its backends.
    pub(crate) outer: bool,
    /// The balancer admits the outside only.
    ranges: bool,
    backends: Vec<(Id, u16)>,
}

/// The Services of a cluster.
pub(crate) fn draw(options: &Options, draw: &mut Draw) -> Vec<Service> {
    (0..options.services).map(|number| Service::draw(number, options, draw)).collect()
}

fn method(draw: &mut Draw) -> Method {
    [
        Method::Random,
        Method::RoundRobin,
        Method::WeightedRoundRobin,
        Method::LeastConnections,
        Method::SourceHash,
        Method::Maglev,
    ][draw.index(6)]
}

fn affinity(draw: &mut Draw) -> Option<Duration> {
    draw.chance(400).then(|| Duration::from_millis(1 + draw.below(30_000)))
}

impl Service {
    fn draw(number: u8, options: &Options, draw: &mut Draw) -> Self {
        let outer = draw.chance(700);
        let first = u8::from(outer);
        let hosts = (0..options.nodes)
            .flat_map(|node| (first..=options.pods).map(move |n| plan::id(node, n)));
        let most = if draw.chance(100) { 0 } else { 600 };
        let backends = hosts.filter(|_| draw.chance(most)).collect::<Vec<Id>>();
        let backends = backends.into_iter().map(|id| (id, weight(draw))).collect();
        Self {
            number,
            protocol: [ServiceProtocol::Tcp, ServiceProtocol::Udp][draw.index(2)],
            method: method(draw),
            affinity: affinity(draw),
            internal_local: draw.chance(200),
            external_local: draw.chance(400),
            outer,
            ranges: draw.chance(200),
            backends,
        }
    }

    /// Its cluster address.
    pub(crate) fn vip(&self, six: bool) -> IpAddress {
        let last = 10 + self.number;
        if six {
            Ipv6Address::new(0xfd96, 0, 0, 0, 0, 0, 0, last.into()).into()
        } else {
            Ipv4Address::new(10, 96, 0, last).into()
        }
    }

    /// Its balancer's address.
    pub(crate) fn balancer(&self, six: bool) -> IpAddress {
        let last = 10 + self.number;
        if six {
            Ipv6Address::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, last.into()).into()
        } else {
            Ipv4Address::new(203, 0, 114, last).into()
        }
    }

    /// Its port of every node.
    pub(crate) fn node_port(&self) -> u16 {
        30_080 + u16::from(self.number)
    }

    /// The port at which its backends listen.
    pub(crate) fn target(&self) -> u16 {
        20_100 + u16::from(self.number)
    }

    /// Its number in the switch.
    pub(crate) fn id(&self, six: bool) -> ServiceId {
        ServiceId(2 * u32::from(self.number) + u32::from(six))
    }

    /// As a node is told of it.
    pub(crate) fn config(&self, node: u8, six: bool) -> ServiceConfig {
        let at = |kind, address, port| Frontend { kind, address, port };
        let mut frontends = vec![at(FrontendKind::ClusterIp, Some(self.vip(six)), PORT)];
        if self.outer {
            frontends.push(at(FrontendKind::NodePort, None, self.node_port()));
            frontends.push(at(FrontendKind::LoadBalancer, Some(self.balancer(six)), PORT));
        }
        let outside = IpCidr::new(plan::address(OUTSIDE, six), if six { 64 } else { 24 });
        let mut backends: Vec<Backend> = self
            .backends
            .iter()
            .map(|(id, weight)| Backend { weight: *weight, ..self.backend(node, *id, six) })
            .collect();
        backends.sort_by_key(|backend| (backend.address, backend.port));
        ServiceConfig {
            frontends,
            method: self.method,
            affinity: self.affinity,
            internal_local: self.internal_local,
            external_local: self.external_local,
            source_ranges: if self.ranges { vec![outside] } else { Vec::new() },
            backends,
            ..ServiceConfig::new(self.id(six), format!("sim/{}", self.number), self.protocol)
        }
    }

    fn backend(&self, node: u8, id: Id, six: bool) -> Backend {
        backend(plan::address(id, six), self.target(), id.node == node)
    }
}

fn weight(draw: &mut Draw) -> u16 {
    1 + u16::try_from(draw.below(3)).unwrap()
}

fn backend(address: IpAddress, port: u16, local: bool) -> Backend {
    Backend { local, ..Backend::ready(address, port) }
}

/// All of them, as a node is told.
pub(crate) fn configs(services: &[Service], node: u8) -> Vec<ServiceConfig> {
    let both = |service: &Service| [false, true].map(|six| service.config(node, six));
    services.iter().flat_map(both).collect()
}

/// A change of Services that must be accepted: one goes, comes back as it should be, or is another
/// than it was.
pub(crate) fn churn(base: &Base, config: &Config, draw: &mut Draw) -> Change {
    let wanted = &base.services[draw.index(base.services.len())];
    let Some(known) = config.services.iter().find(|known| known.id == wanted.id) else {
        return Change::Service(wanted.clone());
    };
    let mut service = known.clone();
    match draw.below(10) {
        0 => return Change::ServiceRemoved(known.id),
        // Made anew in one step: its clients are forgotten, its connections are not.
        1 => {
            let removed = Change::ServiceRemoved(known.id);
            return Change::All(vec![removed, Change::Service(known.clone())]);
        }
        2 => service = wanted.clone(),
        3 => service.method = method(draw),
        4 => service.affinity = affinity(draw),
        5 => service.internal_local ^= true,
        6 => service.external_local ^= true,
        7 | 8 => appear(&mut service, base.number, draw),
        _ => wane(&mut service, draw),
    }
    Change::Service(service)
}

/// A backend comes, or one that was there goes: among it may be one that went before.
fn appear(service: &mut ServiceConfig, number: u8, draw: &mut Draw) {
    let six = service.frontends.iter().any(|it| matches!(it.address, Some(IpAddress::Ipv6(_))));
    let node = if draw.chance(500) { number } else { u8::try_from(draw.below(3)).unwrap() };
    let pod = plan::id(node, 1 + u8::try_from(draw.below(3)).unwrap());
    let target = 20_100 + u16::try_from(service.id.0 / 2).unwrap();
    let fresh = backend(plan::address(pod, six), target, node == number);
    let before = service.backends.len();
    service.backends.retain(|it| it.address != fresh.address);
    if service.backends.len() == before {
        service.backends.push(fresh);
        service.backends.sort_by_key(|it| (it.address, it.port));
    }
}

/// A backend becomes ready or not, leaves, or takes no more.
fn wane(service: &mut ServiceConfig, draw: &mut Draw) {
    if service.backends.is_empty() {
        return;
    }
    let at = draw.index(service.backends.len());
    let backend = &mut service.backends[at];
    match draw.below(4) {
        0 => backend.ready ^= true,
        1 => (backend.ready, backend.terminating) = (false, true),
        2 => (backend.ready, backend.serving) = (false, false),
        _ => backend.weight = 3 - backend.weight.min(3),
    }
}

/// A change of a Service that must be refused, given that this one stands.
pub(crate) fn wrong(known: &ServiceConfig, draw: &mut Draw) -> Change {
    let mut service = known.clone();
    match draw.below(4) {
        // Its frontends are another's.
        0 => service.id = ServiceId(1_000),
        1 => return Change::ServiceRemoved(ServiceId(1_001)),
        2 => service.frontends.push(service.frontends[0]),
        _ => service.backends = vec![backend(Ipv4Address::new(10, 244, 1, 2).into(), 0, true)],
    }
    Change::All(vec![Change::Complete(false), Change::Service(service)])
}

//! Services as walks ask for them, and what tests of them are made of.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, Ipv4Address};

use super::*;
use crate::config::{
    Backend, Frontend, FrontendKind, Method, ServiceConfig, ServiceId, ServiceProtocol,
};
use crate::table::conntrack::Tuple;

mod conformance;
mod finding;
mod laws;
mod methods;
mod setting;

const SEEDS: Seeds = Seeds { table: 1, choice: 2 };
const CLIENT: IpAddress = IpAddress::Ipv4(Ipv4Address::new(10, 1, 0, 200));

pub(super) fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddress {
    Ipv4Address::new(a, b, c, d).into()
}

/// A ready backend of weight 1 on another node.
pub(super) fn backend(n: u8) -> Backend {
    Backend::ready(v4(10, 1, 0, n), 8_080)
}

/// The frontends of a Service of type LoadBalancer.
pub(super) fn frontends(n: u8) -> Vec<Frontend> {
    let of = |kind, address, port| Frontend { kind, address, port };
    vec![
        of(FrontendKind::ClusterIp, Some(v4(10, 96, 0, n)), 80),
        of(FrontendKind::NodePort, None, 30_000 + u16::from(n)),
        of(FrontendKind::LoadBalancer, Some(v4(203, 0, 113, n)), 80),
        of(FrontendKind::ExternalIp, Some(v4(198, 51, 100, n)), 80),
    ]
}

/// A Service with these backends.
pub(super) fn service(n: u8, backends: Vec<Backend>) -> ServiceConfig {
    ServiceConfig {
        frontends: frontends(n),
        backends,
        ..ServiceConfig::new(
            ServiceId(u32::from(n)),
            format!("default/s{n}:http"),
            ServiceProtocol::Tcp,
        )
    }
}

pub(super) fn ready(count: u8) -> Vec<Backend> {
    (1..=count).map(backend).collect()
}

pub(super) fn services(configs: &[ServiceConfig]) -> Services {
    let mut services = Services::new(SEEDS, &Limits::default());
    for config in configs {
        services.set(config).unwrap();
    }
    services
}

/// A connection of a pod to the cluster address of Service 1, from that port.
pub(super) fn tuple(src_port: u16) -> Tuple {
    Tuple { src: CLIENT, dst: v4(10, 96, 0, 1), src_port, dst_port: 80, protocol: 6 }
}

/// Asks for a backend of Service 1 behind its cluster address.
pub(super) fn ask(services: &Services, tuple: &Tuple) -> Result<Choice, Refusal> {
    ask_behind(services, FrontendKind::ClusterIp, false, tuple)
}

/// The same behind another kind of frontend.
pub(super) fn ask_behind(
    services: &Services,
    kind: FrontendKind,
    external_to_cluster: bool,
    tuple: &Tuple,
) -> Result<Choice, Refusal> {
    services.choose(&Request {
        slot: services.slot(ServiceId(1)).unwrap(),
        kind,
        external_to_cluster,
        client: tuple.src,
        tuple,
        now: Instant(1_000),
        choice_seed: SEEDS.choice,
    })
}

/// A connection that begins: the place of its backend.
pub(super) fn connect(services: &mut Services, src_port: u16) -> u16 {
    let choice = ask(services, &tuple(src_port)).unwrap();
    services.began(Instant(1_000), &choice.chosen);
    choice.index
}

pub(super) fn row(services: &Services) -> &Service {
    services.by_id(ServiceId(1)).unwrap()
}

pub(super) fn active(services: &Services) -> Vec<u32> {
    row(services).loads.iter().map(|load| load.active).collect()
}

pub(super) fn totals(services: &Services) -> Vec<u64> {
    row(services).loads.iter().map(|load| load.total).collect()
}

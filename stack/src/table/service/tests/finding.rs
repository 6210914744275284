//! Look-ups: what is found at an address.

use smoltcp::wire::Ipv6Address;

use super::*;

const NODE: IpAddress = IpAddress::Ipv4(Ipv4Address::new(192, 0, 2, 10));

fn one(n: u8, kind: FrontendKind, address: Option<IpAddress>, port: u16) -> ServiceConfig {
    ServiceConfig { frontends: vec![Frontend { kind, address, port }], ..service(n, ready(1)) }
}

/// The number of the Service found, and by what.
fn found(services: &Services, address: IpAddress, port: u16) -> Option<(u32, FrontendKind)> {
    let is_node = address == NODE || address == v4(127, 0, 0, 1);
    match services.find(&address, port, 6, is_node) {
        Found::Frontend { slot, kind } => Some((services.get(slot).unwrap().config.id.0, kind)),
        Found::KnownAddress | Found::Nothing => None,
    }
}

#[test]
fn each_frontend_is_found_and_nothing_beside_it() {
    let services = services(&[service(1, ready(1)), service(2, ready(1))]);
    for n in [1, 2] {
        let number = u32::from(n);
        let at = |address, port| found(&services, address, port);
        assert_eq!(at(v4(10, 96, 0, n), 80), Some((number, FrontendKind::ClusterIp)));
        assert_eq!(at(v4(203, 0, 113, n), 80), Some((number, FrontendKind::LoadBalancer)));
        assert_eq!(at(v4(198, 51, 100, n), 80), Some((number, FrontendKind::ExternalIp)));
        assert_eq!(at(NODE, 30_000 + u16::from(n)), Some((number, FrontendKind::NodePort)));
    }
    let at = |address, port, is_node| services.find(&address, port, 6, is_node);
    assert_eq!(at(v4(10, 96, 0, 1), 81, false), Found::KnownAddress);
    assert_eq!(services.find(&v4(10, 96, 0, 1), 80, 17, false), Found::KnownAddress);
    assert_eq!(at(v4(10, 96, 0, 3), 80, false), Found::Nothing, "unallocated");
    // A NodePort is there on the node's addresses only.
    assert_eq!(at(v4(192, 0, 2, 11), 30_001, false), Found::Nothing);
    assert_eq!(at(NODE, 30_003, true), Found::Nothing);
}

#[test]
fn the_nodes_own_address_is_no_vip_even_if_a_service_has_it() {
    let services = services(&[one(1, FrontendKind::ExternalIp, Some(NODE), 80)]);
    assert_eq!(found(&services, NODE, 80), Some((1, FrontendKind::ExternalIp)));
    assert_eq!(services.find(&NODE, 22, 6, true), Found::Nothing, "SSH is the node's");
    assert!(services.is_vip(&NODE), "the caller knows which addresses are the node's");
}

#[test]
fn services_come_before_host_ports_and_named_addresses_before_all() {
    let kinds = [
        one(1, FrontendKind::ExternalIp, Some(NODE), 8_080),
        one(2, FrontendKind::NodePort, Some(NODE), 8_080),
        one(3, FrontendKind::NodePort, None, 8_080),
        one(4, FrontendKind::HostPort, Some(NODE), 8_080),
        one(5, FrontendKind::HostPort, None, 8_080),
    ];
    let mut services = services(&kinds);
    for first in 1..=5 {
        assert_eq!(found(&services, NODE, 8_080).map(|(number, _)| number), Some(first));
        services.remove(ServiceId(first)).unwrap();
    }
    assert_eq!(found(&services, NODE, 8_080), None);
    assert!(!services.is_vip(&NODE));
}

/// CVE-2025-67499: a port of the node takes no traffic that is only on its way.
#[test]
fn host_ports_are_there_on_the_nodes_own_addresses_only() {
    let services = services(&[
        one(1, FrontendKind::HostPort, None, 443),
        one(2, FrontendKind::HostPort, Some(v4(127, 0, 0, 1)), 54_323),
    ]);
    assert_eq!(found(&services, NODE, 443), Some((1, FrontendKind::HostPort)));
    assert_eq!(found(&services, v4(127, 0, 0, 1), 54_323), Some((2, FrontendKind::HostPort)));
    assert_eq!(found(&services, NODE, 54_323), None);
    for address in [v4(10, 96, 0, 1), v4(10, 1, 0, 1), v4(203, 0, 113, 1)] {
        assert_eq!(services.find(&address, 443, 6, false), Found::Nothing);
        assert!(!services.is_vip(&address));
    }
}

#[test]
fn families_have_node_ports_of_their_own() {
    let v6 = |n| IpAddress::Ipv6(Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, n));
    let backends = vec![Backend { address: v6(1), ..backend(1) }];
    let services = services(&[
        one(1, FrontendKind::NodePort, None, 30_000),
        ServiceConfig { backends, ..one(2, FrontendKind::NodePort, None, 30_000) },
    ]);
    let id = |address| match services.find(&address, 30_000, 6, true) {
        Found::Frontend { slot, .. } => services.get(slot).unwrap().config.id.0,
        Found::KnownAddress | Found::Nothing => 0,
    };
    assert_eq!([id(NODE), id(v6(9))], [1, 2]);
}

#[test]
fn an_address_is_known_until_its_last_frontend_goes() {
    let at = Some(v4(10, 96, 0, 1));
    let mut services = services(&[
        one(1, FrontendKind::ClusterIp, at, 80),
        one(2, FrontendKind::ClusterIp, at, 443),
    ]);
    for (id, known) in [(1, true), (2, false)] {
        services.remove(ServiceId(id)).unwrap();
        let found = services.find(&v4(10, 96, 0, 1), 80, 6, false);
        assert_eq!(found, if known { Found::KnownAddress } else { Found::Nothing });
        assert_eq!(services.is_vip(&v4(10, 96, 0, 1)), known);
    }
}

//! What was put is taken, and nothing else.

use alloc::string::ToString;
use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::config::{Backend, Frontend, FrontendKind, Method, ServiceConfig, ServiceProtocol};

fn back<T: Words>(value: &T) -> Option<T> {
    let mut words = Vec::new();
    value.put(&mut words);
    whole(&words)
}

fn port() -> PortConfig {
    PortConfig {
        id: PortId(7),
        kind: PortKind::Endpoint(EndpointId(3)),
        mac: EthernetAddress([2, 1, 2, 3, 4, 5]),
        addresses: vec![Ipv4Address::new(10, 0, 0, 1).into(), Ipv6Address::LOCALHOST.into()],
        allowed: vec![IpCidr::new(Ipv6Address::UNSPECIFIED.into(), 0)],
        mtu: 1_500,
        up: true,
    }
}

fn change() -> Change {
    let prefix = IpCidr::new(Ipv4Address::new(10, 0, 0, 0).into(), 24);
    Change::All(vec![
        Change::Node(NodeConfig {
            gateway4: Some(Ipv4Cidr::new(Ipv4Address::new(10, 0, 0, 1), 24)),
            gateway6: Some(Ipv6Cidr::new(Ipv6Address::LOCALHOST, 64)),
            addresses: vec![Ipv4Address::new(192, 0, 2, 1).into()],
            ..NodeConfig::default()
        }),
        Change::Port(port()),
        Change::PortRemoved(PortId(1)),
        Change::PortUp(PortId(2), false),
        Change::Routes(vec![
            Route { prefix, target: RouteTarget::Connected },
            Route { prefix, target: RouteTarget::Port(PortId(9)) },
            Route { prefix, target: RouteTarget::Blackhole },
        ]),
        Change::Service(service()),
        Change::ServiceRemoved(ServiceId(8)),
        Change::Complete(true),
        Change::All(vec![]),
    ])
}

fn service() -> ServiceConfig {
    let address = Some(Ipv6Address::LOCALHOST.into());
    ServiceConfig {
        id: ServiceId(7),
        name: "default/web:http-of-it".to_string(),
        protocol: ServiceProtocol::Sctp,
        frontends: vec![
            Frontend { kind: FrontendKind::ExternalIp, address, port: 80 },
            Frontend { kind: FrontendKind::NodePort, address: None, port: 30_000 },
        ],
        method: Method::Maglev,
        affinity: Some(Duration::from_secs(10_800)),
        internal_local: true,
        external_local: false,
        source_ranges: vec![IpCidr::new(Ipv6Address::LOCALHOST.into(), 64)],
        backends: vec![Backend {
            address: Ipv6Address::LOCALHOST.into(),
            port: 8_080,
            weight: 9,
            local: true,
            ready: false,
            serving: true,
            terminating: true,
            for_node: None,
            for_zone: Some(false),
        }],
    }
}

#[test]
fn what_was_put_is_taken() {
    assert_eq!(back(&change()), Some(change()));
    assert_eq!(back(&Limits::default()), Some(Limits::default()));
    let seeds = Seeds { table: u64::MAX, choice: 1 };
    assert_eq!(back(&seeds), Some(seeds));
    let mut counters = PortCounters { received: 1, transmitted_bytes: 9, ..Default::default() };
    counters.dropped[3] = 5;
    assert_eq!(back(&counters), Some(counters));
}

#[test]
fn words_too_few_or_too_many_are_no_value() {
    let mut words = Vec::new();
    change().put(&mut words);
    for end in 0..words.len() {
        assert_eq!(whole::<Change>(&words[..end]), None, "cut at {end}");
    }
    words.push(0);
    assert_eq!(whole::<Change>(&words), None);
}

#[test]
fn changes_within_changes_end_somewhere() {
    let nested = (0..64).fold(Change::Complete(true), |inner, _| Change::All(vec![inner]));
    assert_eq!(back(&nested), None);
    let few = (0..DEPTH_MAX).fold(Change::Complete(true), |inner, _| Change::All(vec![inner]));
    assert_eq!(back(&few), Some(few.clone()));
    // The depth is that of one branch, not the sum over all.
    let wide = Change::All(vec![Change::All(vec![]); 32]);
    assert_eq!(back(&wide), Some(wide.clone()));
}

#[test]
fn a_prefix_longer_than_its_address_is_none() {
    assert_eq!(whole::<IpCidr>(&[4, 0, 33]), None);
    assert_eq!(whole::<Ipv6Cidr>(&[0, 0, 129]), None);
    assert!(whole::<IpCidr>(&[6, 0, 0, 128]).is_some());
}

proptest! {
    #[test]
    fn whatever_the_words_they_never_panic(words in prop::collection::vec(0_u64..12, 0..60)) {
        if let Some(value) = whole::<Change>(&words) {
            prop_assert_eq!(back(&value), Some(value));
        }
        drop(whole::<PortConfig>(&words));
        let mut limits = Vec::new();
        Limits::default().put(&mut limits);
        prop_assert_eq!(whole::<Limits>(&words).is_some(), words.len() == limits.len());
    }
}

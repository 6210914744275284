//! What Kubernetes' own tests ask of a Service, by the names of the dossier (SVC-..), and
//! kube-proxy's matrix of who is given which backends. SVC-17 is in the tests of `select`.

use super::*;
use crate::time::Duration;

const KINDS: [FrontendKind; 4] = [
    FrontendKind::ClusterIp,
    FrontendKind::NodePort,
    FrontendKind::LoadBalancer,
    FrontendKind::ExternalIp,
];

/// One backend of this node, one of another.
fn local_and_remote() -> Vec<Backend> {
    vec![Backend { local: true, ..backend(1) }, backend(2)]
}

#[test]
fn svc_01_protocols_of_one_number_are_independent() {
    let of = |n, protocol| ServiceConfig {
        protocol,
        frontends: vec![Frontend {
            kind: FrontendKind::ClusterIp,
            address: Some(v4(10, 96, 0, 1)),
            port: 53,
        }],
        ..service(n, ready(1))
    };
    let services = services(&[
        of(1, ServiceProtocol::Tcp),
        of(2, ServiceProtocol::Udp),
        of(3, ServiceProtocol::Sctp),
    ]);
    let id = |protocol| match services.find(&v4(10, 96, 0, 1), 53, protocol, false) {
        Found::Frontend { slot, .. } => services.get(slot).map(|service| service.config.id.0),
        Found::KnownAddress | Found::Nothing => None,
    };
    assert_eq!([6, 17, 132, 1].map(id), [Some(1), Some(2), Some(3), None]);
}

#[test]
fn svc_05_zero_endpoints_are_refused_and_told_everywhere() {
    for (internal_local, external_local) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        for backends in [vec![], vec![Backend { ready: false, serving: false, ..backend(1) }]] {
            let config = ServiceConfig { internal_local, external_local, ..service(1, backends) };
            let services = services(&[config]);
            for kind in KINDS {
                for outside in [false, true] {
                    let refused = ask_behind(&services, kind, outside, &tuple(1));
                    assert_eq!(refused, Err(Refusal::NoBackends), "{kind:?} {outside}");
                }
            }
        }
    }
}

#[test]
fn svc_06_no_local_endpoint_under_a_local_policy_is_dropped() {
    let remote = [backend(1), Backend { ready: false, terminating: true, ..backend(2) }];
    for backends in remote.map(|it| vec![it]) {
        let config =
            ServiceConfig { internal_local: true, external_local: true, ..service(1, backends) };
        let services = services(&[config]);
        for kind in KINDS {
            let (within, outside) = [false, true]
                .map(|outside| ask_behind(&services, kind, outside, &tuple(1)).err())
                .into();
            assert_eq!(outside, Some(Refusal::NoneLocal), "{kind:?}");
            let behind_cluster_ip = kind == FrontendKind::ClusterIp;
            assert_eq!(within, behind_cluster_ip.then_some(Refusal::NoneLocal), "{kind:?}");
        }
    }
}

#[test]
fn svc_07_each_backend_is_seen_within_30_tries() {
    for method in [Method::Random, Method::RoundRobin, Method::WeightedRoundRobin, Method::Maglev] {
        for count in 2..=5 {
            let config = ServiceConfig { method, ..service(1, ready(count)) };
            let mut services = services(&[config]);
            (0..30).for_each(|n| {
                connect(&mut services, 40_000 + n);
            });
            let totals = totals(&services);
            assert!(totals.iter().all(|total| *total > 0), "{method:?}: {totals:?}");
        }
    }
}

/// Chi-square: with 9 degrees of freedom, 27.9 is exceeded once in a thousand.
#[test]
fn svc_07_choices_are_uniform() {
    const COUNT: u64 = 10;
    const TRIES: u64 = 10_000;
    for method in [Method::Random, Method::Maglev] {
        let mut services = services(&[ServiceConfig { method, ..service(1, ready(10)) }]);
        (0..10_000).for_each(|port| {
            connect(&mut services, port);
        });
        let off = |total: &u64| (total * COUNT).abs_diff(TRIES).pow(2);
        let sum: u64 = totals(&services).iter().map(off).sum();
        let most = if method == Method::Random { 28 } else { 60 };
        assert!(sum <= most * COUNT * TRIES, "{method:?}: {:?}", totals(&services));
    }
}

fn sticky() -> ServiceConfig {
    ServiceConfig { affinity: Some(Duration(100)), ..service(1, ready(4)) }
}

/// A connection at that time: the backend's last byte, and whether affinity chose it.
fn connect_at(services: &mut Services, now: u64, tuple: &Tuple) -> (u8, bool) {
    let slot = services.slot(ServiceId(1)).unwrap();
    let choice = services.choose(&Request {
        slot,
        kind: FrontendKind::ClusterIp,
        external_to_cluster: false,
        client: tuple.src,
        tuple,
        now: Instant(now),
        choice_seed: SEEDS.choice,
    });
    let choice = choice.unwrap();
    services.began(Instant(now), &choice.chosen);
    let IpAddress::Ipv4(address) = choice.backend.0 else { panic!("IPv4") };
    (address.octets()[3], choice.why == Why::Affinity)
}

#[test]
fn svc_15_a_client_keeps_its_backend_and_new_connections_renew_it() {
    let mut services = services(&[sticky()]);
    let (first, _) = connect_at(&mut services, 1_000, &tuple(1));
    // Each within the time-out of the one before, in all far beyond that of the first.
    for n in 1..50 {
        let at = 1_000 + 99 * u64::from(n);
        assert_eq!(connect_at(&mut services, at, &tuple(n)), (first, true), "at {at}");
    }
    // Without a connection nothing is renewed: asking is none.
    let end = 1_000 + 99 * 49 + 100;
    let fresh: Vec<(u8, bool)> =
        (0..20).map(|n| connect_at(&mut services.clone(), end, &tuple(n))).collect();
    assert!(fresh.iter().all(|(_, kept)| !kept));
    assert!(fresh.iter().any(|(backend, _)| *backend != first), "not sticky any more");
}

#[test]
fn svc_15_clients_and_services_are_told_apart() {
    let mut two = services(&[sticky(), ServiceConfig { id: ServiceId(2), ..sticky_at(2) }]);
    connect_at(&mut two, 1_000, &tuple(1));
    let other_client = Tuple { src: v4(10, 1, 0, 201), ..tuple(2) };
    assert!(!connect_at(&mut two, 1_001, &other_client).1);
    let choice = two.choose(&Request {
        slot: two.slot(ServiceId(2)).unwrap(),
        kind: FrontendKind::ClusterIp,
        external_to_cluster: false,
        client: CLIENT,
        tuple: &tuple(3),
        now: Instant(1_001),
        choice_seed: SEEDS.choice,
    });
    assert_eq!(choice.unwrap().why, Why::Method(Method::Random));
}

fn sticky_at(n: u8) -> ServiceConfig {
    ServiceConfig { affinity: Some(Duration(100)), ..service(n, ready(4)) }
}

#[test]
fn svc_15_it_survives_changes_of_backends_and_ends_with_its_own() {
    let mut services = services(&[sticky()]);
    let (first, _) = connect_at(&mut services, 1_000, &tuple(1));
    // Others come and go; places change.
    for backends in [ready(9), vec![backend(first)], (first..=9).map(backend).collect()] {
        services.set(&ServiceConfig { backends, ..sticky() }).unwrap();
        assert_eq!(connect_at(&mut services, 1_050, &tuple(2)), (first, true));
    }
    let unready = |n| Backend { ready: n != first, serving: n != first, ..backend(n) };
    let backends: Vec<Backend> = (1..=9).map(unready).collect();
    services.set(&ServiceConfig { backends, ..sticky() }).unwrap();
    let (second, kept) = connect_at(&mut services, 1_060, &tuple(3));
    assert!(second != first && !kept);
    // The new one is kept, though the old one is back.
    services.set(&ServiceConfig { backends: ready(9), ..sticky() }).unwrap();
    assert_eq!(connect_at(&mut services, 1_070, &tuple(4)), (second, true));
}

#[test]
fn svc_15_it_is_forgotten_with_the_setting_and_with_the_service() {
    for removed in [false, true] {
        let mut services = services(&[sticky()]);
        connect_at(&mut services, 1_000, &tuple(1));
        if removed {
            services.remove(ServiceId(1)).unwrap();
        } else {
            services.set(&ServiceConfig { affinity: None, ..sticky() }).unwrap();
        }
        assert_eq!(services.affinities().count(), 0);
        services.set(&sticky()).unwrap();
        assert!(!connect_at(&mut services, 1_001, &tuple(2)).1);
    }
}

#[test]
fn svc_15_it_holds_only_where_its_backend_can_be_used() {
    let config = ServiceConfig {
        affinity: Some(Duration(100)),
        external_local: true,
        ..service(1, local_and_remote())
    };
    let mut services = services(&[config]);
    // Within the cluster either; this client has the remote one.
    let port = (0..).find(|port| ask(&services, &tuple(*port)).unwrap().index == 1).unwrap();
    connect(&mut services, port);
    let choice = ask_behind(&services, FrontendKind::NodePort, true, &tuple(7)).unwrap();
    assert_eq!((choice.index, choice.why), (0, Why::Method(Method::Random)));
}

/// The rows of kube-proxy's TestInternalExternalMasquerade: candidates by who asks for what.
#[test]
fn matrix_of_clients_and_frontends() {
    let (outer, inner) = (FrontendKind::NodePort, FrontendKind::ClusterIp);
    // Default, eTP=Local, iTP=Local: how many of local and remote.
    for (outside, kind, candidates) in [
        (false, inner, [2, 2, 1]), // a pod or the node to the cluster address
        (false, outer, [2, 2, 2]), // a pod, the node or its loopback to a NodePort
        (true, inner, [2, 2, 1]),  // from outside to the cluster address
        (true, outer, [2, 1, 2]),  // from outside to a NodePort
    ] {
        let policies = [(false, false), (false, true), (true, false)];
        for ((internal_local, external_local), count) in policies.into_iter().zip(candidates) {
            let base = service(1, local_and_remote());
            let services = services(&[ServiceConfig { internal_local, external_local, ..base }]);
            let kinds = if kind == inner { &KINDS[..1] } else { &KINDS[1..] };
            for kind in kinds {
                let choice = ask_behind(&services, *kind, outside, &tuple(1)).unwrap();
                assert_eq!(choice.of, count, "{kind:?} {outside} {internal_local}");
                assert!(choice.of == 2 || choice.local, "the one is this node's");
            }
        }
    }
}

#[test]
fn source_ranges_hold_for_load_balancers_alone_and_before_all_else() {
    let range = |n| smoltcp::wire::IpCidr::new(v4(n, 0, 0, 0), 8);
    let of = |source_ranges| ServiceConfig { source_ranges, ..service(1, vec![]) };
    for (ranges, admitted) in
        [(vec![], true), (vec![range(11)], false), (vec![range(11), range(10)], true)]
    {
        let services = services(&[of(ranges)]);
        let refusal = |kind| ask_behind(&services, kind, true, &tuple(1)).unwrap_err();
        let expected = if admitted { Refusal::NoBackends } else { Refusal::SourceRefused };
        assert_eq!(refusal(FrontendKind::LoadBalancer), expected);
        assert_eq!(refusal(FrontendKind::NodePort), Refusal::NoBackends);
    }
}

/// Ranges of the other family alone admit nobody of this one.
#[test]
fn source_ranges_of_another_family_cover_nobody() {
    let range = smoltcp::wire::IpCidr::new(smoltcp::wire::Ipv6Address::UNSPECIFIED.into(), 0);
    let config = ServiceConfig { source_ranges: vec![range], ..service(1, ready(1)) };
    let refused = ask_behind(&services(&[config]), FrontendKind::LoadBalancer, true, &tuple(1));
    assert_eq!(refused, Err(Refusal::SourceRefused));
}

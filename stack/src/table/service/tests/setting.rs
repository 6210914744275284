//! Changes of configuration: what is refused, what stays, what an undo brings back.

use alloc::string::{String, ToString};

use super::*;
use crate::config::{Change, ConfigError};
use crate::table::{Effect, Tables};
use crate::time::Duration;
use smoltcp::wire::{IpCidr, Ipv6Address};

fn v6(n: u16) -> IpAddress {
    Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, n).into()
}

/// Why a Service is refused beside Service 1.
fn refused(config: &ServiceConfig) -> String {
    let mut services = services(&[service(1, ready(2))]);
    let before = services.derived();
    let error = services.set(config).unwrap_err();
    assert_eq!(services.derived(), before, "nothing is changed");
    assert_eq!(services.len(), 1);
    error.to_string()
}

#[test]
fn what_cannot_be_meant_is_refused_by_name() {
    let base = || service(2, ready(2));
    let cases = [
        (ServiceConfig { name: "n".repeat(4_097), ..base() }, "name is longer"),
        (ServiceConfig { affinity: Some(Duration(0)), ..base() }, "affinity lasts no time"),
        (ServiceConfig { backends: vec![backend(2), backend(1)], ..base() }, "not in the order"),
        (ServiceConfig { backends: vec![backend(1), backend(1)], ..base() }, "each once"),
        (ServiceConfig { backends: vec![Backend { port: 0, ..backend(1) }], ..base() }, "port 0"),
        (
            ServiceConfig { backends: vec![Backend { address: v6(1), ..backend(1) }], ..base() },
            "both families",
        ),
        (
            ServiceConfig { source_ranges: vec![IpCidr::new(CLIENT, 32); 1_001], ..base() },
            "more source ranges",
        ),
        (
            ServiceConfig {
                frontends: vec![Frontend {
                    kind: FrontendKind::ClusterIp,
                    address: None,
                    port: 80,
                }],
                ..base()
            },
            "has no address",
        ),
        (ServiceConfig { frontends: vec![frontends(2)[1]], ..service(2, vec![]) }, "its family"),
        (
            ServiceConfig { frontends: [frontends(2), frontends(2)].concat(), ..base() },
            "a frontend is there twice",
        ),
    ];
    for (config, why) in cases {
        let said = refused(&config);
        assert!(said.starts_with("service 2: ") && said.contains(why), "{said}");
    }
    let many = (0..1_001).map(|port| Frontend { port: 1 + port, ..frontends(2)[0] });
    assert!(refused(&ServiceConfig { frontends: many.collect(), ..base() }).contains("frontends"));
    let many = (0..10_001).map(|port| Backend { port: 1 + port, ..backend(1) });
    assert!(refused(&ServiceConfig { backends: many.collect(), ..base() }).contains("backends"));
}

#[test]
fn a_frontend_is_one_services_alone() {
    for (index, said) in [(0, "10.96.0.1 port 80"), (1, "the node's port 30001")] {
        let taken = ServiceConfig { frontends: vec![frontends(1)[index]], ..service(2, ready(1)) };
        assert_eq!(refused(&taken), format!("service 2: {said} belongs to service 1"));
    }
    // Its own may stay, and go to another in turn.
    let mut services = services(&[service(1, ready(2))]);
    services.set(&service(1, ready(3))).unwrap();
    services.set(&ServiceConfig { frontends: vec![], ..service(1, ready(3)) }).unwrap();
    services.set(&ServiceConfig { frontends: frontends(1), ..service(2, ready(1)) }).unwrap();
    assert_eq!(
        services.remove(ServiceId(3)).unwrap_err(),
        ConfigError::ServiceUnknown(ServiceId(3))
    );
}

#[test]
fn limits_hold_for_all_services_together() {
    let limits = |services_max, frontends_max, backends_max| Limits {
        services_max,
        frontends_max,
        backends_max,
        service_frontends_max: 4,
        service_backends_max: 4,
        ..Limits::default()
    };
    for (limits, what, max) in [
        (limits(2, 99, 99), "Services", 2),
        (limits(9, 11, 99), "frontends of Services", 11),
        (limits(9, 99, 8), "backends of Services", 8),
    ] {
        let mut services = Services::new(SEEDS, &limits);
        services.set(&service(1, ready(3))).unwrap();
        services.set(&service(2, ready(3))).unwrap();
        let full = ConfigError::OverLimit { what, max };
        assert_eq!(services.set(&service(3, ready(3))).unwrap_err(), full);
        // One that is replaced does not count twice.
        services.set(&service(2, ready(4))).unwrap();
        services.remove(ServiceId(1)).unwrap();
        services.set(&service(3, ready(3))).unwrap();
    }
}

#[test]
fn counts_stay_with_backends_that_stay() {
    let mut services =
        services(&[ServiceConfig { method: Method::RoundRobin, ..service(1, ready(3)) }]);
    (0..6).for_each(|port| {
        connect(&mut services, port);
    });
    services.ended(ServiceId(1), &v4(10, 1, 0, 2), 8_080);
    services.refused(services.slot(ServiceId(1)).unwrap(), Refusal::NoneLocal);
    assert_eq!((active(&services), totals(&services)), (vec![2, 1, 2], vec![2, 2, 2]));
    services.set(&service(1, vec![backend(0), backend(2), backend(3), backend(4)])).unwrap();
    assert_eq!((active(&services), totals(&services)), (vec![0, 1, 2, 0], vec![0, 2, 2, 0]));
    assert_eq!(row(&services).refused, Refused { none_local: 1, ..Refused::default() });
    // Connections of who went end, and nobody's count falls; nor below 0.
    for _ in 0..3 {
        services.ended(ServiceId(1), &v4(10, 1, 0, 1), 8_080);
        services.ended(ServiceId(1), &v4(10, 1, 0, 2), 8_081);
        services.ended(ServiceId(9), &v4(10, 1, 0, 2), 8_080);
    }
    assert_eq!(active(&services), [0, 1, 2, 0]);
    (0..9).for_each(|_| services.ended(ServiceId(1), &v4(10, 1, 0, 2), 8_080));
    assert_eq!(active(&services), [0, 0, 2, 0]);
    // Who comes back has what is open still: nothing.
    services.set(&service(1, ready(3))).unwrap();
    assert_eq!((active(&services), totals(&services)), (vec![0, 0, 2], vec![0, 2, 2]));
}

#[test]
fn who_comes_back_carries_what_is_still_open() {
    let mut services =
        services(&[ServiceConfig { method: Method::RoundRobin, ..service(1, ready(2)) }]);
    (0..6).for_each(|port| {
        connect(&mut services, port);
    });
    let end = |services: &mut Services| services.ended(ServiceId(1), &v4(10, 1, 0, 1), 8_080);
    assert_eq!(active(&services), [3, 3]);
    // The backend goes and comes back; one connection ends meanwhile.
    services.set(&service(1, vec![backend(2)])).unwrap();
    end(&mut services);
    assert_eq!(active(&services), [3]);
    services.set(&service(1, ready(2))).unwrap();
    assert_eq!(active(&services), [2, 3]);
    // So does the Service.
    services.remove(ServiceId(1)).unwrap();
    end(&mut services);
    services.set(&service(1, ready(2))).unwrap();
    assert_eq!(active(&services), [1, 3]);
    // What is undone counts as before.
    let before = services.set(&service(1, vec![backend(2)])).unwrap();
    assert_eq!(active(&services), [3]);
    services.put_back(before);
    let before = services.remove(ServiceId(1)).unwrap();
    services.put_back(before);
    assert_eq!(active(&services), [1, 3]);
    // An older connection that ends takes nothing from a newer one.
    end(&mut services);
    connect(&mut services, 7);
    let [one, other] = active(&services)[..] else { panic!("two backends") };
    assert_eq!(one + other, 4);
}

#[test]
fn refusals_are_counted_by_why() {
    let mut services = services(&[service(1, vec![])]);
    let slot = services.slot(ServiceId(1)).unwrap();
    let refusals = [Refusal::NoBackends, Refusal::NoneLocal, Refusal::SourceRefused];
    for (times, refusal) in (1..).zip(refusals) {
        (0..times).for_each(|_| services.refused(slot, refusal));
    }
    assert_eq!(row(&services).refused, Refused { no_backends: 1, none_local: 2, source: 3 });
}

#[test]
fn which_backends_serve_whatever_else_holds() {
    let gone = Backend { ready: false, serving: false, terminating: true, ..backend(2) };
    let leaving = Backend { ready: false, terminating: true, weight: 0, ..backend(3) };
    let early = Backend { serving: false, ..backend(4) };
    let mut services = services(&[service(1, vec![backend(1), gone, leaving, early])]);
    let slot = services.slot(ServiceId(1)).unwrap();
    let serves = |n, port| services.serves(slot, &v4(10, 1, 0, n), port);
    assert_eq!([1, 2, 3, 4, 5].map(|n| serves(n, 8_080)), [true, false, true, true, false]);
    assert!(!serves(1, 80));
    assert!(row(&services).has_serving());
    services.set(&service(1, vec![gone])).unwrap();
    assert!(!row(&services).has_serving());
}

/// Tables in which something has happened to Service 1 with affinity, and Service 2.
fn used() -> Tables {
    let mut tables = Tables::new(Limits::default(), SEEDS);
    let sticky = ServiceConfig { affinity: Some(Duration(1 << 40)), ..service(1, ready(4)) };
    for config in [sticky, service(2, ready(2))] {
        tables.apply(&Change::Service(config)).unwrap();
    }
    for n in 0..40 {
        let tuple = Tuple { src: v4(10, 2, 0, n), ..tuple(5) };
        let choice = ask(tables.services(), &tuple).unwrap();
        tables.commit(Instant(1_000), &[Effect::Chosen(choice.chosen)]);
    }
    let slot = tables.services().slot(ServiceId(2)).unwrap();
    tables.commit(Instant(1_000), &[Effect::Refused(slot, Refusal::NoBackends)]);
    tables
}

#[test]
fn what_is_refused_together_is_undone_exactly() {
    let mut tables = used();
    let before = (tables.dump(), tables.derived(), tables.epoch(), tables.config());
    let changes = [
        Change::ServiceRemoved(ServiceId(1)),
        Change::Service(ServiceConfig { frontends: frontends(1), ..service(9, ready(3)) }),
        Change::Service(ServiceConfig { frontends: vec![], ..service(2, ready(1)) }),
        Change::Service(ServiceConfig { affinity: None, ..service(3, ready(3)) }),
        Change::ServiceRemoved(ServiceId(9)),
        Change::Service(service(1, ready(2))),
        Change::ServiceRemoved(ServiceId(77)),
    ];
    for end in 0..changes.len() {
        let mut some = changes[..end].to_vec();
        some.push(Change::ServiceRemoved(ServiceId(77)));
        let error = tables.apply(&Change::All(some)).unwrap_err();
        assert_eq!(error, ConfigError::ServiceUnknown(ServiceId(77)));
        let after = (tables.dump(), tables.derived(), tables.epoch(), tables.config());
        assert_eq!(after, before, "after {end} changes");
    }
    // Without the last one they hold, and no connection is looked at anew for them.
    tables.apply(&Change::All(changes[..6].to_vec())).unwrap();
    assert_ne!(tables.dump(), before.0);
    assert_eq!(tables.epoch(), before.2);
    let ids: Vec<u32> = tables.config().services.iter().map(|service| service.id.0).collect();
    assert_eq!(ids, [1, 2, 3]);
}

#[test]
fn a_snapshot_amid_changes_is_of_its_begin() {
    let mut tables = used();
    let (dump, derived, digest) = (tables.dump(), tables.derived(), tables.digest());
    let mut bytes = Vec::new();
    tables.snapshot_begin(&mut bytes);
    let mut step = 0;
    while !tables.snapshot_step(3, &mut bytes) {
        step += 1;
        let config = service(1 + step % 5, ready(step % 7));
        tables.apply(&Change::Service(config)).unwrap();
        if let Ok(choice) = ask(tables.services(), &tuple(u16::from(step))) {
            tables.commit(Instant(2_000), &[Effect::Chosen(choice.chosen)]);
        }
        step = step.min(200);
    }
    assert_ne!(tables.dump(), dump);
    let restored = Tables::restore(&bytes, 99).unwrap();
    assert_eq!((restored.dump(), restored.digest()), (dump, digest));
    assert_eq!(restored.derived(), derived);
}

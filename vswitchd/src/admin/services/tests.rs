//! How Services and backends look in the lists.

use stack::Duration;
use stack::config::{Method, ServiceConfig};
use stack::table::service::{Load, Refused};

use super::*;

fn answers(last: u8, ready: bool, serving: bool, terminating: bool) -> Answers {
    Answers {
        address: IpAddress::v4(10, 1, 0, last),
        port: 8_080,
        weight: 3,
        local: last < 5,
        ready,
        serving,
        terminating,
        for_node: None,
        for_zone: None,
    }
}

fn asked(kind: FrontendKind, address: Option<IpAddress>, port: u16) -> Asked {
    Asked { kind, address, port }
}

fn row() -> Row {
    let mut row = Row::new(ServiceConfig {
        id: ServiceId(3),
        name: "demo/web:http".into(),
        protocol: ServiceProtocol::Tcp,
        frontends: vec![
            asked(FrontendKind::ClusterIp, Some(IpAddress::v4(10, 96, 0, 10)), 80),
            asked(FrontendKind::NodePort, None, 30_080),
            asked(FrontendKind::ExternalIp, "fd00::7".parse().ok(), 80),
        ],
        method: Method::Maglev,
        affinity: Some(Duration(10_800_000_000_000)),
        internal_local: false,
        external_local: true,
        source_ranges: vec!["192.0.2.0/24".parse().unwrap()],
        backends: vec![
            answers(2, true, true, false),
            answers(3, false, true, true),
            answers(4, false, false, true),
            answers(5, true, true, false),
            answers(6, false, false, false),
        ],
    });
    row.loads[3] = Load { active: 4, total: 9 };
    row.refused = Refused { no_backends: 1, none_local: 2, source: 4 };
    row
}

#[test]
fn a_service_says_where_it_is_asked_for_and_who_can_answer() {
    let service = service(&row());
    let frontend =
        |kind: &str, address: &str| Frontend { r#type: kind.into(), address: address.into() };
    let expected = Service {
        name: "demo/web:http".into(),
        namespace: "demo".into(),
        id: 3,
        protocol: "tcp".into(),
        frontends: vec![
            frontend("clusterIP", "10.96.0.10:80"),
            frontend("nodePort", "node:30080"),
            frontend("externalIP", "[fd00::7]:80"),
        ],
        method: "maglev".into(),
        affinity_seconds: Some(10_800),
        internal_local: false,
        external_local: true,
        source_ranges: vec!["192.0.2.0/24".into()],
        backends: 5,
        usable: 2,
        usable_local: 1,
        refused: 7,
        refused_no_backends: 1,
        refused_none_local: 2,
        refused_source: 4,
    };
    assert_eq!(service, expected);
}

#[test]
fn backends_say_how_they_are_and_what_they_carry() {
    let backends = backends_of(&row());
    let seen: Vec<_> = backends
        .iter()
        .map(|one| (one.address.as_str(), one.r#where.as_str(), one.state.as_str(), one.usable))
        .collect();
    assert_eq!(
        seen,
        [
            ("10.1.0.2:8080", "local", "ready", true),
            ("10.1.0.3:8080", "local", "serving", false),
            ("10.1.0.4:8080", "local", "terminating", false),
            ("10.1.0.5:8080", "remote", "ready", true),
            ("10.1.0.6:8080", "remote", "unready", false),
        ]
    );
    let loads: Vec<_> = backends.iter().map(|one| (one.weight, one.active, one.total)).collect();
    assert_eq!(loads, [(3, 0, 0), (3, 0, 0), (3, 0, 0), (3, 4, 9), (3, 0, 0)]);
    assert!(backends.iter().all(|one| one.service == "demo/web:http" && one.namespace == "demo"));
}

#[test]
fn lists_are_sorted_by_name() {
    let named = |name: &str, id| Service { name: name.into(), id, ..Service::default() };
    let list = by_name(vec![named("b/x", 1), named("a/y", 9), named("a/y", 2)]);
    let order: Vec<_> = list.items.iter().map(|item| (item.name.as_str(), item.id)).collect();
    assert_eq!(order, [("a/y", 2), ("a/y", 9), ("b/x", 1)]);
    let of = |service: &str, address: &str| Backend {
        service: service.into(),
        address: address.into(),
        ..Backend::default()
    };
    let list = by_service(vec![of("b/x", "9"), of("a/y", "10"), of("a/y", "2")]);
    let order: Vec<_> = list.items.iter().map(|item| item.address.as_str()).collect();
    assert_eq!(order, ["10", "2", "9"], "of one Service as they were");
}

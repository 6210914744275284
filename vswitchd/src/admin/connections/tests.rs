//! Which connections are listed, in which order, and how they look; of a real switch.

use smoltcp::wire::{IpCidr, Ipv4Address, Ipv4Cidr};
use stack::config::{Change, ServiceConfig};
use stack::wire::build::flags;
use stack::{Frame, Input, Outbox, config};

use super::*;
use crate::capture::world::{A, B, C, World, bridged, routed, v4, v6};
use crate::directory::Named;

const VIP: Ipv4Address = Ipv4Address::new(10, 96, 0, 10);

/// a asks demo/web, whose backend is b, by TCP; a and c ask each other by UDP and ICMP.
fn world() -> World {
    let mut world = World::new();
    let mut node = world.switch.config().node;
    node.service_cidrs = vec![IpCidr::Ipv4(Ipv4Cidr::new(Ipv4Address::new(10, 96, 0, 0), 16))];
    let service = Change::Service(ServiceConfig {
        frontends: vec![config::Frontend {
            kind: config::FrontendKind::ClusterIp,
            address: Some(VIP.into()),
            port: 80,
        }],
        backends: vec![config::Backend {
            local: true,
            ..config::Backend::ready(v4(B).into(), 8_080)
        }],
        ..ServiceConfig::new(ServiceId(7), "demo/web:http", config::ServiceProtocol::Tcp)
    });
    let change = Change::All(vec![Change::Node(node), service]);
    world.switch.input(world.now, Input::Change(change), &mut Outbox::default());
    let web = |port| routed(A).ipv4(v4(A), VIP).tcp((port, 80), flags::SYN, 1, 0, &[]);
    for (port, bytes) in [
        (C, bridged(C, A).ipv4(v4(C), v4(A)).udp(2_000, 53, b"?")),
        (A, web(40_001)),
        (A, web(40_000)),
        (A, bridged(A, C).ipv6(v6(A), v6(C)).udp(1_000, 53, b"?")),
        (A, bridged(A, C).ipv4(v4(A), v4(C)).echo(true, 77, 1, b"ping")),
    ] {
        world.put(port, Frame::from_bytes(&bytes));
    }
    world
}

fn list(world: &World, query: &ConnectionQuery) -> List<Connection> {
    at_rest(query, world.switch.tables(), &world.names.load()).unwrap()
}

fn sources(list: &List<Connection>) -> Vec<(&str, &str)> {
    list.items.iter().map(|item| (item.protocol.as_str(), item.source.as_str())).collect()
}

const ALL: [(&str, &str); 5] = [
    ("icmp", "10.1.0.2:77"),
    ("tcp", "10.1.0.2:40000"),
    ("tcp", "10.1.0.2:40001"),
    ("udp", "10.1.0.4:2000"),
    ("udp", "[fd00:1::2]:1000"),
];

#[test]
fn a_connection_shows_what_it_is_translated_to() {
    let world = world();
    let all = list(&world, &ConnectionQuery::default());
    assert_eq!(sources(&all), ALL);
    assert_eq!((all.left_out, all.kind.as_str()), (0, "ConnectionList"));
    let flow = |source: &str, source_port, destination: &str, destination_port| Flow {
        source: source.into(),
        source_port,
        destination: destination.into(),
        destination_port,
    };
    let web = Connection {
        protocol: "tcp".into(),
        state: "SYN_SENT".into(),
        source: "10.1.0.2:40000".into(),
        destination: "10.96.0.10:80".into(),
        backend: Some("10.1.0.3:8080".into()),
        translated_source: None,
        service: Some("demo/web:http".into()),
        expires_seconds: 119,
        from: "pod/demo/a".into(),
        to: "pod/demo/b".into(),
        original: flow("10.1.0.2", 40_000, "10.96.0.10", 80),
        reply: flow("10.1.0.3", 8_080, "10.1.0.2", 40_000),
    };
    assert_eq!(all.items[1], web);
    let ping = &all.items[0];
    assert_eq!(
        (ping.destination.as_str(), &ping.backend, &ping.service),
        ("10.1.0.4", &None, &None)
    );
}

#[test]
fn connections_are_chosen_by_what_they_are() {
    let world = world();
    let by = |query: ConnectionQuery| {
        let list = list(&world, &query);
        let place = |item: &(&str, &str)| ALL.iter().position(|one| one == item).unwrap();
        sources(&list).iter().map(place).collect::<Vec<_>>()
    };
    let text = |text: &str| Some(text.to_owned());
    let none = ConnectionQuery::default;
    assert_eq!(by(ConnectionQuery { service: text("demo/web"), ..none() }), [1, 2]);
    assert_eq!(by(ConnectionQuery { service: text("demo/web:http"), ..none() }), [1, 2]);
    assert_eq!(by(ConnectionQuery { service: text("demo/we"), ..none() }), [0; 0]);
    assert_eq!(by(ConnectionQuery { pod: text("demo/b"), ..none() }), [1, 2]);
    assert_eq!(by(ConnectionQuery { pod: text("demo/c"), ..none() }), [0, 3, 4]);
    assert_eq!(by(ConnectionQuery { address: text("10.1.0.3"), ..none() }), [1, 2]);
    assert_eq!(by(ConnectionQuery { address: text("10.96.0.10"), ..none() }), [1, 2]);
    assert_eq!(by(ConnectionQuery { address: text("fd00:1:0::3:0"), ..none() }), [0; 0]);
    assert_eq!(by(ConnectionQuery { protocol: text("udp"), ..none() }), [3, 4]);
    assert_eq!(by(ConnectionQuery { protocol: text("icmp"), ..none() }), [0]);
    assert_eq!(by(ConnectionQuery { state: text("syn_sent"), ..none() }), [1, 2]);
    assert_eq!(by(ConnectionQuery { state: text("UNREPLIED"), ..none() }), [0, 3, 4]);
    assert_eq!(by(ConnectionQuery { state: text("ESTABLISHED"), ..none() }), [0; 0]);
    assert_eq!(by(ConnectionQuery { port: Some(53), ..none() }), [3, 4]);
    assert_eq!(by(ConnectionQuery { port: Some(8_080), ..none() }), [1, 2], "the backend's");
    assert_eq!(by(ConnectionQuery { port: Some(80), ..none() }), [1, 2], "the VIP's");
    assert_eq!(by(ConnectionQuery { namespace: text("demo"), ..none() }), [0, 1, 2, 3, 4]);
    assert_eq!(by(ConnectionQuery { namespace: text("other"), ..none() }), [0; 0]);
    let both = ConnectionQuery { protocol: text("udp"), address: text("10.1.0.2"), ..none() };
    assert_eq!(by(both), [3]);
}

#[test]
fn the_first_are_kept_and_the_others_counted() {
    let world = world();
    let some = list(&world, &ConnectionQuery { limit: Some(2), ..ConnectionQuery::default() });
    assert_eq!((sources(&some).as_slice(), some.left_out), (&ALL[..2], 3));
    let udp = ConnectionQuery {
        limit: Some(1),
        protocol: Some("udp".into()),
        ..ConnectionQuery::default()
    };
    let some = list(&world, &udp);
    assert_eq!((sources(&some).as_slice(), some.left_out), (&ALL[3..4], 1));
}

#[test]
fn those_with_the_most_time_left_can_come_first() {
    let world = world();
    let sort = Some("expiresSeconds".to_owned());
    let some = list(&world, &ConnectionQuery { limit: Some(3), sort, ..Default::default() });
    // SYN_SENT has more time than what is unreplied; of equals the one that was heard of last.
    let [web, before, last] = &some.items[..] else { panic!("{some:?}") };
    assert_eq!([web, before].map(|item| item.destination.as_str()), ["10.96.0.10:80"; 2]);
    assert_eq!(
        [web, before].map(|item| item.source.as_str()),
        ["10.1.0.2:40000", "10.1.0.2:40001"]
    );
    assert_eq!((last.protocol.as_str(), some.left_out), ("icmp", 2));
}

#[test]
fn what_is_past_its_deadline_is_not_there() {
    let world = world();
    let (tables, names) = (world.switch.tables(), world.names.load());
    let at = |seconds: u64| {
        let mut listing = Listing::new(&ConnectionQuery::default(), &names).unwrap();
        let now = Instant(world.now.0 + seconds * 1_000_000_000);
        assert_eq!(listing.step(tables, now, 0), None);
        let list = listing.list(now, &BTreeMap::new(), &names);
        list.items.iter().map(|item| item.protocol.clone()).collect::<Vec<_>>()
    };
    assert_eq!(at(29), ["icmp", "tcp", "tcp", "udp", "udp"]);
    assert_eq!(at(31), ["tcp", "tcp"]);
    assert_eq!(at(121), Vec::<String>::new());
}

#[test]
fn what_cannot_be_asked_for_is_refused() {
    let world = world();
    let text = |text: &str| Some(text.to_owned());
    let none = ConnectionQuery::default;
    for (query, message) in [
        (ConnectionQuery { pod: text("demo/z"), ..none() }, "no pod demo/z is wired on this node"),
        (ConnectionQuery { pod: text("a"), ..none() }, "a: no NS/POD"),
        (ConnectionQuery { service: text("web"), ..none() }, "web: no NS/NAME"),
        (ConnectionQuery { address: text("10.1"), ..none() }, "10.1: no IP address"),
        (
            ConnectionQuery { protocol: text("gre"), ..none() },
            "gre: no protocol that is known here",
        ),
        (ConnectionQuery { state: text("OPEN"), ..none() }, "OPEN: no state of a connection"),
        (ConnectionQuery { sort: text("state"), ..none() }, "sort: state is none"),
    ] {
        let refused = at_rest(&query, world.switch.tables(), &world.names.load()).unwrap_err();
        assert_eq!(refused.error.message, message);
        assert_ne!(refused.error.hint, "");
    }
}

#[test]
fn hops_name_the_service() {
    let world = world();
    let names = world.names.load();
    let syn = routed(A).ipv4(v4(A), VIP).tcp((40_002, 80), flags::SYN, 1, 0, &[]);
    let frame = Frame::from_bytes(&syn);
    let trace = world.switch.trace(world.now, A, &frame);
    let line = |services| {
        let named = Named { ports: &names, services };
        let hops = crate::admin::trace::hops(&trace, frame.window(), &named);
        hops.into_iter().map(|hop| hop.line).find(|line| line.contains("10.1.0.3:8080")).unwrap()
    };
    let known = line(Some(world.switch.tables().services()));
    assert!(known.ends_with("demo/web:http -> 10.1.0.3:8080 by random, of 1"), "{known}");
    let unknown = line(None);
    assert!(unknown.ends_with("service 7 -> 10.1.0.3:8080 by random, of 1"), "{unknown}");
}

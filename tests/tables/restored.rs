//! The rows of each table come back: something changes them, a snapshot is taken, and the switch
//! that is made of it shows them and acts by them.

use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr};
use stack::table::Table;
use stack::wire::build::Link;
use stack::{
    Backend, Change, Config, Duration, Frame, Input, Instant, Limits, Method, NodeConfig, Outbox,
    PortConfig, PortId, PortKind, Route, RouteTarget, Seeds, ServiceConfig, ServiceId,
    ServiceProtocol, Switch,
};

use crate::fields::{export, list, number, record};

/// A pod's port and MAC.
const A: (PortId, EthernetAddress) = (PortId(1), EthernetAddress([2, 0, 0, 0, 0, 1]));
const B: (PortId, EthernetAddress) = (PortId(2), EthernetAddress([2, 0, 0, 0, 0, 2]));

fn v4(n: u8) -> Ipv4Address {
    Ipv4Address::new(10, 1, 0, n)
}

fn pod((id, mac): (PortId, EthernetAddress), n: u8) -> Change {
    let addresses = vec![v4(n).into()];
    let (kind, allowed) = (PortKind::Pod, vec![IpCidr::new(v4(0).into(), 24)]);
    Change::Port(PortConfig { id, kind, mac, addresses, allowed, mtu: 1_500, up: true })
}

fn node() -> NodeConfig {
    NodeConfig { gateway4: Some(Ipv4Cidr::new(v4(1), 24)), ..NodeConfig::default() }
}

fn route(target: RouteTarget) -> Change {
    Change::Routes(vec![Route { prefix: IpCidr::new(v4(0).into(), 24), target }])
}

fn service() -> ServiceConfig {
    let backend = Backend { local: true, ..Backend::ready(v4(2).into(), 80) };
    ServiceConfig {
        method: Method::RoundRobin,
        affinity: Some(Duration::from_secs(10_800)),
        backends: vec![backend],
        ..ServiceConfig::new(ServiceId(4), "default/web:http", ServiceProtocol::Tcp)
    }
}

/// What another build had of that Service: connections, and a client.
fn of_service() -> Vec<u8> {
    let address = |name, n| record(name, &number("v4", u32::from(v4(n)).into()));
    let backend = [address("address", 2), number("port", 80), number("total", 7)].concat();
    let service = [number("id", 4), number("turn-local", 1), list("backends", &[backend])];
    let client = [
        number("service", 4),
        address("client", 3),
        address("backend", 2),
        number("port", 80),
        number("deadline", 1 << 50),
    ];
    export(&[list("services", &[service.concat()]), list("affinities", &[client.concat()])])
}

/// A connection over IPv6 that another build had.
fn of_connection() -> Vec<u8> {
    let flow = |name, src: u64, dst: u64, ports: [u64; 2]| {
        let addresses = [
            number("src-high", 0xfd00 << 48),
            number("src", src),
            number("dst-high", 0xfd00 << 48),
            number("dst", dst),
        ];
        let ports = [number("src-port", ports[0]), number("dst-port", ports[1])];
        let protocol = number("protocol", 17);
        record(name, &[addresses.concat(), ports.concat(), protocol].concat())
    };
    let connection = [
        flow("originator", 2, 3, [1_000, 53]),
        flow("responder", 3, 2, [53, 1_000]),
        number("originator-port", 1),
        number("responder-port", 2),
        number("deadline", 1 << 50),
        number("state", 17),
    ];
    export(&[list("connections", &[connection.concat()])])
}

pub(crate) fn input(switch: &mut Switch, input: Input) {
    let now = Instant(switch.tables().now().0 + 1_000);
    let mut out = Outbox::default();
    switch.input(now, input, &mut out);
    assert_eq!(out.events, [], "accepted");
}

fn asks() -> Frame {
    let link = Link { src: A.1, dst: B.1 };
    Frame::from_bytes(&link.ipv4(v4(2), v4(3)).udp(1, 2, b"?"))
}

/// A fragment of a datagram whose first has not come.
fn part(id: u16) -> Frame {
    let packet = Link { src: A.1, dst: B.1 }.ipv4(v4(2), v4(3)).fragment(id, 8, true);
    Frame::from_bytes(&packet.upper(17.into(), b"8 bytes."))
}

/// A switch with something in each table.
fn switch(limits: Limits) -> Switch {
    let mut switch = Switch::new(Config::default(), limits, Seeds { table: 1, choice: 2 });
    let changes = [
        Change::Node(node()),
        pod(A, 2),
        pod(B, 3),
        route(RouteTarget::Connected),
        Change::Service(service()),
        Change::Complete(true),
    ];
    changes.into_iter().for_each(|change| input(&mut switch, Input::Change(change)));
    input(&mut switch, Input::Frame { port: A.0, frame: asks() });
    input(&mut switch, Input::Frame { port: A.0, frame: part(1) });
    switch
}

/// A switch of that configuration, to which nothing has happened.
pub(crate) fn fresh(config: Config, limits: Limits) -> Switch {
    Switch::new(config, limits, Seeds { table: 3, choice: 4 })
}

/// Changes rows of a table, or gives a switch in which they are others. A new table does not
/// compile until it says how.
pub(crate) fn changed(table: Table) -> Switch {
    let mut switch = match table {
        Table::Limits => return switch(Limits { errors_burst: 5, ..Limits::default() }),
        Table::State
        | Table::Node
        | Table::Port
        | Table::Route
        | Table::Gone
        | Table::Service
        | Table::Affinity
        | Table::Connection4
        | Table::Connection6
        | Table::Datagram => switch(Limits::default()),
    };
    match table {
        Table::Limits => {}
        Table::State => input(&mut switch, Input::Change(Change::Complete(false))),
        Table::Node => {
            let node = NodeConfig { vxlan_port: 8_472, ..node() };
            input(&mut switch, Input::Change(Change::Node(node)));
        }
        Table::Port => input(&mut switch, Input::Frame { port: B.0, frame: asks() }),
        Table::Route => input(&mut switch, Input::Change(route(RouteTarget::Blackhole))),
        Table::Gone => input(&mut switch, Input::Change(Change::PortRemoved(A.0))),
        Table::Service | Table::Affinity => input(&mut switch, Input::Import(of_service())),
        Table::Connection4 => {
            let link = Link { src: A.1, dst: B.1 };
            let frame = Frame::from_bytes(&link.ipv4(v4(2), v4(3)).udp(3, 4, b"?"));
            input(&mut switch, Input::Frame { port: A.0, frame });
        }
        Table::Connection6 => input(&mut switch, Input::Import(of_connection())),
        Table::Datagram => input(&mut switch, Input::Frame { port: A.0, frame: part(2) }),
    }
    switch
}

/// The lines of a dump that are rows of a table.
fn rows(switch: &Switch, table: Table) -> Vec<String> {
    let of = format!("{} ", table.name());
    switch.dump().lines().filter(|line| line.starts_with(&of)).map(str::to_owned).collect()
}

#[test]
fn the_rows_of_every_table_come_back() {
    for table in Table::ALL {
        let before = rows(&switch(Limits::default()), *table);
        let mut changed = changed(*table);
        let after = rows(&changed, *table);
        assert!(!after.is_empty(), "{table:?} has rows");
        assert_ne!(before, after, "{table:?} was changed");
        let restored = Switch::restore(&changed.snapshot(), 77).unwrap();
        assert_eq!(rows(&restored, *table), after, "{table:?} comes back");
        assert_eq!((restored.dump(), restored.digest()), (changed.dump(), changed.digest()));
        assert_eq!(restored.config(), changed.config());
        // What follows from rows (FDB, neighbors, the ports' index) is made anew: equal inputs go
        // the same way.
        for (port, frame) in [(A.0, asks()), (B.0, asks()), (PortId(9), asks())] {
            let now = Instant(1 << 40);
            assert_eq!(restored.trace(now, port, &frame), changed.trace(now, port, &frame));
        }
    }
}

#[test]
fn every_row_of_a_snapshot_is_needed() {
    let whole = switch(Limits::default()).snapshot();
    // Behind two words that say what it is, a row is three words of head, the second of which
    // counts the words behind them.
    let mut at = 16;
    while at < whole.len() {
        let count = u64::from_le_bytes(*whole[at + 8..].first_chunk().unwrap());
        let end = at + 8 * (3 + usize::try_from(count).unwrap());
        let without = [&whole[..at], &whole[end..]].concat();
        let refused = Switch::restore(&without, 1).map(|switch| switch.dump());
        assert!(!refused.unwrap_err().to_string().is_empty(), "without the row at {at}");
        at = end;
    }
}

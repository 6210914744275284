//! Who asks whom for what.

use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;

use super::Seen;
use super::place::Place;
use super::services::{Service, TARGETS};

/// Somebody or something that is asked: its addresses, and the ports of TCP and UDP.
struct Target {
    name: &'static str,
    addresses: [IpAddr; 2],
    ports: [u16; 2],
    clients: &'static [&'static str],
    /// Whether the addresses are this target's alone, so that they are pinged.
    pinged: bool,
}

/// Bytes of a datagram that is none of the smallest, and of one that takes two packets.
const SMALL: usize = 9;
const LARGE: usize = 2_000;

/// Those within reach of Services.
const ALL: &[&str] = &["client", "server", "node", "outside"];

const EXTERNAL: [&str; 2] = ["203.0.113.20", "2001:db8:9::20"];
const EMPTY: [&str; 2] = ["203.0.113.21", "2001:db8:9::21"];
const BALANCED: [&str; 2] = ["203.0.113.10", "2001:db8:9::10"];
const UNALLOCATED: [&str; 2] = ["10.96.0.99", "fd00:96::99"];

/// What is served in both worlds.
pub(super) fn services(place: &Place) -> Vec<Service> {
    let server = place.addresses("server");
    let both = [place.addresses("server"), place.addresses("other")].concat();
    let far: [IpAddr; 2] = ["10.244.2.9".parse().unwrap(), "fd00:10:244:2::9".parse().unwrap()];
    let new = |name, number, backends: &[IpAddr]| Service::new(name, number, backends);
    let node_ports = |first: u16| Some([first + 80, first + 7]);
    let ranges = ["192.0.2.1/32", "2001:db8::1/128"];
    vec![
        Service {
            node_ports: node_ports(30_000),
            external: Some(EXTERNAL),
            ..new("web", 1, &server)
        },
        Service {
            node_ports: node_ports(30_100),
            local: [true, false],
            ..new("local", 2, &server)
        },
        Service {
            node_ports: node_ports(30_200),
            local: [true, true],
            is_here: false,
            ..new("far", 3, &far)
        },
        Service { node_ports: node_ports(30_300), external: Some(EMPTY), ..new("empty", 4, &[]) },
        Service {
            node_ports: node_ports(30_400),
            targets: [8_081, 7_008],
            ..new("closed", 5, &server)
        },
        Service { node_ports: node_ports(30_500), ..new("host", 6, &place.addresses("node")) },
        Service {
            node_ports: node_ports(30_600),
            balanced: Some((BALANCED, ranges)),
            ..new("balanced", 7, &server)
        },
        Service { targets: [8_083, TARGETS[1]], ..new("leaving", 8, &both) },
        Service { targets: [8_083, TARGETS[1]], ..new("last", 9, &server) },
        new("beyond", 10, &place.addresses("outside")),
        Service { targets: [8_082, 7_009], ..new("mute", 11, &server) },
    ]
}

fn parsed(both: [&str; 2]) -> [IpAddr; 2] {
    both.map(|address| address.parse().unwrap())
}

/// The Service of that name.
pub(super) fn of<'a>(services: &'a [Service], name: &str) -> &'a Service {
    services.iter().find(|service| service.name == name).unwrap()
}

fn targets(place: &Place, services: &[Service]) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut add = |name, addresses, ports, clients, pinged| {
        targets.push(Target { name, addresses, ports, clients, pinged });
    };
    let host = |name| -> [IpAddr; 2] { place.addresses(name).try_into().unwrap() };
    let vip = |name: &str| of(services, name).vips().map(|vip| vip.parse().unwrap());
    let node = host("node");
    let node_ports = |name| of(services, name).node_ports.unwrap();
    let (first, few) = ([80, 7], &["client", "node", "outside"][..]);
    add("a VIP", vip("web"), first, ALL, true);
    add("a port that the VIP lacks", vip("web"), [81, 8], ALL, false);
    add("a VIP without backends", vip("empty"), first, few, false);
    add("a VIP of policy Local without one", vip("far"), first, few, false);
    add("a VIP whose backend refuses", vip("closed"), first, few, false);
    add("a VIP of the node itself", vip("host"), first, few, false);
    add("a VIP of a host outside", vip("beyond"), first, &["client", "node"], false);
    add("an address of no Service", parsed(UNALLOCATED), first, few, true);
    add("a node port", node, node_ports("web"), ALL, false);
    add("a node port of policy Local", node, node_ports("local"), ALL, false);
    add("a node port of policy Local without one", node, node_ports("far"), &["outside"], false);
    add("a node port without backends", node, node_ports("empty"), few, false);
    add("a node port whose backend refuses", node, node_ports("closed"), few, false);
    add("a node port of the node itself", node, node_ports("host"), few, false);
    add("a node port of nobody", node, [32_000, 32_001], few, false);
    add("an external address", parsed(EXTERNAL), first, ALL, true);
    add("an external address without backends", parsed(EMPTY), first, few, false);
    let anybody = &["client", "server", "node", "outside", "stranger"];
    add("a load balancer's address", parsed(BALANCED), first, anybody, false);
    add("a pod", host("server"), TARGETS, &["client", "node"], true);
    add("the node", node, TARGETS, &["client", "outside"], true);
    add("the outside", host("outside"), TARGETS, &["client", "node"], true);
    add("a closed port outside", host("outside"), [8_081, 7_008], &["client", "node"], false);
    targets
}

/// Asks everything, all at once: those that nobody answers last as long as one of them.
pub(super) fn ask(place: &Place, services: &[Service]) -> Seen {
    let seen = Mutex::new(Seen::new());
    let targets = targets(place, services);
    std::thread::scope(|scope| {
        for target in &targets {
            for (client, family) in
                target.clients.iter().flat_map(|client| [(client, 0), (client, 1)])
            {
                let seen = &seen;
                scope.spawn(move || {
                    let told = one(place, target, client, family);
                    seen.lock().unwrap().extend(told);
                });
            }
        }
    });
    seen.into_inner().unwrap()
}

/// One client's questions to one target.
fn one(place: &Place, target: &Target, client: &str, family: usize) -> Seen {
    let address = target.addresses[family];
    let [tcp, udp] = target.ports.map(|l4_port| SocketAddr::new(address, l4_port));
    let mut told = vec![
        ("TCP", place.tcp(client, tcp)),
        ("UDP", place.udp(client, udp, SMALL)),
        ("UDP of 2,000 bytes", place.udp(client, udp, LARGE)),
    ];
    if target.pinged {
        told.push(("ping", place.ping(client, address)));
    }
    let asked = |how| (format!("{client} to {}, {how}", target.name), family);
    told.into_iter().map(|(how, told)| (asked(how), told)).collect()
}

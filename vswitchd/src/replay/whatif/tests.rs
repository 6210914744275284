//! Recorded traffic to Services, run again with others: what differs is told, each connection once,
//! and nothing else is.

use stack::wire::build::flags;
use stack::{Change, Frame, FrontendKind, PortId, ServiceConfig, ServiceId};

use super::{Beside, Comparison};
use crate::capture::world::{A, World, routed, v4};
use crate::kube::manifests::parse;
use crate::kube::numbers::{Numbers, OTHERS};
use crate::kube::objects::{Objects, desired};
use crate::kube::place::Known;
use crate::replay::Options;
use crate::replay::tests::{file, replayed};

pub(in crate::replay) const VIP: &str = "10.96.0.10";
const CLIENTS: std::ops::Range<u16> = 40_000..40_040;

/// A node with that Service's backends, and one without any.
pub(in crate::replay) fn manifests(backends: &[&str]) -> Objects {
    let each = backends.iter().map(|address| format!("- {{addresses: [{address}]}}\n"));
    let text = format!(
        "
kind: Node
metadata: {{name: n1}}
spec: {{podCIDRs: [10.1.0.0/24]}}
---
kind: ServiceCIDR
metadata: {{name: kubernetes}}
spec: {{cidrs: [10.96.0.0/16]}}
---
kind: Service
metadata: {{name: web, namespace: demo}}
spec:
  clusterIP: {VIP}
  ports: [{{name: http, port: 80}}, {{name: dns, port: 53, protocol: UDP}}]
---
kind: Service
metadata: {{name: empty, namespace: demo}}
spec: {{clusterIP: 10.96.0.20, ports: [{{port: 80}}]}}
---
kind: EndpointSlice
metadata:
  name: web-1
  namespace: demo
  labels: {{kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{{name: http, port: 8080}}, {{name: dns, port: 5353, protocol: UDP}}]
endpoints:
{}",
        each.collect::<String>()
    );
    read(&text)
}

fn read(text: &str) -> Objects {
    let mut objects = Objects::default();
    parse("a.yaml", text, &mut objects).unwrap();
    objects
}

pub(in crate::replay) fn services(objects: &Objects) -> Vec<ServiceConfig> {
    let mut services = desired(objects, &Known::alone("n1")).unwrap().services;
    Numbers::default().number(&mut services);
    services
}

/// A world with the Services of these objects; the recording begins there.
pub(in crate::replay) fn world(objects: &Objects) -> World {
    serving(World::new(), objects)
}

pub(in crate::replay) fn serving(mut world: World, objects: &Objects) -> World {
    let mut node = world.switch.config().node;
    node.service_cidrs = vec!["10.96.0.0/16".parse().unwrap()];
    world.change(Change::Node(node));
    services(objects).into_iter().for_each(|service| world.change(Change::Service(service)));
    world.begin_here();
    world
}

/// A SYN of a pod to a VIP; the backend that it left for, if it left.
pub(in crate::replay) fn syn(
    world: &mut World,
    from: PortId,
    port: u16,
    vip: &str,
) -> Option<String> {
    let ip = routed(from).ipv4(v4(from), vip.parse().unwrap());
    let sent = world.put(from, Frame::from_bytes(&ip.tcp((port, 80), flags::SYN, 1, 0, &[])));
    let [(port, frame)] = &sent[..] else { panic!("{sent:?}") };
    let to = frame.bytes().get(30..34).unwrap();
    (*port != from).then(|| format!("{}.{}.{}.{}:8080", to[0], to[1], to[2], to[3]))
}

/// Two segments of each client; the backends of each.
fn traffic(world: &mut World) -> Vec<(u16, String)> {
    let first = CLIENTS.map(|port| (port, syn(world, A, port, VIP).unwrap())).collect();
    for port in CLIENTS {
        syn(world, A, port, VIP).unwrap();
    }
    first
}

fn compared(world: &World, objects: &Objects) -> Comparison {
    compared_file(&file(&world.excerpt()), objects)
}

fn compared_file(file: &[u8], objects: &Objects) -> Comparison {
    let mut beside = Beside::new(objects, None);
    let ended = replayed(file, &Options::default(), Some(&mut beside));
    assert_eq!(beside.unfit(), None);
    Comparison::new(&ended, &beside)
}

/// Ports of the clients that differ, with what became of each and what would.
fn told(comparison: &Comparison) -> Vec<(u16, String, String)> {
    let each = comparison.differences.iter().map(|one| {
        assert!(one.source.starts_with("10.1.0.2:") && one.ingress == "pod/demo/a", "{one:?}");
        let port = one.source.rsplit_once(':').unwrap().1.parse().unwrap();
        (port, one.recorded.text.clone(), one.now.text.clone())
    });
    each.collect()
}

#[test]
fn with_the_services_that_there_were_nothing_differs() {
    let objects = manifests(&["10.1.0.3", "10.1.0.4"]);
    let mut world = world(&objects);
    traffic(&mut world);
    syn(&mut world, A, 50_000, "10.96.0.20");
    world.traffic();
    let comparison = compared(&world, &objects);
    assert_eq!((comparison.differ, comparison.reasons.len()), (0, 0), "{comparison:?}");
    assert_eq!((comparison.node.as_str(), comparison.stopped), ("n1", "end"));
    assert!(comparison.connections > 50 && comparison.frames > comparison.connections + 40);
    assert_eq!((comparison.left_out, comparison.refused, comparison.beyond), (0, None, 0));
}

#[test]
fn a_backend_that_is_removed_takes_its_own_connections_along_and_no_others() {
    let objects = manifests(&["10.1.0.3", "10.1.0.4", "10.1.7.7"]);
    let mut world = world(&objects);
    let backends = traffic(&mut world);
    let comparison = compared(&world, &manifests(&["10.1.0.3", "10.1.7.7"]));
    let lost = "10.1.0.4:8080";
    let expected: Vec<u16> =
        backends.iter().filter(|(_, backend)| backend == lost).map(|(port, _)| *port).collect();
    let told = told(&comparison);
    assert_eq!(told.iter().map(|(port, ..)| *port).collect::<Vec<_>>(), expected);
    assert!(expected.len() > 5 && told.iter().all(|(_, was, is)| was == lost && is != lost));
    assert_eq!((comparison.connections, comparison.differ), (40, expected.len() as u64));
    let [group] = &comparison.reasons[..] else { panic!("{comparison:?}") };
    assert_eq!((group.kind, group.text.as_str()), ("backend", "other backend"));
    let first = &comparison.differences[0];
    assert_eq!(first.service.as_deref(), Some("demo/web:http"));
    // Its first frame, not the second.
    assert_eq!(first.walk, u64::from(expected[0] - CLIENTS.start) + 1);
    assert_eq!((first.recorded.egress.as_deref(), first.is_reply), (Some("pod/demo/c"), false));
}

#[test]
fn without_backends_clients_are_refused_and_without_the_service_dropped() {
    let objects = manifests(&["10.1.0.3"]);
    let mut world = world(&objects);
    traffic(&mut world);
    let refused = compared(&world, &manifests(&[]));
    assert_eq!((refused.connections, refused.differ), (40, 40));
    let [group] = &refused.reasons[..] else { panic!("{refused:?}") };
    assert_eq!((group.kind, group.reason), ("refused", Some("ServiceNoBackend")));
    assert_eq!(refused.differences[0].now.text, "reset: ServiceNoBackend");
    assert!(group.hint.is_some());
    let mut without = manifests(&[]);
    without.services.remove(&("demo".to_owned(), "web".to_owned()));
    let dropped = compared(&world, &without);
    let [group] = &dropped.reasons[..] else { panic!("{dropped:?}") };
    assert_eq!(group.text, "now dropped: ServiceAddressUnallocated");
    // And the other way round.
    let mut refused = self::world(&manifests(&[]));
    for port in CLIENTS {
        assert_eq!(syn(&mut refused, A, port, VIP), None);
        assert_eq!(syn(&mut refused, A, port, VIP), None, "once more, and no other connection");
    }
    let forwarded = compared(&refused, &objects);
    let [group] = &forwarded.reasons[..] else { panic!("{forwarded:?}") };
    assert_eq!((group.kind, group.count, forwarded.connections), ("forwarded", 40, 40));
    assert_eq!(told(&forwarded)[0].2, "10.1.0.3:8080");
}

#[test]
fn what_was_open_at_the_begin_stays_and_what_udp_was_led_to_does_not() {
    let objects = manifests(&["10.1.0.4"]);
    let mut world = world(&objects);
    let query = |world: &mut World| {
        let ip = routed(A).ipv4(v4(A), VIP.parse().unwrap());
        world.put(A, Frame::from_bytes(&ip.udp(40_100, 53, &[0; 30])));
    };
    syn(&mut world, A, 40_000, VIP).unwrap();
    query(&mut world);
    world.begin_here();
    syn(&mut world, A, 40_000, VIP).unwrap();
    query(&mut world);
    syn(&mut world, A, 40_001, VIP).unwrap();
    let comparison = compared(&world, &manifests(&["10.1.0.3"]));
    assert_eq!(comparison.connections, 3);
    let differing: Vec<u16> = told(&comparison).iter().map(|(port, ..)| *port).collect();
    assert_eq!(differing, [40_100, 40_001]);
}

#[test]
fn the_recordings_own_services_are_left_out_and_hostports_and_the_node_are_kept() {
    let objects = manifests(&["10.1.0.3"]);
    let mut world = world(&objects);
    // While it records: the backend goes, a range of Services and a hostPort come.
    let gone = services(&manifests(&[])).into_iter().find(|web| web.name == "demo/web:http");
    let mut node = world.switch.config().node;
    node.service_cidrs.push("10.97.0.0/16".parse().unwrap());
    world.change(Change::All(vec![Change::Service(gone.unwrap()), Change::Node(node)]));
    let mut host_port = services(&objects).into_iter().find(|web| web.name == "demo/web:http");
    let host_port = host_port.as_mut().unwrap();
    host_port.id = ServiceId(OTHERS);
    let frontend = host_port.frontends.first_mut().unwrap();
    (frontend.kind, frontend.address) = (FrontendKind::HostPort, "192.0.2.10".parse().ok());
    world.change(Change::Service(host_port.clone()));
    assert_eq!(syn(&mut world, A, 40_000, VIP), None, "the backend is gone");
    let led = syn(&mut world, A, 40_001, "192.0.2.10").unwrap();
    assert_eq!(led, "10.1.0.3:8080", "the hostPort leads to it");
    let ip = routed(A).ipv4(v4(A), "10.97.0.9".parse().unwrap());
    world.put(A, Frame::from_bytes(&ip.udp(40_002, 53, &[0; 30])));
    world.change(Change::ServiceRemoved(host_port.id));
    let comparison = compared(&world, &objects);
    assert_eq!((comparison.connections, comparison.left_out, &comparison.refused), (3, 1, &None));
    let backend = "10.1.0.3:8080".to_owned();
    assert_eq!(told(&comparison), [(40_000, "reset: ServiceNoBackend".to_owned(), backend)]);
}

#[test]
fn a_file_that_was_cut_is_compared_up_to_its_last_whole_record() {
    let objects = manifests(&["10.1.0.3"]);
    let mut world = world(&objects);
    traffic(&mut world);
    let mut file = file(&world.excerpt());
    file.truncate(file.len() * 3 / 4);
    let comparison = compared_file(&file, &manifests(&[]));
    assert_eq!(comparison.stopped, "cut");
    assert!((1..=40).contains(&comparison.connections), "{comparison:?}");
    assert_eq!(comparison.differ, comparison.connections);
}

#[test]
fn several_nodes_are_told_apart_by_the_gateway() {
    let objects = manifests(&["10.1.0.3"]);
    let mut world = world(&objects);
    traffic(&mut world);
    let file = file(&world.excerpt());
    let node = |name: &str, range: &str| {
        let text = format!("kind: Node\nmetadata: {{name: {name}}}\nspec: {{podCIDRs: [{range}]}}");
        read(&text).nodes.into_iter().next().unwrap()
    };
    let mut several = objects.clone();
    several.nodes.extend([node("n0", "10.1.4.0/24"), node("n2", "10.1.5.0/24")]);
    let comparison = compared_file(&file, &several);
    assert_eq!((comparison.node.as_str(), comparison.differ), ("n1", 0));
    several.nodes.remove("n1");
    let mut beside = Beside::new(&several, None);
    replayed(&file, &Options::default(), Some(&mut beside));
    assert!(beside.unfit().unwrap().hint.contains("--node-name"));
    let mut beside = Beside::new(&several, Some("n9"));
    replayed(&file, &Options::default(), Some(&mut beside));
    assert!(beside.unfit().unwrap().message.contains("no Node object of this name"));
}

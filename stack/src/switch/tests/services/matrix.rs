//! Who is led where, and who is masqueraded: the table of conformance.md 3.3, row by row, both
//! families.

use super::*;

/// What the client is.
#[derive(Clone, Copy, Debug)]
enum Client {
    Pod,
    Node,
    Outside,
}

/// Where the Service is asked for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    ClusterIp,
    NodePort,
    Balancer,
}

/// The Service's policies.
#[derive(Clone, Copy, Debug)]
enum Policy {
    Default,
    ExternalLocal,
    InternalLocal,
}

/// Who is reached over many connections, and whether the client's address is hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reached {
    local: bool,
    remote: bool,
    masqueraded: bool,
}

const BOTH: Reached = Reached { local: true, remote: true, masqueraded: false };
const BOTH_MASQUERADED: Reached = Reached { masqueraded: true, ..BOTH };
const LOCAL: Reached = Reached { remote: false, ..BOTH };
const LOCAL_MASQUERADED: Reached = Reached { masqueraded: true, ..LOCAL };

fn reached(family: &Family, client: Client, asked: Asked, policy: Policy) -> Reached {
    let backends = [backend(family.pods[1], true), backend(family.remote, false)];
    let mut service = service(family, ServiceProtocol::Tcp, &backends);
    service.external_local = matches!(policy, Policy::ExternalLocal);
    service.internal_local = matches!(policy, Policy::InternalLocal);
    let mut bed = bed(vec![service]);
    let (port, src) = match client {
        Client::Pod => (A, family.pods[0]),
        Client::Node => (HOST, family.node),
        Client::Outside => (HOST, family.outside),
    };
    let dst = match asked {
        Asked::ClusterIp => (family.vip, 80),
        Asked::NodePort => (family.node, NODE_PORT),
        Asked::Balancer => (family.balancer, 80),
    };
    let mut seen = Vec::new();
    for client_port in 40_000..40_040 {
        let verdict = bed.tcp(port, (src, client_port), dst, SYN);
        let (egress, left) = bed.left();
        assert_eq!(verdict, Verdict::Forward(egress));
        let is_local = left.dst.0 == family.pods[1];
        assert_eq!((left.dst.1, egress), (8_080, if is_local { B } else { HOST }));
        // The node itself keeps its address towards other nodes, and gets a port of the range.
        let hidden = left.src != (src, client_port);
        if hidden {
            let own = if is_local { family.gateway } else { family.node };
            assert_eq!(left.src.0, own, "{client:?} {asked:?} {policy:?}");
        }
        seen.push((is_local, hidden));
    }
    let masqueraded = seen.iter().any(|(_, hidden)| *hidden);
    assert!(seen.iter().all(|(_, hidden)| *hidden == masqueraded), "all or none");
    Reached {
        local: seen.iter().any(|(local, _)| *local),
        remote: seen.iter().any(|(local, _)| !local),
        masqueraded,
    }
}

fn row(client: Client, asked: &[Asked], wanted: [Reached; 3]) {
    let policies = [Policy::Default, Policy::ExternalLocal, Policy::InternalLocal];
    for family in families() {
        for asked in asked {
            for (policy, wanted) in policies.into_iter().zip(wanted) {
                let reached = reached(&family, client, *asked, policy);
                assert_eq!(reached, wanted, "{client:?} {asked:?} {policy:?}");
            }
        }
    }
}

#[test]
fn pod_to_cluster_ip() {
    row(Client::Pod, &[Asked::ClusterIp], [BOTH, BOTH, LOCAL]);
}

#[test]
fn pod_to_node_port_and_load_balancer() {
    let wanted = [BOTH_MASQUERADED, BOTH, BOTH_MASQUERADED];
    row(Client::Pod, &[Asked::NodePort, Asked::Balancer], wanted);
}

#[test]
fn node_to_cluster_ip() {
    let wanted = [BOTH_MASQUERADED, BOTH_MASQUERADED, LOCAL_MASQUERADED];
    row(Client::Node, &[Asked::ClusterIp], wanted);
}

#[test]
fn node_to_node_port_and_load_balancer() {
    row(Client::Node, &[Asked::NodePort, Asked::Balancer], [BOTH_MASQUERADED; 3]);
}

#[test]
fn outside_to_cluster_ip() {
    let wanted = [BOTH_MASQUERADED, BOTH_MASQUERADED, LOCAL_MASQUERADED];
    row(Client::Outside, &[Asked::ClusterIp], wanted);
}

#[test]
fn outside_to_node_port_and_load_balancer() {
    let wanted = [BOTH_MASQUERADED, LOCAL, BOTH_MASQUERADED];
    row(Client::Outside, &[Asked::NodePort, Asked::Balancer], wanted);
}

#[test]
fn whoever_asks_itself_is_masqueraded() {
    // SVC-03. TCP, UDP and SCTP alike, and the reply finds its way back.
    for family in families() {
        for protocol in [ServiceProtocol::Tcp, ServiceProtocol::Udp, ServiceProtocol::Sctp] {
            let service = service(&family, protocol, &[backend(family.pods[0], true)]);
            let mut bed = bed(vec![service]);
            let client = (family.pods[0], 40_000);
            let ask = |src, dst, (from_port, to_port)| {
                let ip = ip(from(A), src, dst);
                match protocol {
                    ServiceProtocol::Tcp => ip.tcp((from_port, to_port), SYN, 1, 0, b""),
                    ServiceProtocol::Udp => ip.udp(from_port, to_port, b"x"),
                    ServiceProtocol::Sctp => ip.upper(132.into(), &init(from_port, to_port)),
                }
            };
            bed.send(A, &ask(client.0, family.vip, (client.1, 80)));
            let (egress, left) = bed.left();
            let wanted = Seen { src: (family.gateway, 40_000), dst: (family.pods[0], 8_080) };
            assert_eq!((egress, left), (A, wanted), "{protocol:?}");
            let reply = match protocol {
                ServiceProtocol::Tcp => {
                    ip(from(A), left.dst.0, left.src.0).tcp((8_080, 40_000), SYN | ACK, 9, 2, b"")
                }
                ServiceProtocol::Udp => {
                    ip(from(A), left.dst.0, left.src.0).udp(8_080, 40_000, b"y")
                }
                ServiceProtocol::Sctp => {
                    ip(from(A), left.dst.0, left.src.0).upper(132.into(), &init_ack(8_080, 40_000))
                }
            };
            bed.send(A, &reply);
            let wanted = Seen { src: (family.vip, 80), dst: client };
            assert_eq!(bed.left(), (A, wanted), "{protocol:?}");
        }
    }
}

/// An SCTP packet with an INIT chunk (RFC 9260 section 3.3.2), its checksum not set.
pub(super) fn init(src_port: u16, dst_port: u16) -> Vec<u8> {
    sctp(src_port, dst_port, 0, 1, 0x1234)
}

pub(super) fn init_ack(src_port: u16, dst_port: u16) -> Vec<u8> {
    sctp(src_port, dst_port, 0x1234, 2, 0x5678)
}

fn sctp(src_port: u16, dst_port: u16, tag: u32, chunk: u8, initiate: u32) -> Vec<u8> {
    let mut bytes = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend([chunk, 0, 0, 20]);
    bytes.extend(initiate.to_be_bytes());
    bytes.extend([0; 12]);
    bytes
}

#[test]
fn pods_keep_their_address_within_the_cluster_and_lose_it_outside() {
    // SVC-23, and what a pod asks the node itself.
    for family in families() {
        let mut bed = bed(vec![]);
        let client = (family.pods[0], 40_000);
        for (dst, port, is_hidden) in [
            (family.pods[1], B, false),
            (family.remote, HOST, false),
            (family.node, HOST, false),
            (family.outside, HOST, true),
        ] {
            bed.udp(A, client, (dst, 53));
            let (egress, left) = bed.left();
            assert_eq!((egress, left.dst), (port, (dst, 53)));
            if is_hidden {
                assert_eq!(left.src.0, family.node);
                assert!((61_000..=65_534).contains(&left.src.1), "{left:?}");
            } else {
                assert_eq!(left.src, client);
            }
        }
    }
}

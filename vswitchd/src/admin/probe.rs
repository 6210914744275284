//! The packet of a trace: who would send it, by which port, to which MAC; as the sender's kernel
//! would.

use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
use stack::config::link_local;
use stack::wire::build::{Link, flags, solicited_node_mac};
use stack::{Config, FrontendKind, PortConfig, PortId, PortKind, ServiceConfig};

use super::objects::{Protocol, TraceRequest};
use super::reply::Failure;
use crate::directory::Directory;

/// Source port of traced packets: from the range of Linux's ephemeral ports.
const SOURCE_PORT: u16 = 40_000;

/// A frame, and where it would come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The ingress port.
    pub ingress: PortId,
    /// Source address.
    pub source: IpAddress,
    /// Destination address.
    pub destination: IpAddress,
    /// The frame, checksums complete.
    pub frame: Vec<u8>,
}

/// One side of a trace.
struct Party<'a> {
    /// The name it was given by.
    name: &'a str,
    /// Its port, if it has one on this node.
    port: Option<&'a PortConfig>,
    /// Its addresses, the preferred first.
    addresses: Vec<IpAddress>,
}

/// Makes the frame that a request describes.
///
/// # Errors
/// When a name is unknown, or both sides have no address family in common.
pub fn probe(config: &Config, names: &Directory, request: &TraceRequest) -> Result<Probe, Failure> {
    let from = party(config, names, &request.from)?;
    let to = party(config, names, &request.to)?;
    let (source, destination) = addresses(&from, &to, request.family)?;
    // What has no port here comes from outside: by the node's kernel.
    let host = || config.ports.iter().find(|port| port.kind == PortKind::Host);
    let Some(ingress) = from.port.or_else(host) else {
        return Err(Failure::missing(
            format!("{}: the node has no port yet", request.from),
            "hopctl status --wait",
        ));
    };
    if let PortKind::Endpoint(_) = ingress.kind {
        return Err(Failure::request(
            format!("{}: this is the switch itself, which only answers", request.from),
            "trace from a pod, node, or another address",
        ));
    }
    let frame = match next_hop(config, ingress, destination) {
        Some(mac) => {
            let link = Link { src: ingress.mac, dst: mac };
            packet(link, source, destination, request)?
        }
        None => question(ingress, source, destination)?,
    };
    Ok(Probe { ingress: ingress.id, source, destination, frame })
}

/// A Service by namespace and name: its cluster addresses.
fn service_party<'a>(config: &Config, name: &'a str, service: &str) -> Result<Party<'a>, Failure> {
    let is_meant = |known: &&ServiceConfig| {
        known.name == service || known.name.rsplit_once(':').is_some_and(|(it, _)| it == service)
    };
    let frontends = config.services.iter().filter(is_meant).flat_map(|known| &known.frontends);
    let of_cluster = frontends.filter(|it| it.kind == FrontendKind::ClusterIp);
    let mut addresses: Vec<IpAddress> = of_cluster.filter_map(|it| it.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(Failure::missing(
            format!("{name}: no Service of this name has a cluster address"),
            "hopctl get services",
        ));
    }
    Ok(Party { name, port: None, addresses })
}

fn party<'a>(config: &'a Config, names: &Directory, name: &'a str) -> Result<Party<'a>, Failure> {
    let by_id = |id: PortId| config.ports.iter().find(|port| port.id == id);
    if let Ok(address) = name.parse::<IpAddress>() {
        let port = config.ports.iter().find(|port| owns(port, address));
        return Ok(Party { name, port, addresses: vec![address] });
    }
    if name == "node" {
        let port = config.ports.iter().find(|port| port.kind == PortKind::Host);
        return Ok(Party { name, port, addresses: config.node.addresses.clone() });
    }
    if let Some(service) = name.strip_prefix("svc/") {
        return service_party(config, name, service);
    }
    let Some((namespace, pod)) = name.split_once('/') else {
        return Err(Failure::request(
            format!("{name}: neither NS/POD, node nor an address"),
            "pods are named with their namespace, as in demo/web",
        ));
    };
    let port = names.pod(namespace, pod).and_then(by_id);
    let Some(port) = port else {
        return Err(Failure::missing(
            format!("no pod {namespace}/{pod} is wired on this node"),
            "hopctl get ports",
        ));
    };
    Ok(Party { name, port: Some(port), addresses: port.addresses.clone() })
}

fn owns(port: &PortConfig, address: IpAddress) -> bool {
    port.addresses.contains(&address)
        || (port.kind != PortKind::Host && address == link_local(port.mac).into())
}

/// The first pair of one family, IPv4 before IPv6 unless one side insists.
fn addresses(
    from: &Party<'_>,
    to: &Party<'_>,
    family: Option<u8>,
) -> Result<(IpAddress, IpAddress), Failure> {
    let of = |party: &Party<'_>, four: bool| {
        party.addresses.iter().copied().find(|address| is_four(*address) == four)
    };
    for four in [true, false] {
        if family.is_some_and(|family| (family == 4) != four) {
            continue;
        }
        if let (Some(source), Some(destination)) = (of(from, four), of(to, four)) {
            return Ok((source, destination));
        }
    }
    let which = family.map_or(String::new(), |family| format!(" IPv{family}"));
    Err(Failure::request(
        format!("{} and {} have no{which} addresses in common", from.name, to.name),
        "hopctl get ports -o wide shows the addresses",
    ))
}

fn is_four(address: IpAddress) -> bool {
    matches!(address, IpAddress::Ipv4(_))
}

/// The MAC that the sender's kernel would write; `None` when it would ask for it and nobody
/// answered.
fn next_hop(
    config: &Config,
    ingress: &PortConfig,
    destination: IpAddress,
) -> Option<EthernetAddress> {
    if let Some(mac) = group_mac(destination) {
        return Some(mac);
    }
    let node = &config.node;
    // Behind the host port the kernel routes, and knows the gateway's MAC by a permanent entry.
    if ingress.kind == PortKind::Host || !on_segment(config, destination) {
        return Some(node.gateway_mac);
    }
    config.ports.iter().find(|port| owns(port, destination)).map(|port| port.mac)
}

/// Whether a pod takes the address for its neighbor's.
fn on_segment(config: &Config, address: IpAddress) -> bool {
    let four = config.node.gateway4.map(IpCidr::Ipv4);
    let six = config.node.gateway6.map(IpCidr::Ipv6);
    let link_local = matches!(address, IpAddress::Ipv6(six) if six.is_unicast_link_local());
    link_local || [four, six].iter().flatten().any(|subnet| subnet.contains_addr(&address))
}

/// The MAC of a group address (RFC 1112 section 6.4, RFC 2464 section 7).
fn group_mac(address: IpAddress) -> Option<EthernetAddress> {
    match address {
        IpAddress::Ipv4(four) if four.is_broadcast() => Some(EthernetAddress::BROADCAST),
        IpAddress::Ipv4(four) if four.is_multicast() => {
            let [_, b, c, d] = four.octets();
            Some(EthernetAddress([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
        }
        IpAddress::Ipv6(six) if six.is_multicast() => {
            let [.., a, b, c, d] = six.octets();
            Some(EthernetAddress([0x33, 0x33, a, b, c, d]))
        }
        IpAddress::Ipv4(_) | IpAddress::Ipv6(_) => None,
    }
}

/// What a traced packet carries, over and over if it shall be longer.
const PAYLOAD: &[u8] = b"hopctl trace";
/// A number for echo requests: theirs is an identifier and a sequence number.
const ECHO: u16 = 1;

fn packet(
    link: Link,
    source: IpAddress,
    destination: IpAddress,
    request: &TraceRequest,
) -> Result<Vec<u8>, Failure> {
    let Some(mut ip) = link.ip(source, destination) else {
        return Err(Failure::request("both addresses must be of one family", ""));
    };
    if let Some(hop_limit) = request.hop_limit {
        ip = ip.hop_limit(hop_limit);
    }
    if request.may_fragment {
        ip = ip.may_fragment();
    }
    let payload = payload(request, is_four(destination))?;
    let ports = (SOURCE_PORT, request.l4_port);
    Ok(match request.protocol {
        Protocol::Icmp => ip.echo(true, ECHO, ECHO, &payload),
        Protocol::Tcp if payload.is_empty() => ip.tcp(ports, flags::SYN, 1, 0, &[]),
        // What is longer is a segment of a connection.
        Protocol::Tcp => ip.tcp(ports, flags::ACK | flags::PSH, 1, 1, &payload),
        Protocol::Udp => ip.udp(ports.0, ports.1, &payload),
    })
}

/// What follows the headers, so that the IP packet is as long as asked for.
fn payload(request: &TraceRequest, four: bool) -> Result<Vec<u8>, Failure> {
    let l4 = match request.protocol {
        Protocol::Tcp => 20,
        Protocol::Udp | Protocol::Icmp => 8,
    };
    let headers = if four { 20 } else { 40 } + l4;
    let Some(size) = request.size else {
        let empty = request.protocol == Protocol::Tcp;
        return Ok(if empty { Vec::new() } else { PAYLOAD.to_vec() });
    };
    match usize::from(size).checked_sub(headers) {
        Some(len) => Ok(PAYLOAD.iter().copied().cycle().take(len).collect()),
        None => Err(Failure::request(
            format!("size {size}: the headers alone take {headers} bytes"),
            "the size is that of the IP packet, as an MTU counts it",
        )),
    }
}

/// The ARP request or neighbor solicitation that comes first when nobody has the address.
fn question(
    ingress: &PortConfig,
    source: IpAddress,
    destination: IpAddress,
) -> Result<Vec<u8>, Failure> {
    match (source, destination) {
        (IpAddress::Ipv4(source), IpAddress::Ipv4(target)) => {
            let link = Link { src: ingress.mac, dst: EthernetAddress::BROADCAST };
            let unknown = EthernetAddress([0; 6]);
            Ok(link.arp(true, (ingress.mac, source), (unknown, target)))
        }
        (IpAddress::Ipv6(source), IpAddress::Ipv6(target)) => {
            let link = Link { src: ingress.mac, dst: solicited_node_mac(target) };
            Ok(link.neighbor_solicit(source, target))
        }
        (IpAddress::Ipv4(_), IpAddress::Ipv6(_)) | (IpAddress::Ipv6(_), IpAddress::Ipv4(_)) => {
            Err(Failure::request("both addresses must be of one family", ""))
        }
    }
}

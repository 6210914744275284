//! `hostPort`s: ports of the node that lead to a pod, by the capability `portMappings`.
//!
//! One is at the node's own addresses and nowhere else (CVE-2025-67499), never instead of a
//! Service (CVE-2019-9946), and two pods never have the same. They are kept with the attachment, so
//! a restart has them again, and what the switch and the kernel are told follows from attachments.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shim::fault::{Code, Fault};
use smoltcp::wire::{IpAddress, IpVersion};
use stack::{Backend, Frontend, FrontendKind, ServiceConfig, ServiceId, ServiceProtocol};

use super::attachment::{Attachment, Pod};
use crate::directory::Label;
use crate::kube::numbers::OTHERS;
use crate::node::OwnPort;

/// Ports of the node for one interface at most: their places are numbers of 6 bits.
pub const OF_ONE_MAX: usize = 64;
/// Ports of the node for all of its pods at most: the kernel tries a rule for each, one after
/// another.
pub const OF_ALL_MAX: usize = 256;
/// Rules at most, which are one for each port and address. Some room is left to the node's own.
const RULES_MAX: usize = 2_000;
/// Where it is, for errors.
const FIELD: &str = "runtimeConfig.portMappings";

/// A port of the node that leads to a port of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostPort {
    /// The node's.
    pub port: u16,
    /// The pod's.
    pub container_port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// At which address of the node. Without one at all of them; an unspecified one is all of its
    /// family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

/// What is spoken at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl From<Protocol> for ServiceProtocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// As runtimes write it: the convention's keys, or as containerd has them, whose structure names
/// none for JSON. Keys beside these are theirs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    #[serde(default, alias = "HostPort")]
    host_port: Value,
    #[serde(default, alias = "ContainerPort")]
    container_port: Value,
    #[serde(default, alias = "Protocol")]
    protocol: String,
    #[serde(default, rename = "hostIP", alias = "HostIP")]
    host_ip: String,
}

fn invalid(place: usize, key: &str, why: impl fmt::Display) -> Fault {
    Fault::new(Code::InvalidConfig, format!("{FIELD}[{place}].{key}: {why}"))
}

/// Reads the capability, as far as it can be judged without a node.
///
/// # Errors
/// Code 7, with field and value.
pub fn read(mappings: Vec<Value>) -> Result<Vec<HostPort>, Fault> {
    if mappings.len() > OF_ONE_MAX {
        let msg = format!("{FIELD}: {} of them, and a pod may have {OF_ONE_MAX}", mappings.len());
        return Err(Fault::new(Code::InvalidConfig, msg));
    }
    let mut host_ports: Vec<HostPort> = Vec::new();
    for (place, value) in mappings.into_iter().enumerate() {
        let host_port = read_one(place, &value)?;
        // The same twice is no contradiction.
        if host_ports.contains(&host_port) {
            continue;
        }
        if host_ports.iter().any(|other| other.overlaps(&host_port)) {
            let why = format!("{} is there already, for another port of the pod", host_port.port);
            return Err(invalid(place, "hostPort", why));
        }
        host_ports.push(host_port);
    }
    Ok(host_ports)
}

fn read_one(place: usize, value: &Value) -> Result<HostPort, Fault> {
    let mapping = Mapping::deserialize(value).map_err(|error| {
        let msg = format!("{FIELD}[{place}]: {value} is not valid: {error}");
        Fault::new(Code::InvalidConfig, msg)
    })?;
    let port = |key: &str, value: &Value| {
        let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
        let last = if key == "hostPort" { u16::MAX - 1 } else { u16::MAX };
        number
            .filter(|number| (1..=last).contains(number))
            .ok_or_else(|| invalid(place, key, format!("{value} is no port of 1 to {last}")))
    };
    let protocol = match mapping.protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => {
            let why = format!("{:?} is none of tcp, udp and sctp", mapping.protocol);
            return Err(invalid(place, "protocol", why));
        }
    };
    let host_ip = match mapping.host_ip.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_none| {
            invalid(place, "hostIP", format!("{text:?} is no address such as 192.0.2.1"))
        })?),
    };
    Ok(HostPort {
        port: port("hostPort", &mapping.host_port)?,
        container_port: port("containerPort", &mapping.container_port)?,
        protocol,
        host_ip,
    })
}

impl HostPort {
    /// Whether both are at one address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let same_address = match (self.host_ip, other.host_ip) {
            (None, _) | (_, None) => true,
            (Some(one), Some(two)) => {
                let any = one.is_unspecified() || two.is_unspecified();
                one == two || any && one.is_ipv4() == two.is_ipv4()
            }
        };
        same_address && (self.protocol, self.port) == (other.protocol, other.port)
    }

    /// At which address of a family it is asked for: the inner `None` is all of them.
    fn at(&self, version: IpVersion) -> Option<Option<IpAddress>> {
        match self.host_ip.map(IpAddress::from) {
            None => Some(None),
            Some(address) if address.version() != version => None,
            Some(address) => Some((!address.is_unspecified()).then_some(address)),
        }
    }

    /// What of the node it takes, if the pod has addresses of these families.
    fn own_ports(&self, versions: &[IpVersion], node: &[IpAddress]) -> BTreeSet<OwnPort> {
        let localhost = IpAddress::from(Ipv4Addr::LOCALHOST);
        let own = node.iter().copied().chain([localhost]);
        let asked = own.filter(|address| {
            let at = self.at(address.version());
            versions.contains(&address.version())
                && at.is_some_and(|named| named.is_none_or(|named| named == *address))
        });
        let protocol = ServiceProtocol::from(self.protocol) as u8;
        asked
            .map(|address| OwnPort { address: address.into(), protocol, port: self.port })
            .collect()
    }
}

/// What of the node `hostPort`s are judged by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePorts {
    /// The node's own addresses.
    pub addresses: Vec<IpAddress>,
    /// Families of which pods have addresses.
    pub versions: Vec<IpVersion>,
    /// What the switch itself takes at the node's addresses: the overlay, and health checks.
    pub taken: Vec<(Protocol, u16, &'static str)>,
}

impl NodePorts {
    /// Whether a pod may have these beside what the others have.
    ///
    /// # Errors
    /// Code 7, with field and value.
    pub fn admit(
        &self,
        wanted: &[HostPort],
        pod: Option<&Pod>,
        others: &[&Attachment],
    ) -> Result<(), Fault> {
        if wanted.is_empty() {
            return Ok(());
        }
        for (place, host_port) in wanted.iter().enumerate() {
            self.judge(place, host_port)?;
            let owner = others.iter().find(|other| {
                // A container that takes the place of one whose DEL is late is the same pod.
                (other.pod.is_none() || other.pod.as_ref() != pod)
                    && other.host_ports.iter().any(|its| its.overlaps(host_port))
            });
            if let Some(owner) = owner {
                let HostPort { port, protocol, .. } = host_port;
                let why = format!(
                    "{port} of {protocol} is {}'s on this node; one of the two has to move",
                    owner.label()
                );
                return Err(invalid(place, "hostPort", why));
            }
        }
        let all = others.iter().flat_map(|other| &other.host_ports).chain(wanted);
        let (ports, rules) = all.fold((0, 0), |(ports, rules), host_port| {
            (ports + 1, rules + host_port.own_ports(&self.versions, &self.addresses).len())
        });
        if ports > OF_ALL_MAX || rules > RULES_MAX {
            let msg = format!(
                "{FIELD}: the node's pods would have {ports} ports at {rules} addresses and \
                 ports, and a node has {OF_ALL_MAX} at {RULES_MAX}; use a Service"
            );
            return Err(Fault::new(Code::InvalidConfig, msg));
        }
        Ok(())
    }

    /// Whether one can be by itself.
    fn judge(&self, place: usize, host_port: &HostPort) -> Result<(), Fault> {
        let HostPort { port, protocol, host_ip, .. } = *host_port;
        let is_its = |(its, number, _): &&(Protocol, u16, _)| (*its, *number) == (protocol, port);
        if let Some((.., whose)) = self.taken.iter().find(is_its) {
            let why = format!("{port} of {protocol} is the node's own, for {whose}");
            return Err(invalid(place, "hostPort", why));
        }
        let Some(address) = host_ip else { return Ok(()) };
        let ip = IpAddress::from(address);
        if !self.versions.contains(&ip.version()) {
            let why = format!("{address} is of a family in which pods have no addresses here");
            return Err(invalid(place, "hostIP", why));
        }
        if address.is_unspecified()
            || address == IpAddr::V4(Ipv4Addr::LOCALHOST)
            || self.addresses.contains(&ip)
        {
            return Ok(());
        }
        let why = match address.is_loopback() {
            true => format!("{address} cannot lead to a pod; of loopback addresses 127.0.0.1 can"),
            false => format!("{address} is no address of this node"),
        };
        Err(invalid(place, "hostIP", why))
    }
}

/// What of the node's addresses belongs to pods.
#[must_use]
pub fn own_ports(attachments: &[&Attachment], node: &[IpAddress]) -> BTreeSet<OwnPort> {
    let of_one = |attachment: &&Attachment| {
        let versions: Vec<IpVersion> =
            attachment.addresses.iter().map(|cidr| cidr.address().version()).collect();
        let all = attachment.host_ports.iter();
        all.flat_map(|host_port| host_port.own_ports(&versions, node)).collect::<Vec<_>>()
    };
    attachments.iter().flat_map(of_one).collect()
}

/// The `hostPort`s of attachments as the switch has them: a Service of one backend each, in each
/// family of the pod. Of two that are at one address the newer attachment's counts.
#[must_use]
pub fn services(attachments: &[&Attachment]) -> Vec<ServiceConfig> {
    let mut newest_first = attachments.to_vec();
    newest_first.sort_by_key(|attachment| std::cmp::Reverse(attachment.port));
    let mut given: Vec<HostPort> = Vec::new();
    let mut services = Vec::new();
    for attachment in newest_first {
        let before = given.len();
        for (place, host_port) in attachment.host_ports.iter().enumerate() {
            let older = given.get(..before).unwrap_or(&[]);
            if older.iter().any(|other| other.overlaps(host_port)) {
                continue;
            }
            given.push(*host_port);
            let addresses = attachment.addresses.iter().map(|cidr| cidr.address());
            services.extend(
                addresses.filter_map(|address| service(attachment, place, host_port, address)),
            );
        }
    }
    services
}

fn service(
    attachment: &Attachment,
    place: usize,
    host_port: &HostPort,
    address: IpAddress,
) -> Option<ServiceConfig> {
    let (port, version) = (host_port.port, address.version());
    let frontend = Frontend { kind: FrontendKind::HostPort, address: host_port.at(version)?, port };
    let Label::Pod { namespace, name } = attachment.label() else { return None };
    let id = id(attachment.port, place, version)?;
    // No port of a Service has a name with capitals.
    let its_name = format!("{namespace}/{name}:hostPort-{port}");
    let pod = Backend { local: true, ..Backend::ready(address, host_port.container_port) };
    Some(ServiceConfig {
        frontends: vec![frontend],
        backends: vec![pod],
        ..ServiceConfig::new(id, its_name, host_port.protocol.into())
    })
}

/// A number that no other has: 24 bits of the attachment's own number, which is never given out
/// twice, 6 of the place in its list, and the family's. Two that live at once would have to be
/// 16 million attachments apart to have the same.
fn id(attachment: u32, place: usize, version: IpVersion) -> Option<ServiceId> {
    let place = u32::try_from(place).ok().filter(|place| *place < 64)?;
    let family = u32::from(version == IpVersion::Ipv6);
    Some(ServiceId(OTHERS | (attachment & 0xff_ffff) << 7 | place << 1 | family))
}

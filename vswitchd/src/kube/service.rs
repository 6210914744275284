//! Services (core/v1), as far as they are read here.
//!
//! `targetPort` is not: where a Service's port leads is written in its EndpointSlices, by the
//! port's name. What one of these types does not take is a fault of that object, with its line.

use std::num::NonZeroU16;

use serde::Deserialize;
use smoltcp::wire::IpVersion;
use stack::ServiceProtocol;

use super::objects::{Metadata, or_default};

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// Its metadata.
    pub metadata: Metadata,
    /// What is desired.
    #[serde(deserialize_with = "or_default")]
    pub spec: ServiceSpec,
    /// What is.
    #[serde(deserialize_with = "or_default")]
    pub status: ServiceStatus,
}

/// A Service's `spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// How it is reached.
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: ServiceType,
    /// Its first address, `None` for a headless one, or empty.
    #[serde(rename = "clusterIP", deserialize_with = "or_default")]
    pub cluster_ip: String,
    /// All its addresses, one a family at most.
    #[serde(rename = "clusterIPs", deserialize_with = "or_default")]
    pub cluster_ips: Vec<String>,
    /// Their families, in the same order.
    #[serde(deserialize_with = "or_default")]
    pub ip_families: Vec<Family>,
    /// Its ports.
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<ServicePort>,
    /// Further addresses it is reached at.
    #[serde(rename = "externalIPs", deserialize_with = "or_default")]
    pub external_ips: Vec<String>,
    /// Whether clients keep their backend.
    #[serde(deserialize_with = "or_default")]
    pub session_affinity: SessionAffinity,
    /// For how long.
    #[serde(deserialize_with = "or_default")]
    pub session_affinity_config: SessionAffinityConfig,
    /// Where the cluster's addresses lead to.
    #[serde(deserialize_with = "or_default")]
    pub internal_traffic_policy: TrafficPolicy,
    /// Where what comes from outside is led to.
    #[serde(deserialize_with = "or_default")]
    pub external_traffic_policy: TrafficPolicy,
    /// The port of every node that says whether it has backends; 0 or absent: none.
    #[serde(deserialize_with = "or_default")]
    pub health_check_node_port: u16,
    /// Who may use the load balancer's addresses; empty is everybody.
    #[serde(deserialize_with = "or_default")]
    pub load_balancer_source_ranges: Vec<String>,
}

/// How a Service is reached; each way has those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum ServiceType {
    /// A name in DNS: not ours.
    ExternalName,
    /// At its cluster addresses.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// At a port of every node.
    NodePort,
    /// At a load balancer's addresses.
    LoadBalancer,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name; may be empty when there is one only.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// What it speaks.
    #[serde(default, deserialize_with = "or_default")]
    pub protocol: Protocol,
    /// Its number at the Service's addresses.
    pub port: NonZeroU16,
    /// Its number at every node; 0 or absent: none.
    #[serde(default, deserialize_with = "or_default")]
    pub node_port: u16,
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
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

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Family {
    /// IPv4.
    IPv4,
    /// IPv6.
    IPv6,
}

impl From<Family> for IpVersion {
    fn from(family: Family) -> Self {
        match family {
            Family::IPv4 => Self::Ipv4,
            Family::IPv6 => Self::Ipv6,
        }
    }
}

/// Whether clients keep their backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum SessionAffinity {
    /// They do not.
    #[default]
    None,
    /// By their address.
    #[serde(rename = "ClientIP")]
    ClientIp,
}

/// How session affinity is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionAffinityConfig {
    /// By the client's address.
    #[serde(rename = "clientIP", deserialize_with = "or_default")]
    pub client_ip: ClientIpConfig,
}

/// How session affinity by the client's address is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientIpConfig {
    /// Seconds since the client's last new connection.
    pub timeout_seconds: Option<u32>,
}

/// Which backends a kind of traffic may be led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TrafficPolicy {
    /// All of the cluster.
    #[default]
    Cluster,
    /// Those of the node that the traffic came to.
    Local,
}

/// A Service's `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// Its load balancer's.
    #[serde(deserialize_with = "or_default")]
    pub load_balancer: LoadBalancerStatus,
}

/// The load balancer's `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerStatus {
    /// Where it is reached.
    #[serde(deserialize_with = "or_default")]
    pub ingress: Vec<Ingress>,
}

/// One point where a load balancer is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ingress {
    /// Its address; empty where it has a name only.
    #[serde(deserialize_with = "or_default")]
    pub ip: String,
    /// What becomes of a packet's destination there.
    #[serde(deserialize_with = "or_default")]
    pub ip_mode: IpMode,
}

/// What becomes of a packet's destination at a load balancer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum IpMode {
    /// It is the load balancer's address still: the node answers for it.
    #[default]
    #[serde(rename = "VIP")]
    Vip,
    /// It is the node's or pod's: packets to the address must go to the load balancer itself.
    Proxy,
}

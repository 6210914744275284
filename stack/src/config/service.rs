//! Services as desired: what is asked for, who answers, and how one is chosen.
//!
//! One [`ServiceConfig`] is one port of one Service in one IP family: Kubernetes never mixes
//! families, and every port has backends of its own. Which backends are usable follows from their
//! conditions ([`Backend`]) by the rules of kube-proxy, in the core.

use alloc::string::String;
use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, IpCidr};

use crate::time::Duration;

/// A Service's port in one family, unique on the node while the daemon's state lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);

/// A protocol that Services are made of. The numbers are IANA's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ServiceProtocol {
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// SCTP.
    Sctp = 132,
}

/// One port of a Service in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Its number, given by the daemon.
    pub id: ServiceId,
    /// Namespace, name and port name, as operators know it: `default/web:http`.
    pub name: String,
    /// What it speaks.
    pub protocol: ServiceProtocol,
    /// Where it is asked for. No two Services of a node share one.
    pub frontends: Vec<Frontend>,
    /// How a backend is chosen.
    pub method: Method,
    /// ClientIP session affinity: how long a client keeps its backend after its last new
    /// connection.
    pub affinity: Option<Duration>,
    /// `internalTrafficPolicy: Local`: the cluster address leads to backends of this node only.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`: what comes from outside stays on this node and keeps its
    /// client's address.
    pub external_local: bool,
    /// `loadBalancerSourceRanges`: who may use the load balancer's addresses. Empty is everybody.
    pub source_ranges: Vec<IpCidr>,
    /// Who answers, in the order of address and port; each pair once.
    pub backends: Vec<Backend>,
}

impl ServiceConfig {
    /// One that nobody can ask for yet and nobody answers: backends at random, no affinity, no
    /// traffic policy, from everywhere.
    #[must_use]
    pub fn new(id: ServiceId, name: impl Into<String>, protocol: ServiceProtocol) -> Self {
        Self {
            id,
            name: name.into(),
            protocol,
            frontends: Vec::new(),
            method: Method::Random,
            affinity: None,
            internal_local: false,
            external_local: false,
            source_ranges: Vec::new(),
            backends: Vec::new(),
        }
    }
}

/// An address and port at which a Service is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frontend {
    /// What kind it is.
    pub kind: FrontendKind,
    /// The address; absent where every address of the node is meant.
    pub address: Option<IpAddress>,
    /// The port.
    pub port: u16,
}

/// What a frontend is: traffic policies and masquerade follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrontendKind {
    /// An address within the cluster.
    ClusterIp,
    /// A port of every node.
    NodePort,
    /// An address of the load balancer (`ipMode: VIP`).
    LoadBalancer,
    /// One of `externalIPs`.
    ExternalIp,
    /// A container's `hostPort`: this node's alone, led to one pod of it.
    HostPort,
}

/// How a backend is chosen for a new connection. Whatever the method, affinity comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Each backend as often as its weight says, by a keyed hash of the connection.
    #[default]
    Random,
    /// One after the other.
    RoundRobin,
    /// One after the other, each as often as its weight says.
    WeightedRoundRobin,
    /// The one with the fewest connections for its weight.
    LeastConnections,
    /// By a keyed hash of the client's address.
    SourceHash,
    /// By Maglev's table (NSDI 2016): the same on every node, hardly moved by changes.
    Maglev,
}

impl Method {
    /// The name, as annotations and tables write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "round-robin",
            Self::WeightedRoundRobin => "weighted-round-robin",
            Self::LeastConnections => "least-connections",
            Self::SourceHash => "source-hash",
            Self::Maglev => "maglev",
        }
    }
}

/// Who answers for a Service, with its conditions as EndpointSlices tell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// Its address.
    pub address: IpAddress,
    /// Its port.
    pub port: u16,
    /// Its share beside others; 0 takes no new connections.
    pub weight: u16,
    /// Whether it runs on this node.
    pub local: bool,
    /// Ready: takes connections.
    pub ready: bool,
    /// Still answers, though it may be terminating.
    pub serving: bool,
    /// Being removed.
    pub terminating: bool,
    /// `hints.forNodes`: absent without hints, else whether they name this node.
    pub for_node: Option<bool>,
    /// `hints.forZones`: absent without hints or where this node's zone is not known, else
    /// whether they name its zone.
    pub for_zone: Option<bool>,
}

impl Backend {
    /// One that is ready, on another node, with the usual share and without hints.
    #[must_use]
    pub const fn ready(address: IpAddress, port: u16) -> Self {
        Self {
            address,
            port,
            weight: 1,
            local: false,
            ready: true,
            serving: true,
            terminating: false,
            for_node: None,
            for_zone: None,
        }
    }
}

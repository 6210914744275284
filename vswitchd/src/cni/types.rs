//! The specification's types: the result in its newest form (1.1.0), of which [`super::convert`]
//! makes the older ones, and the settings of a network configuration.

use serde::{Deserialize, Serialize};

use crate::kube::objects::or_default;

/// What an ADD made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniResult {
    /// Interfaces, in the order in which [`Ip::interface`] counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<Ip>,
    /// Routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Name resolution.
    #[serde(default, skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
}

/// An interface of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC, with colons.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU in bytes. Since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Path of its network namespace; empty for the node's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// Path of a socket that belongs to it. Since 1.1.0; passed through only.
    #[serde(default, rename = "socketPath", skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// PCI id. Since 1.1.0; passed through only.
    #[serde(default, rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// An address of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// Address with prefix length.
    pub address: String,
    /// Its gateway.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Index into [`CniResult::interfaces`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

impl Ip {
    /// Whether it is an IPv6 address.
    #[must_use]
    pub fn is_v6(&self) -> bool {
        self.address.contains(':')
    }
}

/// A route of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its prefix.
    pub dst: String,
    /// Its next hop, or none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gw: String,
    /// MTU in bytes. Since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Advertised MSS in bytes. Since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Metric. Since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Table. Since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Scope. Since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u32>,
}

impl Route {
    /// Whether it is an IPv6 route.
    #[must_use]
    pub fn is_v6(&self) -> bool {
        self.dst.contains(':')
    }
}

/// Name resolution, of a configuration and of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Servers' addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Resolver options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The capability `dns`, which has names of its own, and containerd's spelling of them; what is
/// empty there is `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct DnsCapability {
    /// Servers' addresses.
    #[serde(default, deserialize_with = "or_default", alias = "Servers")]
    pub servers: Vec<String>,
    /// Search list.
    #[serde(default, deserialize_with = "or_default", alias = "Searches")]
    pub searches: Vec<String>,
    /// Resolver options.
    #[serde(default, deserialize_with = "or_default", alias = "Options")]
    pub options: Vec<String>,
}

/// An attachment that GC shall keep.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct ValidAttachment {
    /// The container's id.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface's name.
    pub ifname: String,
}

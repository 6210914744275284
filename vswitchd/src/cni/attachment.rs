//! An attachment: one interface of one container, as it is kept, wired and told.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shim::deletion;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
use stack::hash::Hasher;
use stack::{PortConfig, PortId, PortKind};

use super::host_port::HostPort;
use super::mac;
use super::types::{CniResult, Dns, Interface, Ip, Route};
use crate::directory::Label;
use crate::node::{END_PREFIX, LinkKind, PodLink};
use crate::text;

/// What an attachment is known by. Both names have been checked ([`shim::environment`]).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The container's id.
    pub container_id: String,
    /// The interface's name in the container.
    pub ifname: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of container {}", self.ifname, self.container_id)
    }
}

impl Key {
    /// Name of its file, without extension.
    #[must_use]
    pub fn file_stem(&self) -> String {
        deletion::file_stem(&self.container_id, &self.ifname)
    }

    /// A name for the node's end of a veth pair: 15 bytes, the same after a loss of all state.
    #[must_use]
    pub fn host_ifname(&self, attempt: u64) -> String {
        let mut hasher = Hasher::new(attempt);
        hasher.bytes(self.container_id.as_bytes());
        hasher.bytes(self.ifname.as_bytes());
        format!("{END_PREFIX}{:013x}", hasher.finish() >> 12)
    }
}

/// The pod, as the runtime names it in CNI_ARGS. Labels only, never trusted (SEC-24).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// K8S_POD_NAMESPACE.
    pub namespace: String,
    /// K8S_POD_NAME.
    pub name: String,
    /// K8S_POD_UID, or empty.
    pub uid: String,
}

/// How far an attachment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// An ADD has begun; after a restart what it made is removed.
    Wiring,
    /// The ADD has succeeded.
    Attached,
}

/// One interface of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// What it is known by.
    pub key: Key,
    /// Name of the CNI network it belongs to.
    pub network: String,
    /// How far it has come.
    pub state: State,
    /// Path of the network namespace.
    pub netns: PathBuf,
    /// Inode of the network namespace: paths change meaning.
    pub netns_inode: u64,
    /// The boot it was made in: inodes begin anew with each.
    pub boot_id: String,
    /// Its port of the switch.
    pub port: u32,
    /// TAP or veth.
    pub kind: LinkKind,
    /// For a veth: the node's end.
    pub host_ifname: String,
    /// Its MAC.
    #[serde(with = "text::mac")]
    pub mac: EthernetAddress,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// Its addresses with the prefix length of the pod subnet.
    #[serde(with = "text::list")]
    pub addresses: Vec<IpCidr>,
    /// The gateway of each family.
    #[serde(with = "text::list")]
    pub gateways: Vec<IpAddress>,
    /// The pod, if the runtime named one.
    pub pod: Option<Pod>,
    /// Ports of the node that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<HostPort>,
    /// Name resolution as told to the runtime.
    pub dns: Dns,
    /// When it was made, in seconds since 1970.
    pub since: u64,
}

impl Attachment {
    /// Its port of the switch.
    #[must_use]
    pub fn port_id(&self) -> PortId {
        PortId(self.port)
    }

    /// Its interface, as the kernel shall have it.
    #[must_use]
    pub fn link(&self) -> PodLink {
        PodLink {
            kind: self.kind,
            ifname: self.key.ifname.clone(),
            host_ifname: self.host_ifname.clone(),
            mac: self.mac,
            mtu: self.mtu,
            addresses: self.addresses.clone(),
            gateways: self.gateways.clone(),
            routes: Vec::new(),
        }
    }

    /// Its port, as the switch shall have it.
    #[must_use]
    pub fn port_config(&self) -> PortConfig {
        PortConfig {
            id: self.port_id(),
            kind: PortKind::Pod,
            mac: self.mac,
            addresses: self.addresses.iter().map(IpCidr::address).collect(),
            allowed: Vec::new(),
            mtu: self.mtu,
            up: true,
        }
    }

    /// What its port is called. Without a pod it is the container's id in a namespace no pod can
    /// have.
    #[must_use]
    pub fn label(&self) -> Label {
        match &self.pod {
            Some(pod) => Label::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() },
            None => Label::Pod { namespace: "-".into(), name: self.key.container_id.clone() },
        }
    }

    /// The result of its ADD, after that of the plugins before it.
    ///
    /// The node's end of a veth pair is not in it: it is neither on the host, which is what no
    /// sandbox means, nor the container's, as which any other sandbox is taken (CNI-ADD-4).
    #[must_use]
    pub fn result(&self, previous: Option<CniResult>) -> CniResult {
        let mut result = previous.unwrap_or_default();
        let index = result.interfaces.len();
        result.interfaces.push(Interface {
            name: self.key.ifname.clone(),
            mac: mac::text(self.mac),
            mtu: Some(u32::from(self.mtu)),
            sandbox: self.netns.display().to_string(),
            ..Interface::default()
        });
        for cidr in &self.addresses {
            let gateway = self.gateway_beside(cidr).map_or_else(String::new, |g| g.to_string());
            result.ips.push(Ip { address: cidr.to_string(), gateway, interface: Some(index) });
        }
        for gateway in &self.gateways {
            let dst = if matches!(gateway, IpAddress::Ipv4(_)) { "0.0.0.0/0" } else { "::/0" };
            let (dst, gw) = (dst.to_owned(), gateway.to_string());
            result.routes.push(Route { dst, gw, ..Route::default() });
        }
        if !self.dns.is_empty() {
            result.dns = self.dns.clone();
        }
        result
    }

    fn gateway_beside(&self, cidr: &IpCidr) -> Option<IpAddress> {
        self.gateways.iter().copied().find(|gateway| cidr.contains_addr(gateway))
    }
}

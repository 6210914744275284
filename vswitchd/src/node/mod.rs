//! What the kernel must know: namespaces, links, addresses, neighbors, routes, rules, sysctls.
//!
//! Everything that needs privileges goes through [`Kernel`]. [`Linux`] does it, in the parent
//! process; [`Remote`] has it done, from the worker. So it takes plain values and gives back what
//! can cross as descriptors.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
use stack::PortRange;

use crate::port::PortIo;
use crate::text;

mod host;
mod linux;
mod netlink;
mod netns;
mod pod;
pub mod preflight;
mod remote;
mod reserved;
mod rules;
mod settings;
mod sysctl;
#[cfg(test)]
mod tests;
pub mod uplink;
mod veth;

pub(crate) use host::Held as HostHeld;
pub use linux::Linux;
pub(crate) use netlink::monitor::RuleMonitor;
pub use remote::Remote;
pub use uplink::Uplink;
pub use veth::END_PREFIX;

/// An open network namespace, checked (SEC-21): an nsfs file of type net, not the node's own.
#[derive(Debug)]
pub struct Netns {
    /// The namespace. Kept, so that the path may change meaning afterwards.
    pub descriptor: OwnedFd,
    /// Inode number, unique while the namespace lives: how start-up recognises it.
    pub inode: u64,
    /// Where it was opened.
    pub path: PathBuf,
}

/// How a pod's interface is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// A TAP in the pod's namespace.
    #[default]
    Tap,
    /// A veth pair; the node's end is read by AF_PACKET.
    Veth,
}

/// A pod's interface as it shall be. Also what CHECK compares with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodLink {
    /// TAP or veth.
    pub kind: LinkKind,
    /// The interface's name inside the pod, such as `eth0`.
    pub ifname: String,
    /// For a veth: the name of the node's end, unique on the node, at most 15 bytes.
    pub host_ifname: String,
    /// Its MAC.
    #[serde(with = "text::mac")]
    pub mac: EthernetAddress,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// Its addresses, each with the length of the pod subnet.
    #[serde(with = "text::list")]
    pub addresses: Vec<IpCidr>,
    /// Gateways: a default route goes by each.
    #[serde(with = "text::list")]
    pub gateways: Vec<IpAddress>,
    /// Further routes by the gateway of their family, or by the given one.
    #[serde(with = "text::routes")]
    pub routes: Vec<(IpCidr, Option<IpAddress>)>,
}

/// The node's own port as it shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostLink {
    /// Its name, `hop0`.
    pub ifname: String,
    /// Its MAC.
    #[serde(with = "text::mac")]
    pub mac: EthernetAddress,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// The gateway's MAC, set as a permanent neighbor.
    #[serde(with = "text::mac")]
    pub gateway_mac: EthernetAddress,
    /// The gateways, one a family at most.
    #[serde(with = "text::list")]
    pub gateways: Vec<IpAddress>,
    /// What lies behind the switch: the ranges of pods and Services, and single addresses of
    /// Services outside of these.
    #[serde(with = "text::list")]
    pub prefixes: Vec<IpCidr>,
    /// The node's own addresses: `src` of the routes, and what packets are diverted from.
    #[serde(with = "text::list")]
    pub node_addresses: Vec<IpAddress>,
    /// L4 ports of these addresses that belong to the switch: node ports, and those that masquerade
    /// uses.
    #[serde(with = "text::l4_ports")]
    pub diverted: Vec<PortRange>,
    /// Single L4 ports of these addresses, or of 127.0.0.1, that belong to the switch: `hostPort`s
    /// of pods, and where health checks are answered.
    pub own_ports: Vec<OwnPort>,
}

impl HostLink {
    /// Whether a port made by another plan serves as it is, so that only routes, rules and settings
    /// around it change. Its sockets for ICMP are bound to addresses, and have one a family.
    #[must_use]
    pub fn is_same_port(&self, other: &Self) -> bool {
        self.ifname == other.ifname
            && (self.mac, self.gateway_mac) == (other.mac, other.gateway_mac)
            && self.gateways == other.gateways
            && self.node_addresses == other.node_addresses
    }
}

/// One L4 port of one address of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnPort {
    /// The address: the node's own, or 127.0.0.1.
    pub address: IpAddr,
    /// IANA's number of the protocol: TCP's, UDP's or SCTP's.
    pub protocol: u8,
    /// The port.
    pub port: u16,
}

/// The node's own port, open.
pub struct HostPort {
    /// Its device.
    pub device: Box<dyn PortIo>,
    /// Devices that are only read and whose frames come in by the same port: copies of ICMP packets
    /// to the node's addresses.
    pub sides: Vec<Box<dyn PortIo>>,
}

/// What the kernel or the request was wrong about.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The path is no network namespace we may enter.
    #[error("network namespace {path}: {why}")]
    Netns {
        /// The path as given.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Something of that name is there already.
    #[error("{what} exists already")]
    Exists {
        /// What: an interface name with its place.
        what: String,
    },
    /// A setting asks for what the node does not have.
    #[error("{field}: {why}")]
    Setting {
        /// The setting's key.
        field: Cow<'static, str>,
        /// What is wrong and what would be right.
        why: String,
    },
    /// The kernel refused.
    #[error("{doing}")]
    Kernel {
        /// What was being done, with the object's name.
        doing: String,
        /// Its errno.
        source: std::io::Error,
    },
    /// Who does this work is gone or said something else: nobody knows what was done.
    #[error("the parent process does not answer as it should")]
    Unanswered {
        /// What came instead of an answer.
        source: std::io::Error,
    },
}

/// A difference between what shall be and what the kernel has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem(pub String);

/// All that needs privileges.
pub trait Kernel: Send + Sync {
    /// Opens and checks a network namespace (SEC-21).
    ///
    /// # Errors
    /// [`NodeError::Netns`] when it is missing, no namespace, not of type net, or the node's own.
    fn open_netns(&self, path: &Path) -> Result<Netns, NodeError>;

    /// Makes and configures a pod's interface. Whatever fails, nothing is left behind.
    ///
    /// # Errors
    /// [`NodeError::Exists`] when the name is taken, else the kernel's.
    fn wire(&self, netns: &Netns, link: &PodLink) -> Result<Box<dyn PortIo>, NodeError>;

    /// Takes an interface back that an earlier daemon made.
    ///
    /// # Errors
    /// The kernel's.
    fn take_back(&self, netns: &Netns, link: &PodLink) -> Result<Box<dyn PortIo>, NodeError>;

    /// Removes a pod's interface; one that is gone is no error. `netns` is `None` when the
    /// namespace is gone.
    ///
    /// # Errors
    /// The kernel's.
    fn unwire(&self, netns: Option<&Netns>, link: &PodLink) -> Result<(), NodeError>;

    /// Compares a pod's interface with what it shall be (CNI CHECK).
    ///
    /// # Errors
    /// The kernel's, when it cannot be asked.
    fn check(&self, netns: &Netns, link: &PodLink) -> Result<Vec<Problem>, NodeError>;

    /// Removes nodes' ends of veth pairs beside these, each with its pod's end, and says which.
    ///
    /// # Errors
    /// The kernel's.
    fn sweep(&self, keep: &BTreeSet<String>) -> Result<Vec<String>, NodeError>;

    /// Whether something of the node's stands in the way of its own port. Changes nothing.
    ///
    /// # Errors
    /// [`NodeError::Setting`] when a stranger's interface has the name or the node lacks one of its
    /// addresses; the kernel's.
    fn may_wire_host(&self, link: &HostLink) -> Result<(), NodeError>;

    /// Makes or takes back the node's own port, with addresses, neighbors, routes, rules and
    /// sysctls.
    ///
    /// # Errors
    /// The kernel's.
    fn wire_host(&self, link: &HostLink) -> Result<HostPort, NodeError>;

    /// Brings what belongs to the node's own port to what it shall be now, while its device stays
    /// as it is.
    ///
    /// # Errors
    /// As [`Kernel::wire_host`]; ENODEV when there is no port.
    fn adjust_host(&self, link: &HostLink) -> Result<(), NodeError>;

    /// What of the node's own port, routes, rules and sysctls is not as it shall be.
    ///
    /// # Errors
    /// The kernel's, when it cannot be asked.
    fn check_host(&self, link: &HostLink) -> Result<Vec<Problem>, NodeError>;

    /// Finds the node's uplink: the interface named by the setting, or that of the default route,
    /// or the first with a global address. `None` when nothing leads out of the node.
    ///
    /// # Errors
    /// [`NodeError::Setting`] when a named one is not there; the kernel's.
    fn uplink(&self, setting: Option<&str>) -> Result<Option<Uplink>, NodeError>;

    /// Looks at the node with the eyes of the switch that shall run on it.
    ///
    /// # Errors
    /// As [`Kernel::uplink`].
    fn preflight(
        &self,
        wanted: &preflight::Wanted,
        uplink: Option<&str>,
    ) -> Result<Vec<preflight::Check>, NodeError>;

    /// Removes all that [`Kernel::wire_host`] made. What is gone is no error.
    ///
    /// # Errors
    /// The kernel's.
    fn unwire_host(&self, link: &HostLink) -> Result<(), NodeError>;
}

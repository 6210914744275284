//! What a request may be, whoever wrote it: the parent's own look, without trust in the worker's.
//!
//! Names become parts of paths below /proc/sys and attributes of netlink, counts become loops, and
//! the node's port decides where the node's own packets go. The rest is the kernel's to refuse.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use smoltcp::wire::{IpAddress, IpCidr};
use stack::PortRange;

use super::protocol::Request;
use crate::node::preflight::Wanted;
use crate::node::{END_PREFIX, HostLink, LinkKind, OwnPort, PodLink};
use crate::settings::Settings;

/// Addresses, gateways and routes of one interface, each.
const LIST_MAX: usize = 1024;
/// Ranges behind the switch, and routes to single addresses of Services: a message holds them.
const PREFIXES_MAX: usize = 6_000;
/// Names of ends that stay in a sweep: more than ports of a switch.
const KEEP_MAX: usize = 8192;
/// Single L4 ports that are diverted: a message holds them beside all else, and the kernel tries
/// rules one after another.
const OWN_PORTS_MAX: usize = 2_048;
/// IANA's numbers of TCP, UDP and SCTP.
const PROTOCOLS: [u8; 3] = [6, 17, 132];
/// Bytes of a path (PATH_MAX).
const PATH_MAX: usize = 4096;
/// Least MTU of IPv4 (RFC 791).
const MTU_MIN: u16 = 68;

/// The parent's own settings, as far as a worker may not deviate from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The name of the node's port.
    pub host_port: String,
    /// The uplink's name, if one is set.
    pub uplink: Option<String>,
    /// Ranges of L4 ports that are diverted: node ports, and those of masquerade.
    pub diverted: [PortRange; 2],
}

impl Bounds {
    /// By the settings.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self {
            host_port: settings.host_port.clone(),
            uplink: settings.uplink.clone(),
            diverted: [settings.node_port_range.0, settings.snat_ports.0],
        }
    }

    /// Whether a request may be carried out.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self, request: &Request) -> Result<(), String> {
        let uplink = self.uplink.as_deref();
        match request {
            Request::OpenNetns { path } => self::path(path),
            Request::Wire { path, link }
            | Request::TakeBack { path, link }
            | Request::Check { path, link } => self::path(path).and_then(|()| pod(link)),
            Request::Unwire { path, link } => {
                path.as_deref().map_or(Ok(()), self::path).and_then(|()| pod(link))
            }
            Request::Sweep { keep } => {
                count("ends", keep.len(), KEEP_MAX)?;
                keep.iter().try_for_each(|name| interface(name))
            }
            Request::MayWireHost { link }
            | Request::WireHost { link }
            | Request::AdjustHost { link }
            | Request::CheckHost { link }
            | Request::UnwireHost { link } => self.host(link),
            Request::Uplink { setting } => same_uplink(setting.as_deref(), uplink),
            Request::Preflight { wanted, uplink: named } => {
                same_uplink(named.as_deref(), uplink).and_then(|()| look(wanted, &self.host_port))
            }
        }
    }

    fn host(&self, link: &HostLink) -> Result<(), String> {
        let host_port = &self.host_port;
        if link.ifname != *host_port {
            return Err(format!("the node's port is {host_port}, not {:?}", link.ifname));
        }
        mtu(link.mtu)?;
        prefixes(&link.prefixes)?;
        count("gateways", link.gateways.len(), LIST_MAX)?;
        count("addresses", link.node_addresses.len(), LIST_MAX)?;
        if link.diverted != self.diverted {
            return Err("other ports are diverted than those that are set".to_owned());
        }
        count("single ports", link.own_ports.len(), OWN_PORTS_MAX)?;
        link.own_ports.iter().try_for_each(|own| own_port(own, link))
    }
}

/// A port of the node itself, of a protocol that has ports. The kernel takes no rule about 65535,
/// and port 0 is what fragments look like.
fn own_port(own: &OwnPort, link: &HostLink) -> Result<(), String> {
    let OwnPort { address, protocol, port } = *own;
    let is_of_node = address == IpAddr::V4(Ipv4Addr::LOCALHOST)
        || link.node_addresses.contains(&IpAddress::from(address));
    if !is_of_node {
        return Err(format!("{address} is no address of the node"));
    }
    if !PROTOCOLS.contains(&protocol) || port == 0 || port == u16::MAX {
        return Err(format!("{port} of protocol {protocol} is no port"));
    }
    Ok(())
}

/// How many descriptors come along.
#[must_use]
pub(super) fn descriptors(request: &Request) -> usize {
    match request {
        Request::Wire { .. } | Request::TakeBack { .. } | Request::Check { .. } => 1,
        Request::Unwire { path, .. } => usize::from(path.is_some()),
        Request::OpenNetns { .. }
        | Request::Sweep { .. }
        | Request::MayWireHost { .. }
        | Request::WireHost { .. }
        | Request::AdjustHost { .. }
        | Request::CheckHost { .. }
        | Request::UnwireHost { .. }
        | Request::Uplink { .. }
        | Request::Preflight { .. } => 0,
    }
}

fn pod(link: &PodLink) -> Result<(), String> {
    interface(&link.ifname)?;
    if link.ifname == "lo" {
        return Err("lo is no interface of ours".to_owned());
    }
    match link.kind {
        LinkKind::Tap => {}
        LinkKind::Veth if link.host_ifname.starts_with(END_PREFIX) => {}
        LinkKind::Veth => return Err(format!("{:?} is no node's end", link.host_ifname)),
    }
    interface(&link.host_ifname)?;
    mtu(link.mtu)?;
    if !link.mac.is_unicast() {
        return Err(format!("{} is no interface's MAC", link.mac));
    }
    count("addresses", link.addresses.len(), LIST_MAX)?;
    count("gateways", link.gateways.len(), LIST_MAX)?;
    count("routes", link.routes.len(), LIST_MAX)
}

fn look(wanted: &Wanted, host_port: &str) -> Result<(), String> {
    if wanted.host_ifname != host_port {
        return Err(format!("the node's port is {host_port}, not {:?}", wanted.host_ifname));
    }
    prefixes(&wanted.prefixes)
}

/// A default route by the switch would take all of the node's packets.
fn prefixes(prefixes: &[IpCidr]) -> Result<(), String> {
    count("prefixes", prefixes.len(), PREFIXES_MAX)?;
    match prefixes.iter().find(|prefix| prefix.prefix_len() == 0) {
        Some(everything) => Err(format!("{everything} is everything, not a range of pods")),
        None => Ok(()),
    }
}

fn same_uplink(named: Option<&str>, uplink: Option<&str>) -> Result<(), String> {
    if named == uplink {
        return Ok(());
    }
    Err(format!("the uplink is set to {uplink:?}, not to {named:?}"))
}

fn mtu(mtu: u16) -> Result<(), String> {
    if mtu >= MTU_MIN { Ok(()) } else { Err(format!("{mtu} is no MTU")) }
}

fn count(what: &str, count: usize, max: usize) -> Result<(), String> {
    if count <= max { Ok(()) } else { Err(format!("{count} {what} are more than {max}")) }
}

fn path(path: &Path) -> Result<(), String> {
    count("bytes of a path", path.as_os_str().len(), PATH_MAX)
}

/// Linux's rule for interface names (`dev_valid_name`), and no pattern of names.
fn interface(name: &str) -> Result<(), String> {
    let odd = |c: char| matches!(c, '/' | ':' | '%' | '\0') || c.is_whitespace();
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(odd) {
        return Err(format!("{name:?} is no interface's name"));
    }
    Ok(())
}

//! What a request may be, whoever wrote it: the parent's own look, without trust in the worker's.
//!
//! Names become parts of paths below /proc/sys and attributes of netlink, counts become loops, and
//! the node's port decides where the node's own packets go. The rest is the kernel's to refuse.

use std::path::Path;

use smoltcp::wire::IpCidr;
use stack::PortRange;

use super::protocol::Request;
use crate::node::preflight::Wanted;
use crate::node::{END_PREFIX, HostLink, LinkKind, PodLink};

/// Addresses, gateways and routes of one interface, each.
const LIST_MAX: usize = 1024;
/// Ranges behind the switch, and routes to single addresses of Services: a message holds them.
const PREFIXES_MAX: usize = 6_000;
/// Names of ends that stay in a sweep: more than ports of a switch.
const KEEP_MAX: usize = 8192;
/// Ranges of L4 ports that are diverted.
const RANGES_MAX: usize = 8;
/// Bytes of a path (PATH_MAX).
const PATH_MAX: usize = 4096;
/// Least MTU of IPv4 (RFC 791).
const MTU_MIN: u16 = 68;

/// Whether a request may be carried out. `host_port` and `uplink` are the parent's settings.
///
/// # Errors
/// Why not.
pub(super) fn check(
    request: &Request,
    host_port: &str,
    uplink: Option<&str>,
) -> Result<(), String> {
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
        | Request::CheckHost { link }
        | Request::UnwireHost { link } => host(link, host_port),
        Request::Uplink { setting } => same_uplink(setting.as_deref(), uplink),
        Request::Preflight { wanted, uplink: named } => {
            same_uplink(named.as_deref(), uplink).and_then(|()| look(wanted, host_port))
        }
    }
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

fn host(link: &HostLink, host_port: &str) -> Result<(), String> {
    if link.ifname != host_port {
        return Err(format!("the node's port is {host_port}, not {:?}", link.ifname));
    }
    mtu(link.mtu)?;
    prefixes(&link.prefixes)?;
    count("gateways", link.gateways.len(), LIST_MAX)?;
    count("addresses", link.node_addresses.len(), LIST_MAX)?;
    count("ports of the loopback address", link.loopback_ports.len(), LIST_MAX)?;
    l4_ports(&link.diverted)
}

/// Ranges as the kernel takes them: 65535 it does not.
fn l4_ports(ranges: &[PortRange]) -> Result<(), String> {
    count("ranges of ports", ranges.len(), RANGES_MAX)?;
    let refused =
        |range: &&PortRange| range.first == 0 || range.last < range.first || range.last == u16::MAX;
    match ranges.iter().find(refused) {
        Some(PortRange { first, last }) => Err(format!("{first}-{last} is no range of ports")),
        None => Ok(()),
    }
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

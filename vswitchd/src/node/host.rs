//! The node's own port: a TAP in the node's namespace, and what leads the node's packets to and
//! from it. All of it runs inside the node's namespace.
//!
//! The port has no address of its own, only IPv6's link-local: the node keeps one identity, its
//! uplink's, and the routes name it as their source. Its neighbors are the gateways, set for good,
//! so the node never asks for them.

use std::path::Path;

use smoltcp::wire::{IpAddress, IpCidr};

use super::netlink::link::{Link, LinkChange};
use super::netlink::neighbor::Neighbor;
use super::netlink::route::{IfPresent, Route};
use super::netlink::{Family, Netlink, PROTOCOL};
use super::pod::QUEUE_LENGTH;
use super::{HostLink, NodeError, Problem, rules, settings, sysctl};
use crate::port::tap::Tap;
use crate::text;

/// The kernel's name for the kind of link a TAP is.
const TAP_KIND: &str = "tun";

/// Makes the node's port, or takes it back, and brings everything to what it shall be. `held` is
/// its device, if that is open already. What is so already stays untouched. If the port was not
/// there before and something fails, all of it is gone again.
///
/// # Errors
/// [`NodeError::Setting`] when a stranger's interface has the name or the node lacks one of its
/// addresses, [`NodeError::Exists`] when a stranger's route has a range of ours; the kernel's.
pub(crate) fn wire(link: &HostLink, before: &Path, held: Option<Tap>) -> Result<Tap, NodeError> {
    let name = &link.ifname;
    let mut netlink = Netlink::open()?;
    let present = refuse_strangers(&mut netlink, link)?;
    let opened = match (present.is_some(), held) {
        (true, Some(held)) => Ok(held),
        (true, None) => Tap::attach(name),
        (false, _) => Tap::create(name, true),
    };
    let tap = opened.map_err(|source| NodeError::Kernel {
        doing: format!("cannot open the node's port {name}"),
        source,
    })?;
    let configured = configure(&mut netlink, link, before);
    if configured.is_err()
        && present.is_none()
        && let Err(error) = remove(name, before)
    {
        tracing::warn!(interface = name, %error, "half-made port of the node not removed");
    }
    configured.map(|()| tap)
}

/// Whether [`wire`] would begin. Changes nothing.
///
/// # Errors
/// [`NodeError::Setting`] as [`wire`]; the kernel's.
pub(crate) fn may_wire(link: &HostLink) -> Result<(), NodeError> {
    refuse_strangers(&mut Netlink::open()?, link).map(|_present| ())
}

/// What stands in the way is found before anything is made. Gives back the port of a daemon before.
fn refuse_strangers(netlink: &mut Netlink, link: &HostLink) -> Result<Option<Link>, NodeError> {
    let name = &link.ifname;
    let present = netlink.link(name)?;
    if let Some(other) = present.as_ref().filter(|found| found.kind.as_deref() != Some(TAP_KIND)) {
        let kind = other.kind.as_deref().unwrap_or("hardware");
        return Err(NodeError::Setting {
            field: "host-port".into(),
            why: format!(
                "the node has an interface {name} of kind {kind}; remove it, or name another"
            ),
        });
    }
    refuse_foreign(netlink, link)?;
    Ok(present)
}

/// The address that routes name as their source must be the node's, or the kernel refuses them half
/// way.
fn refuse_foreign(netlink: &mut Netlink, link: &HostLink) -> Result<(), NodeError> {
    let present = netlink.addresses()?;
    let foreign = |source: &IpAddress| !present.iter().any(|have| have.cidr.address() == *source);
    match families(link).into_iter().find_map(|family| source(link, family).filter(foreign)) {
        None => Ok(()),
        Some(address) => Err(NodeError::Setting {
            field: "node-addresses".into(),
            why: format!(
                "no interface of the node has {address}; mend it, or status.addresses of the Node"
            ),
        }),
    }
}

/// The node's own address in routes of a family.
fn source(link: &HostLink, family: Family) -> Option<IpAddress> {
    link.node_addresses.iter().copied().find(|address| Family::of(address) == family)
}

fn configure(netlink: &mut Netlink, link: &HostLink, before: &Path) -> Result<(), NodeError> {
    let found = find(netlink, &link.ifname)?;
    for (key, value) in wanted_settings(link) {
        sysctl::write(&key, value)?;
    }
    let change = LinkChange {
        mac: (found.mac != Some(link.mac)).then_some(link.mac),
        mtu: Some(link.mtu),
        queue_length: Some(QUEUE_LENGTH),
        ..LinkChange::default()
    };
    netlink.set_link(&found, change)?;
    netlink.set_link(&found, LinkChange { up: Some(true), ..LinkChange::default() })?;
    let wanted = wanted_addresses(link);
    for have in netlink.addresses()?.iter().filter(|have| have.link == found.index) {
        if !wanted.contains(&have.cidr) {
            netlink.delete_address(&found, have.cidr)?;
        }
    }
    for address in wanted {
        netlink.add_address(&found, address)?;
    }
    for neighbor in wanted_neighbors(&found, link) {
        netlink.set_neighbor(&found, neighbor.address, neighbor.mac)?;
    }
    rules::install(netlink, &families(link), &link.ifname)?;
    for family in families(link) {
        configure_routes(netlink, &found, link, family)?;
    }
    settings::apply(netlink, &families(link), before)
}

/// Brings the routes of one family to what they shall be, without a moment in which one that stays
/// is missing.
fn configure_routes(
    netlink: &mut Netlink,
    found: &Link,
    link: &HostLink,
    family: Family,
) -> Result<(), NodeError> {
    let mut ours = netlink.routes(family)?;
    ours.retain(|route| route.protocol == PROTOCOL && route.link == found.index);
    let wanted = wanted_routes(found, link, family);
    for route in &wanted {
        if ours.iter().any(|have| route.is_met_by(have)) {
            continue;
        }
        // Only our own is replaced: the node's own route to such a prefix is somebody's network.
        let same =
            |have: &Route| have.destination == route.destination && have.table == route.table;
        let present = if ours.iter().any(same) { IfPresent::Replace } else { IfPresent::Refuse };
        match netlink.add_route(found, route, present) {
            // A single address is a Service's, and whoever may write one shall not keep the node
            // from all else: `check` tells that its route is missing.
            Err(NodeError::Exists { what }) if is_single(&route.destination) => {
                tracing::warn!("{what} is there already, so the node does not reach the Service");
            }
            added => added?,
        }
    }
    for old in
        ours.iter().filter(|have| !wanted.iter().any(|route| route.destination == have.destination))
    {
        netlink.delete_route(found, old)?;
    }
    Ok(())
}

fn is_single(prefix: &IpCidr) -> bool {
    *prefix == text::single(prefix.address())
}

/// Removes the node's port and all that belongs to it; what is gone is no error. Whether anything
/// was there.
///
/// # Errors
/// The kernel's; the rest is removed nevertheless.
pub(crate) fn remove(ifname: &str, before: &Path) -> Result<bool, NodeError> {
    let mut netlink = Netlink::open()?;
    let rules = rules::remove(&mut netlink, &all_families());
    let settings = settings::restore(before);
    // Routes, neighbors and addresses go with the interface.
    let link = match netlink.link(ifname)? {
        Some(found) if found.kind.as_deref() == Some(TAP_KIND) => {
            netlink.delete_link(&found).map(|()| true)
        }
        _ => Ok(false),
    };
    Ok(rules? | settings? | link?)
}

/// What differs from what shall be.
///
/// # Errors
/// The kernel's, when it cannot be asked.
pub(crate) fn check(link: &HostLink) -> Result<Vec<Problem>, NodeError> {
    let mut netlink = Netlink::open()?;
    let name = &link.ifname;
    let mut problems = rules::check(&mut netlink, &families(link), name)?;
    problems.extend(settings::check(&families(link))?);
    let Some(found) = netlink.link(name)? else {
        problems.insert(0, Problem(format!("the node's port {name} is missing")));
        return Ok(problems);
    };
    let mut say = |sentence: String| problems.push(Problem(sentence));
    if found.kind.as_deref() != Some(TAP_KIND) {
        say(format!(
            "{name} is no TAP but of kind {}",
            found.kind.as_deref().unwrap_or("hardware")
        ));
    }
    if !found.up {
        say(format!("{name} is down"));
    }
    if found.mac != Some(link.mac) {
        say(format!("{name} does not have the MAC {}", link.mac));
    }
    if found.mtu != u32::from(link.mtu) {
        say(format!("{name} has MTU {} instead of {}", found.mtu, link.mtu));
    }
    for (key, value) in wanted_settings(link) {
        if sysctl::read(&key)?.as_deref() != Some(value) {
            say(format!("net/{key} is not {value}"));
        }
    }
    let addresses = netlink.addresses()?;
    for wanted in wanted_addresses(link) {
        if !addresses.iter().any(|have| have.link == found.index && have.cidr == wanted) {
            say(format!("{name} lacks the address {wanted}"));
        }
    }
    let neighbors = netlink.permanent_neighbors()?;
    for wanted in wanted_neighbors(&found, link).iter().filter(|wanted| !neighbors.contains(wanted))
    {
        say(format!("the neighbor {} on {name} is not set to {}", wanted.address, wanted.mac));
    }
    for family in families(link) {
        let routes = netlink.routes(family)?;
        for wanted in wanted_routes(&found, link, family) {
            if !routes.iter().any(|have| wanted.is_met_by(have)) {
                say(format!("the route {wanted} dev {name} is missing"));
            }
        }
    }
    Ok(problems)
}

/// A family is used where it has a gateway.
fn families(link: &HostLink) -> Vec<Family> {
    let has = |family: &Family| link.gateways.iter().any(|gateway| Family::of(gateway) == *family);
    [Family::V4, Family::V6].into_iter().filter(has).collect()
}

/// The families this kernel has.
fn all_families() -> Vec<Family> {
    if sysctl::has_ipv6() { vec![Family::V4, Family::V6] } else { vec![Family::V4] }
}

fn wanted_settings(link: &HostLink) -> Vec<(String, &'static str)> {
    let name = &link.ifname;
    let mut wanted = Vec::new();
    for family in families(link) {
        match family {
            Family::V4 => wanted.extend([
                (sysctl::ipv4(name, "forwarding"), "1"),
                // A pod may be allowed source addresses the node has no route to by this port; the
                // switch has its own guard for sources. 2 also overrules a strict
                // "all".
                (sysctl::ipv4(name, "rp_filter"), "2"),
            ]),
            Family::V6 => wanted.extend([
                (sysctl::ipv6(name, "accept_ra"), "0"),
                (sysctl::ipv6(name, "addr_gen_mode"), "1"),
                (sysctl::ipv6(name, "disable_ipv6"), "0"),
                (sysctl::ipv6(name, "forwarding"), "1"),
            ]),
        }
    }
    if !families(link).contains(&Family::V6) && sysctl::has_ipv6() {
        wanted.push((sysctl::ipv6(name, "disable_ipv6"), "1"));
    }
    wanted
}

fn wanted_addresses(link: &HostLink) -> Vec<IpCidr> {
    let link_local = IpCidr::new(IpAddress::Ipv6(stack::config::link_local(link.mac)), 64);
    families(link).contains(&Family::V6).then_some(link_local).into_iter().collect()
}

fn wanted_neighbors(found: &Link, link: &HostLink) -> Vec<Neighbor> {
    let neighbor = |address: &IpAddress| Neighbor {
        link: found.index,
        address: *address,
        mac: link.gateway_mac,
    };
    link.gateways.iter().map(neighbor).collect()
}

/// A route to each prefix by the gateway of its family. Prefixes of a family without gateway have
/// none.
fn wanted_routes(found: &Link, link: &HostLink, family: Family) -> Vec<Route> {
    let of_family = |address: &&IpAddress| Family::of(address) == family;
    let Some(gateway) = link.gateways.iter().find(of_family).copied() else { return Vec::new() };
    let source = source(link, family);
    let prefixes = link.prefixes.iter().filter(|prefix| Family::of(&prefix.address()) == family);
    let route = |prefix: &IpCidr| Route {
        source,
        // The port has no address that would say so.
        onlink: true,
        ..Route::new(found, *prefix, Some(gateway))
    };
    prefixes.map(route).collect()
}

fn find(netlink: &mut Netlink, name: &str) -> Result<Link, NodeError> {
    netlink.link(name)?.ok_or_else(|| NodeError::Kernel {
        doing: format!("cannot configure the node's port {name}"),
        source: std::io::Error::from_raw_os_error(libc::ENODEV),
    })
}

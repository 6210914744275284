//! The node's own port: a TAP in the node's namespace, and what leads the node's packets to and
//! from it. All of it runs inside the node's namespace.
//!
//! The port has no address of its own that anybody could use: the node keeps one identity, its
//! uplink's, and the routes name it as their source. Its neighbors are the gateways, set for good,
//! so the node never asks for them.

use std::path::Path;

use smoltcp::wire::{IpAddress, IpCidr};

use super::netlink::link::{Link, LinkChange};
use super::netlink::route::{IfPresent, Route};
use super::netlink::{Family, Netlink, PROTOCOL};
use super::pod::QUEUE_LENGTH;
use super::{HostLink, NodeError, Problem, rules, settings, sysctl};
use crate::port::icmp::{self, IcmpPort};
use crate::port::tap::Tap;
use crate::text;

mod wanted;

use wanted::{addresses, neighbors, routes, source, sysctls};

/// The kernel's name for the kind of link a TAP is.
const TAP_KIND: &str = "tun";

/// What is open of a port that was made before.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Its device.
    pub(crate) device: Option<Tap>,
    /// Its sockets for ICMP.
    pub(crate) icmp: Vec<IcmpPort>,
}

/// What is open of the port.
#[derive(Debug)]
pub(crate) struct Wired {
    /// Its device.
    pub(crate) device: Tap,
    /// A socket for ICMP a family.
    pub(crate) icmp: Vec<IcmpPort>,
}

/// Makes the node's port, or takes it back, and brings everything to what it shall be. What is so
/// already stays untouched. If the port was not there before and something fails, all of it is gone
/// again.
///
/// # Errors
/// [`NodeError::Setting`] when a stranger's interface has the name or the node lacks one of its
/// addresses, [`NodeError::Exists`] when a stranger's route has a range of ours; the kernel's.
pub(crate) fn wire(link: &HostLink, before: &Path, held: Held) -> Result<Wired, NodeError> {
    let name = &link.ifname;
    let mut netlink = Netlink::open()?;
    let present = refuse_strangers(&mut netlink, link)?;
    let opened = match (present.is_some(), held.device) {
        (true, Some(held)) => Ok(held),
        (true, None) => Tap::attach(name),
        (false, _) => Tap::create(name, true),
    };
    let device = opened.map_err(|source| NodeError::Kernel {
        doing: format!("cannot open the node's port {name}"),
        source,
    })?;
    let configured =
        configure(&mut netlink, link, before).and_then(|()| listen(&mut netlink, link, held.icmp));
    if configured.is_err()
        && present.is_none()
        && let Err(error) = remove(name, before)
    {
        tracing::warn!(interface = name, %error, "half-made port of the node not removed");
    }
    configured.map(|icmp| Wired { device, icmp })
}

/// Whether [`wire`] would begin. Changes nothing.
///
/// # Errors
/// [`NodeError::Setting`] as [`wire`]; the kernel's.
pub(crate) fn may_wire(link: &HostLink) -> Result<(), NodeError> {
    refuse_strangers(&mut Netlink::open()?, link).map(|_present| ())
}

/// Brings everything around the port that is there to what it shall be, the port itself included.
///
/// # Errors
/// As [`wire`]; ENODEV when there is no port.
pub(crate) fn mend(link: &HostLink, before: &Path) -> Result<(), NodeError> {
    let mut netlink = Netlink::open()?;
    refuse_strangers(&mut netlink, link)?;
    configure(&mut netlink, link, before)
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

/// The rules come last: what they divert finds its way, and comes back from it.
fn configure(netlink: &mut Netlink, link: &HostLink, before: &Path) -> Result<(), NodeError> {
    let found = find(netlink, &link.ifname)?;
    for (key, value) in sysctls(link) {
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
    let wanted = addresses(link);
    for have in netlink.addresses()?.iter().filter(|have| have.link == found.index) {
        if !wanted.contains(&have.cidr) {
            netlink.delete_address(&found, have.cidr)?;
        }
    }
    for address in wanted {
        netlink.add_address(&found, address)?;
    }
    for neighbor in neighbors(&found, link) {
        netlink.set_neighbor(&found, neighbor.address, neighbor.mac)?;
    }
    settings::apply(netlink, &families(link), link, before)?;
    for family in families(link) {
        configure_routes(netlink, &found, link, family)?;
    }
    rules::install(netlink, &families(link), link)
}

/// Brings the routes of one family to what they shall be, without a moment in which one that stays
/// is missing.
fn configure_routes(
    netlink: &mut Netlink,
    found: &Link,
    link: &HostLink,
    family: Family,
) -> Result<(), NodeError> {
    let mut ours = netlink.routes_by(found, family)?;
    ours.retain(|route| route.protocol == PROTOCOL);
    let wanted = routes(found, link, family);
    let same = |a: &Route, b: &Route| (a.destination, a.table) == (b.destination, b.table);
    for route in &wanted {
        if ours.iter().any(|have| route.is_met_by(have)) {
            continue;
        }
        // Only our own is replaced: the node's own route to such a prefix is somebody's network.
        let replaces = ours.iter().any(|have| same(have, route));
        let present = if replaces { IfPresent::Replace } else { IfPresent::Refuse };
        match netlink.add_route(found, route, present) {
            // A single address is a Service's, and whoever may write one shall not keep the node
            // from all else: `check` tells that its route is missing.
            Err(NodeError::Exists { what }) if is_single(&route.destination) => {
                tracing::warn!("{what} is there already, so the node does not reach the Service");
            }
            added => added?,
        }
    }
    for old in ours.iter().filter(|have| !wanted.iter().any(|route| same(have, route))) {
        netlink.delete_route(found, old)?;
    }
    Ok(())
}

fn is_single(prefix: &IpCidr) -> bool {
    *prefix == text::single(prefix.address())
}

/// Opens a socket a family for copies of ICMP packets, or takes those that are open.
fn listen(
    netlink: &mut Netlink,
    link: &HostLink,
    held: Vec<IcmpPort>,
) -> Result<Vec<IcmpPort>, NodeError> {
    let found = find(netlink, &link.ifname)?;
    let mut held = held;
    let mut open = |family: Family| {
        let addresses: Vec<IpAddress> = of_family(&link.node_addresses, family).collect();
        let copies = icmp::Copies { node: link.mac, gateway: link.gateway_mac };
        let same = held.iter().position(|port| port.is_v6() == (family == Family::V6));
        let port = match same.map(|at| held.swap_remove(at)) {
            Some(held) => held.again(copies),
            None => IcmpPort::open(family == Family::V6, copies)?,
        };
        port.limit_to(&addresses, found.index)?;
        Ok(port)
    };
    let ports = families(link).into_iter().map(&mut open).collect::<std::io::Result<_>>();
    ports.map_err(|source| NodeError::Kernel {
        doing: "cannot listen to ICMP packets to the node".to_owned(),
        source,
    })
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
    // Routes of all tables, neighbors and addresses go with the interface.
    let link = match netlink.link(ifname)? {
        Some(found) if found.kind.as_deref() == Some(TAP_KIND) => {
            netlink.delete_link(&found).map(|()| true)
        }
        _ => Ok(false),
    };
    Ok(rules? | settings? | link?)
}

/// What differs from what shall be. Cheap enough for every second.
///
/// # Errors
/// The kernel's, when it cannot be asked.
pub(crate) fn check(link: &HostLink) -> Result<Vec<Problem>, NodeError> {
    let mut netlink = Netlink::open()?;
    let name = &link.ifname;
    let mut problems = rules::check(&mut netlink, &families(link), link)?;
    problems.extend(settings::check(&families(link), link)?);
    let Some(found) = netlink.link(name)? else {
        problems.insert(0, Problem(format!("the node's port {name} is missing")));
        return Ok(problems);
    };
    check_device(&found, link, &mut problems);
    let mut say = |sentence: String| problems.push(Problem(sentence));
    for (key, value) in sysctls(link) {
        if sysctl::read(&key)?.as_deref() != Some(value) {
            say(format!("net/{key} is not {value}"));
        }
    }
    let present = netlink.addresses()?;
    for wanted in addresses(link) {
        if !present.iter().any(|have| have.link == found.index && have.cidr == wanted) {
            say(format!("{name} lacks the address {wanted}"));
        }
    }
    let present = netlink.permanent_neighbors(&found)?;
    for wanted in neighbors(&found, link).iter().filter(|wanted| !present.contains(wanted)) {
        say(format!("the neighbor {} on {name} is not set to {}", wanted.address, wanted.mac));
    }
    for family in families(link) {
        let present = netlink.routes_by(&found, family)?;
        for wanted in routes(&found, link, family) {
            if !present.iter().any(|have| wanted.is_met_by(have)) {
                say(format!("the route {wanted} dev {name} is missing"));
            }
        }
    }
    Ok(problems)
}

fn check_device(found: &Link, link: &HostLink, problems: &mut Vec<Problem>) {
    let name = &link.ifname;
    let mut say = |sentence: String| problems.push(Problem(sentence));
    if found.kind.as_deref() != Some(TAP_KIND) {
        let kind = found.kind.as_deref().unwrap_or("hardware");
        say(format!("{name} is no TAP but of kind {kind}"));
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
}

/// A family is used where it has a gateway.
fn families(link: &HostLink) -> Vec<Family> {
    let has = |family: &Family| of_family(&link.gateways, *family).next().is_some();
    [Family::V4, Family::V6].into_iter().filter(has).collect()
}

/// The addresses of one family.
fn of_family(addresses: &[IpAddress], family: Family) -> impl Iterator<Item = IpAddress> + '_ {
    addresses.iter().copied().filter(move |address| Family::of(address) == family)
}

/// The families this kernel has.
fn all_families() -> Vec<Family> {
    if sysctl::has_ipv6() { vec![Family::V4, Family::V6] } else { vec![Family::V4] }
}

fn find(netlink: &mut Netlink, name: &str) -> Result<Link, NodeError> {
    netlink.link(name)?.ok_or_else(|| NodeError::Kernel {
        doing: format!("cannot configure the node's port {name}"),
        source: std::io::Error::from_raw_os_error(libc::ENODEV),
    })
}

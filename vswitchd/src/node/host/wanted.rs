//! What the node's port, and what belongs to it, shall be.

use smoltcp::wire::{IpAddress, IpCidr};

use super::{families, of_family};
use crate::node::netlink::Family;
use crate::node::netlink::address::DUMMY;
use crate::node::netlink::link::Link;
use crate::node::netlink::neighbor::Neighbor;
use crate::node::netlink::route::Route;
use crate::node::rules::TO_SWITCH;
use crate::node::{HostLink, sysctl};

/// The node's own address in routes of a family.
pub(super) fn source(link: &HostLink, family: Family) -> Option<IpAddress> {
    of_family(&link.node_addresses, family).next()
}

/// Settings of the port, and their values.
pub(super) fn sysctls(link: &HostLink) -> Vec<(String, &'static str)> {
    let name = &link.ifname;
    let mut wanted = Vec::new();
    for family in families(link) {
        match family {
            Family::V4 => wanted.extend([
                (sysctl::ipv4(name, "forwarding"), "1"),
                // A pod may be allowed source addresses the node has no route to by this port, and
                // what is masqueraded bears the node's own; the switch has its own guard for
                // sources. 2 also overrules a strict "all".
                (sysctl::ipv4(name, "rp_filter"), "2"),
                (sysctl::ipv4(name, "accept_local"), "1"),
                // Only for answers to connections to the loopback address, which begin on the node.
                (sysctl::ipv4(name, "route_localnet"), switch(has_loopback_ports(link))),
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

fn has_loopback_ports(link: &HostLink) -> bool {
    link.own_ports.iter().any(|own| own.address.is_loopback())
}

fn switch(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

/// Its own addresses, which nobody outside of the node is ever told. IPv4's is there because on an
/// interface without any the kernel takes a loose `rp_filter` for a strict one, and would refuse
/// what the switch sends in the node's own name.
pub(super) fn addresses(link: &HostLink) -> Vec<IpCidr> {
    let address = |family: Family| match family {
        Family::V4 => IpCidr::new(IpAddress::Ipv4(DUMMY), family.bits()),
        Family::V6 => IpCidr::new(IpAddress::Ipv6(stack::config::link_local(link.mac)), 64),
    };
    families(link).into_iter().map(address).collect()
}

/// Its neighbors: the gateways.
pub(super) fn neighbors(found: &Link, link: &HostLink) -> Vec<Neighbor> {
    let neighbor = |address: &IpAddress| Neighbor {
        link: found.index,
        address: *address,
        mac: link.gateway_mac,
    };
    link.gateways.iter().map(neighbor).collect()
}

/// A route to each prefix by the gateway of its family, and one for all that is diverted, in a
/// table of its own. Prefixes of a family without gateway have none.
pub(super) fn routes(found: &Link, link: &HostLink, family: Family) -> Vec<Route> {
    let Some(gateway) = of_family(&link.gateways, family).next() else { return Vec::new() };
    let source = source(link, family);
    let route = |prefix: &IpCidr| Route {
        source,
        // The port has no address that would say so.
        onlink: true,
        ..Route::new(found, *prefix, Some(gateway))
    };
    let prefixes = link.prefixes.iter().filter(|prefix| Family::of(&prefix.address()) == family);
    let mut routes: Vec<Route> = prefixes.map(route).collect();
    routes.push(Route { table: TO_SWITCH, ..route(&family.everything()) });
    routes
}

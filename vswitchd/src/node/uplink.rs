//! Which interface leads out of the node, and what it says about the node.

use serde::{Deserialize, Serialize};
use smoltcp::wire::IpAddress;

use super::NodeError;
use super::netlink::address::Address;
use super::netlink::link::Link;
use super::netlink::route::{MAIN, Route};
use super::netlink::{Family, Netlink};
use crate::text;

/// The interface that leads out of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// Its name.
    pub ifname: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses that anyone may be told (scope global), IPv4 before IPv6.
    #[serde(with = "text::list")]
    pub addresses: Vec<IpAddress>,
}

/// Finds the uplink in the calling thread's namespace: the one named, else that of the best default
/// route, else the first with a global address. `None` when nothing leads out, which is no error
/// for a node that stands alone.
///
/// # Errors
/// [`NodeError::Setting`] when the one named is not there; the kernel's.
pub(crate) fn find(setting: Option<&str>) -> Result<Option<Uplink>, NodeError> {
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
    let addresses = netlink.addresses()?;
    if let Some(name) = setting {
        let link = links.iter().find(|link| link.name == name && !link.loopback);
        let link = link.ok_or_else(|| NodeError::Setting {
            field: "uplink".into(),
            why: format!("there is no interface {name} to lead out of the node; {}", offer(&links)),
        })?;
        return Ok(Some(describe(link, &addresses)));
    }
    let mut routes = netlink.routes(Family::V4)?;
    routes.extend(netlink.routes(Family::V6)?);
    Ok(choose(&links, &addresses, &routes).map(|link| describe(link, &addresses)))
}

/// IPv4's default routes come before IPv6's, whose metrics are on another scale.
fn choose<'a>(links: &'a [Link], addresses: &[Address], routes: &[Route]) -> Option<&'a Link> {
    let by_index = |index: u32| links.iter().find(|link| link.index == index && !link.loopback);
    let default = [Family::V4, Family::V6].into_iter().find_map(|family| {
        let everything = family.everything();
        let defaults = routes.iter().filter(|r| r.table == MAIN && r.destination == everything);
        defaults
            .min_by_key(|route| route.metric.unwrap_or(0))
            .and_then(|route| by_index(route.link))
    });
    default.or_else(|| {
        addresses.iter().filter(|have| have.global).find_map(|have| by_index(have.link))
    })
}

fn describe(link: &Link, addresses: &[Address]) -> Uplink {
    let on_it =
        addresses.iter().filter(|have| have.link == link.index && have.global && have.usable);
    let mut addresses: Vec<IpAddress> = on_it.map(|have| have.cidr.address()).collect();
    addresses.sort_by_key(|address| matches!(address, IpAddress::Ipv6(_)));
    Uplink { ifname: link.name.clone(), mtu: link.mtu, addresses }
}

fn offer(links: &[Link]) -> String {
    let names: Vec<&str> =
        links.iter().filter(|link| !link.loopback).map(|link| link.name.as_str()).collect();
    match names.as_slice() {
        [] => "the node has none at all: leave the setting out".to_owned(),
        names => format!("name one of {}, or leave the setting out", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            kind: None,
            mac: None,
            mtu: 1500,
            up: true,
            loopback: index == 1,
        }
    }

    fn address(link: u32, cidr: &str, global: bool) -> Address {
        Address { link, cidr: cidr.parse().unwrap(), global, usable: true }
    }

    fn default_route(link_: &Link, family: Family, metric: Option<u32>) -> Route {
        Route { metric, ..Route::new(link_, family.everything(), None) }
    }

    #[test]
    fn the_best_default_route_decides_and_ipv4_comes_first() {
        let links = [link(1, "lo"), link(2, "eth0"), link(3, "eth1"), link(4, "eth2")];
        let routes = [
            default_route(&links[3], Family::V6, Some(1)),
            default_route(&links[1], Family::V4, Some(200)),
            default_route(&links[2], Family::V4, Some(100)),
        ];
        assert_eq!(choose(&links, &[], &routes).unwrap().name, "eth1");
        assert_eq!(choose(&links, &[], &routes[..1]).unwrap().name, "eth2");
    }

    #[test]
    fn without_a_default_route_a_global_address_decides_and_the_loopback_never_does() {
        let links = [link(1, "lo"), link(2, "eth0"), link(3, "eth1")];
        let addresses = [
            address(1, "192.0.2.1/32", true),
            address(2, "fe80::1/64", false),
            address(3, "192.0.2.2/24", true),
        ];
        assert_eq!(choose(&links, &addresses, &[]).unwrap().name, "eth1");
        assert_eq!(choose(&links, &addresses[..2], &[]), None);
    }

    #[test]
    fn its_addresses_are_the_global_ones_ipv4_first() {
        let eth0 = link(2, "eth0");
        let addresses = [
            address(2, "2001:db8::2/64", true),
            address(2, "fe80::1/64", false),
            address(2, "192.0.2.2/24", true),
            address(3, "198.51.100.1/24", true),
        ];
        let wanted: Vec<IpAddress> =
            vec!["192.0.2.2".parse().unwrap(), "2001:db8::2".parse().unwrap()];
        assert_eq!(describe(&eth0, &addresses).addresses, wanted);
    }
}

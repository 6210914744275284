//! A pod's interface: made, configured, compared, removed. All of it runs inside the pod's
//! namespace.

use std::os::fd::BorrowedFd;

use smoltcp::wire::{IpAddress, IpCidr};

use super::netlink::address::Address;
use super::netlink::link::{Link, LinkChange};
use super::netlink::route::{IfPresent, Route};
use super::netlink::{Family, Netlink, feature};
use super::{LinkKind, NodeError, PodLink, Problem, sysctl};
use crate::port::tap::Tap;

/// Frames that wait in a TAP for the switch. A full queue drops its tail, and a frame may have 64
/// KiB: more would be a standing queue and many megabytes a pod.
pub(crate) const QUEUE_LENGTH: u32 = 256;

/// Features a packet socket's virtio-net header cannot describe, so that the pod's kernel does the
/// work itself: a partial CRC32c, SCTP super-frames, those inside of a tunnel, which would pass for
/// ones of the outer headers, and chains of packets that a router in the pod has merged.
const UNDESCRIBED_OFFLOADS: [&str; 9] = [
    "tx-checksum-sctp",
    "tx-sctp-segmentation",
    "tx-gre-segmentation",
    "tx-gre-csum-segmentation",
    "tx-ipxip4-segmentation",
    "tx-ipxip6-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-gso-list",
];

/// Makes the pod's TAP and configures it. On failure it is gone again.
///
/// # Errors
/// [`NodeError::Exists`] when the name is taken, else the kernel's.
pub(crate) fn make_tap(link: &PodLink) -> Result<Tap, NodeError> {
    let mut netlink = Netlink::open()?;
    refuse_taken(&mut netlink, &link.ifname)?;
    let tap = Tap::create(&link.ifname, true).map_err(|source| kernel("make", link, source))?;
    configure_or_remove(&mut netlink, link)?;
    Ok(tap)
}

/// Makes the pod's end of a veth pair, with the node's end `link.host_ifname` in the namespace
/// `switch`, and configures it. On failure both are gone again.
///
/// # Errors
/// [`NodeError::Exists`] when a name is taken, else the kernel's.
pub(crate) fn make_veth(link: &PodLink, switch: BorrowedFd<'_>) -> Result<(), NodeError> {
    let mut netlink = Netlink::open()?;
    refuse_taken(&mut netlink, &link.ifname)?;
    netlink.add_veth(&link.ifname, &link.host_ifname, switch)?;
    for offload in UNDESCRIBED_OFFLOADS {
        // Older kernels lack some of them, or the whole interface to ask by; then there is nothing
        // to switch off, or SCTP and tunnels alone suffer: what contradicts itself is dropped.
        if let Err(error) = feature::switch_off(&link.ifname, offload) {
            tracing::debug!(interface = link.ifname, offload, %error, "offload not switched off");
        }
    }
    configure_or_remove(&mut netlink, link)
}

/// Takes a TAP back that an earlier daemon made.
///
/// # Errors
/// The kernel's.
pub(crate) fn attach_tap(link: &PodLink) -> Result<Tap, NodeError> {
    if Netlink::open()?.link(&link.ifname)?.is_none() {
        // Attaching to what is not there would make a new one, without an address.
        return Err(kernel("take back", link, std::io::Error::from_raw_os_error(libc::ENODEV)));
    }
    Tap::attach(&link.ifname).map_err(|source| kernel("take back", link, source))
}

/// Removes the pod's interface if it is there and of the kind we made; a stranger's of that name
/// stays.
///
/// # Errors
/// The kernel's.
pub(crate) fn remove(link: &PodLink) -> Result<(), NodeError> {
    let mut netlink = Netlink::open()?;
    match netlink.link(&link.ifname)? {
        Some(found) if found.kind.as_deref() == Some(kind_name(link.kind)) => {
            netlink.delete_link(&found)
        }
        _ => Ok(()),
    }
}

/// What differs from what shall be.
///
/// # Errors
/// The kernel's, when it cannot be asked.
pub(crate) fn check(link: &PodLink) -> Result<Vec<Problem>, NodeError> {
    let mut netlink = Netlink::open()?;
    let name = &link.ifname;
    let Some(found) = netlink.link(name)? else {
        return Ok(vec![Problem(format!("the interface {name} is missing"))]);
    };
    let wanted_kind = kind_name(link.kind);
    let mut problems = Vec::new();
    if found.kind.as_deref() != Some(wanted_kind) {
        let kind = found.kind.as_deref().unwrap_or("hardware");
        problems.push(Problem(format!("{name} is of kind {kind} instead of {wanted_kind}")));
    }
    if !found.up {
        problems.push(Problem(format!("{name} is down")));
    }
    if found.mac != Some(link.mac) {
        let mac = found.mac.map_or_else(|| "no MAC".to_owned(), |mac| format!("MAC {mac}"));
        problems.push(Problem(format!("{name} has {mac} instead of {}", link.mac)));
    }
    if found.mtu != u32::from(link.mtu) {
        problems.push(Problem(format!("{name} has MTU {} instead of {}", found.mtu, link.mtu)));
    }
    problems.extend(check_addresses(&netlink.addresses()?, &found, link));
    for family in [Family::V4, Family::V6] {
        let wanted: Vec<_> =
            wanted_routes(&found, link).into_iter().filter(|r| is_of(r, family)).collect();
        if wanted.is_empty() {
            continue;
        }
        let present = netlink.routes(family)?;
        for route in wanted.iter().filter(|route| !present.iter().any(|have| route.is_met_by(have)))
        {
            problems.push(Problem(format!("{name} lacks the route {route}")));
        }
    }
    Ok(problems)
}

fn check_addresses(present: &[Address], found: &Link, link: &PodLink) -> Vec<Problem> {
    let mut problems = Vec::new();
    for wanted in wanted_addresses(link) {
        match present.iter().find(|have| have.link == found.index && have.cidr == wanted) {
            None => problems.push(Problem(format!("{} lacks the address {wanted}", link.ifname))),
            Some(have) if !have.usable => {
                problems.push(Problem(format!(
                    "the address {wanted} of {} cannot be used",
                    link.ifname
                )));
            }
            Some(_) => {}
        }
    }
    problems
}

/// The addresses of the interface: the allocated ones and, with IPv6, the link-local one of its
/// MAC, which the kernel is told not to make itself since it would probe for it.
fn wanted_addresses(link: &PodLink) -> Vec<IpCidr> {
    let mut addresses = link.addresses.clone();
    if has_ipv6(link) {
        addresses.push(IpCidr::new(IpAddress::Ipv6(stack::config::link_local(link.mac)), 64));
    }
    addresses
}

/// The routes of the interface: a default one by each gateway, and the further ones. A further one
/// to the same destination takes the place of the default one.
fn wanted_routes(found: &Link, link: &PodLink) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    let gateway_of =
        |family| link.gateways.iter().copied().find(|gateway| Family::of(gateway) == family);
    let further = link
        .routes
        .iter()
        .map(|(to, gateway)| (*to, gateway.or_else(|| gateway_of(Family::of(&to.address())))));
    let defaults =
        link.gateways.iter().map(|gateway| (Family::of(gateway).everything(), Some(*gateway)));
    for (destination, gateway) in further.chain(defaults) {
        let mut route = Route::new(found, destination, gateway);
        if routes.iter().any(|have| have.destination == route.destination) {
            continue;
        }
        route.onlink = gateway
            .is_some_and(|gateway| !link.addresses.iter().any(|have| have.contains_addr(&gateway)));
        routes.push(route);
    }
    // By gateways on the link first: one may be reached by a route to a prefix without gateway.
    routes.sort_by_key(|route| route.gateway.is_some());
    routes
}

fn configure_or_remove(netlink: &mut Netlink, link: &PodLink) -> Result<(), NodeError> {
    let configured = configure(netlink, link);
    if configured.is_err()
        && let Ok(Some(found)) = netlink.link(&link.ifname)
        && let Err(error) = netlink.delete_link(&found)
    {
        tracing::warn!(interface = link.ifname, %error, "half-made interface not removed");
    }
    configured
}

fn configure(netlink: &mut Netlink, link: &PodLink) -> Result<(), NodeError> {
    let name = &link.ifname;
    let found = netlink.link(name)?.ok_or_else(|| {
        kernel("configure", link, std::io::Error::from_raw_os_error(libc::ENODEV))
    })?;
    if has_ipv6(link) {
        // All before it is up: then the kernel neither makes an address of its own nor asks for
        // routers.
        sysctl::write(&sysctl::ipv6(name, "accept_ra"), "0")?;
        sysctl::write(&sysctl::ipv6(name, "addr_gen_mode"), "1")?;
        sysctl::write(&sysctl::ipv6(name, "disable_ipv6"), "0")?;
    } else if sysctl::has_ipv6() {
        sysctl::write(&sysctl::ipv6(name, "disable_ipv6"), "1")?;
    }
    let queue_length = (link.kind == LinkKind::Tap).then_some(QUEUE_LENGTH);
    let change = LinkChange {
        mac: Some(link.mac),
        mtu: Some(link.mtu),
        queue_length,
        ..LinkChange::default()
    };
    netlink.set_link(&found, change)?;
    netlink.set_link(&found, LinkChange { up: Some(true), ..LinkChange::default() })?;
    for address in wanted_addresses(link) {
        netlink.add_address(&found, address)?;
    }
    for route in wanted_routes(&found, link) {
        add_behind(netlink, &found, route)?;
    }
    if let Some(loopback) = netlink.link("lo")? {
        netlink.set_link(&loopback, LinkChange { up: Some(true), ..LinkChange::default() })?;
    }
    Ok(())
}

/// Adds a route behind those to the same destination: a second interface of a pod has a default
/// route as well, and the first one stays the pod's way out.
fn add_behind(netlink: &mut Netlink, found: &Link, mut route: Route) -> Result<(), NodeError> {
    match netlink.add_route(found, &route, IfPresent::Refuse) {
        Err(NodeError::Exists { .. }) => {}
        done => return done,
    }
    let present = netlink.routes(Family::of(&route.destination.address()))?;
    let last = present
        .iter()
        .filter(|have| have.table == route.table && have.destination == route.destination)
        .filter_map(|have| have.metric)
        .max();
    route.metric = Some(last.unwrap_or(0).saturating_add(1));
    netlink.add_route(found, &route, IfPresent::Refuse)
}

fn refuse_taken(netlink: &mut Netlink, name: &str) -> Result<(), NodeError> {
    match netlink.link(name)? {
        Some(_) => {
            Err(NodeError::Exists { what: format!("the interface {name} in the pod's namespace") })
        }
        None => Ok(()),
    }
}

fn kernel(what: &str, link: &PodLink, source: std::io::Error) -> NodeError {
    NodeError::Kernel {
        doing: format!("cannot {what} the pod's interface {}", link.ifname),
        source,
    }
}

fn has_ipv6(link: &PodLink) -> bool {
    link.addresses.iter().any(|cidr| matches!(cidr, IpCidr::Ipv6(_)))
}

fn is_of(route: &Route, family: Family) -> bool {
    Family::of(&route.destination.address()) == family
}

/// The kernel's name for a kind of link.
fn kind_name(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Tap => "tun",
        LinkKind::Veth => "veth",
    }
}

//! Routes.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric,
    RouteProtocol, RouteScope, RouteType,
};
use smoltcp::wire::{IpAddress, IpCidr};

use super::link::Link;
use super::{Family, Netlink, PROTOCOL, doing};
use crate::node::NodeError;

/// The table that holds ordinary routes.
pub(crate) const MAIN: u32 = 254;
/// The table of the node's own addresses.
pub(crate) const LOCAL: u32 = 255;

/// A unicast route, as it shall be or as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Where to.
    pub(crate) destination: IpCidr,
    /// By whom; `None` when the destination is on the link itself.
    pub(crate) gateway: Option<IpAddress>,
    /// Index of the link it leaves by.
    pub(crate) link: u32,
    /// The source address sockets without one get.
    pub(crate) source: Option<IpAddress>,
    /// Its table.
    pub(crate) table: u32,
    /// Its metric; `None` leaves the kernel's default (0 for IPv4, 1024 for IPv6).
    pub(crate) metric: Option<u32>,
    /// The path's MTU, if it is less than the link's.
    pub(crate) mtu: Option<u32>,
    /// The gateway is on the link although no address there says so.
    pub(crate) onlink: bool,
    /// Who made it; [`PROTOCOL`] is us.
    pub(crate) protocol: u8,
}

/// What to do when a route to the destination is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfPresent {
    /// Refuse, with [`NodeError::Exists`].
    Refuse,
    /// Replace it.
    Replace,
}

impl Route {
    /// A route of ours by a gateway in the main table.
    pub(crate) fn new(link: &Link, destination: IpCidr, gateway: Option<IpAddress>) -> Self {
        Self {
            destination: super::network(&destination),
            gateway,
            link: link.index,
            source: None,
            table: MAIN,
            metric: None,
            mtu: None,
            onlink: false,
            protocol: PROTOCOL,
        }
    }

    /// Whether what the kernel has serves as `self` wants: what `self` leaves open does not matter.
    pub(crate) fn is_met_by(&self, other: &Self) -> bool {
        self.destination == other.destination
            && self.gateway == other.gateway
            && self.link == other.link
            && self.table == other.table
            && self.source.is_none_or(|source| other.source == Some(source))
            && self.metric.is_none_or(|metric| other.metric == Some(metric))
            && self.mtu.is_none_or(|mtu| other.mtu == Some(mtu))
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        match self.table {
            MAIN => Ok(()),
            table => write!(f, " table {table}"),
        }
    }
}

impl Netlink {
    /// Adds a route.
    ///
    /// # Errors
    /// The kernel's; [`NodeError::Exists`] when there is one and it shall stay.
    pub(crate) fn add_route(
        &mut self,
        link: &Link,
        route: &Route,
        present: IfPresent,
    ) -> Result<(), NodeError> {
        let flags = NLM_F_CREATE
            | match present {
                IfPresent::Refuse => NLM_F_EXCL,
                IfPresent::Replace => NLM_F_REPLACE,
            };
        match self.change(RouteNetlinkMessage::NewRoute(message(route)), flags) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                let table = match route.table {
                    MAIN => String::new(),
                    table => format!(" in table {table}"),
                };
                Err(NodeError::Exists { what: format!("a route to {}{table}", route.destination) })
            }
            result => doing(result, || format!("cannot add the route {route} on {}", link.name)),
        }
    }

    /// Removes a route; one that is gone is no error.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn delete_route(&mut self, link: &Link, route: &Route) -> Result<(), NodeError> {
        match self.change(RouteNetlinkMessage::DelRoute(message(route)), 0) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENODEV)) => {
                Ok(())
            }
            result => doing(result, || format!("cannot remove the route {route} on {}", link.name)),
        }
    }

    /// All unicast routes of a family, of all tables; those by several links at once are left out.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn routes(&mut self, family: Family) -> Result<Vec<Route>, NodeError> {
        let request = request(family);
        let all = self.dump(&RouteNetlinkMessage::GetRoute(request));
        listed(all, family)
    }

    /// As [`Netlink::routes`], those by one link. The kernel picks them out, so a node with a
    /// million others may be asked every second.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn routes_by(
        &mut self,
        link: &Link,
        family: Family,
    ) -> Result<Vec<Route>, NodeError> {
        let mut request = request(family);
        request.attributes.push(RouteAttribute::Oif(link.index));
        let all = self.dump_strictly(&RouteNetlinkMessage::GetRoute(request));
        listed(all, family)
    }
}

fn request(family: Family) -> RouteMessage {
    let mut request = RouteMessage::default();
    request.header.address_family = family.code();
    request
}

fn listed(
    all: std::io::Result<Vec<RouteNetlinkMessage>>,
    family: Family,
) -> Result<Vec<Route>, NodeError> {
    let all = doing(all, || format!("cannot list the {family} routes"))?;
    Ok(all.into_iter().filter_map(|message| parse(message, family)).collect())
}

fn message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: Family::of(&route.destination.address()).code(),
        destination_prefix_length: route.destination.prefix_len(),
        table: u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
        protocol: RouteProtocol::from(route.protocol),
        scope: if route.gateway.is_some() { RouteScope::Universe } else { RouteScope::Link },
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.header.flags.set(RouteFlags::Onlink, route.onlink);
    let address = |address: IpAddress| RouteAddress::from(std::net::IpAddr::from(address));
    let attributes = [
        Some(RouteAttribute::Destination(address(route.destination.address()))),
        Some(RouteAttribute::Table(route.table)),
        Some(RouteAttribute::Oif(route.link)),
        route.gateway.map(|gateway| RouteAttribute::Gateway(address(gateway))),
        route.source.map(|source| RouteAttribute::PrefSource(address(source))),
        route.metric.map(RouteAttribute::Priority),
        route.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])),
    ];
    message.attributes = attributes.into_iter().flatten().collect();
    message
}

fn parse(message: RouteNetlinkMessage, family: Family) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = message else { return None };
    let header = &message.header;
    if header.kind != RouteType::Unicast || Family::from_code(header.address_family) != Some(family)
    {
        return None;
    }
    // Copies the kernel keeps for a destination are no routes anybody made.
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut route = Route {
        destination: IpCidr::new(family.everything().address(), header.destination_prefix_length),
        gateway: None,
        link: 0,
        source: None,
        table: header.table.into(),
        metric: None,
        mtu: None,
        onlink: header.flags.contains(RouteFlags::Onlink),
        protocol: header.protocol.into(),
    };
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                route.destination = IpCidr::new(plain(&address)?, header.destination_prefix_length);
            }
            RouteAttribute::Gateway(address) => route.gateway = plain(&address),
            RouteAttribute::PrefSource(address) => route.source = plain(&address),
            RouteAttribute::Oif(index) => route.link = index,
            RouteAttribute::Table(table) => route.table = table,
            RouteAttribute::Priority(metric) => route.metric = Some(metric),
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    (route.link != 0).then_some(route)
}

fn plain(address: &RouteAddress) -> Option<IpAddress> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddress::Ipv4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddress::Ipv6(*v6)),
        _ => None,
    }
}

//! Permanent neighbors.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteType;
use smoltcp::wire::{EthernetAddress, IpAddress};

use super::link::Link;
use super::{Family, Netlink, doing};
use crate::node::NodeError;

/// A neighbor that never expires and is never asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbor {
    /// Index of its link.
    pub(crate) link: u32,
    /// Its address.
    pub(crate) address: IpAddress,
    /// Its MAC.
    pub(crate) mac: EthernetAddress,
}

impl Netlink {
    /// Sets a permanent neighbor, replacing what was known of the address.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn set_neighbor(
        &mut self,
        link: &Link,
        address: IpAddress,
        mac: EthernetAddress,
    ) -> Result<(), NodeError> {
        let mut message = NeighbourMessage::default();
        message.header.family = Family::of(&address).code();
        message.header.ifindex = link.index;
        message.header.state = NeighbourState::Permanent;
        message.header.kind = RouteType::Unicast;
        let destination = match address {
            IpAddress::Ipv4(v4) => NeighbourAddress::Inet(v4),
            IpAddress::Ipv6(v6) => NeighbourAddress::Inet6(v6),
        };
        message.attributes.push(NeighbourAttribute::Destination(destination));
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.as_bytes().to_vec()));
        let result =
            self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE);
        doing(result, || format!("cannot set the neighbor {address} on {} to {mac}", link.name))
    }

    /// All permanent neighbors on a link, of both families.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn permanent_neighbors(&mut self, link: &Link) -> Result<Vec<Neighbor>, NodeError> {
        let mut request = NeighbourMessage::default();
        request.attributes.push(NeighbourAttribute::IfIndex(link.index));
        let request = RouteNetlinkMessage::GetNeighbour(request);
        let all = doing(self.dump(&request), || "cannot list the neighbors".to_owned())?;
        Ok(all.into_iter().filter_map(parse).collect())
    }
}

fn parse(message: RouteNetlinkMessage) -> Option<Neighbor> {
    let RouteNetlinkMessage::NewNeighbour(message) = message else { return None };
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(IpAddress::Ipv4(*v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(IpAddress::Ipv6(*v6));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(EthernetAddress);
            }
            _ => {}
        }
    }
    Some(Neighbor { link: message.header.ifindex, address: address?, mac: mac? })
}

//! Addresses of links.

use std::net::Ipv4Addr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use smoltcp::wire::{IpAddress, IpCidr};

use super::link::Link;
use super::{Family, Netlink, doing};
use crate::node::NodeError;

/// IPv4's address of an interface that has none to show (RFC 7600 section 4.8): known on the node
/// alone.
pub(crate) const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// An address as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Index of its link.
    pub(crate) link: u32,
    /// With the length of its prefix.
    pub(crate) cidr: IpCidr,
    /// Whether it may be used towards anyone (scope global), not on the link or the host alone.
    pub(crate) global: bool,
    /// Whether it can be used: not tentative, not found twice, not deprecated.
    pub(crate) usable: bool,
}

impl Netlink {
    /// Gives a link an address, without duplicate address detection; one it has already is no
    /// error.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn add_address(&mut self, link: &Link, cidr: IpCidr) -> Result<(), NodeError> {
        let mut message = message(link, cidr);
        if let IpCidr::Ipv4(v4) = cidr {
            // The kernel takes no broadcast address on its own; in a /31 or /32 there is none (RFC
            // 3021).
            message.attributes.extend(v4.broadcast().map(AddressAttribute::Broadcast));
        } else {
            // Addresses are unique by allocation, and detection would make the pod's first second
            // silent.
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let result =
            self.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE);
        doing(result, || format!("cannot give {} the address {cidr}", link.name))
    }

    /// Takes an address from a link; one that is gone is no error.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn delete_address(&mut self, link: &Link, cidr: IpCidr) -> Result<(), NodeError> {
        match self.change(RouteNetlinkMessage::DelAddress(message(link, cidr)), 0) {
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(()),
            result => {
                doing(result, || format!("cannot take the address {cidr} from {}", link.name))
            }
        }
    }

    /// All addresses of the namespace, of both families.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn addresses(&mut self) -> Result<Vec<Address>, NodeError> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let all = doing(self.dump(&request), || "cannot list the addresses".to_owned())?;
        Ok(all.into_iter().filter_map(parse).collect())
    }
}

fn message(link: &Link, cidr: IpCidr) -> AddressMessage {
    let address = cidr.address();
    let mut message = AddressMessage::default();
    message.header.family = Family::of(&address).code();
    message.header.prefix_len = cidr.prefix_len();
    message.header.index = link.index;
    match address {
        IpAddress::Ipv6(v6) if v6.is_unicast_link_local() => {
            message.header.scope = AddressScope::Link;
        }
        IpAddress::Ipv4(DUMMY) => message.header.scope = AddressScope::Host,
        IpAddress::Ipv4(_) | IpAddress::Ipv6(_) => {}
    }
    message.attributes.push(AddressAttribute::Local(address.into()));
    message.attributes.push(AddressAttribute::Address(address.into()));
    message
}

fn parse(message: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    let mut address = None;
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for attribute in &message.attributes {
        match attribute {
            // With a peer, LOCAL is ours and ADDRESS the peer's; IPv6 without a peer has ADDRESS
            // alone.
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(given) => address = address.or(Some(*given)),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated;
    Some(Address {
        link: message.header.index,
        cidr: IpCidr::new(IpAddress::from(address?), message.header.prefix_len),
        global: message.header.scope == AddressScope::Universe,
        usable: !flags.intersects(unusable),
    })
}

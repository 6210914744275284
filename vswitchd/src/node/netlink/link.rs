//! Links: looked up, changed, made as veth pairs, removed.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use smoltcp::wire::EthernetAddress;

use super::{Netlink, doing};
use crate::node::NodeError;

/// A link as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its index, unique in its namespace.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// What made it: `tun` (a TAP too), `veth`, nothing for hardware.
    pub(crate) kind: Option<String>,
    /// Its MAC, if it has one of six bytes.
    pub(crate) mac: Option<EthernetAddress>,
    /// Its MTU in bytes.
    pub(crate) mtu: u32,
    /// Whether it is set up.
    pub(crate) up: bool,
    /// Whether it is a loopback.
    pub(crate) loopback: bool,
}

/// What to change of a link; `None` leaves things as they are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkChange {
    /// Its MAC.
    pub(crate) mac: Option<EthernetAddress>,
    /// Its MTU in bytes.
    pub(crate) mtu: Option<u16>,
    /// Frames its queue holds.
    pub(crate) queue_length: Option<u32>,
    /// Up or down.
    pub(crate) up: Option<bool>,
    /// Without address resolution.
    pub(crate) no_arp: Option<bool>,
}

impl Netlink {
    /// Looks a link up by its name.
    ///
    /// # Errors
    /// The kernel's, save that there is none.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>, NodeError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let answer = match self.get(RouteNetlinkMessage::GetLink(message)) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
            answer => doing(answer, || format!("cannot look up the interface {name}"))?,
        };
        Ok(answer.and_then(parse))
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn links(&mut self) -> Result<Vec<Link>, NodeError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let all = doing(self.dump(&request), || "cannot list the interfaces".to_owned())?;
        Ok(all.into_iter().filter_map(parse).collect())
    }

    /// Changes a link.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn set_link(&mut self, link: &Link, change: LinkChange) -> Result<(), NodeError> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        let mut flag = |flag: LinkFlags, value: Option<bool>| {
            if let Some(value) = value {
                message.header.change_mask |= flag;
                message.header.flags.set(flag, value);
            }
        };
        flag(LinkFlags::Up, change.up);
        flag(LinkFlags::Noarp, change.no_arp);
        message
            .attributes
            .extend(change.mac.map(|mac| LinkAttribute::Address(mac.as_bytes().to_vec())));
        message.attributes.extend(change.mtu.map(|mtu| LinkAttribute::Mtu(mtu.into())));
        message.attributes.extend(change.queue_length.map(LinkAttribute::TxQueueLen));
        doing(self.change(RouteNetlinkMessage::SetLink(message), 0), || {
            format!("cannot set the interface {} to {}", link.name, describe(change))
        })
    }

    /// Removes a link; one that is gone is no error.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn delete_link(&mut self, link: &Link) -> Result<(), NodeError> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        match self.change(RouteNetlinkMessage::DelLink(message), 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            result => doing(result, || format!("cannot remove the interface {}", link.name)),
        }
    }

    /// Makes a veth pair: `name` in this namespace, `peer` in the one given.
    ///
    /// # Errors
    /// The kernel's; [`NodeError::Exists`] when one of the names is taken.
    pub(crate) fn add_veth(
        &mut self,
        name: &str,
        peer: &str,
        netns: BorrowedFd<'_>,
    ) -> Result<(), NodeError> {
        let mut other = LinkMessage::default();
        other.attributes.push(LinkAttribute::IfName(peer.to_owned()));
        other.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
        ]));
        match self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Err(NodeError::Exists {
                what: format!("an interface {name} or its other end {peer}"),
            }),
            result => doing(result, || format!("cannot make the veth pair {name} and {peer}")),
        }
    }
}

fn parse(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else { return None };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        loopback: message.header.flags.contains(LinkFlags::Loopback),
    };
    for attribute in message.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            link.name = name;
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            link.mtu = mtu;
        } else if let LinkAttribute::Address(bytes) = attribute {
            link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(EthernetAddress);
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            link.kind = infos.iter().find_map(|info| match info {
                LinkInfo::Kind(kind) => Some(kind.to_string()),
                _ => None,
            });
        }
    }
    Some(link)
}

fn describe(change: LinkChange) -> String {
    let switch = |name: &str, value: bool| format!("{name} {}", if value { "on" } else { "off" });
    let parts = [
        change.mac.map(|mac| format!("MAC {mac}")),
        change.mtu.map(|mtu| format!("MTU {mtu}")),
        change.queue_length.map(|length| format!("a queue of {length} frames")),
        change.up.map(|up| if up { "up".to_owned() } else { "down".to_owned() }),
        change.no_arp.map(|value| switch("NOARP", value)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

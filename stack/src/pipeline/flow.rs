//! What is carried down the walk about a packet's connection: the flow as it came, and as it shall
//! leave.

use smoltcp::wire::{IpAddress, IpCidr, IpProtocol};

use super::packet::{Fragment, Ip, L4, Quoted};
use super::{Walk, rewrite};
use crate::config::{FrontendKind, PortKind};
use crate::input::EndpointId;
use crate::table::conntrack::{Connection, ConnectionId, Side, Track, Tuple};
use crate::table::service::Choice;
use crate::table::{Port, Slot};
use crate::trace::Rewrite;
use crate::wire::is_loopback;

/// A packet's flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    /// As the frame bears it; of an ICMP error, as the packet that it quotes came in.
    pub(crate) seen: Tuple,
    /// As it leaves. `service` and `nat` write it.
    pub(crate) out: Tuple,
    /// What it is to the table of connections.
    pub(crate) kind: Kind,
}

/// What a flow is to the table of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Nothing is kept about it and nothing of it is translated.
    Untracked,
    /// The packet makes no sense where its connection stands (Linux's INVALID): nothing is kept,
    /// and it passes only where nothing would have to be translated.
    Invalid,
    /// The first packet of a connection.
    New(Opening),
    /// A packet of a connection.
    Known {
        /// The connection's place.
        id: ConnectionId,
        /// Whose packet it is.
        side: Side,
        /// The connection as it was.
        connection: Connection,
        /// How far it comes by this packet.
        track: Track,
    },
    /// An ICMP error about a packet of a connection.
    Related {
        /// Who sent the packet that is quoted.
        side: Side,
        /// The connection.
        connection: Connection,
        /// The quotation.
        quoted: Quoted,
    },
}

/// A connection to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// How far it comes by its first packet.
    pub(crate) track: Track,
    /// Whether the packet opens: false for one amid a stream.
    pub(crate) opens: bool,
    /// What stands in its place and is over: past its deadline, closed, or of a pod that is gone.
    pub(crate) stale: Option<ConnectionId>,
    /// How it was balanced, if it asked for a Service.
    pub(crate) balanced: Option<Balanced>,
}

/// How a connection was balanced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Balanced {
    /// The frontend that was asked for.
    pub(crate) kind: FrontendKind,
    /// The backend, and what becomes of the Service's own state.
    pub(crate) choice: Choice,
}

impl Flow {
    /// Whether the packet is of a connection whose addresses or ports are changed on the way, or
    /// begins one that is led to a backend.
    pub(crate) fn is_translated(&self) -> bool {
        match &self.kind {
            Kind::Untracked | Kind::Invalid => false,
            Kind::New(opening) => opening.balanced.is_some(),
            Kind::Known { connection, .. } | Kind::Related { connection, .. } => {
                connection.is_translated()
            }
        }
    }

    /// A flow that nothing is kept about.
    pub(crate) fn untracked(ip: &Ip) -> Self {
        let seen = tuple(ip).unwrap_or_else(|| addresses(ip));
        Self { seen, out: seen, kind: Kind::Untracked }
    }
}

/// The flow of a packet that may have a connection; `None` for those that never do: neighbor
/// discovery, ICMP messages that are no echo, fragments without ports.
pub(crate) fn tuple(ip: &Ip) -> Option<Tuple> {
    let (src_port, dst_port) = match ip.l4 {
        L4::Tcp { src_port, dst_port, .. }
        | L4::Udp { src_port, dst_port }
        | L4::Sctp { src_port, dst_port } => (src_port, dst_port),
        L4::Icmp { icmp_type, ident, .. } => echo(ip.protocol, icmp_type, ident)?,
        L4::Nd(_) => return None,
        // Of a fragment without an upper header nothing is known, of other protocols only this.
        L4::Opaque if ip.fragment == Fragment::Later => return None,
        L4::Opaque => (0, 0),
    };
    Some(Tuple { src_port, dst_port, ..addresses(ip) })
}

fn addresses(ip: &Ip) -> Tuple {
    let protocol = ip.protocol.into();
    Tuple { src: ip.src, dst: ip.dst, src_port: 0, dst_port: 0, protocol }
}

/// The ports of an echo: its identifier is the asking side's.
fn echo(protocol: IpProtocol, icmp_type: u8, ident: u16) -> Option<(u16, u16)> {
    match (protocol, icmp_type) {
        (IpProtocol::Icmp, 8) | (IpProtocol::Icmpv6, 128) => Some((ident, 0)),
        (IpProtocol::Icmp, 0) | (IpProtocol::Icmpv6, 129) => Some((0, ident)),
        _ => None,
    }
}

/// The flows that a quoted packet may be of. Of an echo's quotation it is not known whether it
/// asked or answered.
pub(crate) fn quoted(quoted: &Quoted) -> impl Iterator<Item = Tuple> {
    let Quoted { src, dst, protocol, ports, .. } = *quoted;
    let is_echo = matches!(protocol, IpProtocol::Icmp | IpProtocol::Icmpv6);
    let of = move |(src_port, dst_port)| {
        let protocol = protocol.into();
        Tuple { src, dst, src_port, dst_port, protocol }
    };
    let both = ports.map_or([None, None], |(one, other)| match is_echo {
        true => [Some((one, 0)), Some((0, one))],
        false => [Some((one, other)), None],
    });
    both.into_iter().flatten().map(of)
}

/// Whether an address is in a list of prefixes.
pub(crate) fn covered(prefixes: &[IpCidr], address: &IpAddress) -> bool {
    prefixes.iter().any(|prefix| prefix.contains_addr(address))
}

/// One end of the packet as it shall be.
pub(crate) fn end(cx: &Walk<'_>, ip: &Ip, address: IpAddress, port: u16, out: &Tuple) -> Rewrite {
    let is_echo = matches!(ip.protocol, IpProtocol::Icmp | IpProtocol::Icmpv6);
    // Of an echo's two ports one is its identifier and the other 0.
    let port = if is_echo { out.src_port | out.dst_port } else { port };
    Rewrite { address, port, at: ip.l4_offset, sum: rewrite::sum(ip, cx.frame) }
}

/// Whether the packet is a copy of what the node's own stack got as well: ICMP for the node's own
/// address, which no rule diverts.
pub(crate) fn is_copy(cx: &Walk<'_>, ip: &Ip) -> bool {
    let is_icmp = matches!(ip.protocol, IpProtocol::Icmp | IpProtocol::Icmpv6);
    is_icmp && is_for_node(cx, ip)
}

/// Whether the node gave the switch a packet for its own address.
pub(crate) fn is_for_node(cx: &Walk<'_>, ip: &Ip) -> bool {
    let tables = cx.tables;
    let kind = tables.ports().by_id(cx.ingress).map(|port| port.config.kind);
    let is_own = is_loopback(&ip.dst) || tables.node().addresses.contains(&ip.dst);
    kind == Some(PortKind::Host) && is_own
}

/// The port of who answers health checks, if the packet is for it: for one of its ports at an
/// address of the node, wherever it comes from.
pub(crate) fn to_health(cx: &Walk<'_>, ip: &Ip) -> Option<Slot> {
    let node = cx.tables.node();
    let L4::Tcp { dst_port, .. } = ip.l4 else { return None };
    let is_asked = node.health_ports.binary_search(&dst_port).is_ok();
    if !is_asked || !node.addresses.contains(&ip.dst) {
        return None;
    }
    let is_its = |port: &Port| port.config.kind == PortKind::Endpoint(EndpointId::HEALTH);
    cx.tables.ports().iter().find(|(_, port)| is_its(port)).map(|(slot, _)| slot)
}

/// Whether who answers health checks says it.
pub(crate) fn from_health(cx: &Walk<'_>, ip: &Ip) -> bool {
    let L4::Tcp { src_port, .. } = ip.l4 else { return false };
    // Asked first: it is cheap, and says no nearly always.
    if cx.tables.node().health_ports.binary_search(&src_port).is_err() {
        return false;
    }
    let port = cx.tables.ports().by_id(cx.ingress);
    port.is_some_and(|port| port.config.kind == PortKind::Endpoint(EndpointId::HEALTH))
}

/// Whether the client is neither a pod nor the node.
pub(crate) fn is_from_outside(cx: &Walk<'_>, ip: &Ip) -> bool {
    let tables = cx.tables;
    let kind = tables.ports().by_id(cx.ingress).map(|port| port.config.kind);
    let node = tables.node();
    kind == Some(PortKind::Host) && !node.addresses.contains(&ip.src) && !is_loopback(&ip.src)
}

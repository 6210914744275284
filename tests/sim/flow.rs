//! Flows as frames bear them, read by the laws.

use smoltcp::wire::IpProtocol;
use stack::input::Frame;
use stack::pipeline::packet::{Fragment, Inner, Ip, L4, Packet, Quoted};
use stack::pipeline::parse::parse;
use stack::table::conntrack::Tuple;

/// What laws of translation ask of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Borne {
    /// A whole packet of a flow, and its TCP flags.
    Flow(Tuple, Option<u8>),
    /// An ICMP error about a packet of a flow.
    Error(Ip, Tuple),
    /// Something else.
    Other,
}

/// What a frame bears.
pub(crate) fn borne(frame: &Frame) -> Borne {
    let Ok(Packet { inner: Inner::Ip(ip), .. }) =
        parse(frame.window(), frame.len(), frame.offload())
    else {
        return Borne::Other;
    };
    if ip.fragment != Fragment::Whole {
        return Borne::Other;
    }
    let (ports, flags) = match ip.l4 {
        L4::Tcp { src_port, dst_port, flags, .. } => ((src_port, dst_port), Some(flags)),
        L4::Udp { src_port, dst_port } | L4::Sctp { src_port, dst_port } => {
            ((src_port, dst_port), None)
        }
        L4::Icmp { quoted: Some(quoted), .. } => {
            return about(&quoted).map_or(Borne::Other, |flow| Borne::Error(ip, flow));
        }
        L4::Icmp { icmp_type, ident, .. } => match (ip.protocol, icmp_type) {
            (IpProtocol::Icmp, 8) | (IpProtocol::Icmpv6, 128) => ((ident, 0), None),
            (IpProtocol::Icmp, 0) | (IpProtocol::Icmpv6, 129) => ((0, ident), None),
            _ => return Borne::Other,
        },
        L4::Nd(_) => return Borne::Other,
        L4::Opaque => ((0, 0), None),
    };
    let protocol = ip.protocol.into();
    let (src_port, dst_port) = ports;
    Borne::Flow(Tuple { src: ip.src, dst: ip.dst, src_port, dst_port, protocol }, flags)
}

/// The flow of a quoted packet. Of an echo it is not known which side's identifier it is: as if it
/// asked.
fn about(quoted: &Quoted) -> Option<Tuple> {
    let Quoted { src, dst, protocol, ports, .. } = *quoted;
    let (src_port, dst_port) = ports?;
    let is_echo = matches!(protocol, IpProtocol::Icmp | IpProtocol::Icmpv6);
    let dst_port = if is_echo { 0 } else { dst_port };
    Some(Tuple { src, dst, src_port, dst_port, protocol: protocol.into() })
}

/// The flow of an echo's answer is as that of a question, for comparison with a quotation.
pub(crate) fn as_quoted(flow: Tuple) -> Tuple {
    let is_echo = matches!(flow.ip_protocol(), IpProtocol::Icmp | IpProtocol::Icmpv6);
    let ident = flow.src_port | flow.dst_port;
    if is_echo { Tuple { src_port: ident, dst_port: 0, ..flow } } else { flow }
}

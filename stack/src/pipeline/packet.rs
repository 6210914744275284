//! What parse understood of a frame: values, no references, nothing of the payload.

use smoltcp::wire::{EthernetAddress, IpAddress, IpProtocol, Ipv4Address, Ipv6Address};

use crate::input::{Frame, GsoKind};
use crate::wire::ETHERNET_HEADER;

/// A frame, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Destination MAC.
    pub dst: EthernetAddress,
    /// Source MAC.
    pub src: EthernetAddress,
    /// What is inside.
    pub inner: Inner,
}

/// The network layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    /// ARP for IPv4 over Ethernet (RFC 826).
    Arp(Arp),
    /// IPv4 or IPv6.
    Ip(Ip),
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// A request; otherwise a reply.
    pub request: bool,
    /// Sender's MAC.
    pub sender_mac: EthernetAddress,
    /// Sender's address; 0.0.0.0 in a probe (RFC 5227).
    pub sender: Ipv4Address,
    /// Target's MAC.
    pub target_mac: EthernetAddress,
    /// Target's address.
    pub target: Ipv4Address,
}

/// An IP packet, either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source address.
    pub src: IpAddress,
    /// Destination address.
    pub dst: IpAddress,
    /// The upper protocol, behind extension headers.
    pub protocol: IpProtocol,
    /// Hop limit, or TTL.
    pub hop_limit: u8,
    /// Bytes of the IP packet by its header; of a super-frame, all of it.
    pub total_len: u32,
    /// Whether a router may not fragment it: DF, and always for IPv6.
    pub keep_whole: bool,
    /// Whether it is a fragment.
    pub fragment: Fragment,
    /// Whether an IPv6 routing header names stops that are still to come: `dst` is the next one
    /// only, and L4 checksums count the last (RFC 8200 section 8.1).
    pub has_stops: bool,
    /// Where the upper header starts, in bytes from the frame's begin.
    pub l4_offset: u16,
    /// The upper header.
    pub l4: L4,
}

/// Place of a packet within a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// The whole datagram (an IPv6 atomic fragment as well, RFC 6946).
    Whole,
    /// The first part: it has the upper header.
    First,
    /// A later part: it has none.
    Later,
}

/// The upper header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L4 {
    /// TCP (RFC 9293).
    Tcp {
        /// Source port, host order.
        src_port: u16,
        /// Destination port, host order.
        dst_port: u16,
        /// Flags, from bit 0: FIN SYN RST PSH ACK URG ECE CWR.
        flags: u8,
        /// Header length in bytes.
        header_len: u8,
    },
    /// UDP (RFC 768).
    Udp {
        /// Source port, host order.
        src_port: u16,
        /// Destination port, host order.
        dst_port: u16,
    },
    /// SCTP (RFC 9260).
    Sctp {
        /// Source port, host order.
        src_port: u16,
        /// Destination port, host order.
        dst_port: u16,
    },
    /// ICMP (RFC 792) or ICMPv6 (RFC 4443), by the packet's protocol.
    Icmp {
        /// Type.
        icmp_type: u8,
        /// Code.
        code: u8,
        /// Identifier of an echo, else 0.
        ident: u16,
        /// The packet inside an error.
        quoted: Option<Quoted>,
    },
    /// A neighbor discovery message (RFC 4861), valid by its section 7.1.
    Nd(Nd),
    /// Another protocol, or a later fragment: nothing is known.
    Opaque,
}

/// A neighbor discovery message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nd {
    /// Router solicitation.
    RouterSolicit {
        /// The source link-layer address option.
        link: Option<EthernetAddress>,
    },
    /// Router advertisement.
    RouterAdvert,
    /// Neighbor solicitation.
    NeighborSolicit {
        /// Who is looked for.
        target: Ipv6Address,
        /// The source link-layer address option.
        link: Option<EthernetAddress>,
    },
    /// Neighbor advertisement.
    NeighborAdvert {
        /// Whom it is about.
        target: Ipv6Address,
        /// The target link-layer address option.
        link: Option<EthernetAddress>,
    },
    /// Redirect.
    Redirect,
}

/// The packet that an ICMP error quotes, as far as it is there. Its checksums are not judged here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Source address.
    pub src: IpAddress,
    /// Destination address.
    pub dst: IpAddress,
    /// Upper protocol.
    pub protocol: IpProtocol,
    /// Where the quoted IP header starts, in bytes from the frame's begin.
    pub offset: u16,
    /// Where its upper header starts.
    pub l4_offset: u16,
    /// Ports (or echo identifier twice), when they are within the window.
    pub ports: Option<(u16, u16)>,
}

impl Packet {
    /// Bytes behind the Ethernet header of the largest frame that this one becomes on a wire.
    /// Padding behind the packet is carried as well where nobody routes, so it counts.
    #[must_use]
    pub fn carried_len(&self, frame: &Frame) -> u32 {
        match (&self.inner, frame.offload().gso) {
            (Inner::Ip(ip), Some(_)) => ip.segment_len(frame),
            (Inner::Ip(_) | Inner::Arp(_), _) => {
                u32::try_from(frame.len().saturating_sub(ETHERNET_HEADER)).unwrap_or(u32::MAX)
            }
        }
    }
}

impl Ip {
    /// Bytes of the largest IP packet that the frame becomes on a wire.
    #[must_use]
    pub fn segment_len(&self, frame: &Frame) -> u32 {
        let Some(gso) = frame.offload().gso else { return self.total_len };
        let l4 = match (gso.kind, self.l4) {
            (GsoKind::Tcp4 | GsoKind::Tcp6, L4::Tcp { header_len, .. }) => u32::from(header_len),
            _ => 8,
        };
        let headers = usize::from(self.l4_offset).saturating_sub(ETHERNET_HEADER);
        let headers = u32::try_from(headers).unwrap_or(u32::MAX);
        headers.saturating_add(l4 + u32::from(gso.size)).min(self.total_len)
    }

    /// Source and destination port, when there are any.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.l4 {
            L4::Tcp { src_port, dst_port, .. }
            | L4::Udp { src_port, dst_port }
            | L4::Sctp { src_port, dst_port } => Some((src_port, dst_port)),
            L4::Icmp { .. } | L4::Nd(_) | L4::Opaque => None,
        }
    }

    /// Whether it is an echo request.
    #[must_use]
    pub fn is_echo_request(&self) -> bool {
        let L4::Icmp { icmp_type, code: 0, .. } = self.l4 else { return false };
        icmp_type == if self.protocol == IpProtocol::Icmp { 8 } else { 128 }
    }

    /// Whether it is an ICMP or ICMPv6 error: those are never answered by another.
    #[must_use]
    pub fn is_icmp_error(&self) -> bool {
        let L4::Icmp { icmp_type, .. } = self.l4 else { return false };
        if self.protocol == IpProtocol::Icmp {
            return matches!(icmp_type, 3 | 4 | 5 | 11 | 12);
        }
        icmp_type < 128
    }
}

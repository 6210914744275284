//! Whole frames from addresses: what `hopctl trace` sends through a dry run, and what tests send.
//!
//! ```
//! use smoltcp::wire::{EthernetAddress, Ipv4Address};
//! use stack::wire::build::Link;
//!
//! let mac = |n| EthernetAddress([2, 0, 0, 0, 0, n]);
//! let link = Link { src: mac(1), dst: mac(2) };
//! let ip = |n| Ipv4Address::new(10, 1, 1, n);
//! let frame = link.ipv4(ip(5), ip(6)).udp(40_000, 53, b"who?");
//! assert_eq!(frame.len(), 14 + 20 + 8 + 4);
//! ```
//!
//! All lengths and checksums are right, and smoltcp emits what it can; what it cannot (IPv4
//! options, extension headers, fragments, any ICMP type) is emitted here. To get a wrong frame,
//! change its bytes. A payload that would make the IP packet longer than 65,535 bytes is cut to
//! what fits.

use alloc::vec;
use alloc::vec::Vec;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpAddress, IpProtocol, Ipv4Address, Ipv4Packet,
    Ipv6Address, Ipv6Packet, NdiscNeighborFlags, NdiscRepr, TcpPacket, TcpSeqNumber, UdpPacket,
    UdpRepr,
};

use crate::wire::checksum;

#[cfg(test)]
mod tests;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV4_OPTIONS_MAX: usize = 40;
const IPV6: usize = 40;
const IP_MAX: usize = 65_535;
const HOP_LIMIT: u8 = 64;
/// Neighbor discovery never crosses a router (RFC 4861 section 3.1).
const ND_HOP_LIMIT: u8 = 255;

/// TCP flags, as [`crate::pipeline::packet::L4::Tcp`] has them.
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset the connection.
    pub const RST: u8 = 4;
    /// Push.
    pub const PSH: u8 = 8;
    /// The acknowledgment number counts.
    pub const ACK: u8 = 16;
}

/// The Ethernet header: who sends a frame to whom. Everything begins here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Source MAC.
    pub src: EthernetAddress,
    /// Destination MAC.
    pub dst: EthernetAddress,
}

impl Link {
    /// A frame with any Ethertype (host order) and any bytes.
    #[must_use]
    pub fn raw(self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET];
        let ethertype = EthernetProtocol::from(ethertype);
        EthernetRepr { src_addr: self.src, dst_addr: self.dst, ethertype }
            .emit(&mut EthernetFrame::new_unchecked(&mut frame));
        frame.extend_from_slice(payload);
        frame
    }

    /// An ARP request, or else a reply. Sender and target are (MAC, address).
    #[must_use]
    pub fn arp(
        self,
        request: bool,
        sender: (EthernetAddress, Ipv4Address),
        target: (EthernetAddress, Ipv4Address),
    ) -> Vec<u8> {
        let repr = ArpRepr::EthernetIpv4 {
            operation: if request { ArpOperation::Request } else { ArpOperation::Reply },
            source_hardware_addr: sender.0,
            source_protocol_addr: sender.1,
            target_hardware_addr: target.0,
            target_protocol_addr: target.1,
        };
        let mut arp = vec![0; repr.buffer_len()];
        repr.emit(&mut ArpPacket::new_unchecked(&mut arp));
        self.raw(EthernetProtocol::Arp.into(), &arp)
    }

    /// A neighbor discovery message with hop limit 255.
    #[must_use]
    pub fn nd(self, src: Ipv6Address, dst: Ipv6Address, message: NdiscRepr<'_>) -> Vec<u8> {
        let repr = Icmpv6Repr::Ndisc(message);
        let mut bytes = vec![0; repr.buffer_len()];
        let packet = &mut Icmpv6Packet::new_unchecked(&mut bytes);
        repr.emit(&src, &dst, packet, &ChecksumCapabilities::default());
        self.ipv6(src, dst).hop_limit(ND_HOP_LIMIT).upper(IpProtocol::Icmpv6, &bytes)
    }

    /// A neighbor solicitation from `src` to the target's solicited-node group, with the source
    /// link-layer address option unless `src` is unspecified (duplicate address detection, RFC
    /// 4862 section 5.4.2). The destination MAC stays the link's: see [`solicited_node_mac`].
    #[must_use]
    pub fn neighbor_solicit(self, src: Ipv6Address, target: Ipv6Address) -> Vec<u8> {
        let lladdr = (!src.is_unspecified()).then(|| self.src.into());
        let message = NdiscRepr::NeighborSolicit { target_addr: target, lladdr };
        self.nd(src, solicited_node(target), message)
    }

    /// A neighbor advertisement that `target` is at `link`.
    #[must_use]
    pub fn neighbor_advert(
        self,
        src: Ipv6Address,
        dst: Ipv6Address,
        target: Ipv6Address,
        link: EthernetAddress,
        flags: NdiscNeighborFlags,
    ) -> Vec<u8> {
        let lladdr = Some(link.into());
        self.nd(src, dst, NdiscRepr::NeighborAdvert { flags, target_addr: target, lladdr })
    }

    /// Begins an IPv4 packet: hop limit 64, DF set, identification 0.
    #[must_use]
    pub fn ipv4(self, src: Ipv4Address, dst: Ipv4Address) -> Ip {
        Ip::new(
            self,
            Version::V4 { src, dst, keep_whole: true, ident: 0, fragment: 0, options: Vec::new() },
        )
    }

    /// Begins an IPv6 packet: hop limit 64.
    #[must_use]
    pub fn ipv6(self, src: Ipv6Address, dst: Ipv6Address) -> Ip {
        Ip::new(self, Version::V6 { src, dst, extensions: Vec::new() })
    }

    /// Begins a packet of the addresses' version; `None` when theirs differ.
    #[must_use]
    pub fn ip(self, src: IpAddress, dst: IpAddress) -> Option<Ip> {
        match (src, dst) {
            (IpAddress::Ipv4(src), IpAddress::Ipv4(dst)) => Some(self.ipv4(src, dst)),
            (IpAddress::Ipv6(src), IpAddress::Ipv6(dst)) => Some(self.ipv6(src, dst)),
            (IpAddress::Ipv4(_), IpAddress::Ipv6(_)) | (IpAddress::Ipv6(_), IpAddress::Ipv4(_)) => {
                None
            }
        }
    }
}

/// The solicited-node multicast group of an address (RFC 4291 section 2.7.1).
#[must_use]
pub fn solicited_node(address: Ipv6Address) -> Ipv6Address {
    let [.., a, b, c] = address.octets();
    Ipv6Address::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The MAC of an address's solicited-node group (RFC 2464 section 7).
#[must_use]
pub fn solicited_node_mac(address: Ipv6Address) -> EthernetAddress {
    let [.., a, b, c] = address.octets();
    EthernetAddress([0x33, 0x33, 0xff, a, b, c])
}

/// An IP packet in the making. The last call ([`Ip::udp`] and the like) gives the frame.
#[derive(Clone, Debug)]
pub struct Ip {
    link: Link,
    hop_limit: u8,
    version: Version,
}

#[derive(Clone, Debug)]
enum Version {
    V4 {
        src: Ipv4Address,
        dst: Ipv4Address,
        keep_whole: bool,
        ident: u16,
        fragment: u16,
        options: Vec<u8>,
    },
    V6 {
        src: Ipv6Address,
        dst: Ipv6Address,
        extensions: Vec<(u8, Vec<u8>)>,
    },
}

impl Ip {
    fn new(link: Link, version: Version) -> Self {
        Self { link, hop_limit: HOP_LIMIT, version }
    }

    /// Sets the hop limit, or TTL.
    #[must_use]
    pub fn hop_limit(mut self, hop_limit: u8) -> Self {
        self.hop_limit = hop_limit;
        self
    }

    /// Clears DF, so that routers may fragment it. Of IPv6 they never may.
    #[must_use]
    pub fn may_fragment(mut self) -> Self {
        if let Version::V4 { keep_whole, .. } = &mut self.version {
            *keep_whole = false;
        }
        self
    }

    /// Makes it a fragment `offset` bytes (a multiple of 8) into the datagram `datagram`, DF clear.
    /// For IPv6 a fragment header follows the extensions given so far; offset 0 without `more`
    /// makes an atomic fragment (RFC 6946). What the last call is given is the fragment's own
    /// part.
    #[must_use]
    pub fn fragment(mut self, datagram: u16, offset: u16, more: bool) -> Self {
        match &mut self.version {
            Version::V4 { keep_whole, ident, fragment, .. } => {
                *keep_whole = false;
                *ident = datagram;
                *fragment = (offset / 8) | if more { 0x2000 } else { 0 };
            }
            Version::V6 { extensions, .. } => {
                let [high, low] = ((offset & !7) | u16::from(more)).to_be_bytes();
                let [ident_high, ident_low] = datagram.to_be_bytes();
                let body = vec![high, low, 0, 0, ident_high, ident_low];
                extensions.push((IpProtocol::Ipv6Frag.into(), body));
            }
        }
        self
    }

    /// Sets the IPv4 options, at most 40 bytes, filled up with end-of-list. IPv6 has none.
    #[must_use]
    pub fn options(mut self, bytes: &[u8]) -> Self {
        if let Version::V4 { options, .. } = &mut self.version {
            *options = bytes.iter().copied().take(IPV4_OPTIONS_MAX).collect();
            options.resize(options.len().next_multiple_of(4), 0);
        }
        self
    }

    /// Appends an IPv6 extension header: its protocol number and what follows its first two bytes
    /// (next header and length), filled up with Pad1 to a multiple of 8. IPv4 has none.
    #[must_use]
    pub fn extension(mut self, protocol: IpProtocol, body: &[u8]) -> Self {
        if let Version::V6 { extensions, .. } = &mut self.version {
            let mut body = body.to_vec();
            body.resize((body.len() + 2).next_multiple_of(8) - 2, 0);
            extensions.push((protocol.into(), body));
        }
        self
    }

    /// A UDP datagram.
    #[must_use]
    pub fn udp(self, src_port: u16, dst_port: u16, payload: &[u8]) -> Vec<u8> {
        let repr = UdpRepr { src_port, dst_port };
        let payload = self.fitting(repr.header_len(), payload);
        let mut bytes = vec![0; repr.header_len() + payload.len()];
        let (src, dst) = self.addresses();
        repr.emit(
            &mut UdpPacket::new_unchecked(&mut bytes),
            &src,
            &dst,
            payload.len(),
            |room| room.copy_from_slice(payload),
            &ChecksumCapabilities::default(),
        );
        self.upper(IpProtocol::Udp, &bytes)
    }

    /// A TCP segment without options, of window 65,535. `flags` as in [`flags`].
    #[must_use]
    pub fn tcp(self, ports: (u16, u16), flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
        const HEADER: usize = 20;
        let payload = self.fitting(HEADER, payload);
        let mut bytes = vec![0; HEADER];
        bytes.extend_from_slice(payload);
        let (src, dst) = self.addresses();
        let mut segment = TcpPacket::new_unchecked(&mut bytes);
        segment.set_src_port(ports.0);
        segment.set_dst_port(ports.1);
        segment.set_seq_number(TcpSeqNumber(seq.cast_signed()));
        segment.set_ack_number(TcpSeqNumber(ack.cast_signed()));
        segment.clear_flags();
        segment.set_header_len(20);
        segment.set_fin(flags & flags::FIN != 0);
        segment.set_syn(flags & flags::SYN != 0);
        segment.set_rst(flags & flags::RST != 0);
        segment.set_psh(flags & flags::PSH != 0);
        segment.set_ack(flags & flags::ACK != 0);
        segment.set_window_len(u16::MAX);
        segment.fill_checksum(&src, &dst);
        self.upper(IpProtocol::Tcp, &bytes)
    }

    /// An echo request, or else a reply, of ICMP or ICMPv6.
    #[must_use]
    pub fn echo(self, request: bool, ident: u16, seq: u16, payload: &[u8]) -> Vec<u8> {
        let icmp_type = match (&self.version, request) {
            (Version::V4 { .. }, true) => 8,
            (Version::V4 { .. }, false) => 0,
            (Version::V6 { .. }, true) => 128,
            (Version::V6 { .. }, false) => 129,
        };
        let ([a, b], [c, d]) = (ident.to_be_bytes(), seq.to_be_bytes());
        self.icmp(icmp_type, 0, [a, b, c, d], payload)
    }

    /// Any ICMP or ICMPv6 message: type, code, the four bytes behind the checksum, and the rest (of
    /// an error the packet it quotes, from its IP header on).
    #[must_use]
    pub fn icmp(self, icmp_type: u8, code: u8, word: [u8; 4], rest: &[u8]) -> Vec<u8> {
        let rest = self.fitting(8, rest);
        let (src, dst) = self.addresses();
        let (protocol, pseudo) = match self.version {
            Version::V4 { .. } => (IpProtocol::Icmp, 0),
            Version::V6 { .. } => {
                let len = u32::try_from(8 + rest.len()).unwrap_or(u32::MAX);
                (
                    IpProtocol::Icmpv6,
                    checksum::pseudo_header(src, dst, IpProtocol::Icmpv6.into(), len),
                )
            }
        };
        let sums =
            pseudo + checksum::sum(&[icmp_type, code]) + checksum::sum(&word) + checksum::sum(rest);
        let [high, low] = (!checksum::fold(sums)).to_be_bytes();
        let mut bytes = vec![icmp_type, code, high, low];
        bytes.extend_from_slice(&word);
        bytes.extend_from_slice(rest);
        self.upper(protocol, &bytes)
    }

    /// The packet with these bytes behind its IP header: any protocol, or a fragment's part.
    #[must_use]
    pub fn upper(self, protocol: IpProtocol, bytes: &[u8]) -> Vec<u8> {
        let bytes = self.fitting(0, bytes);
        match self.version {
            Version::V4 { src, dst, keep_whole, ident, fragment, options } => {
                let header_len = IPV4 + options.len();
                let mut ip = vec![0; IPV4];
                ip.extend_from_slice(&options);
                let mut header = Ipv4Packet::new_unchecked(&mut ip);
                header.set_version(4);
                header.set_header_len(u8::try_from(header_len).unwrap_or(0));
                header.set_total_len(u16::try_from(header_len + bytes.len()).unwrap_or(u16::MAX));
                header.set_ident(ident);
                header.clear_flags();
                header.set_dont_frag(keep_whole);
                header.set_more_frags(fragment & 0x2000 != 0);
                header.set_frag_offset((fragment & 0x1fff) * 8);
                header.set_hop_limit(self.hop_limit);
                header.set_next_header(protocol);
                header.set_src_addr(src);
                header.set_dst_addr(dst);
                header.fill_checksum();
                ip.extend_from_slice(bytes);
                self.link.raw(EthernetProtocol::Ipv4.into(), &ip)
            }
            Version::V6 { src, dst, extensions } => {
                let chained: Vec<u8> = chain(&extensions, protocol);
                let next =
                    extensions.first().map_or(protocol, |(number, _)| IpProtocol::from(*number));
                let mut ip = vec![0; IPV6];
                let mut header = Ipv6Packet::new_unchecked(&mut ip);
                header.set_version(6);
                header.set_payload_len(
                    u16::try_from(chained.len() + bytes.len()).unwrap_or(u16::MAX),
                );
                header.set_next_header(next);
                header.set_hop_limit(self.hop_limit);
                header.set_src_addr(src);
                header.set_dst_addr(dst);
                ip.extend_from_slice(&chained);
                ip.extend_from_slice(bytes);
                self.link.raw(EthernetProtocol::Ipv6.into(), &ip)
            }
        }
    }

    fn addresses(&self) -> (IpAddress, IpAddress) {
        match self.version {
            Version::V4 { src, dst, .. } => (src.into(), dst.into()),
            Version::V6 { src, dst, .. } => (src.into(), dst.into()),
        }
    }

    /// As much of `payload` as the packet can take behind an upper header of `header` bytes.
    fn fitting<'p>(&self, header: usize, payload: &'p [u8]) -> &'p [u8] {
        let before = match &self.version {
            Version::V4 { options, .. } => IPV4 + options.len(),
            Version::V6 { extensions, .. } => IPV6 + chain(extensions, IpProtocol::Ipv6NoNxt).len(),
        };
        let room = IP_MAX.saturating_sub(before + header);
        payload.get(..room).unwrap_or(payload)
    }
}

/// Extension headers one behind the other, the last naming `protocol`.
fn chain(extensions: &[(u8, Vec<u8>)], protocol: IpProtocol) -> Vec<u8> {
    let nexts = extensions.iter().skip(1).map(|(number, _)| *number).chain([protocol.into()]);
    let mut bytes = Vec::new();
    for ((_, body), next) in extensions.iter().zip(nexts) {
        let units = (body.len() + 2) / 8;
        bytes.push(next);
        bytes.push(u8::try_from(units.saturating_sub(1)).unwrap_or(u8::MAX));
        bytes.extend_from_slice(body);
    }
    bytes
}

//! Bytes of answers, by smoltcp's Reprs where they fit. A quoted packet must stay as it came,
//! options and identification included, so ICMP errors are laid out here around it.

use alloc::vec;
use alloc::vec::Vec;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr,
    Ipv6Address, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr, TcpControl, TcpPacket,
    TcpRepr, TcpSeqNumber,
};

use super::super::packet::{Arp, Ip, L4};
use super::HOP_LIMIT;
use crate::input::{Checksum, Frame};
use crate::wire::ETHERNET_HEADER;
use crate::wire::build::{Link, flags};
use crate::wire::checksum;

/// Who an error comes from and what it says.
pub(super) struct Header {
    pub(super) gateway: EthernetAddress,
    pub(super) dst: EthernetAddress,
    pub(super) icmp_type: u8,
    pub(super) code: u8,
    pub(super) mtu: u16,
}

/// Bytes of an ICMP error before the quoted packet, either version.
const ERROR_HEADER: usize = 8;
/// DSCP of errors: precedence 6, internetwork control (RFC 1812 section 4.3.2.5).
const DSCP_CONTROL: u8 = 48;

fn ethernet(frame: &mut Frame, src: EthernetAddress, dst: EthernetAddress, kind: EthernetProtocol) {
    let repr = EthernetRepr { src_addr: src, dst_addr: dst, ethertype: kind };
    repr.emit(&mut EthernetFrame::new_unchecked(frame.bytes_mut()));
}

fn sized(len: usize) -> Frame {
    let mut frame = Frame::with_capacity(ETHERNET_HEADER + len);
    frame.set_len(ETHERNET_HEADER + len);
    frame
}

fn body(frame: &mut Frame) -> &mut [u8] {
    frame.bytes_mut().get_mut(ETHERNET_HEADER..).unwrap_or(&mut [])
}

/// The reply to an ARP request (RFC 826): from the owner, as if it had answered itself.
pub(super) fn arp(request: &Arp, asker: EthernetAddress, owner: EthernetAddress) -> Frame {
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: owner,
        source_protocol_addr: request.target,
        target_hardware_addr: request.sender_mac,
        target_protocol_addr: request.sender,
    };
    let mut frame = sized(repr.buffer_len());
    ethernet(&mut frame, owner, asker, EthernetProtocol::Arp);
    repr.emit(&mut ArpPacket::new_unchecked(body(&mut frame)));
    frame
}

/// The answer to a neighbor solicitation (RFC 4861 section 7.2.4); to all nodes when the asker has
/// no address yet, so that duplicate address detection sees the conflict.
pub(super) fn neighbor_advert(
    request: &Ip,
    asker: EthernetAddress,
    target: Ipv6Address,
    owner: EthernetAddress,
    router: bool,
) -> Frame {
    let probing = request.src == IpAddress::Ipv6(Ipv6Address::UNSPECIFIED);
    let (dst, dst_mac) = match request.src {
        IpAddress::Ipv6(src) if !probing => (src, asker),
        IpAddress::Ipv6(_) | IpAddress::Ipv4(_) => (
            Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
            EthernetAddress([0x33, 0x33, 0, 0, 0, 1]),
        ),
    };
    let mut flags = NdiscNeighborFlags::OVERRIDE;
    flags.set(NdiscNeighborFlags::SOLICITED, !probing);
    flags.set(NdiscNeighborFlags::ROUTER, router);
    let lladdr = Some(owner.into());
    let advert =
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { flags, target_addr: target, lladdr });
    let header = Ipv6Repr {
        src_addr: target,
        dst_addr: dst,
        next_header: IpProtocol::Icmpv6,
        payload_len: advert.buffer_len(),
        hop_limit: 255,
    };
    let mut frame = sized(header.buffer_len() + advert.buffer_len());
    ethernet(&mut frame, owner, dst_mac, EthernetProtocol::Ipv6);
    let mut packet = Ipv6Packet::new_unchecked(body(&mut frame));
    header.emit(&mut packet);
    let mut icmp = Icmpv6Packet::new_unchecked(packet.payload_mut());
    advert.emit(&target, &dst, &mut icmp, &ChecksumCapabilities::default());
    frame
}

/// An ICMP or ICMPv6 error that quotes what the header window of `refused` holds of `packet`.
pub(super) fn error(
    header: &Header,
    (src, dst): (IpAddress, IpAddress),
    packet: &Ip,
    refused: &Frame,
) -> Option<Frame> {
    let icmp = icmp(header, src, dst, quote(packet, refused).get(ETHERNET_HEADER..)?);
    match (src, dst) {
        (IpAddress::Ipv4(src_addr), IpAddress::Ipv4(dst_addr)) => {
            let ip = Ipv4Repr {
                src_addr,
                dst_addr,
                next_header: IpProtocol::Icmp,
                payload_len: icmp.len(),
                hop_limit: HOP_LIMIT,
            };
            let mut frame = sized(ip.buffer_len() + icmp.len());
            ethernet(&mut frame, header.gateway, header.dst, EthernetProtocol::Ipv4);
            let mut packet = Ipv4Packet::new_unchecked(body(&mut frame));
            ip.emit(&mut packet, &ChecksumCapabilities::default());
            packet.set_dscp(DSCP_CONTROL);
            packet.fill_checksum();
            packet.payload_mut().copy_from_slice(&icmp);
            Some(frame)
        }
        (IpAddress::Ipv6(src_addr), IpAddress::Ipv6(dst_addr)) => {
            let ip = Ipv6Repr {
                src_addr,
                dst_addr,
                next_header: IpProtocol::Icmpv6,
                payload_len: icmp.len(),
                hop_limit: HOP_LIMIT,
            };
            let mut frame = sized(ip.buffer_len() + icmp.len());
            ethernet(&mut frame, header.gateway, header.dst, EthernetProtocol::Ipv6);
            let mut packet = Ipv6Packet::new_unchecked(body(&mut frame));
            ip.emit(&mut packet);
            packet.payload_mut().copy_from_slice(&icmp);
            Some(frame)
        }
        (IpAddress::Ipv4(_), IpAddress::Ipv6(_)) | (IpAddress::Ipv6(_), IpAddress::Ipv4(_)) => None,
    }
}

/// The header window as far as it is the packet's, with its L4 checksum completed when all that it
/// covers is there: the quote is what would have gone over the wire. Of a longer packet nobody can
/// verify the checksum anyway.
fn quote(packet: &Ip, refused: &Frame) -> Vec<u8> {
    let mut window = refused.window().to_vec();
    let end = usize::try_from(packet.total_len).map_or(usize::MAX, |len| ETHERNET_HEADER + len);
    window.truncate(end);
    if let Checksum::Partial { start, offset } = refused.offload().checksum
        && window.len() == end
    {
        let (start, at) = (usize::from(start), usize::from(start) + usize::from(offset));
        let check = !window.get(start..).map_or(0, |bytes| checksum::fold(checksum::sum(bytes)));
        // UDP's zero means "none" (RFC 768); for TCP both zeros are the same number.
        let check = if check == 0 { 0xffff } else { check };
        if let Some(place) = window.get_mut(at..at + 2) {
            place.copy_from_slice(&check.to_be_bytes());
        }
    }
    window
}

/// Type, code, checksum, MTU, the quoted packet. The MTU's 16 bits stand in the last two of the
/// four bytes behind the checksum in both versions (RFC 1191 section 4, RFC 4443 section 3.2).
fn icmp(header: &Header, src: IpAddress, dst: IpAddress, quote: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ERROR_HEADER + quote.len());
    bytes.extend([header.icmp_type, header.code, 0, 0, 0, 0]);
    bytes.extend(header.mtu.to_be_bytes());
    bytes.extend(quote);
    let mut sum = checksum::sum(&bytes);
    if matches!(src, IpAddress::Ipv6(_)) {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        sum += checksum::pseudo_header(src, dst, IpProtocol::Icmpv6.into(), len);
    }
    let check = !checksum::fold(sum);
    if let Some(place) = bytes.get_mut(2..4) {
        place.copy_from_slice(&check.to_be_bytes());
    }
    bytes
}

/// The answer to a segment of a connection that is not there (RFC 9293 section 3.10.7.1), from the
/// address it was sent to. `refused` is its frame.
pub(super) fn reset(link: Link, packet: &Ip, refused: &Frame) -> Option<Frame> {
    let L4::Tcp { src_port, dst_port, flags, header_len } = packet.l4 else { return None };
    let segment = refused.window().get(usize::from(packet.l4_offset)..)?;
    let [_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, ..] = *segment.first_chunk::<20>()?;
    let (seq, ack) = (i32::from_be_bytes([s0, s1, s2, s3]), i32::from_be_bytes([a0, a1, a2, a3]));
    let (seq_number, ack_number) = if flags & flags::ACK != 0 {
        (TcpSeqNumber(ack), None)
    } else {
        // SYN and FIN count as a byte each (RFC 9293 section 3.4).
        let headers =
            usize::from(packet.l4_offset).saturating_sub(ETHERNET_HEADER) + usize::from(header_len);
        let payload = packet.total_len.saturating_sub(u32::try_from(headers).unwrap_or(u32::MAX));
        let marks = (flags & (flags::SYN | flags::FIN)).count_ones();
        let after = seq.wrapping_add_unsigned(payload + marks);
        (TcpSeqNumber(0), Some(TcpSeqNumber(after)))
    };
    let repr = TcpRepr {
        src_port: dst_port,
        dst_port: src_port,
        control: TcpControl::Rst,
        seq_number,
        ack_number,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let mut bytes = vec![0; repr.buffer_len()];
    let (src, dst) = (packet.dst, packet.src);
    let emitted = &mut TcpPacket::new_unchecked(&mut bytes);
    repr.emit(emitted, &src, &dst, &ChecksumCapabilities::default());
    let ip = link.ip(src, dst)?.hop_limit(HOP_LIMIT);
    Some(Frame::from_bytes(&ip.upper(IpProtocol::Tcp, &bytes)))
}

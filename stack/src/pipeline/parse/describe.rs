//! A header window as one clause, for people.
//!
//! It is parsed like a frame as long as its IP header says; what then is missing from [`Packet`]
//! (sequence numbers, fragment offsets, the MTU of an error) is read beside it. What does not parse
//! is shown as far as its addresses.

use core::fmt::{Result, Write};

use smoltcp::wire::{EthernetAddress, IpAddress, IpProtocol, Ipv4Address, Ipv6Address};

use super::ipv6::Chain;
use super::l4::{SCTP, SCTP_HEADER, UDP_HEADER};
use super::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IP_MAX, icmp, ipv4, ipv6};
use crate::input::{Frame, Offload};
use crate::pipeline::packet::{Arp, Fragment, Inner, Ip, L4, Nd, Packet, Quoted};
use crate::wire::ETHERNET_HEADER;
use crate::wire::Mac;

/// See [`super::describe()`].
pub(super) fn describe(window: &[u8], f: &mut dyn Write) -> Result {
    match super::parse(window, spoken_len(window), &Offload::default()) {
        Ok(Packet { inner: Inner::Arp(packet), .. }) => arp(&packet, f),
        Ok(Packet { inner: Inner::Ip(packet), .. }) => ip(window, &packet, f),
        Err(_) => broken(window, f),
    }
}

/// Source and destination address of a window that holds an IP header.
pub(super) fn addresses(window: &[u8]) -> Option<(IpAddress, IpAddress)> {
    match ethertype(window)? {
        ETHERTYPE_IPV4 => {
            let header = header::<{ ipv4::HEADER }>(window)?;
            let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
            let (src, dst) = (Ipv4Address::new(s0, s1, s2, s3), Ipv4Address::new(d0, d1, d2, d3));
            (header.first()? >> 4 == 4).then_some((src.into(), dst.into()))
        }
        ETHERTYPE_IPV6 => {
            let header = header::<{ ipv6::HEADER }>(window)?;
            let (src, dst) = header.last_chunk::<32>()?.split_at(16);
            let (src, dst) = (src.first_chunk::<16>()?, dst.first_chunk::<16>()?);
            let (src, dst) = (Ipv6Address::from(*src), Ipv6Address::from(*dst));
            (header.first()? >> 4 == 6).then_some((src.into(), dst.into()))
        }
        _ => None,
    }
}

fn ethertype(window: &[u8]) -> Option<u16> {
    window.get(12..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// The first bytes of the IP header.
fn header<const N: usize>(window: &[u8]) -> Option<&[u8; N]> {
    window.get(ETHERNET_HEADER..)?.first_chunk()
}

/// The frame's length by its IP header, or else the window's own.
fn spoken_len(window: &[u8]) -> usize {
    let spoken = match (ethertype(window), header::<6>(window)) {
        (Some(ETHERTYPE_IPV4), Some([_, _, high, low, ..])) => {
            ETHERNET_HEADER + usize::from(u16::from_be_bytes([*high, *low]))
        }
        (Some(ETHERTYPE_IPV6), Some([.., high, low])) => {
            ETHERNET_HEADER + ipv6::HEADER + usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => window.len(),
    };
    spoken.max(window.len().min(Frame::WINDOW))
}

fn arp(arp: &Arp, f: &mut dyn Write) -> Result {
    if arp.request {
        write!(f, "arp who has {} tell {}", arp.target, arp.sender)
    } else {
        write!(f, "arp {} is at {}", arp.sender, Mac(arp.sender_mac))
    }
}

fn ip(window: &[u8], ip: &Ip, f: &mut dyn Write) -> Result {
    let ports = ip.ports();
    endpoints((ip.src, ip.dst), ports, f)?;
    if let L4::Nd(message) = ip.l4 {
        return nd(&message, f);
    }
    let is_ipv6 = matches!(ip.src, IpAddress::Ipv6(_));
    protocol(ip.protocol, is_ipv6, f)?;
    let upper = usize::from(ip.l4_offset);
    let total = usize::try_from(ip.total_len).unwrap_or(IP_MAX);
    let upper_len = (ETHERNET_HEADER + total).saturating_sub(upper);
    let bytes = window.get(upper..).unwrap_or(&[]);
    let header_len = match ip.l4 {
        L4::Tcp { flags, header_len, .. } => {
            tcp(bytes, flags, f)?;
            usize::from(header_len)
        }
        L4::Udp { .. } => UDP_HEADER,
        L4::Sctp { .. } => SCTP_HEADER,
        L4::Icmp { icmp_type, code, quoted, .. } => {
            message(is_ipv6, icmp_type, code, bytes, f)?;
            if let Some(quoted) = quoted {
                about(&quoted, f)?;
            }
            icmp::HEADER
        }
        L4::Nd(_) | L4::Opaque => 0,
    };
    if ip.fragment != Fragment::Whole {
        place(window, ip, f)?;
    }
    write!(f, " {}B", upper_len.saturating_sub(header_len))
}

/// `ipv4 10.1.1.5:40000 > 10.96.0.10:53`, ports only if known.
fn endpoints(
    (src, dst): (IpAddress, IpAddress),
    ports: Option<(u16, u16)>,
    f: &mut dyn Write,
) -> Result {
    f.write_str(if matches!(src, IpAddress::Ipv4(_)) { "ipv4 " } else { "ipv6 " })?;
    endpoint(src, ports.map(|(port, _)| port), f)?;
    f.write_str(" > ")?;
    endpoint(dst, ports.map(|(_, port)| port), f)
}

fn endpoint(address: IpAddress, port: Option<u16>, f: &mut dyn Write) -> Result {
    match (address, port) {
        (address, None) => write!(f, "{address}"),
        (IpAddress::Ipv4(address), Some(port)) => write!(f, "{address}:{port}"),
        (IpAddress::Ipv6(address), Some(port)) => write!(f, "[{address}]:{port}"),
    }
}

fn protocol(protocol: IpProtocol, is_ipv6: bool, f: &mut dyn Write) -> Result {
    let own_icmp = if is_ipv6 { IpProtocol::Icmpv6 } else { IpProtocol::Icmp };
    let names = [
        (IpProtocol::Tcp, "tcp"),
        (IpProtocol::Udp, "udp"),
        (SCTP, "sctp"),
        (own_icmp, "icmp"),
        (IpProtocol::Igmp, "igmp"),
        (IpProtocol::IpSecEsp, "esp"),
        (IpProtocol::IpSecAh, "ah"),
        (IpProtocol::Ipv6NoNxt, "nothing"),
    ];
    match names.iter().find(|(named, _)| *named == protocol) {
        Some((_, name)) => write!(f, " {name}"),
        None => write!(f, " protocol {}", u8::from(protocol)),
    }
}

fn tcp(bytes: &[u8], flags: u8, f: &mut dyn Write) -> Result {
    const NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
    let mut separator = ' ';
    for (bit, name) in NAMES.iter().enumerate() {
        if flags & (1 << bit) != 0 {
            write!(f, "{separator}{name}")?;
            separator = '+';
        }
    }
    let number = |at| bytes.get(at..).and_then(<[u8]>::first_chunk).map(|n| u32::from_be_bytes(*n));
    if let Some(seq) = number(4) {
        write!(f, " seq {seq}")?;
    }
    match number(8) {
        Some(ack) if flags & 0x10 != 0 => write!(f, " ack {ack}"),
        _ => Ok(()),
    }
}

fn message(is_ipv6: bool, icmp_type: u8, code: u8, bytes: &[u8], f: &mut dyn Write) -> Result {
    let [high, low] = bytes.get(6..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0, 0]);
    let second = u16::from_be_bytes([high, low]);
    let first = bytes.get(4..).and_then(<[u8]>::first_chunk).map_or(0, |b| u16::from_be_bytes(*b));
    let name = match (is_ipv6, icmp_type) {
        (false, 8) | (true, 128) => return write!(f, " echo request id {first} seq {second}"),
        (false, 0) | (true, 129) => return write!(f, " echo reply id {first} seq {second}"),
        (true, 2) => {
            let mtu = u32::from(first) << 16 | u32::from(second);
            return write!(f, " too big mtu {mtu}");
        }
        (false, 3) if code == 4 => return write!(f, " too big mtu {second}"),
        (false, 3) | (true, 1) => "unreachable",
        (false, 5) => "redirect",
        (false, 11) | (true, 3) => "time exceeded",
        (false, 12) | (true, 4) => "parameter problem",
        (true, 130) => "listener query",
        (true, 131 | 143) => "listener report",
        (true, 132) => "listener done",
        _ => return write!(f, " type {icmp_type} code {code}"),
    };
    write!(f, " {name} code {code}")
}

/// The packet an error is about.
fn about(quoted: &Quoted, f: &mut dyn Write) -> Result {
    let is_ipv6 = matches!(quoted.src, IpAddress::Ipv6(_));
    let echo = matches!(quoted.protocol, IpProtocol::Icmp | IpProtocol::Icmpv6);
    f.write_str(" about ")?;
    endpoint(quoted.src, quoted.ports.filter(|_| !echo).map(|(port, _)| port), f)?;
    f.write_str(" > ")?;
    endpoint(quoted.dst, quoted.ports.filter(|_| !echo).map(|(_, port)| port), f)?;
    protocol(quoted.protocol, is_ipv6, f)?;
    match quoted.ports {
        Some((ident, _)) if echo => write!(f, " id {ident}"),
        _ => Ok(()),
    }
}

fn nd(message: &Nd, f: &mut dyn Write) -> Result {
    match message {
        Nd::RouterSolicit { .. } => f.write_str(" nd router solicit"),
        Nd::RouterAdvert => f.write_str(" nd router advert"),
        Nd::NeighborSolicit { target, .. } => write!(f, " nd neighbor solicit {target}"),
        Nd::NeighborAdvert { target, link: None } => write!(f, " nd neighbor advert {target}"),
        Nd::NeighborAdvert { target, link: Some(link) } => {
            write!(f, " nd neighbor advert {target} is at {}", Mac(*link))
        }
        Nd::Redirect => f.write_str(" nd redirect"),
    }
}

/// Which part of which datagram it is.
fn place(window: &[u8], ip: &Ip, f: &mut dyn Write) -> Result {
    let Some((ident, offset, more)) = part(window, ip) else { return Ok(()) };
    let more = if more { " more" } else { "" };
    write!(f, " fragment id {ident} at {offset}{more}")
}

/// Identification, offset in bytes, and whether more follow.
fn part(window: &[u8], ip: &Ip) -> Option<(u32, u16, bool)> {
    if let IpAddress::Ipv4(_) = ip.src {
        let [_, _, _, _, i0, i1, p0, p1, ..] = *header::<{ ipv4::HEADER }>(window)?;
        let place = u16::from_be_bytes([p0, p1]);
        let ident = u32::from(u16::from_be_bytes([i0, i1]));
        return Some((ident, (place & 0x1fff) * 8, place & 0x2000 != 0));
    }
    let [_, _, _, _, _, _, next, ..] = *header::<{ ipv6::HEADER }>(window)?;
    let end = ETHERNET_HEADER + usize::try_from(ip.total_len).ok()?;
    let chain = Chain::walk(window, end, IpProtocol::from(next)).ok()?;
    let bytes = window.get(chain.fragment_header?..)?;
    let [_, _, p0, p1, i0, i1, i2, i3] = *bytes.first_chunk::<{ ipv6::FRAGMENT_HEADER }>()?;
    let place = u16::from_be_bytes([p0, p1]);
    Some((u32::from_be_bytes([i0, i1, i2, i3]), place & !7, place & 1 != 0))
}

/// What is left to say of a frame that does not parse.
fn broken(window: &[u8], f: &mut dyn Write) -> Result {
    if let Some((src, dst)) = addresses(window) {
        endpoints((src, dst), None, f)?;
        let is_ipv6 = matches!(src, IpAddress::Ipv6(_));
        let at = if is_ipv6 { 6 } else { 9 };
        let number = window.get(ETHERNET_HEADER + at).copied().unwrap_or(0);
        return protocol(IpProtocol::from(number), is_ipv6, f);
    }
    let Some([d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, high, low]) =
        window.first_chunk::<ETHERNET_HEADER>()
    else {
        return write!(f, "no ethernet header, {}B", window.len());
    };
    let src = Mac(EthernetAddress([*s0, *s1, *s2, *s3, *s4, *s5]));
    let dst = Mac(EthernetAddress([*d0, *d1, *d2, *d3, *d4, *d5]));
    let ethertype = u16::from_be_bytes([*high, *low]);
    let name = if ethertype == ETHERTYPE_ARP { " arp" } else { "" };
    // All that is known of its length is what was recorded.
    let more = if window.len() < Frame::WINDOW { "" } else { " or more" };
    write!(f, "ethernet {src} > {dst} type {ethertype:#06x}{name} {}B{more}", window.len())
}

//! ICMP (RFC 792) and ICMPv6 (RFC 4443), with the packet that an error quotes.
//!
//! Senders quote what they like, down to 8 bytes behind the IP header, so a quotation is read as
//! far as it goes; one that makes no sense is no reason to drop the error (RFC 5508 section 4.2
//! leaves checksums of quoted packets unjudged as well).

use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Address, Ipv6Address};

use super::l4::SCTP;
use super::nd;
use super::upper::{Ipv6Facts, Upper};
use super::{ipv4, ipv6};
use crate::drop::DropReason;
use crate::pipeline::packet::{L4, Quoted};

/// Bytes of every message's header; ICMPv6 calls the last four body.
pub(super) const HEADER: usize = 8;

pub(super) fn parse4(upper: &Upper<'_>) -> Result<L4, DropReason> {
    let [icmp_type, code, _, _, ident_high, ident_low, ..] = *upper.header::<HEADER>()?;
    let (ident, quoted) = match icmp_type {
        0 | 8 => (u16::from_be_bytes([ident_high, ident_low]), None),
        3 | 4 | 5 | 11 | 12 => (0, quoted4(upper)),
        _ => (0, None),
    };
    Ok(L4::Icmp { icmp_type, code, ident, quoted })
}

pub(super) fn parse6(upper: &Upper<'_>, facts: &Ipv6Facts) -> Result<L4, DropReason> {
    let [icmp_type, code, _, _, ident_high, ident_low, ..] = *upper.header::<HEADER>()?;
    let (ident, quoted) = match icmp_type {
        128 | 129 => (u16::from_be_bytes([ident_high, ident_low]), None),
        1..=4 => (0, quoted6(upper)),
        133..=137 => return nd::parse(upper, facts, icmp_type, code).map(L4::Nd),
        _ => (0, None),
    };
    Ok(L4::Icmp { icmp_type, code, ident, quoted })
}

#[cold]
fn quoted4(upper: &Upper<'_>) -> Option<Quoted> {
    let bytes = upper.bytes.get(HEADER..)?;
    let header = bytes.first_chunk::<{ ipv4::HEADER }>()?;
    let [version, _, _, _, _, _, place_high, place_low, _, protocol, _, _, addresses @ ..] =
        *header;
    let header_len = usize::from(version & 0x0f) * 4;
    if version >> 4 != 4 || header_len < ipv4::HEADER || header_len > bytes.len() {
        return None;
    }
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    let later = u16::from_be_bytes([place_high, place_low]) & 0x1fff != 0;
    let (src, dst) = (Ipv4Address::new(s0, s1, s2, s3), Ipv4Address::new(d0, d1, d2, d3));
    quoted(upper, (src.into(), dst.into()), IpProtocol::from(protocol), header_len, later)
}

#[cold]
fn quoted6(upper: &Upper<'_>) -> Option<Quoted> {
    let bytes = upper.bytes.get(HEADER..)?;
    let header = bytes.first_chunk::<{ ipv6::HEADER }>()?;
    let [version, _, _, _, _, _, next, _, addresses @ ..] = header;
    if version >> 4 != 6 {
        return None;
    }
    let src = addresses.first_chunk::<16>()?;
    let dst = addresses.last_chunk::<16>()?;
    let (src, dst) = (Ipv6Address::from(*src), Ipv6Address::from(*dst));
    let mut protocol = IpProtocol::from(*next);
    let mut at = ipv6::HEADER;
    let mut later = false;
    while !later {
        let len = if protocol == IpProtocol::Ipv6Frag {
            let place = bytes.get(at + 2..)?.first_chunk()?;
            later = u16::from_be_bytes(*place) & !7 != 0;
            ipv6::FRAGMENT_HEADER
        } else if ipv6::is_stepped_over(protocol) {
            (usize::from(*bytes.get(at + 1)?) + 1) * 8
        } else {
            break;
        };
        protocol = IpProtocol::from(*bytes.get(at)?);
        at += len;
    }
    quoted(upper, (src.into(), dst.into()), protocol, at, later)
}

/// The quotation, its upper header `at` bytes behind its begin.
fn quoted(
    upper: &Upper<'_>,
    (src, dst): (IpAddress, IpAddress),
    protocol: IpProtocol,
    at: usize,
    later: bool,
) -> Option<Quoted> {
    let offset = upper.offset + HEADER;
    let bytes = upper.bytes.get(HEADER + at..)?;
    let ports =
        if later { None } else { ports(protocol, matches!(src, IpAddress::Ipv6(_)), bytes) };
    Some(Quoted {
        src,
        dst,
        protocol,
        offset: u16::try_from(offset).ok()?,
        l4_offset: u16::try_from(offset + at).ok()?,
        ports,
    })
}

/// Ports, or an echo's identifier twice.
fn ports(protocol: IpProtocol, is_ipv6: bool, bytes: &[u8]) -> Option<(u16, u16)> {
    if matches!(protocol, IpProtocol::Tcp | IpProtocol::Udp | SCTP) {
        let [s0, s1, d0, d1] = *bytes.first_chunk()?;
        return Some((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])));
    }
    let [icmp_type, _, _, _, ident_high, ident_low] = *bytes.first_chunk()?;
    let is_echo = match (protocol, is_ipv6) {
        (IpProtocol::Icmp, false) => matches!(icmp_type, 0 | 8),
        (IpProtocol::Icmpv6, true) => matches!(icmp_type, 128 | 129),
        _ => false,
    };
    let ident = u16::from_be_bytes([ident_high, ident_low]);
    is_echo.then_some((ident, ident))
}

//! The IPv4 header (RFC 791), judged in the order of RFC 1812 section 5.2.2.

use smoltcp::wire::{IpProtocol, Ipv4Address};

use super::fragment::Place;
use super::l4;
use super::upper::Upper;
use crate::drop::DropReason;
use crate::pipeline::packet::{Fragment, Ip};
use crate::wire::ETHERNET_HEADER;
use crate::wire::checksum;

/// Bytes of a header without options.
pub(in crate::pipeline) const HEADER: usize = 20;
/// Don't fragment.
const DF: u16 = 0x4000;
/// More fragments.
const MF: u16 = 0x2000;
/// The offset, in units of 8 bytes.
const OFFSET: u16 = 0x1fff;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_LOOSE_ROUTE: u8 = 131;
const OPTION_STRICT_ROUTE: u8 = 137;

/// `bytes` is what the window has behind the Ethernet header, `len` what the frame has.
pub(super) fn parse(window: &[u8], bytes: &[u8], len: usize) -> Result<Ip, DropReason> {
    let Some((header, behind)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(DropReason::Truncated);
    };
    let [version, _, len_high, len_low, id_high, id_low, flags_high, flags_low, rest @ ..] =
        *header;
    let [hop_limit, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = rest;
    let header_len = usize::from(version & 0x0f) * 4;
    let total_len = u16::from_be_bytes([len_high, len_low]);
    let end = usize::from(total_len);
    if version >> 4 != 4 || header_len < HEADER || end < header_len || end > len {
        return Err(DropReason::Ipv4HeaderInvalid);
    }
    let options = behind.get(..header_len - HEADER).ok_or(DropReason::HeaderChainTooLong)?;
    if checksum::fold(checksum::sum_of(header) + checksum::sum(options)) != 0xffff {
        return Err(DropReason::Ipv4ChecksumBad);
    }
    if !options.is_empty() {
        judge_options(options)?;
    }
    let protocol = IpProtocol::from(protocol);
    let place = u16::from_be_bytes([flags_high, flags_low]);
    let fragment = if place & (MF | OFFSET) == 0 {
        Fragment::Whole
    } else {
        let offset = usize::from(place & OFFSET) * 8;
        let (len, more) = (end - header_len, place & MF != 0);
        let id = u32::from(u16::from_be_bytes([id_high, id_low]));
        Place { id, offset, len, more, before: header_len, protocol }.judge()?
    };
    let offset = ETHERNET_HEADER + header_len;
    let end = ETHERNET_HEADER + end;
    let bytes = window.get(offset..end.min(window.len())).unwrap_or(&[]);
    let upper = Upper { protocol, offset, bytes, len: end - offset, fragment, ipv6: None };
    Ok(Ip {
        src: Ipv4Address::new(s0, s1, s2, s3).into(),
        dst: Ipv4Address::new(d0, d1, d2, d3).into(),
        protocol,
        hop_limit,
        total_len: u32::from(total_len),
        keep_whole: place & DF != 0,
        has_stops: false,
        fragment,
        l4_offset: u16::try_from(offset).unwrap_or(u16::MAX),
        l4: l4::parse(&upper)?,
    })
}

/// Options are carried as they are, source routes excepted (RFC 7126 sections 4.3 and 4.4).
#[cold]
fn judge_options(mut options: &[u8]) -> Result<(), DropReason> {
    let mut source_routed = false;
    while let [kind, rest @ ..] = options {
        options = match *kind {
            OPTION_END => break,
            OPTION_NOP => rest,
            kind => {
                source_routed |= matches!(kind, OPTION_LOOSE_ROUTE | OPTION_STRICT_ROUTE);
                let len = rest.first().map_or(0, |len| usize::from(*len));
                let behind = if len < 2 { None } else { options.get(len..) };
                behind.ok_or(DropReason::Ipv4HeaderInvalid)?
            }
        };
    }
    if source_routed { Err(DropReason::SourceRouted) } else { Ok(()) }
}

//! Address translation of a window: one end of a packet, or of the packet that an ICMP error
//! quotes.
//!
//! RFC 1624 (differences), RFC 768 and RFC 6935 (UDP's zero), RFC 9260 (SCTP's CRC), RFC 5508
//! section 4.2 (ICMP errors: every changed byte of the quotation counts in the message's own
//! checksum).
//!
//! A checksum that was wrong stays wrong: nothing here mends what was damaged on its way.

use smoltcp::wire::IpAddress;

use super::{put, put_echo_check, version, word};
use crate::trace::{Quotation, Rewrite, Sum};
use crate::wire::checksum::{self, difference, update};
use crate::wire::{ETHERNET_HEADER, crc32c};

/// Bytes of an IPv6 header without extension headers.
const IPV6_HEADER: usize = 40;

/// An end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// What became of an end, as sums to be added; 0 where nothing did.
#[derive(Clone, Copy, Debug)]
struct Changed {
    address: u32,
    l4_port: u32,
}

/// Translates one end of the packet whose IP header starts at `ip`.
#[inline]
pub(super) fn end(window: &mut [u8], ip: usize, end: End, rewrite: &Rewrite) {
    let Some(address) = address(window, ip, end, rewrite.address) else { return };
    let at = usize::from(rewrite.at);
    let place = if end == End::Source { at } else { at + 2 };
    let new = rewrite.port;
    match rewrite.sum {
        Sum::Nothing | Sum::Icmp => {}
        Sum::Tcp { partial } => {
            let l4_port = replace_word(window, place, new);
            follow(window, at + 16, Changed { address, l4_port }, partial);
        }
        Sum::Udp { partial } => {
            let l4_port = replace_word(window, place, new);
            follow_udp(window, at + 6, Changed { address, l4_port }, partial);
        }
        Sum::Sctp => sctp(window, ip, at, place, new),
        Sum::Echo { partial } => echo(window, at, new, partial),
        Sum::Echo6 { partial } => {
            let l4_port = replace_word(window, at + 4, new);
            follow(window, at + 2, Changed { address, l4_port }, partial);
        }
        Sum::Icmp6 { partial } => {
            follow(window, at + 2, Changed { address, l4_port: 0 }, partial);
        }
    }
}

/// Translates one end of the packet that an ICMP error quotes.
pub(super) fn quoted(window: &mut [u8], end: End, quotation: &Quotation) {
    // What pads the frame lies behind the message and counts in no checksum, even where a header
    // that the quotation lacks would be.
    let Some(limit) = packet_end(window, ETHERNET_HEADER) else { return };
    let limit = limit.min(window.len());
    let Some(packet) = window.get_mut(..limit) else { return };
    let icmp = usize::from(quotation.icmp);
    // Words count from the message's begin, wherever the quotation's own lie. The first two are
    // the type and the checksum itself.
    let message = |packet: &[u8]| packet.get(icmp + 4..).map_or(0, checksum::sum);
    let before = message(packet);
    self::end(packet, usize::from(quotation.offset), end, &quotation.rewrite);
    if !quotation.partial
        && let Some(check) = word(packet, icmp + 2)
    {
        let changed = difference(before, message(packet));
        put(packet, icmp + 2, &update(check, changed).to_be_bytes());
    }
}

/// Puts an address in its place, and makes IPv4's header checksum follow. Gives the difference, for
/// the pseudo-header; `None` if there is no such address.
#[inline]
fn address(window: &mut [u8], ip: usize, end: End, new: IpAddress) -> Option<u32> {
    match (version(window, ip)?, new) {
        (4, IpAddress::Ipv4(new)) => {
            let header = window.get_mut(ip..)?;
            match end {
                End::Source => ipv4_address::<16>(header, &new.octets()),
                End::Destination => ipv4_address::<20>(header, &new.octets()),
            }
        }
        (6, IpAddress::Ipv6(new)) => {
            replace(window, ip + if end == End::Source { 8 } else { 24 }, &new.octets())
        }
        _ => None,
    }
}

/// Puts an address in its place, which ends after `END` bytes of an IPv4 header.
#[inline]
fn ipv4_address<const END: usize>(header: &mut [u8], new: &[u8; 4]) -> Option<u32> {
    let (before, place) = header.first_chunk_mut::<END>()?.split_last_chunk_mut()?;
    let check = before.get_mut(10..)?.first_chunk_mut()?;
    let changed = checksum::exchange(place, new);
    *place = *new;
    *check = update(u16::from_be_bytes(*check), changed).to_be_bytes();
    Some(changed)
}

/// Puts words in place of others and gives the difference.
#[inline]
fn replace<const N: usize>(window: &mut [u8], at: usize, new: &[u8; N]) -> Option<u32> {
    let place = window.get_mut(at..)?.first_chunk_mut::<N>()?;
    let changed = checksum::exchange(place, new);
    *place = *new;
    Some(changed)
}

#[inline]
fn replace_word(window: &mut [u8], at: usize, new: u16) -> u32 {
    replace(window, at, &new.to_be_bytes()).unwrap_or(0)
}

/// Makes the checksum at `at` follow, which covers the pseudo-header and what comes behind.
#[inline]
fn follow(window: &mut [u8], at: usize, changed: Changed, partial: bool) {
    let place = window.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
    let Some(place) = place else { return };
    let check = u16::from_be_bytes(*place);
    let check = if partial {
        checksum::fold(u32::from(check) + changed.address)
    } else {
        update(check, changed.address + changed.l4_port)
    };
    *place = check.to_be_bytes();
}

/// UDP's: 0 says that there is none. Of a partial one both zeros are the same sum.
#[inline]
fn follow_udp(window: &mut [u8], at: usize, changed: Changed, partial: bool) {
    let there_is_none = !partial && word(window, at) == Some(0);
    if there_is_none {
        return;
    }
    follow(window, at, changed, partial);
    if word(window, at) == Some(0) {
        put(window, at, &[0xff, 0xff]);
    }
}

/// The port at `place` of the SCTP header at `at`.
fn sctp(window: &mut [u8], ip: usize, at: usize, place: usize, new: u16) {
    let Some(old) = word(window, place).filter(|old| *old != new) else { return };
    put(window, place, &new.to_be_bytes());
    // The packet's end counts, not the window's: the CRC covers what is not seen.
    let left = packet_end(window, ip).and_then(|end| end.checked_sub(place));
    let Some(left) = left.and_then(|left| u16::try_from(left).ok()) else { return };
    if let Some(field) = window.get_mut(at + 8..).and_then(|rest| rest.first_chunk_mut()) {
        let crc = u32::from_le_bytes(*field) ^ crc32c::difference16(old, new, left);
        *field = crc.to_le_bytes();
    }
}

fn echo(window: &mut [u8], at: usize, new: u16, partial: bool) {
    let Some(changed) = replace(window, at + 4, &new.to_be_bytes()) else { return };
    if !partial && let Some(check) = word(window, at + 2) {
        put_echo_check(window, at, update(check, changed));
    }
}

/// Where the packet whose IP header starts at `ip` ends, by its own word.
fn packet_end(window: &[u8], ip: usize) -> Option<usize> {
    match version(window, ip)? {
        4 => Some(ip + usize::from(word(window, ip + 2)?)),
        6 => Some(ip + IPV6_HEADER + usize::from(word(window, ip + 4)?)),
        _ => None,
    }
}

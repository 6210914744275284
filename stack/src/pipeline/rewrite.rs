//! rewrite: edits applied to a header window, with the checksums that follow.
//!
//! The one place where a walk's decisions become bytes: on the frame that leaves, and on copies of
//! the recorded window when hops are shown. Only headers that the packet's parse has seen are
//! touched. What a window is too short for stays as it is.

use smoltcp::wire::IpProtocol;

use super::packet::{Ip, L4, Quoted};
use crate::input::{Checksum, Frame};
use crate::trace::{Edit, Sum};
use crate::wire::ETHERNET_HEADER;
use crate::wire::checksum::{exchange, update, update16};

#[cfg(test)]
mod tests;
mod translate;

use translate::End;

const IP: usize = ETHERNET_HEADER;

/// Applies one edit.
pub fn apply(window: &mut [u8], edit: &Edit) {
    match edit {
        Edit::Macs { dst, src } => {
            if let Some((to, rest)) = window.split_first_chunk_mut::<6>()
                && let Some(from) = rest.first_chunk_mut::<6>()
            {
                (*to, *from) = (dst.0, src.0);
            }
        }
        Edit::Destination(rewrite) => {
            translate::end(window, IP, End::Destination, rewrite);
        }
        Edit::Source(rewrite) => translate::end(window, IP, End::Source, rewrite),
        Edit::QuotedDestination(quotation) => {
            translate::quoted(window, End::Destination, quotation);
        }
        Edit::QuotedSource(quotation) => translate::quoted(window, End::Source, quotation),
        Edit::HopLimit(limit) => hop_limit(window, *limit),
        Edit::SwapAddresses => swap_addresses(window),
        Edit::EchoReply { at, partial } => echo_reply(window, usize::from(*at), *partial),
    }
}

/// Which checksum follows when an end of the packet is translated.
#[must_use]
pub fn sum(packet: &Ip, frame: &Frame) -> Sum {
    let partial = is_partial(packet, frame);
    match packet.l4 {
        L4::Tcp { .. } => Sum::Tcp { partial },
        L4::Udp { .. } => Sum::Udp { partial },
        L4::Sctp { .. } => Sum::Sctp,
        L4::Icmp { icmp_type, .. } => match (packet.protocol, icmp_type) {
            (IpProtocol::Icmpv6, 128 | 129) => Sum::Echo6 { partial },
            (IpProtocol::Icmpv6, _) => Sum::Icmp6 { partial },
            (_, 0 | 8) => Sum::Echo { partial },
            _ => Sum::Icmp,
        },
        L4::Nd(_) => Sum::Icmp6 { partial },
        L4::Opaque => Sum::Nothing,
    }
}

/// Whether the upper header's own checksum is partial. Where a pod made a tunnel, a partial one may
/// be that of a header further in; the outer one's is complete then.
#[must_use]
pub fn is_partial(packet: &Ip, frame: &Frame) -> bool {
    match frame.offload().checksum {
        Checksum::Partial { start, .. } => start == packet.l4_offset,
        Checksum::Complete | Checksum::Valid => false,
    }
}

/// Which checksum within a quotation follows when an end of the quoted packet is translated:
/// nothing's where its ports are not there.
///
/// It counts as complete. It is not if the host that reports the error got the packet with a
/// partial checksum, which the quotation does not tell; nobody verifies it (RFC 5508 section 4.1).
#[must_use]
pub fn quoted_sum(quoted: &Quoted) -> Sum {
    let partial = false;
    match (quoted.ports, quoted.protocol) {
        (None, _) => Sum::Nothing,
        (Some(_), IpProtocol::Tcp) => Sum::Tcp { partial },
        (Some(_), IpProtocol::Udp) => Sum::Udp { partial },
        (Some(_), IpProtocol::Icmp) => Sum::Echo { partial },
        (Some(_), IpProtocol::Icmpv6) => Sum::Echo6 { partial },
        (Some(_), _) => Sum::Sctp,
    }
}

#[inline]
fn put(window: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = window.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[inline]
fn word(window: &[u8], at: usize) -> Option<u16> {
    window.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// The version that the IP header at `ip` names.
#[inline]
fn version(window: &[u8], ip: usize) -> Option<u8> {
    window.get(ip).map(|byte| byte >> 4)
}

#[inline]
fn hop_limit(window: &mut [u8], limit: u8) {
    if version(window, IP) == Some(6) {
        put(window, IP + 7, &[limit]);
        return;
    }
    let header = window.get_mut(IP + 8..).and_then(<[u8]>::first_chunk_mut);
    let Some([ttl, protocol, c0, c1]) = header else { return };
    let (old, new) = ([*ttl, *protocol], [limit, *protocol]);
    let check = u16::from_be_bytes([*c0, *c1]);
    *ttl = limit;
    [*c0, *c1] = update(check, exchange(&old, &new)).to_be_bytes();
}

fn swap_addresses(window: &mut [u8]) {
    let (at, len) = if version(window, IP) == Some(6) { (IP + 8, 16) } else { (IP + 12, 4) };
    if let Some(both) = window.get_mut(at..at + 2 * len) {
        let (src, dst) = both.split_at_mut(len);
        src.swap_with_slice(dst);
    }
}

/// Only the type differs between request and reply.
fn echo_reply(window: &mut [u8], at: usize, partial: bool) {
    let reply = if version(window, IP) == Some(6) { 129 } else { 0 };
    let (Some(old), Some(check)) = (word(window, at), word(window, at + 2)) else { return };
    let [_, code] = old.to_be_bytes();
    put(window, at, &[reply]);
    if !partial {
        let new = u16::from_be_bytes([reply, code]);
        put_echo_check(window, at, update16(check, old, new));
    }
}

/// Puts the checksum of the echo whose header starts at `at` into its place.
///
/// A reply may be zeros all through, over which only ones are a checksum (RFC 1071 section 1), but
/// a difference comes to zero. The payload may be out of sight, so ones stand wherever it could be
/// so: if it is not so, they are the same number.
fn put_echo_check(window: &mut [u8], at: usize, check: u16) {
    let may_be_zeros = word(window, at) == Some(0) && word(window, at + 4) == Some(0);
    let check = if check == 0 && may_be_zeros { 0xffff } else { check };
    put(window, at + 2, &check.to_be_bytes());
}

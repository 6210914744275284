//! rewrite: edits applied to a header window, with the checksums that follow.
//!
//! The one place where a walk's decisions become bytes: on the frame that leaves, and on copies of
//! the recorded window when hops are shown. Only headers that the packet's parse has seen are
//! touched.

use crate::trace::Edit;
use crate::wire::ETHERNET_HEADER;
use crate::wire::checksum::update16;

const IPV4: usize = ETHERNET_HEADER;

/// Applies one edit. A window too short for it stays as it is.
pub fn apply(window: &mut [u8], edit: &Edit) {
    match edit {
        Edit::Macs { dst, src } => {
            put(window, 0, &dst.0);
            put(window, 6, &src.0);
        }
        Edit::Destination(_)
        | Edit::Source(_)
        | Edit::QuotedDestination(_)
        | Edit::QuotedSource(_) => {}
        Edit::HopLimit(limit) => hop_limit(window, *limit),
        Edit::SwapAddresses => swap_addresses(window),
        Edit::EchoReply { at, partial } => echo_reply(window, usize::from(*at), *partial),
    }
}

fn put(window: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = window.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn word(window: &[u8], at: usize) -> Option<u16> {
    window.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn version(window: &[u8]) -> Option<u8> {
    window.get(IPV4).map(|byte| byte >> 4)
}

fn hop_limit(window: &mut [u8], limit: u8) {
    if version(window) == Some(6) {
        put(window, IPV4 + 7, &[limit]);
        return;
    }
    let (Some(old), Some(check)) = (word(window, IPV4 + 8), word(window, IPV4 + 10)) else {
        return;
    };
    let [_, protocol] = old.to_be_bytes();
    let new = u16::from_be_bytes([limit, protocol]);
    put(window, IPV4 + 8, &new.to_be_bytes());
    put(window, IPV4 + 10, &update16(check, old, new).to_be_bytes());
}

fn swap_addresses(window: &mut [u8]) {
    let (at, len) = if version(window) == Some(6) { (IPV4 + 8, 16) } else { (IPV4 + 12, 4) };
    if let Some(both) = window.get_mut(at..at + 2 * len) {
        let (src, dst) = both.split_at_mut(len);
        src.swap_with_slice(dst);
    }
}

/// Only the type differs between request and reply.
fn echo_reply(window: &mut [u8], at: usize, partial: bool) {
    let reply = if version(window) == Some(6) { 129 } else { 0 };
    let (Some(old), Some(check)) = (word(window, at), word(window, at + 2)) else { return };
    let [_, code] = old.to_be_bytes();
    put(window, at, &[reply]);
    if !partial {
        let new = u16::from_be_bytes([reply, code]);
        put(window, at + 2, &update16(check, old, new).to_be_bytes());
    }
}

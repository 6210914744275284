//! parse: bytes to headers, or the reason why not.
//!
//! Only the header window is read, once from front to back, and nothing is kept but values
//! ([`Packet`]). Every later stage relies on what is proved here:
//!
//! - lengths: each header lies within the packet its IP header speaks of, and that within the
//!   frame;
//! - the whole upper header is in the window, so that edits reach it;
//! - a neighbor discovery message is valid by RFC 4861, an ARP packet is Ethernet and IPv4;
//! - the offload description fits the headers.
//!
//! L4 checksums are not verified: the window may not hold what they cover, and a partial one has no
//! answer yet. Addresses are not judged here; that is l2's and l3's.
//!
//! RFCs to read first: 791, 8200, 7126 (options), 1858 and 3128 (fragments), 4861.

use core::fmt;
use core::ops::ControlFlow;

use smoltcp::wire::{EthernetAddress, IpAddress};

use super::packet::{Inner, Packet};
use super::{Step, Stop, Walk};
use crate::drop::DropReason;
use crate::input::{Frame, Offload};
use crate::trace::Hop;
use crate::wire::ETHERNET_HEADER;

mod arp;
mod describe;
mod fragment;
mod icmp;
mod ipv4;
mod ipv6;
mod l4;
mod nd;
mod offload;
#[cfg(test)]
mod tests;
mod upper;

pub(super) use ipv4::HEADER as IPV4_HEADER;
pub(super) use ipv6::HEADER as IPV6_HEADER;
pub(super) use l4::{TCP_HEADER, UDP_HEADER};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad, and what was used for stacked tags before the latter.
const ETHERTYPE_TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// Bytes of a VLAN tag.
const TAG: usize = 4;
/// Bytes of the largest IP packet without a jumbo payload option.
const IP_MAX: usize = 65_535;

/// Reads the frame's headers.
pub(crate) fn frame(cx: &mut Walk<'_>) -> Step<Packet> {
    match parse(cx.frame.window(), cx.frame.len(), cx.frame.offload()) {
        Ok(packet) => {
            cx.hop(Hop::Parsed);
            ControlFlow::Continue(packet)
        }
        Err(reason) => ControlFlow::Break(Stop::Drop(reason)),
    }
}

/// What the frame is. `window` is its header window ([`Frame::WINDOW`]), `len` its whole length.
///
/// # Errors
/// Why the frame goes no further: one of the reasons 101 to 115.
pub fn parse(window: &[u8], len: usize, offload: &Offload) -> Result<Packet, DropReason> {
    let window = window.get(..len.min(Frame::WINDOW)).unwrap_or(window);
    let Some((header, bytes)) = window.split_first_chunk::<ETHERNET_HEADER>() else {
        return Err(DropReason::Truncated);
    };
    if len > ETHERNET_HEADER + TAG + IP_MAX {
        return Err(DropReason::TooLong);
    }
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, type_high, type_low] = *header;
    let inner = match u16::from_be_bytes([type_high, type_low]) {
        ETHERTYPE_IPV4 => Inner::Ip(ipv4::parse(window, bytes, len - ETHERNET_HEADER)?),
        ETHERTYPE_IPV6 => Inner::Ip(ipv6::parse(window, bytes, len - ETHERNET_HEADER)?),
        ETHERTYPE_ARP => Inner::Arp(arp::parse(bytes)?),
        ethertype if ETHERTYPE_TAGS.contains(&ethertype) => return Err(DropReason::VlanUnexpected),
        // Below 0x600 it is a length (802.3): spanning tree and the like, nothing for pods.
        _ => return Err(DropReason::EthertypeUnknown),
    };
    offload::check(offload, &inner)?;
    Ok(Packet {
        dst: EthernetAddress([d0, d1, d2, d3, d4, d5]),
        src: EthernetAddress([s0, s1, s2, s3, s4, s5]),
        inner,
    })
}

/// Writes what the window holds as one clause: `ipv4 10.1.1.5:40000 > 10.96.0.10:53 udp 71B`.
///
/// The size is what the upper header carries, by the IP header's word. Of a frame that does not
/// parse it says as much as can be read. Any bytes have a description.
///
/// # Errors
/// Those of the formatter.
pub fn describe(window: &[u8], f: &mut dyn fmt::Write) -> fmt::Result {
    describe::describe(window, f)
}

/// The destination address of a window that holds an IP header.
#[must_use]
pub fn destination(window: &[u8]) -> Option<IpAddress> {
    describe::addresses(window).map(|(_, dst)| dst)
}

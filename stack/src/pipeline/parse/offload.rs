//! Whether the offload description fits what was parsed.
//!
//! Ports act on it later without looking at the headers again: a checksum would be written to
//! `start + offset`, a super-frame split by its kind. So a description that does not fit never gets
//! past parse.

use smoltcp::wire::IpAddress;

use crate::drop::DropReason;
use crate::input::{Checksum, Gso, GsoKind, Offload};
use crate::pipeline::packet::{Fragment, Inner, Ip, L4};
use crate::wire::ETHERNET_HEADER;

#[inline]
pub(super) fn check(offload: &Offload, inner: &Inner) -> Result<(), DropReason> {
    let partial = match offload.checksum {
        Checksum::Partial { start, offset } => Some((usize::from(start), usize::from(offset))),
        Checksum::Complete | Checksum::Valid => None,
    };
    if partial.is_none() && offload.gso.is_none() {
        return Ok(());
    }
    let fits = match inner {
        Inner::Arp(_) => false,
        // A sum over one part of a datagram, or a part that splits, is none.
        Inner::Ip(ip) => {
            ip.fragment == Fragment::Whole
                && partial.is_none_or(|(start, offset)| partial_fits(start, offset, ip))
                && offload.gso.is_none_or(|gso| gso_fits(gso, ip))
        }
    };
    if fits { Ok(()) } else { Err(DropReason::OffloadInvalid) }
}

/// The sum starts at the upper header and its result belongs into that header's field. Where a pod
/// made a tunnel itself, both are further in: behind the UDP header, or in a protocol unknown here.
fn partial_fits(start: usize, offset: usize, ip: &Ip) -> bool {
    let upper = usize::from(ip.l4_offset);
    // Not in what pads the frame: a router cuts it off.
    let end = usize::try_from(ip.total_len).map_or(usize::MAX, |len| ETHERNET_HEADER + len);
    if start + offset + 2 > end {
        return false;
    }
    match ip.l4 {
        L4::Tcp { .. } => start == upper && offset == 16,
        L4::Udp { .. } => start == upper && offset == 6 || start >= upper + 8,
        L4::Sctp { .. } => start == upper && offset == 8,
        L4::Icmp { .. } | L4::Nd(_) => start == upper && offset == 2,
        L4::Opaque => start >= upper,
    }
}

fn gso_fits(gso: Gso, ip: &Ip) -> bool {
    let kind_fits = match (gso.kind, ip.l4, ip.src) {
        (GsoKind::Tcp4, L4::Tcp { .. }, IpAddress::Ipv4(_))
        | (GsoKind::Tcp6, L4::Tcp { .. }, IpAddress::Ipv6(_))
        | (GsoKind::Udp, L4::Udp { .. }, _) => true,
        (GsoKind::Tcp4 | GsoKind::Tcp6 | GsoKind::Udp, _, _) => false,
    };
    gso.size > 0 && kind_fits
}

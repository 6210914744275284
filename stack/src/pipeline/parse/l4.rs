//! The upper header: TCP, UDP, SCTP, and on to ICMP.

use smoltcp::wire::IpProtocol;

use super::icmp;
use super::upper::Upper;
use crate::drop::DropReason;
use crate::pipeline::packet::{Fragment, L4};

/// Bytes of a TCP header without options.
pub(in crate::pipeline) const TCP_HEADER: usize = 20;
/// Bytes of a UDP header.
pub(in crate::pipeline) const UDP_HEADER: usize = 8;
/// Bytes of SCTP's common header.
pub(super) const SCTP_HEADER: usize = 12;
/// SCTP (RFC 9260), which smoltcp has no name for.
pub(super) const SCTP: IpProtocol = IpProtocol::Unknown(132);

/// The upper header, whole within packet and window; nothing of a later fragment.
#[inline]
pub(super) fn parse(upper: &Upper<'_>) -> Result<L4, DropReason> {
    if upper.fragment.is_later() {
        return Ok(L4::Opaque);
    }
    // Each version has its own ICMP; the other's number is just a protocol nobody here knows.
    match (upper.protocol, upper.ipv6.as_ref()) {
        (IpProtocol::Tcp, _) => tcp(upper),
        (IpProtocol::Udp, _) => udp(upper),
        (IpProtocol::Icmp, None) => icmp::parse4(upper),
        (IpProtocol::Icmpv6, Some(facts)) => icmp::parse6(upper, facts),
        (SCTP, _) => sctp(upper),
        _ => Ok(L4::Opaque),
    }
}

fn tcp(upper: &Upper<'_>) -> Result<L4, DropReason> {
    let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, data_offset, flags, ..] =
        *upper.header::<TCP_HEADER>()?;
    let header_len = (data_offset >> 4) * 4;
    let need = usize::from(header_len);
    if need < TCP_HEADER {
        return Err(DropReason::L4Truncated);
    }
    // Edits may concern options, so all of the header must be in reach.
    if need > upper.bytes.len() {
        return Err(upper.missing(need));
    }
    let (src_port, dst_port) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    Ok(L4::Tcp { src_port, dst_port, flags, header_len })
}

fn udp(upper: &Upper<'_>) -> Result<L4, DropReason> {
    let [s0, s1, d0, d1, len_high, len_low, ..] = *upper.header::<UDP_HEADER>()?;
    let len = usize::from(u16::from_be_bytes([len_high, len_low]));
    // The length of a divided datagram is the whole one's. A packet longer than its datagram is
    // legal (RFC 9868 puts options there).
    if len < UDP_HEADER || (upper.fragment == Fragment::Whole && len > upper.len) {
        return Err(DropReason::L4Truncated);
    }
    let (src_port, dst_port) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    Ok(L4::Udp { src_port, dst_port })
}

fn sctp(upper: &Upper<'_>) -> Result<L4, DropReason> {
    let [s0, s1, d0, d1, ..] = *upper.header::<SCTP_HEADER>()?;
    let (src_port, dst_port) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    Ok(L4::Sctp { src_port, dst_port })
}

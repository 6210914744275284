//! Neighbor discovery (RFC 4861), discarded unless it is valid by sections 6.1, 7.1 and 8.1.
//!
//! The checksum is the one condition that is not judged here. Stricter than the RFC on one point:
//! the link-layer address option may come once only, because receivers disagree about which of two
//! counts, and the source guard must judge the one they believe.

use smoltcp::wire::{EthernetAddress, Ipv6Address};

use super::icmp;
use super::upper::{Ipv6Facts, Upper};
use crate::drop::DropReason;
use crate::pipeline::packet::Nd;

const ROUTER_SOLICIT: u8 = 133;
const ROUTER_ADVERT: u8 = 134;
const NEIGHBOR_SOLICIT: u8 = 135;
const NEIGHBOR_ADVERT: u8 = 136;

const OPTION_SOURCE_LINK: u8 = 1;
const OPTION_TARGET_LINK: u8 = 2;
/// No message comes from farther than the link (section 3.1).
const HOP_LIMIT: u8 = 255;
/// The solicited flag of a neighbor advertisement, in its first byte behind the checksum.
const SOLICITED: u8 = 0x40;

/// One of the types 133 to 137.
#[cold]
pub(super) fn parse(
    upper: &Upper<'_>,
    facts: &Ipv6Facts,
    icmp_type: u8,
    code: u8,
) -> Result<Nd, DropReason> {
    // RFC 6980 section 5: none of them may be fragmented.
    if facts.hop_limit != HOP_LIMIT || code != 0 || facts.fragmented {
        return Err(DropReason::NdInvalid);
    }
    match icmp_type {
        ROUTER_SOLICIT => router_solicit(upper, facts),
        ROUTER_ADVERT => router_advert(upper, facts),
        NEIGHBOR_SOLICIT => neighbor_solicit(upper, facts),
        NEIGHBOR_ADVERT => neighbor_advert(upper, facts),
        _ => redirect(upper, facts),
    }
}

fn router_solicit(upper: &Upper<'_>, facts: &Ipv6Facts) -> Result<Nd, DropReason> {
    let link = options(upper, icmp::HEADER, OPTION_SOURCE_LINK)?;
    valid(link.is_none() || !facts.src.is_unspecified())?;
    Ok(Nd::RouterSolicit { link })
}

fn router_advert(upper: &Upper<'_>, facts: &Ipv6Facts) -> Result<Nd, DropReason> {
    options(upper, icmp::HEADER + 8, OPTION_SOURCE_LINK)?;
    valid(facts.src.is_unicast_link_local())?;
    Ok(Nd::RouterAdvert)
}

fn neighbor_solicit(upper: &Upper<'_>, facts: &Ipv6Facts) -> Result<Nd, DropReason> {
    let target = address(upper, icmp::HEADER)?;
    let link = options(upper, icmp::HEADER + 16, OPTION_SOURCE_LINK)?;
    valid(!target.is_multicast())?;
    // Duplicate address detection (section 7.1.1).
    if facts.src.is_unspecified() {
        valid(is_solicited_node(facts.dst) && link.is_none())?;
    }
    Ok(Nd::NeighborSolicit { target, link })
}

fn neighbor_advert(upper: &Upper<'_>, facts: &Ipv6Facts) -> Result<Nd, DropReason> {
    let [_, _, _, _, flags, ..] = *upper.header::<{ icmp::HEADER }>()?;
    let target = address(upper, icmp::HEADER)?;
    let link = options(upper, icmp::HEADER + 16, OPTION_TARGET_LINK)?;
    valid(!target.is_multicast())?;
    valid(!facts.dst.is_multicast() || flags & SOLICITED == 0)?;
    Ok(Nd::NeighborAdvert { target, link })
}

fn redirect(upper: &Upper<'_>, facts: &Ipv6Facts) -> Result<Nd, DropReason> {
    let target = address(upper, icmp::HEADER)?;
    let destination = address(upper, icmp::HEADER + 16)?;
    options(upper, icmp::HEADER + 32, OPTION_TARGET_LINK)?;
    valid(facts.src.is_unicast_link_local() && !destination.is_multicast())?;
    valid(target.is_unicast_link_local() || target == destination)?;
    Ok(Nd::Redirect)
}

fn valid(condition: bool) -> Result<(), DropReason> {
    if condition { Ok(()) } else { Err(DropReason::NdInvalid) }
}

fn is_solicited_node(address: Ipv6Address) -> bool {
    matches!(address.octets(), [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, ..])
}

/// The address `at` bytes into the message.
fn address(upper: &Upper<'_>, at: usize) -> Result<Ipv6Address, DropReason> {
    let bytes = upper.bytes.get(at..).and_then(<[u8]>::first_chunk::<16>);
    bytes.map(|bytes| Ipv6Address::from(*bytes)).ok_or_else(|| short(upper, at + 16))
}

/// Walks the options, which start `at` bytes into the message, for the link-layer address of type
/// `wanted`.
fn options(
    upper: &Upper<'_>,
    at: usize,
    wanted: u8,
) -> Result<Option<EthernetAddress>, DropReason> {
    // Every length must be seen to be judged, so all options must be in the window.
    if at > upper.len || upper.bytes.len() < upper.len {
        return Err(short(upper, at.max(upper.bytes.len() + 1)));
    }
    let mut link = None;
    let mut options = upper.bytes.get(at..).unwrap_or(&[]);
    while let [kind, body @ ..] = options {
        let units = body.first().map_or(0, |units| usize::from(*units));
        let behind = if units == 0 { None } else { options.get(units * 8..) };
        let Some(behind) = behind else { return Err(DropReason::NdInvalid) };
        if *kind == wanted {
            let [_, m0, m1, m2, m3, m4, m5] = *body.first_chunk().ok_or(DropReason::NdInvalid)?;
            valid(units == 1 && link.is_none())?;
            link = Some(EthernetAddress([m0, m1, m2, m3, m4, m5]));
        }
        options = behind;
    }
    Ok(link)
}

/// Why not `need` bytes are there.
fn short(upper: &Upper<'_>, need: usize) -> DropReason {
    if need > upper.len { DropReason::NdInvalid } else { DropReason::HeaderChainTooLong }
}

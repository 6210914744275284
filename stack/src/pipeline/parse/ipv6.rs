//! The IPv6 header and its extension headers (RFC 8200).
//!
//! Walked over: hop-by-hop options, destination options, routing headers but type 0, and the
//! fragment header. What authenticates or encrypts (AH, ESP) hides what follows and counts as an
//! upper protocol, as it does over IPv4.

use smoltcp::wire::{IpProtocol, Ipv6Address};

use super::IP_MAX;
use super::fragment::Place;
use super::l4;
use super::upper::{Ipv6Facts, Upper};
use crate::drop::DropReason;
use crate::pipeline::packet::{Fragment, Ip};
use crate::wire::ETHERNET_HEADER;

/// Bytes of the header.
pub(in crate::pipeline) const HEADER: usize = 40;
/// Bytes of a fragment header.
pub(super) const FRAGMENT_HEADER: usize = 8;

const OPTION_PAD1: u8 = 0;
/// The jumbo payload option (RFC 2675).
const OPTION_JUMBO: u8 = 0xc2;

/// `bytes` is what the window has behind the Ethernet header, `len` what the frame has.
pub(super) fn parse(window: &[u8], bytes: &[u8], len: usize) -> Result<Ip, DropReason> {
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        return Err(DropReason::Truncated);
    };
    let [version, _, _, _, len_high, len_low, next, hop_limit, addresses @ ..] = header;
    let payload_len = u16::from_be_bytes([*len_high, *len_low]);
    let end = HEADER + usize::from(payload_len);
    let next = IpProtocol::from(*next);
    // A length of zero before hop-by-hop options stands for a jumbo's, which is never sent here.
    let jumbo = payload_len == 0 && next == IpProtocol::HopByHop;
    if version >> 4 != 6 || end > len || jumbo {
        return Err(DropReason::Ipv6HeaderInvalid);
    }
    // The length field could say up to 40 more, but no port carries that and IPv4 has the same
    // limit.
    if end > IP_MAX {
        return Err(DropReason::TooLong);
    }
    let (src, dst) = addresses.split_at(16);
    let (src, dst) = (address(src), address(dst));
    let end = ETHERNET_HEADER + end;
    let chain = Chain::walk(window.get(..end).unwrap_or(window), end, next)?;
    let bytes = window.get(chain.offset..end.min(window.len())).unwrap_or(&[]);
    let upper = Upper {
        protocol: chain.protocol,
        offset: chain.offset,
        bytes,
        len: end - chain.offset,
        fragment: chain.fragment,
        ipv6: Some(Ipv6Facts {
            src,
            dst,
            hop_limit: *hop_limit,
            fragmented: chain.fragment_header.is_some(),
        }),
    };
    Ok(Ip {
        src: src.into(),
        dst: dst.into(),
        protocol: chain.protocol,
        hop_limit: *hop_limit,
        total_len: u32::from(payload_len) + 40,
        keep_whole: true,
        has_stops: chain.has_stops,
        fragment: chain.fragment,
        l4_offset: u16::try_from(chain.offset).unwrap_or(u16::MAX),
        l4: l4::parse(&upper)?,
    })
}

fn address(bytes: &[u8]) -> Ipv6Address {
    bytes.first_chunk::<16>().map_or(Ipv6Address::UNSPECIFIED, |bytes| Ipv6Address::from(*bytes))
}

/// Whether it is an extension header that begins with the next one's number and its own length.
pub(super) fn is_stepped_over(protocol: IpProtocol) -> bool {
    matches!(protocol, IpProtocol::HopByHop | IpProtocol::Ipv6Opts | IpProtocol::Ipv6Route)
}

/// What the extension headers lead to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// The first protocol that is no extension header; of a later fragment whatever was divided.
    pub(super) protocol: IpProtocol,
    /// Where it starts, from the frame's begin.
    pub(super) offset: usize,
    /// Which part of a datagram it is.
    pub(super) fragment: Fragment,
    /// Where the fragment header is, if there is one.
    pub(super) fragment_header: Option<usize>,
    /// Whether a routing header has segments left.
    pub(super) has_stops: bool,
}

impl Chain {
    /// Walks the chain in `window`, a frame's window cut to the packet's end, which is at `end`.
    pub(super) fn walk(window: &[u8], end: usize, next: IpProtocol) -> Result<Self, DropReason> {
        let first = ETHERNET_HEADER + HEADER;
        let mut chain = Self {
            protocol: next,
            offset: first,
            fragment: Fragment::Whole,
            fragment_header: None,
            has_stops: false,
        };
        while !chain.fragment.is_later() {
            if chain.protocol == IpProtocol::Ipv6Frag {
                chain.divide(window, end)?;
            } else if is_stepped_over(chain.protocol) {
                chain.step(window, end)?;
            } else {
                break;
            }
        }
        Ok(chain)
    }

    /// Over one header of options or routing.
    #[cold]
    fn step(&mut self, window: &[u8], end: usize) -> Result<(), DropReason> {
        // Hop-by-hop options must come first (RFC 8200 section 4.1).
        let first = self.offset == ETHERNET_HEADER + HEADER;
        if self.protocol == IpProtocol::HopByHop && !first {
            return Err(DropReason::Ipv6ExtensionInvalid);
        }
        let [next, units] = self.take::<2>(window, end)?;
        let len = (usize::from(units) + 1) * 8;
        let header = self.within(window, end, len)?;
        let body = header.get(2..).unwrap_or(&[]);
        if self.protocol == IpProtocol::Ipv6Route {
            // Type 0 is forbidden whatever its segments left (RFC 5095 section 3).
            if body.first() == Some(&0) {
                return Err(DropReason::SourceRouted);
            }
            self.has_stops |= body.get(1).is_some_and(|left| *left > 0);
        } else {
            judge_options(body)?;
        }
        self.protocol = IpProtocol::from(next);
        self.offset += len;
        Ok(())
    }

    /// Over the fragment header (RFC 8200 section 4.5).
    #[cold]
    fn divide(&mut self, window: &[u8], end: usize) -> Result<(), DropReason> {
        if self.fragment_header.is_some() {
            return Err(DropReason::Ipv6ExtensionInvalid);
        }
        let [next, _, high, low, id @ ..] = self.take::<FRAGMENT_HEADER>(window, end)?;
        let place = u16::from_be_bytes([high, low]);
        let before = self.offset - ETHERNET_HEADER - HEADER;
        self.fragment_header = Some(self.offset);
        self.protocol = IpProtocol::from(next);
        self.offset += FRAGMENT_HEADER;
        // Offset 0 and no more: an atomic fragment is treated like a whole packet (RFC 6946 section
        // 4).
        let (offset, more) = (usize::from(place & !7), place & 1 != 0);
        if offset != 0 || more {
            let (id, len) = (u32::from_be_bytes(id), end - self.offset);
            let place = Place { id, offset, len, more, before, protocol: self.protocol };
            self.fragment = place.judge()?;
        }
        Ok(())
    }

    fn take<const N: usize>(&self, window: &[u8], end: usize) -> Result<[u8; N], DropReason> {
        let bytes = self.within(window, end, N)?;
        bytes.first_chunk().copied().ok_or(DropReason::HeaderChainTooLong)
    }

    /// The next `len` bytes, if the packet and the window have them.
    fn within<'a>(&self, window: &'a [u8], end: usize, len: usize) -> Result<&'a [u8], DropReason> {
        if self.offset + len > end {
            // The first fragment has the whole chain (RFC 7112 section 5).
            return Err(match self.fragment {
                Fragment::First(_) => DropReason::FragmentInvalid,
                Fragment::Whole | Fragment::Later(_) => DropReason::Ipv6ExtensionInvalid,
            });
        }
        window.get(self.offset..self.offset + len).ok_or(DropReason::HeaderChainTooLong)
    }
}

/// Options of either kind must fill their header exactly (RFC 8200 section 4.2).
fn judge_options(mut options: &[u8]) -> Result<(), DropReason> {
    while let [kind, rest @ ..] = options {
        if *kind == OPTION_PAD1 {
            options = rest;
            continue;
        }
        if *kind == OPTION_JUMBO {
            // Beside a payload length that is not zero it is an error (RFC 2675 section 3).
            return Err(DropReason::Ipv6HeaderInvalid);
        }
        let behind = rest.split_first().and_then(|(len, body)| body.get(usize::from(*len)..));
        options = behind.ok_or(DropReason::Ipv6ExtensionInvalid)?;
    }
    Ok(())
}

//! The headers of a plain frame, read in one go: what the fast path needs of them.
//!
//! Whatever is read here parse reads the same way. What parse would refuse, and what is not plain,
//! is nothing here.

use smoltcp::wire::{EthernetAddress, Ipv4Address, Ipv6Address};

use crate::input::{Checksum, Frame, Gso, GsoKind};
use crate::pipeline::parse::{IPV4_HEADER, IPV6_HEADER, TCP_HEADER, UDP_HEADER};
use crate::table::conntrack::{Address, Ends, Segment};
use crate::trace::{Rewrite, Sum};
use crate::wire::{ETHERNET_HEADER, checksum};

pub(super) const IPV4: u8 = 0x45;
pub(super) const IPV6: u8 = 0x60;

/// MF and the offset.
const FRAGMENT: u16 = 0x3fff;
/// Where the checksum is, from the begin of its header.
const TCP_CHECK: u16 = 16;
const UDP_CHECK: u16 = 6;
/// Bytes of the longest frame that is looked at here; parse takes a few more.
const LEN_MAX: usize = ETHERNET_HEADER + 65_535;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// The headers of a plain frame.
pub(super) struct Head<A> {
    pub(super) dst: EthernetAddress,
    pub(super) src: EthernetAddress,
    pub(super) ends: Ends<A>,
    pub(super) protocol: u8,
    pub(super) hop_limit: u8,
    /// Bytes of the IP packet, of a super-frame all of it.
    pub(super) total_len: u32,
    /// Bytes of the largest IP packet that it becomes on a wire.
    pub(super) segment_len: u32,
    /// The same where padding is carried as well.
    pub(super) carried_len: u32,
    pub(super) segment: Segment,
    at: u16,
    sum: Sum,
}

/// What is the same in both families.
struct Network<A> {
    src: A,
    dst: A,
    protocol: u8,
    hop_limit: u8,
    /// Where the upper header is.
    at: usize,
    /// Bytes of the IP packet.
    total_len: usize,
    gso: GsoKind,
}

/// By what an IP header begins: [`IPV4`] or [`IPV6`], or else it is not plain.
#[inline]
pub(super) fn version(window: &[u8]) -> u8 {
    match window.split_at_checked(ETHERNET_HEADER - 2) {
        Some((_, [0x08, 0x00, IPV4, ..])) => IPV4,
        Some((_, [0x86, 0xdd, byte, ..])) if byte & 0xf0 == IPV6 => IPV6,
        _ => 0,
    }
}

impl Head<Ipv4Address> {
    /// Of an IPv4 packet whose header begins with [`IPV4`].
    #[inline(always)]
    pub(super) fn ipv4(frame: &Frame) -> Option<Self> {
        let bytes = frame.window().get(ETHERNET_HEADER..)?;
        let header = bytes.first_chunk::<IPV4_HEADER>()?;
        let [_, _, l0, l1, _, _, f0, f1, hop_limit, protocol, _, _, rest @ ..] = *header;
        let [s0, s1, s2, s3, d0, d1, d2, d3] = rest;
        let is_whole = u16::from_be_bytes([f0, f1]) & FRAGMENT == 0;
        if !is_whole || checksum::fold(checksum::sum_of(header)) != 0xffff {
            return None;
        }
        let network = Network {
            src: Ipv4Address::new(s0, s1, s2, s3),
            dst: Ipv4Address::new(d0, d1, d2, d3),
            protocol,
            hop_limit,
            at: ETHERNET_HEADER + IPV4_HEADER,
            total_len: usize::from(u16::from_be_bytes([l0, l1])),
            gso: GsoKind::Tcp4,
        };
        Self::upper(frame, &network)
    }
}

impl Head<Ipv6Address> {
    /// Of an IPv6 packet.
    #[inline(always)]
    pub(super) fn ipv6(frame: &Frame) -> Option<Self> {
        let bytes = frame.window().get(ETHERNET_HEADER..)?;
        let header = bytes.first_chunk::<IPV6_HEADER>()?;
        let [_, _, _, _, l0, l1, protocol, hop_limit, addresses @ ..] = header;
        let ([src, dst], _) = addresses.as_chunks::<16>() else { return None };
        let network = Network {
            src: Ipv6Address::from(*src),
            dst: Ipv6Address::from(*dst),
            protocol: *protocol,
            hop_limit: *hop_limit,
            at: ETHERNET_HEADER + IPV6_HEADER,
            total_len: IPV6_HEADER + usize::from(u16::from_be_bytes([*l0, *l1])),
            gso: GsoKind::Tcp6,
        };
        Self::upper(frame, &network)
    }
}

impl<A: Address> Head<A> {
    /// Reads the upper header.
    #[inline(always)]
    fn upper(frame: &Frame, network: &Network<A>) -> Option<Self> {
        let Network { src, dst, protocol, hop_limit, at, total_len, gso: kind } = *network;
        let end = ETHERNET_HEADER + total_len;
        if end > frame.len() || frame.len() > LEN_MAX {
            return None;
        }
        let window = frame.window();
        let bytes = window.get(at..end.min(window.len()))?;
        let start = u16::try_from(at).ok()?;
        let upper = match protocol {
            TCP => Upper::tcp(bytes, end - at)?,
            UDP => Upper::udp(bytes, end - at)?,
            _ => return None,
        };
        let offload = frame.offload();
        let partial = match offload.checksum {
            Checksum::Complete | Checksum::Valid => false,
            Checksum::Partial { start: from, offset } => {
                if (from, offset) != (start, upper.check) {
                    return None;
                }
                true
            }
        };
        let headers = at - ETHERNET_HEADER + usize::from(upper.header_len);
        let total_len = u32::try_from(total_len).ok()?;
        let (segment_len, carried_len) = match offload.gso {
            None => (total_len, u32::try_from(frame.len() - ETHERNET_HEADER).ok()?),
            Some(gso) => {
                let kind = if protocol == TCP { kind } else { GsoKind::Udp };
                let len = split(gso, kind, headers)?.min(total_len);
                (len, len)
            }
        };
        let sum = if protocol == TCP { Sum::Tcp { partial } } else { Sum::Udp { partial } };
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = *window.first_chunk()?;
        Some(Self {
            dst: EthernetAddress([d0, d1, d2, d3, d4, d5]),
            src: EthernetAddress([s0, s1, s2, s3, s4, s5]),
            ends: Ends { src, dst, src_port: upper.ports[0], dst_port: upper.ports[1] },
            protocol,
            hop_limit,
            total_len,
            segment_len,
            carried_len,
            segment: upper.segment,
            at: start,
            sum,
        })
    }

    /// One end of the packet as it shall be.
    #[inline(always)]
    pub(super) fn rewrite(&self, address: A, port: u16) -> Rewrite {
        Rewrite { address: address.wide(), port, at: self.at, sum: self.sum }
    }
}

/// An upper header.
struct Upper {
    ports: [u16; 2],
    header_len: u8,
    /// Where its checksum is.
    check: u16,
    segment: Segment,
}

impl Upper {
    /// `bytes` is what the window has of the packet from there on, `len` what there is.
    #[inline(always)]
    fn tcp(bytes: &[u8], len: usize) -> Option<Self> {
        let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, offset, ..] =
            *bytes.first_chunk::<TCP_HEADER>()?;
        let header_len = (offset >> 4) * 4;
        let is_there = (TCP_HEADER..=bytes.len()).contains(&usize::from(header_len));
        Some(Self {
            ports: [u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])],
            header_len,
            check: TCP_CHECK,
            segment: is_there.then(|| Segment::tcp(bytes, len, header_len)).flatten()?,
        })
    }

    #[inline(always)]
    fn udp(bytes: &[u8], len: usize) -> Option<Self> {
        let [s0, s1, d0, d1, l0, l1, ..] = *bytes.first_chunk::<UDP_HEADER>()?;
        let own = usize::from(u16::from_be_bytes([l0, l1]));
        (UDP_HEADER..=len).contains(&own).then_some(Self {
            ports: [u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])],
            header_len: 8,
            check: UDP_CHECK,
            segment: Segment::Plain,
        })
    }
}

/// Bytes of the largest IP packet that a super-frame with `headers` bytes of headers becomes;
/// `None` when it is of another kind than its headers.
#[inline]
fn split(gso: Gso, kind: GsoKind, headers: usize) -> Option<u32> {
    let fits = gso.kind == kind && gso.size > 0;
    if fits { u32::try_from(headers + usize::from(gso.size)).ok() } else { None }
}

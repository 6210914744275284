//! What the connection state machines read of a packet.
//!
//! It lies here and not with them in the tables because it knows what parse understood. RFCs to
//! read first: 9293 section 3.1, 7323 section 2, 2018 section 3, 9260 section 3.

use super::packet::{Ip, L4};
use super::parse::TCP_HEADER;
use crate::table::conntrack::Segment;
use crate::wire::ETHERNET_HEADER;

#[cfg(test)]
mod tests;

/// TCP options (RFC 9293 section 3.2, RFC 7323, RFC 2018).
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_SCALE: u8 = 3;
const OPTION_SACK_PERMITTED: u8 = 4;
const OPTION_SACK: u8 = 5;
/// The largest window scale (RFC 7323 section 2.3).
const SCALE_MAX: u8 = 14;
/// How the options of nearly all segments begin and end: two fillers and a timestamp.
const TIMESTAMP_ONLY: [u8; 4] = [OPTION_NOP, OPTION_NOP, 8, 10];
const TIMESTAMP_ONLY_LEN: usize = 12;

/// SCTP's chunk types that have an initiate tag, and those that have a T bit.
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const SHUTDOWN_COMPLETE: u8 = 14;
/// Stands for a chunk that is not there, or behind the window.
const CHUNK_UNSEEN: u8 = 255;

impl Segment {
    /// Reads the upper header. `window` is the frame's header window, and `ip` what parse
    /// understood of it; of any others something comes out as well. The length of a TCP payload
    /// follows from the IP header's word, so of a datagram's first part it is that part's.
    #[must_use]
    pub fn read(window: &[u8], ip: &Ip) -> Self {
        let upper = window.get(usize::from(ip.l4_offset)..).unwrap_or(&[]);
        match ip.l4 {
            L4::Tcp { header_len, .. } => Self::tcp(upper, upper_len(ip), header_len),
            L4::Sctp { .. } => sctp(upper, ip),
            L4::Udp { .. } | L4::Icmp { .. } | L4::Nd(_) | L4::Opaque => None,
        }
        .unwrap_or(Self::Plain)
    }

    /// Reads a TCP header. `upper` is what the window has from there on, `len` how many bytes the
    /// packet has.
    #[inline(always)]
    pub(crate) fn tcp(upper: &[u8], len: usize, header_len: u8) -> Option<Self> {
        let (header, _) = upper.split_first_chunk::<TCP_HEADER>()?;
        let [_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, _, flags, w0, w1, ..] = *header;
        let ack = u32::from_be_bytes([a0, a1, a2, a3]);
        let len = len.saturating_sub(usize::from(header_len));
        let options = upper.get(TCP_HEADER..usize::from(header_len)).unwrap_or(&[]);
        let Options { scale, sack_permitted, sacked } = Options::read(options, ack);
        Some(Self::Tcp {
            seq: u32::from_be_bytes([s0, s1, s2, s3]),
            ack,
            window: u16::from_be_bytes([w0, w1]),
            flags,
            len: u32::try_from(len).unwrap_or(u32::MAX),
            scale,
            sack_permitted,
            sacked,
        })
    }
}

/// Bytes of the IP packet from its upper header on.
fn upper_len(ip: &Ip) -> usize {
    let headers = usize::from(ip.l4_offset).saturating_sub(ETHERNET_HEADER);
    usize::try_from(ip.total_len).unwrap_or(usize::MAX).saturating_sub(headers)
}

/// What counts of the options.
#[derive(Default)]
struct Options {
    scale: Option<u8>,
    sack_permitted: bool,
    sacked: Option<u32>,
}

impl Options {
    /// Up to the end, or to what is no option.
    #[inline(always)]
    fn read(bytes: &[u8], ack: u32) -> Self {
        let has_timestamp = bytes.len() == TIMESTAMP_ONLY_LEN && bytes.starts_with(&TIMESTAMP_ONLY);
        if bytes.is_empty() || has_timestamp { Self::default() } else { Self::each(bytes, ack) }
    }

    fn each(mut bytes: &[u8], ack: u32) -> Self {
        let mut options = Self::default();
        loop {
            bytes = match *bytes {
                [OPTION_NOP, ref rest @ ..] => rest,
                [] | [OPTION_END, ..] | [_] => return options,
                [kind, len, ref rest @ ..] => {
                    let body = usize::from(len).checked_sub(2);
                    let Some((body, rest)) = body.and_then(|len| rest.split_at_checked(len)) else {
                        return options;
                    };
                    options.take(kind, body, ack);
                    rest
                }
            };
        }
    }

    fn take(&mut self, kind: u8, body: &[u8], ack: u32) {
        match (kind, body) {
            (OPTION_SCALE, [scale]) => self.scale = Some((*scale).min(SCALE_MAX)),
            (OPTION_SACK_PERMITTED, []) => self.sack_permitted = true,
            (OPTION_SACK, blocks) => {
                let (blocks, []) = blocks.as_chunks::<8>() else { return };
                for [_, _, _, _, right @ ..] in blocks {
                    let right = u32::from_be_bytes(*right);
                    let highest = self.sacked.unwrap_or(ack);
                    // After the highest so far, modulo 2^32.
                    if highest.wrapping_sub(right) >> 31 == 1 {
                        self.sacked = Some(right);
                    }
                }
            }
            _ => {}
        }
    }
}

fn sctp(upper: &[u8], ip: &Ip) -> Option<Segment> {
    // What pads the frame is no chunk.
    let upper = upper.get(..upper_len(ip)).unwrap_or(upper);
    let ([_, _, _, _, t0, t1, t2, t3, _, _, _, _], chunks) = upper.split_first_chunk::<12>()?;
    let tag = u32::from_be_bytes([*t0, *t1, *t2, *t3]);
    let unseen = Segment::Sctp { tag, chunk: CHUNK_UNSEEN, initiate_tag: 0, reflected: false };
    Some(match *chunks {
        [chunk @ (INIT | INIT_ACK), _, _, _, i0, i1, i2, i3, ..] => {
            let initiate_tag = u32::from_be_bytes([i0, i1, i2, i3]);
            Segment::Sctp { tag, chunk, initiate_tag, reflected: false }
        }
        [INIT | INIT_ACK, ..] => unseen,
        [chunk, flags, _, _, ..] => {
            let reflected = matches!(chunk, ABORT | SHUTDOWN_COMPLETE) && flags & 1 != 0;
            Segment::Sctp { tag, chunk, initiate_tag: 0, reflected }
        }
        _ => unseen,
    })
}

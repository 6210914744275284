//! Segmentation of TCP and UDP super-frames (TSO, USO) into what goes over a wire.

use stack::{Checksum, Frame, Gso, GsoKind};

use super::super::Pool;
use super::checksum;
use super::headers::{self, Headers, TCP, UDP, Version, put, u16_at, u32_at};

/// Splits a super-frame into segments with partial checksums, in order. A frame without GSO, one
/// that holds a single segment, and one whose bytes contradict its description stay one frame; the
/// last keeps its description.
pub fn segment(mut frame: Frame, pool: &mut Pool, out: &mut Vec<Frame>) {
    let Some(gso) = frame.offload().gso else { return out.push(frame) };
    let Some(layout) = Layout::of(&frame, gso) else { return out.push(frame) };
    if layout.payload_len() <= layout.size {
        let mut offload = *frame.offload();
        offload.gso = None;
        frame.set_offload(offload);
        return out.push(frame);
    }
    let mut from = layout.payload;
    let mut index = 0_u16;
    while from < layout.headers.end {
        let to = (from + layout.size).min(layout.headers.end);
        let mut piece = pool.take_for(layout.payload + to - from);
        layout.copy(frame.bytes(), from, to, &mut piece);
        let last = to == layout.headers.end;
        layout.edit(piece.bytes_mut(), index, last);
        let mut offload = *frame.offload();
        offload.gso = None;
        offload.checksum = layout.checksum();
        piece.set_offload(offload);
        out.push(piece);
        from = to;
        index = index.wrapping_add(1);
    }
    pool.give(frame);
}

/// What all segments of one super-frame share.
struct Layout {
    headers: Headers,
    gso: Gso,
    /// Bytes of payload in each segment but the last.
    size: usize,
    /// Where the L4 payload begins.
    payload: usize,
    /// Pseudo-header sum without the length, which each segment adds.
    pseudo: u16,
    sequence: u32,
    identification: u16,
}

impl Layout {
    fn of(frame: &Frame, gso: Gso) -> Option<Self> {
        let bytes = frame.bytes();
        let headers = headers::find(bytes)?;
        let (version, protocol) = match gso.kind {
            GsoKind::Tcp4 => (Version::V4, TCP),
            GsoKind::Tcp6 => (Version::V6, TCP),
            GsoKind::Udp => (headers.version, UDP),
        };
        let l4_len = match protocol {
            UDP => 8,
            _tcp => usize::from(bytes.get(headers.l4 + 12)? >> 4).max(5) * 4,
        };
        let payload = headers.l4 + l4_len;
        let agrees = headers.version == version && headers.protocol == protocol;
        let inside = payload <= headers.end && payload <= frame.window().len();
        if !agrees || !inside || headers.end - payload > usize::from(gso.size) * SEGMENTS_MAX {
            return None;
        }
        Some(Self {
            headers,
            gso,
            size: usize::from(gso.size),
            payload,
            pseudo: pseudo_without_length(frame, &headers)?,
            sequence: u32_at(bytes, headers.l4 + 4)?,
            identification: u16_at(bytes, headers.l3 + 4)?,
        })
    }

    fn payload_len(&self) -> usize {
        self.headers.end - self.payload
    }

    fn checksum(&self) -> Checksum {
        let start = u16::try_from(self.headers.l4).unwrap_or(u16::MAX);
        Checksum::Partial { start, offset: self.checksum_offset() }
    }

    fn checksum_offset(&self) -> u16 {
        match self.gso.kind {
            GsoKind::Tcp4 | GsoKind::Tcp6 => 16,
            GsoKind::Udp => 6,
        }
    }

    /// Headers and the payload from `from` to `to`.
    fn copy(&self, bytes: &[u8], from: usize, to: usize, piece: &mut Frame) {
        piece.set_len(self.payload + to - from);
        let (front, rest) = piece.bytes_mut().split_at_mut(self.payload);
        for (target, source) in [(front, 0..self.payload), (rest, from..to)] {
            if let Some(source) = bytes.get(source) {
                target.copy_from_slice(source);
            }
        }
    }

    /// Makes the copied headers those of segment `index`.
    fn edit(&self, bytes: &mut [u8], index: u16, last: bool) {
        let headers = &self.headers;
        let end = bytes.len();
        if headers.version == Version::V4 {
            let identification = self.identification.wrapping_add(index);
            put(bytes, headers.l3 + 4, identification.to_be_bytes());
        }
        headers::put_length(bytes, headers, end);
        let l4_len = u16::try_from(end - headers.l4).unwrap_or(u16::MAX);
        match self.gso.kind {
            GsoKind::Udp => put(bytes, headers.l4 + 4, l4_len.to_be_bytes()),
            GsoKind::Tcp4 | GsoKind::Tcp6 => {
                let offset = u32::from(self.gso.size).wrapping_mul(u32::from(index));
                let sequence = self.sequence.wrapping_add(offset);
                put(bytes, headers.l4 + 4, sequence.to_be_bytes());
                if let Some(flags) = bytes.get_mut(headers.l4 + 13) {
                    if !last {
                        *flags &= !(FIN | PSH);
                    }
                    if self.gso.ecn && index > 0 {
                        *flags &= !CWR;
                    }
                }
            }
        }
        let field = headers.l4 + usize::from(self.checksum_offset());
        put(bytes, field, checksum::add(self.pseudo, l4_len).to_be_bytes());
    }
}

/// The pseudo-header's sum with a length of zero. What the sender wrote into the field is taken
/// where the checksum is partial: with a routing header the address in the IPv6 header is not the
/// one to sum.
fn pseudo_without_length(frame: &Frame, headers: &Headers) -> Option<u16> {
    let Checksum::Partial { start, offset } = frame.offload().checksum else {
        return Some(headers::pseudo_sum(frame.bytes(), headers, 0));
    };
    if usize::from(start) != headers.l4 {
        return None;
    }
    let field = u16_at(frame.bytes(), headers.l4 + usize::from(offset))?;
    let length = u16::try_from(headers.end - headers.l4).ok()?;
    Some(checksum::add(field, !length))
}

/// More than a super-frame with the smallest MSS that Linux sends (48 bytes) has. One byte a
/// segment is an attack: each costs a write.
const SEGMENTS_MAX: usize = 2048;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

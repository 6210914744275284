//! Records of frames.
//!
//! | bytes | field | meaning |
//! | --- | --- | --- |
//! | 5 | flags | bits 0..2 checksum: 0 complete, 1 valid, 2 partial |
//! | | | bits 2..4 GSO: 0 none, 1 TCP over IPv4, 2 TCP over IPv6, 3 UDP |
//! | | | bit 4 ECN of GSO, bit 5 whole |
//! | 6..8 | start | of a partial checksum |
//! | 20..24 | port | of the frame; of a delivery its endpoint |
//! | 24..28 | length | of the frame in bytes |
//! | 28..30 | offset | of a partial checksum |
//! | 30..32 | size | of GSO |
//!
//! The body is the header window, or the whole frame (bit 5): what an endpoint receives, and
//! fragments, which a later stage holds and puts together.

use super::{BODY_MAX, HEAD, Head, Kind};
use crate::input::{Checksum, EndpointId, Frame, Gso, GsoKind, Offload, PortId};
use crate::time::Instant;

const WHOLE: u8 = 1 << 5;
const ECN: u8 = 1 << 4;

/// Where a frame goes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// By a port.
    Port(PortId),
    /// To an endpoint.
    Endpoint(EndpointId),
}

/// The record of a frame, still to be written.
///
/// It is summed from here, not from where it is written: bytes just stored in pieces are slow to
/// load again, and a ring's place is in no cache.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    head: [u64; HEAD / 8],
    body: &'a [u8],
}

impl<'a> Record<'a> {
    /// `whole`: with the frame's payload.
    #[must_use]
    #[inline]
    pub fn of(now: Instant, door: Door, frame: &'a Frame, whole: bool) -> Self {
        let (kind, number) = match door {
            Door::Port(port) => (Kind::Frame, port.0),
            Door::Endpoint(endpoint) => (Kind::Deliver, u32::from(endpoint.0)),
        };
        let body = if whole { frame.bytes() } else { frame.window() };
        let body = body.get(..BODY_MAX).unwrap_or(body);
        let (mut flags, start, offset, size) = offload_fields(frame.offload());
        if body.len() == frame.len() {
            flags |= WHOLE;
        }
        let low = word(HEAD + body.len())
            | u64::from(kind as u8) << 32
            | u64::from(flags) << 40
            | u64::from(start) << 48;
        let high = word(frame.len()) | u64::from(offset) << 32 | u64::from(size) << 48;
        Self { head: [low, now.0, u64::from(number) << 32, high], body }
    }

    /// Its bytes.
    #[must_use]
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a record has its head at least")]
    pub fn len(&self) -> usize {
        HEAD + self.body.len()
    }

    /// Its head as words, without a check.
    #[inline]
    pub(super) fn head(&self) -> [u64; HEAD / 8] {
        self.head
    }

    /// What stands behind the head.
    #[inline]
    pub(super) fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Writes it to the begin of `out` with this check. False when there is no room: nothing is
    /// written then.
    #[inline]
    pub fn write(&self, out: &mut [u8], check: u32) -> bool {
        let record = out.get_mut(..self.len());
        let Some((head, body)) = record.and_then(<[u8]>::split_first_chunk_mut::<HEAD>) else {
            return false;
        };
        let [low, time, middle, high] = self.head;
        let words = [low, time, middle | u64::from(check), high];
        for (place, word) in head.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        body.copy_from_slice(self.body);
        true
    }
}

/// Writes the record of a frame into `out`, all but its check, and gives back its bytes. `None`
/// when there is no room. `whole`: with its payload.
pub fn write<'a>(
    out: &'a mut [u8],
    now: Instant,
    door: Door,
    frame: &Frame,
    whole: bool,
) -> Option<&'a mut [u8]> {
    let record = Record::of(now, door, frame, whole);
    if record.write(out, 0) { out.get_mut(..record.len()) } else { None }
}

/// 32 bits of a count of bytes; of a record there are never more.
#[inline]
fn word(count: usize) -> u64 {
    u64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[inline]
fn offload_fields(offload: &Offload) -> (u8, u16, u16, u16) {
    let (checksum, start, offset) = match offload.checksum {
        Checksum::Complete => (0, 0, 0),
        Checksum::Valid => (1, 0, 0),
        Checksum::Partial { start, offset } => (2, start, offset),
    };
    let Some(gso) = offload.gso else { return (checksum, start, offset, 0) };
    let kind = match gso.kind {
        GsoKind::Tcp4 => 1,
        GsoKind::Tcp6 => 2,
        GsoKind::Udp => 3,
    };
    let ecn = if gso.ecn { ECN } else { 0 };
    (checksum | kind << 2 | ecn, start, offset, gso.size)
}

/// A frame record as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded<'a> {
    /// Where it went in.
    pub door: Door,
    /// The frame's offload description.
    pub offload: Offload,
    /// Bytes of the frame.
    pub len: usize,
    /// What of it was recorded: its first bytes, or all.
    pub bytes: &'a [u8],
}

impl<'a> Recorded<'a> {
    /// Reads a record of kind [`Kind::Frame`] or [`Kind::Deliver`]; `None` if it cannot be one.
    #[must_use]
    pub fn read(record: &'a [u8], head: &Head) -> Option<Self> {
        let bytes = record.get(HEAD..head.len)?;
        let number = u32::from_le_bytes(*record.get(20..)?.first_chunk()?);
        let len = usize::try_from(u32::from_le_bytes(*record.get(24..)?.first_chunk()?)).ok()?;
        let half = |at: usize| Some(u16::from_le_bytes(*record.get(at..)?.first_chunk()?));
        let (start, offset, size) = (half(6)?, half(28)?, half(30)?);
        let door = if head.kind == Kind::Frame {
            Door::Port(PortId(number))
        } else if head.kind == Kind::Deliver {
            Door::Endpoint(EndpointId(u16::try_from(number).ok()?))
        } else {
            return None;
        };
        let whole = head.flags & WHOLE != 0;
        let expected = if whole { len } else { Frame::WINDOW };
        if bytes.len() != expected || len > BODY_MAX || bytes.len() > len {
            return None;
        }
        let checksum = match head.flags & 0b11 {
            0 => Checksum::Complete,
            1 => Checksum::Valid,
            2 => Checksum::Partial { start, offset },
            _ => return None,
        };
        let kind = match head.flags >> 2 & 0b11 {
            0 => None,
            1 => Some(GsoKind::Tcp4),
            2 => Some(GsoKind::Tcp6),
            _ => Some(GsoKind::Udp),
        };
        let gso = kind.map(|kind| Gso { kind, size, ecn: head.flags & ECN != 0 });
        Some(Self { door, offload: Offload { checksum, gso, fragment_mtu: None }, len, bytes })
    }

    /// Makes `frame` the one that was recorded, in the buffer it has. What was not recorded is
    /// whatever the buffer held: the switch never looks at it. False when the buffer is too small.
    pub fn fill(&self, frame: &mut Frame) -> bool {
        frame.reset();
        frame.set_len(self.len);
        frame.set_offload(self.offload);
        let place = frame.bytes_mut();
        let all = place.len() == self.len;
        match place.get_mut(..self.bytes.len()) {
            Some(place) if all => {
                place.copy_from_slice(self.bytes);
                true
            }
            _ => false,
        }
    }
}

/// Whether a frame is recorded whole: a fragment of IPv4 or IPv6, as far as its window shows.
#[must_use]
#[inline]
pub fn is_fragment(window: &[u8]) -> bool {
    let half = |at: usize| window.get(at..).and_then(|rest| rest.first_chunk().copied());
    match half(12).map(u16::from_be_bytes) {
        Some(0x0800) => half(20).map(u16::from_be_bytes).is_some_and(|field| field & 0x3fff != 0),
        Some(0x86dd) => ipv6_fragment(window.get(14..).unwrap_or(&[])),
        _ => false,
    }
}

/// Looks for the fragment header behind those that may stand before it (RFC 8200 section 4.1).
fn ipv6_fragment(packet: &[u8]) -> bool {
    let mut next = packet.get(6).copied();
    let mut at = 40_usize;
    while let Some(header) = next {
        match header {
            44 => return true,
            0 | 43 | 60 => {
                let Some([following, units]) = packet.get(at..).and_then(|rest| rest.first_chunk())
                else {
                    return false;
                };
                next = Some(*following);
                at += (usize::from(*units) + 1) * 8;
            }
            _ => return false,
        }
    }
    false
}

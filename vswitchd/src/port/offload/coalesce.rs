//! Coalescing: UDP datagrams of one flow that came in one batch leave as one super-frame (USO).
//!
//! A write into a TAP runs the receiver's stack, which costs more per frame than all else; one
//! write for many datagrams shares it. The opposite of [`super::segment`]: segmenting what came out
//! gives what went in, byte for byte, the identification of packets that must not be fragmented
//! apart (RFC 6864, 4.1: it means nothing there). There is no timer: everything leaves at the end
//! of the batch.
//!
//! Datagrams are merged only if a receiver could not tell: same MACs, addresses, ports, TOS, TTL,
//! DF and flow label; no options, no fragments; equal size, the last may be shorter; a checksum
//! that is partial, or was verified by the kernel, or is verified here. UDP's "no checksum" is
//! never merged.
//!
//! The order within a flow never changes: a frame that is not merged goes out after what is held of
//! its flow, and one whose flow cannot be seen (a fragment) after everything that is held.

use stack::{Checksum, Frame, Gso, GsoKind};

use super::super::Pool;
use super::checksum;
use super::headers::{self, Headers, TCP, UDP, Version, put, u16_at};

/// A frame to write, and how many frames it stands for.
#[derive(Debug, PartialEq, Eq)]
pub struct Coalesced {
    /// The frame.
    pub frame: Frame,
    /// Frames pushed that are in it.
    pub frames: u32,
}

impl Coalesced {
    fn single(frame: Frame) -> Self {
        Self { frame, frames: 1 }
    }
}

/// Coalesces what goes to one port that takes UDP super-frames and partial checksums.
#[derive(Debug, Default)]
pub struct Coalescer {
    /// Oldest first.
    held: Vec<Held>,
}

impl Coalescer {
    /// Flows held at once. A batch has few frames, so with more flows nothing merges anyway.
    const FLOWS_MAX: usize = 8;
    /// Datagrams in a super-frame: what kernels before 6.9 take (UDP_MAX_SEGMENTS).
    const DATAGRAMS_MAX: u32 = 64;

    /// Takes a frame; appends what is to be written now.
    pub fn push(&mut self, frame: Frame, pool: &mut Pool, out: &mut Vec<Coalesced>) {
        match Kind::of(&frame) {
            Kind::Apart => out.push(Coalesced::single(frame)),
            Kind::Unknown => {
                self.flush(out);
                out.push(Coalesced::single(frame));
            }
            Kind::Datagram(datagram) => self.push_datagram(frame, datagram, pool, out),
        }
    }

    /// Appends all that is held. To be called at the end of each batch.
    pub fn flush(&mut self, out: &mut Vec<Coalesced>) {
        out.extend(self.held.drain(..).map(Held::finish));
    }

    fn push_datagram(
        &mut self,
        frame: Frame,
        datagram: Datagram,
        pool: &mut Pool,
        out: &mut Vec<Coalesced>,
    ) {
        let Some(place) =
            self.held.iter().position(|held| held.first.flow.tuple == datagram.flow.tuple)
        else {
            self.hold(frame, datagram, out);
            return;
        };
        let Some(held) = self.held.get_mut(place) else { return };
        if held.takes(&frame, &datagram) {
            held.append(&frame, &datagram);
            pool.give(frame);
            if held.is_full() {
                out.push(self.held.remove(place).finish());
            }
            return;
        }
        out.push(self.held.remove(place).finish());
        self.hold(frame, datagram, out);
    }

    fn hold(&mut self, frame: Frame, datagram: Datagram, out: &mut Vec<Coalesced>) {
        if !datagram.mergeable {
            out.push(Coalesced::single(frame));
            return;
        }
        if self.held.len() == Self::FLOWS_MAX {
            out.push(self.held.remove(0).finish());
        }
        let verified = !matches!(frame.offload().checksum, Checksum::Complete);
        let next_identification = datagram.identification.wrapping_add(1);
        let size = datagram.size;
        self.held.push(Held {
            frame,
            first: datagram,
            frames: 1,
            verified,
            next_identification,
            last_size: size,
        });
    }
}

/// A frame that waits for more of its flow.
#[derive(Debug)]
struct Held {
    frame: Frame,
    first: Datagram,
    frames: u32,
    /// The first datagram's checksum is known to be right, or still partial.
    verified: bool,
    next_identification: u16,
    last_size: u16,
}

impl Held {
    fn takes(&mut self, frame: &Frame, next: &Datagram) -> bool {
        if !next.mergeable
            || next.flow.rest != self.first.flow.rest
            || next.size > self.first.size
            || self.last_size != self.first.size
            || (!next.atomic && next.identification != self.next_identification)
        {
            return false;
        }
        let grown = self.frame.len() + usize::from(next.size);
        if grown > self.frame.capacity() || grown - self.first.headers.l3 > PACKET_LEN_MAX {
            return false;
        }
        // Only now that a merge is at hand is it worth reading the payloads.
        self.verified = self.verified || is_right(&self.frame, &self.first);
        self.verified && (frame.offload().checksum != Checksum::Complete || is_right(frame, next))
    }

    fn append(&mut self, frame: &Frame, next: &Datagram) {
        let payload = frame.bytes().get(next.headers.l4 + 8..next.headers.end).unwrap_or(&[]);
        let at = self.frame.len();
        self.frame.set_len(at + payload.len());
        if let Some(room) = self.frame.bytes_mut().get_mut(at..) {
            room.copy_from_slice(payload);
        }
        self.frames += 1;
        self.next_identification = next.identification.wrapping_add(1);
        self.last_size = next.size;
    }

    fn is_full(&self) -> bool {
        self.frames == Coalescer::DATAGRAMS_MAX || self.last_size != self.first.size
    }

    /// The super-frame, or, alone, the frame as it came.
    fn finish(mut self) -> Coalesced {
        if self.frames > 1 {
            let headers = Headers { end: self.frame.len(), ..self.first.headers };
            let bytes = self.frame.bytes_mut();
            headers::put_length(bytes, &headers, headers.end);
            let l4_len = u16::try_from(headers.end - headers.l4).unwrap_or(u16::MAX);
            put(bytes, headers.l4 + 4, l4_len.to_be_bytes());
            let pseudo = headers::pseudo_sum(bytes, &headers, l4_len);
            put(bytes, headers.l4 + 6, pseudo.to_be_bytes());
            let mut offload = *self.frame.offload();
            let start = u16::try_from(headers.l4).unwrap_or(u16::MAX);
            offload.checksum = Checksum::Partial { start, offset: 6 };
            offload.gso = Some(Gso { kind: GsoKind::Udp, size: self.first.size, ecn: false });
            self.frame.set_offload(offload);
        }
        Coalesced { frame: self.frame, frames: self.frames }
    }
}

/// How a frame bears on what is held.
#[derive(Debug)]
enum Kind {
    /// It belongs to no flow that could be held: TCP, ARP.
    Apart,
    /// It may belong to any: a fragment, an unusual header.
    Unknown,
    /// A datagram of a flow.
    Datagram(Datagram),
}

#[derive(Clone, Copy, Debug)]
struct Datagram {
    flow: Flow,
    headers: Headers,
    /// Payload bytes.
    size: u16,
    identification: u16,
    /// Must not be fragmented, or is IPv6: the identification means nothing.
    atomic: bool,
    /// Whether it may be merged; if not it still has its place in its flow.
    mergeable: bool,
}

/// What makes a flow, and what must be equal besides for two of its datagrams to be merged.
#[derive(Clone, Copy, Debug)]
struct Flow {
    /// Addresses and L4 ports, as they stand in the packet, then zeros.
    tuple: [u8; 36],
    /// MACs and EtherType; then from the IPv4 header version, TOS, flags, TTL and protocol, or
    /// from the IPv6 header version, traffic class, flow label, protocol and hop limit.
    rest: [u8; 20],
}

impl Flow {
    const EMPTY: Self = Self { tuple: [0; 36], rest: [0; 20] };
}

impl Kind {
    fn of(frame: &Frame) -> Self {
        let window = frame.window();
        match u16_at(window, 12) {
            Some(0x0800) => Self::of_ipv4(frame, window),
            Some(0x86dd) => Self::of_ipv6(frame, window),
            Some(0x0806) => Self::Apart,
            _tagged_or_short => Self::Unknown,
        }
    }

    fn of_ipv4(frame: &Frame, window: &[u8]) -> Self {
        let Some(header) = window.get(14..).and_then(|rest| rest.first_chunk::<28>()) else {
            return Self::Unknown;
        };
        let fragment = u16::from_be_bytes([header[6], header[7]]);
        if header[0] != 0x45 || fragment & !DONT_FRAGMENT != 0 {
            return Self::Unknown;
        }
        match header[9] {
            TCP => return Self::Apart,
            UDP => {}
            _other => return Self::Unknown,
        }
        let mut flow = Flow::EMPTY;
        fill(&mut flow.tuple, [&header[12..24]]);
        fill(&mut flow.rest, [&window[..14], &header[..2], &header[6..10]]);
        let sum_is_right = checksum::sum(&header[..20]) == 0xffff;
        let mut datagram = Datagram::new(frame, flow, Version::V4, 34);
        datagram.identification = u16::from_be_bytes([header[4], header[5]]);
        datagram.atomic = fragment & DONT_FRAGMENT != 0;
        datagram.headers.end = 14 + usize::from(u16::from_be_bytes([header[2], header[3]]));
        datagram.mergeable = sum_is_right && datagram.is_mergeable(frame);
        Self::Datagram(datagram)
    }

    fn of_ipv6(frame: &Frame, window: &[u8]) -> Self {
        let Some(header) = window.get(14..).and_then(|rest| rest.first_chunk::<48>()) else {
            return Self::Unknown;
        };
        match header[6] {
            TCP => return Self::Apart,
            UDP => {}
            _other => return Self::Unknown,
        }
        let mut flow = Flow::EMPTY;
        fill(&mut flow.tuple, [&header[8..44]]);
        fill(&mut flow.rest, [&window[..14], &header[..4], &header[6..8]]);
        let mut datagram = Datagram::new(frame, flow, Version::V6, 54);
        datagram.headers.end = 54 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        datagram.mergeable = datagram.is_mergeable(frame);
        Self::Datagram(datagram)
    }
}

impl Datagram {
    fn new(frame: &Frame, flow: Flow, version: Version, l4: usize) -> Self {
        let headers = Headers { l3: 14, l4, end: frame.len(), version, protocol: UDP };
        let size = u16::try_from(frame.len().saturating_sub(l4 + 8)).unwrap_or(0);
        Self { flow, headers, size, identification: 0, atomic: true, mergeable: false }
    }

    fn is_mergeable(&self, frame: &Frame) -> bool {
        let offload = frame.offload();
        let window = frame.window();
        let l4 = self.headers.l4;
        let whole = offload.gso.is_none()
            && offload.fragment_mtu.is_none()
            && self.headers.end == frame.len()
            && self.size > 0
            && u16_at(window, l4 + 4).map(usize::from) == Some(frame.len() - l4);
        whole
            && match offload.checksum {
                Checksum::Partial { start, offset } => usize::from(start) == l4 && offset == 6,
                Checksum::Valid | Checksum::Complete => u16_at(window, l4 + 6) != Some(0),
            }
    }
}

/// Whether a complete checksum is the right one.
fn is_right(frame: &Frame, datagram: &Datagram) -> bool {
    let headers = &datagram.headers;
    let Some(covered) = frame.bytes().get(headers.l4..headers.end) else { return false };
    let Ok(l4_len) = u16::try_from(covered.len()) else { return false };
    let pseudo = headers::pseudo_sum(frame.bytes(), headers, l4_len);
    checksum::add(pseudo, checksum::sum(covered)) == 0xffff
}

/// Writes the parts one behind the other.
fn fill<const N: usize>(mut rest: &mut [u8], parts: [&[u8]; N]) {
    for part in parts {
        let (front, behind) = rest.split_at_mut(part.len());
        front.copy_from_slice(part);
        rest = behind;
    }
}

const DONT_FRAGMENT: u16 = 0x4000;
/// An IP packet's length field has 16 bits; IPv6 would take 40 more, which nobody needs.
const PACKET_LEN_MAX: usize = 65_535;

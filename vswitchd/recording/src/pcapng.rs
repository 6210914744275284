//! Blocks of a pcapng file (draft-ietf-opsawg-pcapng, version 1.0), little-endian, written into a
//! buffer.
//!
//! Only what editcap and mergecap keep: no custom blocks, and never `epb_verdict`, which they
//! break.

pub mod read;

/// `epb_flags`: the frame came in.
pub const INBOUND: u32 = 0b01;
/// `epb_flags`: the frame went out.
pub const OUTBOUND: u32 = 0b10;
/// `epb_flags`: the L4 checksum is partial.
pub const CHECKSUM_NOT_READY: u32 = 1 << 9;
/// `epb_flags`: a TCP super-frame, to be segmented yet.
pub const TCP_SEGMENTATION: u32 = 1 << 11;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;
/// Link type of Ethernet frames.
pub const LINKTYPE_ETHERNET: u16 = 1;
/// Link type that is free for private use: here what a recording holds beside frames.
pub const LINKTYPE_USER0: u16 = 147;

/// An interface, which here is a hop point.
#[derive(Clone, Copy, Debug)]
pub struct Interface<'a> {
    /// `if_name`.
    pub name: &'a str,
    /// `if_description`.
    pub description: &'a str,
    /// The filter of the capture as it was written; empty for none.
    pub filter: &'a str,
    /// Bytes kept of each frame, 0 for all.
    pub snaplen: u32,
}

/// A frame.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Number of the interface block, from 0.
    pub interface: u32,
    /// Nanoseconds since 1970, UTC.
    pub time: u64,
    /// Bytes of the frame when it was whole.
    pub original_len: usize,
    /// The bytes.
    pub bytes: &'a [u8],
    /// `epb_flags`; 0 is left out.
    pub flags: u32,
    /// `epb_packetid`, if the packet has one.
    pub id: Option<u64>,
    /// `opt_comment`.
    pub comment: &'a str,
}

/// What an interface counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames the capture wanted: those in the file and those lost (`isb_ifrecv`).
    pub received: u64,
    /// Of those: lost because the writer was too slow (`isb_ifdrop`).
    pub lost: u64,
}

/// Appends the section's header.
pub fn section(out: &mut Vec<u8>, application: &str) {
    block(out, SECTION_HEADER, |out| {
        out.extend(BYTE_ORDER.to_le_bytes());
        out.extend([1, 0, 0, 0]); // version 1.0
        out.extend(u64::MAX.to_le_bytes()); // length unknown: it is a stream
        option(out, 3, b"Linux");
        option(out, 4, application.as_bytes());
        end_of_options(out);
    });
}

/// Appends an interface of Ethernet frames. Interfaces are numbered from 0 in the order they come.
pub fn interface(out: &mut Vec<u8>, interface: &Interface<'_>) {
    interface_of(out, LINKTYPE_ETHERNET, interface);
}

/// Appends an interface of any link type.
pub fn interface_of(out: &mut Vec<u8>, link_type: u16, interface: &Interface<'_>) {
    block(out, INTERFACE, |out| {
        out.extend(link_type.to_le_bytes());
        out.extend([0, 0]);
        out.extend(interface.snaplen.to_le_bytes());
        option(out, 2, interface.name.as_bytes());
        option(out, 3, interface.description.as_bytes());
        option(out, 9, &[9]); // nanoseconds
        if !interface.filter.is_empty() {
            let mut text = vec![0]; // a libpcap expression
            text.extend(interface.filter.as_bytes());
            option(out, 11, &text);
        }
        end_of_options(out);
    });
}

/// Appends a frame.
pub fn packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    block(out, PACKET, |out| {
        out.extend(packet.interface.to_le_bytes());
        timestamp(out, packet.time);
        out.extend(length(packet.bytes.len()).to_le_bytes());
        out.extend(length(packet.original_len).to_le_bytes());
        padded(out, packet.bytes);
        if !packet.comment.is_empty() {
            option(out, 1, packet.comment.as_bytes());
        }
        if packet.flags != 0 {
            option(out, 2, &packet.flags.to_le_bytes());
        }
        if let Some(id) = packet.id {
            option(out, 5, &id.to_le_bytes());
        }
        end_of_options(out);
    });
}

/// Appends what an interface counted until `time` (nanoseconds since 1970, UTC).
pub fn statistics(out: &mut Vec<u8>, interface: u32, time: u64, counts: &Statistics) {
    block(out, STATISTICS, |out| {
        out.extend(interface.to_le_bytes());
        timestamp(out, time);
        option(out, 4, &counts.received.to_le_bytes());
        option(out, 5, &counts.lost.to_le_bytes());
        end_of_options(out);
    });
}

/// A block: type, length, body, length again.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    body(out);
    let total = length(out.len() - begin + 4).to_le_bytes();
    out.extend(total);
    if let Some(place) = out.get_mut(begin + 4..begin + 8) {
        place.copy_from_slice(&total);
    }
}

/// An option. Longer values than the format allows are cut; texts stay UTF-8 by that.
fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let mut end = value.len().min(usize::from(u16::MAX));
    while end < value.len() && value.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    let value = value.get(..end).unwrap_or(&[]);
    out.extend(code.to_le_bytes());
    out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    padded(out, value);
}

fn end_of_options(out: &mut Vec<u8>) {
    out.extend([0; 4]);
}

/// Bytes, with zeros up to a multiple of four.
fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes);
    out.resize(out.len() + bytes.len().next_multiple_of(4) - bytes.len(), 0);
}

/// The upper half comes first, whatever the byte order.
fn timestamp(out: &mut Vec<u8>, time: u64) {
    let [a, b, c, d, e, f, g, h] = time.to_le_bytes();
    out.extend([e, f, g, h, a, b, c, d]);
}

fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

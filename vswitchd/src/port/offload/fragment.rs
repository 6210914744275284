//! Fragmentation of IPv4 packets (RFC 791, 3.2), and of IPv6 packets that were in fragments before
//! the node's kernel put them together (RFC 8200, 4.5), on the instruction of the core.

use stack::hash::Hasher;
use stack::{Frame, Offload};

use super::super::Pool;
use super::checksum;
use super::headers::{self, Headers, Version, put, u16_at};

/// Splits the packet in `frame` into fragments of at most `mtu` bytes, in order, with its checksum
/// completed before. What fits already, what is no IP, IPv6 with extension headers, and an `mtu`
/// with no room for the headers and eight bytes leave one frame, the instruction taken off.
pub fn fragment(mut frame: Frame, mtu: u16, pool: &mut Pool, out: &mut Vec<Frame>) {
    let mut offload = *frame.offload();
    offload.fragment_mtu = None;
    frame.set_offload(offload);
    let mtu = usize::from(mtu);
    let found = headers::find(frame.bytes()).filter(|_headers| offload.gso.is_none());
    let Some(headers) = found else { return out.push(frame) };
    let fits = headers.end - headers.l3 <= mtu;
    let inserted = if headers.version == Version::V6 { FRAGMENT_HEADER } else { 0 };
    let extended = headers.version == Version::V6 && headers.l4 != headers.l3 + IPV6_HEADER;
    if fits || extended || mtu < headers.l4 - headers.l3 + inserted + 8 {
        return out.push(frame);
    }
    checksum::complete(&mut frame);
    match headers.version {
        Version::V4 => fragment_v4(&frame, &headers, mtu, pool, out),
        Version::V6 => fragment_v6(&frame, &headers, mtu, pool, out),
    }
    pool.give(frame);
}

/// Behind the IPv6 header comes a fragment header, whose identification is a hash of the headers
/// and of eight bytes behind them: checksum, identifier and sequence number of an echo.
fn fragment_v6(
    frame: &Frame,
    headers: &Headers,
    mtu: usize,
    pool: &mut Pool,
    out: &mut Vec<Frame>,
) {
    let bytes = frame.bytes();
    let mut hasher = Hasher::new(0);
    hasher.bytes(bytes.get(headers.l3 + 8..headers.l4 + 8).unwrap_or(&[]));
    let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
    let mut header = bytes.get(..headers.l4).unwrap_or(&[]).to_vec();
    put(&mut header, headers.l3 + 6, [headers::FRAGMENT]);
    let room = (mtu - IPV6_HEADER - FRAGMENT_HEADER) & !7;
    let data = bytes.get(headers.l4..headers.end).unwrap_or(&[]);
    for (number, part) in data.chunks(room).enumerate() {
        let from = number * room;
        let more = u16::from(from + part.len() < data.len());
        let [high, low] = (u16::try_from(from).unwrap_or(u16::MAX) & !7 | more).to_be_bytes();
        header.truncate(headers.l4);
        header.extend([headers.protocol, 0, high, low, a, b, c, d]);
        let mut piece = pool.take_for(header.len() + part.len());
        fill(&mut piece, &header, part);
        let end = header.len() + part.len();
        headers::put_length(piece.bytes_mut(), headers, end);
        out.push(piece);
    }
}

fn fragment_v4(
    frame: &Frame,
    headers: &Headers,
    mtu: usize,
    pool: &mut Pool,
    out: &mut Vec<Frame>,
) {
    let field = u16_at(frame.bytes(), headers.l3 + 6).unwrap_or(0);
    let (flags, first_unit) = (field & !(MORE | OFFSET), field & OFFSET);
    let mut header = frame.bytes().get(..headers.l4).unwrap_or(&[]).to_vec();
    let mut from = headers.l4;
    while from < headers.end {
        let room = (mtu - (header.len() - headers.l3)) & !7;
        let to = (from + room).min(headers.end);
        let unit = u16::try_from((from - headers.l4) / 8).unwrap_or(OFFSET);
        let more = if to < headers.end { MORE } else { field & MORE };
        let place = flags | more | (first_unit.wrapping_add(unit) & OFFSET);
        let mut piece = pool.take_for(header.len() + to - from);
        write(&mut piece, &header, frame.bytes().get(from..to).unwrap_or(&[]), headers, place);
        out.push(piece);
        if from == headers.l4 {
            header = later_header(&header, headers);
        }
        from = to;
    }
}

fn write(piece: &mut Frame, header: &[u8], data: &[u8], headers: &Headers, place: u16) {
    fill(piece, header, data);
    let bytes = piece.bytes_mut();
    let end = bytes.len();
    put(bytes, headers.l3 + 6, place.to_be_bytes());
    headers::put_length(bytes, &Headers { l4: header.len(), ..*headers }, end);
}

fn fill(piece: &mut Frame, header: &[u8], data: &[u8]) {
    piece.set_len(header.len() + data.len());
    let (front, rest) = piece.bytes_mut().split_at_mut(header.len());
    front.copy_from_slice(header);
    rest.copy_from_slice(data);
    piece.set_offload(Offload::default());
}

/// The header of all fragments but the first: only options whose copied flag is set (RFC 791, 3.1).
fn later_header(header: &[u8], headers: &Headers) -> Vec<u8> {
    let options = headers.l3 + 20;
    let mut later = header.get(..options).unwrap_or(header).to_vec();
    let mut rest = header.get(options..).unwrap_or(&[]);
    while let Some((&kind, after)) = rest.split_first() {
        let len = match kind {
            END_OF_OPTIONS => break,
            NO_OPERATION => 1,
            _other => usize::from(after.first().copied().unwrap_or(0)),
        };
        // A length that leads nowhere ends the options.
        let Some((option, behind)) = rest.split_at_checked(len).filter(|_option| len > 0) else {
            break;
        };
        if kind & COPIED != 0 {
            later.extend_from_slice(option);
        }
        rest = behind;
    }
    while !(later.len() - headers.l3).is_multiple_of(4) {
        later.push(END_OF_OPTIONS);
    }
    let words = u8::try_from((later.len() - headers.l3) / 4).unwrap_or(15);
    put(&mut later, headers.l3, [0x40 | words]);
    later
}

/// Bytes of an IPv6 header, and of a fragment header.
const IPV6_HEADER: usize = 40;
const FRAGMENT_HEADER: usize = 8;
const MORE: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
const COPIED: u8 = 0x80;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;

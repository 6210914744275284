//! Reads what the writer wrote, block by block as the bytes arrive: for `hopctl capture` on a
//! terminal, and for recordings.
//!
//! It understands little-endian files, as we and all tools on such machines write them. Whatever
//! the bytes are, they are blocks or an error, never a panic.

use super::{BYTE_ORDER, INTERFACE, PACKET, SECTION_HEADER, STATISTICS, Statistics};

/// Bytes of a block at most: a super-frame and its options are far smaller.
const BLOCK_MAX: usize = 1 << 24;
/// Why a file of the other byte order is not read.
pub(crate) const OTHER_ORDER: &str = "its byte order is another's";

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// The section's header.
    Section,
    /// An interface, by its name.
    Interface(String),
    /// A frame.
    Packet(Packet),
    /// What an interface counted.
    Statistics(u32, Statistics),
    /// Another kind.
    Other,
}

/// A frame as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Number of its interface.
    pub interface: u32,
    /// Nanoseconds since 1970, UTC.
    pub time: u64,
    /// Bytes of the frame when it was whole.
    pub original_len: u32,
    /// The bytes kept.
    pub bytes: Vec<u8>,
    /// `epb_flags`, 0 if absent.
    pub flags: u32,
    /// `epb_packetid`, 0 if absent.
    pub id: u64,
    /// The comment, empty if absent; a line each if there are several.
    pub comment: String,
}

/// The bytes are no pcapng of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl Malformed {
    /// What is wrong, as a clause.
    #[must_use]
    pub const fn what(&self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not a pcapng stream of this program: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Bytes in, blocks out.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    read: usize,
}

impl Reader {
    /// Whether bytes were left that are no whole block.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        self.read < self.buffer.len()
    }

    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend(bytes);
    }

    /// The next whole block, with its own bytes; `None` until more bytes come.
    ///
    /// # Errors
    /// When the bytes cannot be a block.
    pub fn block(&mut self) -> Result<Option<(Block, &[u8])>, Malformed> {
        let rest = self.buffer.get(self.read..).unwrap_or(&[]);
        let (Some(kind), Some(total)) = (number(rest, 0), number(rest, 4)) else { return Ok(None) };
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        if total < 12 || !total.is_multiple_of(4) || total > BLOCK_MAX {
            return Err(Malformed("a block's length is impossible"));
        }
        let Some(bytes) = rest.get(..total) else { return Ok(None) };
        let body = bytes.get(8..total - 4).unwrap_or(&[]);
        if number(bytes, total - 4).and_then(|n| usize::try_from(n).ok()) != Some(total) {
            return Err(Malformed("a block's lengths contradict each other"));
        }
        let block = match kind {
            SECTION_HEADER if number(body, 0) == Some(BYTE_ORDER) => Block::Section,
            SECTION_HEADER => return Err(Malformed(OTHER_ORDER)),
            INTERFACE => Block::Interface(interface(body)),
            PACKET => Block::Packet(packet(body).ok_or(Malformed("a packet block is cut"))?),
            STATISTICS => statistics(body).ok_or(Malformed("a statistics block is cut"))?,
            _ => Block::Other,
        };
        self.read += total;
        Ok(Some((block, bytes)))
    }
}

/// The link type of an interface block, and how many units of its times a second has.
#[must_use]
pub fn link_and_units(raw: &[u8]) -> Option<(u16, u64)> {
    let link = u16::from_le_bytes(*raw.get(8..)?.first_chunk()?);
    let mut options = options(raw.get(16..raw.len().checked_sub(4)?)?);
    let units = match options.find(|(code, _)| *code == 9).and_then(|(_, value)| value.first()) {
        None => 1_000_000,
        Some(power @ 0..=19) => 10_u64.pow(u32::from(*power)),
        Some(power) => 1_u64.checked_shl(u32::from(*power & 0x7f)).unwrap_or(u64::MAX),
    };
    Some((link, units))
}

fn interface(body: &[u8]) -> String {
    options(body.get(8..).unwrap_or(&[]))
        .find(|(code, _)| *code == 2)
        .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        .unwrap_or_default()
}

fn packet(body: &[u8]) -> Option<Packet> {
    let captured = usize::try_from(number(body, 12)?).ok()?;
    let end = 20_usize.checked_add(captured)?;
    let mut packet = Packet {
        interface: number(body, 0)?,
        time: u64::from(number(body, 4)?) << 32 | u64::from(number(body, 8)?),
        original_len: number(body, 16)?,
        bytes: body.get(20..end)?.to_vec(),
        ..Packet::default()
    };
    for (code, value) in options(body.get(end.next_multiple_of(4)..).unwrap_or(&[])) {
        match code {
            1 => {
                if !packet.comment.is_empty() {
                    packet.comment.push('\n');
                }
                packet.comment.push_str(&String::from_utf8_lossy(value));
            }
            2 => packet.flags = number(value, 0).unwrap_or(0),
            5 => packet.id = long(value).unwrap_or(0),
            _ => {}
        }
    }
    Some(packet)
}

fn statistics(body: &[u8]) -> Option<Block> {
    let interface = number(body, 0)?;
    let mut counts = Statistics::default();
    for (code, value) in options(body.get(12..)?) {
        match code {
            4 => counts.received = long(value).unwrap_or(0),
            5 => counts.lost = long(value).unwrap_or(0),
            _ => {}
        }
    }
    Some(Block::Statistics(interface, counts))
}

/// The options of a block, until the end mark or the first that does not fit.
fn options(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<4>()?;
        let code = u16::from_le_bytes([header[0], header[1]]);
        let len = usize::from(u16::from_le_bytes([header[2], header[3]]));
        if code == 0 {
            return None;
        }
        let value = bytes.get(4..4 + len)?;
        bytes = bytes.get(4 + len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((code, value))
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn long(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

//! The running digest: a chain over every record but comments, and what the switch made of it.
//!
//! Two halves: one over the inputs alone, one over what came of them. When a replay's chain is
//! another than the recorded one, the halves tell damaged bytes from a switch that acts
//! differently. What came of an input is its verdicts and events, and of each frame that left its
//! port, length, offload description and first 96 bytes: MACs, addresses, ports, checksums, and the
//! packet quoted in an ICMP error.
//!
//! A record vouches for itself: its check is that of the chain with the record taken in, and the
//! four bytes where it stands count as zero. So does the bit of its kind that says whether it was
//! carried out, which is set when a record had crashed the worker.
//!
//! It finds faults, not forgers: whoever chooses bytes can make two records alike. The values stand
//! in recordings; a change here is a change of format.

use crate::input::{Checksum, Event, GsoKind, Offload, Outbox};
use crate::trace::{AnswerKind, Trace, Verdict};

/// A chain so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    inputs: u64,
    outcomes: u64,
}

/// First bytes of a frame that left: Ethernet, IPv6 and TCP headers, or ICMP's with what it quotes.
const LEFT: usize = 96;

const KEYS: [u64; 4] =
    [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5895_65b3_d27d_d0b7];

/// 64 by 64 to 128 bits, folded.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let [a, b, c, d, e, f, g, h, high @ ..] = product.to_le_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ u64::from_le_bytes(high)
}

/// Two lanes that take in bytes, pairs of words at a time. No state is in them until the end: what
/// a record comes to does not wait for the record before it, and a processor does both at once.
struct Lanes(u64, u64);

impl Lanes {
    #[inline]
    fn new() -> Self {
        let [k0, _, k2, _] = KEYS;
        Self(k0, k2)
    }

    #[inline]
    fn block(&mut self, [a, b, c, d]: [u64; 4]) {
        let [_, k1, _, k3] = KEYS;
        self.0 = mix(a ^ k1, b ^ self.0);
        self.1 = mix(c ^ k3, d ^ self.1);
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            self.block(words(block));
        }
        if rest.is_empty() {
            return;
        }
        // The last 32 bytes, some of them a second time: the count tells it apart.
        if let Some(last) = bytes.last_chunk::<32>() {
            self.block(words(last));
            return;
        }
        // Zeros stand for what is missing.
        let (whole, tail) = rest.as_chunks::<8>();
        let mut padded = [0_u64; 4];
        for (place, word) in padded.iter_mut().zip(whole) {
            *place = u64::from_le_bytes(*word);
        }
        if let Some(place) = padded.get_mut(whole.len()) {
            *place = tail_word(tail);
        }
        self.block(padded);
    }

    #[inline]
    fn finish(self, state: u64, len: usize) -> u64 {
        let [k0, _, k2, _] = KEYS;
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        let two = self.1.rotate_left(17) ^ len ^ k0;
        mix(state ^ self.0 ^ k2, state.rotate_left(32) ^ two) ^ state.rotate_left(1)
    }
}

#[inline]
fn words(block: &[u8; 32]) -> [u64; 4] {
    let mut words = [0; 4];
    for (place, word) in words.iter_mut().zip(block.as_chunks::<8>().0) {
        *place = u64::from_le_bytes(*word);
    }
    words
}

/// Up to seven bytes as a word, with at most three loads.
#[inline]
fn tail_word(tail: &[u8]) -> u64 {
    let (mut word, mut shift, mut rest) = (0_u64, 0, tail);
    if let Some((four, after)) = rest.split_first_chunk::<4>() {
        (word, shift, rest) = (u64::from(u32::from_le_bytes(*four)), 32, after);
    }
    if let Some((two, after)) = rest.split_first_chunk::<2>() {
        word |= u64::from(u16::from_le_bytes(*two)) << shift;
        (shift, rest) = (shift + 16, after);
    }
    if let Some(byte) = rest.first() {
        word |= u64::from(*byte) << shift;
    }
    word
}

/// Takes bytes and their count into a state.
#[inline]
fn absorb(state: u64, bytes: &[u8]) -> u64 {
    let mut lanes = Lanes::new();
    lanes.bytes(bytes);
    lanes.finish(state, bytes.len())
}

/// What of a record's head counts: all but the check (bytes 16..20) and the bit of the kind.
const COUNTS: [u64; 4] = [!((super::NOT_DONE as u64) << 32), u64::MAX, !0xffff_ffff, u64::MAX];

impl Chain {
    /// The chain before any record.
    #[must_use]
    pub const fn new() -> Self {
        Self { inputs: 0x686f_7073_636f_7065, outcomes: 0 }
    }

    /// A chain as it was recorded.
    #[must_use]
    pub const fn resume(inputs: u64, outcomes: u64) -> Self {
        Self { inputs, outcomes }
    }

    /// The half over the records.
    #[must_use]
    #[inline]
    pub const fn inputs(&self) -> u64 {
        self.inputs
    }

    /// The half over what came of them.
    #[must_use]
    #[inline]
    pub const fn outcomes(&self) -> u64 {
        self.outcomes
    }

    /// What the head of the record taken in last bears: half of it of the inputs, half of what came
    /// of those before it.
    #[inline]
    #[must_use]
    pub const fn check(&self) -> u32 {
        let [a, b, ..] = self.inputs.to_le_bytes();
        let [c, d, ..] = self.outcomes.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Takes in a record, which is no comment.
    #[inline]
    pub fn record(&mut self, record: &[u8]) {
        match record.split_first_chunk::<{ super::HEAD }>() {
            Some((head, body)) => self.parts(words(head), body),
            None => self.inputs = absorb(self.inputs, record),
        }
    }

    /// The same of a head as words and the body behind it.
    #[inline]
    pub(super) fn parts(&mut self, head: [u64; 4], body: &[u8]) {
        let mut counted = head;
        for (word, counts) in counted.iter_mut().zip(COUNTS) {
            *word &= counts;
        }
        let mut lanes = Lanes::new();
        lanes.block(counted);
        lanes.bytes(body);
        self.inputs = lanes.finish(self.inputs, super::HEAD + body.len());
    }

    /// Takes in that the record was skipped: it had crashed whoever carried it out.
    pub fn skip(&mut self) {
        let [_, _, k2, k3] = KEYS;
        self.outcomes = mix(self.outcomes ^ k2, k3);
    }

    /// Takes in what came of it: all of `out`, which held nothing before the input.
    #[inline]
    pub fn outcome(&mut self, out: &Outbox) {
        let [k0, k1, k2, k3] = KEYS;
        for trace in &out.walked {
            self.outcomes = mix(self.outcomes ^ k0, verdict(trace) ^ k1);
        }
        for transmit in &out.transmits {
            let window = transmit.frame.window();
            let left = window.get(..LEFT).unwrap_or(window);
            let len = u64::try_from(transmit.frame.len()).unwrap_or(u64::MAX);
            let head = u64::from(transmit.port.0) << 32 ^ len;
            let mut described = mix(head ^ k2, offload(transmit.frame.offload()) ^ k1);
            if let Some(mtu) = transmit.frame.offload().fragment_mtu {
                described = mix(described ^ u64::from(mtu), k3);
            }
            self.outcomes = absorb(self.outcomes ^ described, left);
        }
        for event in &out.events {
            match event {
                Event::Rejected(_) | Event::NotImported(_) => {
                    self.outcomes = mix(self.outcomes ^ k3, k0);
                }
            }
        }
    }
}

/// An offload description but for `fragment_mtu`, as a word.
fn offload(offload: &Offload) -> u64 {
    let checksum = match offload.checksum {
        Checksum::Complete => 0,
        Checksum::Valid => 1,
        Checksum::Partial { start, offset } => 2 | u64::from(start) << 2 | u64::from(offset) << 18,
    };
    let gso = offload.gso.map_or(0, |gso| {
        let kind = match gso.kind {
            GsoKind::Tcp4 => 1,
            GsoKind::Tcp6 => 2,
            GsoKind::Udp => 3,
        };
        kind | u64::from(gso.ecn) << 2 | u64::from(gso.size) << 3
    });
    checksum | gso << 34
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

/// A verdict as a word.
fn verdict(trace: &Trace) -> u64 {
    let (kind, value) = match trace.verdict {
        Verdict::Forward(port) => (1, u64::from(port.0)),
        Verdict::Flood(ports) => (2, u64::from(ports)),
        Verdict::Deliver(endpoint) => (3, u64::from(endpoint.0)),
        Verdict::Drop(reason) => (4, u64::from(reason.code())),
        Verdict::Answer(kind) => match kind {
            AnswerKind::Arp(_) => (5, 0),
            AnswerKind::Neighbor(_) => (6, 0),
            AnswerKind::Echo => (7, 0),
            AnswerKind::Error { reason, icmp_type, code, mtu } => {
                let told = u64::from(icmp_type) << 16 | u64::from(code) << 24;
                (8, u64::from(reason.code()) | told | u64::from(mtu) << 32)
            }
            AnswerKind::Reset { reason } => (9, u64::from(reason.code())),
        },
        Verdict::Hold => (10, 0),
    };
    value << 8 | kind
}

#[cfg(test)]
mod tests;

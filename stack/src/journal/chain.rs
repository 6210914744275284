//! The running digest: a chain over every record but comments, and what the switch made of it.
//!
//! Two halves: one over the inputs alone, one over what came of them. When a replay's chain is
//! another than the recorded one, the halves tell damaged bytes from a switch that acts
//! differently. What came of an input is its verdicts, and of each frame that left its port,
//! length, and first 58 bytes: MACs, addresses, ports of IPv4 and IPv6 without options.
//!
//! The values stand in recordings: a change here is a change of format.

use crate::input::Outbox;
use crate::trace::{AnswerKind, Trace, Verdict};

/// A chain so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    inputs: u64,
    outcomes: u64,
}

/// First bytes of a frame that left: MACs and EtherType, an IPv6 header, an L4 header's ports.
const LEFT: usize = 58;

const KEYS: [u64; 4] =
    [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5895_65b3_d27d_d0b7];

/// 64 by 64 to 128 bits, folded.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let [a, b, c, d, e, f, g, h, high @ ..] = product.to_le_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ u64::from_le_bytes(high)
}

#[inline]
fn word(bytes: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*bytes)
}

/// Takes 32 bytes into two lanes.
#[inline]
fn block(lanes: (u64, u64), bytes: &[u8; 32]) -> (u64, u64) {
    let [_, k1, _, k3] = KEYS;
    match bytes.as_chunks::<8>() {
        ([a, b, c, d], _) => {
            (mix(word(a) ^ k1, word(b) ^ lanes.0), mix(word(c) ^ k3, word(d) ^ lanes.1))
        }
        _ => lanes,
    }
}

/// Takes bytes and their count into a state: pairs of words on two lanes. What is no whole block is
/// taken as the last 32 bytes, some of them a second time; the count tells it apart.
#[inline]
fn absorb(state: u64, bytes: &[u8]) -> u64 {
    let [k0, _, k2, _] = KEYS;
    let mut lanes = (state ^ k0, state.rotate_left(32) ^ k2);
    let (blocks, rest) = bytes.as_chunks::<32>();
    for bytes in blocks {
        lanes = block(lanes, bytes);
    }
    if !rest.is_empty() {
        lanes = match bytes.last_chunk::<32>() {
            Some(last) => block(lanes, last),
            None => block(lanes, &padded(rest)),
        };
    }
    let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    mix(lanes.0 ^ k2, lanes.1.rotate_left(17) ^ count ^ k0) ^ state.rotate_left(1)
}

/// Fewer bytes than a block has, and zeros.
#[cold]
fn padded(bytes: &[u8]) -> [u8; 32] {
    let mut padded = [0; 32];
    for (place, byte) in padded.iter_mut().zip(bytes) {
        *place = *byte;
    }
    padded
}

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
    pub const fn inputs(&self) -> u64 {
        self.inputs
    }

    /// The half over what came of them.
    #[must_use]
    pub const fn outcomes(&self) -> u64 {
        self.outcomes
    }

    /// What the next record's head bears.
    #[must_use]
    pub const fn check(&self) -> u32 {
        let [a, b, c, d, ..] = (self.inputs ^ self.outcomes.rotate_left(32)).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Takes in a record, which is no comment.
    #[inline]
    pub fn record(&mut self, record: &[u8]) {
        self.inputs = absorb(self.inputs, record);
    }

    /// Takes in what came of it: all of `out`, which held nothing before the input.
    #[inline]
    pub fn outcome(&mut self, out: &Outbox) {
        let [k0, k1, k2, _] = KEYS;
        for trace in &out.walked {
            self.outcomes = mix(self.outcomes ^ k0, verdict(trace) ^ k1);
        }
        for transmit in &out.transmits {
            let window = transmit.frame.window();
            let left = window.get(..LEFT).unwrap_or(window);
            let len = u64::try_from(transmit.frame.len()).unwrap_or(u64::MAX);
            let head = u64::from(transmit.port.0) << 32 ^ len;
            self.outcomes = absorb(self.outcomes ^ mix(head ^ k2, k1), left);
        }
    }
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
        },
    };
    value << 8 | kind
}

#[cfg(test)]
mod tests;

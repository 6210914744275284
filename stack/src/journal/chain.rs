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

use crate::hash::{KEYS, Lanes, mix, words};
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

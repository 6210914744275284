//! What passes from the event loop to a capture's writer: a walk, its bytes, and who wants what of
//! it.

use stack::{Frame, Offload, PortId, Stage, Trace, Verdict};

use super::cbpf::Bytes;

/// A hop point: one interface of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// A port, where frames come in and go out.
    Port(PortId),
    /// After the hops of a stage.
    Stage(Stage),
}

/// A frame that left, or as much of it as is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its first bytes: at least the header window.
    pub bytes: Vec<u8>,
    /// Bytes when it was whole.
    pub len: usize,
    /// Its offload description.
    pub offload: Offload,
}

/// One walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds since 1970, UTC.
    pub time: u64,
    /// What was recorded.
    pub trace: Trace,
    /// The frame as it came in.
    pub received: Kept,
    /// Whether it is wanted; if not, only the answer is.
    pub wanted: bool,
    /// Whether it came in now: not a fragment that was held.
    pub came: bool,
    /// The ports it left by, answers apart.
    pub egress: Vec<PortId>,
    /// The frame that the switch replied with, if it is wanted.
    pub answer: Option<Kept>,
}

impl Kept {
    /// Copies a frame's first `most` bytes, and never less than the window.
    #[must_use]
    pub fn copy(bytes: Bytes<'_>, most: usize, offload: Offload) -> Self {
        let len = bytes.len();
        let end = len.min(most.max(Frame::WINDOW));
        let mut kept = Vec::with_capacity(end);
        for part in [bytes.head, bytes.tail] {
            let left = end - kept.len();
            kept.extend_from_slice(part.get(..left).unwrap_or(part));
        }
        Self { bytes: kept, len, offload }
    }

    /// The header window.
    #[must_use]
    pub fn window(&self) -> &[u8] {
        self.bytes.get(..Frame::WINDOW).unwrap_or(&self.bytes)
    }
}

/// The first hop at which the frame is no longer the one received but the switch's answer: as many
/// as there are hops if it never is.
#[must_use]
pub fn answered_at(trace: &Trace) -> usize {
    let hops = trace.hops();
    match trace.verdict {
        Verdict::Answer(_) => {
            hops.iter().position(|hop| hop.stage() >= Stage::Answer).unwrap_or(hops.len())
        }
        Verdict::Forward(_)
        | Verdict::Flood(_)
        | Verdict::Deliver(_)
        | Verdict::Drop(_)
        | Verdict::Hold => hops.len(),
    }
}

impl Record {
    /// Bytes that this record takes in the ring's budget.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.received.bytes.len() + self.answer.as_ref().map_or(0, |answer| answer.bytes.len())
    }
}

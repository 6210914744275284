//! One live capture: sits on the event loop's thread, decides which walks it wants, and passes them to its
//! writer through a bounded ring. What does not fit is counted, never waited for.

use stack::{Frame, Instant, Offload, PortId, Trace};

/// A walk as a session sees it.
pub struct Observed<'a> {
    /// When it happened, CLOCK_MONOTONIC.
    pub now: Instant,
    /// What was recorded.
    pub trace: &'a Trace,
    /// The whole frame as it came in.
    pub received: &'a [u8],
    /// Its offload description.
    pub offload: Offload,
    /// What left: egress port and the frame as it left, answers included.
    pub sent: &'a [(PortId, &'a Frame)],
}

/// The event loop's end of a capture.
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// Shows it a walk. False when the reader is gone: the loop then lets go of the session.
    pub fn observe(&mut self, _walk: &Observed<'_>) -> bool {
        false
    }
}

//! What came of one input as captures see it, live and in a replay alike.

use stack::{Frame, Instant, Offload, Outbox, PortId};

use super::session::Observed;

/// The frame that was put in by a port.
#[derive(Clone, Copy, Debug)]
pub struct PutIn<'a> {
    /// The whole frame.
    pub bytes: &'a [u8],
    /// Its offload description.
    pub offload: Offload,
    /// Bytes of it that are known.
    pub known: usize,
}

/// Shows every walk of an input. `frame` is what was put in, unless an endpoint received it.
pub fn each(
    now: Instant,
    frame: Option<PutIn<'_>>,
    out: &Outbox,
    mut see: impl FnMut(&Observed<'_>),
) {
    for (number, trace) in out.walked.iter().enumerate() {
        let of_walk = |walk: u32| usize::try_from(walk).is_ok_and(|walk| walk == number);
        let sent: Vec<(PortId, &Frame)> = out
            .transmits
            .iter()
            .filter(|transmit| of_walk(transmit.walk))
            .map(|transmit| (transmit.port, &transmit.frame))
            .collect();
        // What an endpoint sent was never received from outside: it left as it was made.
        let own = sent.first().map(|(_, frame)| *frame);
        let own = own.or_else(|| {
            out.reclaimed.iter().find(|(walk, _)| of_walk(*walk)).map(|(_, frame)| frame)
        });
        let (received, offload, known) = match (frame, own) {
            (Some(frame), _) => (frame.bytes, frame.offload, frame.known),
            (None, Some(frame)) => (frame.bytes(), *frame.offload(), usize::MAX),
            (None, None) => continue,
        };
        see(&Observed { now, trace, received, offload, known, sent: &sent });
    }
}

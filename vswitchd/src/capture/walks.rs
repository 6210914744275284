//! What came of one input as captures see it, live and in a replay alike.

use stack::{Frame, Instant, Offload, Outbox, PortId, Trace, Verdict};

use super::cbpf::Bytes;
use super::session::Observed;

/// The frame that was put in by a port.
#[derive(Clone, Copy, Debug)]
pub struct PutIn<'a> {
    /// Its first bytes: the header window at least. A walk edits nothing behind it, so the rest is
    /// read off what became of the frame, and nobody copies it for captures that do not want it.
    pub bytes: &'a [u8],
    /// Bytes of the whole frame.
    pub len: usize,
    /// Its offload description.
    pub offload: Offload,
    /// Bytes of it that are known.
    pub known: usize,
}

/// Shows every walk of an input. `frame` is what was put in, unless an endpoint received it; of a
/// fragment that was held until then the outbox has what came in.
pub fn each<'a>(
    now: Instant,
    frame: Option<PutIn<'a>>,
    out: &'a Outbox,
    mut see: impl FnMut(&Observed<'_>),
) {
    for (number, trace) in out.walked.iter().enumerate() {
        let of_walk = |walk: u32| usize::try_from(walk).is_ok_and(|walk| walk == number);
        let transmits = out.transmits.iter().filter(|transmit| of_walk(transmit.walk));
        let mut transmits = transmits.map(|transmit| (transmit.port, &transmit.frame));
        // Nearly all leave once: no allocation for those.
        let (one, many): ([(PortId, &Frame); 1], Vec<_>);
        let sent: &[(PortId, &Frame)] = match (transmits.next(), transmits.next()) {
            (None, _) => &[],
            (Some(first), None) => {
                one = [first];
                &one
            }
            (Some(first), Some(second)) => {
                many = [first, second].into_iter().chain(transmits).collect();
                &many
            }
        };
        // What an endpoint sent was never received from outside: it left as it was made.
        let own = sent.first().map(|(_, frame)| *frame);
        let own = own.or_else(|| {
            out.reclaimed.iter().find(|(walk, _)| of_walk(*walk)).map(|(_, frame)| frame)
        });
        let released = out.released.iter().find(|(walk, _)| of_walk(*walk)).map(|(_, held)| held);
        let came = released.is_none();
        let (received, offload, known) = match (released, frame, own) {
            (None, Some(frame), _) => (frame.whole(trace, number, out), frame.offload, frame.known),
            (Some(frame), _, _) | (None, None, Some(frame)) => {
                (Bytes::split(frame.bytes()), *frame.offload(), usize::MAX)
            }
            (None, None, None) => continue,
        };
        see(&Observed { now, trace, received, offload, came, known, sent });
    }
}

impl<'a> PutIn<'a> {
    /// The whole frame as it was put in.
    fn whole(&self, trace: &Trace, walk: usize, out: &'a Outbox) -> Bytes<'a> {
        let Bytes { head, tail } = Bytes::split(self.bytes);
        let known = head.len() + tail.len();
        if known >= self.len {
            return Bytes { head, tail };
        }
        let became = became(trace, walk, out);
        debug_assert!(became.is_some(), "a frame that was put in leaves or comes back");
        let bytes = became.map_or(&[][..], |frame| frame.bytes_before_cut(self.len));
        Bytes { head, tail: bytes.get(head.len()..).unwrap_or(tail) }
    }
}

/// What became of the frame that was put in: edited within its window and cut perhaps, the rest as
/// it was.
fn became<'a>(trace: &Trace, walk: usize, out: &'a Outbox) -> Option<&'a Frame> {
    let of_walk = |number: u32| usize::try_from(number).is_ok_and(|number| number == walk);
    // Where the switch has answered with a frame of its own, this one is here.
    let reclaimed = || out.reclaimed.iter().find(|(number, _)| of_walk(*number));
    if let Verdict::Deliver(_) = trace.verdict {
        return out.deliveries.first().map(|(_, frame)| frame);
    }
    // Of a flood the frame itself goes last; those before it are copies.
    let sent = || out.transmits.iter().rfind(|transmit| of_walk(transmit.walk));
    reclaimed().map(|(_, frame)| frame).or_else(|| sent().map(|transmit| &transmit.frame))
}

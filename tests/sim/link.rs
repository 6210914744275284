//! Links that lose, double, delay and damage frames.

use stack::Frame;
use stack::input::Offload;

use crate::draw::Draw;
use crate::options::Options;

/// Which way a link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Towards {
    /// From a host: may damage. On one link of a frame's way only: two turned bits can cancel out
    /// in an Internet checksum, and no TCP would notice.
    Switch,
    /// To a host: never damages.
    Host,
}

/// What a link makes of a frame: the frames that arrive, each with its time on the way in
/// nanoseconds.
pub(crate) fn carry(
    frame: Frame,
    towards: Towards,
    faulty: bool,
    options: &Options,
    draw: &mut Draw,
) -> Vec<(u64, Frame)> {
    let mut arriving = Vec::new();
    if !faulty {
        arriving.push((options.delay * 1_000, frame));
        return arriving;
    }
    if draw.chance(options.loss) {
        return arriving;
    }
    if draw.chance(options.duplicate) {
        arriving.push((time(options, draw), frame.duplicate()));
    }
    let mut frame = frame;
    // A checksum that is still to be computed would cover the damage: that happens in a host's
    // memory and is nothing that TCP could notice.
    let plain = *frame.offload() == Offload::default() && towards == Towards::Switch;
    if plain && !frame.is_empty() && draw.chance(options.corrupt) {
        let at = draw.index(frame.len());
        frame.bytes_mut()[at] ^= 1 << draw.below(8);
    }
    arriving.push((time(options, draw), frame));
    arriving
}

/// Whole microseconds, as smoltcp counts.
fn time(options: &Options, draw: &mut Draw) -> u64 {
    let held = if draw.chance(options.reorder) { 10 } else { 1 };
    1_000 * (1 + draw.below(options.delay * held))
}

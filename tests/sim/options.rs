//! What a seed's run is made of. Each fault is off in half of the runs, so that none hides
//! another's bugs (swarm testing: Groce and others, 2012).

use crate::draw::Draw;

/// Drawn from the seed, printed when it fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Pods, the node not counted.
    pub(crate) pods: u8,
    /// TCP transfers between hosts.
    pub(crate) transfers: u16,
    /// Bytes of the longest transfer.
    pub(crate) bytes: u64,
    /// Frames of a thousand that a link loses.
    pub(crate) loss: u64,
    /// Frames of a thousand that a link carries twice.
    pub(crate) duplicate: u64,
    /// Frames of a thousand that a link holds back for up to ten times its delay.
    pub(crate) reorder: u64,
    /// Frames of a thousand in which a link turns a bit.
    pub(crate) corrupt: u64,
    /// Longest time on a link, in microseconds.
    pub(crate) delay: u64,
    /// Changes of configuration while there are faults.
    pub(crate) changes: u64,
    /// Frames that no honest host sends, while there are faults.
    pub(crate) hostile: u64,
    /// Hosts leave checksums and TCP segmentation to the switch's ports.
    pub(crate) offload: bool,
    /// How long there are faults, in virtual milliseconds.
    pub(crate) faulty: u64,
}

impl Options {
    pub(crate) fn draw(draw: &mut Draw) -> Self {
        let mut maybe = |most: u64| if draw.chance(500) { 1 + draw.below(most) } else { 0 };
        let (loss, duplicate, reorder, corrupt) = (maybe(200), maybe(100), maybe(300), maybe(100));
        let (changes, hostile) = (maybe(40), maybe(120));
        Self {
            pods: 2 + u8::try_from(draw.below(4)).unwrap(),
            transfers: 1 + u16::try_from(draw.below(4)).unwrap(),
            bytes: 1 + draw.below(30_000),
            loss,
            duplicate,
            reorder,
            corrupt,
            delay: 1 + draw.below(500),
            changes,
            hostile,
            offload: draw.chance(500),
            faulty: 100 + draw.below(2_000),
        }
    }
}

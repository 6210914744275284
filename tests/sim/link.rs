//! Links that lose, double, delay, damage and refuse frames, and are cut for a while.

use std::collections::BTreeMap;

use stack::Frame;
use stack::input::Offload;

use crate::draw::Draw;
use crate::options::Options;
use crate::underlay::packet_len;

/// One direction of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// From a host to its switch.
    FromHost(usize),
    /// To a host from its switch.
    ToHost(usize),
    /// From one node to another, over the underlay.
    Between(u8, u8),
}

/// All links.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// Links have faults.
    pub(crate) faulty: bool,
    /// Until when a way carries nothing.
    cut: BTreeMap<Way, u64>,
    /// Until when a way carries only packets of so many bytes.
    narrow: BTreeMap<Way, (u64, usize)>,
}

impl Links {
    /// All is well from now on.
    pub(crate) fn heal(&mut self) {
        *self = Self::default();
    }

    /// Cuts something off until `end`: one way, a link both ways, or a node from all others.
    pub(crate) fn cut(&mut self, hosts: usize, nodes: u8, end: u64, draw: &mut Draw) {
        let way = any(hosts, nodes, draw);
        let both = draw.chance(500);
        self.cut.insert(way, end);
        match way {
            Way::FromHost(n) if both => _ = self.cut.insert(Way::ToHost(n), end),
            Way::ToHost(n) if both => _ = self.cut.insert(Way::FromHost(n), end),
            Way::Between(one, other) if both => _ = self.cut.insert(Way::Between(other, one), end),
            Way::Between(one, _) if draw.chance(500) => {
                for other in (0..nodes).filter(|other| *other != one) {
                    self.cut.insert(Way::Between(one, other), end);
                    self.cut.insert(Way::Between(other, one), end);
                }
            }
            Way::FromHost(_) | Way::ToHost(_) | Way::Between(..) => {}
        }
    }

    /// A way takes small packets only until `end`, and says nothing about the others: a black hole.
    pub(crate) fn narrow(&mut self, hosts: usize, nodes: u8, end: u64, draw: &mut Draw) {
        let mtu = [576, 1_000, 1_280, 1_400][draw.index(4)];
        self.narrow.insert(any(hosts, nodes, draw), (end, mtu));
    }

    /// What a way makes of a frame at `now`: the frames that arrive, each with its time on the way
    /// in nanoseconds. `fresh`: no link carried it before. Only the first may damage it: two turned
    /// bits can cancel out in an Internet checksum, and no TCP would notice.
    pub(crate) fn carry(
        &self,
        mut frame: Frame,
        (way, fresh): (Way, bool),
        now: u64,
        options: &Options,
        draw: &mut Draw,
    ) -> Vec<(u64, Frame)> {
        let mut arriving = Vec::new();
        if !self.faulty {
            arriving.push((options.delay * 1_000, frame));
            return arriving;
        }
        let is_cut = self.cut.get(&way).is_some_and(|end| now < *end);
        let narrow = self.narrow.get(&way).filter(|(end, _)| now < *end);
        let too_big = narrow.is_some_and(|(_, mtu)| packet_len(&frame) > *mtu);
        if is_cut || too_big || draw.chance(options.loss) {
            return arriving;
        }
        if draw.chance(options.duplicate) {
            arriving.push((time(options, draw), frame.duplicate()));
        }
        // A checksum that is still to be computed would cover the damage: that happens in a host's
        // memory and is nothing that TCP could notice.
        let plain = *frame.offload() == Offload::default() && fresh;
        if plain && !frame.is_empty() && draw.chance(options.corrupt) {
            let at = draw.index(frame.len());
            frame.bytes_mut()[at] ^= 1 << draw.below(8);
        }
        arriving.push((time(options, draw), frame));
        arriving
    }
}

/// A way that is drawn.
fn any(hosts: usize, nodes: u8, draw: &mut Draw) -> Way {
    if nodes > 1 && draw.chance(500) {
        let one = u8::try_from(draw.below(u64::from(nodes))).unwrap();
        let next = 1 + u8::try_from(draw.below(u64::from(nodes) - 1)).unwrap();
        return Way::Between(one, (one + next) % nodes);
    }
    let n = draw.index(hosts);
    if draw.chance(500) { Way::FromHost(n) } else { Way::ToHost(n) }
}

/// Whole microseconds, as smoltcp counts.
fn time(options: &Options, draw: &mut Draw) -> u64 {
    let held = if draw.chance(options.reorder) { 10 } else { 1 };
    1_000 * (1 + draw.below(options.delay * held))
}

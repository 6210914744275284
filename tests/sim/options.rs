//! What a seed's run is made of. Each fault is off in half of the runs, so that none hides
//! another's bugs (swarm testing: Groce and others, 2012).

use stack::DropReason;

use crate::draw::Draw;

/// Drawn from the seed, printed when it fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Nodes.
    pub(crate) nodes: u8,
    /// Pods of each node, the node itself not counted.
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
    /// Times that a link, a pair of nodes or a node is cut off, one way or both.
    pub(crate) partitions: u64,
    /// Times that a link takes small packets only.
    pub(crate) narrowings: u64,
    /// Changes of configuration while there are faults.
    pub(crate) changes: u64,
    /// Services of the cluster, each of both families.
    pub(crate) services: u8,
    /// Clients of Services and of the outside.
    pub(crate) clients: u16,
    /// Pods' addresses are not known outside of the cluster: what leaves it is masqueraded.
    pub(crate) masquerade: bool,
    /// Few connections fit, of a node and of a pod, and few ports stand in for others.
    pub(crate) scarce: bool,
    /// Frames that no honest host sends, while there are faults.
    pub(crate) hostile: u64,
    /// Times that a node's worker dies.
    pub(crate) crashes: u64,
    /// Inputs between two snapshots.
    pub(crate) snapshot_every: u64,
    /// Rows that a snapshot shows between two inputs.
    pub(crate) rows: usize,
    /// Journals hold whole frames, not only windows.
    pub(crate) payload: bool,
    /// Hosts leave checksums and TCP segmentation to the switch's ports.
    pub(crate) offload: bool,
    /// How long there are faults, in virtual milliseconds.
    pub(crate) faulty: u64,
    /// A law that is no law, for the tests of what happens when one fails: nothing is dropped for
    /// this reason.
    pub(crate) broken: Option<DropReason>,
}

impl Options {
    pub(crate) fn draw(draw: &mut Draw) -> Self {
        let mut maybe = |most: u64| if draw.chance(500) { 1 + draw.below(most) } else { 0 };
        let (loss, duplicate, reorder, corrupt) = (maybe(200), maybe(100), maybe(300), maybe(100));
        let (partitions, narrowings) = (maybe(4), maybe(4));
        let (changes, hostile, crashes) = (maybe(40), maybe(80), maybe(7));
        let (services, clients) = if draw.chance(750) {
            (1 + u8::try_from(draw.below(3)).unwrap(), 1 + u16::try_from(draw.below(4)).unwrap())
        } else {
            (0, 0)
        };
        let nodes = 1 + u8::try_from(draw.below(3)).unwrap();
        let (fewest, more) = if nodes == 1 { (2, 4) } else { (1, 3) };
        Self {
            nodes,
            pods: fewest + u8::try_from(draw.below(more)).unwrap(),
            transfers: 1 + u16::try_from(draw.below(3)).unwrap(),
            bytes: 1 + draw.below(8_000),
            loss,
            duplicate,
            reorder,
            corrupt,
            delay: 1 + draw.below(500),
            partitions,
            narrowings,
            changes,
            hostile,
            services,
            clients,
            masquerade: draw.chance(750),
            scarce: draw.chance(200),
            crashes,
            snapshot_every: 1 + draw.below(60),
            rows: 1 + draw.index(8),
            payload: draw.chance(250),
            offload: draw.chance(500),
            faulty: 100 + draw.below(2_000),
            broken: None,
        }
    }
}

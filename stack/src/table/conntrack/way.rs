//! How the latest whole walk carried one side's packets: what the fast path repeats.
//!
//! A cache and no state: it is in no digest, dump, snapshot or export, and whoever restores a
//! switch begins without it. Whatever it says, a whole walk would say as well.

use crate::table::Slot;

/// How one side's packets are carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// The version of all that it depends on ([`crate::table::Tables::version`]); 0 while no whole
    /// walk carried a packet of this side.
    pub(crate) version: u32,
    /// The egress port. Ports are at most 65,536 ([`crate::Limits`]).
    egress: u16,
    /// Bits of the route's prefix, where it is routed.
    pub(crate) prefix_len: u8,
    /// Whether it is routed, or else bridged.
    pub(crate) kind: Kind,
}

/// Which way, in a byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To the pod whose MAC it bears.
    #[default]
    Bridged,
    /// To an address that is attached to the egress port.
    Attached,
    /// By the route to the egress port.
    Routed,
}

impl Way {
    /// A way of the given version.
    pub(crate) fn new(version: u32, egress: Slot, prefix_len: u8, kind: Kind) -> Option<Self> {
        Some(Self { version, egress: egress.short()?, prefix_len, kind })
    }

    /// The egress port.
    pub(crate) fn egress(self) -> Slot {
        Slot::from(self.egress)
    }
}

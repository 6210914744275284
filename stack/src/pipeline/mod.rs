//! The walk: the life of a frame on one screen.
//!
//! Order of all stages, those of later issues included, which have no code yet: parse, (decap), l2,
//! (conntrack), (service), l3, policy, (nat), (encap), egress. DNAT comes before routing because a virtual
//! address has no route; policy judges the bridged and the routed branch alike.
//!
//! Stages read [`Tables`] and push effects; only [`Tables::commit`] writes. So [`crate::Switch::trace`] is
//! this same walk without the commit. Stages never call one another: only [`walk`] calls stages.

use core::ops::ControlFlow;

use crate::drop::DropReason;
use crate::input::{Frame, PortId};
use crate::table::{Effect, Effects, Tables};
use crate::time::Instant;
use crate::trace::{Edit, Hop, Trace, Verdict};

pub mod answer;
pub mod egress;
pub mod l2;
pub mod l3;
pub mod packet;
pub mod parse;
/// Rewrite.
pub mod rewrite { /// Apply.
pub fn apply(_w: &mut [u8], _e: &crate::trace::Edit) {} }

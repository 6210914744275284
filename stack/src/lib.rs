//! The Hopscope switch: a pod network's data plane as a pure state machine.
//!
//! [`Switch::input`] is the only door. Everything the switch does follows from its state, the given
//! time and the input; there is no clock, no I/O, no randomness and no log in this crate. A tour,
//! outside in:
//!
//! - [`switch`]: the public face; runs a walk, commits its effects, fills the [`Outbox`].
//! - [`input`]: what goes in and comes out: [`Frame`], [`Input`], [`Outbox`].
//! - [`config`]: desired state, and the changes that lead from one to another.
//! - [`pipeline`]: the walk, one file a stage; `walk()` shows the life of a frame on one screen.
//! - [`table`]: all state, and the only code that mutates it.
//! - [`trace`]: what a walk records: hops, edits, the verdict.
//! - [`mod@drop`]: why frames are dropped: one table, stable numbers.
//! - [`counters`]: what was received and what became of it, per port, conserved.
//! - [`journal`]: inputs as records; [`replay`]: records back into a switch.
//! - [`words`]: values as words, for the journal, snapshots and digests.
//! - [`wire`]: header views over a window, where smoltcp's want the whole packet.
//! - [`endpoint`]: hosts that live inside the switch, on smoltcp's sockets.
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::disallowed_types
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod config;
pub mod counters;
pub mod drop;
pub mod endpoint;
pub mod hash;
pub mod input;
pub mod journal;
mod list;
pub mod pipeline;
pub mod replay;
pub mod switch;
pub mod table;
pub mod time;
pub mod trace;
pub mod wire;
pub mod words;

pub use config::{
    Backend, Change, Config, ConfigError, Frontend, FrontendKind, Limits, Method, NodeConfig,
    PortConfig, PortKind, PortRange, Route, RouteTarget, Seeds, ServiceConfig, ServiceId,
    ServiceProtocol,
};
pub use counters::{Counters, PortCounters};
pub use drop::{DropClass, DropReason};
pub use input::{
    Checksum, EndpointId, Event, Frame, Gso, GsoKind, ImportError, Input, Offload, Outbox, PortId,
    Transmit,
};
pub use replay::Replay;
pub use switch::Switch;
pub use table::RestoreError;
pub use time::{Duration, Instant};
pub use trace::{AnswerKind, Edit, Hop, Stage, Trace, Verdict};

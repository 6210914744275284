//! Connections: what was spoken between whom, and what it was translated to.
//!
//! What a packet makes of a connection is decided by two pure functions, [`begin()`] for the first
//! one and [`advance()`] for all others, so that the walk, the fast path and the dry run share it.
//! Linux's connection tracking is the model, because its time-outs and its tolerance are what hosts
//! and operators are used to; where something else was decided, the code says so.

mod advance;
mod connection;
mod connections;
mod index;
mod plain;
mod sctp;
mod tcp;
#[cfg(test)]
mod tests;
pub mod track;
pub mod tuple;
pub(crate) mod way;
mod words;

pub(crate) use advance::go_on;
pub use advance::{Advance, advance, begin, is_opening};
pub use connection::Connection;
pub(crate) use connection::{Address, Ends};
pub(crate) use connections::Glance;
pub use connections::{ConnectionId, Connections};
pub use track::{Segment, State, Timeouts, Track, flag};
pub use tuple::{Side, Tuple};
pub(crate) use way::Way;

//! Connections: what was spoken between whom, and what it was translated to.

pub mod track;
pub mod tuple;

pub use track::{Segment, State, Timeouts, Track, flag};
pub use tuple::{Side, Tuple};

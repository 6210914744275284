//! x
pub mod filter;

//! The walk.
pub mod packet;
pub mod parse;
/// Rewrite.
pub mod rewrite { /// Apply.
pub fn apply(_w: &mut [u8], _e: &crate::trace::Edit) {} }

//! The walk.
pub mod packet;
/// Parse.
pub mod parse {
    /// Line.
    /// # Errors
    /// The formatter's.
    pub fn describe(_w: &[u8], _f: &mut dyn core::fmt::Write) -> core::fmt::Result {
        Ok(())
    }
}
/// Rewrite.
pub mod rewrite {
    /// Apply.
    pub fn apply(_w: &mut [u8], _e: &crate::trace::Edit) {}
}

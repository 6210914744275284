//! One error for the lab: a sentence. Whoever reads it is a person looking at a failed test.

use std::fmt;

/// What went wrong, with what was being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

/// The lab's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of that text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Says what was being done when something failed.
pub trait Context<T> {
    /// Puts `doing` before the error's own text.
    ///
    /// # Errors
    /// The same, with more words.
    fn context(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error(format!("{doing}: {error}")))
    }
}

//! Triggers: rules in the settings that keep a recording of the seconds around an event.
//!
//! - [`grammar`]: what may stand after `on:`; [`rule`]: a rule with its times.
//! - [`watcher`]: sees every walk and says which rule fires; [`unanswered`]: requests that wait.

pub mod grammar;
pub mod rule;
pub mod unanswered;
pub mod watcher;

pub use rule::Rule;
pub use watcher::Watcher;

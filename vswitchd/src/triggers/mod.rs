//! Triggers: rules in the settings that keep a recording of the seconds around an event.
//!
//! - [`grammar`]: what may stand after `on:`; [`rule`]: a rule with its times.
//! - [`watcher`]: sees every walk and says which rule fires; [`unanswered`]: requests that wait.
//!   Both live on the data thread and are pure.
//! - [`keeper`]: waits for the time behind an event and takes the recording; [`mod@cut`]: the
//!   seconds around it; [`mod@event`]: what happened, as a line; [`store`]: files within a budget.

pub mod cut;
pub mod event;
pub mod grammar;
pub mod keeper;
pub mod rule;
pub mod store;
pub mod unanswered;
pub mod watcher;

pub use keeper::Keeper;
pub use rule::Rule;
pub use watcher::Watcher;

//! A frame that crashes the switch on purpose, for tests: builds without debug assertions have no
//! such thing.
//!
//! `HOPSCOPE_POISON=TEXT` makes a worker die, as by a bug, whenever a frame whose window holds TEXT
//! is carried out, live or in a replay.

use std::sync::OnceLock;

/// Dies if the bytes hold the poison.
#[inline]
pub fn taste(bytes: &[u8]) {
    static POISON: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    if !cfg!(debug_assertions) {
        return;
    }
    let read = || std::env::var("HOPSCOPE_POISON").ok().map(String::into_bytes);
    let poison = POISON.get_or_init(read).as_ref().filter(|poison| !poison.is_empty());
    if poison.is_some_and(|poison| bytes.windows(poison.len()).any(|part| part == poison)) {
        // Not a panic, which would unwind: a build for users aborts as well.
        std::process::abort();
    }
}

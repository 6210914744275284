//! Time and seeds, from outside into the switch. Beside the waiter, which tells the time with each
//! wake-up, nothing in the daemon's data path reads a clock.

use std::io::{self, Read};
use std::time::{SystemTime, UNIX_EPOCH};

use stack::Seeds;

pub use crate::port::wake::now as monotonic;

/// Nanoseconds since 1970.
#[must_use]
pub fn utc() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds to add to CLOCK_MONOTONIC for UTC.
#[must_use]
pub fn utc_offset() -> i64 {
    let utc = i64::try_from(utc()).unwrap_or(i64::MAX);
    utc.saturating_sub(i64::try_from(monotonic().0).unwrap_or(i64::MAX))
}

/// Fresh seeds from the kernel.
///
/// # Errors
/// When /dev/urandom cannot be read.
pub fn seeds() -> io::Result<Seeds> {
    let mut bytes = [[0_u8; 8]; 2];
    let mut source = std::fs::File::open("/dev/urandom")?;
    for word in &mut bytes {
        source.read_exact(word)?;
    }
    let [table, choice] = bytes.map(u64::from_ne_bytes);
    Ok(Seeds { table, choice })
}

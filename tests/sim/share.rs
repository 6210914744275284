//! The model of a rate limit: what a port saved up, counted in time. It answers exactly when the
//! switch must grant and when it must not.

use std::collections::BTreeMap;

use stack::{Duration, Instant, PortId};

/// The shares of all ports in one kind of thing.
pub(crate) struct Shares {
    what: &'static str,
    interval: u64,
    /// A full share.
    full: u64,
    /// When a port last asked, and what it had left, in nanoseconds.
    left: BTreeMap<PortId, (u64, u64)>,
}

impl Shares {
    pub(crate) fn new(what: &'static str, burst: u32, interval: Duration) -> Self {
        let full = u64::from(burst) * interval.0;
        Self { what, interval: interval.0, full, left: BTreeMap::new() }
    }

    /// The switch granted a port's wish of so many tokens, or not. Nobody asks for more than a full
    /// share.
    pub(crate) fn judge(&mut self, port: PortId, now: Instant, tokens: u64, granted: bool) {
        let (last, left) = self.left.get(&port).copied().unwrap_or((now.0, self.full));
        let left = self.full.min(left + now.0 - last);
        let wish = self.full.min(tokens * self.interval);
        let due = left >= wish;
        assert_eq!(granted, due, "{} of {port:?} at {now}: {left} of {wish} ns", self.what);
        let left = if due { left - wish } else { left };
        self.left.insert(port, (now.0, left));
    }
}

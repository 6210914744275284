//! A token bucket in one number: the generic cell rate algorithm.
//!
//! State is the moment at which the bucket will be full again. Asking reads, spending is an effect.

use crate::time::{Duration, Instant};
use crate::words::words_of;

/// A bucket of `burst` tokens that regains one each `interval`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    full_at: Instant,
}

/// Size and speed of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens of a full bucket.
    pub burst: u32,
    /// Time to regain one.
    pub interval: Duration,
}

impl Bucket {
    /// Whether a token is there now.
    #[must_use]
    pub fn has(&self, now: Instant, rate: Rate) -> bool {
        let after = self.full_at.max(now) + rate.interval;
        after.since(now).0 <= rate.interval.0.saturating_mul(u64::from(rate.burst))
    }

    /// Takes a token. Call it only after [`Bucket::has`] said yes.
    pub fn spend(&mut self, now: Instant, rate: Rate) {
        self.full_at = self.full_at.max(now) + rate.interval;
    }
}

words_of!(Bucket { full_at });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate { burst: 3, interval: Duration(10) };
        let mut bucket = Bucket::default();
        let mut spent = 0;
        for time in 0..100 {
            let now = Instant(1_000 + time);
            if bucket.has(now, rate) {
                bucket.spend(now, rate);
                spent += 1;
            }
        }
        assert_eq!(spent, 3 + 9, "three at once, then one each 10 ns");
    }
}

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

impl Rate {
    /// Time to regain so many tokens.
    fn time_of(self, tokens: u32) -> Duration {
        Duration(self.interval.0.saturating_mul(u64::from(tokens)))
    }
}

impl Bucket {
    /// One that will be full at that moment.
    #[must_use]
    pub fn filling(full_at: Instant) -> Self {
        Self { full_at }
    }

    /// When it will be full again.
    #[must_use]
    pub fn full_at(&self) -> Instant {
        self.full_at
    }

    /// Whether so many tokens are there now.
    #[must_use]
    pub fn has(&self, now: Instant, rate: Rate, tokens: u32) -> bool {
        let after = self.full_at.max(now) + rate.time_of(tokens);
        after.since(now) <= rate.time_of(rate.burst)
    }

    /// Takes so many tokens. Call it only after [`Bucket::has`] said yes.
    pub fn spend(&mut self, now: Instant, rate: Rate, tokens: u32) {
        self.full_at = self.full_at.max(now) + rate.time_of(tokens);
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
            if bucket.has(now, rate, 1) {
                bucket.spend(now, rate, 1);
                spent += 1;
            }
        }
        assert_eq!(spent, 3 + 9, "three at once, then one each 10 ns");
    }

    #[test]
    fn several_at_once_or_none() {
        let rate = Rate { burst: 3, interval: Duration(10) };
        let mut bucket = Bucket::default();
        let now = Instant(1_000);
        assert!(!bucket.has(now, rate, 4), "never more than a full bucket");
        assert!(bucket.has(now, rate, 2));
        bucket.spend(now, rate, 2);
        assert_eq!([1, 2].map(|tokens| bucket.has(now, rate, tokens)), [true, false]);
        assert!(bucket.has(now + rate.interval, rate, 2), "after the time of one more");
    }
}

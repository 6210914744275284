//! When the next worker starts: at once, unless workers keep ending before they are of use.

use std::time::{Duration, Instant};

/// Workers in a row that may end early before the pauses begin. One that meets a bad moment, or a
/// test that kills without mercy, costs no pause.
const FREE: u32 = 5;
/// The first pause; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause: what a mend of the cause waits for at most.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A worker that was ready for so long was of use: whoever kills it again and again finds it there.
const USEFUL: Duration = Duration::from_millis(200);

/// The record of the workers that ended.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// Since the last one that was of use.
    early: u32,
    total: u64,
    last_end: Option<String>,
}

impl Restarts {
    /// A worker ended, which was ready since then, if ever. How long to wait for the next one.
    pub(super) fn ended(&mut self, how: String, ready: Option<Instant>, now: Instant) -> Duration {
        self.total = self.total.saturating_add(1);
        self.last_end = Some(how);
        if ready.is_some_and(|since| now.saturating_duration_since(since) >= USEFUL) {
            self.early = 0;
            return Duration::ZERO;
        }
        self.early = self.early.saturating_add(1);
        match self.early.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(doublings) => {
                let factor = 2_u32.saturating_pow(doublings);
                PAUSE_MIN.saturating_mul(factor).min(PAUSE_MAX)
            }
        }
    }

    /// How many ended.
    #[must_use]
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// How the last one ended.
    #[must_use]
    pub(super) fn last_end(&self) -> Option<&str> {
        self.last_end.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_workers_that_end_early_again_and_again_wait() {
        let mut restarts = Restarts::default();
        let begin = Instant::now();
        for _ in 0..100 {
            let late = begin + USEFUL;
            assert_eq!(restarts.ended("a signal".into(), Some(begin), late), Duration::ZERO);
        }
        for _ in 0..FREE {
            assert_eq!(restarts.ended("a signal".into(), None, begin), Duration::ZERO);
        }
        let pauses: Vec<u64> = (0..12)
            .map(|_| restarts.ended("status 1".into(), None, begin).as_millis())
            .map(|pause| u64::try_from(pause).unwrap())
            .collect();
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[7..], [10_000; 5]);
        // One that was of use for a second ends the count, one that was ready for less does not.
        assert!(restarts.ended("x".into(), Some(begin), begin + USEFUL / 2) > Duration::ZERO);
        assert_eq!(restarts.ended("x".into(), Some(begin), begin + USEFUL), Duration::ZERO);
        assert_eq!(restarts.ended("x".into(), None, begin), Duration::ZERO);
        assert_eq!(restarts.total(), 100 + u64::from(FREE) + 12 + 3);
        assert_eq!(restarts.last_end(), Some("x"));
    }
}

//! The node as its port was asked for last: what somebody else changes is put right, and said.
//!
//! The parent looks every second, and at once when it hears that a rule has changed: without its
//! rules a node may be deaf. Nothing tells of all else: the kernel removes routes with an interface
//! that goes down or an address that goes, and settings change in silence. A look asks for what is
//! ours alone and takes about a millisecond. No worker is needed for it, and none is disturbed.
//!
//! Who takes things away again and again is not fought without end: after a few times in a row it
//! is put right in pauses that double, and `hopctl status` says so.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::keeper::Keeper;
use super::protocol::Upkeep as Report;
use crate::daemon::with_causes;
use crate::node::{Problem, RuleMonitor};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);
/// How long after a change of a rule: who removes one removes others too.
const SETTLE: Duration = Duration::from_millis(50);
/// Times in a row without a pause.
const FREE: u32 = 5;
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// After so long without anything wrong the row has ended.
const CALM: Duration = Duration::from_secs(60);
/// Findings that are named; of others there is the number.
const NAMED: usize = 2;

/// The parent's care for the node.
#[derive(Debug)]
pub(super) struct Upkeep {
    /// `None` when the kernel has no such socket for us.
    monitor: Option<RuleMonitor>,
    /// Whether a rule has changed since the last look.
    heard: bool,
    due: Instant,
    pace: Pace,
    mended: u64,
    /// What was put right last, and when.
    last: Option<(String, Instant)>,
    /// What is wrong and stays so for now.
    wrong: Option<String>,
}

impl Upkeep {
    /// Nothing has been looked at yet.
    pub(super) fn new(keeper: &Keeper, now: Instant) -> Self {
        let monitor = keeper.watch_rules();
        if let Err(error) = &monitor {
            tracing::warn!(error = with_causes(error), "rules are looked at every second only");
        }
        Self {
            monitor: monitor.ok(),
            heard: false,
            due: now,
            pace: Pace::default(),
            mended: 0,
            last: None,
            wrong: None,
        }
    }

    /// When to look next.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// What to wait for beside; nothing once it has told of a change.
    pub(super) fn monitor(&self) -> Option<BorrowedFd<'_>> {
        self.monitor.as_ref().filter(|_| !self.heard).map(AsFd::as_fd)
    }

    /// A rule has changed.
    pub(super) fn hear(&mut self, now: Instant) {
        if let Some(monitor) = &self.monitor {
            monitor.drain();
        }
        self.heard = true;
        self.due = self.due.min(now + SETTLE);
    }

    /// Looks, and puts right what is wrong. Whether there is something new to tell.
    pub(super) fn look(&mut self, keeper: &Keeper, now: Instant) -> bool {
        self.heard = false;
        self.due = now + EVERY;
        let before = (self.mended, self.wrong.clone());
        match keeper.host_problems() {
            None => {}
            Some(Ok(problems)) if problems.is_empty() => {
                self.pace.calm(now);
                self.wrong = None;
            }
            Some(Ok(problems)) => self.put_right(keeper, &described(&problems), now),
            Some(Err(error)) => {
                self.wrong = Some(format!("the node cannot be looked at: {}", with_causes(&error)));
            }
        }
        let news = before != (self.mended, self.wrong.clone());
        if news && let Some(wrong) = &self.wrong {
            tracing::warn!(wrong, "the node is not as it shall be");
        }
        news
    }

    fn put_right(&mut self, keeper: &Keeper, what: &str, now: Instant) {
        if !self.pace.may(now) {
            self.wrong = Some(format!(
                "{what}; it was put right {FREE} times in a row and is taken away again and again: \
                 find out who does it; tried again in pauses of up to {} s",
                PAUSE_MAX.as_secs()
            ));
            return;
        }
        self.pace.tried(now);
        match keeper.mend_host() {
            Ok(()) => {
                self.mended = self.mended.saturating_add(1);
                tracing::warn!(what, times = self.mended, "somebody changed the node; put right");
                self.last = Some((what.to_owned(), now));
                self.wrong = None;
            }
            Err(error) => {
                let why = with_causes(&error);
                self.wrong = Some(format!("{what}; it cannot be put right: {why}"));
            }
        }
    }

    /// What there is to tell.
    pub(super) fn report(&self, now: Instant) -> Report {
        let ago = |at: &Instant| now.saturating_duration_since(*at).as_millis();
        Report {
            mended: self.mended,
            last: self.last.as_ref().map(|(what, _)| what.clone()),
            last_ago_ms: self
                .last
                .as_ref()
                .map(|(_, at)| u64::try_from(ago(at)).unwrap_or(u64::MAX)),
            wrong: self.wrong.clone(),
        }
    }
}

fn described(problems: &[Problem]) -> String {
    let named: Vec<&str> = problems.iter().take(NAMED).map(|problem| problem.0.as_str()).collect();
    let named = named.join("; ");
    match problems.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

/// How often something may be put right.
#[derive(Debug, Default)]
struct Pace {
    in_a_row: u32,
    last: Option<Instant>,
    not_before: Option<Instant>,
}

impl Pace {
    fn may(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|moment| moment <= now)
    }

    fn tried(&mut self, now: Instant) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.last = Some(now);
        self.not_before = self.in_a_row.checked_sub(FREE).map(|doublings| {
            let factor = 2_u32.saturating_pow(doublings.saturating_add(1));
            now + EVERY.saturating_mul(factor).min(PAUSE_MAX)
        });
    }

    /// Nothing is wrong.
    fn calm(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= CALM) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_again_and_again_waits() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut pace = Pace::default();
        for second in 0..u64::from(FREE) {
            assert!(pace.may(at(second)));
            pace.tried(at(second));
        }
        let mut now = u64::from(FREE) - 1;
        for pause in [2, 4, 8, 16, 32, 60, 60, 60] {
            assert!(!pace.may(at(now + pause - 1)), "after {now} s");
            now += pause;
            assert!(pace.may(at(now)), "after {now} s");
            pace.tried(at(now));
        }
        // It is put right, but not for long enough.
        pace.calm(at(now + 59));
        assert!(!pace.may(at(now + 59)));
        pace.calm(at(now + 60));
        for second in 60..60 + u64::from(FREE) {
            assert!(pace.may(at(now + second)));
            pace.tried(at(now + second));
        }
        assert!(!pace.may(at(now + 65)));
    }

    #[test]
    fn two_findings_are_named_and_the_others_counted() {
        let problems = |count| (0..count).map(|n| Problem(format!("p{n}"))).collect::<Vec<_>>();
        assert_eq!(described(&problems(1)), "p0");
        assert_eq!(described(&problems(2)), "p0; p1");
        assert_eq!(described(&problems(5)), "p0; p1; and 3 more");
    }
}

//! A bar on a terminal for what takes a while.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time between two looks of it.
const EVERY: Duration = Duration::from_millis(100);
/// Columns of the bar.
const WIDTH: u64 = 30;

/// A bar; nothing where nobody looks.
#[derive(Debug)]
pub struct Progress {
    /// What all of it is.
    total: u64,
    begun: Instant,
    shown: Option<Instant>,
    seen: bool,
}

impl Progress {
    /// A bar of so many bytes, unless something else is printed meanwhile.
    #[must_use]
    pub fn new(total: u64, alone: bool) -> Self {
        let seen = alone && io::stderr().is_terminal();
        Self { total, begun: Instant::now(), shown: None, seen }
    }

    /// How far it is. A quick job shows nothing.
    pub fn at(&mut self, bytes: u64, records: u64) {
        let now = Instant::now();
        let last = self.shown.unwrap_or(self.begun);
        if !self.seen || now.duration_since(last) < EVERY {
            return;
        }
        self.shown = Some(now);
        let line = bar(bytes, self.total, records, now.duration_since(self.begun));
        // There is nowhere to say that stderr is closed, here and below.
        drop(write!(io::stderr().lock(), "\r{line}\x1b[K"));
    }

    /// Takes the bar away.
    pub fn end(&mut self) {
        if self.shown.take().is_some() {
            drop(write!(io::stderr().lock(), "\r\x1b[K"));
        }
    }
}

/// `[#####.....]  50 %  1200 records  3.1 s`
fn bar(bytes: u64, total: u64, records: u64, spent: Duration) -> String {
    let total = total.max(bytes).max(1);
    let done = u128::from(bytes) * u128::from(WIDTH) / u128::from(total);
    let done = usize::try_from(done).unwrap_or(0);
    let left = usize::try_from(WIDTH).unwrap_or(0).saturating_sub(done);
    let percent = u128::from(bytes) * 100 / u128::from(total);
    format!(
        "[{}{}] {percent:3} %  {records} records  {:.1} s",
        "#".repeat(done),
        ".".repeat(left),
        spent.as_secs_f32()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills() {
        let at = |bytes| bar(bytes, 200, 7, Duration::from_millis(1_500));
        assert_eq!(
            at(100),
            format!("[{}{}]  50 %  7 records  1.5 s", "#".repeat(15), ".".repeat(15))
        );
        assert!(
            at(0).starts_with("[...") && at(200).starts_with("[###") && at(900).contains("100")
        );
        assert!(bar(0, 0, 0, Duration::ZERO).contains("  0 %"));
    }
}

//! What a measurement cost: CPU time of the machine and of one process, and the time the host took
//! away.

use std::fs;
use std::path::Path;

use crate::Fallible;

/// CPU time of the whole machine since it was started, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    busy: u64,
    idle: u64,
    stolen: u64,
}

impl Machine {
    /// Reads it.
    pub(crate) fn now() -> Fallible<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        Self::parse(&text).ok_or_else(|| "/proc/stat has no line for all cores".into())
    }

    /// `cpu  user nice system idle iowait irq softirq steal guest guest_nice`; the last two are
    /// within the first two.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<u64> = text
            .lines()
            .next()?
            .strip_prefix("cpu ")?
            .split_whitespace()
            .map(|field| field.parse().ok())
            .collect::<Option<_>>()?;
        let &[user, nice, system, idle, iowait, irq, softirq, stolen, ..] = fields.as_slice()
        else {
            return None;
        };
        Some(Self { busy: user + nice + system + irq + softirq, idle: idle + iowait, stolen })
    }

    /// What passed in between.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(before.busy),
            idle: self.idle.saturating_sub(before.idle),
            stolen: self.stolen.saturating_sub(before.stolen),
        }
    }

    /// Seconds of CPU that were used, by whomever.
    pub(crate) fn busy_seconds(&self) -> f64 {
        self.busy as f64 / TICKS_PER_SECOND
    }

    /// Share of all cores' time that was used, 0 to 1.
    pub(crate) fn busy_share(&self) -> f64 {
        self.busy as f64 / self.total()
    }

    /// Share of all cores' time that the host gave to others, 0 to 1.
    pub(crate) fn stolen_share(&self) -> f64 {
        self.stolen as f64 / self.total()
    }

    fn total(&self) -> f64 {
        (self.busy + self.idle + self.stolen).max(1) as f64
    }
}

/// Seconds of CPU that a process has used, the kernel's work on its behalf included. Of living
/// threads only: those that move frames live as long as the process.
pub(crate) fn process_seconds(pid: u32) -> Fallible<f64> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"))? {
        let file = task?.path().join("schedstat");
        let text = fs::read_to_string(&file)?;
        let first = text.split_whitespace().next().and_then(|field| field.parse::<u64>().ok());
        nanoseconds += first.ok_or_else(|| format!("{} has no numbers", file.display()))?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// USER_HZ of every architecture this runs on (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_all_cores_is_split() {
        let text = "cpu  10 20 30 400 50 6 7 80 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        let read = Machine::parse(text).unwrap();
        assert_eq!(read, Machine { busy: 73, idle: 450, stolen: 80 });
        let before = Machine { busy: 23, idle: 400, stolen: 80 };
        let between = read.since(&before);
        assert_eq!(between, Machine { busy: 50, idle: 50, stolen: 0 });
        assert!((between.busy_share() - 0.5).abs() < 1e-9);
        assert!((between.busy_seconds() - 0.5).abs() < 1e-9);
        assert_eq!(Machine::parse("intr 1 2\n"), None);
        assert_eq!(Machine::parse("cpu  1 2 3\n"), None);
    }
}

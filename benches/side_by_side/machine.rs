//! What the numbers belong to: processor, kernel, cores, and whether the machine was quiet.

use std::fmt;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Fallible;
use crate::interrupt::Interrupt;
use crate::usage::Machine as Ticks;

/// The machine before the first round.
#[derive(Debug)]
pub(crate) struct Machine {
    processor: String,
    kernel: String,
    cores: usize,
    /// Share of all cores in use by others, 0 to 1.
    busy: f64,
    /// Share of the time that the host took away, 0 to 1.
    stolen: f64,
}

/// Looks at the machine for a second while nothing of the bench runs.
pub(crate) fn describe(interrupt: &Interrupt) -> Fallible<Machine> {
    let before = Ticks::now()?;
    interrupt.sleep(Duration::from_secs(1))?;
    let quiet = Ticks::now()?.since(&before);
    let information = fs::read_to_string("/proc/cpuinfo")?;
    let processor = information
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    Ok(Machine {
        processor: processor.trim().to_owned(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        cores: std::thread::available_parallelism()?.get(),
        busy: quiet.busy_share(),
        stolen: quiet.stolen_share(),
    })
}

impl Machine {
    /// Why the numbers will say little, if so.
    pub(crate) fn warning(&self) -> Option<String> {
        (self.busy > BUSY_MAX || self.stolen > STOLEN_MAX).then(|| {
            format!(
                "others use {:.0} % of the cores and the host takes {:.0} %: \
                 the numbers will say little; stop what runs and begin again",
                self.busy * 100.0,
                self.stolen * 100.0
            )
        })
    }

    /// Cores there are.
    pub(crate) fn cores(&self) -> usize {
        self.cores
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "processor": self.processor,
            "kernel": self.kernel,
            "cores": self.cores,
            "busy_before": self.busy,
            "stolen_before": self.stolen,
            "warning": self.warning(),
        })
    }
}

#[cfg(test)]
impl Machine {
    /// One that was quiet.
    pub(crate) fn of_tests() -> Self {
        let name = || "none".to_owned();
        Self { processor: name(), kernel: name(), cores: 2, busy: 0.0, stolen: 0.0 }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, kernel, cores, busy, stolen } = self;
        write!(f, "{processor}, {cores} cores, Linux {kernel}; before the first round ")?;
        write!(f, "{:.0} % busy, {:.0} % stolen by the host", busy * 100.0, stolen * 100.0)
    }
}

/// Share of the cores that others may use.
const BUSY_MAX: f64 = 0.1;
/// Share of the time that the host may take.
const STOLEN_MAX: f64 = 0.05;

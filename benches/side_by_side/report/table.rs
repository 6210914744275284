//! The report as text: columns that align, and a word on each ratio.

use std::fmt;

use super::{Metric, Ratio, Report, Target, Weight};
use crate::load::PACE;
use crate::measure::What;
use crate::path::{Kind, MTU};

/// Heads over two lines, the metric, what to multiply by, digits behind the point.
type Column = ([&'static str; 2], Metric, f64, usize);

const SPEED: [Column; 6] = [
    (["TCP 1", "Gb/s"], Metric::Tcp1, 1.0, 2),
    (["TCP 4", "Gb/s"], Metric::Tcp4, 1.0, 2),
    (["UDP 64 B", "k/s"], Metric::Udp, 1e-3, 0),
    (["round trip", "p50 us"], Metric::RoundTripP50, 1.0, 1),
    (["round trip", "p99 us"], Metric::RoundTripP99, 1.0, 1),
    (["connections", "k/s"], Metric::Connections, 1e-3, 1),
];
/// A gigabyte is one of the single stream, a million packets are datagrams that arrived.
const COST: [Column; 5] = [
    (["switch CPU", "s/GB"], Metric::SwitchPerGigabyte, 1.0, 3),
    (["all CPU", "s/GB"], Metric::AllPerGigabyte, 1.0, 3),
    (["switch CPU", "s/Mpacket"], Metric::SwitchPerMillion, 1.0, 3),
    (["all CPU", "s/Mpacket"], Metric::AllPerMillion, 1.0, 3),
    (["stolen", "%"], Metric::Stolen, 1.0, 1),
];
/// What became of the paced stream, and what it took where there was nothing else.
const STREAM: [Column; 4] = [
    (["beside load", "k/s"], Metric::Stream, 1e-3, 1),
    (["not captured", "%"], Metric::CaptureLost, 1.0, 2),
    (["switch CPU", "% alone"], Metric::SwitchAlone, 1.0, 1),
    (["all CPU", "% alone"], Metric::AllAlone, 1.0, 1),
];
const NAME_WIDTH: usize = 16;
const COLUMN_WIDTH: usize = 13;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.machine)?;
        let (rounds, seconds) = (self.rounds, self.window.as_secs_f64());
        writeln!(f, "medians of {rounds} rounds, {seconds} s each; cubic, MTU {MTU}\n")?;
        self.medians(f, &SPEED)?;
        writeln!(f)?;
        self.medians(f, &COST)?;
        if self.kinds().any(Kind::is_paced) {
            writeln!(f, "\nthe stream of {PACE} datagrams a second (CPU: 100 % is a core)")?;
            self.medians(f, &STREAM)?;
        }
        writeln!(f, "\nlimited by (cores in use: switch's process / all)")?;
        self.limits(f)?;
        writeln!(f, "\nratios (round trip: less is better)")?;
        for ratio in self.ratios() {
            writeln!(f, "  {ratio}")?;
        }
        if let Some(warning) = self.machine.warning() {
            writeln!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

impl Report {
    fn medians(&self, f: &mut fmt::Formatter<'_>, columns: &[Column]) -> fmt::Result {
        for line in 0..2 {
            write!(f, "{:NAME_WIDTH$}", "")?;
            for (heads, ..) in columns {
                write!(f, "{:>COLUMN_WIDTH$}", heads.get(line).copied().unwrap_or(""))?;
            }
            writeln!(f)?;
        }
        let is_told = |kind: &Kind| columns.iter().any(|c| self.median(*kind, c.1).is_some());
        for kind in self.kinds().filter(is_told) {
            write!(f, "{:NAME_WIDTH$}", kind.name())?;
            for &(_, metric, scale, digits) in columns {
                match self.median(kind, metric) {
                    Some(value) => write!(f, "{:COLUMN_WIDTH$.digits$}", value * scale)?,
                    None => write!(f, "{:>COLUMN_WIDTH$}", "-")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn limits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |name: &str, cells: [String; What::LOADS.len()]| -> String {
            let cells = cells.map(|cell| format!("{cell:LIMIT_WIDTH$}")).concat();
            format!("{name:NAME_WIDTH$}{cells}").trim_end().to_owned()
        };
        writeln!(f, "{}", row("", What::LOADS.map(|what| what.name().to_owned())))?;
        for kind in self.kinds() {
            let limit = |what| self.limit(kind, what).map(|limit| limit.to_string());
            let cells = What::LOADS.map(|what| limit(what).unwrap_or_else(|| "-".to_owned()));
            writeln!(f, "{}", row(kind.name(), cells))?;
        }
        Ok(())
    }
}

const LIMIT_WIDTH: usize = 19;

/// How many cores a measurement kept busy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// The process that moves the frames.
    pub(super) switch: Option<f64>,
    /// All processes and the kernel.
    pub(super) all: f64,
    /// Cores there are.
    pub(super) cores: f64,
}

impl fmt::Display for Limit {
    /// A thread that has all of a core is the limit; else the cores if none is left; else waiting:
    /// for a wake-up, for the other side.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.switch.is_some_and(|switch| switch >= FULL) {
            "switch"
        } else if self.all >= FULL * self.cores {
            "cores"
        } else {
            "waiting"
        };
        match self.switch {
            Some(switch) => write!(f, "{word} {switch:.2}/{:.2}", self.all),
            None => write!(f, "{word} -/{:.2}", self.all),
        }
    }
}

/// Share of a core from which on it counts as fully used.
const FULL: f64 = 0.93;

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, baseline, metric, value, .. } = self;
        let what = metric.title();
        write!(f, "{:13} / {:13}  {what:14} {value:6.2}", subject.name(), baseline.name())?;
        let Some((weight, target)) = self.target else { return Ok(()) };
        let weight = match weight {
            Weight::Must => "must",
            Weight::Goal => "goal",
        };
        match target {
            Target::AtLeast(least) => write!(f, "  {weight} >= {least:<4}")?,
            Target::AtMost(most) => write!(f, "  {weight} <= {most:<4}")?,
        }
        write!(f, "  {}", if target.met(self.value) { "met" } else { "MISSED" })
    }
}

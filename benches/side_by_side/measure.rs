//! One measurement: a load runs, is left alone until it is steady, and is looked at twice.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Fallible;
use crate::capture::{Capture, Counts};
use crate::interrupt::Interrupt;
use crate::load::Load;
use crate::path::{Kind, Path};
use crate::usage::{Machine, process_seconds};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// One stream of TCP; amounts are bytes.
    Tcp1,
    /// Four streams at once; amounts are bytes.
    Tcp4,
    /// Datagrams of 64 bytes that arrive; amounts are datagrams.
    Udp,
    /// Requests and answers over one connection; amounts are round trips.
    RoundTrip,
    /// New connections, each of which brings a byte; amounts are connections.
    Connections,
    /// The paced stream and nothing else; amounts are datagrams.
    Alone,
}

impl What {
    /// All, in the order they are taken.
    pub(crate) const ALL: [Self; 6] =
        [Self::Tcp1, Self::Tcp4, Self::Udp, Self::RoundTrip, Self::Connections, Self::Alone];
    /// Those that take what they get.
    pub(crate) const LOADS: [Self; 5] =
        [Self::Tcp1, Self::Tcp4, Self::Udp, Self::RoundTrip, Self::Connections];

    /// Whether it is measured on a path: there is a stream alone only where there is one, and new
    /// connections tell of Services and of what those are compared with.
    pub(crate) fn is_of(self, kind: Kind) -> bool {
        match self {
            Self::Alone => kind.is_paced(),
            Self::Tcp4 => !kind.is_paced(),
            Self::Connections => {
                matches!(kind, Kind::Kernel | Kind::Relay | Kind::HopscopeTap) || kind.has_service()
            }
            Self::Tcp1 | Self::Udp | Self::RoundTrip => true,
        }
    }

    /// For tables and keys.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp1 => "TCP 1",
            Self::Tcp4 => "TCP 4",
            Self::Udp => "UDP 64 B",
            Self::RoundTrip => "round trip",
            Self::Connections => "connections",
            Self::Alone => "stream alone",
        }
    }

    fn start(self, path: &Path) -> Fallible<Load> {
        match self {
            Self::Alone => Load::paced(path),
            Self::Tcp1 => Load::streams(path, 1),
            Self::Tcp4 => Load::streams(path, 4),
            Self::Udp => Load::datagrams(path),
            Self::RoundTrip => Load::requests(path),
            Self::Connections => Load::connections(path),
        }
    }
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    warm_up: Duration,
    window: Duration,
}

impl Timing {
    /// `window` is what is measured; before it the load may find its pace.
    pub(crate) fn new(window: Duration) -> Self {
        Self { warm_up: Duration::from_millis(300), window }
    }
}

/// What a measurement found.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) kind: Kind,
    pub(crate) round: usize,
    pub(crate) what: What,
    /// Length of the window.
    pub(crate) seconds: f64,
    /// What arrived in it.
    pub(crate) amount: f64,
    /// Median and 99th percentile of round trips in nanoseconds.
    pub(crate) latency: Option<[f64; 2]>,
    /// Datagrams of the paced stream that arrived in it.
    pub(crate) stream: Option<f64>,
    /// What a capture said of all that it saw, before and after the window as well.
    pub(crate) capture: Option<Counts>,
    /// CPU seconds of the process that moves the frames.
    pub(crate) switch_cpu: Option<f64>,
    /// CPU seconds of the whole machine.
    pub(crate) all_cpu: f64,
    /// Share of the time that the host took away, 0 to 1.
    pub(crate) stolen: f64,
}

impl Sample {
    pub(crate) fn json(&self) -> Value {
        json!({
            "path": self.kind.name(),
            "round": self.round + 1,
            "measure": self.what.name(),
            "seconds": self.seconds,
            "amount": self.amount,
            "round_trip_p50_ns": self.latency.map(|[p50, _]| p50),
            "round_trip_p99_ns": self.latency.map(|[_, p99]| p99),
            "stream_datagrams": self.stream,
            "captured_packets": self.capture.map(|counts| counts.captured),
            "capture_lost_packets": self.capture.map(|counts| counts.lost),
            "switch_cpu_seconds": self.switch_cpu,
            "all_cpu_seconds": self.all_cpu,
            "stolen": self.stolen,
        })
    }
}

/// One look at everything that counts on.
struct Look {
    at: Instant,
    amount: u64,
    stream: Option<u64>,
    switch: Option<f64>,
    machine: Machine,
}

impl Look {
    fn take(path: &Path, load: &Load, stream: Option<&Load>) -> Fallible<Self> {
        Ok(Self {
            switch: path.switch_pid().map(process_seconds).transpose()?,
            machine: Machine::now()?,
            stream: stream.map(Load::amount),
            amount: load.amount(),
            at: Instant::now(),
        })
    }
}

/// All measurements of a path in one round.
pub(crate) fn all(
    path: &Path,
    round: usize,
    timing: Timing,
    interrupt: &Interrupt,
) -> Fallible<Vec<Sample>> {
    let mut samples = Vec::new();
    for what in What::ALL.into_iter().filter(|what| what.is_of(path.kind())) {
        let sample = one(path, what, round, timing, interrupt)
            .map_err(|error| format!("{}, {}: {error}", path.kind().name(), what.name()))?;
        samples.push(sample);
    }
    Ok(samples)
}

fn one(
    path: &Path,
    what: What,
    round: usize,
    timing: Timing,
    interrupt: &Interrupt,
) -> Fallible<Sample> {
    // It sees the stream from the first datagram to the last.
    let capture = path.capture()?;
    let is_beside = path.kind().is_paced() && what != What::Alone;
    let beside = is_beside.then(|| Load::paced(path)).transpose()?;
    let load = what.start(path)?;
    interrupt.sleep(timing.warm_up)?;
    let before = Look::take(path, &load, beside.as_ref())?;
    interrupt.sleep(timing.window)?;
    let after = Look::take(path, &load, beside.as_ref())?;
    let mut latencies = load.end()?;
    beside.map(Load::end).transpose()?;
    let capture = capture.map(Capture::end).transpose()?;
    let amount = after.amount - before.amount;
    if amount == 0 {
        return Err("nothing arrived".into());
    }
    let of_window = usize::try_from(before.amount)?..usize::try_from(after.amount)?;
    let latency = latencies.get_mut(of_window).map(|window| {
        window.sort_unstable();
        [percentile(window, 50), percentile(window, 99)]
    });
    let between = |(after, before): (u64, u64)| (after - before) as f64;
    let machine = after.machine.since(&before.machine);
    Ok(Sample {
        kind: path.kind(),
        round,
        what,
        seconds: after.at.duration_since(before.at).as_secs_f64(),
        amount: amount as f64,
        latency,
        stream: after.stream.zip(before.stream).map(between),
        capture,
        switch_cpu: after.switch.zip(before.switch).map(|(after, before)| after - before),
        all_cpu: machine.busy_seconds(),
        stolen: machine.stolen_share(),
    })
}

/// The smallest value that at least `percent` of all do not exceed; of sorted values.
fn percentile(sorted: &[u32], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().map_or(f64::NAN, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<u32> = (1..=200).collect();
        assert!((percentile(&values, 50) - 100.0).abs() < 1e-9);
        assert!((percentile(&values, 99) - 198.0).abs() < 1e-9);
        assert!((percentile(&[7], 99) - 7.0).abs() < 1e-9);
        assert!(percentile(&[], 50).is_nan());
    }
}

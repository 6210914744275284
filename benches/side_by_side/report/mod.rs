//! What a run came to: medians over the rounds, ratios between paths with what they ought to be,
//! and what each number is limited by.
//!
//! A ratio is that of the medians. Rounds are interleaved, so a machine that turns slow does so for
//! all paths.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::Fallible;
use crate::load::{DATAGRAM, DATAGRAM_BATCH, DATAGRAM_BUFFER, PACE, REQUEST, STREAM_CHUNK};
use crate::machine::Machine;
use crate::measure::{Sample, What};
use crate::path::{Kind, MTU};

mod table;

/// A number that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metric {
    Tcp1,
    Tcp4,
    Udp,
    RoundTripP50,
    RoundTripP99,
    Connections,
    SwitchPerGigabyte,
    AllPerGigabyte,
    SwitchPerMillion,
    AllPerMillion,
    Stream,
    CaptureLost,
    SwitchAlone,
    AllAlone,
    Stolen,
}

impl Metric {
    const ALL: [Self; 15] = [
        Self::Tcp1,
        Self::Tcp4,
        Self::Udp,
        Self::RoundTripP50,
        Self::RoundTripP99,
        Self::Connections,
        Self::SwitchPerGigabyte,
        Self::AllPerGigabyte,
        Self::SwitchPerMillion,
        Self::AllPerMillion,
        Self::Stream,
        Self::CaptureLost,
        Self::SwitchAlone,
        Self::AllAlone,
        Self::Stolen,
    ];

    /// Key in the JSON file, unit last.
    fn key(self) -> &'static str {
        match self {
            Self::Tcp1 => "tcp_1_stream_gbps",
            Self::Tcp4 => "tcp_4_streams_gbps",
            Self::Udp => "udp_64_bytes_delivered_per_second",
            Self::RoundTripP50 => "round_trip_p50_us",
            Self::RoundTripP99 => "round_trip_p99_us",
            Self::Connections => "new_connections_per_second",
            Self::SwitchPerGigabyte => "switch_cpu_seconds_per_gigabyte",
            Self::AllPerGigabyte => "all_cpu_seconds_per_gigabyte",
            Self::SwitchPerMillion => "switch_cpu_seconds_per_million_packets",
            Self::AllPerMillion => "all_cpu_seconds_per_million_packets",
            Self::Stream => "stream_beside_load_delivered_per_second",
            Self::CaptureLost => "stream_not_captured_percent",
            Self::SwitchAlone => "stream_alone_switch_cpu_percent",
            Self::AllAlone => "stream_alone_all_cpu_percent",
            Self::Stolen => "stolen_percent",
        }
    }

    /// For a line of text, without unit.
    fn title(self) -> &'static str {
        match self {
            Self::Tcp1 => "TCP 1",
            Self::Tcp4 => "TCP 4",
            Self::Udp => "UDP 64 B",
            Self::RoundTripP50 => "round trip p50",
            Self::RoundTripP99 => "round trip p99",
            Self::Connections => "connections",
            Self::SwitchPerGigabyte => "switch CPU per GB",
            Self::AllPerGigabyte => "all CPU per GB",
            Self::SwitchPerMillion => "switch CPU per million packets",
            Self::AllPerMillion => "all CPU per million packets",
            Self::Stream => "stream beside load",
            Self::CaptureLost => "stream not captured",
            Self::SwitchAlone => "switch CPU, stream alone",
            Self::AllAlone => "all CPU, stream alone",
            Self::Stolen => "stolen",
        }
    }

    /// Its value in the samples of one path and one round.
    fn of(self, samples: &[&Sample]) -> Option<f64> {
        let find = |what| samples.iter().find(|sample| sample.what == what);
        let rate = |what| find(what).map(|sample| sample.amount / sample.seconds);
        let switch = |what| find(what).and_then(|s| Some(s.switch_cpu? / s.amount));
        let all = |what| find(what).map(|sample| sample.all_cpu / sample.amount);
        let latency = |which: usize| find(What::RoundTrip)?.latency?.get(which).map(|ns| ns / 1e3);
        match self {
            Self::Tcp1 => rate(What::Tcp1).map(|bytes| bytes * 8.0 / 1e9),
            Self::Tcp4 => rate(What::Tcp4).map(|bytes| bytes * 8.0 / 1e9),
            Self::Udp => rate(What::Udp),
            Self::RoundTripP50 => latency(0),
            Self::RoundTripP99 => latency(1),
            Self::Connections => rate(What::Connections),
            Self::SwitchPerGigabyte => switch(What::Tcp1).map(|seconds| seconds * 1e9),
            Self::AllPerGigabyte => all(What::Tcp1).map(|seconds| seconds * 1e9),
            Self::SwitchPerMillion => switch(What::Udp).map(|seconds| seconds * 1e6),
            Self::AllPerMillion => all(What::Udp).map(|seconds| seconds * 1e6),
            Self::Stream => {
                let beside = samples.iter().filter_map(|s| Some((s.stream?, s.seconds)));
                let (arrived, seconds) = beside.fold((0.0, 0.0), |(a, s), (b, t)| (a + b, s + t));
                (seconds > 0.0).then_some(arrived / seconds)
            }
            Self::CaptureLost => {
                let counts: Vec<_> = samples.iter().filter_map(|s| s.capture).collect();
                let lost: u64 = counts.iter().map(|counts| counts.lost).sum();
                let all: u64 = lost + counts.iter().map(|counts| counts.captured).sum::<u64>();
                (all > 0).then_some(lost as f64 * 100.0 / all as f64)
            }
            Self::SwitchAlone => {
                find(What::Alone).and_then(|s| Some(s.switch_cpu? * 100.0 / s.seconds))
            }
            Self::AllAlone => find(What::Alone).map(|s| s.all_cpu * 100.0 / s.seconds),
            Self::Stolen => {
                let stolen: f64 = samples.iter().map(|sample| sample.stolen).sum();
                Some(stolen * 100.0 / samples.len().max(1) as f64)
            }
        }
    }
}

/// How much a ratio binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// The build is not good enough without.
    Must,
    /// What the design aims at.
    Goal,
}

/// What a ratio ought to be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn met(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
        }
    }
}

/// A comparison of one path with another.
#[derive(Clone, Copy, Debug)]
struct Ratio {
    subject: Kind,
    baseline: Kind,
    metric: Metric,
    value: f64,
    target: Option<(Weight, Target)>,
}

impl Ratio {
    fn met(&self) -> Option<bool> {
        self.target.map(|(_, target)| target.met(self.value))
    }
}

/// A number to compare, and what the ratio ought to be.
type Compared = (Metric, Option<(Weight, Target)>);

/// What is asked of a path beside another.
type Comparison = (Kind, Kind, &'static [Compared]);

/// What is asked beside the relay over ports of the same kind.
const CEILING: &[Compared] = &[
    (Metric::Tcp1, Some((Weight::Must, Target::AtLeast(0.95)))),
    (Metric::RoundTripP50, Some((Weight::Must, Target::AtMost(1.15)))),
    (Metric::Udp, Some((Weight::Must, Target::AtLeast(0.9)))),
    (Metric::Connections, None),
];
/// What is aimed at beside the kernel.
const KERNEL: &[Compared] = &[
    (Metric::Tcp1, Some((Weight::Goal, Target::AtLeast(1.2)))),
    (Metric::RoundTripP50, Some((Weight::Goal, Target::AtMost(0.7)))),
    (Metric::Udp, Some((Weight::Goal, Target::AtLeast(0.6)))),
    // A bridge tracks none.
    (Metric::Connections, None),
];
/// What the recorder may cost.
const RECORDER: &[Compared] = &[
    (Metric::Tcp1, Some((Weight::Must, Target::AtLeast(0.97)))),
    (Metric::RoundTripP50, None),
    (Metric::Udp, Some((Weight::Must, Target::AtLeast(0.97)))),
];
/// What a capture of all hops may cost. Where two senders, two receivers, the switch, the writer
/// and its reader share two cores, rounds of the packet rate differ by more than what is asked for.
const CAPTURE: &[Compared] = &[
    (Metric::Tcp1, Some((Weight::Must, Target::AtLeast(0.9)))),
    (Metric::RoundTripP50, None),
    (Metric::Udp, Some((Weight::Goal, Target::AtLeast(0.9)))),
];
/// What a Service is worth beside one of the kernel: a claim a line, so two for most numbers.
const SERVICE: &[Compared] = &[
    (Metric::Tcp1, Some((Weight::Must, Target::AtLeast(1.1)))),
    (Metric::Tcp1, Some((Weight::Goal, Target::AtLeast(1.4)))),
    (Metric::Tcp4, Some((Weight::Must, Target::AtLeast(0.8)))),
    (Metric::Tcp4, Some((Weight::Goal, Target::AtLeast(1.1)))),
    (Metric::RoundTripP50, None),
    (Metric::Udp, Some((Weight::Must, Target::AtLeast(0.4)))),
    (Metric::Udp, Some((Weight::Goal, Target::AtLeast(1.0)))),
    (Metric::Connections, Some((Weight::Must, Target::AtLeast(0.8)))),
    (Metric::Connections, Some((Weight::Goal, Target::AtLeast(1.0)))),
];
/// What a Service may cost beside the same switch without one, and many beside one.
const FLAT: &[Compared] = &[
    (Metric::Tcp1, Some((Weight::Must, Target::AtLeast(0.95)))),
    (Metric::Tcp4, Some((Weight::Must, Target::AtLeast(0.95)))),
    (Metric::RoundTripP50, None),
    (Metric::Udp, Some((Weight::Must, Target::AtLeast(0.95)))),
    (Metric::Connections, Some((Weight::Must, Target::AtLeast(0.95)))),
];
/// What is only shown.
const SHOWN: &[Compared] = &[
    (Metric::Tcp1, None),
    (Metric::RoundTripP50, None),
    (Metric::Udp, None),
    (Metric::Connections, None),
];

/// All comparisons, in the order of the table.
const COMPARED: [Comparison; 14] = [
    (Kind::HopscopeTap, Kind::Relay, CEILING),
    (Kind::HopscopeVeth, Kind::VethRelay, CEILING),
    // What a veth costs whoever reads it.
    (Kind::VethRelay, Kind::Relay, SHOWN),
    (Kind::HopscopeVeth, Kind::Relay, SHOWN),
    (Kind::HopscopeTap, Kind::Kernel, KERNEL),
    (Kind::HopscopeVeth, Kind::Kernel, KERNEL),
    (Kind::HopscopeTap, Kind::TunTap, SHOWN),
    (Kind::HopscopeTap, Kind::Unrecorded, RECORDER),
    (Kind::Captured, Kind::Paced, CAPTURE),
    (Kind::HopscopeVip, Kind::KernelDnat, SERVICE),
    (Kind::HopscopeVip, Kind::HopscopeTap, FLAT),
    (Kind::HopscopeVips, Kind::HopscopeVip, FLAT),
    // What many Services cost in the kernel's older way.
    (Kind::KernelRules, Kind::KernelDnat, SHOWN),
    (Kind::HopscopeVips, Kind::KernelRules, SHOWN),
];

/// A run and what it came to.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Machine,
    rounds: usize,
    window: Duration,
    samples: Vec<Sample>,
}

impl Report {
    pub(crate) fn new(
        machine: Machine,
        rounds: usize,
        window: Duration,
        samples: Vec<Sample>,
    ) -> Self {
        Self { machine, rounds, window, samples }
    }

    /// Whether no must is missed.
    pub(crate) fn musts_met(&self) -> bool {
        self.ratios().iter().all(|ratio| {
            !matches!(ratio.target, Some((Weight::Must, target)) if !target.met(ratio.value))
        })
    }

    /// Writes everything, each single measurement included.
    pub(crate) fn write(&self, file: &Path) -> Fallible<()> {
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        let text = serde_json::to_string_pretty(&self.json())?;
        fs::write(file, text + "\n").map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(())
    }

    fn json(&self) -> Value {
        let medians: Map<String, Value> = self
            .kinds()
            .map(|kind| {
                let values: Map<String, Value> = Metric::ALL
                    .into_iter()
                    .map(|metric| (metric.key().to_owned(), json!(self.median(kind, metric))))
                    .collect();
                (kind.name().to_owned(), values.into())
            })
            .collect();
        let ratios: Vec<Value> = self.ratios().iter().map(Ratio::json).collect();
        let limits: Vec<Value> = self
            .kinds()
            .flat_map(|kind| What::ALL.map(|what| (kind, what)))
            .filter_map(|(kind, what)| {
                Some(json!({
                    "path": kind.name(),
                    "measure": what.name(),
                    "limited_by": self.limit(kind, what)?.to_string(),
                }))
            })
            .collect();
        let samples: Vec<Value> = self.samples.iter().map(Sample::json).collect();
        json!({
            "machine": self.machine.json(),
            "settings": {
                "rounds": self.rounds,
                "window_seconds": self.window.as_secs_f64(),
                "mtu": MTU,
                "congestion_control": "cubic",
                "stream_chunk_bytes": STREAM_CHUNK,
                "datagram_bytes": DATAGRAM,
                "datagrams_per_call": DATAGRAM_BATCH,
                "datagram_socket_buffer_bytes": DATAGRAM_BUFFER,
                "request_bytes": REQUEST,
                "paced_datagrams_per_second": PACE,
            },
            "medians": medians,
            "ratios": ratios,
            "limits": limits,
            "samples": samples,
        })
    }

    /// The paths that were measured.
    fn kinds(&self) -> impl Iterator<Item = Kind> {
        let measured = |kind: &Kind| self.samples.iter().any(|sample| sample.kind == *kind);
        Kind::ALL.into_iter().filter(measured)
    }

    /// Samples of a path, by round.
    fn by_round(&self, kind: Kind) -> Vec<Vec<&Sample>> {
        let of_round = |round| {
            self.samples.iter().filter(|s| s.kind == kind && s.round == round).collect::<Vec<_>>()
        };
        (0..self.rounds).map(of_round).filter(|samples| !samples.is_empty()).collect()
    }

    fn median(&self, kind: Kind, metric: Metric) -> Option<f64> {
        median(self.by_round(kind).iter().filter_map(|samples| metric.of(samples)).collect())
    }

    fn ratios(&self) -> Vec<Ratio> {
        let mut ratios = Vec::new();
        for (subject, baseline, compared) in COMPARED {
            for &(metric, target) in compared {
                let medians = self.median(subject, metric).zip(self.median(baseline, metric));
                if let Some((own, other)) = medians {
                    let value = own / other;
                    ratios.push(Ratio { subject, baseline, metric, value, target });
                }
            }
        }
        ratios
    }

    /// What a measurement had most of, in the median of the rounds.
    fn limit(&self, kind: Kind, what: What) -> Option<table::Limit> {
        let of = |share: &dyn Fn(&Sample) -> Option<f64>| {
            let samples = self.samples.iter().filter(|s| s.kind == kind && s.what == what);
            median(samples.filter_map(share).collect())
        };
        Some(table::Limit {
            switch: of(&|sample| Some(sample.switch_cpu? / sample.seconds)),
            all: of(&|sample| Some(sample.all_cpu / sample.seconds))?,
            cores: self.machine.cores() as f64,
        })
    }
}

impl Ratio {
    fn json(&self) -> Value {
        let (weight, bound, target) = match self.target {
            Some((weight, Target::AtLeast(target))) => {
                (Some(weight), Some("at least"), Some(target))
            }
            Some((weight, Target::AtMost(target))) => (Some(weight), Some("at most"), Some(target)),
            None => (None, None, None),
        };
        json!({
            "path": self.subject.name(),
            "beside": self.baseline.name(),
            "metric": self.metric.key(),
            "ratio": self.value,
            "weight": weight.map(|weight| match weight {
                Weight::Must => "must",
                Weight::Goal => "goal",
            }),
            "bound": bound,
            "target": target,
            "met": self.met(),
        })
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied()?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = values.get(values.len() / 2 - 1).copied()?;
    Some((lower + upper) / 2.0)
}

/// One line of a path's measurements in a round.
pub(crate) fn progress(samples: &[Sample]) -> String {
    let samples: Vec<&Sample> = samples.iter().collect();
    let shown = [
        (Metric::Tcp1, "TCP 1", "Gb/s", 1.0),
        (Metric::Tcp4, "TCP 4", "Gb/s", 1.0),
        (Metric::Udp, "UDP", "k/s", 1e-3),
        (Metric::RoundTripP50, "round trip", "us", 1.0),
        (Metric::Connections, "connections", "k/s", 1e-3),
        (Metric::CaptureLost, "not captured", "%", 1.0),
        (Metric::Stolen, "stolen", "%", 1.0),
    ];
    let texts: Vec<String> = shown
        .into_iter()
        .filter_map(|(metric, name, unit, scale)| {
            Some(format!("{name} {:5.1} {unit}", metric.of(&samples)? * scale))
        })
        .collect();
    texts.join(", ")
}

/// Beside the build that runs: `target/bench/side-by-side.json`.
pub(crate) fn default_file() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let target = program.parent().and_then(Path::parent).unwrap_or_else(|| Path::new("target"));
    target.join("bench").join("side-by-side.json")
}

#[cfg(test)]
mod tests;

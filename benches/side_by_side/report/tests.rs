//! Medians, ratios and what is made of them, from samples with known answers.

use std::time::Duration;

use super::*;
use crate::capture::Counts;

/// What each path moves a second.
type Rates = [f64; Kind::ALL.len()];

/// As much as all others for each path that is not named, but for the kernel's Services: beside
/// those Hopscope must be faster.
fn rates(named: &[(Kind, f64)]) -> Rates {
    Kind::ALL.map(|kind| {
        let usual = if kind.is_routed_by_kernel() { 0.7 } else { 1.0 };
        named.iter().find(|(name, _)| *name == kind).map_or(usual, |(_, rate)| *rate)
    })
}

/// The musts that are missed.
fn missed_musts(report: &Report) -> Vec<(Kind, Kind, Metric)> {
    let missed = report.ratios().into_iter().filter(|ratio| ratio.met() == Some(false));
    let musts = missed.filter(|ratio| matches!(ratio.target, Some((Weight::Must, _))));
    musts.map(|ratio| (ratio.subject, ratio.baseline, ratio.metric)).collect()
}

/// A round in which each path moves `rate` a second, in half of that many microseconds a round
/// trip.
fn round(number: usize, rates: Rates) -> Vec<Sample> {
    let of_path = |(kind, rate): (Kind, f64)| {
        let measures = What::ALL.into_iter().filter(move |what| what.is_of(kind));
        measures.map(move |what| Sample {
            kind,
            round: number,
            what,
            seconds: 2.0,
            amount: 2.0 * rate,
            latency: (what == What::RoundTrip).then_some([rate * 500.0, rate * 600.0]),
            stream: (kind.is_paced() && what != What::Alone).then_some(40_000.0),
            capture: (kind == Kind::Captured).then_some(Counts { captured: 30_000, lost: 10_000 }),
            switch_cpu: (kind != Kind::Kernel && !kind.is_routed_by_kernel()).then_some(1.0),
            all_cpu: 3.9,
            stolen: 0.01,
        })
    };
    Kind::ALL.into_iter().zip(rates).flat_map(of_path).collect()
}

fn report(rounds: &[Rates]) -> Report {
    let samples = rounds.iter().enumerate().flat_map(|(number, rates)| round(number, *rates));
    let machine = Machine::of_tests();
    Report::new(machine, rounds.len(), Duration::from_secs(2), samples.collect())
}

fn close(value: Option<f64>, expected: f64) {
    let value = value.unwrap();
    assert!((value - expected).abs() < 1e-9, "{value} instead of {expected}");
}

#[test]
fn the_median_is_the_middle() {
    close(median(vec![9.0, 1.0, 5.0]), 5.0);
    close(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
    assert_eq!(median(Vec::new()), None);
}

#[test]
fn metrics_follow_from_samples() {
    let report = report(&[rates(&[(Kind::Kernel, 8e9), (Kind::HopscopeTap, 4e9)])]);
    close(report.median(Kind::Kernel, Metric::Tcp1), 64.0);
    close(report.median(Kind::HopscopeTap, Metric::RoundTripP50), 2e9);
    close(report.median(Kind::HopscopeTap, Metric::RoundTripP99), 2.4e9);
    // One CPU second for eight gigabytes, and for as many thousand million packets.
    close(report.median(Kind::HopscopeTap, Metric::SwitchPerGigabyte), 0.125);
    close(report.median(Kind::HopscopeTap, Metric::SwitchPerMillion), 0.000_125);
    assert_eq!(report.median(Kind::Kernel, Metric::SwitchPerMillion), None);
    close(report.median(Kind::Kernel, Metric::Stolen), 1.0);
    close(report.median(Kind::HopscopeTap, Metric::Connections), 4e9);
    assert_eq!(report.median(Kind::HopscopeVeth, Metric::Connections), None);
}

#[test]
fn a_missed_must_is_told_a_missed_goal_is_only_shown() {
    // Beside the relay all are met, at the edge; beside the kernel the round trip is too long.
    let edge = rates(&[(Kind::HopscopeVeth, 1.15)]);
    let good = report(&[edge, edge]);
    assert!(good.musts_met());
    let missed: Vec<_> = good.ratios().into_iter().filter(|r| r.met() == Some(false)).collect();
    assert!(missed.iter().all(|ratio| ratio.baseline == Kind::Kernel), "{missed:?}");
    assert!(good.to_string().contains("MISSED"));
    // One bad round of three does not turn the median.
    let even = rates(&[]);
    assert!(report(&[even, rates(&[(Kind::HopscopeTap, 0.5)]), even]).musts_met());
    let slow = rates(&[(Kind::HopscopeTap, 0.94), (Kind::Unrecorded, 0.94)]);
    assert!(!report(&[even, slow, slow]).musts_met(), "one stream below 0.95 of the relay");
    let late = rates(&[(Kind::HopscopeVeth, 1.16)]);
    assert!(!report(&[late]).musts_met(), "a round trip above 1.15 of the relay's");
    // A veth has the veth relay for its ceiling, and both may be slower than a TAP.
    let veths = rates(&[(Kind::VethRelay, 1.3), (Kind::HopscopeVeth, 1.3)]);
    assert!(report(&[veths]).musts_met());
}

#[test]
fn a_capture_is_judged_by_the_same_path_without_one() {
    let report = report(&[rates(&[])]);
    close(report.median(Kind::Paced, Metric::Stream), 20_000.0);
    close(report.median(Kind::Captured, Metric::CaptureLost), 25.0);
    assert_eq!(report.median(Kind::Paced, Metric::CaptureLost), None);
    // One CPU second of the two that the stream ran alone.
    close(report.median(Kind::Captured, Metric::SwitchAlone), 50.0);
    assert_eq!(report.median(Kind::HopscopeTap, Metric::SwitchAlone), None);
    let [edge, slow] = [0.91, 0.89].map(|own| rates(&[(Kind::Captured, own)]));
    assert!(self::report(&[edge]).musts_met(), "a tenth may go");
    let missed = self::report(&[slow]);
    assert!(!missed.musts_met());
    assert_eq!(missed_musts(&missed), [(Kind::Captured, Kind::Paced, Metric::Tcp1)]);
}

#[test]
fn a_service_is_judged_by_the_kernels_and_by_the_same_switch_without_one() {
    assert_eq!(missed_musts(&report(&[rates(&[])])), []);
    let beside = |subject, baseline, metrics: &[Metric]| -> Vec<_> {
        metrics.iter().map(|metric| (subject, baseline, *metric)).collect()
    };
    // A faster kernel: one stream must be faster than its, nothing else.
    let kernel = |rate| report(&[rates(&[(Kind::KernelDnat, rate)])]);
    let missed = beside(Kind::HopscopeVip, Kind::KernelDnat, &[Metric::Tcp1]);
    assert_eq!(missed_musts(&kernel(0.95)), missed);
    let most = [Metric::Tcp1, Metric::Tcp4, Metric::Connections];
    let missed = beside(Kind::HopscopeVip, Kind::KernelDnat, &most);
    assert_eq!(missed_musts(&kernel(1.3)), missed, "packets may be 0.4 of its");
    // Must and goal of a number are told each.
    let of = (Kind::HopscopeVip, Kind::KernelDnat);
    let ratios = kernel(0.8).ratios().into_iter().filter(|r| (r.subject, r.baseline) == of);
    let one_stream = ratios.filter(|ratio| ratio.metric == Metric::Tcp1);
    let told: Vec<_> = one_stream.map(|ratio| (ratio.target.unwrap().0, ratio.met())).collect();
    assert_eq!(told, [(Weight::Must, Some(true)), (Weight::Goal, Some(false))]);
    let all = [Metric::Tcp1, Metric::Tcp4, Metric::Udp, Metric::Connections];
    let slow = report(&[rates(&[(Kind::HopscopeVip, 0.94), (Kind::HopscopeVips, 0.94)])]);
    assert_eq!(missed_musts(&slow), beside(Kind::HopscopeVip, Kind::HopscopeTap, &all));
    let steep = report(&[rates(&[(Kind::HopscopeVips, 0.94)])]);
    assert_eq!(missed_musts(&steep), beside(Kind::HopscopeVips, Kind::HopscopeVip, &all));
}

#[test]
fn the_file_holds_what_the_table_shows() {
    let report = report(&[rates(&[])]);
    let json = report.json();
    let ratio = &json["ratios"][0];
    assert_eq!(ratio["path"], "Hopscope TAP");
    assert_eq!(ratio["beside"], "bare relay");
    assert_eq!((&ratio["weight"], &ratio["met"]), (&json!("must"), &json!(true)));
    assert_eq!(json["samples"].as_array().unwrap().len(), 59);
    assert_eq!(json["medians"]["kernel bridge"]["switch_cpu_seconds_per_gigabyte"], Value::Null);
    assert_eq!(json["limits"][0]["limited_by"], "cores -/1.95");
    for line in report.to_string().lines() {
        assert!(line.len() <= 112, "{line}");
    }
}

//! What rules cost that look at every walk, by criterion:
//! `cargo bench -p benches --bench triggers`.
//!
//! Without rules nothing of this runs: the event loop asks once a frame whether there are any.

use std::hint::black_box;

use benches::{Bed, Case};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stack::Instant;
use vswitchd::triggers::{Rule, Watcher, grammar};

/// Rules by what they look at.
const SETS: [(&str, &[&str]); 3] = [
    ("drops", &["drop class=bug", "drop reason=SourceIpSpoofed"]),
    ("headers", &["rst", "no-answer 2s udp/53", "probe-failed"]),
    ("all", &["drop", "rst", "no-answer 2s tcp/80", "no-answer 2s udp/53", "probe-failed"]),
];

fn watched(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("triggers");
    group.throughput(Throughput::Elements(1));
    for (set, rules) in SETS {
        for case in [Case::BridgedTcp4, Case::RoutedTcp6, Case::DroppedSpoof] {
            let rules = rules.iter().map(|text| grammar::parse(text).map(Rule::new));
            let rules = rules.collect::<Result<_, _>>().expect("rules that can be");
            let mut watcher = Watcher::new(rules, 1);
            let mut bed = Bed::new(case);
            bed.walk();
            let (mut now, switch, out) = bed.seen();
            group.bench_function(format!("{set}/{}", case.name()), |bencher| {
                bencher.iter(|| {
                    now = Instant(now.0 + 1_000);
                    watcher.see(now, black_box(switch), black_box(out));
                    watcher.take_fired().for_each(drop);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, watched);
criterion_main!(benches);

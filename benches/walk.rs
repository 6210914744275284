//! Time of a walk, by criterion: `cargo bench -p benches --bench walk`.

use std::hint::black_box;

use benches::{Bed, Case, Crowd, Size};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn walks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("walk");
    group.throughput(Throughput::Elements(1));
    for case in Case::ALL {
        let mut bed = Bed::new(case);
        group.bench_function(case.name(), |bencher| {
            bencher.iter(|| {
                black_box(&mut bed).walk();
                bed.reset();
            });
        });
    }
    group.finish();
}

fn crowds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crowd");
    group.throughput(Throughput::Elements(1));
    for (connections, services) in [(64, 10), (100_000, 10_000)] {
        for is_ipv6 in [false, true] {
            let mut crowd = Crowd::new(Size { connections, services, is_ipv6 });
            let name = format!("{connections}_by_vip{}", if is_ipv6 { 6 } else { 4 });
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    black_box(&mut crowd).walk();
                    crowd.reset();
                });
            });
        }
    }
    group.finish();
}

fn parses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    for case in [Case::BridgedTcp4, Case::BridgedTcp6, Case::AnsweredArp] {
        let bed = Bed::new(case);
        group.bench_function(case.name(), |bencher| bencher.iter(|| black_box(&bed).parse()));
    }
    group.finish();
}

criterion_group!(benches_of_the_core, walks, crowds, parses);
criterion_main!(benches_of_the_core);

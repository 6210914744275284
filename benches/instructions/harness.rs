//! The cases as gungraun wants them. Only the body of a function is counted: the bed is made
//! before, and goes after.

#![expect(clippy::exit, reason = "what `main!` writes ends the process when the runner fails")]

use benches::{Bed, Case, Crowd, Size};
use gungraun::{library_benchmark, library_benchmark_group, main};

/// First argument with which the runner starts a case.
pub(crate) const CASE_ARGUMENT: &str = "--gungraun-run";

#[library_benchmark(setup = Bed::new)]
#[bench::bridged_tcp4(Case::BridgedTcp4)]
#[bench::bridged_tcp6(Case::BridgedTcp6)]
#[bench::routed_tcp4(Case::RoutedTcp4)]
#[bench::routed_tcp6(Case::RoutedTcp6)]
#[bench::answered_arp(Case::AnsweredArp)]
#[bench::dropped_spoof(Case::DroppedSpoof)]
fn walk(mut bed: Bed) -> Bed {
    bed.walk();
    bed
}

#[library_benchmark(setup = Crowd::new)]
#[bench::vip4(Size { connections: 64, services: 10, is_ipv6: false })]
#[bench::vip6(Size { connections: 64, services: 10, is_ipv6: true })]
fn fast(mut crowd: Crowd) -> Crowd {
    crowd.walk();
    crowd
}

#[library_benchmark(setup = Bed::new)]
#[bench::tcp4(Case::BridgedTcp4)]
#[bench::tcp6(Case::BridgedTcp6)]
#[bench::arp(Case::AnsweredArp)]
fn parse(bed: Bed) -> Bed {
    bed.parse();
    bed
}

library_benchmark_group!(name = core_of_the_switch, benchmarks = [walk, fast, parse]);
main!(library_benchmark_groups = core_of_the_switch);

/// Runs the case that the arguments name, or has the runner run all.
pub(crate) fn run() {
    main();
}

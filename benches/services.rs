//! What Services cost, by criterion:
//! `cargo bench -p benches --no-default-features --bench services`.
//!
//! A look-up with the choice of a backend, among few Services and among 30,000 with five backends
//! each, asked in no order so that caches help as little as they do a node; and the change of one
//! Service among as many, whose backends come and go.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use smoltcp::wire::{IpAddress, Ipv4Address};
use stack::table::conntrack::Tuple;
use stack::table::service::{Choice, Found, Request, Services};
use stack::{
    Backend, Change, Config, Frontend, FrontendKind, Input, Instant, Limits, Method, Outbox, Seeds,
    ServiceConfig, ServiceId, ServiceProtocol, Switch,
};

const BACKENDS: u32 = 5;
const SIZES: [u32; 2] = [10, 30_000];
const SEED: u64 = 2;

fn service(n: u32, backends: u32, method: Method) -> ServiceConfig {
    let of = |kind, address, port| Frontend { kind, address, port };
    let backend = |of| Backend {
        local: of == 0,
        ..Backend::ready(Ipv4Address::from(0x0a80_0000 + n * 8 + of).into(), 8_080)
    };
    let mut frontends = vec![of(FrontendKind::ClusterIp, Some(vip(n)), 80)];
    if n < 2_700 {
        let port = u16::try_from(30_000 + n).expect("a NodePort");
        frontends.push(of(FrontendKind::NodePort, None, port));
    }
    ServiceConfig {
        frontends,
        method,
        backends: (0..backends).map(backend).collect(),
        ..ServiceConfig::new(
            ServiceId(n),
            format!("default/service-{n}:http"),
            ServiceProtocol::Tcp,
        )
    }
}

fn vip(n: u32) -> IpAddress {
    Ipv4Address::from(0x0a60_0000 + n).into()
}

fn switch(services: u32, method: Method) -> Switch {
    let services = (0..services).map(|n| service(n, BACKENDS, method)).collect();
    let config = Config { services, ..Config::default() };
    Switch::new(config, Limits::default(), Seeds { table: 1, choice: SEED })
}

/// What the stage of a walk asks for a new connection.
fn find_and_choose(services: &Services, n: u32, port: u16) -> Option<Choice> {
    let client = Ipv4Address::new(10, 1, 0, 9).into();
    let tuple = Tuple { src: client, dst: vip(n), src_port: port, dst_port: 80, protocol: 6 };
    let Found::Frontend { slot, kind } = services.find(&tuple.dst, 80, 6, false) else {
        return None;
    };
    let request = Request {
        slot,
        kind,
        external_to_cluster: false,
        client,
        tuple: &tuple,
        now: Instant(1),
        choice_seed: SEED,
    };
    services.choose(&request).ok()
}

fn choices(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("service");
    group.throughput(Throughput::Elements(1));
    let methods = [
        ("random", Method::Random),
        ("round_robin", Method::RoundRobin),
        ("weighted_round_robin", Method::WeightedRoundRobin),
        ("least_connections", Method::LeastConnections),
        ("source_hash", Method::SourceHash),
        ("maglev", Method::Maglev),
    ];
    for size in SIZES {
        for (name, method) in methods {
            let switch = switch(size, method);
            let services = switch.tables().services();
            let mut count = 0_u32;
            group.bench_function(format!("find_and_choose/{name}/{size}"), |bencher| {
                bencher.iter(|| {
                    count = count.wrapping_add(7_919);
                    let port = u16::try_from(count % 50_000).unwrap_or(0);
                    let choice = find_and_choose(black_box(services), count % size, port);
                    assert!(choice.is_some());
                });
            });
        }
    }
    group.finish();
}

fn look_ups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("service");
    group.throughput(Throughput::Elements(1));
    for size in SIZES {
        let switch = switch(size, Method::Random);
        let services = switch.tables().services();
        let mut count = 0_u32;
        group.bench_function(format!("find/{size}"), |bencher| {
            bencher.iter(|| {
                count = count.wrapping_add(7_919);
                let found = black_box(services).find(&vip(count % size), 80, 6, false);
                assert!(matches!(found, Found::Frontend { .. }));
            });
        });
        // What every new connection asks that is none to a Service.
        group.bench_function(format!("find_nothing/{size}"), |bencher| {
            bencher.iter(|| {
                count = count.wrapping_add(7_919);
                let pod = Ipv4Address::from(0x0a80_0000 + count % 200_000).into();
                assert_eq!(black_box(services).find(&pod, 8_080, 6, false), Found::Nothing);
            });
        });
    }
    group.finish();
}

fn changes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("service");
    group.throughput(Throughput::Elements(1));
    let maglev = |backends| (backends, Method::Maglev);
    let random = |backends| (backends, Method::Random);
    let cases = [random(5), maglev(5), random(800), maglev(799), maglev(10_000)];
    for size in SIZES {
        for (backends, method) in cases {
            // Few may be large: all backends together have a limit.
            let changed = if backends == BACKENDS { size } else { 10 };
            let mut switch = switch(size, Method::Random);
            let mut out = Outbox::default();
            let mut count = 0_u32;
            let name = format!("change/{method:?}/{backends}_backends/{size}");
            group.bench_function(name, |bencher| {
                bencher.iter_batched(
                    || {
                        count = count.wrapping_add(7_919);
                        // One backend more, or one less.
                        let backends = backends - count % 2;
                        Input::Change(Change::Service(service(count % changed, backends, method)))
                    },
                    |change| switch.input(Instant(1), change, &mut out),
                    BatchSize::SmallInput,
                );
            });
            assert!(out.events.is_empty(), "{:?}", out.events.first());
        }
    }
    group.finish();
}

criterion_group!(benches, look_ups, choices, changes);
criterion_main!(benches);

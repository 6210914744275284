//! The methods: whom they choose, and what of it is state.

use super::*;

fn with(method: Method, weights: &[u16]) -> Services {
    let weighted = |(n, weight): (u8, &u16)| Backend { weight: *weight, ..backend(n) };
    let backends = (1..).zip(weights).map(weighted).collect();
    services(&[ServiceConfig { method, ..service(1, backends) }])
}

fn places(services: &mut Services, count: u16) -> Vec<u16> {
    (0..count).map(|port| connect(services, port)).collect()
}

#[test]
fn round_robin_goes_round_whatever_the_weights() {
    let mut services = with(Method::RoundRobin, &[1, 9, 0, 4]);
    assert_eq!(places(&mut services, 7), [0, 1, 3, 0, 1, 3, 0]);
    // Asking alone is no turn.
    for port in 0..3 {
        let choice = ask(&services, &tuple(port)).unwrap();
        assert_eq!((choice.index, choice.of), (1, 3));
        assert_eq!(choice.why, Why::Method(Method::RoundRobin));
    }
}

#[test]
fn round_robin_goes_on_behind_who_was_last() {
    let mut services = with(Method::RoundRobin, &[1, 1, 1]);
    assert_eq!(places(&mut services, 2), [0, 1]);
    let rotated = ServiceConfig { method: Method::RoundRobin, ..service(1, ready(5)) };
    services.set(&rotated).unwrap();
    assert_eq!(places(&mut services, 4), [2, 3, 4, 0]);
    // The one whose turn it is goes: the one behind it is next.
    let backends = [1, 3, 4, 5].map(backend).to_vec();
    services.set(&ServiceConfig { backends, ..rotated.clone() }).unwrap();
    assert_eq!(places(&mut services, 1), [1]);
    // The last one was last: the first one is next, though there are more now.
    services.set(&rotated).unwrap();
    assert_eq!(places(&mut services, 2), [3, 4]);
    services.set(&ServiceConfig { backends: ready(9), ..rotated.clone() }).unwrap();
    assert_eq!(places(&mut services, 1), [0]);
    let random = ServiceConfig { method: Method::Random, ..rotated };
    services.set(&random).unwrap();
    assert_eq!(row(&services).turns, [0, 0], "another method begins anew");
}

#[test]
fn turns_of_the_two_paths_are_apart() {
    let local = |n| Backend { local: n % 2 == 1, ..backend(n) };
    let backends = (1..=4).map(local).collect();
    let base = ServiceConfig { method: Method::RoundRobin, ..service(1, backends) };
    let mut services = services(&[ServiceConfig { external_local: true, ..base }]);
    let mut seen = Vec::new();
    for port in 0..4 {
        for outside in [false, true] {
            let kind = FrontendKind::NodePort;
            let choice = ask_behind(&services, kind, outside, &tuple(port)).unwrap();
            services.began(Instant(1_000), &choice.chosen);
            seen.push(choice.index);
        }
    }
    assert_eq!(seen, [0, 0, 1, 2, 2, 0, 3, 2]);
    assert_eq!(row(&services).turns, [4, 3]);
}

#[test]
fn weighted_round_robin_interleaves() {
    let mut services = with(Method::WeightedRoundRobin, &[5, 0, 1, 1]);
    let cycle = places(&mut services, 7);
    assert_eq!(cycle, [0, 0, 3, 0, 2, 0, 0]);
    assert_eq!(places(&mut services, 7), cycle, "and again");
    assert_eq!(row(&services).turns, [0, 0]);
}

#[test]
fn least_connections_fill_up_evenly_and_by_weight() {
    let mut services = with(Method::LeastConnections, &[1, 1, 2]);
    places(&mut services, 400);
    assert_eq!(active(&services), [100, 100, 200]);
    for _ in 0..50 {
        services.ended(ServiceId(1), &v4(10, 1, 0, 2), 8_080);
    }
    assert_eq!(active(&services), [100, 50, 200]);
    assert_eq!(places(&mut services, 50), [1; 50], "who has fewer takes all until it has as many");
    assert_eq!(totals(&services), [100, 150, 200]);
}

#[test]
fn among_equals_of_least_connections_the_hash_decides() {
    let services = with(Method::LeastConnections, &[1, 1, 1, 1]);
    let random = with(Method::Random, &[1, 1, 1, 1]);
    for port in 0..100 {
        let index = |services: &Services| ask(services, &tuple(port)).unwrap().index;
        assert_eq!(index(&services), index(&random));
    }
}

#[test]
fn source_hash_looks_at_the_client_alone() {
    let services = with(Method::SourceHash, &[1, 1, 1, 1]);
    let of = |tuple: &Tuple| ask(&services, tuple).unwrap().index;
    assert!((0..500).all(|port| of(&tuple(port)) == of(&tuple(9))));
    let mut seen = [0; 4];
    for n in 0..=255 {
        let client = Tuple { src: v4(10, 2, 0, n), ..tuple(9) };
        seen[usize::from(of(&client))] += 1;
    }
    assert!(seen.iter().all(|count| (40..=90).contains(count)), "{seen:?}");
}

#[test]
fn weights_are_shares_of_random_choices() {
    let mut services = with(Method::Random, &[3, 0, 1]);
    places(&mut services, 20_000);
    let [heavy, none, light] = totals(&services)[..] else { panic!("three") };
    assert_eq!(none, 0);
    // 3 standard deviations of 61.
    assert!(heavy.abs_diff(15_000) < 184 && heavy + light == 20_000, "{heavy}");
}

#[test]
fn the_seed_of_choices_counts_except_for_maglev() {
    for (method, same) in
        [(Method::Random, false), (Method::SourceHash, false), (Method::Maglev, true)]
    {
        let services = with(method, &[1; 8]);
        let of = |choice_seed, n: u8| {
            let tuple = Tuple { src: v4(10, 2, 0, n), ..tuple(9) };
            let slot = services.slot(ServiceId(1)).unwrap();
            let request = Request {
                slot,
                kind: FrontendKind::ClusterIp,
                external_to_cluster: false,
                client: tuple.src,
                tuple: &tuple,
                now: Instant(1),
                choice_seed,
            };
            services.choose(&request).unwrap().index
        };
        assert_eq!((0..100).all(|n| of(1, n) == of(2, n)), same, "{method:?}");
    }
}

/// Every node and every build chooses so, and recordings hold what came of it. The values were
/// computed by a second implementation, with logarithms of sixty digits.
#[test]
fn choices_are_fixed() {
    let of = |method| {
        let services = with(method, &[1, 2, 3, 4, 5]);
        (0..12).map(|port| ask(&services, &tuple(port)).unwrap().index).collect::<Vec<u16>>()
    };
    assert_eq!(of(Method::Random), [4, 2, 0, 4, 0, 4, 2, 3, 1, 2, 0, 1]);
    assert_eq!(of(Method::SourceHash), [4; 12]);
    assert_eq!(of(Method::Maglev), [1, 2, 3, 3, 2, 0, 1, 3, 3, 1, 4, 2]);
}

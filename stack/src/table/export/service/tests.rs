//! What Services had comes over, and what is not there any more does not.

use alloc::string::String;

use super::*;
use crate::config::{Backend, Change, Limits, Method, Seeds, ServiceConfig, ServiceProtocol};
use crate::table::service::{Chosen, Path, Refusal};
use crate::table::{Effect, Table, Tables};
use crate::time::Duration;

/// Tables that know Services, with that many backends each; more of them in another order.
fn serving(order: &[u32], backends: u8, choice: u64) -> Tables {
    let service = |id: &u32| ServiceConfig {
        method: Method::RoundRobin,
        affinity: (*id != 3).then_some(Duration(1 << 40)),
        backends: (1..=backends).map(backend).collect(),
        ..ServiceConfig::new(ServiceId(*id), String::new(), ServiceProtocol::Tcp)
    };
    let mut tables = Tables::new(Limits::default(), Seeds { table: order.len() as u64, choice });
    for config in order.iter().map(service) {
        tables.apply(&Change::Service(config)).unwrap();
    }
    tables
}

fn backend(n: u8) -> Backend {
    Backend::ready(Ipv4Address::new(10, 1, 0, n).into(), 80)
}

/// Connections to Services, and refused ones.
fn used(tables: &mut Tables, services: &[u32]) {
    for id in services {
        let slot = tables.services().slot(ServiceId(*id)).unwrap();
        for n in 0..7 {
            let client = Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, n).into();
            let chosen = Chosen {
                slot,
                index: n % 3,
                turn: Some((Path::Local, 1 + u32::from(n))),
                client: (*id != 3).then_some(client),
            };
            tables.commit(Instant(9), &[Effect::Chosen(chosen)]);
        }
        for refusal in [Refusal::NoBackends, Refusal::NoneLocal, Refusal::NoneLocal] {
            tables.commit(Instant(9), &[Effect::Refused(slot, refusal)]);
        }
    }
}

#[test]
fn services_go_on_where_they_were() {
    let mut one = serving(&[1, 2, 3, 4], 3, 9);
    used(&mut one, &[1, 3]);
    let mut other = serving(&[4, 3, 2, 1], 3, 9);
    other.import(&one.export()).unwrap();
    for id in [1, 2, 3, 4].map(ServiceId) {
        let [theirs, ours] = [&one, &other].map(|it| it.services().by_id(id).unwrap());
        assert_eq!((theirs.turns, theirs.refused), (ours.turns, ours.refused));
        let total = |service: &Service| service.loads.iter().map(|it| it.total).collect::<Vec<_>>();
        assert_eq!(total(theirs), total(ours));
        assert!(ours.loads.iter().all(|load| load.active == 0), "connections come over apart");
    }
    let clients = |tables: &Tables| tables.services().affinities().copied().collect();
    let (theirs, ours): (Vec<Affinity>, Vec<Affinity>) = (clients(&one), clients(&other));
    assert_eq!((theirs.len(), &theirs), (7, &ours));
}

#[test]
fn services_and_backends_that_are_not_there_are_passed_over() {
    let mut one = serving(&[1, 2, 3], 3, 9);
    used(&mut one, &[1, 2, 3]);
    // Service 2 is gone, and so is the last backend; Service 3 exports no clients.
    let mut other = serving(&[1, 3], 2, 9);
    other.import(&one.export()).unwrap();
    let service = |id| other.services().by_id(ServiceId(id));
    let totals = service(1).unwrap().loads.iter().map(|load| load.total);
    assert_eq!(totals.collect::<Vec<u64>>(), [3, 2]);
    assert!(service(2).is_none());
    assert_eq!(other.services().affinities().count(), 7);
}

#[test]
fn clients_are_found_by_the_seed_that_comes_with_them() {
    let mut one = serving(&[1], 3, 9);
    used(&mut one, &[1]);
    let mut other = serving(&[1], 3, 10);
    other.import(&one.export()).unwrap();
    assert_eq!(one.digests().differing(other.digests()).collect::<Vec<_>>(), [Table::Service]);
    let mut bytes = Vec::new();
    other.snapshot_begin(&mut bytes);
    while !other.snapshot_step(9, &mut bytes) {}
    let restored = Tables::restore(&bytes, 3).unwrap();
    assert_eq!(restored.dump(), other.dump(), "each is where it is looked for");
}

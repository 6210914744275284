//! Walks of the world's traffic explained: which tables were asked, and what they said then.

use recording::breakpoint::Breakpoint;

use super::{Drops, Explanation, Lookup, explain};
use crate::capture::world::World;
use crate::replay::Options;
use crate::replay::tests::{file, replayed};

fn recorded() -> Vec<u8> {
    let mut world = World::new();
    world.traffic();
    file(&world.excerpt())
}

fn at(file: &[u8], walk: u64) -> Explanation {
    let breakpoint = Breakpoint::read(&format!("walk={walk}")).unwrap();
    let options = Options { until: None, breakpoint: Some(breakpoint) };
    explain(&replayed(file, &options, None), walk).unwrap()
}

/// The tables asked, each with the key and whether it had a row.
fn asked(explanation: &Explanation) -> Vec<(&'static str, &str, bool)> {
    let lookups = explanation.lookups.iter().map(|lookup| match lookup {
        Lookup::Ingress { key, row } => ("ingress", key.as_str(), row.is_some()),
        Lookup::Fdb { key, row } => ("fdb", key.as_str(), row.is_some()),
        Lookup::Routes { key, row } => ("routes", key.as_str(), row.is_some()),
        Lookup::Neighbors { key, row } => ("neighbors", key.as_str(), row.is_some()),
        Lookup::Egress { key, row } => ("egress", key.as_str(), row.is_some()),
    });
    lookups.collect()
}

#[test]
fn the_tables_that_decided_are_shown_as_they_were() {
    let file = recorded();
    let a = ("ingress", "pod/demo/a", true);
    let b_mac = ("fdb", "02:00:00:00:00:03", true);
    let bridged = at(&file, 1);
    assert_eq!(asked(&bridged), [a, b_mac, ("egress", "pod/demo/b", true)]);
    assert!(bridged.passed && bridged.drop.is_none() && bridged.what.contains("tcp"));
    let Some(Lookup::Ingress { row: Some(row), .. }) = bridged.lookups.first() else { panic!() };
    assert_eq!(row.received, 1, "as it was then");
    let out = at(&file, 7);
    assert_eq!(asked(&out), [a, ("routes", "203.0.113.9", true), ("egress", "host", true)]);
    let Some(Lookup::Routes { row: Some(row), .. }) = out.lookups.get(1) else { panic!() };
    assert_eq!((row.prefix.as_str(), row.port.as_deref()), ("0.0.0.0/0", Some("host")));
    let host = ("ingress", "host", true);
    let inwards = asked(&at(&file, 9)).len();
    assert_eq!(inwards, 4);
    let absent = at(&file, 16);
    let key = "10.1.0.99";
    assert_eq!(asked(&absent), [host, ("routes", key, true), ("neighbors", key, false)]);
    for walk in 1..=25 {
        let explained = at(&file, walk);
        assert_eq!((explained.walk, explained.lookups.is_empty()), (walk, false));
        assert!(explained.hops.last().unwrap().line.starts_with("egress"), "{explained:?}");
    }
}

#[test]
fn drops_are_listed_the_newest_first_and_explained() {
    let file = recorded();
    let mut drops = Drops::new(100);
    replayed(&file, &Options::default(), Some(&mut drops));
    let all = drops.newest_first();
    assert!(all.len() > 3 && all.is_sorted_by(|a, b| a.walk > b.walk), "{all:?}");
    let mut drops = Drops::new(2);
    replayed(&file, &Options::default(), Some(&mut drops));
    assert_eq!(drops.newest_first(), all[..2]);
    for listed in &all {
        let explained = at(&file, listed.walk);
        assert_eq!((&explained.time, &explained.what), (&listed.time, &listed.what));
        assert!(!explained.passed, "{explained:?}");
        let drop = explained.drop.unwrap();
        assert_eq!((drop.reason.as_str(), drop.port), (listed.reason, listed.port.clone()));
    }
    let absent = all.iter().find(|drop| drop.reason == "NeighborUnknown").unwrap();
    let explained = at(&file, absent.walk);
    let neighbor = ("neighbors", "10.1.0.99", false);
    assert_eq!(asked(&explained), [("ingress", "pod/demo/a", true), neighbor]);
    assert_eq!(explained.verdict.hint.as_deref(), Some(absent.hint));
}

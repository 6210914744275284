//! Laws over generated Services.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::config::Change;
use crate::table::{Effect, Tables};
use crate::time::Duration;

/// Backends of some of the numbers 1 to 20, in all conditions.
fn backends() -> impl Strategy<Value = Vec<Backend>> {
    let one = (0..4_u16, any::<[bool; 4]>(), any::<Option<bool>>(), any::<Option<bool>>());
    prop::collection::btree_map(1..20_u8, one, 0..8).prop_map(|backends| {
        let each = backends.into_iter().map(|(n, (weight, flags, for_node, for_zone))| {
            let [local, ready, serving, terminating] = flags;
            let flagged = Backend { local, ready, serving, terminating, ..backend(n) };
            Backend { weight, for_node, for_zone, ..flagged }
        });
        each.collect()
    })
}

fn method() -> impl Strategy<Value = Method> {
    prop::sample::select(
        &[
            Method::Random,
            Method::RoundRobin,
            Method::WeightedRoundRobin,
            Method::LeastConnections,
            Method::SourceHash,
            Method::Maglev,
        ][..],
    )
}

/// A Service whose frontends are some of those of the numbers 1 to 4.
fn config() -> impl Strategy<Value = ServiceConfig> {
    let some = prop::collection::btree_set((1..5_u8, 0..4_usize), 0..5);
    let flags = any::<[bool; 3]>();
    (1..6_u8, some, backends(), method(), flags).prop_map(
        |(n, places, backends, method, [sticky, internal_local, external_local])| ServiceConfig {
            frontends: places.into_iter().map(|(n, at)| frontends(n)[at]).collect(),
            method,
            affinity: sticky.then_some(Duration(500)),
            internal_local,
            external_local,
            ..service(n, backends)
        },
    )
}

#[derive(Clone, Debug)]
enum Act {
    Set(ServiceConfig),
    Remove(u8),
    All(Vec<ServiceConfig>),
    Connect(u8, u8),
}

fn act() -> impl Strategy<Value = Act> {
    let configs = prop::collection::vec(config(), 1..4);
    (0..9_u8, configs, any::<(u8, u8)>()).prop_map(
        |(which, configs, (service, client))| match which {
            0..3 => Act::Set(configs[0].clone()),
            3 => Act::Remove(1 + service % 5),
            4 => Act::All(configs),
            _ => Act::Connect(service % 6, client),
        },
    )
}

/// Does it, and says whether it was refused.
fn run(tables: &mut Tables, now: u64, act: &Act) -> bool {
    let service = |config: &ServiceConfig| Change::Service(config.clone());
    match act {
        Act::Set(config) => tables.apply(&service(config)).is_err(),
        Act::Remove(id) => tables.apply(&Change::ServiceRemoved(ServiceId((*id).into()))).is_err(),
        Act::All(configs) => {
            tables.apply(&Change::All(configs.iter().map(service).collect())).is_err()
        }
        Act::Connect(service, client) => {
            let Some(slot) = tables.services().slot(ServiceId((*service).into())) else {
                return true;
            };
            let tuple = Tuple { src: v4(10, 2, 0, *client), ..tuple(u16::from(*client)) };
            let request = Request {
                slot,
                kind: frontends(1)[usize::from(*client % 4)].kind,
                external_to_cluster: client % 3 == 0,
                client: tuple.src,
                tuple: &tuple,
                now: Instant(now),
                choice_seed: SEEDS.choice,
            };
            let effect = match tables.services().choose(&request) {
                Ok(choice) => Effect::Chosen(choice.chosen),
                Err(refusal) => Effect::Refused(slot, refusal),
            };
            tables.commit(Instant(now), &[effect]);
            false
        }
    }
}

proptest! {
    /// Who asks for what is found as in a list of all frontends, nothing depends on the layout,
    /// what is refused leaves nothing, and what a snapshot restores is the same.
    #[test]
    fn tables_agree_with_a_list(acts in prop::collection::vec(act(), 1..40)) {
        // So few clients that some have to go.
        let limits = Limits { affinities_max: 16, ..Limits::default() };
        let mut tables = Tables::new(limits, SEEDS);
        let mut other = Tables::new(limits, Seeds { table: 77, ..SEEDS });
        for (now, act) in (1_000..).step_by(100).zip(&acts) {
            let before = (tables.dump(), tables.derived());
            let refused = run(&mut tables, now, act);
            prop_assert_eq!(run(&mut other, now, act), refused);
            if refused {
                prop_assert_eq!((tables.dump(), tables.derived()), before);
            }
        }
        prop_assert_eq!(tables.dump(), other.dump());
        let mut list = BTreeMap::new();
        for config in tables.config().services {
            for frontend in &config.frontends {
                let key = (frontend.kind, frontend.address, frontend.port);
                prop_assert!(list.insert(key, config.id).is_none(), "one owner each");
            }
        }
        for frontend in (1..5).flat_map(frontends) {
            let address = frontend.address.unwrap_or(CLIENT);
            let found = tables.services().find(&address, frontend.port, 6, address == CLIENT);
            let owner = match found {
                Found::Frontend { slot, kind } => {
                    prop_assert_eq!(kind, frontend.kind);
                    tables.services().get(slot).map(|service| service.config.id)
                }
                Found::KnownAddress | Found::Nothing => None,
            };
            let key = (frontend.kind, frontend.address, frontend.port);
            prop_assert_eq!(owner, list.get(&key).copied());
        }
        let mut bytes = Vec::new();
        tables.snapshot_begin(&mut bytes);
        while !tables.snapshot_step(5, &mut bytes) {}
        let restored = Tables::restore(&bytes, 3).unwrap();
        prop_assert_eq!(restored.dump(), tables.dump());
        prop_assert_eq!(restored.derived(), tables.derived());
        prop_assert_eq!(restored.digest(), tables.digest());
    }

    /// A choice is one of the path's, by every method; there is one exactly if there are any.
    #[test]
    fn a_choice_is_one_that_can_be_used(config in config(), port: u16, outside: bool) {
        let services = services(&[ServiceConfig {
            id: ServiceId(1),
            frontends: frontends(1),
            ..config
        }]);
        for kind in frontends(1).iter().map(|frontend| frontend.kind) {
            let path = row(&services).path(kind, outside);
            let usable: Vec<u16> = row(&services).usable(path).collect();
            match ask_behind(&services, kind, outside, &tuple(port)) {
                Ok(choice) => {
                    prop_assert!(usable.contains(&choice.index));
                    prop_assert_eq!(usize::from(choice.of), usable.len());
                    let backend = row(&services).config.backends[usize::from(choice.index)];
                    prop_assert_eq!(choice.backend, (backend.address, backend.port));
                    prop_assert_eq!(choice.local, backend.local);
                    prop_assert!(backend.weight > 0);
                }
                Err(refusal) => {
                    prop_assert!(usable.is_empty());
                    let any = row(&services).has_usable();
                    prop_assert_eq!(refusal == Refusal::NoneLocal, any);
                }
            }
        }
    }

    /// When a backend comes or goes, or another Service does, only connections move that go to it.
    #[test]
    fn choices_are_stable(weights in prop::collection::vec(1..6_u16, 2..12), gone: u8) {
        let weighted = |(n, weight): (u8, &u16)| Backend { weight: *weight, ..backend(n) };
        let all: Vec<Backend> = (1..).zip(&weights).map(weighted).collect();
        let gone = usize::from(gone) % all.len();
        let mut fewer = all.clone();
        let gone = fewer.remove(gone).address;
        for method in [Method::Random, Method::SourceHash] {
            let of = |backends: &[Backend]| ServiceConfig {
                method,
                ..service(1, backends.to_vec())
            };
            let mut changed = services(&[service(7, ready(3)), of(&all)]);
            let before = services(&[of(&all)]);
            changed.set(&of(&fewer)).unwrap();
            changed.remove(ServiceId(7)).unwrap();
            for n in 0..60 {
                let tuple = Tuple { src: v4(10, 2, 0, n), ..tuple(u16::from(n)) };
                let (one, other) = (ask(&before, &tuple), ask(&changed, &tuple));
                let (one, other) = (one.unwrap().backend.0, other.unwrap().backend.0);
                prop_assert!(one == other || one == gone);
            }
        }
    }

    /// Turns are equal, and by weight, whatever the backends are.
    #[test]
    fn turns_are_fair(weights in prop::collection::vec(0..6_u16, 1..10), cycles in 1..3_u16) {
        let weighted = |(n, weight): (u8, &u16)| Backend { weight: *weight, ..backend(n) };
        let backends: Vec<Backend> = (1..).zip(&weights).map(weighted).collect();
        for (method, most) in [(Method::RoundRobin, 1), (Method::WeightedRoundRobin, 6)] {
            let due = |weight: &u16| u64::from((*weight).min(most) * cycles);
            let due: Vec<u64> = weights.iter().map(due).collect();
            let config = ServiceConfig { method, ..service(1, backends.clone()) };
            let mut services = services(&[config]);
            for port in 0..due.iter().sum::<u64>() {
                connect(&mut services, u16::try_from(port).unwrap());
            }
            prop_assert_eq!(totals(&services), due, "{:?}", method);
        }
    }

    /// No backend has more connections for its weight than one beside it, plus one.
    #[test]
    fn least_connections_stay_level(
        weights in prop::collection::vec(1..6_u16, 2..8),
        acts in prop::collection::vec((any::<bool>(), 1..9_u8), 1..200),
    ) {
        let weighted = |(n, weight): (u8, &u16)| Backend { weight: *weight, ..backend(n) };
        let backends = (1..).zip(&weights).map(weighted).collect();
        let method = Method::LeastConnections;
        let mut services = services(&[ServiceConfig { method, ..service(1, backends) }]);
        for (port, (begin, n)) in acts.into_iter().enumerate() {
            if begin {
                let before = active(&services);
                let chosen = usize::from(connect(&mut services, u16::try_from(port).unwrap()));
                for (load, weight) in before.iter().zip(&weights) {
                    let mine = before[chosen] * u32::from(*weight);
                    prop_assert!(mine <= load * u32::from(weights[chosen]));
                }
            } else {
                services.ended(ServiceId(1), &v4(10, 1, 0, n), 8_080);
            }
        }
    }
}

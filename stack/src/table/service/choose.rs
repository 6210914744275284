//! The choice of a backend for a new connection. Nothing is changed here: what a choice changes is
//! in [`Chosen`], and done on commit.

use smoltcp::wire::IpAddress;

use super::rendezvous::{Runner, winner};
use super::row::{Candidate, Candidates, Service, halves};
use super::select::Path;
use super::{ServiceSlot, Services, maglev, turn};
use crate::config::{FrontendKind, Method, ServiceId};
use crate::hash;
use crate::table::conntrack::Tuple;
use crate::time::Instant;
use crate::trace::Why;

/// Hashes of connections and of clients are apart though their seed is the same.
const CONNECTION: u64 = 0x636f_6e6e_6563_7469;
const CLIENT: u64 = 0x636c_6965_6e74_0000;

/// A new connection to a frontend.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The Service.
    pub slot: ServiceSlot,
    /// The frontend's kind.
    pub kind: FrontendKind,
    /// Whether the client is none of the cluster: neither a pod nor the node. Only then a Local
    /// policy holds behind outer frontends.
    pub external_to_cluster: bool,
    /// The client's address.
    pub client: IpAddress,
    /// The flow as the client sent it.
    pub tuple: &'a Tuple,
    /// The time.
    pub now: Instant,
    /// The seed of choices.
    pub choice_seed: u64,
}

/// A backend for a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Whose backend it is, for the connection to remember: slots are used again.
    pub service: ServiceId,
    /// Its address and port.
    pub backend: (IpAddress, u16),
    /// Its place in the configuration.
    pub index: u16,
    /// Whether it runs on this node.
    pub local: bool,
    /// How it came to be chosen.
    pub why: Why,
    /// Of how many.
    pub of: u16,
    /// What is to be changed if the connection comes to be: [`Effect::Chosen`].
    ///
    /// [`Effect::Chosen`]: crate::table::Effect::Chosen
    pub chosen: Chosen,
}

/// What a choice changes: counts, whose turn it is, which backend the client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The Service.
    pub slot: ServiceSlot,
    /// The backend's place in its configuration.
    pub index: u16,
    /// Whose turn is next, on which path.
    pub turn: Option<(Path, u32)>,
    /// The client that keeps the backend.
    pub client: Option<IpAddress>,
}

/// Why there is no backend for a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// None can be used anywhere: the client is told.
    NoBackends,
    /// None of this node can, under a Local policy, but others can: the client is not told.
    NoneLocal,
    /// The client is in no source range: it is not told.
    SourceRefused,
}

impl Services {
    /// Chooses a backend.
    ///
    /// # Errors
    /// Why there is none.
    pub fn choose(&self, request: &Request<'_>) -> Result<Choice, Refusal> {
        let Request { slot, kind, external_to_cluster, client, now, .. } = *request;
        let service = self.get(slot).ok_or(Refusal::NoBackends)?;
        if kind == FrontendKind::LoadBalancer && !service.admits(&client) {
            return Err(Refusal::SourceRefused);
        }
        let path = service.path(kind, external_to_cluster);
        let candidates = service.candidates(path);
        let none = if service.has_usable() { Refusal::NoneLocal } else { Refusal::NoBackends };
        let kept = self.kept(service, candidates, &client, now);
        let (candidate, turn) = match kept {
            Some(candidate) => (candidate, None),
            None => {
                let (place, turn) = by_method(service, path, request).ok_or(none)?;
                (candidates.at(place).ok_or(none)?, turn)
            }
        };
        let (config, index) = (&service.config, candidate.runner.place);
        let client = config.affinity.map(|_| client);
        Ok(Choice {
            service: config.id,
            backend: (candidate.address, candidate.port),
            index,
            local: candidate.local,
            why: if kept.is_some() { Why::Affinity } else { Why::Method(config.method) },
            of: u16::try_from(candidates.all.len()).unwrap_or(u16::MAX),
            chosen: Chosen { slot, index, turn: turn.map(|turn| (path, turn)), client },
        })
    }

    /// The backend that the client has, if it can be used on this path.
    fn kept<'a>(
        &self,
        service: &Service,
        candidates: &'a Candidates,
        client: &IpAddress,
        now: Instant,
    ) -> Option<&'a Candidate> {
        service.config.affinity?;
        let row = self.affinities.find(service.config.id, client, now)?;
        candidates.find(row.backend, row.port)
    }
}

/// A place, and whose turn is next where turns are taken. `None` without candidates.
fn by_method(service: &Service, path: Path, request: &Request<'_>) -> Option<(u16, Option<u32>)> {
    let Candidates { all, equal, weights, stride, rows } = service.candidates(path);
    let turn = service.turns.get(path.index()).copied().unwrap_or(0);
    let connection = |seed| of_connection(seed, request.tuple);
    let runners = || all.iter().map(|candidate| candidate.runner);
    match service.config.method {
        Method::Random => {
            let place = winner(connection(request.choice_seed), *equal, runners())?;
            Some((place, None))
        }
        Method::SourceHash => {
            let [high, low] = halves(&request.client);
            let client = hash::numbers(request.choice_seed ^ CLIENT, &[high, low]);
            Some((winner(client, *equal, runners())?, None))
        }
        Method::LeastConnections => {
            // Connections over weight of one beside those of another, without division.
            let load = |runner: &Runner, beside: &Runner| {
                active(service, runner) * u64::from(beside.weight)
            };
            let least = runners().min_by(|one, other| load(one, other).cmp(&load(other, one)))?;
            let equals = runners().filter(|runner| load(runner, &least) == load(&least, runner));
            Some((winner(connection(request.choice_seed), *equal, equals)?, None))
        }
        Method::Maglev => Some((maglev::look_up(rows, connection(maglev::KEY))?, None)),
        Method::RoundRobin => {
            let next = all.partition_point(|it| u32::from(it.runner.place) < turn);
            let place = all.get(next).or_else(|| all.first())?.runner.place;
            Some((place, Some(u32::from(place) + 1)))
        }
        Method::WeightedRoundRobin => {
            let each = runners().map(|runner| runner.weight);
            let at = turn::by_weight(turn, *stride, *weights, each)?;
            Some((all.get(at)?.runner.place, Some(turn::next(turn, *weights))))
        }
    }
}

/// Connections of a backend that are open.
fn active(service: &Service, runner: &Runner) -> u64 {
    service.loads.get(usize::from(runner.place)).map_or(0, |load| u64::from(load.active))
}

/// The key of a connection.
fn of_connection(seed: u64, tuple: &Tuple) -> u64 {
    let Tuple { src, dst, src_port, dst_port, protocol } = tuple;
    let ([a, b], [c, d]) = (halves(src), halves(dst));
    let [e, f] = src_port.to_be_bytes();
    let [g, h] = dst_port.to_be_bytes();
    let rest = u64::from_be_bytes([0, 0, 0, *protocol, e, f, g, h]);
    hash::numbers(seed ^ CONNECTION, &[a, b, c, d, rest])
}

//! A Service as a row: as configured, what its backends carry, whose turn it is, and what follows
//! from the configuration.

use alloc::vec::Vec;
use core::cmp::Ordering;

use smoltcp::wire::IpAddress;

use super::rendezvous::Runner;
use super::select::{Path, select};
use super::{maglev, turn};
use crate::config::{Backend, FrontendKind, Method, ServiceConfig};
use crate::hash;
use crate::words::{self, Take, Words, words_of};

/// A Service with its state.
#[derive(Clone, Debug)]
pub struct Service {
    /// As configured.
    pub config: ServiceConfig,
    /// What each backend carries, in their order.
    pub loads: Vec<Load>,
    /// Whose turn it is, by [`Path::index`]; what the number means is the method's.
    pub turns: [u32; 2],
    /// Connections that were refused.
    pub refused: Refused,
    /// By [`Path::index`].
    candidates: [Candidates; 2],
    any: bool,
}

/// What a backend carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections that are open.
    pub active: u32,
    /// Connections it was given so far.
    pub total: u64,
}

/// Connections that a Service refused, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// No backend can be used.
    pub no_backends: u64,
    /// None of this node can, under a Local policy.
    pub none_local: u64,
    /// The client is in no source range.
    pub source: u64,
}

words_of!(Load { active, total });
words_of!(Refused { no_backends, none_local, source });

/// The backends of a path, and what choices among them need: all of it side by side, since with
/// many Services a choice costs what memory does.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates {
    /// In the order of their places, hence of address and port.
    pub(super) all: Vec<Candidate>,
    /// Whether their weights are equal.
    pub(super) equal: bool,
    /// Their weights together.
    pub(super) weights: u32,
    /// See [`turn::stride`]; for the method that asks.
    pub(super) stride: u32,
    /// Maglev's table, for that method.
    pub(super) rows: Vec<u16>,
}

/// A backend of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) runner: Runner,
    pub(super) address: IpAddress,
    pub(super) port: u16,
    pub(super) local: bool,
}

impl Service {
    /// One that has carried nothing.
    #[must_use]
    pub fn new(config: ServiceConfig) -> Self {
        let selected = select(&config.backends);
        let candidates = selected.places.map(|places| Candidates::new(&config, &places));
        Self {
            loads: config.backends.iter().map(|_| Load::default()).collect(),
            turns: [0; 2],
            refused: Refused::default(),
            candidates,
            any: selected.any,
            config,
        }
    }

    /// Takes over what the same Service had under another configuration: counts, those of backends
    /// that stay, and whose turn it is.
    pub(super) fn inherit(&mut self, old: &Self) {
        let place_of = |backend: &Backend| {
            let of = |other: &Backend| (other.address, other.port);
            self.config.backends.partition_point(|other| of(other) < of(backend))
        };
        let mut before = old.config.backends.iter().zip(&old.loads).peekable();
        for (backend, load) in self.config.backends.iter().zip(&mut self.loads) {
            while let Some((other, its_load)) = before.peek() {
                match (other.address, other.port).cmp(&(backend.address, backend.port)) {
                    Ordering::Less => {}
                    Ordering::Equal => *load = **its_load,
                    Ordering::Greater => break,
                }
                before.next();
            }
        }
        self.refused = old.refused;
        if self.config.method != old.config.method {
            return;
        }
        self.turns = old.turns;
        if self.config.method == Method::RoundRobin {
            self.turns = old.turns.map(|turn| {
                let backend = old.config.backends.get(turn as usize);
                // Behind the last one is before the first one.
                backend.map_or(0, |backend| u32::try_from(place_of(backend)).unwrap_or(0))
            });
        }
    }

    /// The path that a client takes to a frontend of that kind. One within the cluster, or on the
    /// node, is given any backend behind an outer frontend whatever its policy, as kube-proxy does.
    #[must_use]
    pub fn path(&self, kind: FrontendKind, from_outside: bool) -> Path {
        let local = match kind {
            FrontendKind::ClusterIp => self.config.internal_local,
            FrontendKind::NodePort
            | FrontendKind::LoadBalancer
            | FrontendKind::ExternalIp
            | FrontendKind::HostPort => self.config.external_local && from_outside,
        };
        if local { Path::Local } else { Path::Cluster }
    }

    /// Whether a client may use the load balancer's addresses.
    #[must_use]
    pub fn admits(&self, client: &IpAddress) -> bool {
        let ranges = &self.config.source_ranges;
        ranges.is_empty() || ranges.iter().any(|range| range.contains_addr(client))
    }

    /// The backends that new connections may be given on a path, by their places, ascending.
    pub fn usable(&self, path: Path) -> impl Iterator<Item = u16> {
        self.candidates(path).all.iter().map(|candidate| candidate.runner.place)
    }

    /// Whether a backend can be used, on this node or elsewhere.
    #[must_use]
    pub fn has_usable(&self) -> bool {
        self.any
    }

    /// The place of the backend of that address and port.
    #[must_use]
    pub fn place(&self, address: &IpAddress, port: u16) -> Option<usize> {
        let of = |backend: &Backend| (backend.address, backend.port);
        self.config.backends.binary_search_by_key(&(*address, port), of).ok()
    }

    /// Whether a connection to that address and port still is with one of its backends that
    /// answers, ready or leaving, whatever policies and hints say.
    #[must_use]
    pub fn serves(&self, address: &IpAddress, port: u16) -> bool {
        let backend = self.place(address, port).and_then(|place| self.config.backends.get(place));
        backend.is_some_and(serving)
    }

    /// Whether any backend answers: only then connections that none of them has are stale.
    #[must_use]
    pub fn has_serving(&self) -> bool {
        self.config.backends.iter().any(serving)
    }

    pub(super) fn candidates(&self, path: Path) -> &Candidates {
        let [cluster, local] = &self.candidates;
        match path {
            Path::Cluster => cluster,
            Path::Local => local,
        }
    }
}

impl Candidates {
    fn new(config: &ServiceConfig, places: &[u16]) -> Self {
        let candidate = |place: &u16| {
            let backend = config.backends.get(usize::from(*place))?;
            let runner = Runner { place: *place, weight: backend.weight, hash: hash_of(backend) };
            let Backend { address, port, local, .. } = *backend;
            Some(Candidate { runner, address, port, local })
        };
        let all: Vec<Candidate> = places.iter().filter_map(candidate).collect();
        let weight = |candidate: &Candidate| candidate.runner.weight;
        let weights = all.iter().map(|candidate| u32::from(weight(candidate))).sum();
        let equal = all.iter().zip(all.iter().skip(1)).all(|(a, b)| weight(a) == weight(b));
        let stride =
            if config.method == Method::WeightedRoundRobin { turn::stride(weights) } else { 1 };
        let rows = if config.method == Method::Maglev {
            maglev::table(&all.iter().map(|candidate| candidate.runner).collect::<Vec<Runner>>())
        } else {
            Vec::new()
        };
        Self { all, equal, weights, stride, rows }
    }

    /// The candidate of a place.
    pub(super) fn at(&self, place: u16) -> Option<&Candidate> {
        let found = self.all.binary_search_by_key(&place, |candidate| candidate.runner.place);
        found.ok().and_then(|at| self.all.get(at))
    }

    /// The candidate of that address and port.
    pub(super) fn find(&self, address: IpAddress, port: u16) -> Option<&Candidate> {
        let of = |candidate: &Candidate| (candidate.address, candidate.port);
        let found = self.all.binary_search_by_key(&(address, port), of);
        found.ok().and_then(|at| self.all.get(at))
    }
}

fn serving(backend: &Backend) -> bool {
    backend.ready || backend.serving
}

/// "hopbackd".
const BACKEND_KEY: u64 = 0x686f_7062_6163_6b64;

/// Who a backend is: the same on every node.
fn hash_of(backend: &Backend) -> u64 {
    let [high, low] = halves(&backend.address);
    hash::numbers(BACKEND_KEY, &[high, low, u64::from(backend.port)])
}

/// An address as two words, for hashes.
pub(super) fn halves(address: &IpAddress) -> [u64; 2] {
    match address {
        IpAddress::Ipv4(v4) => [0, u64::from(u32::from(*v4))],
        IpAddress::Ipv6(v6) => words::halves(u128::from(*v6)).into(),
    }
}

impl Words for Service {
    fn put(&self, out: &mut Vec<u64>) {
        let Self { config, loads, turns, refused, candidates: _, any: _ } = self;
        config.put(out);
        loads.put(out);
        turns.put(out);
        refused.put(out);
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        let mut service = Self::new(ServiceConfig::take(words)?);
        let loads: Vec<Load> = Words::take(words)?;
        if loads.len() != service.loads.len() {
            return None;
        }
        service.loads = loads;
        service.turns = Words::take(words)?;
        service.refused = Words::take(words)?;
        Some(service)
    }
}

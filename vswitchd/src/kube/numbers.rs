//! Numbers of Services: a name for the switch that stays while the Service does.
//!
//! A Service's port is known by its name, protocol and family. It keeps its number while it is
//! there, and no number is given again while the worker runs: the switch's connections may still
//! speak of it. A worker that goes on with the switch of another takes over the numbers in force,
//! so a Service that is as desired already is not touched; one that is given a state only (a
//! hand-over from another version) finds them in what was kept of desired state ([`super::last`]).
//! From which number on it gives new ones it sees by the greatest of these: of one that went just
//! before it knows nothing.

use std::collections::{BTreeMap, BTreeSet};

use smoltcp::wire::IpVersion;
use stack::{ServiceConfig, ServiceId, ServiceProtocol};

/// Numbers from here on are not given here: they are for the hostPorts of pods, which come and go
/// with attachments, not with objects.
pub const OTHERS: u32 = 1 << 31;

/// What a Service's port is known by.
type Key = (String, ServiceProtocol, Option<IpVersion>);

/// Numbers given so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    given: BTreeMap<Key, ServiceId>,
    /// The greatest ever given.
    last: u32,
}

impl Numbers {
    /// As they are in force, and beside that as they were `kept`.
    #[must_use]
    pub fn of(in_force: &[ServiceConfig], kept: &[ServiceConfig]) -> Self {
        let mut numbers = Self::default();
        let taken: BTreeSet<ServiceId> = in_force.iter().map(|service| service.id).collect();
        let kept = kept.iter().filter(|service| !taken.contains(&service.id));
        for service in in_force.iter().chain(kept).filter(|service| Self::gives(service.id)) {
            numbers.given.entry(key(service)).or_insert(service.id);
            numbers.last = numbers.last.max(service.id.0);
        }
        numbers
    }

    /// Whether a number is one of these.
    #[must_use]
    pub fn gives(id: ServiceId) -> bool {
        id.0 < OTHERS
    }

    /// Gives each Service the number that it has, or a new one.
    pub fn number(&mut self, services: &mut [ServiceConfig]) {
        for service in services {
            service.id = *self.given.entry(key(service)).or_insert_with(|| {
                // Two thousand million are never reached.
                self.last = self.last.saturating_add(1).min(OTHERS - 1);
                ServiceId(self.last)
            });
        }
    }

    /// Forgets all but these, which are in force now.
    pub fn keep(&mut self, in_force: &[ServiceConfig]) {
        self.given = in_force.iter().map(|service| (key(service), service.id)).collect();
    }
}

fn key(service: &ServiceConfig) -> Key {
    let frontends = service.frontends.iter().filter_map(|frontend| frontend.address);
    let backends = service.backends.iter().map(|backend| backend.address);
    let version = frontends.chain(backends).next().map(|address| address.version());
    (service.name.clone(), service.protocol, version)
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::IpAddress;
    use stack::{Frontend, FrontendKind, Method};

    use super::*;

    fn service(name: &str, address: &str) -> ServiceConfig {
        let address: IpAddress = address.parse().unwrap();
        let kind = FrontendKind::ClusterIp;
        ServiceConfig {
            id: ServiceId(0),
            name: name.to_owned(),
            protocol: ServiceProtocol::Tcp,
            // The family is told by the address, wherever it stands.
            frontends: vec![
                Frontend { kind: FrontendKind::NodePort, address: None, port: 30_000 },
                Frontend { kind, address: Some(address), port: 80 },
            ],
            method: Method::Random,
            affinity: None,
            internal_local: false,
            external_local: false,
            source_ranges: Vec::new(),
            backends: Vec::new(),
        }
    }

    fn ids(services: &[ServiceConfig]) -> Vec<u32> {
        services.iter().map(|service| service.id.0).collect()
    }

    #[test]
    fn a_number_stays_and_is_not_given_again() {
        let mut numbers = Numbers::default();
        let udp = ServiceConfig { protocol: ServiceProtocol::Udp, ..service("a/a", "10.96.0.1") };
        let mut all = [service("a/a", "10.96.0.1"), service("a/a", "fd00::1"), udp];
        numbers.number(&mut all);
        assert_eq!(ids(&all), [1, 2, 3], "protocols and families are told apart");
        // Another address, another order, and one that is new.
        let mut next = [service("b/b", "10.96.0.3"), service("a/a", "10.96.0.2")];
        numbers.number(&mut next);
        assert_eq!(ids(&next), [4, 1]);
        numbers.keep(&next[..1]);
        numbers.number(&mut next);
        assert_eq!(ids(&next), [4, 5], "what was gone is another");
        numbers.keep(&[]);
        numbers.number(&mut next);
        assert_eq!(ids(&next), [6, 7]);
    }

    #[test]
    fn numbers_in_force_are_taken_over() {
        let mut in_force = [service("a/a", "10.96.0.1"), service("z/z", "fd00::9")];
        in_force[0].id = ServiceId(7);
        in_force[1].id = ServiceId(3);
        let host_port = ServiceConfig { id: ServiceId(OTHERS), ..service("p/p", "10.244.1.2") };
        let all = [in_force[0].clone(), host_port.clone(), in_force[1].clone()];
        // Of one that was kept a number that is another's now is no longer its own.
        let mut kept =
            [service("a/a", "10.96.0.1"), service("k/k", "10.96.0.6"), service("o/o", "fd00::8")];
        (kept[0].id, kept[1].id, kept[2].id) = (ServiceId(2), ServiceId(9), ServiceId(7));
        let mut numbers = Numbers::of(&all, &kept);
        let mut next = [
            service("n/n", "10.96.0.5"),
            service("z/z", "fd00::9"),
            service("a/a", "10.96.0.1"),
            service("k/k", "10.96.0.6"),
            service("o/o", "fd00::8"),
        ];
        numbers.number(&mut next);
        assert_eq!(ids(&next), [10, 3, 7, 9, 11]);
        assert!(!Numbers::gives(host_port.id) && Numbers::gives(next[0].id));
    }
}

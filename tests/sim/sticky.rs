//! The law of session affinity: within its time-out a client is given the backend that it has, for
//! as long as that one may be given.

use std::collections::BTreeMap;

use smoltcp::wire::IpAddress;
use stack::config::{ServiceConfig, ServiceId};
use stack::{Change, Instant};

/// A backend, and until when its client has it.
type Kept = ((IpAddress, u16), Instant);

/// The clients that must be remembered: so few that none pushes another out.
#[derive(Default)]
pub(crate) struct Sticky {
    kept: BTreeMap<(ServiceId, IpAddress), Kept>,
}

impl Sticky {
    /// A new connection was led to a backend, one of those that it may be led to.
    pub(crate) fn led(
        &mut self,
        now: Instant,
        service: &ServiceConfig,
        client: IpAddress,
        backend: (IpAddress, u16),
        usable: &[(IpAddress, u16)],
    ) {
        let Some(timeout) = service.affinity else { return };
        let key = (service.id, client);
        let kept =
            self.kept.get(&key).filter(|(its, deadline)| now < *deadline && usable.contains(its));
        if let Some((its, deadline)) = kept {
            assert_eq!(backend, *its, "{client} keeps its backend until {deadline}");
        }
        self.kept.insert(key, (backend, now + timeout));
    }

    /// A Service that is gone, or has no affinity any more, has forgotten its clients.
    pub(crate) fn changed(&mut self, change: &Change) {
        if let Change::All(changes) = change {
            changes.iter().for_each(|change| self.changed(change));
        } else if let Change::ServiceRemoved(id) = change {
            self.kept.retain(|(service, _), _| service != id);
        } else if let Change::Service(service) = change
            && service.affinity.is_none()
        {
            self.kept.retain(|(its, _), _| *its != service.id);
        }
    }
}

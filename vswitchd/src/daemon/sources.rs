//! What the admin API asks of the daemon's parts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::admin::Sources;
use crate::admin::objects::{Attachment, Check, Lease, Problem};
use crate::cli::local;
use crate::cni;
use crate::cni::attachment::Attachment as Attached;
use crate::node::{HostLink, Kernel, LinkKind};

/// Shared by the daemon, which writes, and the admin API, which reads.
pub struct State {
    node_name: String,
    started: Instant,
    kernel: Arc<dyn Kernel>,
    cni: cni::Server,
    inner: Mutex<Inner>,
}

struct Inner {
    host: HostLink,
    problems: Vec<Problem>,
}

impl State {
    /// The state of a daemon that is ready.
    #[must_use]
    pub fn new(
        node_name: String,
        kernel: Arc<dyn Kernel>,
        cni: cni::Server,
        host: HostLink,
    ) -> Self {
        let inner = Mutex::new(Inner { host, problems: Vec::new() });
        Self { node_name, started: Instant::now(), kernel, cni, inner }
    }

    /// The CNI side.
    #[must_use]
    pub fn cni(&self) -> &cni::Server {
        &self.cni
    }

    /// The node's port has changed.
    pub fn set_host(&self, host: HostLink) {
        self.lock().host = host;
    }

    /// What is wrong with desired state now; empty when nothing is.
    pub fn set_problems(&self, problems: Vec<Problem>) {
        self.lock().problems = problems;
    }

    /// A panic elsewhere leaves whole values here: each is replaced at once.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn age(since: u64) -> Option<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    now.checked_sub(since)
}

fn link_name(kind: LinkKind) -> String {
    match kind {
        LinkKind::Tap => "tap".to_owned(),
        LinkKind::Veth => "veth".to_owned(),
    }
}

fn leases(attached: &Attached) -> impl Iterator<Item = Lease> + '_ {
    attached.addresses.iter().map(|cidr| Lease {
        address: cidr.address().to_string(),
        namespace: attached.pod.as_ref().map_or_else(String::new, |pod| pod.namespace.clone()),
        pod: attached.pod.as_ref().map_or_else(String::new, |pod| pod.name.clone()),
        container_id: attached.key.container_id.clone(),
        interface: attached.key.ifname.clone(),
        age_seconds: age(attached.since),
    })
}

impl Sources for State {
    fn node_name(&self) -> String {
        self.node_name.clone()
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn ready(&self) -> Result<(), String> {
        // The admin socket is opened when pods can be wired.
        Ok(())
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.lock().problems.clone();
        problems.extend(self.cni.reconciled().failed.iter().map(|attached| Problem {
            object: attached.label().to_string(),
            message: "its interface could not be taken back; delete the pod".to_owned(),
        }));
        problems
    }

    fn leases(&self) -> Vec<Lease> {
        self.cni
            .attachments()
            .iter()
            .flat_map(|attached| leases(attached).collect::<Vec<_>>())
            .collect()
    }

    fn attachments(&self) -> Vec<Attachment> {
        let describe = |attached: &Arc<Attached>| Attachment {
            port: attached.port_id().0,
            link: link_name(attached.kind),
            container_id: attached.key.container_id.clone(),
            interface: attached.key.ifname.clone(),
            age_seconds: age(attached.since),
        };
        self.cni.attachments().iter().map(describe).collect()
    }

    fn check(&self) -> Vec<Check> {
        let mut checks = local::check();
        let host = self.lock().host.clone();
        let failed = |name: &str, message: String| Check {
            name: name.to_owned(),
            ok: false,
            message,
            mend: Some("restart vswitchd: it puts the node right at its start".to_owned()),
        };
        match self.kernel.check_host(&host) {
            Ok(problems) if problems.is_empty() => checks.push(Check {
                name: "node".to_owned(),
                ok: true,
                message: format!("{}, its routes, rules and settings are in place", host.ifname),
                mend: None,
            }),
            Ok(problems) => {
                checks.extend(problems.into_iter().map(|problem| failed("node", problem.0)));
            }
            Err(error) => checks.push(failed("node", error.to_string())),
        }
        checks
    }
}

//! What the admin API asks of the daemon's parts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::admin::Sources;
use crate::admin::objects::{Attachment, Check, Lease, Problem, Takeover, Upkeep, Worker};
use crate::cni;
use crate::cni::attachment::Attachment as Attached;
use crate::cni::host_side::HostSide;
use crate::node::preflight::{self, Outcome, Wanted};
use crate::node::{HostLink, Kernel, LinkKind, NodeError};
use crate::settings::Settings;
use crate::supervisor::protocol;
use crate::worker::Parent;

/// Shared by the daemon, which writes, and the admin API, which reads.
pub struct State {
    node_name: String,
    parent: Arc<Parent>,
    kernel: Arc<dyn Kernel>,
    uplink: Option<String>,
    cni: cni::Server,
    host: HostSide,
    /// What was found at start and stays true.
    found: Vec<Problem>,
    /// Of this worker, if it took over from another vswitchd's.
    takeover: Option<Takeover>,
    inner: Mutex<Inner>,
}

struct Inner {
    problems: Vec<Problem>,
    upkeep: protocol::Upkeep,
    /// When it was told.
    upkeep_at: Instant,
}

impl State {
    /// The state of a daemon that is ready.
    #[must_use]
    pub fn new(
        settings: &Settings,
        kernel: Arc<dyn Kernel>,
        cni: cni::Server,
        host: HostSide,
        parent: Arc<Parent>,
        found: Vec<Problem>,
        takeover: Option<Takeover>,
    ) -> Self {
        let (problems, upkeep) = (Vec::new(), protocol::Upkeep::default());
        let inner = Mutex::new(Inner { problems, upkeep, upkeep_at: Instant::now() });
        let (node_name, uplink) = (settings.node_name.clone(), settings.uplink.clone());
        Self { node_name, parent, kernel, uplink, cni, host, found, takeover, inner }
    }

    /// The CNI side.
    #[must_use]
    pub fn cni(&self) -> &cni::Server {
        &self.cni
    }

    /// How the parent keeps the node, as it says.
    pub fn set_upkeep(&self, upkeep: protocol::Upkeep) {
        let mut inner = self.lock();
        (inner.upkeep, inner.upkeep_at) = (upkeep, Instant::now());
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
        self.parent.started.elapsed()
    }

    fn worker(&self) -> Worker {
        Worker {
            pid: std::process::id(),
            parent_pid: self.parent.id,
            restarts: self.parent.restarts,
            last_end: self.parent.last_end.clone(),
            takeover: self.takeover.clone(),
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.cni.ready()
    }

    fn upkeep(&self) -> Upkeep {
        let inner = self.lock();
        let protocol::Upkeep { mended, last, last_ago_ms, wrong } = inner.upkeep.clone();
        let since = inner.upkeep_at.elapsed();
        let last_seconds =
            last_ago_ms.map(|ms| (Duration::from_millis(ms).saturating_add(since)).as_secs());
        Upkeep { mended, last, last_seconds, wrong }
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.found.clone();
        problems.extend(
            self.lock()
                .upkeep
                .wrong
                .clone()
                .map(|message| Problem { object: self.node_name.clone(), message }),
        );
        problems.extend(self.lock().problems.clone());
        let there = self.cni.attachments();
        let found = self.cni.reconciled();
        let still = found
            .differing
            .iter()
            .filter(|(differs, _)| there.iter().any(|attached| attached.key == differs.key));
        problems.extend(still.map(|(attached, message)| Problem {
            object: attached.label().to_string(),
            message: message.clone(),
        }));
        problems.extend(
            found.left.iter().map(|message| Problem {
                object: self.node_name.clone(),
                message: message.clone(),
            }),
        );
        problems.extend(self.cni.damaged().iter().map(|path| {
            Problem {
                object: path.display().to_string(),
                message:
                    "the file was damaged and set aside, and what it held is forgotten; delete \
                      its pod, then remove the file"
                        .to_owned(),
            }
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
        let host = self.host.link();
        let mut checks = match preflight(&*self.kernel, &host, self.uplink.as_deref()) {
            Ok(checks) => checks.into_iter().map(shown).collect(),
            Err(error) => vec![failed(error.to_string())],
        };
        match self.kernel.check_host(&host) {
            Ok(problems) if problems.is_empty() => checks.push(Check {
                name: "node".to_owned(),
                ok: true,
                message: format!("{}, its routes, rules and settings are in place", host.ifname),
                mend: None,
            }),
            Ok(problems) => checks.extend(problems.into_iter().map(|problem| failed(problem.0))),
            Err(error) => checks.push(failed(error.to_string())),
        }
        checks.extend(kept(&self.upkeep()));
        checks
    }
}

/// Looks at the node with the eyes of the switch that shall run on it.
///
/// # Errors
/// The kernel's, when it cannot be asked.
pub(super) fn preflight(
    kernel: &dyn Kernel,
    host: &HostLink,
    uplink: Option<&str>,
) -> Result<Vec<preflight::Check>, NodeError> {
    let wanted =
        Wanted { host_ifname: host.ifname.clone(), prefixes: host.prefixes.clone(), mtu: host.mtu };
    kernel.preflight(&wanted, uplink)
}

/// What cannot be seen from here is no failure; its line says so.
fn shown(check: preflight::Check) -> Check {
    let message = match check.outcome {
        Outcome::Good | Outcome::Bad => check.detail,
        Outcome::Unknown => format!("not checked: {}", check.detail),
    };
    Check {
        name: check.name.into_owned(),
        ok: check.outcome != Outcome::Bad,
        message,
        mend: check.mend,
    }
}

/// Who takes away what the switch needs is worth a line, even where it was put right.
fn kept(upkeep: &Upkeep) -> Option<Check> {
    let name = "upkeep".to_owned();
    match (&upkeep.wrong, upkeep.sentence()) {
        (Some(wrong), _) => {
            let mend = Some("find out who changes the node, and stop it".to_owned());
            Some(Check { name, ok: false, message: wrong.clone(), mend })
        }
        (None, Some(message)) => Some(Check { name, ok: true, message, mend: None }),
        (None, None) => None,
    }
}

fn failed(message: String) -> Check {
    Check {
        name: "node".to_owned(),
        ok: false,
        message,
        mend: Some("wait a second, vswitchd puts it right by itself; else restart it".to_owned()),
    }
}

//! ADD, DEL, STATUS and GC (CHECK and the start have files of their own): what is done in which
//! order, so that whatever fails or dies, either all of an attachment is there or nothing.

use std::collections::BTreeSet;
use std::path::Path;

use shim::environment::Verb;
use shim::fault::{Code, Fault};
use shim::proto::{Request, Response};
use shim::version;
use tokio::sync::RwLock;

use super::attachment::{Attachment, Key};
use super::convert;
use super::pods::Pods;
use super::registry::{Proposal, Registry};
use super::serial::Serial;
use super::types::ValidAttachment;
use super::validate::{self, Call, Wanted};
use super::wiring::{Wiring, WiringError};
use crate::node::{LinkKind, Netns};

/// What pods get unless their network's configuration says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// MTU in bytes.
    pub mtu: u16,
    /// TAP or veth.
    pub kind: LinkKind,
}

/// The verbs.
pub struct Cni<W> {
    pub(super) wiring: W,
    pub(super) registry: Registry,
    pub(super) serial: Serial,
    /// GC alone, everything else together (CNI-GC-3).
    collecting: RwLock<()>,
    defaults: Defaults,
    pods: Pods,
}

impl<W: Wiring> Cni<W> {
    /// Verbs over this wiring and these attachments.
    pub fn new(wiring: W, registry: Registry, defaults: Defaults) -> Self {
        let (serial, collecting) = (Serial::default(), RwLock::default());
        Self { wiring, registry, serial, collecting, defaults, pods: Pods::Any }
    }

    /// The same for these pods only.
    #[must_use]
    pub fn wiring_only(self, pods: Pods) -> Self {
        Self { pods, ..self }
    }

    /// The attachments and their addresses.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Answers one request. Runs to its end; dropping the future half way would leave things half
    /// made.
    pub async fn answer(&self, request: &Request) -> Response {
        let done = match Call::read(request) {
            Ok(call) => self.dispatch(&call).await,
            Err(fault) => Err(fault),
        };
        match done {
            Ok(stdout) => Response { stdout, stderr: String::new(), exit: 0 },
            Err(fault) => {
                let verb = request.environment.get("CNI_COMMAND").map_or("", String::as_str);
                tracing::warn!(verb = ?verb, error = ?fault.to_string(), "a CNI request failed");
                fault.response(&validate::error_version(&request.stdin))
            }
        }
    }

    async fn dispatch(&self, call: &Call) -> Result<String, Fault> {
        let (_alone, _together);
        if call.environment.verb == Verb::Gc {
            _alone = self.collecting.write().await;
        } else {
            _together = self.collecting.read().await;
        }
        match call.environment.verb {
            Verb::Add => self.add(call).await,
            Verb::Del => self.del(call).await,
            Verb::Check => self.check(call).await,
            Verb::Status => self.status().await,
            Verb::Version => Ok(version::answer()),
            Verb::Gc => self.gc(call).await,
        }
    }

    async fn add(&self, call: &Call) -> Result<String, Fault> {
        let wanted = call.wanted()?;
        let key = call.key();
        let _held = self.serial.hold(&key).await;
        self.pods.wait_for(wanted.pod.as_ref()).await?;
        let netns = self.wiring.open(Path::new(&call.environment.netns)).await?;
        let previous = wanted.previous.clone();
        let attachment = self.registry.reserve(self.proposal(call, wanted, &netns)?).await?;
        // Before anything is made: a version without a place for the result must cost nothing.
        let text = convert::to_version(&attachment.result(previous), &call.cni_version)
            .map(|value| format!("{value}\n"));
        let made = match text {
            Ok(text) => self.make(&attachment, netns).await.map(|()| text),
            Err(fault) => Err(Failure { fault, is_left: false }),
        };
        let Err(failure) = made else { return made.map_err(|failure| failure.fault) };
        if !failure.is_left {
            self.forget(&attachment).await;
        }
        Err(failure.fault)
    }

    fn proposal(&self, call: &Call, wanted: Wanted, netns: &Netns) -> Result<Proposal, Fault> {
        let mtu = wanted.mtu.unwrap_or(self.defaults.mtu);
        let v6 = self.registry.usage().iter().any(|usage| usage.range.address().version() == V6);
        // RFC 8200 section 5, RFC 791.
        let least = if v6 { 1280 } else { 68 };
        if mtu < least {
            let msg = format!("mtu: {mtu} is less than the {least} bytes that IP needs here");
            return Err(Fault::new(Code::InvalidConfig, msg));
        }
        Ok(Proposal {
            key: call.key(),
            network: call.network.clone(),
            netns: call.environment.netns.clone().into(),
            netns_inode: netns.inode,
            kind: wanted.kind.unwrap_or(self.defaults.kind),
            mtu,
            addresses: wanted.addresses,
            mac: wanted.mac,
            pod: wanted.pod,
            host_ports: wanted.host_ports,
            dns: wanted.dns,
        })
    }

    async fn make(&self, attachment: &Attachment, netns: Netns) -> Result<(), Failure> {
        if let Err(error) = self.wiring.attach(attachment, netns).await {
            let is_left = matches!(error, WiringError::Left(_));
            return Err(Failure { fault: error.into(), is_left });
        }
        if let Err(fault) = self.registry.confirm(attachment).await {
            let detached = self.detach(attachment, &attachment.netns).await;
            if let Err(left) = &detached {
                tracing::error!(attachment = %attachment.key, error = %left,
                    "the interface of a failed ADD could not be removed; its DEL will");
            }
            return Err(Failure { fault, is_left: detached.is_err() });
        }
        tracing::info!(
            attachment = %attachment.key, pod = %attachment.label(), port = attachment.port,
            addresses = ?attachment.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "attached"
        );
        Ok(())
    }

    /// After a failure whose own error is the one to tell.
    async fn forget(&self, attachment: &Attachment) {
        if let Err(fault) = self.registry.release(&attachment.key).await {
            tracing::error!(attachment = %attachment.key, error = %fault,
                "the lease of a failed ADD could not be released; its DEL will");
        }
    }

    async fn del(&self, call: &Call) -> Result<String, Fault> {
        let key = call.key();
        let _held = self.serial.hold(&key).await;
        match self.registry.get(&key) {
            // Another network's interface of that name is not ours to remove.
            Some(attachment) if attachment.network == call.network => {
                self.remove(&attachment, Path::new(&call.environment.netns)).await?;
            }
            Some(_) | None => {}
        }
        Ok(String::new())
    }

    /// Removes an attachment; the caller holds its turn.
    pub(super) async fn remove(&self, attachment: &Attachment, named: &Path) -> Result<(), Fault> {
        self.detach(attachment, named).await?;
        self.registry.release(&attachment.key).await?;
        tracing::info!(attachment = %attachment.key, pod = %attachment.label(), "detached");
        Ok(())
    }

    async fn detach(&self, attachment: &Attachment, named: &Path) -> Result<(), Fault> {
        let netns = self.find_netns(attachment, named).await;
        Ok(self.wiring.detach(attachment, netns).await?)
    }

    /// The attachment's namespace if it still lives, by the path it had or the one named now.
    pub(super) async fn find_netns(&self, attachment: &Attachment, named: &Path) -> Option<Netns> {
        if attachment.boot_id != self.registry.boot_id() {
            return None;
        }
        for path in BTreeSet::from([attachment.netns.as_path(), named]) {
            if path.as_os_str().is_empty() {
                continue;
            }
            match self.wiring.open(path).await {
                Ok(netns) if netns.inode == attachment.netns_inode => return Some(netns),
                // Gone, or another one's by now.
                Ok(_) | Err(_) => {}
            }
        }
        None
    }

    async fn status(&self) -> Result<String, Fault> {
        let unavailable = |why: String| {
            Fault::new(Code::NotAvailable, "pods cannot be attached now").with_details(why)
        };
        self.registry.ready().map_err(|fault| unavailable(fault.msg))?;
        self.wiring.ready().await.map_err(unavailable)?;
        Ok(String::new())
    }

    async fn gc(&self, call: &Call) -> Result<String, Fault> {
        let Some(valid) = call.valid_attachments()? else { return Ok(String::new()) };
        let valid: BTreeSet<ValidAttachment> = valid.into_iter().collect();
        let mut faults = Vec::new();
        for attachment in self.registry.list() {
            let Key { container_id, ifname } = attachment.key.clone();
            if attachment.network != call.network
                || valid.contains(&ValidAttachment { container_id, ifname })
            {
                continue;
            }
            let _held = self.serial.hold(&attachment.key).await;
            if let Err(fault) = self.remove(&attachment, &attachment.netns).await {
                faults.push(format!("{}: {fault}", attachment.key));
            }
        }
        if faults.is_empty() {
            return Ok(String::new());
        }
        let msg = format!("{} attachments could not be removed", faults.len());
        Err(Fault::new(Code::Incomplete, msg).with_details(faults.join("; ")))
    }
}

/// An ADD that came to nothing.
struct Failure {
    fault: Fault,
    /// Whether something of it may be there still. Then it stays written down as begun, and its
    /// DEL or the next start clears it away.
    is_left: bool,
}

const V6: smoltcp::wire::IpVersion = smoltcp::wire::IpVersion::Ipv6;

//! What the verbs need of the node and the switch, and how the daemon provides it.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shim::fault::{Code, Fault};
use stack::{Change, ConfigError, ServiceConfig};

use super::attachment::Attachment;
use super::host_port::services;
use super::host_side::{HostSide, Turn};
use crate::directory::Shared;
use crate::event_loop::{Ended, Handle, View};
use crate::node::{Kernel, Netns, NodeError, Problem};
use crate::port::PortIo;

/// Why an attachment could not be made, taken back, removed or looked at.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    /// The kernel, or the namespace.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The switch.
    #[error("the switch refuses the port: {0}")]
    Refused(ConfigError),
    /// The daemon is stopping.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// A task of the daemon died.
    #[error("a task ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// The same, and what had been made by then may be there still.
    #[error(transparent)]
    Left(Box<Self>),
}

impl From<WiringError> for Fault {
    fn from(error: WiringError) -> Self {
        let error = if let WiringError::Left(error) = error { *error } else { error };
        let code = match &error {
            WiringError::Node(NodeError::Netns { .. }) => Code::InvalidNetns,
            WiringError::Node(NodeError::Exists { .. }) => Code::InterfaceExists,
            WiringError::Node(
                NodeError::Kernel { .. } | NodeError::Setting { .. } | NodeError::Unanswered { .. },
            ) => Code::Kernel,
            WiringError::Refused(_) => Code::PortRefused,
            WiringError::Ended(_) => Code::TryAgain,
            WiringError::Task(_) | WiringError::Left(_) => Code::Internal,
        };
        let source = std::error::Error::source(&error).map(ToString::to_string);
        Self::new(code, error.to_string()).with_details(source.unwrap_or_default())
    }
}

/// The node and the switch, as the verbs see them. Two exist: the daemon's and that of the tests.
pub trait Wiring: Send + Sync + 'static {
    /// Opens and checks a network namespace (SEC-21).
    fn open(&self, path: &Path) -> impl Future<Output = Result<Netns, WiringError>> + Send;

    /// Makes interface and port. Whatever fails, nothing is left behind, unless the error is
    /// [`WiringError::Left`].
    fn attach(
        &self,
        attachment: &Attachment,
        netns: Netns,
    ) -> impl Future<Output = Result<(), WiringError>> + Send;

    /// Takes an interface back that an earlier daemon made, and makes its port. If that fails the
    /// interface stays and there is no port.
    fn take_back(
        &self,
        attachment: &Attachment,
        netns: Netns,
    ) -> impl Future<Output = Result<(), WiringError>> + Send;

    /// Removes port and interface. What is gone is no error.
    fn detach(
        &self,
        attachment: &Attachment,
        netns: Option<Netns>,
    ) -> impl Future<Output = Result<(), WiringError>> + Send;

    /// What of interface and port is not as it shall be.
    fn check(
        &self,
        attachment: &Attachment,
        netns: Netns,
    ) -> impl Future<Output = Result<Vec<Problem>, WiringError>> + Send;

    /// Removes ends of veth pairs that are on the node beside these, and says which.
    fn sweep(
        &self,
        keep: BTreeSet<String>,
    ) -> impl Future<Output = Result<Vec<String>, WiringError>> + Send;

    /// Whether the switch answers.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;
}

/// The daemon's.
#[derive(Clone)]
pub struct NodeWiring {
    kernel: Arc<dyn Kernel>,
    switch: Handle,
    directory: Shared,
    host: HostSide,
}

/// How long the event loop may take to answer before it counts as stuck.
const LOOP_TIMEOUT: Duration = Duration::from_secs(2);

impl NodeWiring {
    /// On top of the kernel, the event loop, the names of ports, and the node's side of
    /// `hostPort`s.
    #[must_use]
    pub fn new(kernel: Arc<dyn Kernel>, switch: Handle, directory: Shared, host: HostSide) -> Self {
        Self { kernel, switch, directory, host }
    }

    /// Work that blocks, in a thread of its own.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Kernel) -> Result<T, NodeError> + Send + 'static,
    ) -> Result<T, WiringError> {
        let kernel = self.kernel.clone();
        Ok(tokio::task::spawn_blocking(move || work(kernel.as_ref())).await??)
    }

    /// The port first, then its device: no frame may come by a port the switch does not know.
    /// `host_ports` are made together with the port.
    async fn connect(
        &self,
        attachment: &Attachment,
        io: Box<dyn PortIo>,
        host_ports: Vec<Change>,
    ) -> Result<(), WiringError> {
        let port = attachment.port_id();
        let label = attachment.label();
        self.directory.rcu(|names| {
            let mut names = (**names).clone();
            names.ports.insert(port, label.clone());
            names
        });
        let allowed = self.directory.load().allowed(&label);
        let config = stack::PortConfig { allowed, ..attachment.port_config() };
        let connected = match self.make_port(config, host_ports).await {
            Ok(Ok(())) => {
                let named = self.switch.label(port, label.to_string());
                named.and_then(|()| self.switch.attach(port, io)).map_err(WiringError::from)
            }
            Ok(Err(refused)) => Err(WiringError::Refused(refused)),
            Err(ended) => Err(ended.into()),
        };
        if connected.is_err() {
            self.forget_name(attachment);
        }
        connected
    }

    /// A recovered switch has the port already: what would alter nothing is not sent.
    async fn make_port(
        &self,
        config: stack::PortConfig,
        host_ports: Vec<Change>,
    ) -> Result<Result<(), ConfigError>, Ended> {
        let wanted = config.clone();
        let is_there = self.switch.ask(move |view| {
            let port = view.switch.tables().ports().by_id(wanted.id);
            port.is_some_and(|port| port.config == wanted)
        });
        let port = (!is_there.await?).then_some(Change::Port(config));
        let changes: Vec<Change> = port.into_iter().chain(host_ports).collect();
        if changes.is_empty() {
            return Ok(Ok(()));
        }
        self.switch.change(Change::All(changes)).await
    }

    /// Port, device and `hostPort`s; whatever fails, the switch has none of them.
    async fn open(&self, attachment: &Attachment, io: Box<dyn PortIo>) -> Result<(), WiringError> {
        let turn = self.host.turn(attachment).await;
        let host_ports = turn.as_ref().map(|turn| turn.open(attachment)).unwrap_or_default();
        let Some(turn) = turn else { return self.connect(attachment, io, host_ports).await };
        if let Err(error) = self.connect(attachment, io, host_ports).await {
            // The switch has refused them: there is nothing to take back.
            let _never_made = turn.close(attachment);
            return Err(error);
        }
        let Err(error) = turn.divert().await else { return Ok(()) };
        let host_ports = turn.close(attachment);
        self.disconnect(attachment, host_ports).await?;
        self.divert(attachment, &turn).await;
        Err(error.into())
    }

    /// Tells the kernel what is diverted no more. A rule that stays leads to a switch that gives
    /// back what is not its own, and the parent tries again.
    async fn divert(&self, attachment: &Attachment, turn: &Turn<'_>) {
        if let Err(error) = turn.divert().await {
            tracing::error!(attachment = %attachment.key, %error,
                "rules about its hostPorts could not be removed yet");
        }
    }

    /// No frame goes to the port from here on, and none is led there: the connections of its
    /// datagrams end in the same change. Then its device is closed, and its name is free.
    async fn disconnect(
        &self,
        attachment: &Attachment,
        host_ports: Vec<Change>,
    ) -> Result<(), WiringError> {
        let port = attachment.port_id();
        // A port that was never made, or is gone already.
        let is_there = move |view: &View<'_>| view.switch.tables().ports().slot(port).is_some();
        let is_there = self.switch.ask(is_there).await?;
        let port_removed = is_there.then_some(Change::PortRemoved(port));
        let changes: Vec<Change> = port_removed.into_iter().chain(host_ports).collect();
        if !changes.is_empty() {
            self.switch.change(Change::All(changes)).await?.map_err(WiringError::Refused)?;
        }
        self.switch.detach(port).await?;
        self.forget_name(attachment);
        Ok(())
    }

    /// Which of its `hostPort`s the switch lacks. Those that a newer container of its pod has are
    /// not its own.
    async fn check_host_ports(&self, attachment: &Attachment) -> Result<Vec<Problem>, Ended> {
        let its = services(&[attachment]);
        let mut wanted = self.host.services();
        wanted.retain(|service| its.iter().any(|own| own.id == service.id));
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let lacks = move |view: &View<'_>| -> Vec<String> {
            let services = view.switch.tables().services();
            let has =
                |it: &ServiceConfig| services.by_id(it.id).is_some_and(|has| has.config == *it);
            wanted.into_iter().filter(|it| !has(it)).map(|it| it.name).collect()
        };
        let lacking = self.switch.ask(lacks).await?;
        Ok(lacking.into_iter().map(|name| Problem(format!("the switch has no {name}"))).collect())
    }

    fn forget_name(&self, attachment: &Attachment) {
        self.directory.rcu(|names| {
            let mut names = (**names).clone();
            names.ports.remove(&attachment.port_id());
            names
        });
    }
}

impl Wiring for NodeWiring {
    async fn open(&self, path: &Path) -> Result<Netns, WiringError> {
        let path = path.to_owned();
        self.blocking(move |kernel| kernel.open_netns(&path)).await
    }

    async fn attach(&self, attachment: &Attachment, netns: Netns) -> Result<(), WiringError> {
        let link = attachment.link();
        let wired = self.blocking(move |kernel| {
            let io = kernel.wire(&netns, &link)?;
            Ok((io, netns, link))
        });
        let (io, netns, link) = wired.await.map_err(|error| {
            let nobody_knows = matches!(
                error,
                WiringError::Node(NodeError::Unanswered { .. }) | WiringError::Task(_)
            );
            if nobody_knows { WiringError::Left(Box::new(error)) } else { error }
        })?;
        let Err(error) = self.open(attachment, io).await else { return Ok(()) };
        if let Err(left) = self.blocking(move |kernel| kernel.unwire(Some(&netns), &link)).await {
            tracing::error!(attachment = %attachment.key, error = %left,
                "the interface of a refused port could not be removed; its DEL will");
            return Err(WiringError::Left(Box::new(error)));
        }
        Err(error)
    }

    async fn take_back(&self, attachment: &Attachment, netns: Netns) -> Result<(), WiringError> {
        let link = attachment.link();
        let io = self.blocking(move |kernel| kernel.take_back(&netns, &link)).await?;
        // Its hostPorts are the switch's already, or follow with those of all attachments.
        self.connect(attachment, io, Vec::new()).await
    }

    async fn detach(
        &self,
        attachment: &Attachment,
        netns: Option<Netns>,
    ) -> Result<(), WiringError> {
        let turn = self.host.turn(attachment).await;
        let host_ports = turn.as_ref().map(|turn| turn.close(attachment)).unwrap_or_default();
        self.disconnect(attachment, host_ports).await?;
        if let Some(turn) = &turn {
            self.divert(attachment, turn).await;
        }
        let link = attachment.link();
        self.blocking(move |kernel| kernel.unwire(netns.as_ref(), &link)).await
    }

    async fn check(
        &self,
        attachment: &Attachment,
        netns: Netns,
    ) -> Result<Vec<Problem>, WiringError> {
        let link = attachment.link();
        let mut problems = self.blocking(move |kernel| kernel.check(&netns, &link)).await?;
        problems.extend(self.check_host_ports(attachment).await?);
        let wanted = attachment.port_config();
        let port = wanted.id;
        let found = self
            .switch
            .ask(move |view| view.switch.config().ports.into_iter().find(|has| has.id == port))
            .await?;
        match found {
            None => problems.push(Problem(format!("the switch has no port {}", port.0))),
            Some(has) if !has.up => {
                problems.push(Problem(format!("port {} of the switch is down", port.0)));
            }
            Some(has) => {
                let same = has.mac == wanted.mac
                    && has.mtu == wanted.mtu
                    && has.addresses == wanted.addresses;
                if !same {
                    let text = format!("port {} of the switch differs from the lease", port.0);
                    problems.push(Problem(text));
                }
            }
        }
        Ok(problems)
    }

    async fn sweep(&self, keep: BTreeSet<String>) -> Result<Vec<String>, WiringError> {
        self.blocking(move |kernel| kernel.sweep(&keep)).await
    }

    async fn ready(&self) -> Result<(), String> {
        match tokio::time::timeout(LOOP_TIMEOUT, self.switch.ask(|_view| ())).await {
            Ok(answer) => answer.map_err(|ended| ended.to_string()),
            Err(_late) => Err(format!("no answer of the event loop in {LOOP_TIMEOUT:?}")),
        }
    }
}

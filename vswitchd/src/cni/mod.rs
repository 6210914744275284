//! The CNI verbs, address management, and the store of attachments.
//!
//! - [`server`]: `cni.sock`; [`verbs`] and `check`: what each verb does, over the trait
//!   [`wiring::Wiring`]; `reconcile`: what is done at start.
//! - [`validate`], [`types`], [`convert`]: requests and results of all versions of the
//!   specification.
//! - [`pods`]: whom an ADD waits for.
//! - [`registry`]: attachments and leases; [`store`]: their files; [`ipam`] and [`mac`]: who gets
//!   what.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use smoltcp::wire::{EthernetAddress, IpCidr};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use crate::directory::Shared;
use crate::event_loop::Handle;
use crate::gate::Gate;
use crate::node::{Kernel, LinkKind};

pub mod attachment;
mod check;
#[cfg(test)]
mod conformance;
pub mod convert;
pub mod host_port;
pub mod host_side;
pub mod ipam;
pub mod mac;
pub mod pods;
mod reconcile;
pub mod registry;
pub mod serial;
pub mod server;
pub mod store;
#[cfg(test)]
mod tests;
pub mod types;
pub mod validate;
pub mod verbs;
pub mod wiring;

use attachment::Attachment;
use host_port::NodePorts;
use host_side::HostSide;
use ipam::{Range, RangeError};
use pods::Pods;
pub use reconcile::Reconciled;
use registry::{Registry, Usage};
use server::Admission;
use verbs::{Cni, Defaults};
use wiring::NodeWiring;

/// What the CNI side needs to know of the settings and the Node.
#[derive(Clone, Debug)]
pub struct CniOptions {
    /// Where the socket and recorded deletions lie.
    pub run_dir: PathBuf,
    /// Where attachments and leases lie.
    pub state_dir: PathBuf,
    /// The Node's pod ranges, one a family at most; empty until the Node is known.
    pub pod_cidrs: Vec<IpCidr>,
    /// MTU of pods in bytes.
    pub mtu: u16,
    /// TAP or veth.
    pub port_kind: LinkKind,
    /// MACs no pod may have beside the gateway's: the host port's.
    pub reserved_macs: Vec<EthernetAddress>,
    /// Which pods may be wired.
    pub pods: Pods,
    /// What `hostPort`s are judged by.
    pub node_ports: NodePorts,
}

/// Why the CNI side cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The pod ranges.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The state directory.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The socket, the kernel's boot id or the recorded deletions.
    #[error("{what}")]
    Io {
        /// What was being read.
        what: String,
        /// Its errno.
        source: std::io::Error,
    },
}

/// The CNI side before it serves: all that can be wrong with directories and settings has been
/// found, and nothing has been made on the node.
pub struct Opened {
    registry: Registry,
    listener: UnixListener,
    run_dir: PathBuf,
    defaults: Defaults,
    pods: Pods,
}

/// The CNI side with what an earlier worker attached; it serves nobody yet.
pub struct Reopened {
    cni: Arc<Cni<NodeWiring>>,
    listener: UnixListener,
    run_dir: PathBuf,
    reconciled: Reconciled,
}

/// The running CNI side.
pub struct Server {
    cni: Arc<Cni<NodeWiring>>,
    admission: Admission,
    task: JoinHandle<()>,
    socket: PathBuf,
    reconciled: Reconciled,
}

/// What [`Opened::new`] makes where it is missing.
#[must_use]
pub fn files(run_dir: &Path, state_dir: &Path) -> [PathBuf; 2] {
    [store::attachments(state_dir), run_dir.join(server::SOCKET)]
}

impl Opened {
    /// Reads the attachments and takes the socket, in whose backlog requests wait. The caller holds
    /// the locks of both directories.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn new(
        options: CniOptions,
        listener: std::os::unix::net::UnixListener,
    ) -> Result<Self, StartError> {
        let ranges = Range::all(&options.pod_cidrs)?;
        let boot_id = read_boot_id()?;
        server::deletions(&options.run_dir).map_err(unreadable)?;
        let registry = Registry::open(&options.state_dir, boot_id, options.reserved_macs, &ranges)?;
        registry.set_node(options.node_ports);
        let listener = server::open(listener)
            .map_err(|source| StartError::Io { what: server::SOCKET.to_owned(), source })?;
        let defaults = Defaults { mtu: options.mtu, kind: options.port_kind };
        let CniOptions { run_dir, pods, .. } = options;
        Ok(Self { registry, listener, run_dir, defaults, pods })
    }

    /// What an earlier worker attached.
    #[must_use]
    pub fn attachments(&self) -> Vec<Arc<Attachment>> {
        self.registry.list()
    }

    /// Takes back what an earlier worker attached. Files and node stay as they are, so that this
    /// can come to nothing beside a worker that still serves.
    pub async fn take_back(
        self,
        kernel: Arc<dyn Kernel>,
        switch: Handle,
        directory: Shared,
        host: HostSide,
    ) -> Reopened {
        let Self { registry, listener, run_dir, defaults, pods } = self;
        let wiring = NodeWiring::new(kernel, switch, directory, host);
        let cni = Arc::new(Cni::new(wiring, registry, defaults).wiring_only(pods));
        let reconciled = cni.reconcile().await;
        Reopened { cni, listener, run_dir, reconciled }
    }
}

impl Reopened {
    /// Forgets what is gone, carries out recorded deletions, then serves whom `gate` lets in.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn serve(self, gate: Gate) -> Result<Server, StartError> {
        let Self { cni, listener, run_dir, mut reconciled } = self;
        cni.tidy(&mut reconciled).await;
        server::carry_out_deletions(&run_dir, &cni).await.map_err(unreadable)?;
        let admission = Admission::new(gate);
        let task = tokio::spawn(server::serve(listener, cni.clone(), admission.clone()));
        Ok(Server { cni, admission, task, socket: run_dir.join(server::SOCKET), reconciled })
    }
}

impl Server {
    /// Gives addresses out of these ranges from now on, and ports of that node. Pods keep theirs.
    ///
    /// # Errors
    /// When they are no ranges; the old ones stay.
    pub fn reload(&self, pod_cidrs: &[IpCidr], node: NodePorts) -> Result<(), RangeError> {
        self.cni.registry().set_ranges(&Range::all(pod_cidrs)?);
        self.cni.registry().set_node(node);
        Ok(())
    }

    /// All attachments.
    #[must_use]
    pub fn attachments(&self) -> Vec<Arc<Attachment>> {
        self.cni.registry().list()
    }

    /// The pod ranges and what is used of them.
    #[must_use]
    pub fn leases(&self) -> Vec<Usage> {
        self.cni.registry().usage()
    }

    /// Whether an ADD would find addresses, as STATUS says.
    ///
    /// # Errors
    /// A clause that says what is missing.
    pub fn ready(&self) -> Result<(), String> {
        self.cni.registry().ready().map_err(|fault| fault.msg)
    }

    /// Files of the state directory that were damaged and set aside, until somebody removes them.
    #[must_use]
    pub fn damaged(&self) -> Vec<PathBuf> {
        let damaged = self.cni.registry().damaged().iter();
        damaged.filter(|path| path.exists()).cloned().collect()
    }

    /// Waits until no request is in work. The gate is closed, so none begins.
    pub async fn idle(&self, patience: Duration) -> bool {
        self.admission.idle(patience).await
    }

    /// What was found at start.
    #[must_use]
    pub fn reconciled(&self) -> &Reconciled {
        &self.reconciled
    }

    /// Stops serving; pods stay as they are. Requests that have begun still run to their end while
    /// the runtime does.
    pub fn stop(self) {
        self.task.abort();
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::warn!(socket = %self.socket.display(), %error, "cannot remove the socket");
        }
    }
}

fn unreadable(source: std::io::Error) -> StartError {
    StartError::Io { what: "run-dir: the recorded deletions".into(), source }
}

fn read_boot_id() -> Result<String, StartError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(path)
        .map_err(|source| StartError::Io { what: path.display().to_string(), source })?;
    Ok(text.trim().to_owned())
}

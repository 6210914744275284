//! Wiring, and the order of start and stop.
//!
//! Start: settings, manifests, the plan, and whether the node has room for it; only then anything
//! is made. First run-dir and state-dir with their locks and sockets, then the node's own port, then
//! the pods that were there before, and at last `complete`: nothing is forwarded on half a
//! configuration. SIGTERM leaves pods, interfaces and routes in place.

use std::error::Error;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use stack::ConfigError;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin;
use crate::cli::local;
use crate::cni;
use crate::directories::{Directories, DirectoryError};
use crate::event_loop::Ended;
use crate::kube::manifests::{self, ManifestError};
use crate::kube::objects::{self, Desired, ObjectError};
use crate::kube::watch::Watcher;
use crate::node::preflight::{self, Check, Outcome};
use crate::node::{Kernel, Linux, NodeError};
use crate::settings::Settings;

mod plan;
mod running;
mod sources;

pub use plan::{GATEWAY_PORT, HOST_PORT, Plan, PlanError, plan};
use running::Running;
pub use sources::State;

/// How long clients and jobs may take to end once a signal has come.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Why the daemon does not start, or ended. Each says what to mend.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The node lacks something.
    #[error("{what}: {mend}")]
    Unable {
        /// What is missing.
        what: String,
        /// What mends it.
        mend: String,
    },
    /// The run or the state directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A manifest.
    #[error("manifests")]
    Manifest(#[from] ManifestError),
    /// An object.
    #[error("manifests")]
    Object(#[from] ObjectError),
    /// The plan.
    #[error("manifests")]
    Plan(#[from] PlanError),
    /// The kernel.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The switch refused its own start.
    #[error("the switch refuses its configuration: {0}")]
    Refused(#[from] ConfigError),
    /// The data thread is gone.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// The CNI side.
    #[error(transparent)]
    Cni(#[from] cni::StartError),
    /// A system call.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Its errno.
        source: io::Error,
    },
}

fn io(doing: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |source| DaemonError::Io { doing, source }
}

/// Runs the daemon until a signal ends it.
///
/// # Errors
/// See [`DaemonError`]. A start that is refused leaves node and files as they were.
pub fn run(settings: &Settings) -> Result<(), DaemonError> {
    if let Some(missing) = local::check().into_iter().find(|check| !check.ok) {
        let mend = missing.mend.unwrap_or_default();
        return Err(DaemonError::Unable { what: missing.message, mend });
    }
    // Watched before they are read: what changes in between is taken in right after the start.
    let watcher = Watcher::new(&settings.manifests)?;
    let desired = read_manifests(settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io("cannot start the control side"))?;
    let served = runtime.block_on(serve(settings, desired, watcher));
    // Neither a client that does not read nor a job that does not end may hold the process: what an
    // ADD has half made by now is removed by the next start.
    runtime.shutdown_timeout(STOP_PATIENCE);
    served
}

fn read_manifests(settings: &Settings) -> Result<Desired, DaemonError> {
    let objects = manifests::read(&settings.manifests)?;
    Ok(objects::desired(&objects, &settings.node_name)?)
}

async fn serve(
    settings: &Settings,
    desired: Desired,
    mut watcher: Watcher,
) -> Result<(), DaemonError> {
    let linux = Linux::new(settings.run_dir.clone())?;
    let uplink = linux.uplink(settings.uplink.as_deref())?;
    let plan = plan(settings, &desired, uplink.as_ref())?;
    refuse_overlaps(&linux, settings, &plan)?;
    linux.may_wire_host(&plan.host)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(io("cannot wait for signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io("cannot wait for signals"))?;
    // From here on files are made, which go again if the start is refused after all.
    let mut directories = Directories::take(&settings.run_dir, &settings.state_dir)?;
    let start = Running::start(settings, desired, plan, Arc::new(linux), &mut directories);
    let (mut running, listener) = start.await?;
    directories.keep();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let ended = async {
        // Dropped or sent, both mean the end.
        drop(stopped.await);
    };
    // Who waited for the line may ask at once: the socket is there already.
    say_ready().map_err(io("cannot say that it is ready"))?;
    let api = tokio::spawn(admin::serve(listener, running.context.clone(), ended));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // Only when it cannot wait for its devices any more; a new daemon can.
            _ = &mut running.data => return Err(Ended.into()),
            changed = watcher.changed() => {
                changed.map_err(io("cannot watch the manifests"))?;
                running.reload(settings, uplink.as_ref()).await?;
            }
        }
    }
    tracing::info!("stopping; pods, interfaces and routes stay");
    drop(stop);
    match tokio::time::timeout(STOP_PATIENCE, api).await {
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the admin socket ended with an error"),
        Ok(_ended) => {}
        Err(_late) => {
            tracing::warn!("a client of the admin socket does not read; it is hung up on")
        }
    }
    running.context.handle.stop()?;
    Ok(())
}

/// Pods whose range is somebody else's already would take that one's traffic, or lose theirs.
fn refuse_overlaps(linux: &Linux, settings: &Settings, plan: &Plan) -> Result<(), DaemonError> {
    let checks = sources::preflight(linux, &plan.host, settings.uplink.as_deref())?;
    let overlap = |check: &Check| check.name == preflight::RANGES && check.outcome == Outcome::Bad;
    match checks.into_iter().find(overlap) {
        Some(check) => {
            Err(DaemonError::Unable { what: check.detail, mend: check.mend.unwrap_or_default() })
        }
        None => Ok(()),
    }
}

/// The one line that says pods can be wired.
fn say_ready() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ready")?;
    out.flush()
}

/// An error with what caused it, as one clause. Some errors say their cause themselves.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

//! The worker's work: wiring, and the order of start and stop.
//!
//! Start: manifests, the plan, and whether the node has room for it; only then anything is made.
//! First the switch, recovered from the journal or empty, and its thread, then the node's own port,
//! then the pods that were there before, and at last `complete`: nothing is forwarded on half a
//! configuration. The end leaves pods, interfaces and routes in place.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use stack::ConfigError;

use crate::admin::{self, socket::Listener};
use crate::cni;
use crate::event_loop::Ended;
use crate::kube::last;
use crate::kube::manifests::{self, ManifestError};
use crate::kube::objects::{self, Desired, ObjectError};
use crate::kube::watch::Watcher;
use crate::node::preflight::{self, Check, Outcome};
use crate::node::uplink::Uplink;
use crate::node::{Kernel, NodeError};
use crate::recorder::follow::FollowError;
use crate::recorder::{HomeError, OpenError};
use crate::settings::Settings;
use crate::supervisor::protocol::Report;
use crate::worker::{Told, Worker};

mod plan;
mod recorded;
mod running;
mod sources;

pub use plan::{GATEWAY_PORT, HEALTH_MAC, HEALTH_PORT, HOST_PORT, Plan, PlanError, plan};
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
    /// The journal's directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// The journal of the worker before.
    #[error("cannot follow the worker that runs")]
    Follow(#[from] FollowError),
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

/// Runs the worker until its parent ends it.
///
/// # Errors
/// See [`DaemonError`]. A start that is refused leaves node and files as they were.
pub fn run(worker: Worker) -> Result<(), DaemonError> {
    // Watched before they are read: what changes in between is taken in right after the start.
    let watcher = Watcher::new(&worker.settings.manifests)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io("cannot start the control side"))?;
    let served = runtime.block_on(serve(worker, watcher));
    // Neither a client that does not read nor a job that does not end may hold the process: what an
    // ADD has half made by now is removed by the next start.
    runtime.shutdown_timeout(STOP_PATIENCE);
    served
}

fn read_manifests(settings: &Settings, uplink: Option<&Uplink>) -> Result<Desired, DaemonError> {
    let objects = manifests::read(&settings.manifests)?;
    let desired = objects::desired(&objects, &plan::known(settings, uplink))?;
    if let Some(first) = desired.faults.first() {
        let faults = desired.faults.len();
        tracing::warn!(faults, %first, "of the manifests this is refused; all else is in force");
    }
    Ok(desired)
}

/// Desired state with what it means for this node, and what is wrong with it.
type Planned = (Desired, Plan, Option<DaemonError>);

/// What the manifests say, or if that cannot be, what was good last while this daemon ran: a worker
/// that died, or a daemon that was killed, is followed whatever somebody has written meanwhile.
fn planned(
    desired: Result<Desired, DaemonError>,
    settings: &Settings,
    kernel: &dyn Kernel,
    uplink: Option<&Uplink>,
) -> Result<Planned, DaemonError> {
    let of = |desired: Desired| {
        let plan = plan(settings, &desired, uplink)?;
        refuse_overlaps(kernel, settings, &plan)?;
        Ok((desired, plan))
    };
    let error = match desired.and_then(of) {
        Ok((desired, plan)) => return Ok((desired, plan, None)),
        Err(error) => error,
    };
    match last::read(&settings.run_dir, &settings.node_name).map(of) {
        Some(Ok((desired, plan))) => Ok((desired, plan, Some(error))),
        Some(Err(_)) | None => Err(error),
    }
}

async fn serve(worker: Worker, mut watcher: Watcher) -> Result<(), DaemonError> {
    let Worker { settings, kernel, cni, admin, mut words, succession, parent } = worker;
    let uplink = kernel.uplink(settings.uplink.as_deref())?;
    let desired = read_manifests(&settings, uplink.as_ref());
    let (desired, plan, wrong) = planned(desired, &settings, &*kernel, uplink.as_ref())?;
    kernel.may_wire_host(&plan.host)?;
    let parent = Arc::new(parent);
    let waits = succession.is_some();
    let started = Running::start(&settings, desired, plan, kernel, cni, parent.clone(), succession);
    let mut running = tokio::select! {
        biased;
        // A worker that waits for its turn may be told that it will not come.
        _ = words.recv(), if waits => return Ok(()),
        running = started => running?,
    };
    if let Some(error) = &wrong {
        running.keep_last_good(&settings, error);
    }
    let gate = running.gate.clone();
    let listener = Listener::new(admin, gate).map_err(io("cannot listen on admin.sock"))?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let ended = async {
        // Dropped or sent, both mean the end.
        drop(stopped.await);
    };
    // Who waited for the line may ask at once: the socket is there already.
    parent.report(Report::Ready).map_err(io("cannot say that it is ready"))?;
    let api = tokio::spawn(admin::serve(listener, running.context.clone(), ended));
    loop {
        tokio::select! {
            // By its word; without a parent the whole process ends.
            told = words.recv() => match told {
                Some(Told::Stop) => {
                    last::forget(&settings.run_dir).map_err(io("cannot remove desired.json"))?;
                    break;
                }
                None => break,
                Some(told) => running.heed(told, &parent).await?,
            },
            // Only when it cannot wait for its devices any more; a new daemon can.
            _ = &mut running.data, if !running.yielded => return Err(Ended.into()),
            changed = watcher.changed(), if !running.quiet => {
                changed.map_err(io("cannot watch the manifests"))?;
                running.reload(&settings, uplink.as_ref()).await?;
            }
        }
    }
    drop(stop);
    match tokio::time::timeout(STOP_PATIENCE, api).await {
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the admin socket ended with an error"),
        Ok(_ended) => {}
        Err(_late) => {
            tracing::warn!("a client of the admin socket does not read; it is hung up on");
        }
    }
    match running.context.handle.stop() {
        Err(Ended) if running.yielded => Ok(()),
        stopped => Ok(stopped?),
    }
}

/// Pods whose range is somebody else's already would take that one's traffic, or lose theirs.
fn refuse_overlaps(
    kernel: &dyn Kernel,
    settings: &Settings,
    plan: &Plan,
) -> Result<(), DaemonError> {
    let checks = sources::preflight(kernel, &plan.host, settings.uplink.as_deref())?;
    let overlap = |check: &Check| check.name == preflight::RANGES && check.outcome == Outcome::Bad;
    match checks.into_iter().find(overlap) {
        Some(check) => {
            Err(DaemonError::Unable { what: check.detail, mend: check.mend.unwrap_or_default() })
        }
        None => Ok(()),
    }
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

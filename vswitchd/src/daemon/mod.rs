//! The worker's work: wiring, and the order of start and stop.
//!
//! Start: objects, the plan, and whether the node has room for it; only then anything is made.
//! First the switch, recovered from the journal or empty, and its thread, then the node's own port,
//! then the pods that were there before, and at last `complete`: nothing is forwarded on half a
//! configuration. The end leaves pods, interfaces and routes in place.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use stack::ConfigError;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use crate::admin::{self, socket::Listener};
use crate::cni;
use crate::event_loop::Ended;
use crate::kube::api::{ConnectError, due};
use crate::kube::last;
use crate::kube::manifests::ManifestError;
use crate::kube::objects::{Desired, ObjectError};
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
mod roster;
mod running;
mod source;
mod sources;

pub use plan::{GATEWAY_PORT, HEALTH_MAC, HEALTH_PORT, HOST_PORT, Plan, PlanError, plan};
use roster::Roster;
use running::{AGAIN, Plugins, Running};
use source::Source;
pub use sources::State;

/// How long clients and jobs may take to end once a signal has come.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// How long a start waits for the API server before it goes on with what was good last.
const API_PATIENCE: Duration = Duration::from_secs(5);

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
    /// The way to the API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Objects that have not come.
    #[error("the API server has not told of all {missing} yet")]
    Unheard {
        /// Their kinds.
        missing: String,
    },
    /// An object.
    #[error("desired state")]
    Object(#[from] ObjectError),
    /// The plan.
    #[error("desired state")]
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

impl DaemonError {
    /// Whether objects are at fault, and others may mend it.
    fn is_of_objects(&self) -> bool {
        matches!(self, Self::Unheard { .. } | Self::Object(_) | Self::Plan(_) | Self::Unable { .. })
    }
}

fn io(doing: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |source| DaemonError::Io { doing, source }
}

/// Runs the worker until its parent ends it.
///
/// # Errors
/// See [`DaemonError`]. A start that is refused leaves node and files as they were.
pub fn run(worker: Worker) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io("cannot start the control side"))?;
    let served = runtime.block_on(serve(worker));
    // Neither a client that does not read nor a job that does not end may hold the process: what an
    // ADD has half made by now is removed by the next start.
    runtime.shutdown_timeout(STOP_PATIENCE);
    served
}

/// Desired state with what it means for this node, and what is wrong with it.
type Planned = (Desired, Plan, Option<DaemonError>);

/// What the objects say, or if that cannot be, what was good last while this daemon ran: a worker
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

/// Desired state to begin with. Of the API server it is waited for, and what of it cannot be is
/// mended there; `at_once` is who follows a worker that died, with what was good last.
async fn begin(
    source: &mut Source,
    settings: &Settings,
    kernel: &dyn Kernel,
    uplink: Option<&Uplink>,
    at_once: bool,
) -> Result<Planned, DaemonError> {
    if !at_once {
        // Who was stopped in good order has kept it too, but it may be old.
        drop(tokio::time::timeout(API_PATIENCE, source.settled()).await);
    }
    let mut told = String::new();
    loop {
        let error = match planned(source.desired(settings, uplink), settings, kernel, uplink) {
            Err(error) if source.is_live() && error.is_of_objects() => error,
            planned => return planned,
        };
        let why = with_causes(&error);
        if why != told {
            tracing::warn!(why, "waiting for the API server before anything is forwarded");
            told = why;
        }
        // What stands in the way may be the node, which does not say when it is mended.
        if let Ok(changed) = tokio::time::timeout(AGAIN, source.changed()).await {
            changed?;
        }
    }
}

/// Returns when the parent wants the end of a worker that has not begun. One that `waits` for its
/// turn may be told as well that it will not come.
async fn told_to_end(words: &mut UnboundedReceiver<Told>, waits: bool) {
    while let Some(told) = words.recv().await {
        if waits || matches!(told, Told::Stop) {
            return;
        }
    }
}

async fn serve(worker: Worker) -> Result<(), DaemonError> {
    let Worker { settings, kernel, cni, admin, mut words, succession, parent } = worker;
    let uplink = kernel.uplink(settings.uplink.as_deref())?;
    let uplink = uplink.as_ref();
    let mut source = Source::begin(&settings).await?;
    let waits = succession.is_some();
    let at_once = waits || parent.restarts > 0;
    let (desired, plan, wrong) = tokio::select! {
        biased;
        () = told_to_end(&mut words, waits) => return Ok(()),
        planned = begin(&mut source, &settings, &*kernel, uplink, at_once) => planned?,
    };
    kernel.may_wire_host(&plan.host)?;
    let parent = Arc::new(parent);
    let (mut roster, pods) = Roster::new(source.is_live());
    let plugins = Plugins { socket: cni, pods };
    let started =
        Running::start(&settings, desired, plan, kernel, plugins, parent.clone(), succession);
    let mut running = tokio::select! {
        biased;
        _ = words.recv(), if waits => return Ok(()),
        running = started => running?,
    };
    running.tell_faults();
    if let Some(error) = &wrong {
        running.keep_last_good(&settings, &source, error);
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
                    // The API server may be away when the next daemon starts; whoever wrote
                    // manifests is there, and is told what is wrong with them.
                    if !source.is_live() {
                        last::forget(&settings.run_dir).map_err(io("cannot remove desired.json"))?;
                    }
                    break;
                }
                None => break,
                Some(told) => running.heed(told, &parent).await?,
            },
            // Only when it cannot wait for its devices any more; a new daemon can.
            _ = &mut running.data, if !running.yielded => return Err(Ended.into()),
            changed = source.changed(), if !running.quiet => {
                changed?;
                running.reload(&settings, uplink, &source).await?;
            }
            () = due(&mut running.refused.again), if !running.quiet => {
                running.reload(&settings, uplink, &source).await?;
            }
            () = roster.somebody() => {}
        }
        if let Some(objects) = source.in_force() {
            roster.tell(objects);
        }
    }
    drop(stop);
    hang_up(api).await;
    match running.context.handle.stop() {
        Err(Ended) if running.yielded => Ok(()),
        stopped => Ok(stopped?),
    }
}

/// Waits for clients of the admin socket, for a while.
async fn hang_up(served: JoinHandle<io::Result<()>>) {
    match tokio::time::timeout(STOP_PATIENCE, served).await {
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the admin socket ended with an error"),
        Ok(_ended) => {}
        Err(_late) => {
            tracing::warn!("a client of the admin socket does not read; it is hung up on");
        }
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

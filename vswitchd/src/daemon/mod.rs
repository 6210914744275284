//! Wiring, and the order of start and stop.
//!
//! Start: settings, manifests, the lock on run-dir, the plan; then the switch and its thread, the
//! node's own port, the pods that were there before, and only then `complete`: nothing is forwarded
//! on half a configuration. SIGTERM leaves pods, interfaces and routes in place.

use std::error::Error;
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use nix::fcntl::{Flock, FlockArg};
use stack::{Change, Config, ConfigError, Limits, Switch};
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{self, Context, objects::Problem};
use crate::cli::local;
use crate::cni::{self, CniOptions};
use crate::directory::{Directory, Label, Shared};
use crate::event_loop::{self, Ended};
use crate::kube::manifests::{self, ManifestError};
use crate::kube::objects::{self, Desired, ObjectError};
use crate::kube::watch::Watcher;
use crate::node::preflight::{self, Check, Outcome};
use crate::node::{Kernel, Linux, NodeError};
use crate::settings::Settings;

mod plan;
mod sources;

pub use plan::{GATEWAY_PORT, HOST_PORT, Plan, PlanError, plan};
pub use sources::State;

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
    /// The run directory.
    #[error("run-dir {path}: {why}")]
    RunDir {
        /// The directory.
        path: String,
        /// Why it cannot be used.
        why: String,
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
/// See [`DaemonError`]; before the node's port is made, nothing has been changed.
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
    runtime.block_on(serve(settings, desired, watcher))
}

fn read_manifests(settings: &Settings) -> Result<Desired, DaemonError> {
    let objects = manifests::read(&settings.manifests)?;
    Ok(objects::desired(&objects, &settings.node_name)?)
}

/// One daemon a run-dir: the lock goes with the process, however it ends.
fn lock(run_dir: &Path) -> Result<Flock<File>, DaemonError> {
    let fault = |why: String| DaemonError::RunDir { path: run_dir.display().to_string(), why };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(run_dir)
        .map_err(|error| fault(format!("cannot be made: {error}")))?;
    let path = run_dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| fault(format!("cannot be written to: {error}")))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_file, errno)| {
        if errno == nix::errno::Errno::EWOULDBLOCK {
            let why = "another vswitchd runs on it; stop that one or name another directory";
            return fault(why.to_owned());
        }
        fault(format!("cannot be locked: {errno}"))
    })
}

async fn serve(
    settings: &Settings,
    desired: Desired,
    mut watcher: Watcher,
) -> Result<(), DaemonError> {
    let linux = Linux::new(settings.run_dir.clone())?;
    let uplink = linux.uplink(settings.uplink.as_deref())?;
    let plan = plan(settings, &desired, uplink.as_ref())?;
    let _lock = lock(&settings.run_dir)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(io("cannot wait for signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io("cannot wait for signals"))?;
    refuse_overlaps(&linux, settings, &plan)?;
    let running = Running::start(settings, desired, plan, Arc::new(linux)).await?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let listener = admin::socket::Listener::bind(&settings.run_dir)
        .map_err(io("cannot listen on admin.sock"))?;
    // Who waited for the line may ask at once.
    say_ready().map_err(io("cannot say that it is ready"))?;
    let ended = async {
        // Dropped or sent, both mean the end.
        drop(stopped.await);
    };
    let api = tokio::spawn(admin::serve(listener, running.context.clone(), ended));
    let mut running = running;
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
    if let Ok(Err(error)) = api.await {
        tracing::warn!(%error, "the admin socket ended with an error");
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

/// The parts, once they run.
struct Running {
    plan: Plan,
    desired: Desired,
    linux: Arc<Linux>,
    kernel: Arc<dyn Kernel>,
    state: Arc<State>,
    context: Context,
    /// Completes when the data thread has ended.
    data: tokio::sync::oneshot::Receiver<()>,
}

impl Running {
    async fn start(
        settings: &Settings,
        desired: Desired,
        plan: Plan,
        linux: Arc<Linux>,
    ) -> Result<Self, DaemonError> {
        let kernel: Arc<dyn Kernel> = linux.clone();
        let seeds = event_loop::seeds().map_err(io("cannot read /dev/urandom"))?;
        let switch = Switch::new(Config::default(), Limits::default(), seeds);
        let (handle, data) =
            event_loop::start(switch).map_err(io("cannot start the data thread"))?;
        let directory = directory(&desired);
        handle.change(plan.changes()).await??;
        let opened = cni::Opened::new(CniOptions {
            run_dir: settings.run_dir.clone(),
            state_dir: settings.state_dir.clone(),
            pod_cidrs: plan.pod_cidrs.clone(),
            mtu: plan.mtu,
            port_kind: settings.port_kind,
            reserved_macs: vec![plan.host.mac],
        })?;
        // From here on the node is changed.
        handle.attach(HOST_PORT, kernel.wire_host(&plan.host)?)?;
        let cni = opened.serve(kernel.clone(), handle.clone(), directory.clone()).await?;
        handle.change(Change::Complete(true)).await??;
        let taken_back = cni.reconciled().taken_back;
        tracing::info!(node = settings.node_name, taken_back, mtu = plan.mtu, "ready");
        let host = plan.host.clone();
        let state = Arc::new(State::new(settings, linux.clone(), cni, host));
        let context = Context {
            handle,
            directory,
            sources: state.clone(),
            captures: admin::Captures::default(),
        };
        state.set_problems(idle(&desired));
        Ok(Self { plan, desired, linux, kernel, state, context, data })
    }

    /// Takes the manifests in again. What is wrong with them is shown by `status`, and the old
    /// state stays.
    async fn reload(
        &mut self,
        settings: &Settings,
        uplink: Option<&crate::node::uplink::Uplink>,
    ) -> Result<(), DaemonError> {
        let next = read_manifests(settings)
            .and_then(|desired| Ok((plan(settings, &desired, uplink)?, desired)))
            .and_then(|(plan, desired)| {
                refuse_overlaps(&self.linux, settings, &plan)?;
                Ok((plan, desired))
            });
        let result = match next {
            Ok((plan, desired)) => self.adopt(plan, desired).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => self.state.set_problems(idle(&self.desired)),
            Err(DaemonError::Ended(ended)) => return Err(ended.into()),
            Err(error) => {
                let message = with_causes(&error);
                tracing::warn!(
                    error = message,
                    "the manifests are not taken; the last good state stays"
                );
                let object = settings.manifests.display().to_string();
                // What holds still has the problems it had.
                let mut problems = idle(&self.desired);
                problems.push(Problem { object, message });
                self.state.set_problems(problems);
            }
        }
        Ok(())
    }

    async fn adopt(&mut self, plan: Plan, desired: Desired) -> Result<(), DaemonError> {
        if plan != self.plan {
            let host_too = plan.host != self.plan.host;
            if let Err(error) = self.carry_out(&plan, host_too).await {
                // Half of it may be done: the last good state has to be made again.
                self.carry_out(&self.plan, host_too).await?;
                return Err(error);
            }
            self.plan = plan;
        }
        if desired.allowed != self.desired.allowed {
            self.open_guards(&desired).await?;
        }
        self.desired = desired;
        Ok(())
    }

    /// Makes switch and node what the plan says, and gives out addresses of its ranges.
    async fn carry_out(&self, plan: &Plan, host_too: bool) -> Result<(), DaemonError> {
        self.context.handle.change(plan.changes()).await??;
        if host_too {
            self.context.handle.detach(HOST_PORT).await?;
            self.context.handle.attach(HOST_PORT, self.kernel.wire_host(&plan.host)?)?;
            self.state.set_host(plan.host.clone());
        }
        self.state.cni().reload(&plan.pod_cidrs).map_err(PlanError::from)?;
        Ok(())
    }

    /// Gives every pod's port the prefixes that its annotation allows now.
    async fn open_guards(&self, desired: &Desired) -> Result<(), DaemonError> {
        self.context.directory.rcu(|directory| {
            let mut directory = (**directory).clone();
            directory.allowed.clone_from(&desired.allowed);
            directory
        });
        let directory = self.context.directory.load_full();
        let config = self.context.handle.ask(|view| view.switch.config()).await?;
        let mut changes = Vec::new();
        for mut port in config.ports {
            let Some(label) = directory.ports.get(&port.id) else { continue };
            let allowed = directory.allowed(label);
            if port.allowed != allowed {
                port.allowed = allowed;
                changes.push(Change::Port(port));
            }
        }
        Ok(self.context.handle.change(Change::All(changes)).await??)
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

/// What the manifests ask for and nobody does: better said than found out.
fn idle(desired: &Desired) -> Vec<Problem> {
    let problem = |kind: &String| Problem {
        object: kind.clone(),
        message: "this version does not act on objects of this kind".to_owned(),
    };
    desired.idle.iter().map(problem).collect()
}

fn directory(desired: &Desired) -> Shared {
    let mut names = Directory { allowed: desired.allowed.clone(), ..Directory::default() };
    names.ports.insert(GATEWAY_PORT, Label::Endpoint("gateway"));
    names.ports.insert(HOST_PORT, Label::Host);
    Arc::new(ArcSwap::from_pointee(names))
}

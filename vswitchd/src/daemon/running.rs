//! The parts of a daemon that runs: started in order, and brought to what the objects say now.

use std::os::unix::net::UnixListener;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use stack::Change;
use tokio::time::Sleep;

use super::plan::node_ports;
use super::recorded::Started;
use super::{
    DaemonError, GATEWAY_PORT, HEALTH_MAC, HEALTH_PORT, HOST_PORT, Plan, PlanError, Source, State,
    io, plan, recorded, refuse_overlaps, with_causes,
};
use crate::admin::objects::{Problem, Takeover};
use crate::admin::{self, Context};
use crate::cni::host_side::HostSide;
use crate::cni::pods::Pods;
use crate::cni::{self, CniOptions};
use crate::directory::{Directory, Label, Shared};
use crate::event_loop::{self, Ended, Handle, Herald, Taken};
use crate::gate::Gate;
use crate::health::{self, Facts};
use crate::kube::last;
use crate::kube::numbers::Numbers;
use crate::kube::objects::Desired;
use crate::node::uplink::Uplink;
use crate::node::{HostLink, HostPort, Kernel, NodeError};
use crate::settings::Settings;
use crate::supervisor::protocol::{Predecessor, Report};
use crate::triggers::{Keeper, keeper::Parts};
use crate::worker::{Parent, Succession, Told};

/// How long requests that have begun may take before another vswitchd may not take over.
const QUIET_PATIENCE: Duration = Duration::from_secs(5);
/// How long after desired state was not taken it is looked at again, if nothing changes before: the
/// objects may be right and the node in the way. Twice as long each time, up to [`AGAIN_MAX`].
pub(super) const AGAIN: Duration = Duration::from_secs(5);
/// See [`AGAIN`].
const AGAIN_MAX: Duration = Duration::from_secs(80);

/// What plugins come by.
pub(super) struct Plugins {
    /// `cni.sock`.
    pub(super) socket: UnixListener,
    /// Which pods may be wired.
    pub(super) pods: Pods,
}

/// The parts, once they run.
pub(super) struct Running {
    plan: Plan,
    desired: Desired,
    /// Of Services.
    numbers: Numbers,
    kernel: Arc<dyn Kernel>,
    host: HostSide,
    /// What health checks are told.
    health: health::Shared,
    state: Arc<State>,
    pub(super) context: Context,
    /// Completes when the data thread has ended.
    pub(super) data: tokio::sync::oneshot::Receiver<()>,
    /// Whether clients are let in.
    pub(super) gate: Gate,
    /// Whether desired state stays as it is, since another worker is about to take over.
    pub(super) quiet: bool,
    /// Whether the ports were left to that one.
    pub(super) yielded: bool,
    pub(super) refused: Refused,
}

/// Of desired state that is not taken.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Why, as it was logged last.
    told: Option<String>,
    /// When it is looked at again: what stood in its way may be gone.
    pub(super) again: Option<Pin<Box<Sleep>>>,
    /// After how long that was.
    pause: Duration,
    /// Whether it is unknown what is in force, since the last good state could not be made again.
    is_torn: bool,
}

/// What another plan makes necessary at the node's own port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostWork {
    Nothing,
    /// Routes, rules and settings around it change, as when a Service gets an address from outside
    /// of the ranges: the port stays open, and no frame waits.
    Around,
    /// It is opened anew.
    Anew,
}

impl HostWork {
    fn between(from: &HostLink, to: &HostLink) -> Self {
        match (from == to, from.is_same_port(to)) {
            (true, _) => Self::Nothing,
            (false, true) => Self::Around,
            (false, false) => Self::Anew,
        }
    }
}

impl Running {
    /// Starts all parts; requests wait in the backlog of `cni` meanwhile.
    pub(super) async fn start(
        settings: &Settings,
        mut desired: Desired,
        mut plan: Plan,
        kernel: Arc<dyn Kernel>,
        plugins: Plugins,
        parent: Arc<Parent>,
        succession: Option<Succession>,
    ) -> Result<Self, DaemonError> {
        let seeds = event_loop::seeds().map_err(io("cannot read /dev/urandom"))?;
        let before = succession.as_ref().map(|succession| succession.before);
        let Started { handle, data, herald, past, problems: found } =
            recorded::open(settings, seeds, succession)?
                .start()
                .map_err(io("cannot start the data thread"))?;
        let directory = directory(&desired);
        let mut numbers = recorded::numbers(&handle, settings).await?;
        numbers.number(&mut plan.services);
        recorded::reconcile(&handle, &plan).await?;
        numbers.keep(&plan.services);
        directory.rcu(|directory| directory.with_services(&plan.services));
        desired.services.clone_from(&plan.services);
        let options = options(settings, &plan, plugins.pods);
        let opened = cni::Opened::new(options, plugins.socket)?;
        let host = HostSide::new(kernel.clone(), plan.host.clone(), opened.attachments());
        let health = wire_node(&handle, &host, &plan, facts(settings, &desired)).await?;
        let (wiring, names) = (handle.clone(), directory.clone());
        let cni = opened.take_back(kernel.clone(), wiring, names, host.clone()).await;
        recorded::serve(&handle, &directory, host.services()).await?;
        let takeover = match herald.zip(before) {
            Some((herald, before)) => Some(take_turn(herald, before, &parent).await?),
            None => None,
        };
        let gate = Gate::default();
        let cni = cni.serve(gate.clone()).await?;
        let taken_back = cni.reconciled().taken_back;
        tracing::info!(node = settings.node_name, taken_back, mtu = plan.mtu, "ready");
        let state =
            State::new(settings, kernel.clone(), cni, host.clone(), parent, found, takeover);
        let state = Arc::new(state);
        let parts = Parts {
            handle: handle.clone(),
            past: past.clone(),
            names: directory.clone(),
            node: settings.node_name.clone(),
        };
        let keeper = Keeper::start(settings, parts);
        let context = Context {
            handle,
            directory,
            sources: state.clone(),
            journal: match &past {
                Some(past) => Arc::new(past.clone()),
                None => Arc::new(admin::record::Forgetful),
            },
            past,
            captures: admin::Captures::default(),
            keeper,
        };
        state.set_problems(problems(&desired));
        let running = Self {
            plan,
            desired,
            numbers,
            kernel,
            host,
            health,
            state,
            context,
            data,
            gate,
            quiet: false,
            yielded: false,
            refused: Refused::default(),
        };
        running.keep(settings);
        Ok(running)
    }

    /// Does what the parent says, most of it on the way to another vswitchd that takes over.
    pub(super) async fn heed(&mut self, told: Told, parent: &Parent) -> Result<(), DaemonError> {
        let report = match told {
            Told::Quiet => {
                self.gate.close();
                self.quiet = true;
                if self.state.cni().idle(QUIET_PATIENCE).await {
                    Report::Quiet
                } else {
                    Report::Busy
                }
            }
            Told::Yield(baton, with_state) => {
                let left = self.context.handle.give_turn(baton, with_state).await?;
                left.map_err(io("cannot leave the ports to the next worker"))?;
                self.yielded = true;
                Report::Yielded
            }
            Told::Upkeep(upkeep) => {
                self.state.set_upkeep(upkeep);
                return Ok(());
            }
            Told::Resume | Told::Stop => {
                self.quiet = false;
                self.gate.open();
                return Ok(());
            }
        };
        parent.report(report).map_err(io("cannot speak to the parent"))
    }

    /// Takes the objects in again. What is wrong with them is shown by `status`, and the old state
    /// stays.
    pub(super) async fn reload(
        &mut self,
        settings: &Settings,
        uplink: Option<&Uplink>,
        source: &Source,
    ) -> Result<(), DaemonError> {
        let next = source
            .desired(settings, uplink)
            .and_then(|desired| Ok((plan(settings, &desired, uplink)?, desired)))
            .and_then(|(plan, desired)| {
                // The kernel is asked only about what it has not got already.
                if plan.host != self.plan.host {
                    self.kernel.may_wire_host(&plan.host)?;
                    refuse_overlaps(&*self.kernel, settings, &plan)?;
                }
                Ok((plan, desired))
            });
        let result = match next {
            Ok((plan, desired)) => self.adopt(settings, plan, desired).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(changed) => {
                if changed {
                    self.keep(settings);
                }
                self.refused = Refused::default();
                let mut problems = problems(&self.desired);
                problems.extend(source.troubles());
                self.state.set_problems(problems);
            }
            Err(DaemonError::Ended(ended)) => return Err(ended.into()),
            Err(error) => self.keep_last_good(settings, source, &error),
        }
        Ok(())
    }

    /// Tells of desired state that is not taken.
    pub(super) fn keep_last_good(
        &mut self,
        settings: &Settings,
        source: &Source,
        error: &DaemonError,
    ) {
        let message = with_causes(error);
        self.refused.pause = (2 * self.refused.pause).clamp(AGAIN, AGAIN_MAX);
        self.refused.again = Some(Box::pin(tokio::time::sleep(self.refused.pause)));
        // That objects are still to come is no news; that they cannot is told by the source.
        let is_news = !matches!(error, DaemonError::Unheard { .. });
        if is_news && self.refused.told.as_ref() != Some(&message) {
            tracing::warn!(
                error = message,
                "desired state is not taken; the last good state stays"
            );
            self.refused.told = Some(message.clone());
        }
        let object = settings.source.to_string();
        // What holds still has the problems it had.
        let mut problems = problems(&self.desired);
        problems.push(Problem { object, message });
        problems.extend(source.troubles());
        self.state.set_problems(problems);
    }

    /// Logs that something of the objects is refused.
    pub(super) fn tell_faults(&self) {
        if let Some(first) = self.desired.faults.first() {
            let faults = self.desired.faults.len();
            tracing::warn!(faults, %first, "of the objects this is refused; all else is in force");
        }
    }

    /// Keeps desired state for a worker that comes when the objects are wrong or cannot be had.
    /// Without it that one waits until they are mended.
    fn keep(&self, settings: &Settings) {
        let kept = last::keep(&settings.run_dir, &settings.node_name, &self.desired);
        if let Err(error) = kept {
            tracing::warn!(%error, "run-dir: desired.json cannot be written");
        }
    }

    /// Makes it what is in force. Whether it is another than before.
    async fn adopt(
        &mut self,
        settings: &Settings,
        mut plan: Plan,
        mut desired: Desired,
    ) -> Result<bool, DaemonError> {
        self.numbers.number(&mut plan.services);
        desired.services.clone_from(&plan.services);
        if plan == self.plan && desired == self.desired && !self.refused.is_torn {
            return Ok(false);
        }
        if plan != self.plan || self.refused.is_torn {
            self.replace(settings, plan).await?;
        }
        if desired.allowed != self.desired.allowed {
            self.open_guards(&desired).await?;
        }
        self.health.store(Arc::new(facts(settings, &desired)));
        let is_news = desired.faults != self.desired.faults;
        self.desired = desired;
        if is_news {
            self.tell_faults();
        }
        Ok(true)
    }

    /// Puts a plan in the other's place. If that cannot be the other is in force as before, or
    /// nobody knows what is.
    async fn replace(&mut self, settings: &Settings, plan: Plan) -> Result<(), DaemonError> {
        let (handle, names) = (&self.context.handle, &self.context.directory);
        let (changes, host) = if self.refused.is_torn {
            (recorded::differing(handle, &plan).await?, HostWork::Anew)
        } else {
            let host = HostWork::between(&self.plan.host, &plan.host);
            (recorded::between(&self.plan, &plan, host == HostWork::Anew), host)
        };
        if !names.load().has_services(&plan.services) {
            names.rcu(|directory| directory.with_services(&plan.services));
        }
        let was_torn = std::mem::replace(&mut self.refused.is_torn, true);
        let mut begun = HostWork::Nothing;
        if let Err(error) = self.carry_out(settings, changes, &plan, host, &mut begun).await {
            names.rcu(|directory| directory.with_services(&self.plan.services));
            // Half of it may be done: the last good state has to be made again.
            let back = recorded::differing(handle, &self.plan).await?;
            let host = if was_torn { HostWork::Anew } else { begun };
            self.carry_out(settings, back, &self.plan, host, &mut begun).await?;
            self.refused.is_torn = false;
            return Err(error);
        }
        self.refused.is_torn = false;
        self.plan = plan;
        self.numbers.keep(&self.plan.services);
        Ok(())
    }

    /// Makes switch and node what the plan says, and gives out addresses of its ranges. `changes`
    /// bring the switch there. `begun` is told which work at the node's port is not all to do.
    async fn carry_out(
        &self,
        settings: &Settings,
        mut changes: Vec<Change>,
        plan: &Plan,
        mut host: HostWork,
        begun: &mut HostWork,
    ) -> Result<(), DaemonError> {
        // Before the switch knows of it: what fails here has cost nobody a connection.
        if host == HostWork::Around {
            *begun = host;
            match self.host.adjust(&plan.host).await {
                // Somebody has removed the port.
                Err(NodeError::Kernel { source, .. })
                    if source.raw_os_error() == Some(libc::ENODEV) =>
                {
                    host = HostWork::Anew;
                    changes.push(Change::Port(plan.host_port()));
                }
                adjusted => adjusted?,
            }
        }
        if !changes.is_empty() {
            self.context.handle.change(Change::All(changes)).await??;
        }
        if host == HostWork::Anew {
            *begun = host;
            self.context.handle.detach(HOST_PORT).await?;
            attach_host(&self.context.handle, self.host.wire(&plan.host).await?)?;
        }
        let node = node_ports(settings, plan);
        self.state.cni().reload(&plan.pod_cidrs, node).map_err(PlanError::from)?;
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

/// What the CNI side has to know.
fn options(settings: &Settings, plan: &Plan, pods: Pods) -> CniOptions {
    CniOptions {
        run_dir: settings.run_dir.clone(),
        state_dir: settings.state_dir.clone(),
        pod_cidrs: plan.pod_cidrs.clone(),
        mtu: plan.mtu,
        port_kind: settings.port_kind,
        reserved_macs: vec![plan.host.mac, HEALTH_MAC],
        node_ports: node_ports(settings, plan),
        pods,
    }
}

/// Tells that all is prepared, and waits until the ports are this worker's to read.
async fn take_turn(
    herald: Herald,
    before: Predecessor,
    parent: &Parent,
) -> Result<Takeover, DaemonError> {
    let Herald { prepared, taken } = herald;
    prepared.await.map_err(|_gone| Ended)?;
    parent.report(Report::Prepared).map_err(io("cannot speak to the parent"))?;
    let Taken { blind } = taken.await.map_err(|_gone| Ended)?;
    let blind_us = blind.0 / 1_000;
    let (from, follow) = (before.worker, before.follow);
    tracing::info!(from, follow, blind_us, "took over; nobody read the ports for so long");
    Ok(Takeover { from_pid: before.parent, blind_us })
}

/// What the objects ask for and is not done: better said than found out.
fn problems(desired: &Desired) -> Vec<Problem> {
    let refused = desired.faults.iter().map(|fault| Problem {
        object: fault.object.clone(),
        message: format!("{}: {}", fault.field, fault.why),
    });
    let idle = desired.idle.iter().map(|kind| Problem {
        object: kind.clone(),
        message: "this version does not act on objects of this kind".to_owned(),
    });
    refused.chain(idle).collect()
}

/// Makes the node's own port, and who answers health checks. From here on the node is changed.
async fn wire_node(
    handle: &Handle,
    host: &HostSide,
    plan: &Plan,
    facts: Facts,
) -> Result<health::Shared, DaemonError> {
    attach_host(handle, host.wire(&plan.host).await?)?;
    let facts: health::Shared = Arc::new(ArcSwap::from_pointee(facts));
    let started = health::start(facts.clone(), plan.mtu);
    handle.attach(HEALTH_PORT, started.map_err(io("cannot answer health checks"))?)?;
    Ok(facts)
}

/// What health checks are told.
fn facts(settings: &Settings, desired: &Desired) -> Facts {
    Facts {
        node_port: settings.healthz_port,
        leaving: desired.leaving,
        checks: desired.health_checks.clone(),
    }
}

fn directory(desired: &Desired) -> Shared {
    let mut names = Directory { allowed: desired.allowed.clone(), ..Directory::default() };
    names.ports.insert(GATEWAY_PORT, Label::Endpoint("gateway"));
    names.ports.insert(HOST_PORT, Label::Host);
    names.ports.insert(HEALTH_PORT, Label::Endpoint("health"));
    Arc::new(ArcSwap::from_pointee(names))
}

/// Attaches the node's own port: its device, and those that show what came past it.
fn attach_host(handle: &Handle, port: HostPort) -> Result<(), DaemonError> {
    let HostPort { device, sides } = port;
    handle.attach(HOST_PORT, device)?;
    for side in sides {
        handle.attach_side(HOST_PORT, side)?;
    }
    Ok(())
}

//! The switch that the daemon goes on with: from the journal where there is one, and how it is
//! brought to the desired state. What is as desired already is not touched.

use stack::config::diff;
use stack::{Change, Config, Limits, PortKind, Route, Seeds, ServiceConfig, Switch};
use tokio::sync::oneshot;

use super::{DaemonError, Plan, io as failed};
use crate::admin::objects::Problem;
use crate::directory::Shared;
use crate::event_loop::{self, Handle, Herald, Turn, Way};
use crate::kube::last;
use crate::kube::numbers::Numbers;
use crate::port::precedence;
use crate::recorder::follow::FollowError;
use crate::recorder::{self, Begun, Follower, Home, Journal, Past, Unusable};
use crate::settings::Settings;
use crate::worker::Succession;

/// What the data thread is started with, and what the control side gets.
pub(super) struct Start {
    pub(super) switch: Switch,
    pub(super) journal: Option<Journal>,
    pub(super) past: Option<Past>,
    pub(super) problems: Vec<Problem>,
    /// Until when another worker reads the ports.
    pub(super) turn: Option<Turn>,
}

/// The data thread, to be spoken to.
pub(super) struct Started {
    pub(super) handle: Handle,
    /// Completes when it has ended.
    pub(super) data: oneshot::Receiver<()>,
    /// Tells when it is this worker's turn.
    pub(super) herald: Option<Herald>,
    pub(super) past: Option<Past>,
    pub(super) problems: Vec<Problem>,
}

impl Start {
    /// Starts the data thread.
    pub(super) fn start(self) -> std::io::Result<Started> {
        let Self { switch, journal, past, problems, turn } = self;
        let (handle, data, herald) = match turn {
            None => {
                let (handle, data) = event_loop::start_recorded(switch, journal)?;
                (handle, data, None)
            }
            Some(turn) => {
                let (handle, data, herald) = event_loop::start_waiting(switch, journal, turn)?;
                (handle, data, Some(herald))
            }
        };
        Ok(Started { handle, data, herald, past, problems })
    }
}

/// Opens the journal, unless there shall be none. Beside a worker that still writes one, that is
/// followed or left alone.
pub(super) fn open(
    settings: &Settings,
    seeds: Seeds,
    succession: Option<Succession>,
) -> Result<Start, DaemonError> {
    let limits = Limits::default();
    let (now, utc_offset) = (event_loop::monotonic(), event_loop::utc_offset());
    let begun = Begun { now, utc_offset, seeds, limits };
    if settings.journal_size == 0 {
        tracing::warn!("journal-size is 0: nothing is recorded, and a crash loses all state");
        let switch = Switch::new(Config::default(), limits, seeds);
        let turn = succession.map(|Succession { before, baton }| {
            let (from, way) = (before.worker, Way::Import(None));
            Turn { baton, from, begun, way }
        });
        return Ok(Start { switch, journal: None, past: None, problems: Vec::new(), turn });
    }
    let home = Home::make(&settings.run_dir, settings.journal_dir.as_deref())?;
    if home.chosen {
        tracing::info!(
            journal_dir = %home.directory.display(),
            "run-dir is not on tmpfs: the journal lies in shared memory"
        );
    }
    let options = recorder::Options {
        directory: home.directory,
        size: settings.journal_size,
        payload: settings.journal_payload,
    };
    match succession {
        None => go_on(&options, &begun),
        Some(succession) => succeed(options, begun, succession),
    }
}

/// Goes on with the journal that is there, or begins one.
fn go_on(options: &recorder::Options, begun: &Begun) -> Result<Start, DaemonError> {
    let opened = recorder::open(options, begun)?;
    if let Some(how) = &opened.recovered {
        tracing::info!(
            snapshot = how.snapshot.unwrap_or(0),
            records = how.records,
            position = how.position,
            digest = format!("{:016x}", how.digest),
            inputs = format!("{:016x}", how.chain.inputs()),
            outcomes = format!("{:016x}", how.chain.outcomes()),
            restore_us = micros(how.restore),
            replay_us = micros(how.replay),
            "recovered from the journal"
        );
    }
    let mut problems = Vec::new();
    if let Some(message) = opened.notice {
        tracing::warn!(notice = message, "the journal");
        problems.push(Problem { object: "journal".to_owned(), message });
    }
    let (switch, journal, past) = (opened.switch, Some(opened.journal), Some(opened.past));
    Ok(Start { switch, journal, past, problems, turn: None })
}

/// Prepares to go on from a worker that still reads the ports.
fn succeed(
    options: recorder::Options,
    begun: Begun,
    succession: Succession,
) -> Result<Start, DaemonError> {
    let Succession { before, baton } = succession;
    let from = before.worker;
    let heavy = || -> Result<Start, DaemonError> {
        let (switch, journal, past, way) = if before.follow {
            let follower = Follower::start(options, begun.seeds.table)?;
            let past = follower.past();
            let switch = follower.switch().cloned();
            let switch = switch.ok_or(FollowError::Unusable(Unusable::NoStart))?;
            (switch, None, past, Way::Follow(Box::new(follower)))
        } else {
            let (opened, staged) = recorder::follow::begin_beside(&options, &begun)?;
            (opened.switch, Some(opened.journal), opened.past, Way::Import(Some(staged)))
        };
        let turn = Some(Turn { baton, from, begun, way });
        Ok(Start { switch, journal, past: Some(past), problems: Vec::new(), turn })
    };
    // Nothing shall keep the other one from the ports that it still reads.
    precedence::behind_others(heavy).map_err(failed("cannot prepare the hand-over"))?
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The numbers of Services that are in force, or were kept.
pub(super) async fn numbers(handle: &Handle, settings: &Settings) -> Result<Numbers, DaemonError> {
    let in_force = handle.ask(|view| view.switch.config()).await?.services;
    let kept = last::read(&settings.run_dir, &settings.node_name).unwrap_or_default().services;
    Ok(Numbers::of(&in_force, &kept))
}

/// Brings the node, its own ports, routes and Services to what `plan` says, in one change of what
/// differs; pods' ports follow as their interfaces are taken back.
pub(super) async fn reconcile(handle: &Handle, plan: &Plan) -> Result<(), DaemonError> {
    let changes = differing(handle, plan).await?;
    if changes.is_empty() {
        return Ok(());
    }
    Ok(handle.change(Change::All(changes)).await??)
}

/// The changes from what is in force to a plan.
pub(super) async fn differing(handle: &Handle, plan: &Plan) -> Result<Vec<Change>, DaemonError> {
    let current = handle.ask(|view| view.switch.config()).await?;
    Ok(diff(&current, &target(&current, plan)))
}

/// The changes from a plan that is in force to another, without asking the switch: of very many
/// Services it would have to copy each. `host_too`: the node's port is attached anew, so it is up
/// whatever has happened to it.
pub(super) fn between(from: &Plan, to: &Plan, host_too: bool) -> Vec<Change> {
    let of = |plan: &Plan| target(&Config::default(), plan);
    let mut changes = diff(&of(from), &of(to));
    if host_too {
        changes.push(Change::Port(to.host_port()));
    }
    changes
}

/// What a plan makes of desired state. Services with other numbers than objects' are not its own.
fn target(current: &Config, plan: &Plan) -> Config {
    let mut target = current.clone();
    apply(&mut target, &plan.changes());
    target.services.retain(|service| !Numbers::gives(service.id));
    target.services.extend(plan.services.iter().cloned());
    target
}

/// What a change makes of desired state.
fn apply(config: &mut Config, change: &Change) {
    match change {
        Change::Node(node) => config.node = node.clone(),
        Change::Port(port) => match config.ports.iter_mut().find(|has| has.id == port.id) {
            Some(has) => *has = port.clone(),
            None => config.ports.push(port.clone()),
        },
        Change::PortRemoved(id) => config.ports.retain(|port| port.id != *id),
        Change::PortUp(id, up) => {
            config.ports.iter_mut().filter(|port| port.id == *id).for_each(|port| port.up = *up);
        }
        // Their order says nothing, so it is no reason to replace them.
        Change::Routes(routes) => {
            let same = |one: &[Route], other: &[Route]| one.iter().all(|r| other.contains(r));
            if !same(routes, &config.routes) || !same(&config.routes, routes) {
                config.routes.clone_from(routes);
            }
        }
        Change::Service(service) => {
            match config.services.iter_mut().find(|has| has.id == service.id) {
                Some(has) => has.clone_from(service),
                None => config.services.push(service.clone()),
            }
        }
        Change::ServiceRemoved(id) => config.services.retain(|service| service.id != *id),
        Change::Complete(complete) => config.complete = *complete,
        Change::All(changes) => changes.iter().for_each(|change| apply(config, change)),
    }
}

/// Lets frames in, after the ports of pods that are gone, or could not be taken back, were removed,
/// and their `hostPort`s are those that attachments have.
pub(super) async fn serve(
    handle: &Handle,
    directory: &Shared,
    host_ports: Vec<ServiceConfig>,
) -> Result<(), DaemonError> {
    let config = handle.ask(|view| view.switch.config()).await?;
    let names = directory.load_full();
    let lost = |port: &&stack::PortConfig| {
        port.kind == PortKind::Pod && !names.ports.contains_key(&port.id)
    };
    let mut changes: Vec<Change> =
        config.ports.iter().filter(lost).map(|port| Change::PortRemoved(port.id)).collect();
    let only = |services| Config { services, ..Config::default() };
    let there = config.services.into_iter().filter(|service| !Numbers::gives(service.id));
    changes.extend(diff(&only(there.collect()), &only(host_ports)));
    if !config.complete {
        changes.push(Change::Complete(true));
    }
    if !changes.is_empty() {
        handle.change(Change::All(changes)).await??;
    }
    for (port, label) in &names.ports {
        handle.label(*port, label.to_string())?;
    }
    Ok(handle.serve()?)
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::{IpCidr, Ipv4Address};
    use stack::{NodeConfig, PortId, RouteTarget, ServiceId};

    use super::*;
    use crate::kube::manifests::parse;
    use crate::kube::numbers::OTHERS;
    use crate::kube::objects::{Objects, desired};
    use crate::kube::place::Known;
    use crate::settings::Given;

    const OBJECTS: &str = "
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24, 'fd00:1::/64']}
---
kind: Service
metadata: {name: a}
spec: {clusterIPs: [10.96.0.1, 'fd00:96::1'], ports: [{name: x, port: 80}, {name: y, port: 81}]}
---
kind: Service
metadata: {name: b}
spec: {clusterIP: 10.96.0.2, ports: [{name: x, port: 80}]}
---
kind: EndpointSlice
metadata: {name: a, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
ports: [{name: x, port: 8080}]
endpoints: [{addresses: [10.244.1.9]}]
";

    /// The plan of a directory that holds this, with its numbers.
    fn planned(text: &str, numbers: &mut Numbers) -> Plan {
        let mut objects = Objects::default();
        parse("a.yaml", text, &mut objects).unwrap();
        let desired = desired(&objects, &Known::alone("n1")).unwrap();
        assert_eq!(desired.faults, []);
        let given = Given { manifests: Some("/m".into()), ..Given::default() };
        let settings = given.resolve("n1").unwrap();
        let mut plan = super::super::plan(&settings, &desired, None).unwrap();
        numbers.number(&mut plan.services);
        plan
    }

    #[test]
    fn a_changed_slice_is_one_changed_service() {
        let mut numbers = Numbers::default();
        let plan = planned(OBJECTS, &mut numbers);
        let ids = |config: &Config| config.services.iter().map(|s| s.id.0).collect::<Vec<_>>();
        let config = target(&Config::default(), &plan);
        assert_eq!(ids(&config), [1, 2, 3, 4, 5]);
        assert_eq!(diff(&config, &target(&config, &plan)), []);
        assert_eq!(between(&plan, &plan, false), []);
        let grown = OBJECTS.replace("[10.244.1.9]}", "[10.244.1.9]}, {addresses: [10.244.1.10]}");
        let grown = planned(&grown, &mut numbers);
        let changes = diff(&config, &target(&config, &grown));
        assert_eq!(between(&plan, &grown, false), changes);
        let [Change::Service(changed)] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!((changed.id, changed.name.as_str()), (ServiceId(1), "default/a:x"));
        assert_eq!((changed.backends.len(), changed.frontends.len()), (2, 1));
    }

    #[test]
    fn a_port_of_the_node_that_is_attached_anew_is_up() {
        let plan = planned(OBJECTS, &mut Numbers::default());
        let changes = between(&plan, &plan, true);
        let [Change::Port(host)] = &changes[..] else { panic!("{changes:?}") };
        assert!(host.up && host.kind == PortKind::Host);
    }

    #[test]
    fn a_service_that_is_gone_is_removed_and_host_ports_are_not() {
        let mut numbers = Numbers::default();
        let mut config = target(&Config::default(), &planned(OBJECTS, &mut numbers));
        let host_port = ServiceConfig { id: ServiceId(OTHERS), ..config.services[4].clone() };
        config.services.push(host_port.clone());
        let without = OBJECTS.replace("name: b", "name: c");
        let next = target(&config, &planned(&without, &mut numbers));
        assert!(next.services.contains(&host_port));
        let changes = diff(&config, &next);
        let [Change::ServiceRemoved(gone), Change::Service(new)] = &changes[..] else {
            panic!("{changes:?}")
        };
        assert_eq!((gone.0, new.id.0, new.name.as_str()), (5, 6, "default/c:x"));
    }

    #[test]
    fn services_that_were_recovered_are_not_touched() {
        let mut config = target(&Config::default(), &planned(OBJECTS, &mut Numbers::default()));
        // As another worker has left them.
        config.services.reverse();
        for (service, id) in config.services.iter_mut().zip([40, 7, 9, 30, 8]) {
            service.id = ServiceId(id);
        }
        let plan = planned(OBJECTS, &mut Numbers::of(&config.services, &[]));
        assert_eq!(diff(&config, &target(&config, &plan)), []);
    }

    #[test]
    fn what_is_as_desired_is_not_touched() {
        let node = NodeConfig::default();
        let route = |n: u8| Route {
            prefix: IpCidr::new(Ipv4Address::new(10, n, 0, 0).into(), 16),
            target: RouteTarget::Connected,
        };
        let plan = |routes| {
            Change::All(vec![
                Change::Node(node.clone()),
                Change::Port(Switch::gateway_port(&node, PortId(0))),
                Change::Routes(routes),
            ])
        };
        let mut config = Config::default();
        apply(&mut config, &plan(vec![route(1), route(2)]));
        let mut same = config.clone();
        apply(&mut same, &plan(vec![route(2), route(1)]));
        assert_eq!(diff(&config, &same), []);
        let mut other = config.clone();
        apply(&mut other, &plan(vec![route(2)]));
        assert_eq!(diff(&config, &other), [Change::Routes(vec![route(2)])]);
    }
}

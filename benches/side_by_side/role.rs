//! The processes that move frames, each started by the bench with arguments of its own: what they
//! use is theirs alone and can be told apart.
//!
//! A role ends when its standard input does.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr};
use stack::{Config, Limits, NodeConfig, PortConfig, PortId, PortKind, Route, RouteTarget, Switch};
use tun_tap::{Iface, Mode};
use vswitchd::event_loop::{self, Handle};
use vswitchd::node::{Kernel, LinkKind, Linux, PodLink};
use vswitchd::port::wake::Waiter;
use vswitchd::port::{Pool, PortIo};
use vswitchd::recorder::{self, Begun, Home, Journal, Options};

use crate::Fallible;
use crate::capture;
use crate::netns::enter;
use crate::path::{GATEWAY, Kind, MTU, POD_A, POD_B, POD_INTERFACE, PREFIX_LEN};
use crate::service::services;

/// First argument of a role's process.
pub(crate) const ARGUMENT: &str = "role";
/// File in the run directory that says that frames are moved.
pub(crate) const READY: &str = "ready";

/// Plays a role: its label, the namespaces of node, pod a and pod b, and the run directory.
pub(crate) fn play(arguments: &[String]) -> Fallible<()> {
    let [label, node, pod_a, pod_b, directory] = arguments else {
        return Err("a role is started by the bench itself".into());
    };
    enter(Path::new(node))?;
    let pods = [PathBuf::from(pod_a), PathBuf::from(pod_b)];
    let directory = Path::new(directory);
    let kind = Kind::named(label).ok_or_else(|| format!("there is no role {label:?}"))?;
    let journal = || journal(directory).map(Some);
    match kind {
        Kind::Relay => relay(wire(LinkKind::Tap, directory, &pods)?)?,
        Kind::VethRelay => relay(wire(LinkKind::Veth, directory, &pods)?)?,
        Kind::TunTap => naive_relay(&pods)?,
        Kind::HopscopeTap | Kind::HopscopeVip | Kind::HopscopeVips => {
            hopscope(kind, wire(LinkKind::Tap, directory, &pods)?, journal()?)?;
        }
        Kind::HopscopeVeth => {
            hopscope(kind, wire(LinkKind::Veth, directory, &pods)?, journal()?)?;
        }
        Kind::Unrecorded => {
            hopscope(kind, wire(LinkKind::Tap, directory, &pods)?, None)?;
        }
        Kind::Paced | Kind::Captured => {
            let ports = wire(LinkKind::Tap, directory, &pods)?;
            capture::serve(directory, hopscope(kind, ports, journal()?)?)?;
        }
        Kind::Kernel | Kind::KernelDnat | Kind::KernelRules => {
            return Err(format!("no process plays {label:?}").into());
        }
    }
    File::create(directory.join(READY))?;
    // Until the bench closes it or dies.
    io::stdin().read_to_end(&mut Vec::new())?;
    // The journal may lie outside of the run directory, in memory.
    let kept = Home::make(directory, None)?.directory;
    if kept != directory {
        std::fs::remove_dir_all(kept)?;
    }
    Ok(())
}

/// Makes both pods' interfaces by the daemon's own code: relay and Hopscope get the same ones.
fn wire(kind: LinkKind, directory: &Path, pods: &[PathBuf; 2]) -> Fallible<[Box<dyn PortIo>; 2]> {
    let kernel = Linux::new(directory.to_path_buf())?;
    let wire_one = |index: usize, path: &Path| -> Fallible<Box<dyn PortIo>> {
        let pod = kernel.open_netns(path)?;
        let Pod { mac, address, .. } = PODS[index];
        let link = PodLink {
            kind,
            ifname: POD_INTERFACE.to_owned(),
            host_ifname: format!("hopbench{index}"),
            mac,
            mtu: MTU,
            addresses: vec![IpCidr::new(address.into(), PREFIX_LEN)],
            // Who has no Services to reach does not use it.
            gateways: vec![GATEWAY.into()],
            routes: Vec::new(),
        };
        Ok(kernel.wire(&pod, &link)?)
    };
    let [a, b] = pods;
    Ok([wire_one(0, a)?, wire_one(1, b)?])
}

/// A pod as the switch knows it.
pub(crate) struct Pod {
    pub(crate) port: PortId,
    mac: EthernetAddress,
    address: Ipv4Address,
}

/// Pod a and pod b.
pub(crate) const PODS: [Pod; 2] = [
    Pod { port: PortId(1), mac: EthernetAddress([2, 0x48, 10, 99, 0, 2]), address: POD_A },
    Pod { port: PortId(2), mac: EthernetAddress([2, 0x48, 10, 99, 0, 3]), address: POD_B },
];

/// The bare relay: what one port gives goes to the other, with the driver, the buffers and the
/// waiter of Hopscope, and no switch in between. Each frame is written as soon as it is read.
fn relay(mut ports: [Box<dyn PortIo>; 2]) -> io::Result<()> {
    thread::Builder::new().name("data".to_owned()).spawn(move || -> io::Result<()> {
        let mut waiter = Waiter::new()?;
        for (token, port) in (0..).zip(&ports) {
            waiter.add(port.descriptor(), token)?;
        }
        let mut pool = Pool::new();
        let mut ready = Vec::new();
        loop {
            ready.clear();
            waiter.wait(None, &mut ready)?;
            let [a, b] = &mut ports;
            for token in &ready {
                match token {
                    0 => forward(a.as_mut(), b.as_mut(), &mut pool)?,
                    _ => forward(b.as_mut(), a.as_mut(), &mut pool)?,
                }
            }
        }
    })?;
    Ok(())
}

/// As many frames as the event loop takes from a port before the next has its turn.
const BATCH: usize = 64;

fn forward(from: &mut dyn PortIo, to: &mut dyn PortIo, pool: &mut Pool) -> io::Result<()> {
    for _ in 0..BATCH {
        let Some(mut frame) = from.receive(pool)? else { break };
        // A frame that the receiver does not take is lost, as on any wire.
        drop(to.transmit(&mut frame));
        pool.give(frame);
    }
    Ok(())
}

/// The naive relay: a blocking read and a write, a thread for each direction.
fn naive_relay(pods: &[PathBuf; 2]) -> Fallible<()> {
    let make = |pod: &Path| -> Fallible<Arc<Iface>> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| -> Fallible<Arc<Iface>> {
                enter(pod)?;
                Ok(Arc::new(Iface::without_packet_info(POD_INTERFACE, Mode::Tap)?))
            });
            inside.join().map_err(|_panic| "a thread inside a namespace panicked")?
        })
    };
    let [a, b] = pods;
    let (a, b) = (make(a)?, make(b)?);
    for (from, to) in [(Arc::clone(&a), Arc::clone(&b)), (b, a)] {
        thread::Builder::new().spawn(move || -> io::Result<()> {
            let mut buffer = vec![0; usize::from(MTU) + 18];
            loop {
                let len = from.recv(&mut buffer)?;
                drop(to.send(buffer.get(..len).unwrap_or(&[])));
            }
        })?;
    }
    Ok(())
}

/// Bytes of the daemon's journal by default.
const JOURNAL_SIZE: u64 = 256 << 20;

/// The journal that the daemon keeps by default, where the daemon would put it.
fn journal(directory: &Path) -> Fallible<Journal> {
    let home = Home::make(directory, None)?;
    let options = Options { directory: home.directory, size: JOURNAL_SIZE, payload: false };
    let begun = Begun {
        now: event_loop::monotonic(),
        utc_offset: event_loop::utc_offset(),
        seeds: event_loop::seeds()?,
        limits: Limits::default(),
    };
    Ok(recorder::open(&options, &begun)?.journal)
}

/// Hopscope as the daemon runs it: the real event loop on the real switch. The journal knows the
/// configuration from its first snapshot on; nobody replays it from its begin.
fn hopscope(kind: Kind, ports: [Box<dyn PortIo>; 2], journal: Option<Journal>) -> Fallible<Handle> {
    let switch = Switch::new(config(kind), Limits::default(), event_loop::seeds()?);
    let (handle, thread) = event_loop::start_recorded(switch, journal)?;
    for (pod, port) in PODS.iter().zip(ports) {
        handle.attach(pod.port, port)?;
    }
    handle.serve()?;
    // The loop runs until the process ends.
    drop(thread);
    Ok(handle)
}

fn config(kind: Kind) -> Config {
    let gateway = Ipv4Cidr::new(GATEWAY, PREFIX_LEN);
    let node = NodeConfig { gateway4: Some(gateway), ..NodeConfig::default() };
    let pods = PODS.iter().map(|pod| PortConfig {
        id: pod.port,
        kind: PortKind::Pod,
        mac: pod.mac,
        addresses: vec![pod.address.into()],
        allowed: Vec::new(),
        mtu: MTU,
        up: true,
    });
    let subnet = IpCidr::new(gateway.network().address().into(), PREFIX_LEN);
    Config {
        ports: pods.chain([Switch::gateway_port(&node, PortId(0))]).collect(),
        node,
        routes: vec![Route { prefix: subnet, target: RouteTarget::Connected }],
        services: services(kind),
        complete: true,
    }
}

//! What lies between the two pods: thirteen ways, each with namespaces of its own, all of them up
//! during the whole run. A path that is not measured at the moment costs nothing: all of them sleep
//! in the kernel.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::Fallible;
use crate::capture::Capture;
use crate::interrupt::Interrupt;
use crate::netns::{self, Netns, PREFIX, ip};
use crate::role;
use crate::service;

/// One of the ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Two veth pairs on a bridge of the kernel.
    Kernel,
    /// A loop that reads one TAP and writes the other: the ceiling of this design.
    Relay,
    /// The same loop over the packet sockets of two veth pairs: the ceiling for pods that must
    /// keep a veth, which is crossed in a softirq of its own.
    VethRelay,
    /// The same without a virtio-net header, on the crate `tun-tap`: the naive way.
    TunTap,
    /// Hopscope, pods on TAPs.
    HopscopeTap,
    /// Hopscope, pods on veth pairs.
    HopscopeVeth,
    /// Hopscope, pods on TAPs, and nothing is recorded: what the journal costs.
    Unrecorded,
    /// Hopscope, pods on TAPs, with a paced stream to pod a beside every load.
    Paced,
    /// The same while a capture of all hops on pod a takes the stream: what the capture costs.
    Captured,
    /// The kernel routes between two veth pairs and rewrites the address of a Service by nftables.
    KernelDnat,
    /// The same among 30,000 Services, and a rule for each in one chain, as the iptables mode of
    /// kube-proxy has it.
    KernelRules,
    /// Hopscope, pods on TAPs, through the address of a Service whose only backend is pod b.
    HopscopeVip,
    /// The same among 30,000 Services.
    HopscopeVips,
}

impl Kind {
    /// All, in the order of the tables.
    pub(crate) const ALL: [Self; 13] = [
        Self::Kernel,
        Self::Relay,
        Self::VethRelay,
        Self::TunTap,
        Self::HopscopeTap,
        Self::HopscopeVeth,
        Self::Unrecorded,
        Self::Paced,
        Self::Captured,
        Self::KernelDnat,
        Self::KernelRules,
        Self::HopscopeVip,
        Self::HopscopeVips,
    ];

    /// That of a label.
    pub(crate) fn named(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }

    /// For tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel bridge",
            Self::Relay => "bare relay",
            Self::VethRelay => "veth relay",
            Self::TunTap => "tun-tap crate",
            Self::HopscopeTap => "Hopscope TAP",
            Self::HopscopeVeth => "Hopscope veth",
            Self::Unrecorded => "no journal",
            Self::Paced => "paced stream",
            Self::Captured => "captured",
            Self::KernelDnat => "kernel DNAT",
            Self::KernelRules => "30,000 rules",
            Self::HopscopeVip => "Hopscope VIP",
            Self::HopscopeVips => "30,000 VIPs",
        }
    }

    /// For namespaces, arguments and keys; one word.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Relay => "relay",
            Self::VethRelay => "vethrelay",
            Self::TunTap => "tuntap",
            Self::HopscopeTap => "hoptap",
            Self::HopscopeVeth => "hopveth",
            Self::Unrecorded => "hopbare",
            Self::Paced => "hoppaced",
            Self::Captured => "hopcap",
            Self::KernelDnat => "kerneldnat",
            Self::KernelRules => "kernelrules",
            Self::HopscopeVip => "hopvip",
            Self::HopscopeVips => "hopvips",
        }
    }

    /// Whether the paced stream runs beside every load.
    pub(crate) fn is_paced(self) -> bool {
        matches!(self, Self::Paced | Self::Captured)
    }

    /// Whether pod b is asked for at the address of a Service.
    pub(crate) fn has_service(self) -> bool {
        self.is_routed_by_kernel() || matches!(self, Self::HopscopeVip | Self::HopscopeVips)
    }

    /// Whether the kernel is what leads to the Service.
    pub(crate) fn is_routed_by_kernel(self) -> bool {
        matches!(self, Self::KernelDnat | Self::KernelRules)
    }
}

/// The pods' addresses and their subnet's length.
pub(crate) const POD_A: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// See [`POD_A`].
pub(crate) const POD_B: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 3);
/// See [`POD_A`].
pub(crate) const PREFIX_LEN: u8 = 24;
/// Where pods send what is for no pod of their subnet.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Largest IP packet of every interface in bytes.
pub(crate) const MTU: u16 = 1_500;
/// Name of the interface in every pod.
pub(crate) const POD_INTERFACE: &str = "eth0";

/// Two pods and what lies between them. All of it goes when this is dropped, the process first.
#[derive(Debug)]
pub(crate) struct Path {
    kind: Kind,
    switch: Option<Switch>,
    pod_a: Netns,
    pod_b: Netns,
    node: Netns,
}

impl Path {
    /// Makes it and waits until the pods reach each other.
    pub(crate) fn make(kind: Kind, interrupt: &Interrupt) -> Fallible<Self> {
        let netns = |place: &str| Netns::make(&format!("{}-{place}", kind.label()));
        let mut path = Self {
            kind,
            switch: None,
            pod_a: netns("a")?,
            pod_b: netns("b")?,
            node: netns("node")?,
        };
        if kind == Kind::Kernel {
            path.bridge()?;
        } else if kind.is_routed_by_kernel() {
            path.route()?;
        } else {
            path.switch = Some(Switch::start(&path, interrupt)?);
        }
        if matches!(kind, Kind::Kernel | Kind::TunTap) {
            address(&path.pod_a, POD_A, PREFIX_LEN)?;
            address(&path.pod_b, POD_B, PREFIX_LEN)?;
        }
        path.wait_until_reached(interrupt).map_err(|error| format!("{}: {error}", kind.name()))?;
        Ok(path)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The pod that sends.
    pub(crate) fn pod_a(&self) -> &Netns {
        &self.pod_a
    }

    /// The pod that receives.
    pub(crate) fn pod_b(&self) -> &Netns {
        &self.pod_b
    }

    /// Where a server in pod b listens: at the port of the Service's backend, or at any.
    pub(crate) fn server(&self) -> SocketAddrV4 {
        SocketAddrV4::new(POD_B, if self.kind.has_service() { service::TARGET } else { 0 })
    }

    /// Where clients in pod a reach a server that is bound there.
    pub(crate) fn target(&self, bound: SocketAddr) -> SocketAddr {
        if self.kind.has_service() { (service::VIP, service::PORT).into() } else { bound }
    }

    /// The process that moves the frames; where the kernel does, there is none.
    pub(crate) fn switch_pid(&self) -> Option<u32> {
        self.switch.as_ref().map(|switch| switch.child.id())
    }

    /// Starts a capture, if this is the path of captures.
    pub(crate) fn capture(&self) -> Fallible<Option<Capture>> {
        match &self.switch {
            Some(switch) if self.kind == Kind::Captured => {
                Capture::start(&switch.directory).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn bridge(&self) -> Fallible<()> {
        self.node.ip("link add br0 type bridge")?;
        self.node.ip(&format!("link set br0 mtu {MTU} up"))?;
        for (end, pod) in [("to-a", &self.pod_a), ("to-b", &self.pod_b)] {
            self.veth(end, pod)?;
            self.node.ip(&format!("link set {end} mtu {MTU} master br0 up"))?;
        }
        Ok(())
    }

    /// Both pods have an address and no subnet, as most plugins that route wire them: so answers
    /// pass the node too, whose connection tracking must see them.
    fn route(&self) -> Fallible<()> {
        for (end, pod, of) in [("to-a", &self.pod_a, POD_A), ("to-b", &self.pod_b, POD_B)] {
            self.veth(end, pod)?;
            self.node.ip(&format!("address add {GATEWAY}/32 dev {end}"))?;
            self.node.ip(&format!("link set {end} mtu {MTU} up"))?;
            self.node.ip(&format!("route add {of}/32 dev {end}"))?;
            address(pod, of, 32)?;
            pod.ip(&format!("route add default via {GATEWAY} dev {POD_INTERFACE} onlink"))?;
        }
        self.node.within(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
        self.node.nft(&service::rules(self.kind))
    }

    fn veth(&self, end: &str, pod: &Netns) -> Fallible<()> {
        let pod = pod.name();
        self.node.ip(&format!("link add {end} type veth peer name {POD_INTERFACE} netns {pod}"))
    }

    fn wait_until_reached(&self, interrupt: &Interrupt) -> Fallible<()> {
        let server = self.server();
        let listener = self.pod_b.within(|| TcpListener::bind(server))??;
        let target = self.target(listener.local_addr()?);
        let mut last = None;
        for _ in 0..ATTEMPTS {
            interrupt.sleep(Duration::from_millis(20))?;
            let patience = Duration::from_millis(500);
            match self.pod_a.within(|| TcpStream::connect_timeout(&target, patience))? {
                Ok(_connected) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        let why = last.map_or_else(String::new, |error| error.to_string());
        Err(format!("pod b is not reached from pod a: {why}").into())
    }
}

/// Gives a pod what Hopscope's own code gives the pods it wires.
fn address(pod: &Netns, address: Ipv4Addr, prefix_len: u8) -> Fallible<()> {
    pod.ip(&format!("address add {address}/{prefix_len} dev {POD_INTERFACE}"))?;
    pod.ip(&format!("link set {POD_INTERFACE} mtu {MTU} up"))
}

/// Attempts to reach a pod before the path counts as broken.
const ATTEMPTS: usize = 10;

/// A process that moves frames, and the directory it works in.
#[derive(Debug)]
struct Switch {
    child: Child,
    directory: PathBuf,
}

impl Switch {
    fn start(path: &Path, interrupt: &Interrupt) -> Fallible<Self> {
        let name = format!("{PREFIX}{}-{}", std::process::id(), path.kind.label());
        let directory = PathBuf::from(RUN).join(name);
        fs::create_dir(&directory)?;
        let child = Command::new(std::env::current_exe()?)
            .args([role::ARGUMENT, path.kind.label()])
            .args([path.node.path(), path.pod_a.path(), path.pod_b.path(), directory.clone()])
            // It ends when this pipe does, so also when the bench is killed.
            .stdin(Stdio::piped())
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) => {
                fs::remove_dir(&directory)?;
                return Err(error.into());
            }
        };
        let mut switch = Self { child, directory };
        while !switch.directory.join(role::READY).exists() {
            interrupt.sleep(Duration::from_millis(10))?;
            if let Some(status) = switch.child.try_wait()? {
                return Err(format!("{}: its process ended: {status}", path.kind.name()).into());
            }
        }
        Ok(switch)
    }

    fn end(&mut self) -> io::Result<()> {
        drop(self.child.stdin.take());
        for _ in 0..100 {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.child.kill()?;
        self.child.wait().map(|_status| ())
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // What stays is removed by the next run.
        drop(self.end());
        drop(remove_directory(&self.directory));
    }
}

/// Where run directories go.
const RUN: &str = "/run";

/// Removes a run directory, and the namespace of veth ends that Hopscope mounts in it.
fn remove_directory(directory: &std::path::Path) -> io::Result<()> {
    let mounted = directory.join("netns");
    match umount2(&mounted, MntFlags::MNT_DETACH) {
        // Nothing is mounted any more, or never was.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    fs::remove_dir_all(directory)
}

/// Removes what killed runs left behind: namespaces with their interfaces, and directories.
pub(crate) fn sweep() -> Fallible<()> {
    for name in netns::left_behind()? {
        ip(&format!("netns del {name}"))?;
    }
    for entry in fs::read_dir(RUN)? {
        let entry = entry?;
        if netns::is_orphan(&entry.file_name().to_string_lossy()) {
            remove_directory(&entry.path())?;
        }
    }
    Ok(())
}

//! Tests against the real kernel. Every "node" and every "pod" is a namespace of its own, made by
//! the test and gone with it; the machine's own interfaces, routes and rules are never touched.
//! They need root and are skipped, with a word, without it.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use smoltcp::wire::EthernetAddress;
use stack::PortRange;

use super::netlink::Netlink;
use super::netns;
use super::{HostLink, LinkKind, Linux, Netns, NodeError, OwnPort, PodLink, Problem};

mod bed;
mod diverted;
mod host_port;
mod icmp;
mod kept;
mod namespaces;
mod pod_tap;
mod pod_veth;
mod remote;
mod sockets_never_notice;
mod uplinks;

/// A directory and the namespaces mounted in it; both go when it is dropped.
struct Lab {
    dir: PathBuf,
    netns: Vec<PathBuf>,
}

impl Lab {
    /// `None`, and a word about it, when the test cannot be run here.
    fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: network namespaces need root");
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("hopscope-node-{}-{number}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Some(Self { dir, netns: Vec::new() })
    }

    /// A new namespace whose loopback is up.
    fn netns(&mut self, name: &str) -> Place {
        let path = self.dir.join(name);
        netns::make(&path).unwrap();
        self.netns.push(path.clone());
        let place = Place { netns: netns::open(&path, &netns::own().unwrap()).unwrap(), path };
        place.run("ip link set lo up");
        place
    }

    /// A daemon's kernel side on the node `place`. Made anew it is the daemon after a restart.
    fn daemon(&self, place: &Place) -> Linux {
        std::fs::create_dir_all(self.dir.join("run")).unwrap();
        place.within(|| Linux::new(self.dir.join("run")).unwrap())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.netns.push(self.dir.join("run/netns"));
        let mut gone = Ok(());
        for path in &self.netns {
            let removed = netns::remove(path);
            gone = gone.and(removed);
        }
        let dir = std::fs::remove_dir_all(&self.dir);
        // A second panic while a test fails would hide the first.
        if !std::thread::panicking() {
            gone.unwrap();
            dir.unwrap();
        }
    }
}

/// A namespace of a test.
struct Place {
    netns: Netns,
    path: PathBuf,
}

impl Place {
    /// The same once more, for another thread.
    fn again(&self) -> Self {
        let netns = netns::open(&self.path, &netns::own().unwrap()).unwrap();
        Self { netns, path: self.path.clone() }
    }

    /// Does something inside.
    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::within(&self.netns, || Ok(work())).unwrap()
    }

    /// Runs a command of plain words inside and gives back what it printed.
    fn run(&self, command: &str) -> String {
        let (good, said) = self.attempt(command);
        assert!(good, "{command}: {said}");
        said
    }

    /// Runs a command that may fail.
    fn attempt(&self, command: &str) -> (bool, String) {
        let mut words = command.split_whitespace();
        let output =
            self.within(|| Command::new(words.next().unwrap()).args(words).output().unwrap());
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    /// Everything of the namespace that a test may compare: links, addresses, routes, rules,
    /// neighbors, settings.
    fn state(&self) -> Vec<(String, String)> {
        let mut state = Vec::new();
        for command in [
            "ip -o link show",
            "ip -o address show",
            "ip -4 route show table all",
            "ip -6 route show table all",
            "ip -4 rule show",
            "ip -6 rule show",
            "ip neigh show nud permanent",
            "sysctl net.ipv4.ip_forward",
            "sysctl net.ipv4.conf.all.forwarding",
            "sysctl net.ipv6.conf.all.forwarding",
            "sysctl net.ipv4.tcp_early_demux",
            "sysctl net.ipv4.udp_early_demux",
            "sysctl net.ipv4.ip_local_reserved_ports",
        ] {
            state.push((command.to_owned(), self.run(command)));
        }
        state
    }
}

/// A pod's interface as the CNI would ask for it.
fn pod_link(kind: LinkKind, number: u8) -> PodLink {
    PodLink {
        kind,
        ifname: "eth0".to_owned(),
        host_ifname: format!("hopt{number}"),
        mac: EthernetAddress([0x02, 0, 0, 0, 0, number]),
        mtu: 1400,
        addresses: vec![
            format!("10.1.2.{number}/24").parse().unwrap(),
            format!("fd00:1:2::{number}/64").parse().unwrap(),
        ],
        gateways: vec!["10.1.2.1".parse().unwrap(), "fd00:1:2::1".parse().unwrap()],
        routes: vec![
            ("192.0.2.0/24".parse().unwrap(), None),
            ("2001:db8:5::/48".parse().unwrap(), Some("fe80::1".parse().unwrap())),
        ],
    }
}

/// What belongs to the switch of the node's L4 ports.
const NODE_PORTS: PortRange = PortRange { first: 30_000, last: 32_767 };
const SNAT_PORTS: PortRange = PortRange { first: 61_000, last: 65_534 };

fn own_port(address: &str, protocol: u8, port: u16) -> OwnPort {
    OwnPort { address: address.parse().unwrap(), protocol, port }
}

/// The node's own port as the daemon would ask for it.
fn host_link() -> HostLink {
    HostLink {
        ifname: "hop0".to_owned(),
        mac: EthernetAddress([0x02, 0, 0, 0, 1, 1]),
        mtu: 1400,
        gateway_mac: EthernetAddress([0x02, 0x48, 0x4f, 0x50, 0, 1]),
        gateways: vec!["10.1.2.1".parse().unwrap(), "fd00:1:2::1".parse().unwrap()],
        prefixes: vec!["10.1.2.0/24".parse().unwrap(), "fd00:1:2::/64".parse().unwrap()],
        node_addresses: vec!["192.0.2.10".parse().unwrap(), "2001:db8::10".parse().unwrap()],
        diverted: vec![NODE_PORTS, SNAT_PORTS],
        own_ports: vec![own_port("127.0.0.1", 6, 8080)],
    }
}

/// Puts a veth pair between the node's `eth0` (192.0.2.10, 2001:db8::10) and the outside's (.1 and
/// ::1).
fn connect(node: &Place, outside: &Place) {
    let peer = &outside.netns.descriptor;
    node.within(|| Netlink::open().unwrap().add_veth("eth0", "out0", peer.as_fd()).unwrap());
    for (place, name, number) in [(node, "eth0", "10"), (outside, "out0", "1")] {
        place.run(&format!("ip address add 192.0.2.{number}/24 dev {name}"));
        place.run(&format!("ip address add 2001:db8::{number}/64 dev {name} nodad"));
        place.run(&format!("ip link set {name} up"));
    }
    node.run("ip route add default via 192.0.2.1");
    node.run("ip -6 route add default via 2001:db8::1");
}

/// Takes a TAP back that this process just let go of. Other tests start programs, and between fork
/// and exec such a child holds a copy of every descriptor, so the TAP may be busy for a moment.
fn once_free<T>(take: impl Fn() -> Result<T, NodeError>) -> T {
    for _ in 0..200 {
        match take() {
            Err(NodeError::Kernel { source, .. })
                if source.kind() == std::io::ErrorKind::ResourceBusy =>
            {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            taken => return taken.unwrap(),
        }
    }
    panic!("the TAP stays busy")
}

/// The problems' sentences.
fn sentences(problems: Result<Vec<Problem>, NodeError>) -> Vec<String> {
    problems.unwrap().into_iter().map(|problem| problem.0).collect()
}

/// The inode of the namespace a path leads to.
fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap())
}

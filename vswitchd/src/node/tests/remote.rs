//! The node's kernel by the parent process: the same as directly, and ports that outlive a worker.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use smoltcp::wire::EthernetAddress;

use super::{Lab, Place, connect, host_link, inode, pod_link, sentences};
use crate::node::preflight::Wanted;
use crate::node::{HostLink, Kernel, LinkKind, Linux, NodeError, PodLink, Remote};
use crate::port::{Pool, PortIo};
use crate::supervisor::bounds::Bounds;
use crate::supervisor::channel::Channel;
use crate::supervisor::keeper::Keeper;
use crate::supervisor::protocol::{self, Failure, Reply, Request};

fn bounds() -> Bounds {
    Bounds {
        host_port: "hop0".to_owned(),
        uplink: None,
        diverted: [super::NODE_PORTS, super::SNAT_PORTS],
    }
}

/// A worker's way to a parent that runs on a thread of this process.
struct Pair {
    remote: Remote,
    parent: std::thread::JoinHandle<Keeper>,
}

impl Pair {
    fn new(linux: Linux) -> Self {
        Self::with(Keeper::new(linux, bounds()))
    }

    fn with(mut keeper: Keeper) -> Self {
        let (ours, theirs) = Channel::pair().unwrap();
        rustix::io::ioctl_fionbio(&ours, false).unwrap();
        let parent = std::thread::spawn(move || {
            while let Some((reply, descriptors)) = keeper.answer_received(ours.receive().unwrap()) {
                let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                ours.send(&protocol::encode(&reply).unwrap(), &descriptors).unwrap();
            }
            keeper
        });
        Self { remote: Remote::new(theirs), parent }
    }

    /// The worker dies; another one is there.
    fn next_worker(self) -> Self {
        Self::with(self.end())
    }

    fn end(self) -> Keeper {
        drop(self.remote);
        self.parent.join().unwrap()
    }
}

fn link(kind: LinkKind, number: u8) -> PodLink {
    PodLink { host_ifname: format!("hv{number}"), ..pod_link(kind, number) }
}

fn carrier(pod: &Place) -> String {
    pod.run("cat /sys/class/net/eth0/carrier").trim().to_owned()
}

#[test]
fn every_method_does_the_same_as_directly() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, pod, outside) = (lab.netns("node"), lab.netns("pod"), lab.netns("outside"));
    connect(&node, &outside);
    let (direct, pair) = (lab.daemon(&node), Pair::new(lab.daemon(&node)));
    let remote = &pair.remote;
    assert_eq!(remote.uplink(None).unwrap(), direct.uplink(None).unwrap());
    let wanted =
        Wanted { host_ifname: "hop0".to_owned(), prefixes: host_link().prefixes, mtu: 1400 };
    assert_eq!(remote.preflight(&wanted, None).unwrap(), direct.preflight(&wanted, None).unwrap());
    let opened = remote.open_netns(&pod.path).unwrap();
    assert_eq!((opened.inode, &opened.path), (inode(&pod.path), &pod.path));
    for kind in [LinkKind::Tap, LinkKind::Veth] {
        let link = link(kind, 7);
        let before = pod.state();
        let port = remote.wire(&opened, &link).unwrap();
        assert_eq!(sentences(remote.check(&opened, &link)), Vec::<String>::new());
        assert_eq!(sentences(direct.check(&opened, &link)), Vec::<String>::new());
        let twice = remote.wire(&opened, &link).map(drop).unwrap_err();
        assert!(matches!(&twice, NodeError::Exists { what } if what.contains("eth0")), "{twice}");
        pod.run("ip link set eth0 mtu 1300");
        assert_eq!(
            sentences(remote.check(&opened, &link)),
            sentences(direct.check(&opened, &link))
        );
        drop(port);
        remote.unwire(Some(&opened), &link).unwrap();
        remote.unwire(Some(&opened), &link).unwrap();
        assert_eq!(pod.state(), before);
        let gone = remote.take_back(&opened, &link).map(drop).unwrap_err();
        assert_eq!(told(&gone), told(&direct.take_back(&opened, &link).map(drop).unwrap_err()));
    }
    assert_eq!(remote.sweep(&BTreeSet::new()).unwrap(), Vec::<String>::new());
    for path in ["/nowhere", "/proc/self/ns/uts", "/etc/passwd"] {
        let there = remote.open_netns(path.as_ref()).map(drop).unwrap_err();
        let here = direct.open_netns(path.as_ref()).map(drop).unwrap_err();
        assert_eq!(told(&there), told(&here));
    }
    assert_eq!(pair.end().kept(), 0);
}

fn told(error: &NodeError) -> (String, Option<String>) {
    (error.to_string(), std::error::Error::source(error).map(ToString::to_string))
}

/// Frames that wait in a device.
fn waiting(port: &mut Box<dyn PortIo>) -> Vec<Vec<u8>> {
    let mut pool = Pool::new();
    let mut frames = Vec::new();
    while let Some(frame) = port.receive(&mut pool).unwrap() {
        frames.push(frame.bytes().to_vec());
    }
    frames
}

#[test]
fn a_port_outlives_its_worker_with_carrier_and_queue() {
    let Some(mut lab) = Lab::new() else { return };
    let node = lab.netns("node");
    let mut pair = Pair::new(lab.daemon(&node));
    for (kind, name) in [(LinkKind::Tap, "a"), (LinkKind::Veth, "b")] {
        let (pod, link) = (lab.netns(name), link(kind, 7));
        let netns = pair.remote.open_netns(&pod.path).unwrap();
        let mut port = pair.remote.wire(&netns, &link).unwrap();
        waiting(&mut port);
        pod.run("ip neigh add 10.1.2.9 lladdr 02:00:00:00:00:09 dev eth0");
        let socket = pod.within(|| UnixDatagram::unbound().unwrap());
        drop(socket);
        // The worker dies; meanwhile the pod goes on sending.
        drop(port);
        let sender = pod.within(|| std::net::UdpSocket::bind("10.1.2.7:0").unwrap());
        for number in 0..20_u8 {
            sender.send_to(&[number; 32], "10.1.2.9:9").unwrap();
        }
        assert_eq!(carrier(&pod), "1", "{kind:?}");
        pair = pair.next_worker();
        let netns = pair.remote.open_netns(&pod.path).unwrap();
        let mut port = pair.remote.take_back(&netns, &link).unwrap();
        let frames = waiting(&mut port);
        for number in 0..20_u8 {
            let of = |frame: &&Vec<u8>| frame.ends_with(&[number; 32]);
            assert_eq!(frames.iter().filter(of).count(), 1, "{kind:?}: {number}");
        }
        assert_eq!(port.losses().unwrap().frames, 0);
        // Behind the parent's back: what it keeps is no port any more.
        pod.run("ip link del eth0");
        drop(port);
        let gone = pair.remote.take_back(&netns, &link).map(drop).unwrap_err();
        assert!(gone.to_string().contains("take back") || gone.to_string().contains("open"));
        let port = pair.remote.wire(&netns, &link).unwrap();
        drop(port);
        pair.remote.unwire(None, &PodLink { kind: LinkKind::Veth, ..link }).unwrap();
    }
    assert_eq!(pair.end().kept(), 0, "a namespace that is gone keeps no port");
}

#[test]
fn the_nodes_port_is_the_same_one_for_the_next_worker() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, outside) = (lab.netns("node"), lab.netns("outside"));
    connect(&node, &outside);
    let pair = Pair::new(lab.daemon(&node));
    drop(pair.remote.wire_host(&host_link()).unwrap());
    let before = node.state();
    let pair = pair.next_worker();
    let mut port = pair.remote.wire_host(&host_link()).unwrap();
    assert_eq!(node.state(), before);
    assert_eq!(sentences(pair.remote.check_host(&host_link())), Vec::<String>::new());
    assert_eq!(port.device.losses().unwrap().frames, 0);
    pair.remote.unwire_host(&host_link()).unwrap();
    assert_eq!(pair.end().kept(), 0);
}

#[test]
fn copies_of_icmp_packets_wait_for_the_next_worker_and_come_once() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, outside) = (lab.netns("node"), lab.netns("outside"));
    connect(&node, &outside);
    let pair = Pair::new(lab.daemon(&node));
    let mut first = pair.remote.wire_host(&host_link()).unwrap();
    assert_eq!(first.sides.len(), 2);
    let mut pool = Pool::new();
    // An answer to a question of the node's own: its copies are as good as others.
    let ping = |to: &str| drop(node.run(&format!("ping -q -c 1 -W 2 {to}")));
    ping("192.0.2.1");
    assert!(first.sides[0].receive(&mut pool).unwrap().is_some());
    ping("192.0.2.1");
    ping("2001:db8::1");
    drop(first);
    let pair = pair.next_worker();
    ping("192.0.2.1");
    // Another configuration, the same sockets.
    let changed = HostLink { mac: EthernetAddress([2, 0, 0, 0, 1, 7]), ..host_link() };
    let mut next = pair.remote.wire_host(&changed).unwrap();
    for (side, count) in next.sides.iter_mut().zip([2, 1]) {
        for _ in 0..count {
            let frame = side.receive(&mut pool).unwrap().unwrap();
            assert_eq!(frame.bytes()[6..12], changed.mac.0);
        }
        assert!(side.receive(&mut pool).unwrap().is_none());
    }
    let keeper = pair.end();
    assert_eq!((keeper.kept(), keeper.all().count()), (1, 3));
}

fn refusal(reply: Reply) -> String {
    let Reply::Failed(failure) = reply else { panic!("{reply:?}") };
    match failure {
        Failure::Kernel { doing, text, .. } => format!("{doing}: {text}"),
        Failure::Netns { why, .. } | Failure::Setting { why, .. } => why,
        Failure::Exists { what } => what,
    }
}

#[test]
fn a_worker_in_a_strangers_hands_is_refused_without_harm() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, pod) = (lab.netns("node"), lab.netns("pod"));
    let before = (node.state(), pod.state());
    let mut keeper = Keeper::new(lab.daemon(&node), bounds());
    let own: OwnedFd = std::fs::File::open(&node.path).unwrap().into();
    let file: OwnedFd = std::fs::File::open("/etc/passwd").unwrap().into();
    let path = PathBuf::from("/x");
    let wire = |descriptors: Vec<OwnedFd>, keeper: &mut Keeper| {
        let request = Request::Wire { path: path.clone(), link: link(LinkKind::Tap, 7) };
        let (reply, given) = keeper.answer(&protocol::encode(&request).unwrap(), descriptors);
        assert!(given.is_empty());
        refusal(reply)
    };
    // The descriptor is looked at again, whatever open_netns gave.
    assert!(wire(vec![own], &mut keeper).contains("the node's own"));
    assert!(wire(vec![file], &mut keeper).contains("no namespace"));
    assert!(wire(Vec::new(), &mut keeper).contains("descriptors"));
    let two = [&pod.path; 2].map(|path| std::fs::File::open(path).unwrap().into());
    assert!(wire(two.into(), &mut keeper).contains("descriptors"));
    let deep = "[".repeat(100_000);
    let mut draw = 0x9e37_79b9_7f4a_7c15_u64;
    let garbage = (0..2_000).map(|length| {
        let mut bytes = Vec::new();
        for _ in 0..length % 300 {
            draw ^= draw << 13;
            draw ^= draw >> 7;
            draw ^= draw << 17;
            bytes.write_all(&draw.to_le_bytes()[..1]).unwrap();
        }
        bytes
    });
    let odd = [
        deep.as_bytes(),
        b"null",
        b"{}",
        br#"{"wire":{}}"#,
        br#"{"open-netns":{"path":"/x","more":1}}"#,
        br#"{"open-netns":{"path":7}}"#,
        "\u{0}".as_bytes(),
    ];
    for bytes in odd.iter().map(|bytes| bytes.to_vec()).chain(garbage) {
        let (reply, given) = keeper.answer(&bytes, Vec::new());
        assert!(refusal(reply).contains("refuses") && given.is_empty());
    }
    assert_eq!(keeper.kept(), 0);
    assert_eq!((node.state(), pod.state()), before);
    // And an honest one is served after all that.
    let pair = Pair::with(keeper);
    let netns = pair.remote.open_netns(&pod.path).unwrap();
    let link = link(LinkKind::Tap, 7);
    drop(pair.remote.wire(&netns, &link).unwrap());
    std::thread::sleep(Duration::from_millis(1));
    pair.remote.unwire(Some(&netns), &link).unwrap();
}

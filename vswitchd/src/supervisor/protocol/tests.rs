//! Every message there and back, and what is no message.

use std::fmt::Debug;

use stack::PortRange;

use super::*;
use crate::kube::objects::HOST_ROUTES_MAX;
use crate::node::preflight::Outcome;
use crate::node::{LinkKind, OwnPort};
use crate::port::icmp::Copies;
use crate::settings::Given;
use crate::supervisor::channel::MESSAGE_MAX;

fn pod() -> PodLink {
    PodLink {
        kind: LinkKind::Veth,
        ifname: "eth0".to_owned(),
        host_ifname: "hv0123456789abc".to_owned(),
        mac: "02:00:00:00:00:07".parse().unwrap(),
        mtu: 1400,
        addresses: vec!["10.1.2.7/24".parse().unwrap(), "fd00:1:2::7/64".parse().unwrap()],
        gateways: vec!["10.1.2.1".parse().unwrap(), "fd00:1:2::1".parse().unwrap()],
        routes: vec![
            ("10.9.0.0/16".parse().unwrap(), Some("10.1.2.9".parse().unwrap())),
            ("fd00:9::/32".parse().unwrap(), None),
        ],
    }
}

fn host() -> HostLink {
    HostLink {
        ifname: "hop0".to_owned(),
        mac: "02:00:00:00:00:02".parse().unwrap(),
        mtu: 1500,
        gateway_mac: "02:00:00:00:00:01".parse().unwrap(),
        gateways: vec!["10.1.2.1".parse().unwrap()],
        prefixes: vec!["10.1.2.0/24".parse().unwrap()],
        node_addresses: vec!["192.0.2.10".parse().unwrap()],
        diverted: vec![
            PortRange { first: 30_000, last: 32_767 },
            PortRange { first: 61_000, last: 65_534 },
        ],
        own_ports: vec![
            OwnPort { address: "127.0.0.1".parse().unwrap(), protocol: 6, port: 8080 },
            OwnPort { address: "192.0.2.10".parse().unwrap(), protocol: 132, port: 8080 },
        ],
    }
}

fn requests() -> Vec<Request> {
    let (path, link) = (PathBuf::from("/run/netns/a"), pod());
    vec![
        Request::OpenNetns { path: path.clone() },
        Request::Wire { path: path.clone(), link: link.clone() },
        Request::TakeBack { path: path.clone(), link: link.clone() },
        Request::Unwire { path: Some(path.clone()), link: link.clone() },
        Request::Unwire { path: None, link: link.clone() },
        Request::Check { path, link },
        Request::Sweep { keep: BTreeSet::from(["hv1".to_owned(), "hv2".to_owned()]) },
        Request::MayWireHost { link: host() },
        Request::WireHost { link: host() },
        Request::AdjustHost { link: host() },
        Request::CheckHost { link: host() },
        Request::UnwireHost { link: host() },
        Request::Uplink { setting: None },
        Request::Uplink { setting: Some("eth0".to_owned()) },
        Request::Preflight {
            wanted: Wanted { host_ifname: "hop0".to_owned(), prefixes: host().prefixes, mtu: 1400 },
            uplink: Some("eth0".to_owned()),
        },
    ]
}

fn replies() -> Vec<Reply> {
    let uplink = Uplink {
        ifname: "eth0".to_owned(),
        mtu: 1500,
        addresses: vec!["192.0.2.10".parse().unwrap(), "2001:db8::10".parse().unwrap()],
    };
    let check = Check {
        name: "mtu".into(),
        outcome: Outcome::Bad,
        detail: "small".to_owned(),
        mend: Some("set it".to_owned()),
    };
    let copies = Copies { node: host().mac, gateway: host().gateway_mac };
    vec![
        Reply::Netns { inode: u64::MAX },
        Reply::Port(Description::Tap { offloads: 0x6f, index: 3, lost_before: u64::MAX }),
        Reply::Port(Description::Packet { udp_gso: true }),
        Reply::Host {
            device: Description::Tap { offloads: 1, index: 2, lost_before: 3 },
            sides: vec![Description::Icmp { v6: true, copies }],
        },
        Reply::Done,
        Reply::Problems(vec![Problem("eth0 is down".to_owned())]),
        Reply::Swept(vec!["hv1".to_owned()]),
        Reply::Uplink(Some(uplink)),
        Reply::Uplink(None),
        Reply::Checks(vec![check.clone(), Check { mend: None, ..check }]),
        Reply::Failed(Failure::Exists { what: "eth0".to_owned() }),
    ]
}

fn there_and_back<T>(message: &T)
where
    T: Serialize + for<'a> Deserialize<'a> + PartialEq + Debug,
{
    let bytes = encode(message).unwrap();
    assert_eq!(&decode::<T>(&bytes).unwrap(), message);
    // What is cut or goes on is no message.
    for cut in 0..bytes.len() {
        decode::<T>(&bytes[..cut]).unwrap_err();
    }
    decode::<T>(&[bytes.as_slice(), b"x"].concat()).unwrap_err();
}

#[test]
fn every_message_arrives_as_it_was_sent() {
    requests().iter().for_each(there_and_back);
    replies().iter().for_each(there_and_back);
    for report in [Report::Ready, Report::Quiet, Report::Busy, Report::Prepared, Report::Yielded] {
        there_and_back(&report);
    }
    for word in [Word::Stop, Word::Quiet, Word::Resume, Word::Yield { with_state: true }] {
        there_and_back(&word);
    }
    let last = Some("a rule".to_owned());
    let upkeep = Upkeep { mended: 2, last, last_ago_ms: Some(3), wrong: Some("it".to_owned()) };
    there_and_back(&Word::Upkeep(upkeep));
    let given = Given { manifests: Some("/m".into()), ..Given::default() };
    for mtu in [None, Some(crate::settings::Mtu::Bytes(1400))] {
        let given = Given { mtu, uplink: Some("eth0".to_owned()), ..given.clone() };
        let welcome = Welcome {
            settings: given.resolve("n1").unwrap(),
            parent: 7,
            uptime_ms: 8,
            restarts: 9,
            last_end: Some("killed by SIGKILL".to_owned()),
            predecessor: Some(Predecessor { worker: 3, parent: 2, follow: true }),
        };
        there_and_back(&Word::Welcome(Box::new(welcome)));
    }
}

#[test]
fn an_error_says_the_same_on_the_other_side() {
    let kernel = |source| NodeError::Kernel { doing: "cannot make eth0".to_owned(), source };
    let errors = [
        NodeError::Netns { path: "/n".into(), why: "does not exist".to_owned() },
        NodeError::Exists { what: "eth0".to_owned() },
        NodeError::Setting { field: "uplink".into(), why: "there is none".to_owned() },
        kernel(io::Error::from_raw_os_error(libc::ENODEV)),
        kernel(io::Error::new(io::ErrorKind::AlreadyExists, "there is one")),
        kernel(io::Error::new(io::ErrorKind::NotFound, "there is none")),
        kernel(io::Error::other("something else")),
    ];
    for error in errors {
        let told = |error: &NodeError| {
            let source = std::error::Error::source(error).map(ToString::to_string);
            let kernel = match error {
                NodeError::Kernel { source, .. } | NodeError::Unanswered { source } => {
                    Some((source.kind(), source.raw_os_error()))
                }
                NodeError::Netns { .. } | NodeError::Exists { .. } | NodeError::Setting { .. } => {
                    None
                }
            };
            (std::mem::discriminant(error), error.to_string(), source, kernel)
        };
        let before = told(&error);
        let bytes = encode(&Reply::Failed(error.into())).unwrap();
        let Reply::Failed(failure) = decode(&bytes).unwrap() else { panic!() };
        assert_eq!(told(&failure.into()), before);
    }
}

/// The parent's look at a request, with its own settings.
fn look(request: &Request) -> Result<(), String> {
    let given = "manifests: /m\nuplink: eth0\n";
    let settings = Given::parse(given).unwrap().resolve("n1").unwrap();
    crate::supervisor::bounds::Bounds::of(&settings).check(request)
}

/// Ports of pods and of the node's health, at all addresses that a node has.
const OWN_PORTS: usize = 2_048;

fn address6() -> std::net::IpAddr {
    "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff".parse().unwrap()
}

#[test]
fn what_a_worker_asks_for_in_good_faith_is_within_bounds() {
    for request in requests() {
        if request != (Request::Uplink { setting: None }) {
            look(&request).unwrap();
        }
    }
    // As many addresses of Services as the daemon asks for at most, each as long as can be.
    let address = |n: usize| format!("2001:db8:aaaa:bbbb:cccc:dddd:eeee:{n:x}/128");
    let several = (0..HOST_ROUTES_MAX).map(|n| address(0xf000 - n).parse().unwrap());
    // And as many single ports.
    let own = OwnPort { address: address6(), protocol: 132, port: 65_534 };
    let link = HostLink {
        prefixes: several.collect(),
        own_ports: vec![own; OWN_PORTS],
        node_addresses: vec![address6().into()],
        ..host()
    };
    let request = Request::WireHost { link };
    look(&request).unwrap();
    assert!(encode(&request).unwrap().len() < MESSAGE_MAX);
}

#[test]
fn requests_beyond_their_bounds_are_refused_each_for_its_reason() {
    let path = || PathBuf::from("/run/netns/a");
    let wire = |link| Request::Wire { path: path(), link };
    let names = ["", "..", "../../../kernel", "a b", "eth%d", "sixteen-bytes-xx", "a:b", "lo"];
    let mut bad: Vec<Request> =
        names.iter().map(|name| wire(PodLink { ifname: (*name).to_owned(), ..pod() })).collect();
    for name in ["up0", "", "hv/../x"] {
        bad.push(wire(PodLink { host_ifname: name.to_owned(), ..pod() }));
    }
    let many = vec!["10.1.2.7/24".parse().unwrap(); 2000];
    bad.push(wire(PodLink { addresses: many.clone(), ..pod() }));
    bad.push(wire(PodLink { routes: vec![(many[0], None); 2000], ..pod() }));
    bad.push(wire(PodLink { mtu: 0, ..pod() }));
    bad.push(wire(PodLink { mac: "ff:ff:ff:ff:ff:ff".parse().unwrap(), ..pod() }));
    bad.push(Request::OpenNetns { path: "/x".repeat(3000).into() });
    bad.push(Request::Unwire { path: Some("/x".repeat(3000).into()), link: pod() });
    bad.push(Request::Sweep { keep: (0..10_000).map(|n| format!("hv{n}")).collect() });
    bad.push(Request::Sweep { keep: BTreeSet::from(["../x".to_owned()]) });
    let everything: Vec<_> = vec!["0.0.0.0/0".parse().unwrap()];
    for link in [
        HostLink { ifname: "eth0".to_owned(), ..host() },
        HostLink { prefixes: everything.clone(), ..host() },
        HostLink { prefixes: vec![many[0]; 7000], ..host() },
        HostLink { own_ports: vec![host().own_ports[0]; 2_049], ..host() },
        HostLink { diverted: vec![PortRange { first: 1, last: 65_534 }; 2], ..host() },
        HostLink { diverted: vec![], ..host() },
    ] {
        bad.push(Request::WireHost { link: link.clone() });
        bad.push(Request::AdjustHost { link: link.clone() });
        bad.push(Request::MayWireHost { link: link.clone() });
        bad.push(Request::CheckHost { link: link.clone() });
        bad.push(Request::UnwireHost { link });
    }
    for (address, protocol, port) in [
        ("192.0.2.11", 6, 80),
        ("127.0.0.2", 6, 80),
        ("::1", 6, 80),
        ("0.0.0.0", 6, 80),
        ("192.0.2.10", 1, 80),
        ("192.0.2.10", 6, 0),
        ("192.0.2.10", 6, u16::MAX),
    ] {
        let own_ports = vec![OwnPort { address: address.parse().unwrap(), protocol, port }];
        bad.push(Request::AdjustHost { link: HostLink { own_ports, ..host() } });
    }
    bad.push(Request::Uplink { setting: Some("../x".to_owned()) });
    let wanted = Wanted { host_ifname: "eth0".to_owned(), prefixes: Vec::new(), mtu: 1400 };
    bad.push(Request::Preflight { wanted, uplink: Some("eth0".to_owned()) });
    for request in bad {
        let refused = look(&request);
        assert!(refused.is_err(), "{request:?}");
    }
}

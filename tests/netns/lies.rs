//! More of what hostile pods send (SEC-30 to SEC-33, SEC-45, SEC-46): each frame is counted once,
//! for its reason, and bystanders do not notice.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::Duration;

use lab::{NodeSpec, Pod, counters};

use crate::frames::{
    BROADCAST, GATEWAY, Mac, advertisement, arp, ethernet, hex, icmp6, ipv4, ipv6, mac, udp4, udp6,
};
use crate::{KINDS, World};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
const LIAR: &str = "pod/default/liar";

/// What garbage is dropped for: it is the same in every run, its addresses apart.
const GARBAGE: [&str; 7] = [
    "pod/default/liar:ArpInvalid",
    "pod/default/liar:EthertypeUnknown",
    "pod/default/liar:Ipv4ChecksumBad",
    "pod/default/liar:Ipv4HeaderInvalid",
    "pod/default/liar:Ipv6HeaderInvalid",
    "pod/default/liar:SourceIpSpoofed",
    "pod/default/liar:Truncated",
];

type Lie = (&'static str, Vec<u8>);

struct Host {
    mac: Mac,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    link_local: Ipv6Addr,
}

fn host(pod: &Pod) -> Host {
    let own = mac(&pod.mac().unwrap());
    let [a, b, c, d, e, f] = own;
    let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    Host {
        mac: own,
        v4: pod.v4().unwrap(),
        v6: pod.v6().unwrap(),
        link_local: Ipv6Addr::from(link_local),
    }
}

fn send(pod: &Pod, frames: &[Vec<u8>]) {
    // The interface's queue holds some 256 frames, and what is lost there never came.
    for some in frames.chunks(100) {
        let file = pod.owner().fresh_path("frames");
        std::fs::write(&file, hex(some)).unwrap();
        let path = file.to_string_lossy();
        pod.lab(&["raw", "--interface", "eth0", "--frames", &path, "--wait-ms", "30"]).unwrap();
    }
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// A neighbor solicitation with the sender's own MAC as it claims it (RFC 4861 section 4.3).
fn solicit(target: Ipv6Addr, link: Mac) -> Vec<u8> {
    let head = [135, 0, 0, 0, 0, 0, 0, 0];
    [&head[..], &target.octets(), &[1, 1], &link].concat()
}

/// Claims to be a router or a server.
fn servers(own: &Host, other: &Host) -> Vec<Lie> {
    let to = |kind: u16, packet: &[u8]| ethernet(other.mac, own.mac, kind, packet);
    let quoted = udp4(other.v4, v4("198.51.100.1"), 64, b"12345678");
    let redirect4 = [&[5, 1, 0, 0][..], &own.v4.octets(), &quoted[..28]].concat();
    let redirect4 = ipv4(own.v4, other.v4, 64, 1, &redirect4);
    let redirected = v6("2001:db8::99").octets();
    let redirect6 =
        [&[137, 0, 0, 0, 0, 0, 0, 0][..], &own.link_local.octets(), &redirected].concat();
    let redirect6 = icmp6(own.link_local, other.v6, 255, &redirect6);
    let dhcp4 = [0, 67, 0, 68, 0, 12, 0, 0, 1, 2, 3, 4];
    let dhcp4 = ipv4(own.v4, v4("255.255.255.255"), 64, 17, &dhcp4);
    let dhcp6 = [2, 0x23, 2, 0x22, 0, 12, 0xff, 0xff, 1, 2, 3, 4];
    let dhcp6 = ipv6(own.v6, other.v6, 64, 17, &dhcp6);
    vec![
        ("RouterMessageFromPod", to(IPV4, &redirect4)),
        ("RouterMessageFromPod", to(IPV6, &redirect6)),
        ("DhcpServer", ethernet(BROADCAST, own.mac, IPV4, &dhcp4)),
        ("DhcpServer", to(IPV6, &dhcp6)),
    ]
}

/// Claims to be a neighbor, the gateway among them.
fn neighbors(own: &Host, other: &Host) -> Vec<Lie> {
    let (group, group_mac) = (v6("ff02::1"), [0x33, 0x33, 0, 0, 0, 1]);
    let gateway = v4("10.244.1.1");
    let to = |kind: u16, packet: &[u8]| ethernet(other.mac, own.mac, kind, packet);
    let all = |packet: &[u8]| ethernet(BROADCAST, own.mac, ARP, packet);
    let stolen = advertisement(own.v6, group, own.v6, other.mac);
    let asked = |hops, link| icmp6(own.v6, other.v6, hops, &solicit(other.v6, link));
    vec![
        ("NdSpoofed", ethernet(group_mac, own.mac, IPV6, &stolen)),
        ("NdSpoofed", to(IPV6, &asked(255, other.mac))),
        ("NdInvalid", to(IPV6, &asked(64, own.mac))),
        ("ArpSpoofed", all(&arp(1, (own.mac, gateway), ([0; 6], gateway)))),
        ("ArpSpoofed", to(ARP, &arp(2, (own.mac, gateway), (other.mac, other.v4)))),
        ("ArpInvalid", all(&arp(8, (own.mac, own.v4), ([0; 6], other.v4)))),
    ]
}

/// Addresses that cannot be, headers that must not be.
fn headers(own: &Host, other: &Host) -> Vec<Lie> {
    let to = |kind: u16, packet: &[u8]| ethernet(other.mac, own.mac, kind, packet);
    let via = |kind: u16, packet: &[u8]| ethernet(GATEWAY, own.mac, kind, packet);
    let from4 = |src: &str| to(IPV4, &udp4(v4(src), other.v4, 64, b"x"));
    let from6 = |src: &str| to(IPV6, &udp6(v6(src), other.v6, 64, b"x"));
    let good = udp4(own.v4, other.v4, 64, b"x");
    let tag = |kind: u16, id: u16, inner: &[u8]| {
        [&kind.to_be_bytes()[..], &id.to_be_bytes(), inner].concat()
    };
    let plain = [&[8, 0][..], &good].concat();
    let tagged = |tags: &[u8]| [&other.mac[..], &own.mac, tags].concat();
    let routing0 = [&[17, 2, 0, 1, 0, 0, 0, 0][..], &v6("2001:db8::1").octets()].concat();
    let mut overlay = udp4(own.v4, v4("192.0.2.11"), 64, &[0x08, 0, 0, 0, 0, 0, 1, 0]);
    overlay[22..24].copy_from_slice(&4789_u16.to_be_bytes());
    vec![
        ("Martian", from4("127.0.0.1")),
        ("Martian", from4("0.1.2.3")),
        ("Martian", from4("224.0.0.1")),
        ("Martian", from4("255.255.255.255")),
        ("Martian", from4("240.0.0.1")),
        ("Martian", from6("::1")),
        ("Martian", from6("ff02::1")),
        ("SourceIpSpoofed", from6("::")),
        ("SourceIpSpoofed", from4("192.0.2.11")),
        ("SourceIpSpoofed", from4("10.244.1.1")),
        ("SourceIpSpoofed", from6("fe80::1")),
        ("Martian", via(IPV6, &udp6(own.v6, v6("::1"), 64, b"x"))),
        ("Martian", via(IPV4, &udp4(own.v4, v4("127.0.0.53"), 64, b"x"))),
        ("LinkScope", via(IPV6, &udp6(own.v6, v6("fe80::99"), 64, b"x"))),
        ("OverlayFromPod", via(IPV4, &overlay)),
        ("SourceRouted", to(IPV6, &ipv6(own.v6, other.v6, 64, 43, &routing0))),
        ("VlanUnexpected", tagged(&tag(0x8100, 5, &plain))),
        ("VlanUnexpected", tagged(&tag(0x8100, 0, &plain))),
        ("VlanUnexpected", tagged(&tag(0x88a8, 7, &tag(0x8100, 8, &plain)))),
        ("VlanUnexpected", tagged(&tag(0x8100, 1, &tag(0x8100, 2, &tag(0x8100, 3, &plain))))),
        ("VlanUnexpected", tagged(&tag(0x9100, 1, &plain))),
        ("Reflected", ethernet(own.mac, own.mac, IPV4, &good)),
        ("UnknownUnicast", ethernet([0x02, 0x48, 0x4f, 0x50, 0, 2], own.mac, IPV4, &good)),
    ]
}

/// A ping from one bystander to another while the work is done; all of it must be answered.
fn undisturbed(from: &Pod, to: &Pod, work: impl FnOnce()) {
    let mut ping = Command::new("ping");
    ping.args(["-i", "0.02", "-c", "150", "-W", "2", &to.v4().unwrap().to_string()]);
    let ping = from.spawn(ping).unwrap();
    work();
    let said = ping.finish(Duration::from_secs(30)).unwrap().success().unwrap().stdout;
    assert!(said.contains("150 received"), "{said}");
}

fn dropped(world: &World) -> BTreeMap<String, u64> {
    let ports = counters::read(world).unwrap();
    let liar = ports.into_iter().find(|port| port.name == LIAR).unwrap();
    assert_eq!(liar.received, liar.accounted + liar.dropped, "{liar:?}");
    assert!(!liar.drops.contains_key("Bug"), "{liar:?}");
    liar.drops
}

#[test]
fn every_lie_is_counted_once_for_its_reason() {
    for kind in KINDS {
        let world = World::new(kind);
        let [liar, victim, by, stander] = world.pods(["liar", "victim", "by", "stander"]);
        let (own, other) = (host(&liar), host(&victim));
        let lies = [servers(&own, &other), neighbors(&own, &other), headers(&own, &other)].concat();
        let mut wrong = Vec::new();
        undisturbed(&by, &stander, || {
            for (number, (reason, frame)) in lies.iter().enumerate() {
                let before = dropped(&world);
                send(&liar, std::slice::from_ref(frame));
                let mut after = dropped(&world);
                for (name, count) in before {
                    *after.entry(name).or_default() -= count;
                }
                after.retain(|_, count| *count > 0);
                if after != BTreeMap::from([((*reason).to_owned(), 1)]) {
                    wrong.push(format!("{number}: {reason} expected, {after:?}"));
                }
            }
        });
        assert_eq!(wrong, Vec::<String>::new(), "{kind}");
        world.settle(&lies.iter().map(|(reason, _)| *reason).collect::<Vec<_>>());
        let target = victim.v6().unwrap().to_string();
        liar.run("ping", &["-c", "1", "-W", "2", &target]).unwrap();
    }
}

#[test]
fn garbage_of_every_length_is_all_dropped_and_nobody_else_notices() {
    for kind in KINDS {
        let world = World::new(kind);
        let [liar, victim, by, stander] = world.pods(["liar", "victim", "by", "stander"]);
        let (own, other) = (host(&liar), host(&victim));
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut byte = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            state.to_be_bytes()[0]
        };
        // The kernel sends nothing shorter than an Ethernet header, and nothing longer than the
        // MTU.
        let mut frames = Vec::new();
        for length in 14..=1514_usize {
            let mut garbage: Vec<u8> = (14..length).map(|_| byte()).collect();
            // A right version lets the parser look further than the first byte.
            let ethertype = [IPV4, IPV6, ARP, 0x88b5][length % 4];
            if let (Some(first), IPV4 | IPV6) = (garbage.first_mut(), ethertype) {
                *first = if ethertype == IPV4 { 0x45 | (*first & 0x0f) } else { 0x60 };
            }
            frames.push(ethernet(other.mac, own.mac, ethertype, &garbage));
        }
        // Cut anywhere, an honest packet is none.
        let whole = ethernet(other.mac, own.mac, IPV4, &udp4(own.v4, other.v4, 64, &[7; 60]));
        frames.extend((14..whole.len()).map(|length| whole[..length].to_vec()));
        let before: u64 = dropped(&world).values().sum();
        undisturbed(&by, &stander, || send(&liar, &frames));
        let after = dropped(&world);
        let sent = u64::try_from(frames.len()).unwrap();
        assert_eq!(after.values().sum::<u64>() - before, sent, "{kind}: {after:?}");
        world.settle(&GARBAGE);
        liar.run("ping", &["-c", "1", "-W", "2", &victim.v4().unwrap().to_string()]).unwrap();
        liar.run("ping", &["-c", "1", "-W", "2", &victim.v6().unwrap().to_string()]).unwrap();
    }
}

#[test]
fn a_pod_without_ipv6_sends_none() {
    for kind in KINDS {
        let mut spec = NodeSpec::numbered(1).with("port-kind", kind);
        spec.object.pod_cidrs.truncate(1);
        let mut world = World::prepare(spec);
        world.start().unwrap();
        let [liar, victim] = world.pods(["liar", "victim"]);
        let (own, other) = (mac(&liar.mac().unwrap()), mac(&victim.mac().unwrap()));
        let [a, b, c, d, e, f] = own;
        let link_local =
            Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        let mut router = vec![134, 0, 0, 0, 64, 0, 7, 8];
        router.extend([0; 8]);
        send(
            &liar,
            &[
                ethernet(other, own, IPV6, &udp6(link_local, v6("fe80::1"), 64, b"x")),
                ethernet(other, own, IPV6, &udp6(v6("fd00::7"), v6("fd00::8"), 64, b"x")),
                ethernet(
                    [0x33, 0x33, 0, 0, 0, 1],
                    own,
                    IPV6,
                    &icmp6(link_local, v6("ff02::1"), 255, &router),
                ),
            ],
        );
        let drops = dropped(&world);
        assert_eq!(drops.values().sum::<u64>(), 3, "{kind}: {drops:?}");
        world.settle(&["pod/default/liar:SourceIpSpoofed"]);
        liar.run("ping", &["-c", "1", "-W", "2", &victim.v4().unwrap().to_string()]).unwrap();
    }
}

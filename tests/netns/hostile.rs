//! Pods that lie: every frame is dropped for the right reason, counted, and nothing else happens.

use std::net::{Ipv4Addr, Ipv6Addr};

use lab::pod::lab_serve;
use lab::{Pod, counters};

use crate::frames::{
    BROADCAST, GATEWAY, Mac, advertisement, arp, ethernet, hex, icmp6, mac, udp4, udp6,
};
use crate::{KINDS, World};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;

/// Sends frames from a pod's interface, as they are.
fn send(pod: &Pod, frames: &[Vec<u8>]) {
    let file = pod.owner().fresh_path("frames");
    std::fs::write(&file, hex(frames)).unwrap();
    let path = file.to_string_lossy();
    pod.lab(&["raw", "--interface", "eth0", "--frames", &path, "--wait-ms", "50"]).unwrap();
}

/// The two pods in question: who lies and who is lied to.
struct Cast {
    own: (Mac, Ipv4Addr, Ipv6Addr),
    other: (Mac, Ipv4Addr, Ipv6Addr),
}

fn described(pod: &Pod) -> (Mac, Ipv4Addr, Ipv6Addr) {
    (mac(&pod.mac().unwrap()), pod.v4().unwrap(), pod.v6().unwrap())
}

/// The EUI-64 link-local address of a MAC (RFC 4291 appendix A).
fn own_link_local([a, b, c, d, e, f]: Mac) -> Ipv6Addr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// Lies about layer 2 and the neighbors.
fn lies_below(cast: &Cast) -> Vec<(&'static str, Vec<u8>)> {
    let (mac, v4, v6) = cast.own;
    let (other, other4, other6) = cast.other;
    let good = udp4(v4, other4, 64, b"x");
    let all_nodes: Ipv6Addr = "ff02::1".parse().unwrap();
    let link_local: Ipv6Addr = "fe80::1".parse().unwrap();
    let all_nodes_mac = [0x33, 0x33, 0, 0, 0, 1];
    let mut router = vec![134, 0, 0, 0, 64, 0, 7, 8];
    router.extend([0; 8]);
    let tagged = |inner: &[u8]| [&[0, 5][..], inner].concat();
    let nested =
        tagged(&[&[0x81, 0x00][..], &tagged(&[&[0x08, 0x00][..], &good].concat())].concat());
    vec![
        ("SourceMacSpoofed", ethernet(other, other, IPV4, &good)),
        ("SourceMacMulticast", ethernet(other, BROADCAST, IPV4, &good)),
        ("VlanUnexpected", ethernet(other, mac, 0x8100, &nested)),
        ("EthertypeUnknown", ethernet(other, mac, 0x88cc, &[0; 46])),
        ("UnknownUnicast", ethernet([2, 9, 9, 9, 9, 9], mac, IPV4, &good)),
        ("ReservedGroup", ethernet([1, 0x80, 0xc2, 0, 0, 0], mac, IPV4, &good)),
        ("ArpSpoofed", ethernet(BROADCAST, mac, ARP, &arp(2, (mac, other4), (BROADCAST, other4)))),
        ("ArpSpoofed", ethernet(BROADCAST, mac, ARP, &arp(1, (other, v4), ([0; 6], other4)))),
        (
            "NdSpoofed",
            ethernet(all_nodes_mac, mac, IPV6, &advertisement(v6, all_nodes, other6, mac)),
        ),
        (
            "RouterMessageFromPod",
            ethernet(
                all_nodes_mac,
                mac,
                IPV6,
                &icmp6(own_link_local(mac), all_nodes, 255, &router),
            ),
        ),
        (
            "SourceIpSpoofed",
            ethernet(other, mac, IPV6, &udp6(link_local, other6, 64, b"not its own")),
        ),
    ]
}

/// Lies about layer 3.
fn lies_above(cast: &Cast) -> Vec<(&'static str, Vec<u8>)> {
    let (mac, v4, v6) = cast.own;
    let (other, other4, other6) = cast.other;
    let stranger4: Ipv4Addr = "10.244.1.200".parse().unwrap();
    let stranger6: Ipv6Addr = "fd00:10:244:1::200".parse().unwrap();
    let routed =
        |dst: &str| ethernet(GATEWAY, mac, IPV4, &udp4(v4, dst.parse().unwrap(), 64, b"x"));
    let mut bad_sum = udp4(v4, other4, 64, b"x");
    bad_sum[10] ^= 0xff;
    let mut short = udp6(v6, other6, 64, b"x");
    short.truncate(30);
    vec![
        ("SourceIpSpoofed", ethernet(other, mac, IPV4, &udp4(stranger4, other4, 64, b"x"))),
        ("SourceIpSpoofed", ethernet(other, mac, IPV6, &udp6(stranger6, other6, 64, b"x"))),
        ("Martian", routed("127.0.0.1")),
        ("Martian", routed("0.0.0.0")),
        ("Martian", routed("240.0.0.1")),
        ("GroupRouted", routed("224.0.0.5")),
        ("Ipv4ChecksumBad", ethernet(other, mac, IPV4, &bad_sum)),
        ("Truncated", ethernet(other, mac, IPV6, &short)),
    ]
}

#[test]
fn every_lie_is_dropped_for_its_own_reason() {
    for kind in KINDS {
        let world = World::new(kind);
        let [liar, victim] = world.pods(["liar", "victim"]);
        let cast = Cast { own: described(&liar), other: described(&victim) };
        let before = counters::read(&world).unwrap();
        let lies = [lies_below(&cast), lies_above(&cast)].concat();
        for (_, frame) in &lies {
            send(&liar, std::slice::from_ref(frame));
        }
        let reasons: Vec<&str> = lies.iter().map(|(reason, _)| *reason).collect();
        let after = world.settle(&reasons);
        for reason in &reasons {
            let meant = reasons.iter().filter(|other| *other == reason).count();
            let counted = counters::drops(&after, "pod/default/liar", reason)
                - counters::drops(&before, "pod/default/liar", reason);
            assert_eq!(counted, u64::try_from(meant).unwrap(), "{kind}: {reason}: {after:#?}");
        }
        // The liar's honest traffic still passes.
        let target = victim.v4().unwrap().to_string();
        liar.run("ping", &["-c", "1", "-W", "2", &target]).unwrap();
    }
}

#[test]
fn a_veth_pod_reaches_no_socket_of_the_node_but_through_the_switch() {
    let world = World::new("veth");
    let [liar] = world.pods(["liar"]);
    let (own, v4, v6) = described(&liar);
    let node4: Ipv4Addr = "192.0.2.11".parse().unwrap();
    let node6: Ipv6Addr = "2001:db8::11".parse().unwrap();
    let server = lab_serve(&world.netns, &["udp-echo", "--listen", "[::]:33333"]).unwrap();
    let text = world.netns.ip(&["-json", "link", "show"]).unwrap();
    let mut links: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    // The daemon keeps the host's end in a namespace of its own.
    let hidden = format!("--net={}", world.run_dir().join("netns").display());
    let there = world.netns.run("nsenter", &[&hidden, "ip", "-json", "link", "show"]).unwrap();
    links.extend(serde_json::from_str::<Vec<serde_json::Value>>(&there.stdout).unwrap());
    // Every interface of the node is tried as the destination: the host's end of the veth is among
    // them.
    let macs: Vec<Mac> = links.iter().map(|link| mac(link["address"].as_str().unwrap())).collect();
    assert!(macs.len() >= 4, "lo, up0, hop0, and the host's end: {text} {}", there.stdout);
    let frames: Vec<Vec<u8>> = macs
        .iter()
        .chain([&BROADCAST])
        .flat_map(|dst| {
            [
                ethernet(*dst, own, IPV4, &udp4(v4, node4, 64, b"sneaked")),
                ethernet(*dst, own, IPV6, &udp6(v6, node6, 64, b"sneaked")),
                ethernet(*dst, own, IPV6, &udp6(v6, "ff02::1".parse().unwrap(), 64, b"sneaked")),
            ]
        })
        .collect();
    send(&liar, &frames);
    assert_eq!(server.output().stdout, "ready\n", "nobody reached the socket");
    // By the gateway's MAC, which is the switch, it does arrive: the server works.
    send(&liar, &[ethernet(GATEWAY, own, IPV4, &udp4(v4, node4, 64, b"by the door"))]);
    let peer = format!("ready\npeer {v4}\n");
    assert_eq!(server.output().stdout, peer);
    world.settle(&["pod/default/liar:UnknownUnicast"]);
}

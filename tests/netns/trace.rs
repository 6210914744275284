//! `hopctl trace` predicts, hop by hop, what a capture of the real packet then shows: every party,
//! protocol and family, and every way to get no further.
//!
//! Hop limits and sizes are asked for where errors are compared with the kernel's. No desired state
//! of this version makes a blackhole: that end of a walk is compared in goldens and in the tests of
//! the core.

use std::net::IpAddr;

use lab::{NodeSpec, Pod};

use crate::foretell::{BY_HAND, How, Question, Sender, fails, passes};
use crate::frames::{GATEWAY, Mac, ethernet, mac, udp4, udp6};
use crate::{KINDS, World};

const ALL: [How; 3] = [How::Icmp, How::Tcp(80), How::Udp(53)];
/// The MAC of `hop0`.
const HOST: Mac = [0x02, 0x48, 0x4f, 0x50, 0x00, 0x02];

/// Addresses of one family: gateway, a pod that is not there, the outside.
struct Family {
    six: bool,
    gateway: &'static str,
    absent: &'static str,
    outside: &'static str,
    /// What the switch answers to who is routed to a pod that is not there.
    no_host: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        six: false,
        gateway: "10.244.1.1",
        absent: "10.244.1.99",
        outside: "192.0.2.1",
        no_host: "ICMP type 3 code 1",
    },
    Family {
        six: true,
        gateway: "fd00:10:244:1::1",
        absent: "fd00:10:244:1::99",
        outside: "2001:db8::1",
        no_host: "ICMP type 1 code 3",
    },
];

/// Who can be asked about.
struct Cast<'a> {
    a: Sender<'a>,
    b: Sender<'a>,
    node: Sender<'a>,
    outside: Sender<'a>,
}

/// From everybody to everybody who is there, and to who is not.
fn everybody<'a>(cast: &Cast<'a>, family: &Family) -> Vec<Question<'a>> {
    let Family { six, gateway, absent, outside, no_host } = *family;
    let mut questions = Vec::new();
    for how in ALL {
        let how = (how, six);
        questions.extend([
            passes(cast.a, "default/b", how, "forward to pod/default/b"),
            passes(cast.b, "default/a", how, "forward to pod/default/a"),
            passes(cast.a, "node", how, "via host"),
            passes(cast.a, outside, how, "via host"),
            passes(cast.node, "default/a", how, "is attached: pod/default/a"),
            passes(cast.outside, "default/b", how, "is attached: pod/default/b"),
            fails(cast.a, absent, how, "drop NeighborUnknown"),
            fails(cast.node, absent, how, no_host),
            fails(cast.outside, absent, how, no_host),
        ]);
        questions.push(match how.0 {
            How::Icmp => passes(cast.a, gateway, how, "echo reply of the gateway"),
            How::Tcp(_) | How::Udp(_) => passes(cast.a, gateway, how, "deliver to endpoint 0"),
        });
    }
    // Only nodes speak to a node's overlay port.
    questions.push(fails(cast.a, "node", (How::Udp(4789), six), "drop OverlayFromPod"));
    questions
}

#[test]
fn a_trace_tells_what_the_packet_then_does() {
    for kind in KINDS {
        let world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let lan = &world.lan().netns;
        lan.ip(&["route", "add", "10.244.1.0/24", "via", "192.0.2.11"]).unwrap();
        lan.ip(&["route", "add", "fd00:10:244:1::/64", "via", "2001:db8::11"]).unwrap();
        for family in &FAMILIES {
            let cast = Cast {
                a: ("default/a", &a),
                b: ("default/b", &b),
                node: ("node", &world.netns),
                outside: (family.outside, lan),
            };
            world.foretell(&everybody(&cast, family));
        }
        world.settle(&[
            "pod/default/a:NeighborUnknown",
            "host:NeighborFailed",
            "pod/default/a:OverlayFromPod",
        ]);
    }
}

/// The link-local address of a pod, made of its MAC (RFC 4291 appendix A).
fn link_local(pod: &Pod) -> IpAddr {
    let [a, b, c, d, e, f] = mac(&pod.mac().unwrap());
    IpAddr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

#[test]
fn a_trace_knows_groups_and_what_belongs_to_no_host() {
    for kind in KINDS {
        let world = World::new(kind);
        let [a, b, _c] = world.pods(["a", "b", "c"]);
        let own = link_local(&a).to_string();
        let (four, six) = ((How::Icmp, false), (How::Icmp, true));
        let (from, near) = (("default/a", &*a), (&*own, &*a));
        let node = ("node", &world.netns);
        let by_hand = udp4("192.0.2.11".parse().unwrap(), "224.0.0.9".parse().unwrap(), 1, TRACE);
        let group = [0x01, 0, 0x5e, 0, 0, 9];
        world.foretell(&[
            passes(from, "255.255.255.255", four, "flood to 2 ports"),
            passes(from, "224.0.0.1", four, "flood to 2 ports"),
            passes(near, "ff02::1", six, "flood to 2 ports"),
            passes(near, link_local(&b), six, "forward to pod/default/b"),
            passes(near, "fe80::48:4fff:fe50:1", six, "echo reply of the gateway"),
            fails(near, "fe80::99", six, "drop NeighborUnknown"),
            fails(from, "240.0.0.1", four, "drop Martian"),
            passes(from, "169.254.7.7", four, "forward to host"),
            fails(node, "224.0.0.9", (BY_HAND, false), "drop GroupRouted")
                .sent_as("hop0", ethernet(group, HOST, 0x0800, &by_hand)),
        ]);
        world.settle(&["NeighborUnknown", "Martian"]);
    }
}

/// What a trace puts into its datagrams.
const TRACE: &[u8] = b"hopctl trace";

#[test]
fn a_trace_finds_no_route_in_a_family_without_pods() {
    let mut spec = NodeSpec::numbered(1);
    spec.object.pod_cidrs.truncate(1);
    let mut world = World::prepare(spec);
    world.start().unwrap();
    let (source, nobody) = ("2001:db8::1", "2001:db8::99");
    let packet = udp6(source.parse().unwrap(), nobody.parse().unwrap(), 64, TRACE);
    world.foretell(&[fails(
        (source, &world.netns),
        nobody,
        (BY_HAND, true),
        "no route to the destination: ICMP type 1 code 0",
    )
    .sent_as("hop0", ethernet(GATEWAY, HOST, 0x86dd, &packet))]);
    world.settle(&[]);
}

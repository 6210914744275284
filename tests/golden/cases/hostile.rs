//! Pods that lie, and frames that make no sense.

use smoltcp::wire::{NdiscNeighborFlags, NdiscRepr, NdiscRouterFlags};
use stack::config::link_local;

use super::*;

pub(super) const CASES: &[Input] = &[
    ("spoofed_frames_are_dropped_with_their_reasons", spoofed),
    ("router_messages_and_tags_from_pods_are_dropped", routers),
    ("truncated_frames_and_garbage_are_dropped", garbage),
];

fn spoofed() -> Vec<Seen> {
    let all = EthernetAddress::BROADCAST;
    let udp = |link: Link, src| link.ipv4(src, v4(3)).udp(9, 9, b"lie");
    let group = Link { src: EthernetAddress([1, 0, 0, 0, 0, 9]), dst: mac(3) };
    let advert = |target, link| {
        let flags = NdiscNeighborFlags::OVERRIDE;
        from(2, mac(3)).neighbor_advert(v6(2), v6(3), target, link, flags)
    };
    script([
        (A, udp(from(3, mac(3)), v4(2))),
        (A, udp(group, v4(2))),
        (A, udp(from(2, mac(3)), v4(4))),
        (A, udp(from(2, mac(3)), Ipv4Address::LOCALHOST)),
        (A, from(2, mac(3)).ipv6(v6(4), v6(3)).udp(9, 9, b"lie")),
        (A, from(2, all).arp(true, (mac(2), v4(3)), (NOBODY, v4(4)))),
        (A, from(2, mac(3)).arp(false, (mac(2), v4(1)), (mac(3), v4(3)))),
        (A, advert(v6(1), mac(2))),
        (A, advert(v6(2), mac(9))),
        (A, from(2, mac(3)).ipv4(v4(2), v4(3)).udp(67, 68, b"offer")),
        (A, to_gateway(2).ipv4(v4(2), NODE4).udp(40_000, 4_789, b"vxlan")),
        (PortId(1), udp(to_gateway(2), v4(2))),
    ])
}

fn routers() -> Vec<Seen> {
    let advert = NdiscRepr::RouterAdvert {
        hop_limit: 64,
        flags: NdiscRouterFlags::empty(),
        router_lifetime: smoltcp::time::Duration::from_secs(1_800),
        reachable_time: smoltcp::time::Duration::ZERO,
        retrans_time: smoltcp::time::Duration::ZERO,
        lladdr: Some(mac(2).into()),
        mtu: None,
        prefix_info: None,
    };
    let own = link_local(mac(2));
    let all_nodes = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let group = from(2, EthernetAddress([0x33, 0x33, 0, 0, 0, 1]));
    let inner = from(2, mac(3)).ipv4(v4(2), v4(3)).udp(9, 9, b"tagged");
    let tagged = |tags: &[u8]| {
        let mut frame = inner.clone();
        frame.splice(12..12, tags.iter().copied());
        frame
    };
    script([
        (A, group.nd(own, all_nodes, advert)),
        (A, from(2, mac(3)).ipv4(v4(2), v4(3)).icmp(5, 1, [10, 244, 1, 2], &inner[14..])),
        (A, tagged(&[0x81, 0, 0, 5])),
        (A, tagged(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6])),
        (A, from(2, EthernetAddress([1, 0x80, 0xc2, 0, 0, 0])).raw(0x88cc, &[0; 46])),
        (A, from(2, mac(3)).raw(0x88b5, &[0; 46])),
    ])
}

fn garbage() -> Vec<Seen> {
    let whole =
        from(2, mac(3)).ipv4(v4(2), v4(3)).options(&[7, 7, 4, 0, 0, 0, 0]).udp(9, 9, b"cut");
    let six = from(2, mac(3)).ipv6(v6(2), v6(3)).udp(9, 9, b"cut");
    let cut = |frame: &[u8], at: usize| (A, frame[..at].to_vec());
    let mut wrong = whole.clone();
    wrong[24] ^= 0xff;
    let mut frames: Vec<_> = [0, 13, 14, 33, 41, 48].map(|at| cut(&whole, at)).into();
    frames.extend([20, 53, 60].map(|at| cut(&six, at)));
    frames.push((A, wrong));
    frames.push((A, vec![0xff; 64]));
    script(frames)
}

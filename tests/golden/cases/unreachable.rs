//! Packets that get no further, and what their senders are told.

use stack::config::link_local;

use super::*;

pub(super) const CASES: &[Input] = &[
    ("a_traceroute_shows_the_gateway_and_goes_on", traceroute),
    ("too_big_over_ipv4_tells_the_mtu", too_big4),
    ("too_big_over_ipv6_tells_the_mtu", too_big6),
    ("the_unreachable_is_told_with_the_right_code", unreachable),
];

const NOWHERE: Ipv4Address = Ipv4Address::new(203, 0, 113, 9);

fn traceroute() -> Vec<Seen> {
    let four = |hops, l4_port| {
        to_gateway(2).ipv4(v4(2), OUTSIDE4).hop_limit(hops).udp(40_000, l4_port, &[0; 32])
    };
    let six = |hops, l4_port| {
        to_gateway(2).ipv6(v6(2), OUTSIDE6).hop_limit(hops).udp(40_000, l4_port, &[0; 32])
    };
    let probes = (1..4).flat_map(|hops: u8| {
        let l4_port = 33_433 + u16::from(hops);
        [(A, four(hops, l4_port)), (A, six(hops, l4_port))]
    });
    script(probes)
}

/// Routed to a smaller MTU is told; bridged to one is only dropped; what just fits goes on.
fn too_big4() -> Vec<Seen> {
    let data = |len: usize| vec![0x11; len];
    script([
        (C, to_gateway(4).ipv4(v4(4), OUTSIDE4).udp(9, 9, &data(1_473))),
        (C, to_gateway(4).ipv4(v4(4), OUTSIDE4).udp(9, 9, &data(1_472))),
        (C, from(4, mac(3)).ipv4(v4(4), v4(3)).udp(9, 9, &data(1_473))),
        (C, from(4, mac(3)).ipv4(v4(4), v4(3)).udp(9, 9, &data(1_472))),
    ])
}

fn too_big6() -> Vec<Seen> {
    let data = |len: usize| vec![0x66; len];
    script([
        (C, to_gateway(4).ipv6(v6(4), OUTSIDE6).udp(9, 9, &data(1_453))),
        (C, to_gateway(4).ipv6(v6(4), OUTSIDE6).udp(9, 9, &data(1_452))),
        (C, from(4, mac(3)).ipv6(v6(4), v6(3)).udp(9, 9, &data(1_453))),
        (C, from(4, mac(3)).ipv6(v6(4), v6(3)).udp(9, 9, &data(1_452))),
    ])
}

fn unreachable() -> Vec<Seen> {
    let quoted = from(3, mac(2)).ipv4(OUTSIDE4, v4(2)).udp(1, 2, b"");
    let four = |dst| to_gateway(2).ipv4(v4(2), dst);
    script([
        (A, four(v4(77)).udp(40_000, 9, b"nobody home")),
        (A, to_gateway(2).ipv6(v6(2), v6(77)).udp(40_000, 9, b"nobody home")),
        (A, four(NOWHERE).udp(40_000, 9, b"blackhole")),
        // From beyond its source's scope nobody could answer.
        (A, to_gateway(2).ipv6(link_local(mac(2)), OUTSIDE6).udp(40_000, 9, b"scope")),
        // About an error, a later fragment, a group and a link-local address nothing is said.
        (A, four(NOWHERE).icmp(3, 3, [0; 4], &quoted[14..])),
        (A, four(NOWHERE).fragment(5, 64, false).upper(17.into(), &[0; 32])),
        (A, four(Ipv4Address::new(224, 0, 0, 9)).udp(40_000, 9, b"group")),
        (A, to_gateway(2).ipv6(v6(2), link_local(mac(77))).udp(40_000, 9, b"link")),
        // Of IPv4 they are routed: the node serves there.
        (A, four(Ipv4Address::new(169, 254, 20, 10)).udp(40_000, 53, b"link")),
    ])
}

/// Six probes of absent neighbors at once where three errors are allowed; another pod has its own
/// share.
pub(super) fn scan() -> Vec<Seen> {
    let probe = |n: u8, target| to_gateway(n).ipv4(v4(n), v4(target)).udp(40_000, 9, b"probe");
    let mut frames: Vec<_> = (100..106).map(|target| (A, probe(2, target))).collect();
    frames.push((B, probe(3, 100)));
    script(frames)
}

//! Conversations that work: bridged, routed, to the gateway, in super-frames.

use stack::wire::build::{Ip, flags};
use stack::wire::checksum;
use stack::{Checksum, Gso, GsoKind};

use super::*;

pub(super) const CASES: &[Input] = &[
    ("pods_talk_tcp_across_the_bridge_over_ipv4", bridged4),
    ("pods_talk_tcp_across_the_bridge_over_ipv6", bridged6),
    ("a_pod_pings_the_outside_through_the_node", ping_outside),
    ("the_node_and_a_pod_see_true_addresses", node_and_pod),
    ("super_frames_pass_whole", super_frames),
    ("a_large_packet_without_df_is_fragmented_on_the_way_out", fragmented),
    ("the_gateway_echoes_and_refuses_the_rest", gateway),
];

/// A connection of one request and one reply; `there` and `back` begin its packets.
fn conversation(there: impl Fn() -> Ip, back: impl Fn() -> Ip) -> Vec<(PortId, Vec<u8>)> {
    const ACK: u8 = flags::ACK;
    let (request, reply) = (b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0 204 No Content\r\n\r\n");
    let (to, fro) = ((40_000, 80), (80, 40_000));
    vec![
        (A, there().tcp(to, flags::SYN, 100, 0, b"")),
        (B, back().tcp(fro, flags::SYN | ACK, 500, 101, b"")),
        (A, there().tcp(to, ACK, 101, 501, b"")),
        (A, there().tcp(to, flags::PSH | ACK, 101, 501, request)),
        (B, back().tcp(fro, flags::PSH | ACK, 501, 119, reply)),
        (B, back().tcp(fro, flags::FIN | ACK, 527, 119, b"")),
        (A, there().tcp(to, flags::FIN | ACK, 119, 528, b"")),
        (B, back().tcp(fro, ACK, 528, 120, b"")),
    ]
}

fn bridged4() -> Vec<Seen> {
    let there = || from(2, mac(3)).ipv4(v4(2), v4(3));
    script(conversation(there, || from(3, mac(2)).ipv4(v4(3), v4(2))))
}

fn bridged6() -> Vec<Seen> {
    let there = || from(2, mac(3)).ipv6(v6(2), v6(3));
    script(conversation(there, || from(3, mac(2)).ipv6(v6(3), v6(2))))
}

/// The identifiers under which the pod's pings leave: they follow from the seed of choices.
const LEFT_AS: [u16; 2] = [63_578, 62_984];

fn ping_outside() -> Vec<Seen> {
    let [four, six] = LEFT_AS;
    let payload: Vec<u8> = (0..56).collect();
    let outward4 = |seq| to_gateway(2).ipv4(v4(2), OUTSIDE4).echo(true, 7, seq, &payload);
    let inward4 =
        |seq| to_gateway(250).ipv4(OUTSIDE4, NODE4).hop_limit(57).echo(false, four, seq, &payload);
    let outward6 = |seq| to_gateway(2).ipv6(v6(2), OUTSIDE6).echo(true, 8, seq, &payload);
    let inward6 =
        |seq| to_gateway(250).ipv6(OUTSIDE6, NODE6).hop_limit(57).echo(false, six, seq, &payload);
    let pings = (1..3).flat_map(|seq| {
        [(A, outward4(seq)), (NODE, inward4(seq)), (A, outward6(seq)), (NODE, inward6(seq))]
    });
    script(pings)
}

fn node_and_pod() -> Vec<Seen> {
    script([
        (NODE, to_gateway(250).ipv4(NODE4, v4(3)).tcp((50_000, 8_080), flags::SYN, 1, 0, b"")),
        (B, to_gateway(3).ipv4(v4(3), NODE4).tcp((8_080, 50_000), 18, 1, 2, b"")),
        (NODE, to_gateway(250).ipv6(NODE6, v6(3)).udp(50_000, 53, b"query")),
        (B, to_gateway(3).ipv6(v6(3), NODE6).udp(53, 50_000, b"answer")),
    ])
}

/// A TCP super-frame of 3000 bytes payload, its checksum left to the hardware as the kernel leaves
/// it.
fn super_frame(ip: Ip, v6: bool) -> (Vec<u8>, Offload) {
    let payload: Vec<u8> = (0..=255).cycle().take(3_000).collect();
    let mut bytes = ip.tcp((40_000, 5_201), flags::ACK, 1_000, 1, &payload);
    let (kind, size) = if v6 { (GsoKind::Tcp6, 1_440) } else { (GsoKind::Tcp4, 1_460) };
    let start = if v6 { 54 } else { 34 };
    let field = start + 16;
    // What is right for all bytes, without the bytes themselves: the pseudo-header's sum.
    bytes[field..field + 2].fill(0);
    let header = &bytes[if v6 { 22 } else { 26 }..start];
    let len = u32::try_from(bytes.len() - start).unwrap();
    let pseudo = checksum::fold(checksum::sum(header) + 6 + len);
    bytes[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
    let checksum = Checksum::Partial { start: u16::try_from(start).unwrap(), offset: 16 };
    let gso = Some(Gso { kind, size, ecn: false });
    (bytes, Offload { checksum, gso, fragment_mtu: None })
}

fn super_frames() -> Vec<Seen> {
    let frames = [
        super_frame(from(2, mac(3)).ipv4(v4(2), v4(3)), false),
        super_frame(from(2, mac(3)).ipv6(v6(2), v6(3)), true),
        super_frame(to_gateway(2).ipv4(v4(2), OUTSIDE4), false),
        super_frame(to_gateway(2).ipv6(v6(2), OUTSIDE6), true),
    ];
    offloaded(frames.map(|(bytes, offload)| (A, bytes, offload)))
}

fn fragmented() -> Vec<Seen> {
    let datagram = vec![0x5a; 4_000];
    script([(C, to_gateway(4).ipv4(v4(4), OUTSIDE4).may_fragment().udp(9, 9, &datagram))])
}

fn gateway() -> Vec<Seen> {
    let four = || to_gateway(2).ipv4(v4(2), v4(1));
    let six = || to_gateway(2).ipv6(v6(2), v6(1));
    script([
        (A, four().echo(true, 1, 1, b"are you there?")),
        (A, six().echo(true, 1, 1, b"are you there?")),
        (A, four().tcp((40_000, 22), flags::SYN, 77, 0, b"")),
        (A, six().tcp((40_000, 22), flags::SYN, 77, 0, b"")),
        (A, four().udp(40_000, 33_434, b"probe")),
        (A, six().udp(40_000, 33_434, b"probe")),
        (A, four().fragment(9, 0, true).udp(1, 2, &[0; 16])),
    ])
}

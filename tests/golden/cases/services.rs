//! Services and masquerade: who is led where, what the other side sees, and how it comes back.

use stack::wire::build::{Ip, flags};

use super::*;

/// The usual node, and Services on it.
pub(super) const TOPOLOGY: &str = concat!(include_str!("usual.txt"), include_str!("services.txt"));
/// Two Services that lose one of two backends.
pub(super) const ONE_GOES: &str = concat!(include_str!("usual.txt"), include_str!("one_goes.txt"));

pub(super) const CASES: &[Input] = &[
    ("a_service_is_asked_and_answers_over_ipv4", asked4),
    ("a_service_is_asked_and_answers_over_ipv6", asked6),
    ("a_pod_reaches_itself_by_a_service", hairpin),
    ("a_node_port_leads_to_pods_here_and_elsewhere", node_port),
    ("a_local_policy_keeps_the_clients_address", local_policy),
    ("an_error_about_a_masqueraded_packet_finds_its_pod", masqueraded_error),
    ("a_service_without_backends_refuses", refused),
    ("a_client_keeps_its_backend_while_it_is_remembered", remembered),
];

const SYN: u8 = flags::SYN;
const ACK: u8 = flags::ACK;
const REMOTE4: Ipv4Address = Ipv4Address::new(10, 244, 2, 5);
const ROUTER4: Ipv4Address = Ipv4Address::new(192, 0, 2, 1);
const ROUTER6: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// The ports under which connections leave the node: they follow from the seed of choices. Towards
/// pods a connection keeps its port.
const ELSEWHERE: u16 = 64_008;
const UDP_LEFT_AS: [u16; 2] = [61_658, 64_309];

fn vip4(n: u8) -> Ipv4Address {
    Ipv4Address::new(10, 96, 0, n)
}

fn vip6(n: u16) -> Ipv6Address {
    Ipv6Address::new(0xfd00, 0x96, 0, 0, 0, 0, 0, n)
}

/// A connection opens, asks, is answered and closes. The client sends from `there.0` to port
/// `there.2`, the server answers from its port 8080 to whom it saw.
fn conversation(
    there: (PortId, &dyn Fn() -> Ip, u16),
    back: (PortId, &dyn Fn() -> Ip, u16),
) -> Vec<(PortId, Vec<u8>)> {
    let (to, fro) = ((40_000, there.2), (8_080, back.2));
    let say = |flags, seq, ack, bytes: &[u8]| (there.0, there.1().tcp(to, flags, seq, ack, bytes));
    let reply = |flags, seq, ack, bytes: &[u8]| (back.0, back.1().tcp(fro, flags, seq, ack, bytes));
    vec![
        say(SYN, 100, 0, b""),
        reply(SYN | ACK, 500, 101, b""),
        say(ACK, 101, 501, b""),
        say(flags::PSH | ACK, 101, 501, b"GET / HTTP/1.0\r\n\r\n"),
        reply(flags::PSH | ACK, 501, 119, b"HTTP/1.0 204 No Content\r\n\r\n"),
        reply(flags::FIN | ACK, 528, 119, b""),
        say(flags::FIN | ACK, 119, 529, b""),
        reply(ACK, 529, 120, b""),
    ]
}

fn asked4() -> Vec<Seen> {
    let there = || to_gateway(2).ipv4(v4(2), vip4(10));
    let back = || from(3, mac(2)).ipv4(v4(3), v4(2));
    script(conversation((A, &there, 80), (B, &back, 40_000)))
}

fn asked6() -> Vec<Seen> {
    let there = || to_gateway(2).ipv6(v6(2), vip6(0x10));
    let back = || from(3, mac(2)).ipv6(v6(3), v6(2));
    script(conversation((A, &there, 80), (B, &back, 40_000)))
}

/// The pod sees the gateway as its client, or it would answer itself.
fn hairpin() -> Vec<Seen> {
    let there = || to_gateway(2).ipv4(v4(2), vip4(11));
    let back = || to_gateway(2).ipv4(v4(2), v4(1));
    let mut frames = conversation((A, &there, 80), (A, &back, 40_000));
    let there = || to_gateway(2).ipv6(v6(2), vip6(0x11));
    let back = || to_gateway(2).ipv6(v6(2), v6(1));
    frames.extend(conversation((A, &there, 80), (A, &back, 40_000)));
    script(frames)
}

/// By a cluster's policy the client is hidden: from a pod here by the gateway's address, from one
/// elsewhere by the node's.
fn node_port() -> Vec<Seen> {
    let there = || to_gateway(250).ipv4(OUTSIDE4, NODE4);
    let here = || to_gateway(3).ipv4(v4(3), v4(1));
    let elsewhere = || to_gateway(250).ipv4(REMOTE4, NODE4);
    let mut frames = conversation((NODE, &there, 30_080), (B, &here, 40_000));
    frames.extend(conversation((NODE, &there, 30_081), (NODE, &elsewhere, ELSEWHERE)));
    // Nothing of it is a Service's: it is the node's own.
    frames.push((NODE, there().tcp((40_000, 30_099), SYN, 1, 0, b"")));
    script(frames)
}

/// Two connections, both to the one backend here, that sees who asks; where there is none here,
/// nobody is told so.
fn local_policy() -> Vec<Seen> {
    let there = || to_gateway(250).ipv4(OUTSIDE4, NODE4);
    let back = || to_gateway(3).ipv4(v4(3), OUTSIDE4);
    let mut frames = conversation((NODE, &there, 30_082), (B, &back, 40_000));
    frames.push((NODE, there().tcp((40_001, 30_082), SYN, 1, 0, b"")));
    frames.push((NODE, there().tcp((40_002, 30_083), SYN, 1, 0, b"")));
    // The node and pods are led by the cluster's policy.
    frames.push((NODE, to_gateway(250).ipv4(NODE4, vip4(14)).tcp((40_003, 80), SYN, 1, 0, b"")));
    frames.push((A, to_gateway(2).ipv4(v4(2), NODE4).tcp((40_004, 30_083), SYN, 1, 0, b"")));
    script(frames)
}

/// A router on the way says that the hop limit was exceeded, and quotes what it saw.
fn masqueraded_error() -> Vec<Seen> {
    let [four, six] = UDP_LEFT_AS;
    let left4 = from(250, NOBODY).ipv4(NODE4, OUTSIDE4).hop_limit(1);
    let left4 = left4.udp(four, 33_434, b"where are you?");
    let left6 = from(250, NOBODY).ipv6(NODE6, OUTSIDE6).hop_limit(1);
    let left6 = left6.udp(six, 33_434, b"where are you?");
    let router4 = to_gateway(250).ipv4(ROUTER4, NODE4);
    let router6 = to_gateway(250).ipv6(ROUTER6, NODE6);
    let stranger = from(250, NOBODY).ipv4(NODE4, OUTSIDE4).udp(four ^ 1, 33_434, b"who?");
    script([
        (A, to_gateway(2).ipv4(v4(2), OUTSIDE4).udp(40_000, 33_434, b"where are you?")),
        (NODE, router4.icmp(11, 0, [0; 4], &left4[14..])),
        (A, to_gateway(2).ipv6(v6(2), OUTSIDE6).udp(40_000, 33_434, b"where are you?")),
        (NODE, router6.icmp(3, 0, [0; 4], &left6[14..])),
        // About nothing that left here.
        (NODE, to_gateway(250).ipv4(ROUTER4, NODE4).icmp(11, 0, [0; 4], &stranger[14..])),
    ])
}

fn refused() -> Vec<Seen> {
    let four = |n| to_gateway(2).ipv4(v4(2), vip4(n));
    let six = |n| to_gateway(2).ipv6(v6(2), vip6(n));
    script([
        (A, four(15).tcp((40_000, 80), SYN, 77, 0, b"")),
        (A, four(15).udp(40_000, 53, b"query")),
        (A, six(0x15).tcp((40_000, 80), SYN, 77, 0, b"")),
        (A, six(0x15).udp(40_000, 53, b"query")),
        // Ports that the Service has not, and an address that no Service has.
        (A, four(15).tcp((40_000, 81), SYN, 77, 0, b"")),
        (A, four(15).udp(40_000, 54, b"query")),
        (A, four(15).echo(true, 1, 1, b"are you there?")),
        (A, four(99).tcp((40_000, 80), SYN, 77, 0, b"")),
        // Amid a stream that nobody knows.
        (A, four(10).tcp((40_000, 80), ACK, 77, 1, b"x")),
    ])
}

/// By turns the second connection would go to the second backend. What is remembered for 10 ms is
/// forgotten at last, and turns go on where they were.
fn remembered() -> Vec<Seen> {
    let open =
        |n: u8, l4_port| to_gateway(n).ipv4(v4(n), vip4(16)).tcp((l4_port, 80), SYN, 1, 0, b"");
    let mut seen = script([
        (A, open(2, 40_000)),
        (A, open(2, 40_001)),
        (B, open(3, 40_000)),
        (A, open(2, 40_002)),
    ]);
    let mut later = script([(B, open(3, 40_001)), (A, open(2, 40_003)), (A, open(2, 40_004))]);
    for frame in &mut later {
        frame.time = Instant(frame.time.0 + 10_500_000);
    }
    seen.append(&mut later);
    seen
}

/// Of two backends the first goes: its TCP connection stays, its UDP client is led elsewhere.
pub(super) fn goes() -> Vec<Seen> {
    let tcp = |flags, seq, ack, bytes: &[u8]| {
        to_gateway(2).ipv4(v4(2), vip4(10)).tcp((40_000, 80), flags, seq, ack, bytes)
    };
    let udp = || to_gateway(2).ipv4(v4(2), vip4(10)).udp(40_000, 53, b"query");
    let answer = |n: u8| from(n, mac(2)).ipv4(v4(n), v4(2)).udp(53, 40_000, b"answer");
    let accept = from(3, mac(2)).ipv4(v4(3), v4(2)).tcp((8_080, 40_000), SYN | ACK, 500, 101, b"");
    script([
        (A, tcp(SYN, 100, 0, b"")),
        (B, accept),
        (A, udp()),
        (B, answer(3)),
        // Now it is gone.
        (A, tcp(ACK, 101, 501, b"hello")),
        (A, udp()),
        (C, answer(4)),
        (B, answer(3)),
    ])
}

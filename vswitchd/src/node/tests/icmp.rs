//! Copies of ICMP packets to the node, as frames of its port.

use std::time::Duration;

use smoltcp::wire::IpProtocol;
use stack::Frame;
use stack::wire::build::{Ip, Link};

use super::bed::{Bed, PAIRS, address};
use super::host_link;
use crate::port::Pool;

const SOON: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_millis(100);
/// Type and code of each message that there are copies of.
const COPIED: [&[(u8, u8)]; 2] = [
    &[(0, 0), (3, 1), (3, 4), (11, 0), (11, 1), (12, 0)],
    &[(1, 4), (2, 0), (3, 0), (4, 1), (129, 0)],
];

/// The packet as the frame that the switch shall see.
fn copy(bed: &Bed, v6: bool, make: impl Fn(Ip) -> Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let (node, from) = PAIRS[usize::from(v6)];
    let link = Link { src: host_link().mac, dst: host_link().gateway_mac };
    let copy = make(link.ip(address(from), address(node)).unwrap());
    (make(bed.of_outside(from, node)), copy)
}

#[test]
fn replies_and_errors_come_byte_for_byte() {
    let Some(mut bed) = Bed::new() else { return };
    let quoted = [0x45; 60];
    for v6 in [false, true] {
        for (number, (kind, code)) in COPIED[usize::from(v6)].iter().enumerate() {
            let hop_limit = 50 + u8::try_from(number).unwrap();
            let make = |ip: Ip| ip.hop_limit(hop_limit).icmp(*kind, *code, [0, 0, 5, 220], &quoted);
            let (sent, expected) = copy(&bed, v6, make);
            bed.send(&sent);
            assert_eq!(bed.side(v6, SOON).unwrap(), expected, "type {kind}, IPv6: {v6}");
        }
        assert_eq!(bed.side(v6, SILENCE), None);
    }
}

#[test]
fn options_stay_and_the_traffic_class_is_known() {
    let Some(mut bed) = Bed::new() else { return };
    // Record route, of three addresses.
    let route = [7, 15, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (sent, mut expected) = copy(&bed, false, |ip| ip.options(&route).echo(false, 7, 1, b"x"));
    bed.send(&sent);
    let got = bed.side(false, SOON).unwrap();
    // The node has written its own address there, and the header's sum anew.
    expected[14 + 20..][..7].copy_from_slice(&[7, 15, 8, 192, 0, 2, 10]);
    assert_eq!(got[14 + 20..], expected[14 + 20..]);
    assert_eq!(sum(&got[14..14 + 36]), 0xffff);

    let class = |mut bytes: Vec<u8>| {
        (bytes[14], bytes[15]) = (0x6b, 0x80);
        bytes
    };
    let (sent, expected) = copy(&bed, true, |ip| class(ip.echo(false, 7, 1, b"x")));
    bed.send(&sent);
    assert_eq!(bed.side(true, SOON).unwrap(), expected);
    // Extension headers are not told of: the packet is as if there had been none.
    let (_, expected) = copy(&bed, true, |ip| ip.echo(false, 7, 2, b"x"));
    let (sent, _) =
        copy(&bed, true, |ip| ip.extension(IpProtocol::Ipv6Opts, &[]).echo(false, 7, 2, b"x"));
    bed.send(&sent);
    assert_eq!(bed.side(true, SOON).unwrap(), expected);
}

/// The ones' complement sum, 0xffff of what holds its own.
fn sum(bytes: &[u8]) -> u16 {
    stack::wire::checksum::fold(stack::wire::checksum::sum(bytes))
}

#[test]
fn what_came_in_fragments_comes_whole() {
    let Some(mut bed) = Bed::new() else { return };
    let payload: Vec<u8> = (0..9_000_u16).map(|n| n.to_le_bytes()[0]).collect();
    for v6 in [false, true] {
        let (node, from) = PAIRS[usize::from(v6)];
        let whole = bed.of_outside(from, node).echo(false, 7, 1, &payload);
        let (protocol, header) = if v6 { (IpProtocol::Icmpv6, 54) } else { (IpProtocol::Icmp, 34) };
        let message = &whole[header..];
        for (number, part) in message.chunks(1_200).enumerate() {
            let offset = u16::try_from(number * 1_200).unwrap();
            let more = usize::from(offset) + part.len() < message.len();
            let ip = bed.of_outside(from, node).fragment(77, offset, more);
            bed.send(&ip.upper(protocol, part));
        }
        let got = bed.side(v6, SOON).unwrap();
        assert_eq!(got.len(), whole.len());
        assert_eq!(got[header..], whole[header..], "IPv6: {v6}");
        if !v6 {
            assert_eq!(sum(&got[14..34]), 0xffff, "the header's sum");
        }
    }
}

#[test]
fn nothing_else_comes() {
    let Some(mut bed) = Bed::new() else { return };
    bed.node.run("ip address add 192.0.2.77/24 dev eth0");
    bed.node.run("ip address add 2001:db8::77/64 dev eth0 nodad");
    for v6 in [false, true] {
        let (node, from) = PAIRS[usize::from(v6)];
        let other = ["192.0.2.77", "2001:db8::77"][usize::from(v6)];
        let kinds = COPIED[usize::from(v6)].iter().map(|(kind, _)| *kind).collect::<Vec<_>>();
        // The kernel's filter knows 32 types of ICMP; of others there are none in use.
        let known = if v6 { u8::MAX } else { 31 };
        for kind in (0..=known).filter(|kind| !kinds.contains(kind)) {
            bed.send(&bed.of_outside(from, node).icmp(kind, 0, [0; 4], &[0; 20]));
        }
        // To another address of the node.
        bed.send(&bed.of_outside(from, other).echo(false, 7, 2, b"x"));
        // By the switch's own port: it has seen that.
        bed.give(&bed.of_switch(from, node).echo(false, 7, 3, b"x"));
        let pod = ["10.1.2.5", "fd00:1:2::5"][usize::from(v6)];
        bed.give(&bed.of_switch(pod, node).echo(false, 7, 4, b"x"));
        let (sent, expected) = copy(&bed, v6, |ip| ip.echo(false, 7, 5, b"x"));
        bed.send(&sent);
        assert_eq!(bed.side(v6, SOON).unwrap(), expected, "IPv6: {v6}");
        assert_eq!(bed.side(v6, SILENCE), None);
    }
    // And what is said to the node's own processes does not suffer.
    let said = bed.node.run("ping -q -n -c 3 -i 0.01 -W 2 192.0.2.1");
    assert!(said.contains(" 0% packet loss") && !said.contains("duplicates"), "{said}");
}

#[test]
fn what_the_queue_had_no_room_for_is_counted() {
    let Some(mut bed) = Bed::new() else { return };
    for v6 in [false, true] {
        const SENT: u64 = 5_000;
        let (sent, expected) = copy(&bed, v6, |ip| ip.echo(false, 7, 1, &[7; 1_000]));
        for _ in 0..SENT {
            bed.send(&sent);
        }
        let mut came = 0;
        while let Some(got) = bed.side(v6, SILENCE) {
            assert_eq!(got, expected);
            came += 1;
        }
        let side = bed.port.sides.get_mut(usize::from(v6)).unwrap();
        let lost = side.losses().unwrap().frames;
        assert!(came > 100 && lost > 100, "{came} came, {lost} were lost");
        assert_eq!(came + lost, SENT, "IPv6: {v6}");
        assert_eq!(side.losses().unwrap().frames, lost, "asked again");
    }
}

#[test]
fn it_is_only_read_and_goes_to_another_process_in_parts() {
    let Some(mut bed) = Bed::new() else { return };
    for v6 in [false, true] {
        let (sent, expected) = copy(&bed, v6, |ip| ip.echo(false, 7, 1, b"x"));
        bed.send(&sent);
        let mut side = bed.port.sides.remove(0);
        let refused = side.transmit(&mut Frame::from_bytes(&expected)).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EOPNOTSUPP));
        let parts = side.into_parts().unwrap();
        let copied = parts.try_clone().unwrap();
        assert!(!copied.serves("hop0"));
        drop(parts);
        let mut side = copied.open().unwrap();
        let frame = side.receive(&mut Pool::new()).unwrap().unwrap();
        assert_eq!(frame.bytes(), expected, "IPv6: {v6}");
        assert!(side.receive(&mut Pool::new()).unwrap().is_none());
    }
}

#[test]
fn there_is_one_for_each_family_of_the_node() {
    let mut link = host_link();
    link.gateways.remove(0);
    link.prefixes.remove(0);
    let Some(mut bed) = Bed::with(&link) else { return };
    assert_eq!(bed.port.sides.len(), 1);
    let (sent, expected) = copy(&bed, true, |ip| ip.echo(false, 7, 1, b"x"));
    bed.send(&sent);
    assert_eq!(bed.side(false, SOON).unwrap(), expected, "the only one is IPv6's");
}

//! Single cases: both zeros, what has no checksum, lengths, versions, and which sum a packet has.

use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, Ipv4Packet, TcpPacket, UdpPacket};

use super::*;

const NEW: [u8; 16] = [172; 16];
/// Bodies whose checksum smoltcp judges.
const SUMMED: [Body; 4] = [
    Body::Tcp,
    Body::Udp { summed: true },
    Body::Echo { request: true },
    Body::Echo { request: false },
];

fn translated(spec: &Spec, end: End, address: [u8; 16], port: u16) -> Vec<u8> {
    let mut frame = spec.frame(false);
    let edit = spec.edit(&frame, end, address, port);
    apply(frame.window_mut(), &edit);
    frame.bytes().to_vec()
}

/// The checksum of a plain packet that has it `offset` bytes into its upper header.
fn check(spec: &Spec, frame: &[u8], offset: usize) -> u16 {
    word(frame, usize::from(spec.parsed().l4_offset) + offset).unwrap()
}

/// smoltcp's word on the checksums of a plain packet.
fn valid(spec: &Spec, frame: &[u8]) -> bool {
    let addresses = if spec.six { &frame[IP + 8..IP + 40] } else { &frame[IP + 12..IP + 20] };
    let (src, dst) = addresses.split_at(addresses.len() / 2);
    let upper = &frame[usize::from(spec.parsed().l4_offset)..];
    let address = |bytes: &[u8]| -> IpAddress {
        if let Ok(six) = <[u8; 16]>::try_from(bytes) {
            return IpAddress::Ipv6(six.into());
        }
        Ipv4Address::from(<[u8; 4]>::try_from(bytes).unwrap()).into()
    };
    let upper_is_valid = match (&spec.body, address(src), address(dst)) {
        (Body::Tcp, src, dst) => TcpPacket::new_unchecked(upper).verify_checksum(&src, &dst),
        (Body::Udp { .. }, src, dst) => UdpPacket::new_unchecked(upper).verify_checksum(&src, &dst),
        (_, IpAddress::Ipv6(src), IpAddress::Ipv6(dst)) => {
            Icmpv6Packet::new_unchecked(upper).verify_checksum(&src, &dst)
        }
        _ => Icmpv4Packet::new_unchecked(upper).verify_checksum(),
    };
    upper_is_valid && (spec.six || Ipv4Packet::new_checked(&frame[IP..]).unwrap().verify_checksum())
}

#[test]
fn smoltcp_finds_translated_packets_valid_and_damaged_ones_not() {
    for (six, body) in [false, true].into_iter().flat_map(|six| SUMMED.map(|body| (six, body))) {
        let spec = Spec::plain(six, body);
        for end in [End::Source, End::Destination] {
            assert!(valid(&spec, &translated(&spec, end, NEW, 7)), "{spec:?}");
            // What was damaged on its way is not mended.
            let mut damaged = spec.frame(false);
            let last = damaged.len() - 1;
            damaged.bytes_mut()[last] ^= 0x55;
            let edit = spec.edit(&damaged, end, NEW, 7);
            apply(damaged.window_mut(), &edit);
            assert!(!valid(&spec, damaged.bytes()), "{spec:?}");
        }
    }
}

#[test]
fn what_becomes_zero() {
    for (six, body, offset, zero) in [
        (false, Body::Udp { summed: true }, 6, 0xffff),
        (true, Body::Udp { summed: true }, 6, 0xffff),
        (false, Body::Tcp, 16, 0),
        (true, Body::Tcp, 16, 0),
        (false, Body::Echo { request: true }, 2, 0),
        (true, Body::Echo { request: false }, 2, 0),
    ] {
        let spec = Spec::plain(six, body);
        let before = spec.build();
        // The port that adds to the sum what its complement lacks.
        let port = u32::from(spec.ports[0]) + u32::from(check(&spec, &before, offset));
        let mut moved = spec.clone();
        moved.move_end(End::Source, spec.addresses[0], checksum::fold(port));
        let after = translated(&spec, End::Source, spec.addresses[0], moved.ports[0]);
        assert_eq!(check(&spec, &after, offset), zero, "{spec:?}");
        assert_eq!(after, moved.build());
        assert!(valid(&spec, &after));
        assert_eq!(translated(&moved, End::Source, spec.addresses[0], spec.ports[0]), before);
    }
}

#[test]
fn the_other_zero_comes_back_in_its_own_form() {
    let spec = Spec::plain(false, Body::Tcp);
    let before = spec.build();
    let port = u32::from(spec.ports[0]) + u32::from(check(&spec, &before, 16));
    let mut zero = spec.clone();
    zero.ports[0] = checksum::fold(port);
    let mut frame = zero.frame(false);
    let at = usize::from(spec.parsed().l4_offset) + 16;
    // No sender computes it, every receiver takes it.
    frame.bytes_mut()[at..at + 2].copy_from_slice(&[0xff, 0xff]);
    assert!(valid(&zero, frame.bytes()));
    for (ports, expected) in [(spec.ports[0], &before), (zero.ports[0], &zero.build())] {
        let edit = spec.edit(&frame, End::Source, spec.addresses[0], ports);
        apply(frame.window_mut(), &edit);
        assert_eq!(frame.bytes(), expected);
    }
}

#[test]
fn an_echo_of_nothing_but_zeros_has_ones() {
    let zeros = std::vec![0; 400];
    let spec = Spec { payload: zeros, ..Spec::plain(false, Body::Echo { request: false }) };
    let after = translated(&spec, End::Source, NEW, 0);
    assert_eq!(check(&spec, &after, 2), 0xffff);
    assert!(valid(&spec, &after));
    let request = Spec { ports: [0, 0], body: Body::Echo { request: true }, ..spec };
    let mut frame = request.frame(false);
    apply(frame.window_mut(), &Edit::EchoReply { at: 34, partial: false });
    let reply = Spec { body: Body::Echo { request: false }, ..request };
    assert_eq!(frame.bytes(), reply.build());
    assert!(valid(&reply, frame.bytes()));
}

#[test]
fn a_datagram_without_checksum_stays_without() {
    for six in [false, true] {
        let spec = Spec::plain(six, Body::Udp { summed: false });
        for end in [End::Source, End::Destination] {
            let after = translated(&spec, end, NEW, 9);
            assert_eq!(check(&spec, &after, 6), 0);
        }
    }
}

#[test]
fn a_partial_sum_of_zero_is_a_sum() {
    let spec = Spec::plain(false, Body::Udp { summed: true });
    let mut frame = spec.frame(true);
    frame.bytes_mut()[40..42].fill(0);
    let edit = spec.edit(&frame, End::Source, NEW, 9);
    apply(frame.window_mut(), &edit);
    let words = |bytes: [u8; 16]| checksum::sum(&bytes[..4]);
    let expected = checksum::fold(checksum::difference(words(spec.addresses[0]), words(NEW)));
    assert_eq!(check(&spec, frame.bytes(), 6), expected);
}

#[test]
fn the_slow_crc_is_that_of_the_wire() {
    // A common header alone: ports 5000, tag 0.
    assert_eq!(sctp([5_000, 5_000], &[])[8..], [0x06, 0xa9, 0x00, 0xe1]);
    let spec = Spec { payload: Vec::new(), ..Spec::plain(true, Body::Sctp) };
    let spec = Spec { ports: [5_000, 4_999], ..spec };
    let after = translated(&spec, End::Destination, NEW, 5_000);
    assert_eq!(after[54 + 8..], [0x06, 0xa9, 0x00, 0xe1]);
}

#[test]
fn the_crc_of_a_packet_of_any_length() {
    for len in [0, 1, 243, 244, 245, 10_000, 65_400] {
        let spec = Spec { payload: std::vec![0xa5; len], ..Spec::plain(false, Body::Sctp) };
        let mut moved = spec.clone();
        moved.move_end(End::Destination, NEW, 9_899);
        assert_eq!(translated(&spec, End::Destination, NEW, 9_899), moved.build(), "{len}");
    }
}

#[test]
fn the_other_version_and_arp_are_left_alone() {
    for six in [false, true] {
        let (spec, other) = (Spec::plain(six, Body::Tcp), Spec::plain(!six, Body::Tcp));
        let mut frame = spec.frame(false);
        let edit = other.edit(&other.frame(false), End::Source, NEW, 7);
        apply(frame.window_mut(), &edit);
        assert_eq!(frame.bytes(), spec.build());
        let nobody = EthernetAddress::default();
        let (a, b) = (Ipv4Address::new(10, 1, 1, 5), Ipv4Address::new(10, 1, 1, 6));
        let arp = LINK.arp(true, (LINK.src, a), (nobody, b));
        let mut window = arp.clone();
        apply(&mut window, &edit);
        assert_eq!(window, arp);
    }
}

#[test]
fn a_quotation_at_an_odd_place_counts_by_the_words_of_its_message() {
    let inner = Spec::plain(false, Body::Udp { summed: true });
    let spec = Spec::plain(false, Body::Tcp);
    let rest = [&[0x77], &quote(&inner, 99)[..]].concat();
    let mut window = spec.ip().icmp(3, 3, [0; 4], &rest);
    let (icmp, offset, sum) = (34, 43, Sum::Udp { partial: false });
    let rewrite = spec.rewrite(NEW, 7, offset + 20, sum);
    let edit = Edit::QuotedSource(Quotation { icmp, partial: false, offset, rewrite });
    apply(&mut window, &edit);
    let mut moved = inner;
    moved.move_end(End::Source, NEW, 7);
    let rest = [&[0x77], &quote(&moved, 99)[..]].concat();
    assert_eq!(window, spec.ip().icmp(3, 3, [0; 4], &rest));
}

fn with_offload(bytes: &[u8], checksum: Checksum) -> Frame {
    let mut frame = Frame::from_bytes(bytes);
    frame.set_offload(Offload { checksum, ..Offload::default() });
    frame
}

#[test]
fn each_packet_has_its_sum() {
    for partial in [false, true] {
        for (six, body, expected) in [
            (false, Body::Tcp, Sum::Tcp { partial }),
            (true, Body::Tcp, Sum::Tcp { partial }),
            (true, Body::Udp { summed: true }, Sum::Udp { partial }),
            (false, Body::Sctp, Sum::Sctp),
            (false, Body::Echo { request: true }, Sum::Echo { partial }),
            (false, Body::Echo { request: false }, Sum::Echo { partial }),
            (true, Body::Echo { request: true }, Sum::Echo6 { partial }),
            (true, Body::Echo { request: false }, Sum::Echo6 { partial }),
            (true, error(true, 8), Sum::Icmp6 { partial }),
            (false, error(false, 8), Sum::Icmp),
            (false, Body::Unknown, Sum::Nothing),
        ] {
            let spec = Spec::plain(six, body);
            assert_eq!(sum(&spec.parsed(), &spec.frame(partial)), expected, "{spec:?}");
            let first = Spec { place: Place::First, payload: std::vec![0; 80], ..spec };
            if !partial && !matches!(first.body, Body::Error { .. }) {
                assert_eq!(sum(&first.parsed(), &first.frame(false)), expected, "{first:?}");
            }
            let later = Spec { place: Place::Later, ..first };
            assert_eq!(sum(&later.parsed(), &later.frame(false)), Sum::Nothing, "{later:?}");
        }
    }
}

fn error(six: bool, quoted: usize) -> Body {
    Body::Error { inner: Box::new(Spec::plain(six, Body::Tcp)), quoted }
}

#[test]
fn a_partial_checksum_further_in_is_not_the_packets_own() {
    // A tunnel of the pod's own: the outer checksum is complete, whatever the inner one is.
    let spec =
        Spec { payload: std::vec![0; 100], ..Spec::plain(false, Body::Udp { summed: true }) };
    let (bytes, ip) = (spec.build(), spec.parsed());
    for (start, partial) in [(34, true), (34 + 8 + 34, false)] {
        let frame = with_offload(&bytes, Checksum::Partial { start, offset: 6 });
        assert_eq!(sum(&ip, &frame), Sum::Udp { partial });
    }
    assert_eq!(sum(&ip, &with_offload(&bytes, Checksum::Valid)), Sum::Udp { partial: false });
}

#[test]
fn each_quotation_has_its_sum() {
    let partial = false;
    for six in [false, true] {
        let echo = if six { Sum::Echo6 { partial } } else { Sum::Echo { partial } };
        for (body, expected) in [
            (Body::Tcp, Sum::Tcp { partial }),
            (Body::Udp { summed: true }, Sum::Udp { partial }),
            (Body::Sctp, Sum::Sctp),
            (Body::Echo { request: true }, echo),
            (Body::Echo { request: false }, echo),
            (Body::Unknown, Sum::Nothing),
        ] {
            let inner = Spec::plain(six, body);
            for (quoted, expected) in [(8, expected), (3, Sum::Nothing)] {
                let body = Body::Error { inner: Box::new(inner.clone()), quoted };
                let L4::Icmp { quoted: Some(found), .. } = Spec::plain(six, body).parsed().l4
                else {
                    panic!("there is a quotation")
                };
                assert_eq!(quoted_sum(&found), expected, "{inner:?}");
            }
        }
    }
}

//! Laws: any bytes have one answer and a description, and two other parsers read valid frames
//! alike.
#![expect(clippy::disallowed_types, reason = "prop_oneof! shares its arms by Arc; no switch here")]

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use smoltcp::wire::{IpAddress, Ipv4Packet, Ipv6Packet};

use super::*;
use crate::input::{Checksum, Gso, GsoKind};
use crate::pipeline::packet::{Fragment, L4};

/// Reasons that parse may give.
fn is_parses_own(reason: DropReason) -> bool {
    (101..=115).contains(&reason.code())
}

/// What must hold whatever the bytes are; gives the verdict.
fn lawful(window: &[u8], len: usize, offload: &Offload) -> Result<Packet, DropReason> {
    let verdict = parse(window, len, offload);
    let mut line = String::new();
    describe(window, &mut line).unwrap();
    assert!(!line.is_empty() && !line.contains('\n') && !line.starts_with(' '));
    match &verdict {
        Err(reason) => assert!(is_parses_own(*reason), "{reason}"),
        Ok(Packet { inner: Inner::Arp(_), .. }) => assert!(len >= 42),
        Ok(Packet { inner: Inner::Ip(ip), .. }) => {
            let upper = usize::from(ip.l4_offset);
            let end = 14 + usize::try_from(ip.total_len).unwrap();
            assert!(upper <= end && end <= len, "{ip:?}");
            let header = match ip.l4 {
                L4::Tcp { header_len, .. } => usize::from(header_len),
                L4::Sctp { .. } => 12,
                L4::Udp { .. } | L4::Icmp { .. } | L4::Nd(_) => 8,
                L4::Opaque => 0,
            };
            assert!(upper + header <= end && (header == 0 || upper + header <= window.len()));
            if let L4::Icmp { quoted: Some(quoted), .. } = ip.l4 {
                let (begin, upper) = (usize::from(quoted.offset), usize::from(quoted.l4_offset));
                assert!(begin < upper && upper <= end && upper <= window.len());
            }
            assert_eq!(crate::pipeline::parse::destination(window), Some(ip.dst));
        }
    }
    verdict
}

fn windowed(frame: &[u8]) -> &[u8] {
    &frame[..frame.len().min(Frame::WINDOW)]
}

#[test]
fn a_frame_cut_anywhere_has_a_reason() {
    for (line, frame) in corpus() {
        for len in 0..frame.len() {
            let verdict = lawful(&frame[..len], len, &Offload::default());
            assert!(verdict.is_err(), "{len} bytes of {line}");
        }
        assert!(lawful(&frame, frame.len(), &Offload::default()).is_ok(), "{line}");
    }
}

#[test]
fn a_window_shorter_than_promised_is_no_ground_to_fall() {
    for (_, frame) in corpus() {
        for len in 0..frame.len() {
            let verdict = parse(&frame[..len], frame.len(), &Offload::default());
            assert!(verdict.map_or_else(is_parses_own, |_| true));
        }
    }
}

#[test]
fn bytes_behind_the_frame_are_not_read() {
    for (line, frame) in corpus() {
        for len in 0..frame.len() {
            let cut = parse(&frame[..len], len, &Offload::default());
            assert_eq!(parse(&frame, len, &Offload::default()), cut, "{len} bytes of {line}");
        }
    }
}

#[test]
fn padding_alters_nothing() {
    for (line, frame) in corpus() {
        let mut padded = frame.clone();
        padded.resize(frame.len() + 300, 0xee);
        assert_eq!(
            lawful(windowed(&padded), padded.len(), &Offload::default()),
            judge(&frame),
            "{line}"
        );
        assert_eq!(text(&padded), line);
    }
}

#[test]
fn every_bit_may_flip() {
    for (line, frame) in corpus() {
        for bit in 12 * 8..frame.len() * 8 {
            let mut changed = frame.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let verdict = lawful(&changed, changed.len(), &Offload::default());
            if line.starts_with("ipv4") && (IP..IP + 20).contains(&(bit / 8)) {
                assert!(verdict.is_err(), "the header's checksum covers bit {bit} of {line}");
            }
        }
    }
}

#[test]
fn every_ipv4_version_and_header_length_with_every_short_total() {
    let frame = v4().options(&[1; 12]).tcp((1, 2), 0, 0, 0, &[0x50; 8]);
    let mut accepted = 0;
    for first in 0..=u8::MAX {
        for total in 0..=80_u16 {
            let changed = with(frame.clone(), IP, &[first]);
            let changed = mend(with(changed, IP + 2, &total.to_be_bytes()));
            if let Ok(packet) = lawful(&changed, changed.len(), &Offload::default()) {
                let Inner::Ip(ip) = packet.inner else { panic!("{packet:?}") };
                assert_eq!((first >> 4, ip.total_len), (4, u32::from(total)));
                assert_eq!(ip.l4_offset, 14 + u16::from(first & 15) * 4);
                accepted += 1;
            }
        }
    }
    assert!(accepted > 0);
}

#[test]
fn every_ipv6_next_header_with_every_short_payload() {
    let body: Vec<u8> = (0..48).collect();
    for number in 0..=u8::MAX {
        for len in 0..=body.len() {
            let frame = v6().upper(IpProtocol::from(number), &body[..len]);
            let verdict = lawful(&frame, frame.len(), &Offload::default());
            let known = [0, 6, 17, 43, 44, 58, 60, 132].contains(&number);
            assert!(known || verdict.is_ok(), "an unknown protocol may carry anything");
        }
    }
}

fn offloads() -> impl Strategy<Value = Offload> {
    let checksum = prop_oneof![
        Just(Checksum::Complete),
        Just(Checksum::Valid),
        (any::<u16>(), any::<u16>())
            .prop_map(|(start, offset)| Checksum::Partial { start, offset }),
        (0..80_u16, 0..20_u16).prop_map(|(start, offset)| Checksum::Partial { start, offset }),
    ];
    let kind = prop_oneof![Just(GsoKind::Tcp4), Just(GsoKind::Tcp6), Just(GsoKind::Udp)];
    let gso = proptest::option::of((kind, any::<u16>()));
    (checksum, gso).prop_map(|(checksum, gso)| Offload {
        checksum,
        gso: gso.map(|(kind, size)| Gso { kind, size, ecn: false }),
        fragment_mtu: None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes_are_lawful(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        kind in 0..6_usize,
        offload in offloads(),
    ) {
        let mut bytes = bytes;
        // Most garbage is no IP at all; half of it is made to look like some.
        let starts = [(0x08, 0x00, 0x45), (0x86, 0xdd, 0x60), (0x08, 0x06, 0)];
        if let (Some((high, low, first)), Some(place)) = (starts.get(kind), bytes.get_mut(12..15)) {
            place.copy_from_slice(&[*high, *low, *first]);
        }
        let verdict = lawful(windowed(&bytes), bytes.len(), &offload);
        prop_assert!(bytes.len() >= 28 || verdict.is_err());
    }

    #[test]
    fn mutated_frames_are_lawful(
        pick in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
        sum in any::<bool>(),
        offload in offloads(),
    ) {
        let corpus = corpus();
        let mut frame = pick.get(&corpus).1.clone();
        for (at, value) in changes {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len()));
        }
        if sum && frame.len() >= IP + 60 && frame[12..14] == [8, 0] {
            frame = mend(frame);
        }
        let verdict = lawful(windowed(&frame), frame.len(), &offload);
        prop_assert!(frame.len() >= 28 || verdict.is_err());
    }

    #[test]
    fn others_read_valid_frames_alike(
        v6 in any::<bool>(),
        ports in any::<(u16, u16)>(),
        hop_limit in any::<u8>(),
        options in 0..10_usize,
        payload in proptest::collection::vec(any::<u8>(), 0..64),
        tcp in any::<bool>(),
        ends in any::<([u8; 16], [u8; 16])>(),
    ) {
        let frame = valid(v6, ends, hop_limit, options, ports, tcp, &payload);
        let packet = ip(&frame);
        smoltcp_agrees(&frame, &packet)?;
        etherparse_agrees(&frame, &packet)?;
    }
}

fn valid(
    v6: bool,
    (src, dst): ([u8; 16], [u8; 16]),
    hop_limit: u8,
    options: usize,
    ports: (u16, u16),
    tcp: bool,
    payload: &[u8],
) -> Vec<u8> {
    let quarter = |bytes: [u8; 16]| Ipv4Address::new(bytes[0], bytes[1], bytes[2], bytes[3]);
    let ip = if v6 {
        let zeros = std::vec![0; options * 8];
        LINK.ipv6(src.into(), dst.into()).extension(IpProtocol::Ipv6Opts, &zeros)
    } else {
        LINK.ipv4(quarter(src), quarter(dst)).options(&std::vec![1; options * 4])
    };
    let ip = ip.hop_limit(hop_limit);
    if tcp { ip.tcp(ports, flags::ACK, 1, 2, payload) } else { ip.udp(ports.0, ports.1, payload) }
}

fn smoltcp_agrees(frame: &[u8], ip: &Ip) -> Result<(), TestCaseError> {
    if let IpAddress::Ipv4(_) = ip.src {
        let theirs = Ipv4Packet::new_checked(&frame[IP..]).unwrap();
        prop_assert!(theirs.verify_checksum());
        prop_assert_eq!((theirs.src_addr().into(), theirs.dst_addr().into()), (ip.src, ip.dst));
        prop_assert_eq!((theirs.hop_limit(), theirs.next_header()), (ip.hop_limit, ip.protocol));
        prop_assert_eq!(u32::from(theirs.total_len()), ip.total_len);
        prop_assert_eq!(usize::from(theirs.header_len()) + IP, usize::from(ip.l4_offset));
    } else {
        let theirs = Ipv6Packet::new_checked(&frame[IP..]).unwrap();
        prop_assert_eq!((theirs.src_addr().into(), theirs.dst_addr().into()), (ip.src, ip.dst));
        prop_assert_eq!(theirs.hop_limit(), ip.hop_limit);
        prop_assert_eq!(u32::try_from(theirs.total_len()).unwrap(), ip.total_len);
    }
    Ok(())
}

fn etherparse_agrees(frame: &[u8], ip: &Ip) -> Result<(), TestCaseError> {
    let theirs = SlicedPacket::from_ethernet(frame).unwrap();
    let (src, dst, payload): (IpAddress, IpAddress, &[u8]) = match theirs.net.unwrap() {
        NetSlice::Ipv4(net) => {
            let header = net.header();
            (
                Ipv4Address::from(header.source()).into(),
                Ipv4Address::from(header.destination()).into(),
                net.payload().payload,
            )
        }
        NetSlice::Ipv6(net) => {
            let header = net.header();
            (
                Ipv6Address::from(header.source()).into(),
                Ipv6Address::from(header.destination()).into(),
                net.payload().payload,
            )
        }
        NetSlice::Arp(arp) => panic!("{arp:?}"),
    };
    prop_assert_eq!((src, dst), (ip.src, ip.dst));
    prop_assert_eq!(frame.len() - payload.len(), usize::from(ip.l4_offset));
    prop_assert_eq!(ip.fragment, Fragment::Whole);
    match (theirs.transport.unwrap(), ip.l4) {
        (TransportSlice::Tcp(tcp), L4::Tcp { src_port, dst_port, flags, header_len }) => {
            prop_assert_eq!((tcp.source_port(), tcp.destination_port()), (src_port, dst_port));
            prop_assert_eq!(tcp.slice()[13], flags);
            prop_assert_eq!(usize::from(tcp.data_offset()) * 4, usize::from(header_len));
        }
        (TransportSlice::Udp(udp), L4::Udp { src_port, dst_port }) => {
            prop_assert_eq!((udp.source_port(), udp.destination_port()), (src_port, dst_port));
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

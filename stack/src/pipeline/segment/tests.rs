//! What is read of headers, by frames that smoltcp makes and by any bytes.
#![expect(clippy::disallowed_types, reason = "prop_oneof! shares its arms by Arc; no switch here")]

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use smoltcp::wire::{
    EthernetAddress, IpProtocol, Ipv4Address, Ipv6Address, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber,
};

use super::*;
use crate::input::{Frame, Gso, GsoKind, Offload};
use crate::pipeline::packet::Inner;
use crate::pipeline::parse::parse;
use crate::wire::build::flags::{ACK, FIN, PSH, RST, SYN};
use crate::wire::build::{self, Link};

const LINK: Link =
    Link { src: EthernetAddress([2, 0, 0, 0, 0, 1]), dst: EthernetAddress([2, 0, 0, 0, 0, 2]) };
const SCTP: IpProtocol = IpProtocol::Unknown(132);

fn v4() -> build::Ip {
    LINK.ipv4(Ipv4Address::new(10, 1, 1, 5), Ipv4Address::new(10, 1, 1, 6))
}

fn v6() -> build::Ip {
    LINK.ipv6(Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, 5), Ipv6Address::LOCALHOST)
}

fn offloaded(frame: &[u8], offload: &Offload) -> Segment {
    let window = &frame[..frame.len().min(Frame::WINDOW)];
    match parse(window, frame.len(), offload).map(|packet| packet.inner) {
        Ok(Inner::Ip(ip)) => Segment::read(window, &ip),
        other => panic!("no IP packet: {other:?}"),
    }
}

fn read(frame: &[u8]) -> Segment {
    offloaded(frame, &Offload::default())
}

/// A TCP header with these options, padded by zeroes, and a payload.
fn tcp(flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    bytes[4..8].copy_from_slice(&0x0102_0304_u32.to_be_bytes());
    bytes[8..12].copy_from_slice(&0xfffe_fdfc_u32.to_be_bytes());
    bytes[13] = flags;
    bytes[14..16].copy_from_slice(&0xabcd_u16.to_be_bytes());
    bytes.extend(options);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes[12] = u8::try_from(bytes.len() / 4).unwrap() << 4;
    bytes.extend(payload);
    bytes
}

/// What [`tcp`] is without options that count.
fn bare(flags: u8, len: u32) -> Segment {
    Segment::Tcp {
        seq: 0x0102_0304,
        ack: 0xfffe_fdfc,
        window: 0xabcd,
        flags,
        len,
        scale: None,
        sack_permitted: false,
        sacked: None,
    }
}

#[test]
fn a_header_of_either_version() {
    let frames: [fn() -> build::Ip; 3] =
        [v4, v6, || v6().extension(IpProtocol::HopByHop, &[1, 4, 0, 0, 0, 0])];
    for ip in frames {
        for flags in [SYN, ACK | PSH, FIN | ACK, RST, 0, 0xff] {
            let frame = ip().upper(IpProtocol::Tcp, &tcp(flags, &[], &[7; 300]));
            assert_eq!(read(&frame), bare(flags, 300));
        }
    }
    let with_options = v4().options(&[1, 1, 1, 1]);
    let frame = with_options.upper(IpProtocol::Tcp, &tcp(ACK, &[1, 1, 1], &[7; 9]));
    assert_eq!(read(&frame), bare(ACK, 9));
}

#[test]
fn what_pads_a_frame_is_no_payload() {
    let mut frame = v4().upper(IpProtocol::Tcp, &tcp(ACK, &[], &[]));
    frame.resize(60, 0xee);
    assert_eq!(read(&frame), bare(ACK, 0));
}

#[test]
fn a_super_frame_counts_whole() {
    let gso = Some(Gso { kind: GsoKind::Tcp4, size: 1_448, ecn: false });
    let frame = v4().upper(IpProtocol::Tcp, &tcp(ACK, &[], &vec![7; 65_000]));
    assert_eq!(offloaded(&frame, &Offload { gso, ..Offload::default() }), bare(ACK, 65_000));
}

#[test]
fn options_are_read_up_to_what_is_none() {
    let cases: &[(&[u8], Option<u8>, bool)] = &[
        (&[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7], Some(7), true),
        (&[3, 3, 0], Some(0), false),
        (&[3, 3, 15], Some(14), false),
        (&[3, 3, 255, 4, 2], Some(14), true),
        // The end, an option without length, one too short, one too long.
        (&[0, 3, 3, 7, 4, 2], None, false),
        (&[1, 1, 1, 3], None, false),
        (&[9, 1, 3, 3, 7, 4, 2], None, false),
        (&[9, 0, 3, 3, 7], None, false),
        (&[4, 2, 3, 3, 7, 9, 200], Some(7), true),
        // Known kinds of other lengths say nothing.
        (&[3, 4, 7, 7, 4, 3, 0], None, false),
        // Only a timestamp.
        (&[1, 1, 8, 10, 3, 3, 7, 4, 4, 2, 3, 3], None, false),
    ];
    for (options, expected_scale, permitted) in cases {
        let segment = read(&v4().upper(IpProtocol::Tcp, &tcp(SYN, options, &[])));
        let Segment::Tcp { scale, sack_permitted, sacked, .. } = segment else { panic!() };
        assert_eq!((scale, sack_permitted), (*expected_scale, *permitted), "{options:?}");
        assert_eq!(sacked, None);
    }
}

#[test]
fn the_highest_block_counts_if_it_lies_beyond() {
    let ack = 0xfffe_fdfc_u32;
    let sacked = |rights: &[u32]| {
        let mut options = vec![1, 1, 5, u8::try_from(2 + 8 * rights.len()).unwrap()];
        for right in rights {
            options.extend(right.wrapping_sub(100).to_be_bytes());
            options.extend(right.to_be_bytes());
        }
        let segment = read(&v4().upper(IpProtocol::Tcp, &tcp(ACK, &options, &[])));
        let Segment::Tcp { sacked, .. } = segment else { panic!("{segment:?}") };
        sacked
    };
    assert_eq!(sacked(&[ack + 200]), Some(ack + 200));
    assert_eq!(sacked(&[ack + 200, ack + 900, ack + 500]), Some(ack + 900));
    // Numbers go round.
    assert_eq!(sacked(&[u32::MAX, 5, ack + 500]), Some(5));
    // A duplicate (RFC 2883) lies before the acknowledgment.
    assert_eq!(sacked(&[ack - 300]), None);
    assert_eq!(sacked(&[ack]), None);
    assert_eq!(sacked(&[ack - 300, ack + 4]), Some(ack + 4));
    assert_eq!(sacked(&[]), None);
    // No whole number of blocks.
    let odd = [5, 9, 0, 0, 0, 0, 0xff, 0xff, 0xff];
    assert_eq!(read(&v4().upper(IpProtocol::Tcp, &tcp(ACK, &odd, &[]))), bare(ACK, 0));
}

fn sctp(tag: u32, chunks: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    bytes[4..8].copy_from_slice(&tag.to_be_bytes());
    bytes.extend(chunks);
    bytes
}

#[test]
fn chunks_of_sctp() {
    let tag = 0x1122_3344;
    let known =
        |chunk, initiate_tag, reflected| Segment::Sctp { tag, chunk, initiate_tag, reflected };
    let init = [0, 0, 20, 0xaa, 0xbb, 0xcc, 0xdd];
    let with = |first: u8, rest: &[u8]| [&[first], rest].concat();
    let cases: Vec<(Vec<u8>, Segment)> = vec![
        (with(1, &init), known(1, 0xaabb_ccdd, false)),
        (with(2, &init), known(2, 0xaabb_ccdd, false)),
        (with(0, &init), known(0, 0, false)),
        (with(6, &[0, 0, 4]), known(6, 0, false)),
        (with(6, &[1, 0, 4]), known(6, 0, true)),
        (with(14, &[1, 0, 4]), known(14, 0, true)),
        // Of other chunks the bit means something else: the end of a message.
        (with(0, &[3, 0, 4]), known(0, 0, false)),
        (with(64, &[1, 0, 4]), known(64, 0, false)),
        // Cut short, or none at all.
        (with(1, &init[..6]), known(255, 0, false)),
        (with(6, &[1, 0]), known(255, 0, false)),
        (vec![], known(255, 0, false)),
    ];
    for (chunks, expected) in cases {
        let mut frame = v4().upper(SCTP, &sctp(tag, &chunks));
        assert_eq!(read(&frame), expected, "{chunks:?}");
        // What pads the frame is no chunk.
        frame.extend([1, 0, 0, 20, 9, 9, 9, 9]);
        assert_eq!(read(&frame), expected, "{chunks:?}");
        assert_eq!(read(&v6().upper(SCTP, &sctp(tag, &chunks))), expected, "{chunks:?}");
    }
}

#[test]
fn a_chunk_behind_the_window_is_not_seen() {
    // An extension header of so many bytes, filled by one PadN.
    let read_behind = |bytes: u8| {
        let mut body = vec![0; usize::from(bytes) - 2];
        body[..2].copy_from_slice(&[1, bytes - 4]);
        let ip = v6().extension(IpProtocol::HopByHop, &body);
        read(&ip.upper(SCTP, &sctp(7, &[1, 0, 0, 20, 1, 2, 3, 4])))
    };
    let seen = Segment::Sctp { tag: 7, chunk: 1, initiate_tag: 0x0102_0304, reflected: false };
    assert_eq!(read_behind(176), seen);
    // The tag of an INIT begins at 254: 14 + 40 + 184 + 12 + 4.
    let unseen = Segment::Sctp { tag: 7, chunk: 255, initiate_tag: 0, reflected: false };
    assert_eq!(read_behind(184), unseen);
}

#[test]
fn everything_else_is_plain() {
    for frame in [
        v4().udp(1, 2, b"x"),
        v6().echo(true, 1, 1, b"x"),
        v4().upper(IpProtocol::Unknown(47), &[0; 30]),
        // A later part has no header.
        v4().fragment(9, 800, false).upper(IpProtocol::Tcp, &tcp(ACK, &[], &[])),
    ] {
        assert_eq!(read(&frame), Segment::Plain);
    }
    let first = v4().fragment(9, 0, true).upper(IpProtocol::Tcp, &tcp(ACK, &[], &[7; 60]));
    assert_eq!(read(&first), bare(ACK, 60));
}

fn control() -> impl Strategy<Value = (TcpControl, u8)> {
    prop_oneof![
        Just((TcpControl::None, 0)),
        Just((TcpControl::Syn, SYN)),
        Just((TcpControl::Fin, FIN)),
        Just((TcpControl::Rst, RST)),
        Just((TcpControl::Psh, PSH)),
    ]
}

proptest! {
    /// smoltcp writes, we read.
    #[test]
    fn what_smoltcp_says(
        (control, flag) in control(), seq in any::<i32>(), ack in any::<i32>(),
        window in any::<u16>(), scale in prop::option::of(0_u8..=14),
        sack_permitted in any::<bool>(),
        ahead in prop::collection::vec(1_u32..1_000_000, 0..=3), len in 0_usize..2_000,
    ) {
        let [ack_wire, seq_wire] = [ack.cast_unsigned(), seq.cast_unsigned()];
        let rights: Vec<u32> = ahead.iter().map(|ahead| ack_wire.wrapping_add(*ahead)).collect();
        let mut sack_ranges = [None; 3];
        for (range, right) in sack_ranges.iter_mut().zip(&rights) {
            *range = Some((right.wrapping_sub(1), *right));
        }
        let payload = vec![7; len];
        let repr = TcpRepr {
            src_port: 1,
            dst_port: 2,
            control,
            seq_number: TcpSeqNumber(seq),
            ack_number: Some(TcpSeqNumber(ack)),
            window_len: window,
            window_scale: scale,
            max_seg_size: Some(1_460),
            sack_permitted,
            sack_ranges,
            timestamp: None,
            payload: &payload,
        };
        let mut bytes = vec![0; repr.buffer_len()];
        let [src, dst] = [5, 6].map(|last| Ipv4Address::new(10, 1, 1, last).into());
        let mut packet = TcpPacket::new_unchecked(&mut bytes);
        repr.emit(&mut packet, &src, &dst, &smoltcp::phy::ChecksumCapabilities::ignored());
        // It writes no blocks beside the permission, which only SYNs have.
        let highest = ahead.iter().max().filter(|_| !sack_permitted);
        let expected = Segment::Tcp {
            seq: seq_wire,
            ack: ack_wire,
            window,
            flags: ACK | flag,
            len: u32::try_from(len).unwrap(),
            scale,
            sack_permitted,
            sacked: highest.map(|ahead| ack_wire.wrapping_add(*ahead)),
        };
        prop_assert_eq!(read(&v4().upper(IpProtocol::Tcp, &bytes)), expected);
    }

    /// Neither bytes nor what is said of them can be wrong enough.
    #[test]
    fn any_bytes_with_any_header(
        frame in prop::collection::vec(any::<u8>(), 0..300), offset in 0_u16..400,
        total_len in any::<u32>(), header_len in any::<u8>(), kind in 0..3,
    ) {
        let l4 = match kind {
            0 => L4::Tcp { src_port: 1, dst_port: 2, flags: 0, header_len },
            1 => L4::Sctp { src_port: 1, dst_port: 2 },
            _ => L4::Opaque,
        };
        let Ok(Inner::Ip(valid)) =
            parse(&v4().udp(1, 2, b"x"), 43, &Offload::default()).map(|packet| packet.inner)
        else {
            panic!()
        };
        let ip = Ip { l4_offset: offset, total_len, l4, ..valid };
        let segment = Segment::read(&frame, &ip);
        prop_assert_eq!(segment, Segment::read(&frame, &ip));
        if usize::from(offset) + 20 > frame.len() && kind == 0 {
            prop_assert_eq!(segment, Segment::Plain);
        }
    }
}

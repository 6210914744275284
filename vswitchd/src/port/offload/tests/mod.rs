//! Laws of the software offloads, judged by smoltcp's own views of packets.

use proptest::prelude::*;
use smoltcp::wire::{IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket};

use super::*;

mod coalesce;
mod fragment;
mod segment;

/// A packet to build.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) version: headers::Version,
    pub(super) protocol: u8,
    pub(super) tagged: bool,
    pub(super) dont_fragment: bool,
    pub(super) identification: u16,
    pub(super) hop_limit: u8,
    pub(super) l4_ports: (u16, u16),
    pub(super) tcp_flags: u8,
    pub(super) sequence: u32,
    /// Bytes of TCP options, a multiple of four.
    pub(super) tcp_options: usize,
    /// IPv4 options, a multiple of four bytes.
    pub(super) ip_options: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Packet {
    pub(super) fn udp(version: headers::Version, payload: Vec<u8>) -> Self {
        Self {
            version,
            protocol: headers::UDP,
            tagged: false,
            dont_fragment: true,
            identification: 0,
            hop_limit: 64,
            l4_ports: (40_000, 53),
            tcp_flags: 0x10,
            sequence: 0,
            tcp_options: 0,
            ip_options: Vec::new(),
            payload,
        }
    }

    /// The frame with a partial checksum, as a pod's kernel hands it over.
    pub(super) fn frame(&self) -> Frame {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if self.tagged {
            bytes.extend_from_slice(&[0x81, 0, 0, 42]);
        }
        let l3 = bytes.len() + 2;
        let l4_header = self.l4_header();
        let l4_len = l4_header.len() + self.payload.len();
        match self.version {
            headers::Version::V4 => self.push_ipv4(&mut bytes, l4_len),
            headers::Version::V6 => self.push_ipv6(&mut bytes, l4_len),
        }
        let l4 = bytes.len();
        bytes.extend_from_slice(&l4_header);
        bytes.extend_from_slice(&self.payload);
        let end = bytes.len();
        let at = headers::Headers { l3, l4, end, version: self.version, protocol: self.protocol };
        headers::put_length(&mut bytes, &at, end);
        let offset = if self.protocol == headers::TCP { 16 } else { 6 };
        let pseudo = headers::pseudo_sum(&bytes, &at, u16::try_from(l4_len).unwrap());
        headers::put(&mut bytes, l4 + usize::from(offset), pseudo.to_be_bytes());
        let mut frame = Pool::new().take();
        frame.set_len(end);
        frame.bytes_mut().copy_from_slice(&bytes);
        let start = u16::try_from(l4).unwrap();
        let checksum = Checksum::Partial { start, offset };
        frame.set_offload(Offload { checksum, ..Offload::default() });
        frame
    }

    /// The frame as a super-frame of segments with `size` bytes.
    pub(super) fn super_frame(&self, size: u16, ecn: bool) -> Frame {
        let mut frame = self.frame();
        let kind = match (self.protocol, self.version) {
            (headers::UDP, _) => GsoKind::Udp,
            (_tcp, headers::Version::V4) => GsoKind::Tcp4,
            (_tcp, headers::Version::V6) => GsoKind::Tcp6,
        };
        let offload = Offload { gso: Some(Gso { kind, size, ecn }), ..*frame.offload() };
        frame.set_offload(offload);
        frame
    }

    fn push_ipv4(&self, bytes: &mut Vec<u8>, _l4_len: usize) {
        let words = u8::try_from(5 + self.ip_options.len() / 4).unwrap();
        let flags = if self.dont_fragment { 0x40 } else { 0 };
        let [id_high, id_low] = self.identification.to_be_bytes();
        bytes.extend_from_slice(&[8, 0, 0x40 | words, 0x28, 0, 0, id_high, id_low, flags, 0]);
        bytes.extend_from_slice(&[self.hop_limit, self.protocol, 0, 0, 10, 1, 0, 2, 10, 1, 0, 3]);
        bytes.extend_from_slice(&self.ip_options);
    }

    fn push_ipv6(&self, bytes: &mut Vec<u8>, l4_len: usize) {
        let [high, low] = u16::try_from(l4_len).unwrap().to_be_bytes();
        bytes.extend_from_slice(&[0x86, 0xdd, 0x60, 1, 2, 3, high, low, self.protocol]);
        bytes.push(self.hop_limit);
        bytes.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        bytes.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
    }

    fn l4_header(&self) -> Vec<u8> {
        let mut header = self.l4_ports.0.to_be_bytes().to_vec();
        header.extend_from_slice(&self.l4_ports.1.to_be_bytes());
        if self.protocol == headers::UDP {
            let length = u16::try_from(8 + self.payload.len()).unwrap();
            header.extend_from_slice(&length.to_be_bytes());
            header.extend_from_slice(&[0, 0]);
            return header;
        }
        header.extend_from_slice(&self.sequence.to_be_bytes());
        let words = u8::try_from(5 + self.tcp_options / 4).unwrap();
        header.extend_from_slice(&[0, 0, 0, 9, words << 4, self.tcp_flags, 1, 0, 0, 0, 0, 0]);
        header.resize(20 + self.tcp_options, 1);
        header
    }
}

pub(super) fn packets(protocol: u8, payload: usize) -> impl Strategy<Value = Packet> {
    let version = prop_oneof![Just(headers::Version::V4), Just(headers::Version::V6)];
    let tcp = (any::<u8>(), any::<u32>(), 0_usize..=10);
    (version, any::<bool>(), any::<bool>(), any::<u16>(), tcp, 1..payload).prop_map(
        move |(version, tagged, dont_fragment, identification, tcp, payload)| Packet {
            protocol,
            tagged,
            dont_fragment,
            identification,
            tcp_flags: tcp.0,
            sequence: tcp.1,
            tcp_options: tcp.2 * 4,
            ..Packet::udp(version, (0..=250).cycle().take(payload).collect())
        },
    )
}

/// What a packet says about itself, checksums verified on the way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) identification: u16,
    pub(super) sequence: u32,
    pub(super) tcp_flags: u8,
    pub(super) payload: Vec<u8>,
}

/// Reads a frame with complete checksums; panics where smoltcp finds it wrong.
pub(super) fn read(frame: &Frame) -> Read {
    let bytes = frame.bytes();
    let l3 = if bytes[12..14] == [0x81, 0] { 18 } else { 14 };
    let (identification, from, to, l4): (_, IpAddress, IpAddress, _) = if bytes[l3] >> 4 == 4 {
        let packet = Ipv4Packet::new_checked(&bytes[l3..]).unwrap();
        assert!(packet.verify_checksum(), "IPv4 header checksum");
        assert_eq!(usize::from(packet.total_len()), bytes.len() - l3);
        let l4 = packet.payload();
        (packet.ident(), packet.src_addr().into(), packet.dst_addr().into(), l4)
    } else {
        let packet = Ipv6Packet::new_checked(&bytes[l3..]).unwrap();
        assert_eq!(packet.total_len(), bytes.len() - l3);
        (0, packet.src_addr().into(), packet.dst_addr().into(), packet.payload())
    };
    let protocol = bytes[if bytes[l3] >> 4 == 4 { l3 + 9 } else { l3 + 6 }];
    if protocol == headers::UDP {
        let packet = UdpPacket::new_checked(l4).unwrap();
        assert!(packet.verify_checksum(&from, &to), "UDP checksum");
        assert_ne!(packet.checksum(), 0);
        assert_eq!(usize::from(packet.len()), l4.len());
        let payload = packet.payload().to_vec();
        return Read { identification, sequence: 0, tcp_flags: 0, payload };
    }
    let packet = TcpPacket::new_checked(l4).unwrap();
    assert!(packet.verify_checksum(&from, &to), "TCP checksum");
    Read {
        identification,
        sequence: u32::from_be_bytes(*l4[4..].first_chunk().unwrap()),
        tcp_flags: l4[13],
        payload: packet.payload().to_vec(),
    }
}

const NOTHING: Capabilities = Capabilities { checksum: false, tcp_gso: false, udp_gso: false };
const ALL: Capabilities = Capabilities { checksum: true, tcp_gso: true, udp_gso: true };

fn prepared(frame: Frame, takes: &Capabilities) -> Vec<Frame> {
    let mut out = Vec::new();
    prepare(frame, takes, &mut Pool::new(), &mut out);
    out
}

#[test]
fn whoever_takes_all_gets_the_frame_itself() {
    let packet = Packet::udp(headers::Version::V4, vec![1; 4000]);
    assert_eq!(prepared(packet.super_frame(1000, false), &ALL), [packet.super_frame(1000, false)]);
}

#[test]
fn a_receiver_of_partial_checksums_gets_segments_with_partial_checksums() {
    let packet = Packet::udp(headers::Version::V4, vec![1; 2500]);
    let takes = Capabilities { checksum: true, ..NOTHING };
    let frames = prepared(packet.super_frame(1000, false), &takes);
    let checksum = Checksum::Partial { start: 34, offset: 6 };
    let offload = Offload { checksum, ..Offload::default() };
    assert_eq!(frames.iter().map(Frame::len).collect::<Vec<_>>(), [1042, 1042, 542]);
    assert!(frames.iter().all(|frame| *frame.offload() == offload));
}

#[test]
fn tcp_and_udp_super_frames_are_asked_for_separately() {
    let packet = Packet::udp(headers::Version::V6, vec![1; 2500]);
    let takes = Capabilities { udp_gso: false, ..ALL };
    assert_eq!(prepared(packet.super_frame(1000, false), &takes).len(), 3);
    let packet = Packet { protocol: headers::TCP, ..packet };
    assert_eq!(prepared(packet.super_frame(1000, false), &takes).len(), 1);
    let takes = Capabilities { tcp_gso: false, ..ALL };
    assert_eq!(prepared(packet.super_frame(1000, false), &takes).len(), 3);
}

#[test]
fn a_super_frame_is_segmented_before_it_is_fragmented() {
    let packet =
        Packet { dont_fragment: false, ..Packet::udp(headers::Version::V4, vec![1; 3000]) };
    let mut frame = packet.super_frame(1000, false);
    frame.set_offload(Offload { fragment_mtu: Some(576), ..*frame.offload() });
    let frames = prepared(frame, &ALL);
    // 1008 bytes of UDP each: 552 and 456.
    let lens = frames.iter().map(Frame::len).collect::<Vec<_>>();
    assert_eq!(lens, [586, 490, 586, 490, 586, 490]);
    assert!(frames.iter().all(|frame| *frame.offload() == Offload::default()));
}

#[test]
fn a_contradicting_description_passes_unchanged() {
    let udp = Packet::udp(headers::Version::V4, vec![1; 3000]);
    let mut as_tcp = udp.frame();
    let gso = Some(Gso { kind: GsoKind::Tcp4, size: 1000, ecn: false });
    as_tcp.set_offload(Offload { gso, ..*as_tcp.offload() });
    let before = as_tcp.duplicate();
    assert_eq!(prepared(as_tcp, &NOTHING)[0].bytes(), before.bytes());
    let no_size = udp.super_frame(0, false);
    assert_eq!(prepared(no_size, &NOTHING)[0].offload().gso.unwrap().size, 0);
}

proptest! {
    #[test]
    fn garbage_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        like in packets(headers::TCP, 100),
        use_packet in any::<bool>(),
        description in (any::<u16>(), any::<u16>(), any::<u16>(), 0_u8..4, any::<bool>()),
        mtu in prop::option::of(any::<u16>()),
    ) {
        let mut frame = like.frame();
        let at = usize::from(description.0) % frame.len();
        if use_packet {
            let len = bytes.len().min(frame.len() - at);
            frame.bytes_mut()[at..at + len].copy_from_slice(&bytes[..len]);
        } else {
            frame = Frame::from_bytes(&bytes);
        }
        let kinds = [None, Some(GsoKind::Tcp4), Some(GsoKind::Tcp6), Some(GsoKind::Udp)];
        let gso = kinds[usize::from(description.3)]
            .map(|kind| Gso { kind, size: description.2, ecn: description.4 });
        let checksum = if use_packet {
            frame.offload().checksum
        } else {
            Checksum::Partial { start: description.0 % 80, offset: description.1 % 80 }
        };
        frame.set_offload(Offload { checksum, gso, fragment_mtu: mtu });
        let copy = frame.duplicate();
        prop_assert!(!prepared(frame, &NOTHING).is_empty());
        let (mut coalescer, mut pool, mut out) = (Coalescer::default(), Pool::new(), Vec::new());
        coalescer.push(copy.duplicate(), &mut pool, &mut out);
        coalescer.push(copy, &mut pool, &mut out);
        coalescer.flush(&mut out);
        prop_assert_eq!(out.iter().map(|merged| merged.frames).sum::<u32>(), 2);
    }
}

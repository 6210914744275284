//! What a sender is told of a packet that a stage refused: resets, and errors about packets that
//! were translated before they were refused.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpProtocol, Ipv4Packet, Ipv6Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use super::*;
use crate::input::Checksum;
use crate::pipeline::answer::{self, Reply};
use crate::pipeline::packet::{Inner, Ip, Packet};
use crate::pipeline::parse;
use crate::pipeline::rewrite;
use crate::pipeline::{Leave, Walk};
use crate::switch::Decision;
use crate::table::Effects;
use crate::trace::{Edit, Hop, Rewrite, Silence};
use crate::wire::build::{self, flags};

const VIP4: Ipv4Address = Ipv4Address::new(10, 96, 0, 10);
const VIP6: Ipv6Address = Ipv6Address::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10);
const REASON: DropReason = DropReason::ServiceNoBackend;

/// From pod a to a service's address.
fn to_vip(six: bool) -> build::Ip {
    let link = between(2, GATEWAY);
    if six { link.ipv6(v6(2), VIP6) } else { link.ipv4(v4(2), VIP4) }
}

fn parsed(frame: &Frame) -> (Packet, Ip) {
    let packet = parse::parse(frame.window(), frame.len(), frame.offload()).expect("it is valid");
    let Inner::Ip(ip) = packet.inner else { panic!("{packet:?}") };
    (packet, ip)
}

impl Bed {
    /// Ends a walk of pod a's as a stage does that refuses the packet after these edits.
    fn refuse(&mut self, mut frame: Frame, edits: &[Edit], reply: Reply) -> Verdict {
        self.out.clear();
        let (packet, _) = parsed(&frame);
        let (mut trace, mut effects) = (Trace::new(A), Effects::new());
        trace.hop(Hop::Gateway);
        edits.iter().for_each(|edit| trace.edit(*edit));
        let mut cx = Walk {
            tables: &self.switch.tables,
            now: self.now,
            ingress: A,
            slot: self.switch.tables.ports().slot(A),
            frame: &frame,
            trace: &mut trace,
            effects: &mut effects,
            leave: Leave::default(),
            released: None,
        };
        let verdict = answer::decide(&mut cx, Some(&packet), reply);
        self.switch.tables.commit(self.now, &effects);
        self.out.walked.push(trace);
        let decision = Decision { verdict, leave: Leave::default() };
        self.switch.carry(0, A, &mut frame, (decision, Some(&packet)), &mut self.out);
        verdict
    }

    fn reset(&mut self, bytes: &[u8]) -> Verdict {
        self.refuse(Frame::from_bytes(bytes), &[], Reply::Reset(REASON))
    }
}

/// The reset in a frame from a service to pod a, whose checksums smoltcp has judged.
fn segment(frame: &[u8], six: bool) -> TcpRepr<'_> {
    assert_eq!(frame[..12], [mac(2).0, GATEWAY.0].concat());
    let (src, dst, upper): (IpAddress, IpAddress, &[u8]) = if six {
        let ip = Ipv6Packet::new_checked(&frame[14..]).expect("valid");
        assert_eq!((ip.next_header(), ip.hop_limit()), (IpProtocol::Tcp, 64));
        (ip.src_addr().into(), ip.dst_addr().into(), &frame[54..])
    } else {
        let ip = Ipv4Packet::new_checked(&frame[14..]).expect("valid");
        assert!(ip.verify_checksum() && ip.dont_frag());
        assert_eq!((ip.next_header(), ip.hop_limit()), (IpProtocol::Tcp, 64));
        (ip.src_addr().into(), ip.dst_addr().into(), &frame[34..])
    };
    let ends: (IpAddress, IpAddress) =
        if six { (VIP6.into(), v6(2).into()) } else { (VIP4.into(), v4(2).into()) };
    assert_eq!((src, dst), ends, "from the address that was spoken to");
    let packet = TcpPacket::new_checked(upper).expect("valid");
    TcpRepr::parse(&packet, &src, &dst, &ChecksumCapabilities::default()).expect("valid")
}

#[test]
fn a_reset_is_numbered_by_what_it_answers() {
    let mut bed = Bed::new();
    for six in [false, true] {
        let of = |flags, seq, ack, payload: &[u8]| {
            to_vip(six).tcp((4_000, 80), flags, seq, ack, payload)
        };
        let number = |number: u32| TcpSeqNumber(number.cast_signed());
        for (bytes, seq, ack) in [
            (of(flags::SYN, 7, 0, b""), 0, Some(8)),
            (of(flags::SYN, u32::MAX, 0, b""), 0, Some(0)),
            (of(flags::SYN, 7, 0, b"fast open"), 0, Some(17)),
            (of(flags::FIN, 7, 0, b"bye"), 0, Some(11)),
            (of(0, 7, 99, b"odd"), 0, Some(10)),
            (of(flags::ACK, 7, 99, b"data"), 99, None),
            (of(flags::ACK | flags::SYN, 7, 0xffff_fff0, b""), 0xffff_fff0, None),
            (of(flags::ACK | flags::FIN, 7, 3, b""), 3, None),
        ] {
            let verdict = bed.reset(&bytes);
            assert_eq!(verdict, Verdict::Answer(AnswerKind::Reset { reason: REASON }));
            let (port, reply) = bed.only();
            let sent = segment(&reply, six);
            assert_eq!((port, reply.len()), (A, if six { 74 } else { 54 }));
            assert_eq!((sent.src_port, sent.dst_port), (80, 4_000));
            assert_eq!((sent.control, sent.window_len), (TcpControl::Rst, 0));
            assert_eq!((sent.seq_number, sent.ack_number), (number(seq), ack.map(number)));
            assert_eq!(bed.out.reclaimed, [(0, Frame::from_bytes(&bytes))]);
        }
    }
}

#[test]
fn options_and_padding_are_no_payload_and_a_super_frame_is_all_of_it() {
    let mut bed = Bed::new();
    let syn = to_vip(false).tcp((4_000, 80), flags::SYN, 7, 0, b"");
    let mut header = syn[34..].to_vec();
    header[12] = 0x60;
    header.extend([1, 1, 1, 1]);
    let mut bytes = to_vip(false).options(&[1; 8]).upper(IpProtocol::Tcp, &header);
    bytes.resize(120, 0xee);
    bed.reset(&bytes);
    assert_eq!(segment(&bed.only().1, false).ack_number, Some(TcpSeqNumber(8)));
    let large = to_vip(true).tcp((4_000, 80), flags::FIN, 7, 0, &[0; 60_000]);
    let mut frame = Frame::from_bytes(&large);
    let checksum = Checksum::Partial { start: 54, offset: 16 };
    let gso = Some(Gso { kind: GsoKind::Tcp6, size: 1_400, ecn: false });
    frame.set_offload(Offload { checksum, gso, fragment_mtu: None });
    bed.refuse(frame, &[], Reply::Reset(REASON));
    assert_eq!(segment(&bed.only().1, true).ack_number, Some(TcpSeqNumber(60_008)));
    assert_eq!(*bed.out.transmits[0].frame.offload(), Offload::default());
}

#[test]
fn what_is_never_reset() {
    let mut bed = Bed::new();
    let group = between(2, GATEWAY).ipv4(v4(2), Ipv4Address::new(224, 0, 0, 1));
    for bytes in [
        to_vip(false).tcp((4_000, 80), flags::RST, 7, 0, b""),
        to_vip(true).tcp((4_000, 80), flags::RST | flags::ACK, 7, 9, b""),
        to_vip(false).udp(4_000, 80, b"no segment"),
        to_vip(false).fragment(1, 1_480, false).upper(IpProtocol::Tcp, &[0; 40]),
        group.tcp((4_000, 80), flags::SYN, 7, 0, b""),
    ] {
        assert_eq!(bed.reset(&bytes), Verdict::Drop(REASON));
        assert_eq!(bed.sent(), []);
        assert_eq!(bed.out.walked[0].hops().last(), Some(&Hop::Silent(Silence::Forbidden)));
    }
}

#[test]
fn what_no_error_is_about() {
    let mut bed = Bed::new();
    for six in [false, true] {
        let link = between(2, GATEWAY);
        let to_group = if six {
            link.ipv6(v6(2), Ipv6Address::new(0xff0e, 0, 0, 0, 0, 0, 0, 1))
        } else {
            link.ipv4(v4(2), Ipv4Address::new(224, 0, 0, 1))
        };
        let of_nobody = if six {
            link.ipv6(Ipv6Address::UNSPECIFIED, VIP6)
        } else {
            link.ipv4(Ipv4Address::UNSPECIFIED, VIP4)
        };
        let quoted = to_vip(six).udp(4_000, 53, b"");
        let (unreachable, code) = if six { (1, 4) } else { (3, 3) };
        for bytes in [
            to_vip(six).icmp(unreachable, code, [0; 4], &quoted[14..]),
            to_vip(six).fragment(1, 1_480, false).upper(IpProtocol::Udp, &[0; 40]),
            to_group.udp(4_000, 53, b""),
            of_nobody.udp(4_000, 53, b""),
        ] {
            for reason in [REASON, DropReason::HopLimitExceeded, DropReason::MtuExceeded] {
                let reply = Reply::Error { reason, mtu: 1_280 };
                let verdict = bed.refuse(Frame::from_bytes(&bytes), &[], reply);
                assert_eq!(verdict, Verdict::Drop(reason));
                assert_eq!(bed.sent(), []);
                let last = bed.out.walked[0].hops().last();
                assert_eq!(last, Some(&Hop::Silent(Silence::Forbidden)));
            }
        }
        // It is these that are not answered: the datagram alone is.
        let reply = Reply::Error { reason: REASON, mtu: 0 };
        let verdict = bed.refuse(Frame::from_bytes(&quoted), &[], reply);
        assert!(matches!(verdict, Verdict::Answer(_)));
    }
}

#[test]
fn resets_do_not_come_out_of_the_share_of_errors() {
    let mut bed = Bed::new();
    let syn = to_vip(false).tcp((4_000, 80), flags::SYN, 7, 0, b"");
    let error = Reply::Error { reason: REASON, mtu: 0 };
    let udp = to_vip(false).udp(4_000, 53, b"");
    for _ in 0..Limits::default().errors_burst {
        assert!(matches!(bed.reset(&syn), Verdict::Answer(_)));
        assert!(matches!(bed.refuse(Frame::from_bytes(&udp), &[], error), Verdict::Answer(_)));
    }
    assert_eq!(bed.refuse(Frame::from_bytes(&udp), &[], error), Verdict::Drop(REASON));
    assert!(matches!(bed.reset(&syn), Verdict::Answer(_)));
    let story = lines(&bed.out.walked[0], &syn);
    assert_eq!(story[1], "answer     the service has no backend: TCP reset");
}

#[test]
fn a_service_without_backend_is_an_unreachable_port() {
    let mut bed = Bed::new();
    for reason in [DropReason::ServiceNoBackend, DropReason::ServicePortUnknown] {
        for (six, icmp_type, code) in [(false, 3, 3), (true, 1, 4)] {
            let frame = Frame::from_bytes(&to_vip(six).udp(4_000, 53, b""));
            let verdict = bed.refuse(frame, &[], Reply::Error { reason, mtu: 0 });
            let kind = AnswerKind::Error { reason, icmp_type, code, mtu: 0 };
            assert_eq!(verdict, Verdict::Answer(kind));
        }
    }
}

/// The edits of a walk to a backend that nobody has: DNAT, SNAT, and the hop limit.
fn translated(frame: &Frame, six: bool) -> Vec<Edit> {
    let (_, ip) = parsed(frame);
    let sum = rewrite::sum(&ip, frame);
    let backend: IpAddress = if six { v6(77).into() } else { v4(77).into() };
    let node: IpAddress = if six { NODE6.into() } else { NODE4.into() };
    let at = ip.l4_offset;
    vec![
        Edit::Destination(Rewrite { address: backend, port: 8_080, at, sum }),
        Edit::Source(Rewrite { address: node, port: 61_000, at, sum }),
        Edit::HopLimit(63),
    ]
}

#[test]
fn errors_and_resets_are_about_the_packet_as_it_came() {
    let mut bed = Bed::new();
    for six in [false, true] {
        let bytes = to_vip(six).tcp((4_000, 80), flags::SYN, 7, 0, b"");
        let lowered = to_vip(six).hop_limit(63).tcp((4_000, 80), flags::SYN, 7, 0, b"");
        let mut frame = Frame::from_bytes(&bytes);
        if six {
            // With an offload the field has the sum of the pseudo-header.
            let pseudo = crate::wire::checksum::pseudo_header(v6(2).into(), VIP6.into(), 6, 20);
            let sum = crate::wire::checksum::fold(pseudo);
            frame.bytes_mut()[70..72].copy_from_slice(&sum.to_be_bytes());
            let checksum = Checksum::Partial { start: 54, offset: 16 };
            frame.set_offload(Offload { checksum, ..Offload::default() });
        }
        let edits = translated(&frame, six);
        let error = Reply::Error { reason: DropReason::NeighborFailed, mtu: 0 };
        bed.refuse(frame.duplicate(), &edits, error);
        let (port, reply) = bed.only();
        let header = if six { 54 } else { 34 };
        assert_eq!((port, &reply[header + 8..]), (A, &lowered[14..]), "the quotation");
        bed.refuse(frame, &edits, Reply::Reset(DropReason::ServiceMidStream));
        let sent = segment(&bed.only().1, six).ack_number;
        assert_eq!(sent, Some(TcpSeqNumber(8)));
    }
}

#[test]
fn what_goes_on_is_translated() {
    let mut bed = Bed::new();
    let bytes = to_vip(false).tcp((4_000, 80), flags::SYN, 7, 0, b"");
    let mut frame = Frame::from_bytes(&bytes);
    let mut trace = Trace::new(A);
    trace.hop(Hop::Gateway);
    translated(&frame, false).into_iter().for_each(|edit| trace.edit(edit));
    bed.out.walked.push(trace);
    let (packet, leave) = (parsed(&frame).0, Leave::default());
    let decision = Decision { verdict: Verdict::Forward(HOST), leave };
    bed.switch.carry(0, A, &mut frame, (decision, Some(&packet)), &mut bed.out);
    let expected = between(2, GATEWAY).ipv4(NODE4, v4(77)).hop_limit(63);
    let expected = expected.tcp((61_000, 8_080), flags::SYN, 7, 0, b"");
    assert_eq!(bed.only(), (HOST, expected));
}

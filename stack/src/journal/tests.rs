//! Records: what was written is read back, and what cannot be is refused.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use super::frame::{Door, Recorded, is_fragment, write};
use super::*;
use crate::input::{Checksum, EndpointId, Frame, Gso, GsoKind, Offload};

fn offloads() -> Vec<Offload> {
    let gso = |kind, ecn| Some(Gso { kind, size: 1_448, ecn });
    let of = |checksum, gso| Offload { checksum, gso, fragment_mtu: None };
    let partial = Checksum::Partial { start: 34, offset: 16 };
    vec![
        of(Checksum::Complete, None),
        of(Checksum::Valid, None),
        of(partial, None),
        of(partial, gso(GsoKind::Tcp4, false)),
        of(partial, gso(GsoKind::Tcp6, true)),
        of(Checksum::Partial { start: u16::MAX, offset: u16::MAX }, gso(GsoKind::Udp, false)),
    ]
}

#[test]
fn frames_come_back_as_they_went() {
    for offload in offloads() {
        for len in [0, 1, 14, 60, 255, 256, 257, 1_514, 65_549] {
            for (door, whole) in
                [(Door::Port(PortId(7)), false), (Door::Endpoint(EndpointId(3)), true)]
            {
                let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
                let mut frame = Frame::from_bytes(&bytes);
                frame.set_offload(offload);
                let mut place = vec![0xaa; RECORD_MAX];
                let record = write(&mut place, Instant(9), door, &frame, whole).unwrap();
                let head = Head::read(record).unwrap();
                assert_eq!((head.time, head.check, head.len), (Instant(9), 0, record.len()));
                let recorded = Recorded::read(record, &head).unwrap();
                assert_eq!((recorded.door, recorded.offload, recorded.len), (door, offload, len));
                let mut back = Frame::with_capacity(BODY_MAX);
                assert!(recorded.fill(&mut back));
                assert_eq!((back.window(), back.len()), (frame.window(), frame.len()));
                assert_eq!(back.offload(), frame.offload());
                if whole {
                    assert_eq!(back.bytes(), frame.bytes());
                }
            }
        }
    }
}

#[test]
fn records_that_cannot_be_are_refused() {
    let frame = Frame::from_bytes(&[1; 300]);
    let mut place = vec![0; RECORD_MAX];
    let door = Door::Port(PortId(1));
    let record = write(&mut place, Instant(1), door, &frame, false).unwrap().to_vec();
    assert_eq!(write(&mut [0; 100], Instant(1), door, &frame, false), None, "no room");
    let head = Head::read(&record).unwrap();
    for end in 0..HEAD {
        assert_eq!(Head::read(&record[..end]), None);
    }
    for end in HEAD..record.len() {
        assert_eq!(Recorded::read(&record[..end], &head), None, "cut at {end}");
    }
    let mut lies = record.clone();
    lies[24..28].copy_from_slice(&100_u32.to_le_bytes());
    assert_eq!(Recorded::read(&lies, &head), None, "more bytes than the frame has");
    let mut unknown = record;
    unknown[4] = 200;
    assert_eq!(Head::read(&unknown), None);
}

#[test]
fn large_changes_take_several_records() {
    let routes: Vec<_> = (0..30_000_u32)
        .map(|n| crate::config::Route {
            prefix: smoltcp::wire::IpCidr::new(smoltcp::wire::Ipv4Address::from(n << 8).into(), 24),
            target: crate::config::RouteTarget::Connected,
        })
        .collect();
    let change = Change::Routes(routes);
    let pieces = pieces(&change);
    assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.len() <= BODY_MAX));
    assert_eq!(super::change(&pieces.concat()), Some(change));
    assert_eq!(super::change(&pieces.concat()[1..]), None);
}

#[test]
fn labels_and_kinds_are_read_back() {
    assert_eq!(read_label(&label(PortId(4), "pod/a/b")), Some((PortId(4), "pod/a/b")));
    assert_eq!(read_label(&[1, 2, 3]), None);
    assert_eq!(read_label(&[0, 0, 0, 0, 0xff]), None);
    for kind in Kind::ALL {
        assert_eq!(Kind::by_number(*kind as u8), Some(*kind));
        assert!(!kind.name().to_string().is_empty());
    }
    assert_eq!(Kind::by_number(0), None);
}

#[test]
fn fragments_are_seen_in_the_window() {
    let v4 = |field: u16| {
        let mut packet = vec![0_u8; 60];
        packet[12..14].copy_from_slice(&[8, 0]);
        packet[20..22].copy_from_slice(&field.to_be_bytes());
        packet
    };
    assert!(!is_fragment(&v4(0x4000)), "only DF");
    assert!(is_fragment(&v4(0x2000)) && is_fragment(&v4(0x0001)));
    let v6 = |next: u8, behind: &[u8]| {
        let mut packet = vec![0_u8; 54];
        packet[12..14].copy_from_slice(&[0x86, 0xdd]);
        packet[20] = next;
        packet.extend(behind);
        packet
    };
    assert!(is_fragment(&v6(44, &[])));
    assert!(is_fragment(&v6(0, &[44, 0, 0, 0, 0, 0, 0, 0])));
    assert!(!is_fragment(&v6(60, &[6, 0, 0, 0, 0, 0, 0, 0])));
    assert!(!is_fragment(&v6(0, &[])), "what the window does not show");
    assert!(!is_fragment(&[]));
}

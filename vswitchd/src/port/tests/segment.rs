//! Our segmentation against the kernel's: a super-frame goes through a kernel bridge into a TAP
//! that takes no offloads, so the kernel segments it.

use stack::{Checksum, Frame, Gso, GsoKind, Offload};

use super::super::tap::Tap;
use super::super::{Capabilities, Pool, PortIo, offload};
use super::{Namespace, ip};

/// Two TAPs on a bridge, the second without offloads.
fn bridge() -> Option<(Namespace, Tap, Tap)> {
    let namespace = Namespace::new()?;
    let (from, to) = namespace.run(|| {
        let from = Tap::create("from", false).unwrap();
        let to = Tap::create("to", false).unwrap();
        to.refuse_offloads().unwrap();
        ip("link add name br type bridge mcast_snooping 0");
        for name in ["from", "to", "br"] {
            super::silence(name);
            if name != "br" {
                ip(&format!("link set dev {name} master br"));
            }
            ip(&format!("link set dev {name} up"));
        }
        (from, to)
    });
    Some((namespace, from, to))
}

/// A TCP or UDP super-frame to a MAC nobody has, so that the bridge floods it.
fn super_frame(kind: GsoKind, payload: usize, size: u16, tcp_flags: u8, ecn: bool) -> Frame {
    let udp = kind == GsoKind::Udp;
    let l4_len = payload + if udp { 8 } else { 32 };
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    let protocol = if udp { 17 } else { 6 };
    let length = |len: usize| u16::try_from(len).unwrap().to_be_bytes();
    let addresses = if kind == GsoKind::Tcp6 {
        bytes.extend_from_slice(&[0x86, 0xdd, 0x60, 0x21, 2, 3]);
        bytes.extend_from_slice(&length(l4_len));
        bytes.extend_from_slice(&[protocol, 61]);
        bytes.extend_from_slice(&[0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        bytes.extend_from_slice(&[0xfd, 9, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        22..54
    } else {
        bytes.extend_from_slice(&[8, 0, 0x45, 0x1a]);
        bytes.extend_from_slice(&length(20 + l4_len));
        // The identification runs over within the super-frame.
        bytes.extend_from_slice(&[0xff, 0xfe, 0x40, 0, 61, protocol, 0, 0]);
        bytes.extend_from_slice(&[10, 9, 8, 7, 10, 11, 12, 13]);
        let sum = offload::checksum::sum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&(!sum).to_be_bytes());
        26..34
    };
    let l4 = bytes.len();
    let pseudo = offload::checksum::add(
        offload::checksum::sum(&bytes[addresses]),
        offload::checksum::add(u16::from(protocol), u16::try_from(l4_len).unwrap()),
    );
    bytes.extend_from_slice(&[0x9c, 0x40, 0, 53]);
    if udp {
        bytes.extend_from_slice(&length(l4_len));
    } else {
        // The sequence number runs over within the super-frame; 12 bytes of options.
        bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0x00, 1, 2, 3, 4, 0x80, tcp_flags, 9, 9]);
    }
    let offset = u16::try_from(bytes.len() - l4).unwrap();
    bytes.extend_from_slice(&pseudo.to_be_bytes());
    if !udp {
        bytes.extend_from_slice(&[0, 0, 1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
    bytes.extend((0..=250).cycle().take(payload));
    let mut frame = Frame::from_bytes(&bytes);
    frame.set_offload(Offload {
        checksum: Checksum::Partial { start: u16::try_from(l4).unwrap(), offset },
        gso: Some(Gso { kind, size, ecn }),
        fragment_mtu: None,
    });
    frame
}

#[test]
fn our_segments_are_the_kernels() {
    let Some((_namespace, mut from, mut to)) = bridge() else { return };
    let cases = [
        // FIN, PSH, ACK; then CWR as well, which with ECN stays on the first segment.
        (GsoKind::Tcp4, 10_000, 1448, 0x19, false),
        (GsoKind::Tcp4, 65_000, 1448, 0x98, true),
        (GsoKind::Tcp6, 10_001, 1000, 0x19, false),
        (GsoKind::Tcp6, 4_000, 1000, 0x98, true),
        (GsoKind::Udp, 10_001, 1000, 0, false),
        (GsoKind::Udp, 60_000, 1472, 0, false),
    ];
    for case @ (kind, payload, size, tcp_flags, ecn) in cases {
        let mut pool = Pool::new();
        let mut whole = super_frame(kind, payload, size, tcp_flags, ecn);
        from.transmit(&mut whole).unwrap();
        let mut ours = Vec::new();
        offload::prepare(whole, &Capabilities::default(), &mut pool, &mut ours);
        assert_eq!(ours.len(), payload.div_ceil(usize::from(size)));
        for (index, ours) in ours.iter().enumerate() {
            let theirs = to.receive(&mut pool).unwrap().expect("the kernel sends as many");
            assert_eq!(theirs.offload().gso, None);
            assert_eq!(ours.bytes(), theirs.bytes(), "segment {index} of {case:?}");
        }
        assert!(to.receive(&mut pool).unwrap().is_none(), "and no more");
    }
}

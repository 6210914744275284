//! Offload descriptions against headers.

use super::*;
use crate::input::{Checksum, Gso, GsoKind};

const SCTP: [u8; 16] = [0, 7, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];

fn described(frame: &[u8], checksum: Checksum, gso: Option<Gso>) -> Result<Packet, DropReason> {
    super::described(frame, &Offload { checksum, gso, fragment_mtu: None })
}

fn partial(frame: &[u8], start: u16, offset: u16) -> bool {
    match described(frame, Checksum::Partial { start, offset }, None) {
        Ok(_) => true,
        Err(reason) => {
            assert_eq!(reason, DropReason::OffloadInvalid);
            false
        }
    }
}

fn gso(frame: &[u8], kind: GsoKind, size: u16) -> bool {
    match described(frame, Checksum::Complete, Some(Gso { kind, size, ecn: false })) {
        Ok(_) => true,
        Err(reason) => {
            assert_eq!(reason, DropReason::OffloadInvalid);
            false
        }
    }
}

#[test]
fn a_partial_checksum_belongs_to_the_upper_header() {
    for (ip, at) in [(v4 as fn() -> build::Ip, 34), (v6, 54)] {
        for (frame, offset) in [
            (ip().tcp((1, 2), 0, 0, 0, b"x"), 16),
            (ip().udp(1, 2, b"x"), 6),
            (ip().upper(IpProtocol::from(132), &SCTP), 8),
            (ip().echo(true, 1, 1, b"xxx"), 2),
        ] {
            assert_eq!(
                judge(&frame),
                described(&frame, Checksum::Partial { start: at, offset }, None)
            );
            assert!(!partial(&frame, at, offset + 2), "another field");
            assert!(!partial(&frame, at, offset - 2), "another field");
            assert!(!partial(&frame, at + 2, offset - 2), "the field, but not the header's begin");
            assert!(!partial(&frame, at - 2, offset + 2), "the IP header is not summed");
            assert!(!partial(&frame, 0, at + offset));
            assert!(!partial(&frame, u16::MAX, u16::MAX));
        }
    }
    let solicit = LINK.neighbor_solicit(A6, B6);
    assert!(partial(&solicit, 54, 2) && !partial(&solicit, 54, 4));
}

#[test]
fn what_pads_a_frame_is_not_summed() {
    let mut padded = v4().udp(1, 9_999, &[0; 40]);
    padded.resize(100, 0);
    assert!(partial(&padded, 34 + 46, 0), "the packet's last word");
    assert!(!partial(&padded, 34 + 48, 0), "behind it");
}

#[test]
fn a_tunnel_made_by_the_pod_has_its_field_further_in() {
    let vxlan = v4().udp(1, 4789, &[0; 100]);
    assert!(partial(&vxlan, 34 + 8 + 8 + 34, 16));
    assert!(!partial(&vxlan, 34 + 4, 2), "within the UDP header");
    let gre = v6().upper(IpProtocol::from(47), &[0; 100]);
    assert!(partial(&gre, 54 + 24, 16) && !partial(&gre, 53, 16));
    let end = u16::try_from(gre.len()).unwrap();
    assert!(
        partial(&gre, end - 8, 6) && !partial(&gre, end - 8, 7),
        "the field ends within the frame"
    );
}

#[test]
fn super_frames_split_by_what_they_are() {
    use GsoKind::{Tcp4, Tcp6, Udp};
    for (frame, fitting) in [
        (v4().tcp((1, 2), 0, 0, 0, &[0; 3000]), Some(Tcp4)),
        (v6().tcp((1, 2), 0, 0, 0, &[0; 3000]), Some(Tcp6)),
        (v4().udp(1, 2, &[0; 3000]), Some(Udp)),
        (v6().udp(1, 2, &[0; 3000]), Some(Udp)),
        (v4().upper(IpProtocol::from(132), &SCTP), None),
        (v4().echo(true, 1, 1, b""), None),
        (v6().echo(true, 1, 1, b""), None),
        (v6().upper(IpProtocol::from(47), &[0; 3000]), None),
        (LINK.neighbor_solicit(A6, B6), None),
        (LINK.arp(true, (A, A4), (B, B4)), None),
    ] {
        for kind in [Tcp4, Tcp6, Udp] {
            assert_eq!(gso(&frame, kind, 1448), fitting == Some(kind), "{kind:?} {}", text(&frame));
            assert!(!gso(&frame, kind, 0), "segments of no bytes");
        }
    }
}

#[test]
pub(super) fn fragments_and_arp_have_no_offload() {
    for frame in [
        v4().fragment(1, 0, true).udp(1, 2, &[0; 800]),
        v4().fragment(1, 800, false).upper(IpProtocol::Udp, &[0; 800]),
        v6().fragment(1, 0, true).udp(1, 2, &[0; 800]),
        v6().fragment(1, 800, false).upper(IpProtocol::Udp, &[0; 800]),
        LINK.arp(true, (A, A4), (B, B4)),
    ] {
        let at = match judge(&frame).unwrap().inner {
            Inner::Ip(ip) => ip.l4_offset,
            Inner::Arp(_) => 14,
        };
        assert!(!partial(&frame, at, 6));
        assert!(!gso(&frame, GsoKind::Udp, 400));
        assert_eq!(described(&frame, Checksum::Valid, None), judge(&frame));
    }
    let atomic = v6().fragment(1, 0, false).udp(1, 2, &[0; 800]);
    assert!(partial(&atomic, 62, 6), "an atomic fragment is whole");
}

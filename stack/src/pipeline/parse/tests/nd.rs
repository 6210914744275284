//! Neighbor discovery: the conditions of RFC 4861 sections 6.1, 7.1 and 8.1, one by one.

use smoltcp::wire::{NdiscRepr, NdiscRouterFlags};

use super::*;
use crate::pipeline::packet::{L4, Nd};

const MESSAGE: usize = 54;
const GROUP: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const SLLA: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 1];
const TLLA: [u8; 8] = [2, 1, 2, 0, 0, 0, 0, 1];

/// A message with its checksum right: type, the four bytes behind the checksum, the rest.
fn message(
    src: Ipv6Address,
    dst: Ipv6Address,
    icmp_type: u8,
    word: [u8; 4],
    rest: &[&[u8]],
) -> Vec<u8> {
    let ip = LINK.ipv6(src, dst).hop_limit(255);
    let frame = ip.icmp(icmp_type, 0, word, &rest.concat());
    let (src, dst, len) = (src.into(), dst.into(), u32::try_from(frame.len() - MESSAGE).unwrap());
    let sums = checksum::pseudo_header(src, dst, 58, len) + checksum::sum(&frame[MESSAGE..]);
    assert_eq!(checksum::fold(sums), 0xffff);
    frame
}

fn solicit(options: &[&[u8]]) -> Vec<u8> {
    message(A6, B6, 135, [0; 4], &[&[&B6.octets()[..]], options].concat())
}

fn advert(options: &[&[u8]]) -> Vec<u8> {
    message(A6, B6, 136, [0x60, 0, 0, 0], &[&[&A6.octets()[..]], options].concat())
}

fn router_advert(src: Ipv6Address) -> Vec<u8> {
    let duration = smoltcp::time::Duration::from_secs(1);
    let repr = NdiscRepr::RouterAdvert {
        hop_limit: 64,
        flags: NdiscRouterFlags::empty(),
        router_lifetime: duration,
        reachable_time: duration,
        retrans_time: duration,
        lladdr: Some(A.into()),
        mtu: Some(1450),
        prefix_info: None,
    };
    LINK.nd(src, GROUP, repr)
}

fn redirect(src: Ipv6Address, target: Ipv6Address, destination: Ipv6Address) -> Vec<u8> {
    message(src, B6, 137, [0; 4], &[&target.octets(), &destination.octets(), &TLLA])
}

#[test]
fn valid_messages_pass() {
    let nonce = [14, 1, 0, 0, 0, 0, 0, 0];
    for (frame, nd) in [
        (solicit(&[]), Nd::NeighborSolicit { target: B6, link: None }),
        (solicit(&[&nonce, &SLLA]), Nd::NeighborSolicit { target: B6, link: Some(A) }),
        (solicit(&[&TLLA]), Nd::NeighborSolicit { target: B6, link: None }),
        (advert(&[&nonce, &TLLA, &nonce]), Nd::NeighborAdvert { target: A6, link: Some(A) }),
        (advert(&[&SLLA]), Nd::NeighborAdvert { target: A6, link: None }),
        (
            message(LOCAL6, GROUP, 133, [0; 4], &[&SLLA]),
            Nd::RouterSolicit { link: Some(EthernetAddress([2, 0, 0, 0, 0, 1])) },
        ),
        (
            message(Ipv6Address::UNSPECIFIED, GROUP, 133, [0; 4], &[]),
            Nd::RouterSolicit { link: None },
        ),
        (router_advert(LOCAL6), Nd::RouterAdvert),
        (redirect(LOCAL6, LOCAL6, A6), Nd::Redirect),
        (redirect(LOCAL6, A6, A6), Nd::Redirect),
    ] {
        assert_eq!(ip(&frame).l4, L4::Nd(nd));
    }
}

#[test]
fn every_message_needs_hop_limit_255_code_0_and_its_length() {
    for (frame, fixed) in [
        (message(LOCAL6, GROUP, 133, [0; 4], &[]), 8),
        (router_advert(LOCAL6), 16),
        (solicit(&[]), 24),
        (advert(&[]), 24),
        (redirect(LOCAL6, A6, A6), 40),
    ] {
        assert_eq!(judge(&frame).err(), None);
        assert_eq!(judge(&with(frame.clone(), IP + 7, &[254])), Err(DropReason::NdInvalid));
        assert_eq!(judge(&with(frame.clone(), MESSAGE + 1, &[1])), Err(DropReason::NdInvalid));
        for len in 8..fixed {
            let cut = v6().hop_limit(255).upper(IpProtocol::Icmpv6, &frame[MESSAGE..MESSAGE + len]);
            assert_eq!(judge(&cut), Err(DropReason::NdInvalid), "{len} bytes of {fixed}");
        }
        let fragment = v6().hop_limit(255).fragment(1, 0, false);
        let fragment = fragment.upper(IpProtocol::Icmpv6, &frame[MESSAGE..]);
        assert_eq!(judge(&fragment), Err(DropReason::NdInvalid), "RFC 6980: no fragment header");
    }
}

#[test]
pub(super) fn options_must_have_lengths_that_fit() {
    for (what, option) in [
        ("length 0", &[1, 0, 2, 0, 0, 0, 0, 1][..]),
        ("beyond the message", &[1, 2, 2, 0, 0, 0, 0, 1]),
        ("another option of length 0", &[14, 0, 0, 0, 0, 0, 0, 0]),
        ("a rest of 1 byte", &[1]),
        ("a rest of 4 bytes", &[1, 1, 2, 0]),
        ("a link-layer address of 14 bytes", &[1, 2, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("two link-layer addresses", &[1, 1, 2, 0, 0, 0, 0, 1, 1, 1, 2, 0, 0, 0, 0, 2]),
    ] {
        let target = option.iter().map(|byte| if *byte == 1 { 2 } else { *byte });
        assert_eq!(judge(&solicit(&[option])), Err(DropReason::NdInvalid), "solicit: {what}");
        let mut option = option.to_vec();
        option[0] = target.into_iter().next().unwrap();
        if option.len() == 16 && option[8] == 1 {
            option[8] = 2;
        }
        assert_eq!(judge(&advert(&[&option])), Err(DropReason::NdInvalid), "advert: {what}");
    }
}

#[test]
fn addresses_must_be_what_the_message_is_about() {
    let none = Ipv6Address::UNSPECIFIED;
    let node = build::solicited_node(B6);
    let group = GROUP.octets();
    for (what, frame) in [
        ("solicit for a group", message(A6, B6, 135, [0; 4], &[&group])),
        ("probe to a host", message(none, B6, 135, [0; 4], &[&B6.octets()])),
        ("probe to all nodes", message(none, GROUP, 135, [0; 4], &[&B6.octets()])),
        ("probe with a link address", message(none, node, 135, [0; 4], &[&B6.octets(), &SLLA])),
        ("advert of a group", message(A6, B6, 136, [0; 4], &[&group])),
        ("solicited to all", message(A6, GROUP, 136, [0x40, 0, 0, 0], &[&A6.octets()])),
        ("router solicit from nobody with a link", message(none, GROUP, 133, [0; 4], &[&SLLA])),
        ("router advert from afar", router_advert(A6)),
        ("redirect from afar", redirect(A6, LOCAL6, B6)),
        ("redirect of a group", redirect(LOCAL6, LOCAL6, GROUP)),
        ("redirect to neither router nor itself", redirect(LOCAL6, A6, B6)),
    ] {
        assert_eq!(judge(&frame), Err(DropReason::NdInvalid), "{what}");
    }
    assert_eq!(judge(&message(none, node, 135, [0; 4], &[&B6.octets()])).err(), None);
    assert_eq!(judge(&message(A6, GROUP, 136, [0x20, 0, 0, 0], &[&A6.octets()])).err(), None);
}

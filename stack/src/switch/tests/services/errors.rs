//! ICMP errors about translated packets (conformance.md 5.4), both directions, with the packet that
//! they quote.

use super::*;

/// The IP packet in an ICMP error, as a frame of its own.
fn quoted(bytes: &[u8]) -> Seen {
    let ip = read(bytes);
    let L4::Icmp { quoted: Some(quoted), .. } = ip.l4 else { panic!("no error: {ip:?}") };
    let (src, dst) = quoted.ports.unwrap();
    Seen { src: (quoted.src, src), dst: (quoted.dst, dst) }
}

/// An error of that kind about the packet of a frame, quoting 60 bytes of it.
fn error_about(link: Link, from_whom: IpAddress, frame: &[u8], kind: (u8, u8)) -> Vec<u8> {
    let about = read(frame).src;
    let quotation = &frame[14..frame.len().min(14 + 60)];
    ip(link, from_whom, about).icmp(kind.0, kind.1, [0; 4], quotation)
}

/// Port unreachable.
fn unreachable(family: &Family) -> (u8, u8) {
    if matches!(family.vip, IpAddress::Ipv4(_)) { (3, 3) } else { (1, 4) }
}

fn exceeded(family: &Family) -> (u8, u8) {
    if matches!(family.vip, IpAddress::Ipv4(_)) { (11, 0) } else { (3, 0) }
}

#[test]
fn a_backends_error_seems_to_come_from_its_service() {
    // 5508-5.
    for family in families() {
        let mut bed =
            bed(vec![service(&family, ServiceProtocol::Udp, &[backend(family.pods[1], true)])]);
        let client = (family.pods[0], 40_000);
        bed.udp(A, client, (family.vip, 80));
        let (_, asked) = bed.only();
        let error = error_about(between(3, mac(2)), family.pods[1], &asked, unreachable(&family));
        assert_eq!(bed.send(B, &error), Verdict::Forward(A));
        let (_, told) = bed.only();
        assert_eq!(read(&told).src, family.vip);
        assert_eq!(read(&told).dst, client.0);
        assert_eq!(quoted(&told), Seen { src: client, dst: (family.vip, 80) });
    }
}

#[test]
fn a_routers_error_finds_the_pod_behind_the_masquerade_and_keeps_its_name() {
    // 5508-4: traceroute shows the routers.
    for family in families() {
        let mut bed = bed(vec![]);
        let client = (family.pods[0], 40_000);
        bed.udp(A, client, (family.outside, 33_434));
        let (_, asked) = bed.only();
        let router = match family.vip {
            IpAddress::Ipv4(_) => IpAddress::v4(192, 0, 2, 1),
            IpAddress::Ipv6(_) => IpAddress::v6(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
        };
        let before = bed.switch.tables().connections().iter().next().unwrap();
        let error = error_about(from(HOST), router, &asked, exceeded(&family));
        assert_eq!(bed.send(HOST, &error), Verdict::Forward(A));
        let (_, told) = bed.only();
        assert_eq!((read(&told).src, read(&told).dst), (router, client.0));
        assert_eq!(quoted(&told), Seen { src: client, dst: (family.outside, 33_434) });
        // 5508-6, 4787-12: neither refreshed nor ended.
        assert_eq!(bed.switch.tables().connections().iter().next().unwrap(), before);
    }
}

#[test]
fn an_error_about_a_ping_finds_who_asked() {
    for family in families() {
        let mut bed = bed(vec![]);
        let ping = ip(from(A), family.pods[0], family.outside).echo(true, 9, 1, b"ping");
        bed.send(A, &ping);
        let (_, asked) = bed.only();
        let error = error_about(from(HOST), family.outside, &asked, exceeded(&family));
        assert_eq!(bed.send(HOST, &error), Verdict::Forward(A));
        let (_, told) = bed.only();
        assert_eq!(quoted(&told), Seen { src: (family.pods[0], 9), dst: (family.outside, 9) });
    }
}

#[test]
pub(super) fn an_error_about_nothing_that_is_known_is_dropped() {
    // 5508-4, and the node's own stack has its copy.
    for family in families() {
        let mut bed = bed(vec![]);
        let stranger = ip(from(HOST), family.node, family.outside).udp(61_500, 53, b"x");
        let error = error_about(from(HOST), family.outside, &stranger, unreachable(&family));
        assert_eq!(bed.send(HOST, &error), Verdict::Drop(DropReason::RelatedUnknown));
    }
}

#[test]
fn nobody_else_can_tell_an_error_about_a_connection() {
    for family in families() {
        let mut bed = bed(vec![]);
        bed.udp(A, (family.pods[0], 40_000), (family.outside, 53));
        let (_, asked) = bed.only();
        // C claims that A's packet went too far.
        let error = error_about(from(C), family.pods[2], &asked, exceeded(&family));
        let verdict = bed.send(C, &error);
        assert_eq!(verdict, Verdict::Forward(HOST), "it is for the node's address, as it stands");
        assert_eq!(quoted(&bed.only().1).src.0, family.node);
    }
}

#[test]
fn errors_of_the_switch_quote_what_was_sent() {
    // A Service's packet that runs out of hops behind the translation.
    for family in families() {
        let mut bed =
            bed(vec![service(&family, ServiceProtocol::Udp, &[backend(family.pods[1], true)])]);
        let ask = ip(from(A), family.pods[0], family.vip).hop_limit(1).udp(40_000, 80, b"x");
        bed.send(A, &ask);
        let (_, told) = bed.only();
        assert_eq!(read(&told).src, family.gateway);
        assert_eq!(quoted(&told), Seen { src: (family.pods[0], 40_000), dst: (family.vip, 80) });
        assert_eq!(bed.connections(), 0);
    }
}

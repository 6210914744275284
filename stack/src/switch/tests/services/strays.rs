//! What can be translated in no way that its receiver would take, and what would run in circles.

use smoltcp::wire::IpProtocol;

use super::*;

#[test]
pub(super) fn what_the_node_sent_here_never_goes_back_as_it_came() {
    for family in families() {
        let mut bed =
            bed(vec![service(&family, ServiceProtocol::Tcp, &[backend(family.remote, false)])]);
        // An address whose Service is gone, while the node's route to the switch still stands.
        let back = Verdict::Drop(DropReason::RoutedBack);
        for client in [family.node, family.outside] {
            let client = (client, 40_000);
            assert_eq!(bed.tcp(HOST, client, (family.outside, 80), SYN), back);
            assert_eq!(bed.udp(HOST, client, (family.outside, 80)), back);
            let ping = ip(from(HOST), client.0, family.outside).echo(true, 7, 1, b"ping");
            assert_eq!(bed.send(HOST, &ping), back);
            // Amid a connection, with the last hop: no error either.
            let last = ip(from(HOST), client.0, family.outside).hop_limit(1);
            assert_eq!(bed.send(HOST, &last.udp(1, 2, b"")), back);
        }
        assert_eq!(bed.connections(), 0);
        // A pod's goes out, and a Service's to a backend elsewhere and back.
        let pod = (family.pods[0], 40_000);
        assert_eq!(bed.tcp(A, pod, (family.outside, 80), SYN), Verdict::Forward(HOST));
        let client = (family.outside, 40_001);
        assert_eq!(bed.tcp(HOST, client, (family.vip, 80), SYN), Verdict::Forward(HOST));
        let (_, asked) = bed.left();
        assert_eq!(asked.dst, (family.remote, 8_080));
        let reply = ip(from(HOST), asked.dst.0, asked.src.0);
        let reply = reply.tcp((asked.dst.1, asked.src.1), SYN | ACK, 5_000, 1_001, b"");
        assert_eq!(bed.send(HOST, &reply), Verdict::Forward(HOST));
        assert_eq!(bed.left().1, Seen { src: (family.vip, 80), dst: client });
    }
}

#[test]
pub(super) fn a_packet_that_has_stops_before_it_is_not_translated() {
    // RFC 8200 section 8.1: its checksum counts the last destination, which is not the header's.
    let [_, family] = families();
    let backends = [backend(family.pods[1], true)];
    let mut bed = bed(vec![service(&family, ServiceProtocol::Tcp, &backends)]);
    // Type 4, segments left, last entry, and one segment (RFC 8754 section 2).
    let routing = |left: u8| {
        let mut body = vec![4, left, 0, 0, 0, 0];
        body.extend(Ipv6Address::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7).octets());
        body
    };
    let send = |bed: &mut Bed, dst, left| {
        let frame = ip(from(A), family.pods[0], dst);
        let frame = frame.extension(IpProtocol::Ipv6Route, &routing(left));
        bed.send(A, &frame.tcp((40_000, 80), SYN, 1, 0, b""))
    };
    let refused = Verdict::Drop(DropReason::SourceRouted);
    assert_eq!(send(&mut bed, family.vip, 1), refused);
    assert_eq!(send(&mut bed, family.outside, 1), refused, "masquerade would spoil it as well");
    assert_eq!(bed.connections(), 0);
    assert_eq!(send(&mut bed, family.remote, 1), Verdict::Forward(HOST), "as it is");
    assert_eq!(send(&mut bed, family.vip, 0), Verdict::Forward(B), "it has arrived");
}

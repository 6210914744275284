//! Who is refused, and how (DESIGN 8, SVC-05, SVC-06, SVC-12, conformance.md 3.4).

use super::*;

fn tcp_service(family: &Family, backends: &[Backend]) -> ServiceConfig {
    service(family, ServiceProtocol::Tcp, backends)
}

/// The reset that a SYN with sequence number 1,000 meets (RFC 9293 section 3.10.7.1).
fn assert_reset(bed: &Bed, reason: DropReason, client: (IpAddress, u16), asked: (IpAddress, u16)) {
    let verdict = bed.out.walked[0].verdict;
    assert_eq!(verdict, Verdict::Answer(AnswerKind::Reset { reason }));
    let (_, bytes) = bed.only();
    assert_eq!(seen(&bytes), Seen { src: asked, dst: client });
    let L4::Tcp { flags, .. } = read(&bytes).l4 else { panic!("no TCP") };
    assert_eq!(flags, 0x14, "RST and ACK");
    let at = usize::from(read(&bytes).l4_offset);
    assert_eq!(bytes[at + 8..at + 12], 1_001_u32.to_be_bytes(), "acknowledges the SYN");
}

/// The type and code of the ICMP error that leaves.
fn error(bed: &Bed) -> (u8, u8) {
    let (_, bytes) = bed.only();
    let L4::Icmp { icmp_type, code, .. } = read(&bytes).l4 else { panic!("no ICMP") };
    (icmp_type, code)
}

fn unreachable(family: &Family) -> (u8, u8) {
    if matches!(family.vip, IpAddress::Ipv4(_)) { (3, 3) } else { (1, 4) }
}

#[test]
pub(super) fn without_backends_everybody_is_refused() {
    for family in families() {
        let client = (family.pods[0], 40_000);
        let mut bed =
            bed(vec![tcp_service(&family, &[]), service(&family, ServiceProtocol::Udp, &[])]);
        for asked in [(family.vip, 80), (family.node, NODE_PORT), (family.balancer, 80)] {
            bed.tcp(A, client, asked, SYN);
            assert_reset(&bed, DropReason::ServiceNoBackend, client, asked);
            bed.udp(A, client, asked);
            assert_eq!(error(&bed), unreachable(&family));
        }
        let outside = (family.outside, 5_000);
        bed.tcp(HOST, outside, (family.node, NODE_PORT), SYN);
        assert_reset(&bed, DropReason::ServiceNoBackend, outside, (family.node, NODE_PORT));
        // The outside knows the node and no gateway; pods and the node know the gateway.
        let node = bed.switch.tables().node();
        let gateway = match family.vip {
            IpAddress::Ipv4(_) => node.gateway4.unwrap().address().into(),
            IpAddress::Ipv6(_) => node.gateway6.unwrap().address().into(),
        };
        for (port, src, by) in [
            (HOST, family.outside, family.node),
            (HOST, family.node, gateway),
            (A, family.pods[0], gateway),
        ] {
            bed.udp(port, (src, 5_000), (family.vip, 80));
            assert_eq!((error(&bed), bed.left().1.src.0), (unreachable(&family), by));
        }
        assert_eq!(bed.connections(), 0, "nothing is kept of what was refused");
    }
}

#[test]
pub(super) fn none_local_under_a_local_policy_is_silent() {
    for family in families() {
        let mut service = tcp_service(&family, &[backend(family.remote, false)]);
        (service.internal_local, service.external_local) = (true, true);
        let mut bed = bed(vec![service]);
        let silent = Verdict::Drop(DropReason::ServiceNoneLocal);
        let inside = (family.pods[0], 40_000);
        assert_eq!(bed.tcp(A, inside, (family.vip, 80), SYN), silent);
        let outside = (family.outside, 40_000);
        assert_eq!(bed.tcp(HOST, outside, (family.node, NODE_PORT), SYN), silent);
        assert_eq!(bed.tcp(HOST, outside, (family.balancer, 80), SYN), silent);
        // From within the cluster an external address has cluster semantics.
        assert_eq!(bed.tcp(A, inside, (family.balancer, 80), SYN), Verdict::Forward(HOST));
    }
}

#[test]
pub(super) fn an_unknown_port_of_a_known_address_is_refused() {
    for family in families() {
        let mut bed = bed(vec![tcp_service(&family, &[backend(family.pods[1], true)])]);
        let client = (family.pods[0], 40_000);
        bed.tcp(A, client, (family.vip, 81), SYN);
        assert_reset(&bed, DropReason::ServicePortUnknown, client, (family.vip, 81));
        // SVC-01: UDP's port 80 is another one.
        bed.udp(A, client, (family.vip, 80));
        assert_eq!(error(&bed), unreachable(&family));
        let ping = ip(from(A), client.0, family.vip).echo(true, 7, 1, b"ping");
        assert_eq!(bed.send(A, &ping), Verdict::Answer(AnswerKind::Echo));
        assert_eq!(bed.left().1.src.0, family.vip, "a Service's address answers to ping");
    }
}

#[test]
pub(super) fn an_address_that_no_service_has_is_silent() {
    for family in families() {
        let mut bed = bed(vec![]);
        let verdict = bed.tcp(A, (family.pods[0], 40_000), (family.vip, 80), SYN);
        assert_eq!(verdict, Verdict::Drop(DropReason::ServiceAddressUnallocated));
        assert_eq!(bed.sent(), []);
    }
}

#[test]
pub(super) fn amid_a_stream_nobody_is_led_anywhere() {
    // SVC-12: kube-proxy would choose any backend.
    for family in families() {
        let mut bed = bed(vec![tcp_service(&family, &[backend(family.pods[1], true)])]);
        let client = (family.pods[0], 40_000);
        bed.tcp(A, client, (family.vip, 80), ACK);
        let reason = DropReason::ServiceMidStream;
        assert_eq!(bed.out.walked[0].verdict, Verdict::Answer(AnswerKind::Reset { reason }));
        let (_, bytes) = bed.only();
        let at = usize::from(read(&bytes).l4_offset);
        assert_eq!(bytes[at + 4..at + 8], 5_001_u32.to_be_bytes(), "where the client expects it");
        assert_eq!(bytes[at + 13], 4, "RST alone");
        assert_eq!(bed.connections(), 0);
        // A reset is never answered by another.
        assert_eq!(bed.tcp(A, client, (family.vip, 80), 4), Verdict::Drop(reason));
    }
}

#[test]
pub(super) fn load_balancer_source_ranges_hold_before_anything_else() {
    // SVC-24.
    for family in families() {
        let mut service = tcp_service(&family, &[backend(family.pods[1], true)]);
        let bits = if matches!(family.vip, IpAddress::Ipv4(_)) { 24 } else { 64 };
        service.source_ranges = vec![IpCidr::new(family.pods[0], bits)];
        let mut bed = bed(vec![service]);
        let refused = Verdict::Drop(DropReason::ServiceSourceRefused);
        let outside = (family.outside, 40_000);
        assert_eq!(bed.tcp(HOST, outside, (family.balancer, 80), SYN), refused);
        assert_eq!(bed.tcp(HOST, outside, (family.node, NODE_PORT), SYN), Verdict::Forward(B));
        let inside = (family.pods[0], 40_000);
        assert_eq!(bed.tcp(A, inside, (family.balancer, 80), SYN), Verdict::Forward(B));
    }
}

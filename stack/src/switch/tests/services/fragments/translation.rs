//! Both directions of every translation, in every order of three fragments.

use super::super::host_ports::{HOST_PORT, LOOPBACK, host_port};
use super::super::translation::assert_sums;
use super::*;

/// Sends a datagram in one order of its fragments; gives what a receiver makes of it, whole and
/// with right checksums.
fn carried(bed: &mut Bed, port: PortId, whole: &[u8], id: u16, order: &[usize]) -> (PortId, Seen) {
    let parts = split(whole, id, PART);
    let (by, left) = bed.send_all(port, order.iter().map(|n| &parts[*n]));
    assert_eq!(left.len(), parts.len(), "all of them: {order:?}");
    assert_eq!(bed.datagrams(), 0, "what has come whole is forgotten");
    let joined = join(&left);
    assert_sums(&joined);
    let upper = |frame: &[u8]| frame[usize::from(read(frame).l4_offset) + 8..].to_vec();
    assert_eq!(upper(&joined), upper(whole), "the payload as it was");
    (by, seen(&joined))
}

/// Every order of three, with an identification for each.
fn in_all_orders(mut test: impl FnMut(&Family, u16, &[usize])) {
    for family in families() {
        for (id, order) in (0..).zip(orders(3)) {
            test(&family, id, &order);
        }
    }
}

#[test]
fn a_pod_asks_a_service_and_is_answered_past_the_gateway() {
    in_all_orders(|family, id, order| {
        let backends = [backend(family.pods[1], true)];
        let mut bed = bed(vec![service(family, ServiceProtocol::Udp, &backends)]);
        let client = (family.pods[0], 40_000);
        let asks = bed.large(from(A), client, (family.vip, 80));
        let there = Seen { src: client, dst: (family.pods[1], 8_080) };
        assert_eq!(carried(&mut bed, A, &asks, id, order), (B, there));
        // Bridged, between the addresses of two pods, and translated.
        let answers = bed.large(between(3, mac(2)), (family.pods[1], 8_080), client);
        let back = Seen { src: (family.vip, 80), dst: client };
        assert_eq!(carried(&mut bed, B, &answers, id, order), (A, back));
        assert_eq!(bed.connections(), 1);
    });
}

#[test]
fn a_pod_asks_itself_by_a_service() {
    in_all_orders(|family, id, order| {
        let backends = [backend(family.pods[0], true)];
        let mut bed = bed(vec![service(family, ServiceProtocol::Udp, &backends)]);
        let client = (family.pods[0], 40_000);
        let asks = bed.large(from(A), client, (family.vip, 80));
        let (port, there) = carried(&mut bed, A, &asks, id, order);
        assert_eq!((port, there.src.0, there.dst), (A, family.gateway, (family.pods[0], 8_080)));
        let answers = bed.large(from(A), there.dst, there.src);
        let back = Seen { src: (family.vip, 80), dst: client };
        assert_eq!(carried(&mut bed, A, &answers, id, order), (A, back));
    });
}

#[test]
fn what_leaves_the_cluster_comes_back() {
    in_all_orders(|family, id, order| {
        let mut bed = bed(vec![]);
        let (client, server) = ((family.pods[0], 40_000), (family.outside, 53));
        let asks = bed.large(from(A), client, server);
        let (port, there) = carried(&mut bed, A, &asks, id, order);
        assert_eq!((port, there.src.0, there.dst), (HOST, family.node, server));
        let answers = bed.large(from(HOST), server, there.src);
        let back = Seen { src: server, dst: client };
        assert_eq!(carried(&mut bed, HOST, &answers, id, order), (A, back));
    });
}

#[test]
fn a_node_port_is_asked_from_outside() {
    in_all_orders(|family, id, order| {
        let backends = [backend(family.pods[1], true)];
        let mut bed = bed(vec![service(family, ServiceProtocol::Udp, &backends)]);
        let (client, asked) = ((family.outside, 5_000), (family.node, NODE_PORT));
        let asks = bed.large(from(HOST), client, asked);
        let (port, there) = carried(&mut bed, HOST, &asks, id, order);
        assert_eq!((port, there.dst), (B, (family.pods[1], 8_080)));
        let answers = bed.large(from(B), there.dst, there.src);
        let back = Seen { src: asked, dst: client };
        assert_eq!(carried(&mut bed, B, &answers, id, order), (HOST, back));
    });
}

#[test]
fn the_node_asks_a_host_port_at_the_loopback_address() {
    let [family, _] = families();
    for (id, order) in (0..).zip(orders(3)) {
        let mut bed = bed(vec![host_port(&family, ServiceProtocol::Udp, Some(LOOPBACK))]);
        let asks = bed.large(from(HOST), (LOOPBACK, 40_000), (LOOPBACK, HOST_PORT));
        let (by, there) = carried(&mut bed, HOST, &asks, id, &order);
        assert_eq!((by, there.dst), (B, (family.pods[1], 8_080)));
        // Without a first one that may, none of the others does.
        let others = bed.large(from(HOST), (LOOPBACK, 40_000), (LOOPBACK, HOST_PORT + 1));
        let parts = split(&others, 9, PART);
        assert_eq!(bed.send(HOST, &parts[1]), Verdict::Hold);
        assert_eq!(bed.send(HOST, &parts[0]), Verdict::Drop(DropReason::Martian));
        assert_eq!(bed.sent(), []);
    }
}

#[test]
fn large_pings_leave_and_come_back() {
    in_all_orders(|family, id, order| {
        let mut bed = bed(vec![]);
        let ping = ip(from(A), family.pods[0], family.outside).echo(true, 9, 1, &payload(2_000));
        let (port, there) = carried(&mut bed, A, &ping, id, order);
        assert_eq!((port, there.src.0, there.dst.0), (HOST, family.node, family.outside));
        let pong = ip(from(HOST), family.outside, family.node);
        let pong = pong.echo(false, there.src.1, 1, &payload(2_000));
        let (port, back) = carried(&mut bed, HOST, &pong, id, order);
        assert_eq!((port, back.dst), (A, (family.pods[0], 9)));
    });
}

#[test]
fn a_large_pong_that_the_node_put_together_is_divided_again() {
    for family in families() {
        let mut bed = bed(vec![]);
        let ping = ip(from(A), family.pods[0], family.outside).echo(true, 9, 1, &payload(2_000));
        let (_, left) = bed.send_all(A, split(&ping, 1, PART));
        let outer = seen(&join(&left)).src;
        // The copy from the raw socket.
        let pong = ip(from(HOST), family.outside, family.node).may_fragment();
        let pong = pong.echo(false, outer.1, 1, &payload(2_000));
        assert_eq!(bed.send(HOST, &pong), Verdict::Forward(A));
        assert_eq!(bed.out.transmits[0].frame.offload().fragment_mtu, Some(1_500));
        assert_eq!(bed.left().1.dst, (family.pods[0], 9));
        // What is no copy is not: nobody has divided it.
        let large = ip(from(HOST), family.outside, family.pods[0]).udp(1, 2, &payload(2_000));
        let told = bed.send(HOST, &large);
        assert!(matches!(told, Verdict::Answer(AnswerKind::Error { mtu: 1_500, .. })));
    }
}

#[test]
fn what_is_the_node_s_goes_back_to_it_as_it_came() {
    in_all_orders(|family, id, order| {
        let mut bed = bed(vec![]);
        let whole = bed.large(from(HOST), (family.outside, 53), (family.node, 40_000));
        let parts = split(&whole, id, PART);
        let (port, left) = bed.send_all(HOST, order.iter().map(|n| &parts[*n]));
        assert_eq!(port, HOST);
        let came: BTreeSet<&[u8]> = parts.iter().map(|part| &part[14..]).collect();
        assert_eq!(left.iter().map(|part| &part[14..]).collect::<BTreeSet<_>>(), came);
        assert_eq!(bed.connections(), 0);
    });
}

#[test]
fn pods_of_a_segment_get_them_untouched() {
    in_all_orders(|family, id, order| {
        let mut bed = bed(vec![]);
        let link = between(2, mac(3));
        let whole = bed.large(link, (family.pods[0], 1), (family.pods[1], 2));
        let parts = split(&whole, id, PART);
        let (port, left) = bed.send_all(A, order.iter().map(|n| &parts[*n]));
        let came: BTreeSet<&Vec<u8>> = parts.iter().collect();
        assert_eq!((port, left.iter().collect::<BTreeSet<_>>()), (B, came));
    });
}

#[test]
fn errors_about_a_first_fragment_still_reach_its_sender() {
    for family in families() {
        let mut bed = bed(vec![]);
        let client = (family.pods[0], 40_000);
        let parts = split(&bed.large(from(A), client, (family.outside, 53)), 1, PART);
        let (_, left) = bed.send_all(A, &parts);
        let error = ip(from(HOST), family.outside, family.node);
        let is_v4 = matches!(family.vip, IpAddress::Ipv4(_));
        let (kind, code) = if is_v4 { (3, 3) } else { (1, 4) };
        let quoted = &left[0][14..14 + 100];
        assert_eq!(bed.send(HOST, &error.icmp(kind, code, [0; 4], quoted)), Verdict::Forward(A));
        let (_, told) = bed.only();
        let L4::Icmp { quoted: Some(quoted), .. } = read(&told).l4 else { panic!("quotes") };
        assert_eq!((quoted.src, quoted.ports), (client.0, Some((40_000, 53))));
    }
}

#[test]
pub(super) fn sctp_whose_port_would_change_goes_nowhere_in_fragments() {
    // Its checksum covers what its first fragment does not have.
    for family in families() {
        let backends = [backend(family.pods[1], true)];
        let mut bed = bed(vec![service(&family, ServiceProtocol::Sctp, &backends)]);
        let sctp = IpProtocol::from(132);
        // INIT, with an initiate tag.
        let mut init = vec![0; 2_000];
        init[..4].copy_from_slice(&[0x9c, 0x40, 0, 80]);
        init[12..20].copy_from_slice(&[1, 0, 0, 20, 0, 0, 0, 7]);
        let parts = |dst, link| split(&ip(link, family.pods[0], dst).upper(sctp, &init), 1, PART);
        let asks = parts(family.vip, from(A));
        let refused = Verdict::Drop(DropReason::FragmentUntranslatable);
        assert_eq!(bed.send(A, &asks[0]), refused);
        assert_eq!(bed.connections(), 0, "a dropped frame creates nothing");
        assert_eq!(bed.send(A, &asks[1]), Verdict::Drop(DropReason::FragmentRefused));
        let direct = parts(family.pods[1], between(2, mac(3)));
        let (port, left) = bed.send_all(A, &direct);
        assert_eq!((port, left), (B, direct));
    }
}

#[test]
fn the_walks_tell_who_follows_whom() {
    let [family, _] = families();
    let backends = [backend(family.pods[1], true)];
    let mut bed = bed(vec![service(&family, ServiceProtocol::Udp, &backends)]);
    let asks = bed.large(from(A), (family.pods[0], 40_000), (family.vip, 80));
    let parts = split(&asks, 7, PART);
    assert_eq!(bed.send(A, &parts[2]), Verdict::Hold);
    let story = lines(&bed.out.walked[0], &parts[2]);
    assert_eq!(
        story.last().unwrap(),
        "egress     held until the first fragment of its datagram has come"
    );
    bed.send(A, &parts[0]);
    let story = lines(&bed.out.walked[1], &parts[2]);
    assert_eq!(
        story[2..5],
        [
            "conntrack  a fragment: as the first of its datagram",
            "service    destination -> 10.244.1.3",
            "l3         10.244.1.0/24 is attached: port 3",
        ]
    );
    assert_eq!(bed.out.walked[1].number, bed.out.walked[0].number + 1);
}

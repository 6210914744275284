//! Duplicates, overlaps, identifications used again, first fragments that get no further.

use super::*;

/// A datagram of pod A to the outside in three parts.
fn parts(family: &Family, id: u16) -> Vec<Vec<u8>> {
    let whole = ip(from(A), family.pods[0], family.outside).udp(40_000, 53, &payload(2_000));
    split(&whole, id, PART)
}

#[test]
pub(super) fn a_duplicate_goes_nowhere() {
    for family in families() {
        let mut bed = bed(vec![]);
        let parts = parts(&family, 1);
        let duplicate = Verdict::Drop(DropReason::FragmentDuplicate);
        assert_eq!(bed.send(A, &parts[2]), Verdict::Hold);
        assert_eq!(bed.send(A, &parts[2]), duplicate, "while it is held");
        bed.send(A, &parts[0]);
        assert_eq!(bed.sent().len(), 2);
        assert_eq!(bed.send(A, &parts[2]), duplicate, "when it has left");
        assert_eq!(bed.send(A, &parts[1]), Verdict::Forward(HOST));
        assert_eq!(bed.datagrams(), 0);
        bed.assert_held();
    }
}

#[test]
fn an_identification_may_be_used_again_before_its_datagram_is_over() {
    for family in families() {
        let mut bed = bed(vec![]);
        // The last part is lost.
        let lost = parts(&family, 1);
        bed.send_all(A, &lost[..2]);
        // Another flow, the same identification.
        let whole = ip(from(A), family.pods[0], family.outside).udp(40_001, 53, &payload(2_000));
        let again = split(&whole, 1, PART);
        let (_, left) = bed.send_all(A, &again);
        assert_eq!(left.len(), 3);
        let there = seen(&join(&left));
        assert_eq!(there.dst, (family.outside, 53));
        assert_eq!(bed.datagrams(), 0);
    }
}

#[test]
pub(super) fn overlapping_fragments_end_their_datagram() {
    // FR-2: RFC 5722 for IPv6, and as Linux has it for IPv4.
    for family in families() {
        let overlap = |id, at, len, more| {
            let packet = ip(from(A), family.pods[0], family.outside).fragment(id, at, more);
            packet.upper(IpProtocol::Udp, &payload(len))
        };
        let dropped = Verdict::Drop(DropReason::FragmentOverlap);
        for (id, why, bytes) in [
            (1, "over the end of another", overlap(1, 792, 800, true)),
            (2, "over the begin of another", overlap(2, 1_592, 800, true)),
            (3, "behind the end", overlap(3, 2_008, 8, true)),
            (4, "another end", overlap(4, 2_000, 16, false)),
            (5, "a longer first one", split(&parts(&family, 0)[0].clone(), 5, 80)[0].clone()),
        ] {
            let mut bed = bed(vec![]);
            let parts = parts(&family, id);
            bed.send_all(A, [&parts[2], &parts[0]]);
            assert_eq!(bed.send(A, &bytes), dropped, "{why}");
            for part in &parts {
                assert_eq!(bed.send(A, part), dropped, "{why}: nothing more of it");
            }
            bed.assert_held();
        }
        // Those that are held go as well.
        let mut bed = bed(vec![]);
        let parts = parts(&family, 1);
        bed.send(A, &parts[2]);
        assert_eq!(bed.send(A, &overlap(1, 1_592, 800, true)), dropped);
        bed.judge_released();
        assert_eq!(bed.out.walked[1].verdict, dropped);
        assert_eq!(bed.send(A, &parts[0]), dropped);
    }
}

#[test]
fn nothing_replaces_the_upper_header() {
    // RFC 1858 and 3128, whatever comes first.
    for family in families() {
        for (protocol, at) in [(IpProtocol::Tcp, 16), (IpProtocol::Icmp, 8), (IpProtocol::Udp, 8)] {
            let packet =
                |at, more| ip(from(A), family.pods[0], family.outside).fragment(1, at, more);
            let hides = packet(at, false).upper(protocol, &[0; 64]);
            let first = packet(0, true);
            let first = if protocol == IpProtocol::Tcp {
                first.tcp((1, 2), SYN, 1, 0, &[0; 60])
            } else if protocol == IpProtocol::Udp {
                first.udp(1, 2, &[0; 64])
            } else {
                first.echo(true, 1, 1, &[0; 64])
            };
            let mut bed = bed(vec![]);
            let protocol_of = |frame: &[u8]| read(frame).protocol;
            // Echo's protocol is the family's own; of IPv6 it is not compared.
            let comparable = protocol_of(&first) == protocol || family.vip == VIP6.into();
            bed.send(A, &hides);
            bed.send(A, &first);
            let overlap = bed.out.walked[0].verdict == Verdict::Drop(DropReason::FragmentOverlap);
            assert_eq!(overlap, comparable, "{protocol} at {at}");
            bed.judge_released();
        }
    }
}

#[test]
pub(super) fn what_follows_a_refused_first_is_refused() {
    for family in families() {
        let refused = Verdict::Drop(DropReason::FragmentRefused);
        for order in orders(3) {
            let mut bed = bed(vec![service(&family, ServiceProtocol::Udp, &[])]);
            let whole = bed.large(from(A), (family.pods[0], 1), (family.vip, 80));
            let parts = split(&whole, 1, PART);
            let mut verdicts = [Verdict::Hold; 3];
            for n in &order {
                verdicts[*n] = bed.send(A, &parts[*n]);
                for trace in &bed.out.walked[1..] {
                    assert_eq!(trace.verdict, refused, "what was held goes no further either");
                }
                bed.judge_released();
            }
            assert!(matches!(verdicts[0], Verdict::Answer(AnswerKind::Error { .. })));
            let at = |n| order.iter().position(|other| *other == n);
            for (n, verdict) in verdicts.into_iter().enumerate().skip(1) {
                let held = at(n) < at(0);
                assert_eq!(verdict, if held { Verdict::Hold } else { refused });
            }
            assert_eq!(bed.datagrams(), 0, "{order:?}");
            let counters = bed.switch.counters();
            let dropped = counters.port(A).unwrap().dropped[DropReason::FragmentRefused.index()];
            assert_eq!(dropped, 2, "each once");
        }
    }
}

#[test]
fn what_is_another_s_is_never_taken_for_one_s_own() {
    // One identification, one pair of addresses: other ports and other MACs are other datagrams.
    let [family, _] = families();
    let mut config = bed(vec![]).switch.config();
    let shared: IpAddress = Ipv4Address::new(10, 9, 9, 9).into();
    config.ports.iter_mut().for_each(|port| port.allowed = vec![IpCidr::new(shared, 32)]);
    let mut bed = Bed::with(config);
    let whole = ip(from(A), shared, family.outside).udp(40_000, 53, &payload(2_000));
    let mine = split(&whole, 1, PART);
    bed.send(A, &mine[0]);
    let mut stolen = mine[1].clone();
    stolen[6..12].copy_from_slice(&mac(3).0);
    assert_eq!(bed.send(B, &stolen), Verdict::Hold, "by another port");
    let mut elsewhere = mine[1].clone();
    elsewhere[..6].copy_from_slice(&mac(3).0);
    assert_eq!(bed.send(A, &elsewhere), Verdict::Hold, "to another MAC");
    assert_eq!(bed.send(A, &mine[1]), Verdict::Forward(HOST));
}

#[test]
fn fragments_for_the_gateway_are_still_dropped() {
    for family in families() {
        let mut bed = bed(vec![]);
        let ping = ip(from(A), family.pods[0], family.gateway).echo(true, 9, 1, &payload(2_000));
        let parts = split(&ping, 1, PART);
        assert_eq!(bed.send(A, &parts[0]), Verdict::Drop(DropReason::FragmentUnsupported));
        assert_eq!(bed.send(A, &parts[1]), Verdict::Drop(DropReason::FragmentRefused));
        // A Service's own address answers whole pings only.
        let backends = [backend(family.pods[1], true)];
        let mut bed = super::bed(vec![service(&family, ServiceProtocol::Udp, &backends)]);
        let ping = ip(from(A), family.pods[0], family.vip).echo(true, 9, 1, &payload(2_000));
        let parts = split(&ping, 1, PART);
        assert_eq!(bed.send(A, &parts[0]), Verdict::Drop(DropReason::FragmentUnsupported));
        assert_eq!(bed.sent(), []);
    }
}

#[test]
fn a_group_s_fragments_are_not_followed() {
    for family in families() {
        let mut bed = bed(vec![]);
        let (mac, group): (_, IpAddress) = match family.vip {
            IpAddress::Ipv4(_) => ([1, 0, 0x5e, 0, 0, 9], Ipv4Address::new(224, 0, 0, 9).into()),
            IpAddress::Ipv6(_) => {
                ([0x33, 0x33, 0, 0, 0, 9], Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 9).into())
            }
        };
        let whole = bed.large(between(2, EthernetAddress(mac)), (family.pods[0], 1), (group, 2));
        for part in split(&whole, 1, PART).iter().rev() {
            assert_eq!(bed.send(A, part), Verdict::Flood(2));
        }
        assert_eq!(bed.datagrams(), 0);
    }
}

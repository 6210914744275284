//! What the RFCs on NAT ask for (4787, 5382, 5508) and the other files here do not show.

use super::*;
use crate::config::Seeds;
use crate::wire::checksum;

/// The source by which the outside knows a pod's packet.
fn outer(bed: &Bed) -> (IpAddress, u16) {
    bed.left().1.src
}

#[test]
fn a_mapping_is_for_one_destination() {
    // 4787-1, 4787-8, 5382-1, 5382-3: declared, endpoint-dependent as kube-proxy's.
    for family in families() {
        let mut bed = bed(vec![]);
        let client = (family.pods[0], 40_000);
        bed.udp(A, client, (family.outside, 53));
        let first = outer(&bed);
        bed.tcp(A, client, (family.outside, 53), SYN);
        bed.udp(A, client, (family.outside, 54));
        let second = outer(&bed);
        assert_eq!(first.0, second.0, "4787-2: the address is one and the same");
        assert_eq!(bed.connections(), 3);
        for (port, mapping) in [(53, first), (54, second)] {
            assert_eq!(bed.udp(HOST, (family.outside, port), mapping), Verdict::Forward(A));
            assert_eq!(bed.left().1.dst, client);
        }
        // From another port, and from another address.
        for stranger in [(family.outside, 55), (family.remote, 53)] {
            bed.udp(HOST, stranger, first);
            assert_eq!(bed.left(), (HOST, Seen { src: stranger, dst: first }), "not the pod's");
        }
        assert_eq!(bed.connections(), 3);
    }
}

#[test]
fn a_pods_mapping_is_nothing_to_other_pods() {
    // 4787-9, 5382-8, 5508-7: declared, the node alone answers at its address.
    for family in families() {
        let mut bed = bed(vec![]);
        bed.udp(A, (family.pods[0], 40_000), (family.outside, 53));
        let mapping = outer(&bed);
        let other = (family.pods[1], 41_000);
        assert_eq!(bed.udp(B, other, mapping), Verdict::Forward(HOST));
        assert_eq!(bed.left(), (HOST, Seen { src: other, dst: mapping }));
    }
}

#[test]
fn whoever_opens_at_once_from_both_sides_is_connected() {
    // 5382-2: a simultaneous open through masquerade.
    for family in families() {
        let mut bed = bed(vec![]);
        let (client, there) = ((family.pods[0], 40_000), (family.outside, 9_000));
        assert_eq!(bed.tcp(A, client, there, SYN), Verdict::Forward(HOST));
        let mapping = outer(&bed);
        assert_eq!(bed.tcp(HOST, there, mapping, SYN), Verdict::Forward(A));
        assert_eq!(bed.left().1, Seen { src: there, dst: client });
        let both = ip(from(A), client.0, there.0);
        let answer = both.tcp((client.1, there.1), SYN | ACK, 1_000, 1_001, b"");
        assert_eq!(bed.send(A, &answer), Verdict::Forward(HOST));
        assert_eq!(outer(&bed), mapping);
        assert_eq!(bed.connections(), 1);
    }
}

#[test]
fn an_unasked_syn_is_not_answered_by_the_switch() {
    // 5382-4: what nobody here waits for is the node's to refuse.
    for family in families() {
        let mut bed = bed(vec![]);
        let asked = (family.node, 61_234);
        let verdict = bed.tcp(HOST, (family.outside, 9_000), asked, SYN);
        assert_eq!(verdict, Verdict::Forward(HOST));
        assert_eq!(bed.left().1, Seen { src: (family.outside, 9_000), dst: asked });
        assert_eq!(bed.connections(), 0);
    }
}

/// What an ICMP message sums up to behind a right checksum, and otherwise does not.
fn sum(bytes: &[u8]) -> u16 {
    let ip = read(bytes);
    let message = &bytes[usize::from(ip.l4_offset)..];
    let pseudo = match (ip.src, ip.dst) {
        (IpAddress::Ipv6(_), IpAddress::Ipv6(_)) => {
            let len = u32::try_from(message.len()).unwrap();
            checksum::pseudo_header(ip.src, ip.dst, 58, len)
        }
        _ => 0,
    };
    checksum::fold(pseudo + checksum::sum(message))
}

#[test]
fn a_wrong_sum_stays_wrong() {
    // 5508-3, CK-6: sums of transit are neither judged nor mended; who receives it judges.
    for family in families() {
        let mut bed = bed(vec![]);
        let client = (family.pods[0], 40_000);
        bed.udp(A, client, (family.outside, 33_434));
        let (_, asked) = bed.only();
        let kind = if matches!(family.vip, IpAddress::Ipv4(_)) { (3, 3) } else { (1, 4) };
        let error = ip(from(HOST), family.outside, read(&asked).src);
        let error = error.icmp(kind.0, kind.1, [0; 4], &asked[14..]);
        for damage in [0, 0x55] {
            let mut error = error.clone();
            let at = usize::from(read(&error).l4_offset);
            error[at + 2] ^= damage;
            assert_eq!(bed.send(HOST, &error), Verdict::Forward(A));
            let (_, told) = bed.only();
            assert_eq!(read(&told).dst, client.0);
            assert_eq!(sum(&told) == 0xffff, damage == 0);
        }
    }
}

#[test]
fn icmp_that_is_neither_echo_nor_error_stays_within_the_cluster() {
    // 5508-11.
    for family in families() {
        let mut bed = bed(vec![]);
        // A timestamp request (RFC 792), and a node information query (RFC 4620).
        let icmp_type = if matches!(family.vip, IpAddress::Ipv4(_)) { 13 } else { 139 };
        let ask = |link, dst| ip(link, family.pods[0], dst).icmp(icmp_type, 0, [0; 4], &[0; 16]);
        let outside = bed.send(A, &ask(from(A), family.outside));
        assert_eq!(outside, Verdict::Drop(DropReason::ConntrackInvalid));
        let direct = ask(between(2, mac(3)), family.pods[1]);
        assert_eq!(bed.send(A, &direct), Verdict::Forward(B));
        assert_eq!(bed.only().1, direct);
        assert_eq!(bed.connections(), 0);
    }
}

#[test]
fn a_reset_ends_a_mapping_soon_and_is_translated() {
    // RFC 7857 section 2: here the time of Linux's CLOSE, 10 s.
    for family in families() {
        let mut bed = bed(vec![]);
        let (client, there) = ((family.pods[0], 40_000), (family.outside, 80));
        bed.tcp(A, client, there, SYN);
        let mapping = outer(&bed);
        let reply = || ip(from(HOST), there.0, mapping.0);
        bed.send(HOST, &reply().tcp((80, mapping.1), SYN | ACK, 5_000, 1_001, b""));
        bed.tcp(A, client, there, ACK);
        let reset = reply().tcp((80, mapping.1), 0x14, 5_001, 1_001, b"");
        assert_eq!(bed.send(HOST, &reset), Verdict::Forward(A));
        assert_eq!(bed.left().1, Seen { src: there, dst: client });
        bed.wait(Duration::from_secs(10));
        assert_eq!(bed.send(HOST, &reset), Verdict::Forward(HOST), "the mapping is gone");
        assert_eq!(bed.left().1.dst, mapping);
    }
}

#[test]
fn ports_of_masquerade_cannot_be_foretold() {
    // RFC 7857 section 2, RFC 6056: a keyed hash, and the key is the node's own.
    let [family, _] = families();
    let ports = |seeds| {
        let config = bed(vec![]).switch.config();
        let mut bed = Bed { switch: Switch::new(config, Limits::default(), seeds), ..Bed::new() };
        let there = (family.outside, 53);
        let outer = |port| {
            bed.udp(A, (family.pods[0], port), there);
            outer(&bed).1
        };
        (40_000..40_010).map(outer).collect::<Vec<u16>>()
    };
    let own = ports(seeds(1));
    assert_eq!(own, ports(seeds(1)), "the same node, the same ports");
    let other = ports(Seeds { choice: 8, ..seeds(1) });
    assert!(own.iter().zip(&other).filter(|(a, b)| a == b).count() < 3, "{own:?}, {other:?}");
    let steps: BTreeSet<i32> =
        own.windows(2).map(|two| i32::from(two[1]) - i32::from(two[0])).collect();
    assert!(steps.len() > 5, "one does not tell the next: {own:?}");
}

#[test]
fn an_error_about_tcp_finds_who_sent() {
    // 5382-9.
    for family in families() {
        let mut bed = bed(vec![]);
        let client = (family.pods[0], 40_000);
        bed.tcp(A, client, (family.outside, 80), SYN);
        let (_, asked) = bed.only();
        let kind = if matches!(family.vip, IpAddress::Ipv4(_)) { (3, 1) } else { (1, 3) };
        let error = ip(from(HOST), family.outside, read(&asked).src);
        let error = error.icmp(kind.0, kind.1, [0; 4], &asked[14..]);
        assert_eq!(bed.send(HOST, &error), Verdict::Forward(A));
        let (_, told) = bed.only();
        assert_eq!((read(&told).dst, sum(&told)), (client.0, 0xffff));
        let L4::Icmp { quoted: Some(quoted), .. } = read(&told).l4 else { panic!("no error") };
        assert_eq!((quoted.src, quoted.ports), (client.0, Some((client.1, 80))));
    }
}

//! Every drop reason that the stages behind parse can give, each by a frame; parse has its own
//! table.

use super::*;
use crate::drop::seen;
use smoltcp::wire::{NdiscNeighborFlags, NdiscRepr, NdiscRouterFlags};

fn refused(bed: &mut Bed, port: PortId, bytes: &[u8], reason: DropReason) {
    let before = bed.switch.counters().total();
    assert_eq!(bed.send(port, bytes), Verdict::Drop(reason), "{}", reason.text());
    seen::note(reason);
    assert_eq!(bed.sent(), [], "nothing leaves");
    let mut expected = before;
    expected.received += 1;
    expected.received_bytes += bytes.len() as u64;
    expected.dropped[reason.index()] += 1;
    assert_eq!(bed.switch.counters().total(), expected, "one drop is counted and nothing else");
}

#[test]
fn spoofed_ethernet_and_ip() {
    let bed = &mut Bed::new();
    let udp = |src, dst| between(2, mac(3)).ipv4(src, dst).udp(1_000, 2_000, b"x");
    let group = Link { src: EthernetAddress([1, 0, 0, 0, 0, 9]), dst: mac(3) };
    let stranger = between(3, mac(3)).ipv4(v4(2), v4(3)).udp(1, 2, b"");
    refused(bed, A, &stranger, DropReason::SourceMacSpoofed);
    refused(bed, A, &group.ipv4(v4(2), v4(3)).udp(1, 2, b""), DropReason::SourceMacMulticast);
    refused(bed, A, &udp(v4(3), v4(3)), DropReason::SourceIpSpoofed);
    refused(bed, A, &udp(NODE4, v4(3)), DropReason::SourceIpSpoofed);
    let other = between(2, mac(3)).ipv6(v6(3), v6(3)).udp(1, 2, b"");
    refused(bed, A, &other, DropReason::SourceIpSpoofed);
    let nameless = between(2, mac(3)).ipv6(Ipv6Address::UNSPECIFIED, v6(3)).udp(1, 2, b"");
    refused(bed, A, &nameless, DropReason::SourceIpSpoofed);
    for bad in [[127, 0, 0, 1], [0, 0, 0, 5], [240, 0, 0, 1], [224, 0, 0, 1]] {
        refused(bed, A, &udp(Ipv4Address::from(bad), v4(3)), DropReason::Martian);
    }
    for bad in [[127, 0, 0, 1], [0, 0, 0, 5], [240, 0, 0, 1]] {
        refused(bed, A, &udp(v4(2), Ipv4Address::from(bad)), DropReason::Martian);
    }
    let looped = between(2, mac(3)).ipv6(v6(2), Ipv6Address::LOCALHOST).udp(1, 2, b"");
    refused(bed, A, &looped, DropReason::Martian);
    // Clients take offers from any source port.
    for (from, to) in [(67, 68), (9, 68), (547, 546), (9, 546)] {
        let offer = between(2, mac(3)).ipv4(v4(2), v4(3)).udp(from, to, b"");
        refused(bed, A, &offer, DropReason::DhcpServer);
    }
}

#[test]
fn allowed_prefixes_leave_others_what_is_theirs() {
    let everything = || IpCidr::new(Ipv4Address::UNSPECIFIED.into(), 0);
    let everything6 = || IpCidr::new(Ipv6Address::UNSPECIFIED.into(), 0);
    let allowed = vec![everything(), everything6()];
    let bed = &mut Bed::new();
    assert_eq!(bed.change(Change::Port(PortConfig { allowed, ..pod(A, 2, 1_500) })), []);
    let all = between(2, EthernetAddress::BROADCAST);
    let (to_b, nobody) = (between(2, mac(3)), EthernetAddress([0; 6]));
    let advert = |target| NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::OVERRIDE,
        target_addr: target,
        lladdr: Some(mac(2).into()),
    };
    // Another pod's, the gateway's, the node's.
    for theirs in [v4(3), v4(1), NODE4] {
        let announcement = all.arp(true, (mac(2), theirs), (nobody, theirs));
        refused(bed, A, &announcement, DropReason::ArpSpoofed);
        let reply = to_b.arp(false, (mac(2), theirs), (mac(3), v4(3)));
        refused(bed, A, &reply, DropReason::ArpSpoofed);
        let source = between(2, mac(4)).ipv4(theirs, v4(4)).udp(1, 2, b"");
        refused(bed, A, &source, DropReason::SourceIpSpoofed);
    }
    for theirs in [v6(3), v6(1), NODE6] {
        refused(bed, A, &to_b.nd(v6(2), v6(3), advert(theirs)), DropReason::NdSpoofed);
        let source = between(2, mac(4)).ipv6(theirs, v6(4)).udp(1, 2, b"");
        refused(bed, A, &source, DropReason::SourceIpSpoofed);
    }
    // The gateway stays itself where it has no port of its own.
    let bare = Config { ports: bed.switch.config().ports.split_off(1), ..config() };
    let announcement = all.arp(true, (mac(2), v4(1)), (nobody, v4(1)));
    refused(&mut Bed::with(bare), A, &announcement, DropReason::ArpSpoofed);
    // What nobody has it may claim, in every form; and what is its own.
    for own in [v4(9), v4(2)] {
        let announcement = all.arp(true, (mac(2), own), (nobody, own));
        assert_eq!(bed.send(A, &announcement), Verdict::Flood(2));
    }
    for own in [v6(9), v6(2)] {
        assert_eq!(bed.send(A, &to_b.nd(v6(2), v6(3), advert(own))), Verdict::Forward(B));
    }
}

#[test]
fn ipv6_of_a_pod_without_it() {
    let bed = &mut Bed::new();
    let own = crate::config::link_local(mac(2));
    let frames = [
        between(2, mac(3)).ipv6(own, v6(3)).udp(1, 2, b""),
        between(2, mac(3)).nd(
            Ipv6Address::UNSPECIFIED,
            Ipv6Address::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 9),
            NdiscRepr::NeighborSolicit { target_addr: v6(9), lladdr: None },
        ),
    ];
    for frame in &frames {
        let verdict = bed.send(A, frame);
        assert_ne!(verdict, Verdict::Drop(DropReason::SourceIpSpoofed), "with IPv6 it may");
    }
    let without = PortConfig { addresses: vec![v4(2).into()], ..pod(A, 2, 1_500) };
    assert_eq!(bed.change(Change::Port(without)), []);
    for frame in &frames {
        refused(bed, A, frame, DropReason::SourceIpSpoofed);
    }
}

#[test]
fn spoofed_arp_and_neighbor_discovery() {
    let bed = &mut Bed::new();
    let all = between(2, EthernetAddress::BROADCAST);
    let claim = all.arp(true, (mac(2), v4(3)), (EthernetAddress([0; 6]), v4(4)));
    refused(bed, A, &claim, DropReason::ArpSpoofed);
    let reply = between(2, mac(3)).arp(false, (mac(9), v4(2)), (mac(3), v4(3)));
    refused(bed, A, &reply, DropReason::ArpSpoofed);
    let advert = |target_addr, link: EthernetAddress| NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::OVERRIDE,
        target_addr,
        lladdr: Some(link.into()),
    };
    let to_b = between(2, mac(3));
    refused(bed, A, &to_b.nd(v6(2), v6(3), advert(v6(1), mac(2))), DropReason::NdSpoofed);
    refused(bed, A, &to_b.nd(v6(2), v6(3), advert(v6(2), mac(9))), DropReason::NdSpoofed);
    let solicit = NdiscRepr::NeighborSolicit { target_addr: v6(3), lladdr: Some(mac(9).into()) };
    refused(bed, A, &to_b.nd(v6(2), v6(3), solicit), DropReason::NdSpoofed);
    let routers = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let to_routers = between(2, EthernetAddress([0x33, 0x33, 0, 0, 0, 2]));
    let solicit = |mac: EthernetAddress| NdiscRepr::RouterSolicit { lladdr: Some(mac.into()) };
    refused(bed, A, &to_routers.nd(v6(2), routers, solicit(mac(9))), DropReason::NdSpoofed);
    let honest = to_routers.nd(v6(2), routers, solicit(mac(2)));
    assert_eq!(bed.send(A, &honest), Verdict::Flood(2));
}

#[test]
fn routers_that_are_none() {
    let bed = &mut Bed::new();
    let advert = NdiscRepr::RouterAdvert {
        hop_limit: 64,
        flags: NdiscRouterFlags::empty(),
        router_lifetime: smoltcp::time::Duration::from_secs(1),
        reachable_time: smoltcp::time::Duration::ZERO,
        retrans_time: smoltcp::time::Duration::ZERO,
        lladdr: None,
        mtu: None,
        prefix_info: None,
    };
    let own = crate::config::link_local(mac(2));
    let all_nodes = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let link = between(2, EthernetAddress([0x33, 0x33, 0, 0, 0, 1]));
    refused(bed, A, &link.nd(own, all_nodes, advert), DropReason::RouterMessageFromPod);
    let redirect = between(2, mac(3)).ipv4(v4(2), v4(3)).icmp(5, 1, [10, 0, 0, 1], &[0; 28]);
    refused(bed, A, &redirect, DropReason::RouterMessageFromPod);
    let advert = between(2, EthernetAddress([1, 0, 0x5e, 0, 0, 1]))
        .ipv4(v4(2), Ipv4Address::new(224, 0, 0, 1))
        .icmp(9, 0, [1, 2, 7, 8], &[10, 244, 1, 2, 0, 0, 0, 0]);
    refused(bed, A, &advert, DropReason::RouterMessageFromPod);
}

#[test]
fn nobody_has_it() {
    let bed = &mut Bed::new();
    let all = between(2, EthernetAddress::BROADCAST);
    let nobody = EthernetAddress([0; 6]);
    let who = all.arp(true, (mac(2), v4(2)), (nobody, v4(77)));
    refused(bed, A, &who, DropReason::NeighborUnknown);
    let own_probe = all.arp(true, (mac(2), Ipv4Address::UNSPECIFIED), (nobody, v4(2)));
    refused(bed, A, &own_probe, DropReason::NeighborUnknown);
    let dst = crate::wire::build::solicited_node_mac(v6(77));
    let who = between(2, dst).neighbor_solicit(v6(2), v6(77));
    refused(bed, A, &who, DropReason::NeighborUnknown);
    let unasked = between(2, GATEWAY).arp(false, (mac(2), v4(2)), (GATEWAY, v4(1)));
    refused(bed, A, &unasked, DropReason::NeighborUnasked);
    let ip = |dst| between(2, dst).ipv4(v4(2), v4(77)).udp(1, 2, b"");
    refused(bed, A, &ip(mac(77)), DropReason::UnknownUnicast);
    refused(bed, A, &ip(mac(2)), DropReason::Reflected);
    refused(bed, A, &ip(EthernetAddress([1, 0x80, 0xc2, 0, 0, 2])), DropReason::ReservedGroup);
    let from_node = Link { src: mac(250), dst: EthernetAddress::BROADCAST };
    let group = from_node.ipv4(NODE4, Ipv4Address::BROADCAST).udp(1, 2, b"");
    refused(bed, HOST, &group, DropReason::GroupRouted);
}

#[test]
fn no_way_on() {
    let bed = &mut Bed::new();
    let routed = between(2, GATEWAY);
    let to = |dst| routed.ipv4(v4(2), dst).udp(1, 2, b"");
    refused(bed, A, &to(Ipv4Address::new(224, 0, 0, 9)), DropReason::GroupRouted);
    refused(bed, A, &to(v4(255)), DropReason::GroupRouted);
    let near = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    refused(bed, A, &routed.ipv6(v6(2), near).udp(1, 2, b""), DropReason::LinkScope);
    let fragment = routed.ipv4(v4(2), v4(1)).fragment(7, 0, true).udp(1, 2, &[0; 16]);
    refused(bed, A, &fragment, DropReason::FragmentUnsupported);
    let overlay = routed.ipv4(v4(2), NODE4).udp(1, 4_789, b"");
    refused(bed, A, &overlay, DropReason::OverlayFromPod);
    let large = between(4, mac(3)).ipv4(v4(4), v4(3)).udp(1, 2, &[0; 2_000]);
    refused(bed, C, &large, DropReason::MtuExceeded);
    let mut padded = between(4, mac(3)).ipv4(v4(4), v4(3)).udp(1, 2, b"");
    padded.resize(1_515, 0);
    refused(bed, C, &padded, DropReason::MtuExceeded);
    let mut arp = between(4, mac(3)).arp(false, (mac(4), v4(4)), (mac(3), v4(3)));
    arp.resize(1_515, 0);
    refused(bed, C, &arp, DropReason::MtuExceeded);
    assert!(bed.change(Change::PortUp(B, false)).is_empty());
    let down = between(2, mac(3)).ipv4(v4(2), v4(3)).udp(1, 2, b"");
    refused(bed, A, &down, DropReason::EgressDown);
    let from_down = between(3, mac(2)).ipv4(v4(3), v4(2)).udp(1, 2, b"");
    refused(bed, B, &from_down, DropReason::PortDown);
    refused(bed, PortId(99), &down, DropReason::PortUnknown);
    let to_node = between(2, mac(250)).ipv4(v4(2), NODE4).udp(1, 2, b"");
    refused(bed, A, &to_node, DropReason::UnknownUnicast);
}

#[test]
fn the_gateway_listens_to_nobody_for_long() {
    let bed = &mut Bed::new();
    let syn = between(2, GATEWAY).ipv4(v4(2), v4(1)).tcp((4_000, 22), 2, 9, 0, b"");
    for _ in 0..Limits::default().errors_burst {
        assert_eq!(bed.send(A, &syn), Verdict::Deliver(EndpointId(0)));
    }
    refused(bed, A, &syn, DropReason::GatewayBusy);
}

#[test]
fn errors_that_may_not_be_answered_are_drops() {
    let bed = &mut Bed::new();
    let quoted = between(2, GATEWAY).ipv4(OUTSIDE4, v4(2)).udp(1, 2, b"");
    let to = |dst| between(2, GATEWAY).ipv4(v4(2), dst);
    let about_error = to(v4(77)).icmp(3, 3, [0; 4], &quoted[14..]);
    refused(bed, A, &about_error, DropReason::NeighborFailed);
    let error = to(Ipv4Address::new(203, 0, 113, 1)).icmp(11, 0, [0; 4], &quoted[14..]);
    refused(bed, A, &error, DropReason::Blackhole);
    let error = to(OUTSIDE4).hop_limit(1).icmp(11, 0, [0; 4], &quoted[14..]);
    refused(bed, A, &error, DropReason::HopLimitExceeded);
    let bed = &mut Bed::with(Config { routes: Vec::new(), ..config() });
    let error = to(OUTSIDE4).icmp(11, 0, [0; 4], &quoted[14..]);
    refused(bed, A, &error, DropReason::NoRoute);
}

#[test]
fn half_a_configuration_forwards_nothing() {
    let bed = &mut Bed::with(Config { complete: false, ..config() });
    let bytes = between(2, mac(3)).ipv4(v4(2), v4(3)).udp(1, 2, b"");
    refused(bed, A, &bytes, DropReason::ConfigurationPending);
    assert!(bed.change(Change::Complete(true)).is_empty());
    assert_eq!(bed.send(A, &bytes), Verdict::Forward(B));
}

#[test]
fn a_storm_ends_at_the_limit_and_time_heals_it() {
    let bed = &mut Bed::new();
    let all = between(2, EthernetAddress::BROADCAST);
    let bytes = all.ipv4(v4(2), Ipv4Address::BROADCAST).udp(1, 2, b"");
    for _ in 0..Limits::default().flood_burst {
        assert_eq!(bed.send(A, &bytes), Verdict::Flood(2));
    }
    refused(bed, A, &bytes, DropReason::StormLimited);
    bed.now = bed.now + Limits::default().flood_interval;
    assert_eq!(bed.send(A, &bytes), Verdict::Flood(2));
    bed.now = bed.now + Duration(Limits::default().flood_interval.0 * 256);
    // Copies of 60 KB for two pods are two tokens' worth.
    let bytes_of_many = all.ipv4(v4(2), Ipv4Address::BROADCAST).udp(1, 2, &[0; 60_000]);
    let mut large = Frame::from_bytes(&bytes_of_many);
    let gso = Some(Gso { kind: GsoKind::Udp, size: 1_000, ecn: false });
    large.set_offload(Offload { gso, ..Offload::default() });
    for _ in 0..Limits::default().flood_burst / 2 {
        assert_eq!(bed.put(A, large.duplicate()), Verdict::Flood(2));
    }
    refused(bed, A, &bytes, DropReason::StormLimited);
    let alone = Config { ports: config().ports.into_iter().take(3).collect(), ..config() };
    refused(&mut Bed::with(alone), A, &bytes, DropReason::FloodScopeEmpty);
}

/// Reasons of parse have their frames in parse's own tests.
#[test]
fn every_reason_behind_parse_is_seen() {
    let tests: &[fn()] = &[
        spoofed_ethernet_and_ip,
        allowed_prefixes_leave_others_what_is_theirs,
        ipv6_of_a_pod_without_it,
        spoofed_arp_and_neighbor_discovery,
        routers_that_are_none,
        nobody_has_it,
        no_way_on,
        the_gateway_listens_to_nobody_for_long,
        errors_that_may_not_be_answered_are_drops,
        half_a_configuration_forwards_nothing,
        a_storm_ends_at_the_limit_and_time_heals_it,
        services::every_reason,
    ];
    seen::all(300..900, tests);
}

//! One frame for each way to be refused. Each is a valid frame with one thing wrong.

use super::*;

use DropReason::{
    ArpInvalid, EthertypeUnknown, FragmentInvalid, HeaderChainTooLong, Ipv4ChecksumBad,
    Ipv4HeaderInvalid, Ipv6ExtensionInvalid, Ipv6HeaderInvalid, L4Truncated, SourceRouted, TooLong,
    Truncated, VlanUnexpected,
};

/// A rule, the frame that breaks it, and the reason.
type Refusals = Vec<(&'static str, Vec<u8>, DropReason)>;

fn check(refusals: Refusals) {
    for (rule, frame, reason) in refusals {
        assert_eq!(judge(&frame), Err(reason), "{rule}");
    }
}

fn arp() -> Vec<u8> {
    LINK.arp(true, (A, A4), (B, B4))
}

#[test]
pub(super) fn ethernet_and_arp() {
    let tagged = |kind: [u8; 2]| {
        let mut frame = v4().udp(1, 2, b"");
        frame.splice(12..12, [kind[0], kind[1], 0, 5]);
        frame
    };
    let mut doubly = tagged([0x81, 0]);
    doubly.splice(12..12, [0x88, 0xa8, 0, 6]);
    let mut long = v4().udp(1, 2, &[0; 65_507]);
    long.resize(14 + 4 + 65_536, 0);
    check(std::vec![
        ("an Ethernet header has 14 bytes", std::vec![0; 13], Truncated),
        ("nothing is a frame", std::vec![], Truncated),
        ("802.1Q", tagged([0x81, 0]), VlanUnexpected),
        ("802.1ad", tagged([0x88, 0xa8]), VlanUnexpected),
        ("older stacked tags", tagged([0x91, 0]), VlanUnexpected),
        ("nested tags", doubly, VlanUnexpected),
        ("LLDP", LINK.raw(0x88cc, &[0; 46]), EthertypeUnknown),
        ("802.3 with a length", LINK.raw(38, &[0x42; 46]), EthertypeUnknown),
        ("no IP packet is so long", long, TooLong),
        ("ARP ends early", arp()[..41].to_vec(), Truncated),
        ("ARP hardware type", with(arp(), 14, &[0, 6]), ArpInvalid),
        ("ARP protocol type", with(arp(), 16, &[0x86, 0xdd]), ArpInvalid),
        ("ARP hardware length", with(arp(), 18, &[8]), ArpInvalid),
        ("ARP protocol length", with(arp(), 19, &[16]), ArpInvalid),
        ("ARP operation 0", with(arp(), 20, &[0, 0]), ArpInvalid),
        ("RARP", with(arp(), 20, &[0, 3]), ArpInvalid),
        ("ARP operation, high byte", with(arp(), 20, &[1, 1]), ArpInvalid),
    ]);
}

#[test]
pub(super) fn ipv4_header() {
    let udp = || v4().udp(1, 2, b"four");
    let sized = |len: u16| mend(with(udp(), IP + 2, &len.to_be_bytes()));
    let options = |bytes: &[u8]| v4().options(bytes).udp(1, 2, b"");
    check(std::vec![
        ("20 bytes", udp()[..33].to_vec(), Truncated),
        ("version 5", mend(with(udp(), IP, &[0x55])), Ipv4HeaderInvalid),
        ("version 6", mend(with(udp(), IP, &[0x65])), Ipv4HeaderInvalid),
        ("header length 16", mend(with(udp(), IP, &[0x44])), Ipv4HeaderInvalid),
        ("header beyond the packet", mend(with(udp(), IP, &[0x49])), Ipv4HeaderInvalid),
        ("total length below the header's", sized(19), Ipv4HeaderInvalid),
        ("total length 0", sized(0), Ipv4HeaderInvalid),
        ("total length beyond the frame", sized(33), Ipv4HeaderInvalid),
        ("checksum", with(udp(), IP + 10, &[0, 0]), Ipv4ChecksumBad),
        ("checksum of options", with(options(&[1; 8]), IP + 25, &[0]), Ipv4ChecksumBad),
        ("any bit", with(udp(), IP + 8, &[65]), Ipv4ChecksumBad),
        ("loose source route", options(&[131, 7, 4, 10, 0, 0, 1]), SourceRouted),
        ("strict source route", options(&[1, 137, 7, 4, 10, 0, 0, 1]), SourceRouted),
        ("option of length 0", options(&[7, 0]), Ipv4HeaderInvalid),
        ("option of length 1", options(&[7, 1]), Ipv4HeaderInvalid),
        ("option without a length", options(&[1, 1, 1, 7]), Ipv4HeaderInvalid),
        ("option beyond the header", options(&[7, 5, 0, 0]), Ipv4HeaderInvalid),
        ("broken behind a route", options(&[131, 4, 0, 0, 7, 0]), Ipv4HeaderInvalid),
    ]);
    assert_eq!(
        judge(&options(&[0, 131, 3, 0])).err(),
        None,
        "nothing counts behind the end of options"
    );
}

#[test]
pub(super) fn ipv6_header_and_extensions() {
    let udp = || v6().udp(1, 2, b"four");
    let sized = |frame: Vec<u8>, len: u16| with(frame, IP + 4, &len.to_be_bytes());
    let one = |protocol, body: &[u8]| v6().extension(protocol, body).udp(1, 2, b"");
    let options = |body: &[u8]| one(IpProtocol::Ipv6Opts, body);
    let hops = |body: &[u8]| one(IpProtocol::HopByHop, body);
    let twice = v6().extension(IpProtocol::HopByHop, &[]).extension(IpProtocol::HopByHop, &[]);
    let late = v6().extension(IpProtocol::Ipv6Opts, &[]).extension(IpProtocol::HopByHop, &[]);
    let route = |kind| one(IpProtocol::Ipv6Route, &[kind, 0, 0, 0, 0, 0]);
    check(std::vec![
        ("40 bytes", udp()[..53].to_vec(), Truncated),
        ("version 4", with(udp(), IP, &[0x45]), Ipv6HeaderInvalid),
        ("version 7", with(udp(), IP, &[0x70]), Ipv6HeaderInvalid),
        ("payload beyond the frame", sized(udp(), 13), Ipv6HeaderInvalid),
        ("jumbo", sized(hops(&[0xc2, 4, 0, 1, 0, 0]), 0), Ipv6HeaderInvalid),
        ("jumbo option with a length", hops(&[0xc2, 4, 0, 1, 0, 0]), Ipv6HeaderInvalid),
        ("hop-by-hop twice", twice.udp(1, 2, b""), Ipv6ExtensionInvalid),
        ("hop-by-hop second", late.udp(1, 2, b""), Ipv6ExtensionInvalid),
        ("routing type 0", route(0), SourceRouted),
        ("header beyond the packet", with(options(&[]), IP + 41, &[2]), Ipv6ExtensionInvalid),
        ("no room for a header", sized(options(&[]), 1), Ipv6ExtensionInvalid),
        ("option beyond its header", options(&[5, 5, 0, 0, 0, 0]), Ipv6ExtensionInvalid),
        ("option without a length", options(&[0, 0, 0, 0, 0, 5]), Ipv6ExtensionInvalid),
        ("the same hop by hop", hops(&[5, 5, 0, 0, 0, 0]), Ipv6ExtensionInvalid),
    ]);
    for kind in [2, 3, 4] {
        assert_eq!(judge(&route(kind)).err(), None, "routing type {kind}");
    }
    let long = with(v6().udp(1, 2, &[0; 70_000]), IP + 4, &[0xff, 0xff]);
    let window = &long[..Frame::WINDOW];
    assert_eq!(parse(window, 14 + 65_539, &Offload::default()), Err(Ipv6HeaderInvalid));
    let stretched = with(long.clone(), IP + 4, &65_496_u16.to_be_bytes());
    let window = &stretched[..Frame::WINDOW];
    assert_eq!(parse(window, 14 + 65_536, &Offload::default()), Err(TooLong));
}

#[test]
pub(super) fn headers_beyond_the_window() {
    let far = |protocol| {
        let opaque = [1, 198].into_iter().chain([0; 198]).collect::<Vec<u8>>();
        v6().extension(protocol, &opaque)
    };
    let long = || far(IpProtocol::Ipv6Opts);
    let to_246 = [1, 188].into_iter().chain([0; 188]).collect::<Vec<u8>>();
    let across = v6().extension(IpProtocol::Ipv6Opts, &to_246);
    check(std::vec![
        ("TCP starts beyond", long().tcp((1, 2), 0, 0, 0, &[0; 90]), HeaderChainTooLong),
        (
            "TCP lies across and ends with the packet",
            across.tcp((1, 2), 0, 0, 0, b""),
            HeaderChainTooLong
        ),
        (
            "an extension lies across",
            long().extension(IpProtocol::Ipv6Opts, &[]).udp(1, 2, &[0; 90]),
            HeaderChainTooLong
        ),
        (
            "ND lies across",
            {
                let message = LINK.neighbor_solicit(A6, B6)[54..].to_vec();
                far(IpProtocol::HopByHop).hop_limit(255).upper(IpProtocol::Icmpv6, &message)
            },
            HeaderChainTooLong
        ),
    ]);
    // The same within the packet's end: then it is the packet that lacks it.
    let short = v6().extension(IpProtocol::Ipv6Opts, &[]).upper(IpProtocol::Tcp, &[0; 19]);
    assert_eq!(judge(&short), Err(L4Truncated));
    // TCP options in part beyond the window.
    let body = [1, 162].into_iter().chain([0; 162]).collect::<Vec<u8>>();
    let tcp = |data_offset: u8| {
        let frame = v6().extension(IpProtocol::Ipv6Opts, &body).tcp((1, 2), 0, 0, 0, &[0; 40]);
        let at = usize::from(ip(&frame).l4_offset);
        with(frame, at + 12, &[data_offset << 4])
    };
    let room = (Frame::WINDOW - usize::from(ip(&tcp(5)).l4_offset)) / 4;
    let room = u8::try_from(room).unwrap();
    assert_eq!(judge(&tcp(room)).err(), None);
    assert_eq!(judge(&tcp(room + 1)), Err(HeaderChainTooLong));
}

#[test]
pub(super) fn fragments_of_both_versions() {
    for ip in [v4, v6] {
        let part = |offset, more, protocol, len: usize| {
            ip().fragment(1, offset, more).upper(protocol, &std::vec![0x60; len])
        };
        let (tcp, udp) = (IpProtocol::Tcp, IpProtocol::Udp);
        check(std::vec![
            ("not a multiple of 8", part(16, true, udp, 15), FragmentInvalid),
            ("an empty part", part(16, true, udp, 0), FragmentInvalid),
            ("an empty first", part(0, true, udp, 0), FragmentInvalid),
            ("an empty last", part(16, false, udp, 0), FragmentInvalid),
            ("ping of death", part(65_528, false, udp, 16), FragmentInvalid),
            ("ping of death, more", part(65_528, true, udp, 800), FragmentInvalid),
            ("offset 8 of TCP", part(8, false, tcp, 32), FragmentInvalid),
            ("offset 8 of TCP, more", part(8, true, tcp, 32), FragmentInvalid),
            ("tiny TCP", part(0, true, tcp, 16), FragmentInvalid),
            ("tiny SCTP", part(0, true, IpProtocol::from(132), 8), FragmentInvalid),
        ]);
        assert_eq!(judge(&part(8, false, udp, 32)).err(), None, "UDP's header has 8 bytes");
        let options_left = ip().fragment(1, 0, true).tcp((1, 2), 0, 0, 0, b"1234");
        let at = options_left.len() - 24;
        assert_eq!(judge(&with(options_left.clone(), at + 12, &[0x70])), Err(FragmentInvalid));
        assert_eq!(judge(&with(options_left, at + 12, &[0x60])).err(), None);
    }
    let before = v6().extension(IpProtocol::Ipv6Opts, &[]);
    check(std::vec![
        (
            "two fragment headers",
            v6().fragment(1, 0, true).fragment(2, 0, true).udp(1, 2, &[0; 8]),
            Ipv6ExtensionInvalid
        ),
        (
            "two atomic ones",
            v6().fragment(1, 0, false).fragment(2, 0, false).udp(1, 2, b""),
            Ipv6ExtensionInvalid
        ),
        (
            "extensions count in the end",
            before.fragment(1, 65_520, false).upper(IpProtocol::Udp, &[0; 8]),
            FragmentInvalid
        ),
        (
            "chain not in the first",
            with(
                v6().fragment(1, 0, true)
                    .extension(IpProtocol::Ipv6Opts, &[])
                    .upper(IpProtocol::Udp, b""),
                IP + 49,
                &[9]
            ),
            FragmentInvalid
        ),
        (
            "IPv4 header counts in the end",
            v4().fragment(1, 65_512, false).upper(IpProtocol::Udp, &[0; 4]),
            FragmentInvalid
        ),
    ]);
}

#[test]
pub(super) fn upper_headers_of_both_versions() {
    for ip in [v4, v6] {
        let upper = |number: u8, bytes: &[u8]| ip().upper(IpProtocol::from(number), bytes);
        let tcp = |data_offset: u8, len: usize| {
            let frame = ip().tcp((1, 2), 0, 0, 0, &std::vec![0; len]);
            let at = frame.len() - 20 - len;
            with(frame, at + 12, &[data_offset << 4])
        };
        let udp = |len: u16| {
            let frame = ip().udp(1, 2, b"four");
            let at = frame.len() - 12;
            with(frame, at + 4, &len.to_be_bytes())
        };
        check(std::vec![
            ("no TCP", upper(6, b""), L4Truncated),
            ("TCP of 19 bytes", upper(6, &[0x50; 19]), L4Truncated),
            ("TCP header length 16", tcp(4, 0), L4Truncated),
            ("TCP header length 0", tcp(0, 0), L4Truncated),
            ("TCP header beyond the packet", tcp(6, 3), L4Truncated),
            ("UDP of 7 bytes", upper(17, &[0; 7]), L4Truncated),
            ("UDP length 7", udp(7), L4Truncated),
            ("UDP length 0", udp(0), L4Truncated),
            ("UDP length beyond the packet", udp(13), L4Truncated),
            ("SCTP of 11 bytes", upper(132, &[0; 11]), L4Truncated),
            (
                "ICMP of 7 bytes",
                upper(if ip().udp(1, 2, b"")[IP] >> 4 == 4 { 1 } else { 58 }, &[0; 7]),
                L4Truncated
            ),
        ]);
        assert!(judge(&udp(12)).is_ok() && judge(&udp(8)).is_ok() && judge(&tcp(6, 4)).is_ok());
    }
}

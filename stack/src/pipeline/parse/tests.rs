//! Tests of parse: frames that are understood, rules that refuse, laws over any bytes.

use std::string::String;
use std::vec::Vec;

use smoltcp::wire::{EthernetAddress, IpProtocol, Ipv4Address, Ipv6Address, NdiscNeighborFlags};

use super::{describe, parse};
use crate::drop::{DropReason, seen};
use crate::input::{Frame, Offload};
use crate::pipeline::packet::{Inner, Ip, Packet};
use crate::wire::build::{self, Link, flags};
use crate::wire::checksum;

mod accepted;
mod laws;
mod nd;
mod offload;
mod refused;
mod text;

const A: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const B: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);
const LINK: Link = Link { src: A, dst: B };
const A4: Ipv4Address = Ipv4Address::new(10, 1, 1, 5);
const B4: Ipv4Address = Ipv4Address::new(10, 1, 1, 6);
const A6: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5);
const B6: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 6);
const LOCAL6: Ipv6Address = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 5);
/// Where the IP header and its fields start.
const IP: usize = 14;

fn v4() -> build::Ip {
    LINK.ipv4(A4, B4)
}

fn v6() -> build::Ip {
    LINK.ipv6(A6, B6)
}

/// What parse makes of a whole frame with complete checksums.
fn judge(frame: &[u8]) -> Result<Packet, DropReason> {
    described(frame, &Offload::default())
}

/// What parse makes of a whole frame that is said to be offloaded so.
fn described(frame: &[u8], offload: &Offload) -> Result<Packet, DropReason> {
    let window = &frame[..frame.len().min(Frame::WINDOW)];
    parse(window, frame.len(), offload).inspect_err(|reason| seen::note(*reason))
}

#[test]
fn every_reason_of_parse_is_seen() {
    let tests: &[fn()] = &[
        refused::ethernet_and_arp,
        refused::ipv4_header,
        refused::ipv6_header_and_extensions,
        refused::headers_beyond_the_window,
        refused::fragments_of_both_versions,
        refused::upper_headers_of_both_versions,
        nd::options_must_have_lengths_that_fit,
        offload::fragments_and_arp_have_no_offload,
    ];
    seen::all(100..300, tests);
}

fn ip(frame: &[u8]) -> Ip {
    match judge(frame).map(|packet| packet.inner) {
        Ok(Inner::Ip(ip)) => ip,
        other => panic!("not an IP packet: {other:?}"),
    }
}

fn text(frame: &[u8]) -> String {
    let mut line = String::new();
    describe(&frame[..frame.len().min(Frame::WINDOW)], &mut line).unwrap();
    line
}

/// Makes an IPv4 header's checksum right again after a change.
fn mend(mut frame: Vec<u8>) -> Vec<u8> {
    let end = (IP + usize::from(frame[IP] & 0x0f).max(5) * 4).min(frame.len());
    frame[IP + 10..IP + 12].fill(0);
    let check = !checksum::fold(checksum::sum(&frame[IP..end]));
    frame[IP + 10..IP + 12].copy_from_slice(&check.to_be_bytes());
    frame
}

/// The frame with other bytes at a place.
fn with(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// Valid frames of every kind, each with the line that describes it.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let mut frames = corpus4();
    frames.extend(corpus6());
    frames
}

fn corpus4() -> Vec<(&'static str, Vec<u8>)> {
    let none = EthernetAddress::default();
    let quoted = v4().udp(40_000, 53, b"who?");
    let pinged = v4().echo(true, 3, 1, b"");
    std::vec![
        ("arp who has 10.1.1.6 tell 10.1.1.5", LINK.arp(true, (A, A4), (none, B4))),
        ("arp 10.1.1.5 is at 02:00:00:00:00:01", LINK.arp(false, (A, A4), (B, B4))),
        ("ipv4 10.1.1.5:40000 > 10.1.1.6:53 udp 4B", quoted.clone()),
        ("ipv4 10.1.1.5:1 > 10.1.1.6:2 tcp syn seq 1 0B", v4().tcp((1, 2), flags::SYN, 1, 9, b"")),
        (
            "ipv4 10.1.1.5:1 > 10.1.1.6:2 tcp psh+ack seq 4294967295 ack 7 3B",
            v4().tcp((1, 2), flags::ACK | flags::PSH, u32::MAX, 7, b"abc"),
        ),
        (
            "ipv4 10.1.1.5:7 > 10.1.1.6:8 sctp 4B",
            v4().upper(IpProtocol::from(132), &[0, 7, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
        ),
        ("ipv4 10.1.1.5 > 10.1.1.6 icmp echo request id 3 seq 1 0B", pinged.clone()),
        ("ipv4 10.1.1.5 > 10.1.1.6 icmp echo reply id 3 seq 1 2B", v4().echo(false, 3, 1, b"hi"),),
        (
            "ipv4 10.1.1.5 > 10.1.1.6 icmp unreachable code 3 \
             about 10.1.1.5:40000 > 10.1.1.6:53 udp 32B",
            v4().icmp(3, 3, [0; 4], &quoted[IP..]),
        ),
        (
            "ipv4 10.1.1.5 > 10.1.1.6 icmp too big mtu 1450 \
             about 10.1.1.5 > 10.1.1.6 icmp id 3 28B",
            v4().icmp(3, 4, [0, 0, 5, 170], &pinged[IP..]),
        ),
        ("ipv4 10.1.1.5 > 10.1.1.6 icmp time exceeded code 0 3B", v4().icmp(11, 0, [0; 4], b"???")),
        ("ipv4 10.1.1.5 > 10.1.1.6 igmp 8B", v4().upper(IpProtocol::Igmp, &[0; 8])),
        ("ipv4 10.1.1.5 > 10.1.1.6 protocol 47 5B", v4().upper(IpProtocol::from(47), b"inner")),
        (
            "ipv4 10.1.1.5:40000 > 10.1.1.6:53 udp 2B",
            v4().options(&[1, 7, 7, 4, 0, 0, 0, 0, 1]).udp(40_000, 53, b"rr"),
        ),
        (
            "ipv4 10.1.1.5:5 > 10.1.1.6:6 udp fragment id 9 at 0 more 8B",
            v4().fragment(9, 0, true).udp(5, 6, b"8 bytes."),
        ),
        (
            "ipv4 10.1.1.5 > 10.1.1.6 udp fragment id 9 at 16 3B",
            v4().fragment(9, 16, false).upper(IpProtocol::Udp, b"end"),
        ),
    ]
}

fn corpus6() -> Vec<(&'static str, Vec<u8>)> {
    let quoted = v6().tcp((1, 2), flags::SYN, 1, 0, b"");
    let options = v6().extension(IpProtocol::Ipv6Opts, &[]);
    let part = options.fragment(1, 0, true).udp(1, 2, b"12345678");
    let group = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    std::vec![
        ("ipv6 [2001:db8::5]:40000 > [2001:db8::6]:53 udp 4B", v6().udp(40_000, 53, b"who?")),
        ("ipv6 [2001:db8::5]:1 > [2001:db8::6]:2 tcp syn seq 1 0B", quoted.clone()),
        (
            "ipv6 2001:db8::5 > 2001:db8::6 icmp echo request id 3 seq 1 1B",
            v6().echo(true, 3, 1, b"x"),
        ),
        (
            "ipv6 2001:db8::5 > 2001:db8::6 icmp too big mtu 1430 \
             about [2001:db8::5]:1 > [2001:db8::6]:2 tcp 60B",
            v6().icmp(2, 0, [0, 0, 5, 150], &quoted[IP..]),
        ),
        (
            "ipv6 2001:db8::5 > 2001:db8::6 icmp unreachable code 4 \
             about [2001:db8::5]:1 > [2001:db8::6]:2 udp 72B",
            v6().icmp(1, 4, [0; 4], &part[IP..]),
        ),
        (
            "ipv6 2001:db8::5 > ff02::1:ff00:6 nd neighbor solicit 2001:db8::6",
            LINK.neighbor_solicit(A6, B6),
        ),
        (
            "ipv6 :: > ff02::1:ff00:6 nd neighbor solicit 2001:db8::6",
            LINK.neighbor_solicit(Ipv6Address::UNSPECIFIED, B6),
        ),
        (
            "ipv6 2001:db8::5 > 2001:db8::6 nd neighbor advert 2001:db8::5 is at 02:00:00:00:00:01",
            LINK.neighbor_advert(A6, B6, A6, A, NdiscNeighborFlags::SOLICITED),
        ),
        (
            "ipv6 2001:db8::5 > ff02::1 nd neighbor advert 2001:db8::5 is at 02:00:00:00:00:01",
            LINK.neighbor_advert(A6, group, A6, A, NdiscNeighborFlags::OVERRIDE),
        ),
        (
            "ipv6 [2001:db8::5]:1 > [2001:db8::6]:2 udp 3B",
            v6().extension(IpProtocol::HopByHop, &[5, 2, 0, 0])
                .extension(IpProtocol::Ipv6Opts, &[1, 8, 0, 0, 0, 0, 0, 0, 0, 0])
                .extension(IpProtocol::Ipv6Route, &[4, 0])
                .udp(1, 2, b"ext"),
        ),
        (
            "ipv6 [2001:db8::5]:1 > [2001:db8::6]:2 udp fragment id 9 at 0 more 16B",
            v6().fragment(9, 0, true).extension(IpProtocol::Ipv6Opts, &[]).udp(
                1,
                2,
                b"sixteen bytes ok"
            ),
        ),
        (
            "ipv6 [2001:db8::5]:1 > [2001:db8::6]:2 udp 1B",
            v6().fragment(9, 0, false).udp(1, 2, b"a")
        ),
        (
            "ipv6 2001:db8::5 > 2001:db8::6 udp fragment id 9 at 1448 8B",
            v6().fragment(9, 1448, false).upper(IpProtocol::Udp, &[0; 8]),
        ),
        ("ipv6 2001:db8::5 > 2001:db8::6 nothing 0B", v6().upper(IpProtocol::Ipv6NoNxt, b"")),
        ("ipv6 2001:db8::5 > 2001:db8::6 esp 9B", v6().upper(IpProtocol::IpSecEsp, b"encrypted")),
        ("ipv6 2001:db8::5 > 2001:db8::6 protocol 1 8B", v6().upper(IpProtocol::Icmp, &[8; 8])),
    ]
}

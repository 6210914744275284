//! The clause that describes a window.

use super::*;

#[test]
fn every_valid_frame_has_its_line() {
    for (line, frame) in corpus() {
        assert_eq!(text(&frame), line);
    }
}

#[test]
fn a_super_frame_is_described_by_its_header_not_its_window() {
    let frame = v4().tcp((1, 2), flags::ACK, 5, 6, &[0; 64_000]);
    assert_eq!(text(&frame), "ipv4 10.1.1.5:1 > 10.1.1.6:2 tcp ack seq 5 ack 6 64000B");
}

#[test]
fn what_does_not_parse_is_told_as_far_as_it_can_be_read() {
    let bad_sum = with(v4().udp(1, 2, b""), IP + 10, &[0xba, 0xad]);
    let no_hop_limit = with(LINK.neighbor_solicit(A6, B6), IP + 7, &[64]);
    for (line, frame) in [
        ("no ethernet header, 13B", std::vec![0; 13]),
        (
            "ethernet 02:00:00:00:00:01 > 02:00:00:00:00:02 type 0x88cc 18B",
            LINK.raw(0x88cc, &[0; 4]),
        ),
        (
            "ethernet 02:00:00:00:00:01 > 02:00:00:00:00:02 type 0x8100 256B or more",
            LINK.raw(0x8100, &[0; 900]),
        ),
        (
            "ethernet 02:00:00:00:00:01 > 02:00:00:00:00:02 type 0x0806 arp 21B",
            LINK.raw(0x0806, &[0; 7]),
        ),
        (
            "ethernet 02:00:00:00:00:01 > 02:00:00:00:00:02 type 0x0800 33B",
            v4().udp(1, 2, b"")[..33].to_vec(),
        ),
        ("ipv4 10.1.1.5 > 10.1.1.6 udp", bad_sum),
        ("ipv4 10.1.1.5 > 10.1.1.6 udp", v4().udp(1, 2, b"")[..34].to_vec()),
        ("ipv6 2001:db8::5 > ff02::1:ff00:6 icmp", no_hop_limit),
    ] {
        assert_eq!(text(&frame), line);
    }
}

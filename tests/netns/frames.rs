//! Frames byte by byte, for what no socket would send. Written down here and not taken from the
//! switch's own code, which they judge.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// The gateway's MAC.
pub(crate) const GATEWAY: Mac = [0x02, 0x48, 0x4f, 0x50, 0x00, 0x01];
/// Everybody.
pub(crate) const BROADCAST: Mac = [0xff; 6];

/// Reads `02:00:...`.
pub(crate) fn mac(text: &str) -> Mac {
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// An Ethernet frame.
pub(crate) fn ethernet(dst: Mac, src: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst[..], &src, &ethertype.to_be_bytes(), payload].concat()
}

/// The Internet checksum of RFC 1071 over several pieces, each of even length but the last.
fn checksum(pieces: &[&[u8]]) -> [u8; 2] {
    let bytes = pieces.concat();
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap().to_be_bytes()
}

/// An IPv4 packet with DF set.
pub(crate) fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, ttl: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend(length(20 + payload.len()));
    header.extend([0x12, 0x34, 0x40, 0, ttl, protocol, 0, 0]);
    header.extend(src.octets());
    header.extend(dst.octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum);
    [header, payload.to_vec()].concat()
}

/// An IPv6 packet.
pub(crate) fn ipv6(src: Ipv6Addr, dst: Ipv6Addr, hops: u8, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(length(payload.len()));
    header.extend([next, hops]);
    header.extend(src.octets());
    header.extend(dst.octets());
    [header, payload.to_vec()].concat()
}

/// The sum's pseudo-header of IPv6 (RFC 8200 section 8.1).
fn pseudo6(src: Ipv6Addr, dst: Ipv6Addr, next: u8, bytes: usize) -> Vec<u8> {
    let mut header = [src.octets(), dst.octets()].concat();
    header.extend(u32::try_from(bytes).unwrap().to_be_bytes());
    header.extend([0, 0, 0, next]);
    header
}

fn udp_header(payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x9c, 0x40, 0x82, 0x35]; // 40000 > 33333
    header.extend(length(8 + payload.len()));
    header.extend([0, 0]);
    [header, payload.to_vec()].concat()
}

/// A UDP datagram over IPv4, its checksum right.
pub(crate) fn udp4(src: Ipv4Addr, dst: Ipv4Addr, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let mut udp = udp_header(payload);
    let mut pseudo = [src.octets(), dst.octets()].concat();
    pseudo.extend([0, 17]);
    pseudo.extend(length(udp.len()));
    let sum = checksum(&[&pseudo, &udp]);
    udp[6..8].copy_from_slice(&sum);
    ipv4(src, dst, ttl, 17, &udp)
}

/// A UDP datagram over IPv6, its checksum right.
pub(crate) fn udp6(src: Ipv6Addr, dst: Ipv6Addr, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut udp = udp_header(payload);
    let sum = checksum(&[&pseudo6(src, dst, 17, udp.len()), &udp]);
    udp[6..8].copy_from_slice(&sum);
    ipv6(src, dst, hops, 17, &udp)
}

/// A TCP segment without options and payload, its checksum right.
pub(crate) fn tcp(
    (src, src_port): (IpAddr, u16),
    (dst, dst_port): (IpAddr, u16),
    [seq, ack]: [u32; 2],
    flags: u8,
) -> Vec<u8> {
    let mut header = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
    header.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
    header.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let pseudo = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            [&src.octets()[..], &dst.octets(), &[0, 6], &length(header.len())].concat()
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => pseudo6(src, dst, 6, header.len()),
        families => panic!("{families:?} are of two families"),
    };
    let sum = checksum(&[&pseudo, &header]);
    header[16..18].copy_from_slice(&sum);
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => ipv4(src, dst, 64, 6, &header),
        (IpAddr::V6(src), IpAddr::V6(dst)) => ipv6(src, dst, 64, 6, &header),
        families => panic!("{families:?} are of two families"),
    }
}

/// An ICMPv6 message, its checksum right; `message` has zeros in its place.
pub(crate) fn icmp6(src: Ipv6Addr, dst: Ipv6Addr, hops: u8, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let sum = checksum(&[&pseudo6(src, dst, 58, message.len()), &message]);
    message[2..4].copy_from_slice(&sum);
    ipv6(src, dst, hops, 58, &message)
}

/// An ARP packet for Ethernet and IPv4.
pub(crate) fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        packet.extend(mac);
        packet.extend(address.octets());
    }
    packet
}

/// A neighbor advertisement for that address, with that MAC (RFC 4861 section 4.4).
pub(crate) fn advertisement(src: Ipv6Addr, dst: Ipv6Addr, target: Ipv6Addr, owner: Mac) -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(target.octets());
    message.extend([2, 1]);
    message.extend(owner);
    icmp6(src, dst, 255, &message)
}

/// Frames as the lab's program `raw` reads them.
pub(crate) fn hex(frames: &[Vec<u8>]) -> String {
    let line = |frame: &Vec<u8>| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    frames.iter().map(|frame| line(frame) + "\n").collect()
}

/// The frames that the program `raw` printed.
pub(crate) fn unhex(text: &str) -> Vec<Vec<u8>> {
    let byte = |line: &str, at: usize| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
    text.lines().map(|line| (0..line.len()).step_by(2).map(|at| byte(line, at)).collect()).collect()
}

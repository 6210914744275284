//! Frames for fuzzing: valid ones, mutated where it hurts, and garbage.

use stack::input::{Checksum, Gso, GsoKind, Offload};
use stack::wire::build::{Link, flags};
use stack::wire::checksum;

use smoltcp::wire::{EthernetAddress, IpProtocol, Ipv4Address, Ipv6Address, NdiscNeighborFlags};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Longest garbage; a little more than the window.
const GARBAGE_MAX: usize = 300;

/// Makes frames from a seed.
#[derive(Debug)]
pub(crate) struct Maker {
    state: u64,
    corpus: Vec<Vec<u8>>,
}

impl Maker {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed, corpus: corpus() }
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014): any seed is a good one.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.draw() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.draw().to_le_bytes()[0]
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// The next frame and how it is said to be offloaded.
    pub(crate) fn next(&mut self) -> (Vec<u8>, Offload) {
        let frame = match self.below(64) {
            0 => self.giant(),
            1..5 => self.garbage(),
            _ => self.mutant(),
        };
        let offload = if self.below(4) == 0 { self.offload() } else { Offload::default() };
        (frame, offload)
    }

    fn garbage(&mut self) -> Vec<u8> {
        let len = self.below(GARBAGE_MAX);
        (0..len).map(|_| self.byte()).collect()
    }

    /// A frame of about the greatest length.
    fn giant(&mut self) -> Vec<u8> {
        let mut frame = self.pick();
        let len = ETHERNET + 65_535 - 8 + self.below(16);
        frame.resize(len, 0);
        frame
    }

    fn pick(&mut self) -> Vec<u8> {
        let index = self.below(self.corpus.len());
        self.corpus[index].clone()
    }

    fn mutant(&mut self) -> Vec<u8> {
        let mut frame = self.pick();
        for _ in 0..self.below(5) {
            self.mutate(&mut frame);
        }
        // What is wrong behind a checksum is only found when the checksum is right.
        if self.below(8) != 0 {
            mend(&mut frame);
        }
        frame
    }

    fn mutate(&mut self, frame: &mut Vec<u8>) {
        if frame.is_empty() {
            return;
        }
        let at = self.below(frame.len());
        match self.below(9) {
            0 => frame[at] ^= 1 << self.below(8),
            1 => frame[at] = self.byte(),
            // Values at the edges of length fields.
            2 => frame[at] = [0, 1, 7, 8, 20, 40, 44, 0x7f, 0x80, 0xff][self.below(10)],
            3 => frame.truncate(at),
            4 => frame.insert(at, 0),
            5 => {
                frame.remove(at);
            }
            6 => {
                // A part again: options, extension headers and tags come twice.
                let end = (at + 1 + self.below(16)).min(frame.len());
                let part = frame[at..end].to_vec();
                frame.splice(at..at, part);
            }
            7 => {
                // The tail of another frame: one protocol's bytes in the other's place.
                let other = self.pick();
                frame.truncate(at);
                frame.extend_from_slice(other.get(at..).unwrap_or(&[]));
            }
            _ => self.resize(frame),
        }
    }

    /// Makes the IP header's length nearly the frame's.
    fn resize(&mut self, frame: &mut [u8]) {
        let behind = frame.len().saturating_sub(ETHERNET + self.below(3));
        let place = match frame.get(ETHERNET).map(|byte| byte >> 4) {
            Some(4) => frame.get_mut(16..18).map(|place| (place, behind)),
            Some(6) => frame.get_mut(18..20).map(|place| (place, behind.saturating_sub(40))),
            _ => None,
        };
        if let Some((place, len)) = place {
            place.copy_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
        }
    }

    fn offload(&mut self) -> Offload {
        let starts = [34, 54, 62, self.word()];
        let offsets = [16, 6, 8, 2, self.word()];
        let (start, offset) = (starts[self.below(4)], offsets[self.below(5)]);
        let checksum = [Checksum::Complete, Checksum::Valid, Checksum::Partial { start, offset }];
        let kinds = [GsoKind::Tcp4, GsoKind::Tcp6, GsoKind::Udp];
        let (kind, size) = (kinds[self.below(3)], [0, 1, 1448, self.word()][self.below(4)]);
        let gso = (self.below(2) == 0).then_some(Gso { kind, size, ecn: self.below(2) == 0 });
        Offload { checksum: checksum[self.below(3)], gso, fragment_mtu: None }
    }
}

/// Makes the checksum of an IPv4 header right.
pub(crate) fn mend(frame: &mut [u8]) {
    if frame.get(12..14) != Some(&[8, 0]) || frame.len() < ETHERNET + 20 {
        return;
    }
    let len = usize::from(frame[ETHERNET] & 0x0f).max(5) * 4;
    let end = frame.len().min(ETHERNET + len);
    frame[24..26].fill(0);
    let check = !checksum::fold(checksum::sum(&frame[ETHERNET..end]));
    frame[24..26].copy_from_slice(&check.to_be_bytes());
}

/// Valid frames of every kind.
fn corpus() -> Vec<Vec<u8>> {
    let (a, b) = (EthernetAddress([2, 0, 0, 0, 0, 1]), EthernetAddress([2, 0, 0, 0, 0, 2]));
    let link = Link { src: a, dst: b };
    let (a4, b4) = (Ipv4Address::new(10, 1, 1, 5), Ipv4Address::new(10, 1, 1, 6));
    let a6 = Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5);
    let b6 = Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 6);
    let long = [0_u8; 200];
    let mut frames = vec![
        link.arp(true, (a, a4), (EthernetAddress::default(), b4)),
        link.arp(false, (a, a4), (b, b4)),
        link.raw(0x8100, &[0, 5, 8, 0, 0x45]),
        link.neighbor_solicit(a6, b6),
        link.neighbor_solicit(Ipv6Address::UNSPECIFIED, b6),
        link.neighbor_advert(a6, b6, a6, a, NdiscNeighborFlags::SOLICITED),
        link.ipv4(a4, b4).options(&[131, 7, 4, 10, 0, 0, 9, 7, 3, 4]).udp(1, 2, b"options"),
        link.ipv4(a4, b4).options(&[148, 4, 0, 0, 68, 8, 5, 0]).udp(1, 2, b"options"),
        link.ipv6(a6, b6).extension(IpProtocol::HopByHop, &[5, 2, 0, 0]).udp(1, 2, b"alert"),
        link.ipv6(a6, b6).extension(IpProtocol::Ipv6Route, &[0, 1]).udp(1, 2, b"routed"),
        link.ipv6(a6, b6).extension(IpProtocol::Ipv6Opts, &long).udp(1, 2, b"far"),
        link.ipv6(a6, b6)
            .extension(IpProtocol::HopByHop, &[])
            .extension(IpProtocol::Ipv6Route, &[4, 0])
            .fragment(1, 0, false)
            .extension(IpProtocol::Ipv6Opts, &[])
            .tcp((1, 2), flags::SYN, 1, 0, b""),
    ];
    let quoted4 = link.ipv4(a4, b4).udp(1, 2, b"quoted")[ETHERNET..].to_vec();
    let quoted6 =
        link.ipv6(a6, b6).fragment(1, 0, true).udp(1, 2, b"quoted!!")[ETHERNET..].to_vec();
    frames.push(link.ipv4(a4, b4).icmp(3, 4, [0, 0, 5, 170], &quoted4));
    frames.push(link.ipv6(a6, b6).icmp(2, 0, [0, 0, 5, 150], &quoted6));
    for ip in [link.ipv4(a4, b4), link.ipv6(a6, b6)] {
        let ip = || ip.clone();
        frames.extend([
            ip().udp(40_000, 53, b"who?"),
            ip().tcp((40_000, 80), flags::SYN, 1, 0, b""),
            ip().tcp((40_000, 80), flags::ACK, 1, 2, &long),
            ip().echo(true, 1, 2, b"ping"),
            ip().upper(IpProtocol::from(132), &[7; 28]),
            ip().upper(IpProtocol::from(47), &long),
            ip().fragment(9, 0, true).udp(1, 2, &[0; 16]),
            ip().fragment(9, 0, true).tcp((1, 2), flags::SYN, 1, 0, &[0; 4]),
            ip().fragment(9, 8, false).upper(IpProtocol::Udp, &[0; 16]),
        ]);
    }
    frames
}

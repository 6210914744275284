//! Translations against packets built anew with other ends. The model builds by `wire::build`,
//! which is smoltcp's for TCP, UDP and IPv4, and computes SCTP's CRC bit by bit.

use std::boxed::Box;
use std::vec::Vec;

use smoltcp::wire::{EthernetAddress, IpAddress, IpProtocol, Ipv4Address};

use super::*;
use crate::input::Offload;
use crate::pipeline::packet::{Inner, Packet};
use crate::pipeline::parse;
use crate::trace::{Quotation, Rewrite};
use crate::wire::build::{self, Link, flags};
use crate::wire::checksum;

mod edges;
mod laws;

const LINK: Link =
    Link { src: EthernetAddress([2, 0, 0, 0, 0, 1]), dst: EthernetAddress([2, 0, 0, 0, 0, 2]) };
const SCTP: IpProtocol = IpProtocol::Unknown(132);

/// What is in a packet. Ports and identifier are [`Spec::ports`]; an echo has the first alone.
#[derive(Clone, Debug)]
enum Body {
    Tcp,
    Udp {
        summed: bool,
    },
    Sctp,
    Echo {
        request: bool,
    },
    /// A protocol that nobody knows.
    Unknown,
    /// An ICMP error that quotes so many bytes behind the quoted IP header.
    Error {
        inner: Box<Spec>,
        quoted: usize,
    },
}

/// Which part of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Whole,
    First,
    Later,
}

/// A packet to be built, again and again with other ends. Addresses are IPv6's, of which IPv4 has
/// the first four bytes.
#[derive(Clone, Debug)]
struct Spec {
    six: bool,
    addresses: [[u8; 16]; 2],
    ports: [u16; 2],
    /// IPv4 options in words, or extension headers of IPv6.
    options: usize,
    place: Place,
    body: Body,
    payload: Vec<u8>,
}

impl Spec {
    /// A plain packet between two plain ends.
    fn plain(six: bool, body: Body) -> Self {
        let mut addresses = [[10; 16], [192; 16]];
        addresses[0][3] = 5;
        addresses[1][15] = 6;
        let (ports, place) = ([40_000, 53], Place::Whole);
        Self { six, addresses, ports, options: 0, place, body, payload: b"odd".to_vec() }
    }

    fn address(&self, bytes: [u8; 16]) -> IpAddress {
        let [a, b, c, d, ..] = bytes;
        if self.six { IpAddress::Ipv6(bytes.into()) } else { Ipv4Address::new(a, b, c, d).into() }
    }

    /// The IP header, with options, as part of a datagram or not.
    fn ip(&self) -> build::Ip {
        let [src, dst] = self.addresses.map(|bytes| self.address(bytes));
        let mut ip = LINK.ip(src, dst).unwrap().options(&std::vec![1; self.options * 4]);
        for _ in 0..self.options {
            ip = ip.extension(IpProtocol::Ipv6Opts, &[]);
        }
        match self.place {
            Place::Whole => ip,
            Place::First => ip.fragment(9, 0, true),
            Place::Later => ip.fragment(9, 1_480, false),
        }
    }

    /// The payload, cut so that a first fragment behind an upper header of `header` bytes ends
    /// where it must.
    fn payload(&self, header: usize) -> &[u8] {
        let len = self.payload.len() + header;
        let kept = if self.place == Place::First { len / 8 * 8 } else { len };
        &self.payload[..kept.saturating_sub(header)]
    }

    /// The frame with complete checksums.
    fn build(&self) -> Vec<u8> {
        let [src, dst] = self.ports;
        let echo = if self.six { IpProtocol::Icmpv6 } else { IpProtocol::Icmp };
        if self.place == Place::Later {
            let protocol = match self.body {
                Body::Tcp => IpProtocol::Tcp,
                Body::Udp { .. } => IpProtocol::Udp,
                Body::Sctp => SCTP,
                Body::Echo { .. } | Body::Error { .. } => echo,
                Body::Unknown => IpProtocol::from(47),
            };
            return self.ip().upper(protocol, &self.payload);
        }
        match &self.body {
            Body::Tcp => self.ip().tcp((src, dst), flags::ACK, 7, 9, self.payload(20)),
            Body::Udp { summed } => {
                let mut frame = self.ip().udp(src, dst, self.payload(8));
                if !summed {
                    let at = frame.len() - self.payload(8).len() - 2;
                    frame[at..at + 2].fill(0);
                }
                frame
            }
            Body::Sctp => self.ip().upper(SCTP, &sctp(self.ports, self.payload(12))),
            Body::Echo { request } => {
                settled(self.ip().echo(*request, src, 0, self.payload(8)), self.payload(8).len())
            }
            Body::Unknown => self.ip().upper(IpProtocol::from(47), self.payload(0)),
            Body::Error { inner, quoted } => {
                let icmp_type = if self.six { 1 } else { 3 };
                self.ip().icmp(icmp_type, 3, [0; 4], &quote(inner, *quoted))
            }
        }
    }

    /// What parse finds in it.
    fn parsed(&self) -> Ip {
        let frame = self.build();
        let window = &frame[..frame.len().min(Frame::WINDOW)];
        match parse::parse(window, frame.len(), &Offload::default()).unwrap() {
            Packet { inner: Inner::Ip(ip), .. } => ip,
            packet => panic!("{packet:?}"),
        }
    }

    /// Whether its checksum can be partial, and then where in the upper header it is.
    fn field(&self) -> Option<u16> {
        match self.body {
            _ if self.place != Place::Whole => None,
            Body::Tcp => Some(16),
            Body::Udp { summed: true } => Some(6),
            Body::Echo { .. } | Body::Error { .. } => Some(2),
            Body::Udp { summed: false } | Body::Sctp | Body::Unknown => None,
        }
    }

    /// The frame: with its checksum left to be completed if `partial` and that can be.
    fn frame(&self, partial: bool) -> Frame {
        let mut bytes = self.build();
        let Some(offset) = self.field().filter(|_| partial) else {
            return Frame::from_bytes(&bytes);
        };
        let ip = self.parsed();
        let start = usize::from(ip.l4_offset);
        let len = u32::try_from(bytes.len() - start).unwrap();
        let sum = if ip.protocol == IpProtocol::Icmp {
            0
        } else {
            checksum::fold(checksum::pseudo_header(ip.src, ip.dst, ip.protocol.into(), len))
        };
        let at = start + usize::from(offset);
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        let mut frame = Frame::from_bytes(&bytes);
        let checksum = Checksum::Partial { start: ip.l4_offset, offset };
        frame.set_offload(Offload { checksum, ..Offload::default() });
        frame
    }

    /// Gives an end another address and port.
    fn move_end(&mut self, end: End, address: [u8; 16], port: u16) {
        let index = usize::from(end == End::Destination);
        self.addresses[index] = address;
        let index = if matches!(self.body, Body::Echo { .. }) { 0 } else { index };
        self.ports[index] = port;
    }

    fn rewrite(&self, address: [u8; 16], port: u16, at: u16, sum: Sum) -> Rewrite {
        Rewrite { address: self.address(address), port, at, sum }
    }

    /// The edit that gives an end of `frame`, which this describes, another address and port.
    fn edit(&self, frame: &Frame, end: End, address: [u8; 16], port: u16) -> Edit {
        let ip = self.parsed();
        let rewrite = self.rewrite(address, port, ip.l4_offset, sum(&ip, frame));
        match end {
            End::Source => Edit::Source(rewrite),
            End::Destination => Edit::Destination(rewrite),
        }
    }

    /// The same for the quoted packet; `None` if there is none.
    fn quoted_edit(&self, frame: &Frame, end: End, address: [u8; 16], port: u16) -> Option<Edit> {
        let ip = self.parsed();
        let L4::Icmp { quoted: Some(quoted), .. } = ip.l4 else { return None };
        let rewrite = self.rewrite(address, port, quoted.l4_offset, quoted_sum(&quoted));
        let (icmp, offset, partial) = (ip.l4_offset, quoted.offset, is_partial(&ip, frame));
        let quotation = Quotation { icmp, partial, offset, rewrite };
        Some(match end {
            End::Source => Edit::QuotedSource(quotation),
            End::Destination => Edit::QuotedDestination(quotation),
        })
    }
}

/// The packet from its IP header on, `behind` bytes behind that header.
fn quote(inner: &Spec, behind: usize) -> Vec<u8> {
    let end = usize::from(inner.parsed().l4_offset) + behind;
    let frame = inner.build();
    frame[ETHERNET_HEADER..end.min(frame.len())].to_vec()
}

/// An SCTP packet with one chunk of anything.
fn sctp([src, dst]: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let mut bytes = [src.to_be_bytes(), dst.to_be_bytes(), [0; 2], [0; 2], [0; 2], [0; 2]].concat();
    bytes.extend_from_slice(payload);
    let mut crc = u32::MAX;
    for byte in &bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    bytes[8..12].copy_from_slice(&(!crc).to_le_bytes());
    bytes
}

/// An echo that may be zeros all through has ones where a checksum of zero is as right.
fn settled(mut frame: Vec<u8>, payload: usize) -> Vec<u8> {
    let at = frame.len() - payload - 8;
    if frame[at..at + 6] == [0; 6] {
        frame[at + 2..at + 4].fill(0xff);
    }
    frame
}

/// As `vswitchd`'s `port/offload/checksum.rs` finishes a partial checksum.
fn complete(frame: &mut Frame) {
    let Checksum::Partial { start, offset } = frame.offload().checksum else { return };
    let (start, offset) = (usize::from(start), usize::from(offset));
    let value = match !checksum::fold(checksum::sum(&frame.bytes()[start..])) {
        0 if offset == 6 => 0xffff,
        value => value,
    };
    frame.bytes_mut()[start + offset..start + offset + 2].copy_from_slice(&value.to_be_bytes());
}

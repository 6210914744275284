//! Frames with their port, moment and offload in a pcapng file that Wireshark opens.

use std::fmt::Write;

use stack::{Checksum, Frame, Gso, GsoKind, Instant, Offload, PortId};
use vswitchd::capture::pcapng::read::{Block, Packet, Reader};
use vswitchd::capture::pcapng::{
    self, CHECKSUM_NOT_READY, INBOUND, Interface, OUTBOUND, TCP_SEGMENTATION,
};

use crate::topology::Topology;

/// A frame at a port.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) port: PortId,
    pub(crate) time: Instant,
    pub(crate) frame: Frame,
    /// The walk that sent it; 0 for a frame that goes in.
    pub(crate) walk: u64,
}

/// The file's bytes, with an interface for each port.
pub(crate) fn write(topology: &Topology, frames: &[Seen]) -> Vec<u8> {
    let mut file = Vec::new();
    pcapng::section(&mut file, "hopscope golden");
    for (_, name) in topology.ports() {
        let description = "a port of the switch";
        let interface = Interface { name, description, filter: "", snaplen: 0 };
        pcapng::interface(&mut file, &interface);
    }
    for seen in frames {
        let offload = seen.frame.offload();
        let partial = matches!(offload.checksum, Checksum::Partial { .. });
        let mut flags = if seen.walk == 0 { INBOUND } else { OUTBOUND };
        flags |= if partial { CHECKSUM_NOT_READY } else { 0 };
        flags |= if offload.gso.is_some() { TCP_SEGMENTATION } else { 0 };
        let packet = pcapng::Packet {
            interface: seen.port.0,
            time: seen.time.0,
            original_len: seen.frame.len(),
            bytes: seen.frame.bytes(),
            flags,
            id: Some(seen.walk),
            comment: &describe(offload),
        };
        pcapng::packet(&mut file, &packet);
    }
    file
}

/// The packets of a file, each beside its interface's name.
pub(crate) fn packets(file: &[u8]) -> Vec<(String, Packet)> {
    let mut reader = Reader::default();
    reader.push(file);
    let (mut interfaces, mut packets) = (Vec::new(), Vec::new());
    while let Some((block, _)) = reader.block().unwrap() {
        match block {
            Block::Interface(name) => interfaces.push(name),
            Block::Packet(packet) => {
                let name = interfaces.get(usize::try_from(packet.interface).unwrap());
                packets.push((name.expect("an interface before its packets").clone(), packet));
            }
            Block::Section | Block::Statistics(..) | Block::Other => {}
        }
    }
    packets
}

/// The frames of a file.
pub(crate) fn read(topology: &Topology, file: &[u8]) -> Vec<Seen> {
    let seen = |(name, packet): (String, Packet)| {
        let mut frame = Frame::from_bytes(&packet.bytes);
        frame.set_offload(understand(&packet.comment));
        let time = Instant(packet.time);
        Seen { port: topology.port(&name), time, frame, walk: packet.id }
    };
    packets(file).into_iter().map(seen).collect()
}

/// `checksum partial 34 16, gso tcp4 1448 ecn, fragment 1500`; nothing for a plain frame.
fn describe(offload: &Offload) -> String {
    let mut parts = Vec::new();
    match offload.checksum {
        Checksum::Complete => {}
        Checksum::Valid => parts.push("checksum valid".to_owned()),
        Checksum::Partial { start, offset } => {
            parts.push(format!("checksum partial {start} {offset}"));
        }
    }
    if let Some(gso) = offload.gso {
        let kind = match gso.kind {
            GsoKind::Tcp4 => "tcp4",
            GsoKind::Tcp6 => "tcp6",
            GsoKind::Udp => "udp",
        };
        let mut part = format!("gso {kind} {}", gso.size);
        if gso.ecn {
            write!(part, " ecn").unwrap();
        }
        parts.push(part);
    }
    if let Some(mtu) = offload.fragment_mtu {
        parts.push(format!("fragment {mtu}"));
    }
    parts.join(", ")
}

/// The reverse of [`describe`]. A comment that says something else says nothing of offloads.
fn understand(comment: &str) -> Offload {
    let mut offload = Offload::default();
    for part in comment.split(", ") {
        let words: Vec<&str> = part.split(' ').collect();
        match words[..] {
            ["checksum", "valid"] => offload.checksum = Checksum::Valid,
            ["checksum", "partial", start, offset] => {
                let (start, offset) = (start.parse().unwrap(), offset.parse().unwrap());
                offload.checksum = Checksum::Partial { start, offset };
            }
            ["gso", kind, size, ref ecn @ ..] => {
                let kind = match kind {
                    "tcp4" => GsoKind::Tcp4,
                    "tcp6" => GsoKind::Tcp6,
                    _ => GsoKind::Udp,
                };
                offload.gso =
                    Some(Gso { kind, size: size.parse().unwrap(), ecn: ecn.contains(&"ecn") });
            }
            ["fragment", mtu] => offload.fragment_mtu = Some(mtu.parse().unwrap()),
            _ => {}
        }
    }
    offload
}

#[test]
fn offloads_survive_the_file() {
    for kind in [GsoKind::Tcp4, GsoKind::Tcp6, GsoKind::Udp] {
        for ecn in [false, true] {
            let offload = Offload {
                checksum: Checksum::Partial { start: 34, offset: 16 },
                gso: Some(Gso { kind, size: 1_448, ecn }),
                fragment_mtu: Some(1_500),
            };
            assert_eq!(understand(&describe(&offload)), offload);
        }
    }
    let valid = Offload { checksum: Checksum::Valid, ..Offload::default() };
    assert_eq!(understand(&describe(&valid)), valid);
    assert_eq!(understand(""), Offload::default());
}

//! Nothing leaves half translated: what begins here and goes where its addresses mean nothing has
//! others by then. And where a quotation is translated, its checksums still are what they were.

use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Packet};

use stack::config::PortKind;
use stack::input::{Frame, PortId};
use stack::pipeline::packet::{Inner, Ip, L4, Packet, Quoted};
use stack::pipeline::parse::parse;
use stack::trace::Tracked;
use stack::wire::{ETHERNET_HEADER, checksum};
use stack::{Hop, Switch, Trace};

/// A routed packet that is none of an older connection. Such a one stays as it began: before there
/// was a Service its address may have been another host's.
pub(super) fn translated(
    switch: &Switch,
    (ingress, egress): (PortId, PortId),
    sent: &Frame,
    trace: &Trace,
) {
    let hops = trace.hops();
    let of_older =
        |hop: &Hop| matches!(hop, Hop::Tracked(Tracked::Known { .. } | Tracked::Related { .. }));
    if !hops.contains(&Hop::Gateway) || hops.iter().any(of_older) {
        return;
    }
    let Some(ip) = ip(sent) else { return };
    let (tables, node) = (switch.tables(), switch.tables().node());
    let given_back = hops.contains(&Hop::GivenBack);
    assert!(given_back || !tables.services().is_vip(&ip.dst), "a Service's {} left", ip.dst);
    let kind = |id| tables.ports().by_id(id).map(|port| port.config.kind);
    let leaves = (kind(ingress), kind(egress)) == (Some(PortKind::Pod), Some(PortKind::Host));
    let known = node.addresses.contains(&ip.dst)
        || node.non_masquerade.iter().any(|prefix| prefix.contains_addr(&ip.dst));
    if leaves && !known {
        assert!(node.addresses.contains(&ip.src), "a pod's {} left the cluster", ip.src);
    }
}

fn ip(frame: &Frame) -> Option<Ip> {
    match parse(frame.window(), frame.len(), frame.offload()).ok()?.inner {
        Inner::Ip(ip) => Some(ip),
        Inner::Arp(_) => None,
    }
}

/// What an ICMP error quotes, and the frame up to the packet's end: what lies behind it is padding
/// that does not go on.
fn quotation(frame: &Frame) -> Option<(Quoted, &[u8])> {
    let Packet { inner: Inner::Ip(Ip { l4: L4::Icmp { quoted, .. }, total_len, .. }), .. } =
        parse(frame.window(), frame.len(), frame.offload()).ok()?
    else {
        return None;
    };
    let end = ETHERNET_HEADER + usize::try_from(total_len).ok()?;
    Some((quoted?, frame.bytes().get(..end)?))
}

/// A translated quotation has a right header checksum if it had one, and addresses, ports and
/// checksum of its upper header still sum up to the same.
pub(super) fn quotes_still_fit(given: &Frame, sent: &Frame) {
    let Some((before, old)) = quotation(given) else { return };
    let (after, new) = quotation(sent).expect("what quotes a packet still does");
    if matches!(before.src, IpAddress::Ipv4(_)) {
        let valid = |bytes: &[u8]| {
            let packet = Ipv4Packet::new_unchecked(bytes);
            bytes.len() >= usize::from(packet.header_len()) && packet.verify_checksum()
        };
        let (old, new) = (&old[usize::from(before.offset)..], &new[usize::from(after.offset)..]);
        assert!(!valid(old) || valid(new), "header checksum of a quotation");
    }
    let Some(one) = sum(&before, old) else { return };
    assert_eq!(sum(&after, new), Some(one), "upper checksum of a quotation");
}

/// The sum of what a translation changes and of the checksum over it, in one of zero's two forms.
fn sum(quoted: &Quoted, packet: &[u8]) -> Option<u16> {
    let at = usize::from(quoted.l4_offset);
    // The switch sees no further.
    let bytes = &packet[..packet.len().min(Frame::WINDOW)];
    let word = |offset: usize| Some([*bytes.get(at + offset)?, *bytes.get(at + offset + 1)?]);
    let mut parts: Vec<u8> = Vec::new();
    let mut add = |address: &IpAddress| match address {
        IpAddress::Ipv4(four) => parts.extend(four.octets()),
        IpAddress::Ipv6(six) => parts.extend(six.octets()),
    };
    // The sum of ICMP leaves addresses out.
    if quoted.protocol != IpProtocol::Icmp {
        add(&quoted.src);
        add(&quoted.dst);
    }
    let words = if quoted.protocol == IpProtocol::Tcp {
        vec![word(0)?, word(2)?, word(16)?]
    } else if quoted.protocol == IpProtocol::Udp && word(6)? != [0, 0] {
        vec![word(0)?, word(2)?, word(6)?]
    } else if matches!(quoted.protocol, IpProtocol::Icmp | IpProtocol::Icmpv6) {
        vec![word(2)?, word(4)?]
    } else {
        return None;
    };
    parts.extend(words.concat());
    Some(checksum::fold(checksum::sum(&parts)) % u16::MAX)
}

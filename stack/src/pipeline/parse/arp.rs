//! ARP (RFC 826), as far as IPv4 over Ethernet goes.

use smoltcp::wire::{EthernetAddress, Ipv4Address};

use crate::drop::DropReason;
use crate::pipeline::packet::Arp;

/// Bytes of an ARP packet with Ethernet and IPv4 addresses.
const ARP: usize = 28;
/// Hardware type Ethernet, protocol type IPv4, address lengths 6 and 4.
const FORMAT: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// `bytes` is what follows the Ethernet header; padding behind the packet is usual.
pub(super) fn parse(bytes: &[u8]) -> Result<Arp, DropReason> {
    let Some(packet) = bytes.first_chunk::<ARP>() else {
        return Err(DropReason::Truncated);
    };
    let [f0, f1, f2, f3, f4, f5, operation_high, operation_low, addresses @ ..] = *packet;
    if [f0, f1, f2, f3, f4, f5] != FORMAT {
        return Err(DropReason::ArpInvalid);
    }
    let request = match u16::from_be_bytes([operation_high, operation_low]) {
        1 => true,
        2 => false,
        _ => return Err(DropReason::ArpInvalid),
    };
    let [m0, m1, m2, m3, m4, m5, a0, a1, a2, a3, target @ ..] = addresses;
    let [n0, n1, n2, n3, n4, n5, b0, b1, b2, b3] = target;
    Ok(Arp {
        request,
        sender_mac: EthernetAddress([m0, m1, m2, m3, m4, m5]),
        sender: Ipv4Address::new(a0, a1, a2, a3),
        target_mac: EthernetAddress([n0, n1, n2, n3, n4, n5]),
        target: Ipv4Address::new(b0, b1, b2, b3),
    })
}

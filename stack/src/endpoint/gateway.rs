//! The gateway as a host: what pods say to its address beyond echo gets the answer a host without
//! listeners gives (RFC 1122 section 4.1.3.1 and RFC 9293 section 3.10.7.1): port unreachable, RST.
//!
//! It keeps no state between packets: the interface lives for one poll.

use alloc::vec::Vec;

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::wire::{EthernetAddress, EthernetFrame, HardwareAddress, IpCidr};

use super::device::OnePacket;
use crate::config::NodeConfig;
use crate::input::Frame;
use crate::time::Instant;
use crate::wire::ETHERNET_HEADER;

/// What the gateway replies to a frame that was delivered to it.
pub(crate) fn answer(node: &NodeConfig, mtu: u16, now: Instant, frame: &Frame) -> Vec<Frame> {
    let Ok(ethernet) = EthernetFrame::new_checked(frame.bytes()) else { return Vec::new() };
    let asker = ethernet.src_addr();
    let mut device = OnePacket {
        received: Some(ethernet.payload().to_vec()),
        sent: Vec::new(),
        mtu: usize::from(mtu),
    };
    let now = now.to_smoltcp();
    let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, now);
    let link_local = IpCidr::new(node.gateway_link_local().into(), 64);
    let gateways = [node.gateway4.map(IpCidr::Ipv4), node.gateway6.map(IpCidr::Ipv6)];
    interface.update_ip_addrs(|addresses| {
        for cidr in gateways.into_iter().flatten().chain([link_local]) {
            // smoltcp has room for eight.
            let _full = addresses.push(cidr);
        }
    });
    interface.poll(now, &mut device, &mut SocketSet::new(Vec::new()));
    device.sent.iter().map(|packet| wrap(node.gateway_mac, asker, packet)).collect()
}

/// Puts an Ethernet header before a packet of the gateway.
fn wrap(gateway: EthernetAddress, dst: EthernetAddress, packet: &[u8]) -> Frame {
    let v6 = packet.first().is_some_and(|byte| byte >> 4 == 6);
    let kind: [u8; 2] = if v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
    let mut frame = Frame::with_capacity(ETHERNET_HEADER + packet.len());
    frame.set_len(ETHERNET_HEADER + packet.len());
    let header = dst.0.into_iter().chain(gateway.0).chain(kind);
    for (to, from) in frame.bytes_mut().iter_mut().zip(header.chain(packet.iter().copied())) {
        *to = from;
    }
    frame
}

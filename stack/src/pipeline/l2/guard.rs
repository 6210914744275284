//! The source guard: may this port say this (SEC-30 to SEC-33).
//!
//! RFC 826 and RFC 5227 (ARP), RFC 4861 (neighbor discovery), RFC 1812 section 5.3.7 (martians).
//! What a pod sends carries its own MAC and addresses, in ARP and ND fields as well, and it never
//! speaks as a router or a DHCP server. Inner packets of a pod's own tunnels are not judged.

use core::ops::ControlFlow::Continue;

use smoltcp::wire::{EthernetAddress, IpAddress, IpProtocol, Ipv4Address, Ipv6Address};

use super::refuse;
use crate::config::PortKind;
use crate::drop::DropReason;
use crate::pipeline::Step;
use crate::pipeline::flow;
use crate::pipeline::packet::{Arp, Inner, Ip, L4, Nd, Packet};
use crate::table::service::Found;
use crate::table::{Port, Slot, Tables};
use crate::wire::is_loopback;

/// A port that speaks, and what there is to judge it by.
struct Speaker<'a> {
    tables: &'a Tables,
    slot: Slot,
    port: &'a Port,
}

/// Judges MAC, addresses, ARP and ND fields.
pub(super) fn check(tables: &Tables, slot: Slot, port: &Port, packet: &Packet) -> Step<()> {
    if packet.src.is_multicast() {
        return refuse(DropReason::SourceMacMulticast);
    }
    if packet.src != port.config.mac {
        return refuse(DropReason::SourceMacSpoofed);
    }
    let speaker = Speaker { tables, slot, port };
    match &packet.inner {
        Inner::Ip(ip) => speaker.ip(ip),
        Inner::Arp(arp) => speaker.arp(arp),
    }
}

impl Speaker<'_> {
    fn ip(&self, ip: &Ip) -> Step<()> {
        if self.is_to_loopback_port(ip) {
            return Continue(());
        }
        if martian_destination(&ip.dst) {
            return refuse(DropReason::Martian);
        }
        if let IpAddress::Ipv6(Ipv6Address::UNSPECIFIED) = ip.src {
            // Only duplicate address detection and multicast listener reports before it (RFC 3590).
            let may = !self.is_pod() || self.port.speaks_ipv6();
            return if may && announces_nothing(ip) {
                Continue(())
            } else {
                refuse(DropReason::SourceIpSpoofed)
            };
        }
        if martian_source(&ip.src) {
            return refuse(DropReason::Martian);
        }
        if !self.is_pod() {
            return Continue(());
        }
        if !self.owns(&ip.src) {
            return refuse(DropReason::SourceIpSpoofed);
        }
        match ip.l4 {
            L4::Nd(nd) => self.nd(nd),
            // Redirect, and router advertisement (RFC 1256).
            L4::Icmp { icmp_type: 5 | 9, .. } if ip.protocol == IpProtocol::Icmp => {
                refuse(DropReason::RouterMessageFromPod)
            }
            // To clients, from whatever port: clients do not look at it.
            L4::Udp { dst_port: 68 | 546, .. } => refuse(DropReason::DhcpServer),
            L4::Icmp { .. } | L4::Udp { .. } => Continue(()),
            L4::Tcp { .. } | L4::Sctp { .. } | L4::Opaque => Continue(()),
        }
    }

    /// Whether the node itself asks for a `hostPort` at its loopback address, which the kernel
    /// diverts for these alone. Nobody else has that address, or the node's (SEC-33).
    fn is_to_loopback_port(&self, ip: &Ip) -> bool {
        if self.port.config.kind != PortKind::Host || !is_loopback(&ip.dst) {
            return false;
        }
        let is_own = is_loopback(&ip.src) || self.tables.node().addresses.contains(&ip.src);
        let is_asked = |flow| matches!(self.tables.frontend(&flow), Found::Frontend { .. });
        // A later fragment has no port, and goes only where a first one went that was judged here.
        is_own && (ip.fragment.is_later() || flow::tuple(ip).is_some_and(is_asked))
    }

    fn nd(&self, nd: Nd) -> Step<()> {
        let own = match nd {
            Nd::RouterAdvert | Nd::Redirect => return refuse(DropReason::RouterMessageFromPod),
            Nd::RouterSolicit { link } | Nd::NeighborSolicit { link, .. } => self.owns_link(link),
            Nd::NeighborAdvert { target, link } => {
                self.owns_link(link) && self.owns(&IpAddress::Ipv6(target))
            }
        };
        if own { Continue(()) } else { refuse(DropReason::NdSpoofed) }
    }

    /// Sender fields must be the port's; 0.0.0.0 is a probe (RFC 5227 section 2.1.1).
    fn arp(&self, arp: &Arp) -> Step<()> {
        let probe = arp.request && arp.sender == Ipv4Address::UNSPECIFIED;
        let own = !self.is_pod() || probe || self.owns(&IpAddress::Ipv4(arp.sender));
        if own && arp.sender_mac == self.port.config.mac {
            return Continue(());
        }
        refuse(DropReason::ArpSpoofed)
    }

    fn is_pod(&self) -> bool {
        self.port.config.kind == PortKind::Pod
    }

    fn owns_link(&self, link: Option<EthernetAddress>) -> bool {
        link.is_none_or(|mac| mac == self.port.config.mac)
    }

    /// Whether the port may call the address its own. An allowed prefix is for addresses that
    /// nobody has: a virtual one, or a network behind the pod. What another port, the gateway or
    /// the node has stays theirs however wide the prefix is: claimed, it would draw their traffic;
    /// as a source it would pass for their word, and answers would go to the true owner anyway.
    fn owns(&self, address: &IpAddress) -> bool {
        let config = &self.port.config;
        config.addresses.contains(address)
            || self.port.owns(address) && !self.belongs_to_another(address)
    }

    fn belongs_to_another(&self, address: &IpAddress) -> bool {
        let node = self.tables.node();
        let gateways = [
            node.gateway4.map(|cidr| IpAddress::Ipv4(cidr.address())),
            node.gateway6.map(|cidr| IpAddress::Ipv6(cidr.address())),
        ];
        gateways.contains(&Some(*address))
            || node.addresses.contains(address)
            || self.tables.neighbor(address).is_some_and(|neighbor| neighbor.slot != self.slot)
    }
}

fn announces_nothing(ip: &Ip) -> bool {
    match ip.l4 {
        L4::Nd(Nd::NeighborSolicit { link, .. }) => link.is_none(),
        L4::Icmp { icmp_type, .. } => matches!(icmp_type, 131 | 132 | 143),
        L4::Nd(_) | L4::Tcp { .. } | L4::Udp { .. } | L4::Sctp { .. } | L4::Opaque => false,
    }
}

/// Sources that are no host's (RFC 1812 section 5.3.7, RFC 4291 section 2.5.3).
fn martian_source(address: &IpAddress) -> bool {
    match address {
        IpAddress::Ipv4(v4) => {
            let [first, ..] = v4.octets();
            v4.is_loopback() || first == 0 || first >= 224
        }
        IpAddress::Ipv6(v6) => v6.is_loopback() || v6.is_multicast() || mapped(*v6),
    }
}

fn martian_destination(address: &IpAddress) -> bool {
    match address {
        IpAddress::Ipv4(v4) => {
            let [first, ..] = v4.octets();
            v4.is_loopback() || first == 0 || (first >= 240 && !v4.is_broadcast())
        }
        IpAddress::Ipv6(v6) => v6.is_loopback() || v6.is_unspecified() || mapped(*v6),
    }
}

/// IPv4-mapped addresses never appear on a wire (RFC 4942 section 2.2).
fn mapped(address: Ipv6Address) -> bool {
    address.to_ipv4_mapped().is_some()
}

//! Why frames are dropped: the one table.
//!
//! Numbers are stable, grouped by stage and never reused. Counters, metrics, captures, `hopctl` and
//! the table in ARCHITECTURE.md all come from here; a test reaches each reason.

use core::fmt;

/// Whose doing a drop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropClass {
    /// The bytes make no sense.
    Malformed,
    /// Well-formed, but not carried here.
    Unsupported,
    /// The sender claimed to be somebody else.
    Spoofed,
    /// The destination cannot be reached.
    Unreachable,
    /// A limit was reached.
    Exhausted,
    /// Will pass: a port is down, configuration is loading.
    Transient,
    /// Our own fault: alarm.
    Bug,
}

impl DropClass {
    /// The class in lower case, as metrics and tables show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
            Self::Spoofed => "spoofed",
            Self::Unreachable => "unreachable",
            Self::Exhausted => "exhausted",
            Self::Transient => "transient",
            Self::Bug => "bug",
        }
    }
}

macro_rules! drop_reasons {
    ($($code:literal $name:ident $class:ident $text:literal $hint:literal;)+) => {
        /// Why a frame was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum DropReason {
            $(#[doc = $text] $name = $code,)+
        }

        impl DropReason {
            /// Every reason, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name, as filters, metrics and JSON write it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// Whose doing it is.
            #[must_use]
            pub const fn class(self) -> DropClass {
                match self { $(Self::$name => DropClass::$class,)+ }
            }

            /// What happened, one clause.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What the operator can do about it.
            #[must_use]
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)+ }
            }
        }
    };
}

drop_reasons! {
    101 Truncated Malformed "the frame ends within a header"
        "the sender's driver cut it; capture at the pod's port and look at the length";
    102 TooLong Malformed "the frame is longer than any IP packet can be"
        "the sender's driver is at fault; check its offload settings";
    103 EthertypeUnknown Unsupported "neither IPv4, IPv6 nor ARP"
        "only IP is carried between pods; look at the Ethertype in a capture";
    104 VlanUnexpected Unsupported "a VLAN tag from a pod"
        "send untagged frames; a pod's port is no trunk";
    105 Ipv4HeaderInvalid Malformed "an IPv4 header that contradicts itself or the frame"
        "capture the frame; version, header length and total length are checked";
    106 Ipv4ChecksumBad Malformed "the IPv4 header's checksum is wrong"
        "the sender computes it wrongly; no device may leave this one to others";
    107 Ipv6HeaderInvalid Malformed "an IPv6 header that contradicts itself or the frame"
        "capture the frame; version and payload length are checked";
    108 Ipv6ExtensionInvalid Malformed "an IPv6 extension header out of place or out of bounds"
        "capture the frame; hop-by-hop options must come first, lengths must fit";
    109 L4Truncated Malformed "the packet ends within its TCP, UDP, SCTP or ICMP header"
        "capture the frame; the sender builds it wrongly";
    110 HeaderChainTooLong Unsupported "the L4 header lies beyond the first 256 bytes"
        "shorten the IP options or extension headers";
    111 FragmentInvalid Malformed "a fragment whose offset or length cannot be"
        "tiny first fragments, wrong multiples of 8 and overlong ends are attacks or bugs";
    112 ArpInvalid Malformed "an ARP packet that is not Ethernet and IPv4 request or reply"
        "capture the frame; only RFC 826 requests and replies are known";
    113 NdInvalid Malformed "a neighbor discovery packet that RFC 4861 says to discard"
        "hop limit must be 255, lengths and options must fit";
    114 SourceRouted Unsupported "IPv4 source routing, or a routing header where none is taken"
        "IPv6 type 0 is refused everywhere (RFC 5095), others where addresses are translated";
    115 OffloadInvalid Malformed "the offload description does not fit the frame"
        "the sender's driver is at fault; turn its offloads off";
    301 SourceMacSpoofed Spoofed "the source MAC is not the port's"
        "the pod uses a MAC that the CNI did not give it; a bridge inside needs its own network";
    302 SourceMacMulticast Spoofed "the source MAC is a group address"
        "no host has such a MAC; the sender is broken or hostile";
    303 PortDown Transient "the ingress port is down"
        "the port is being removed or its interface is down: hopctl get ports";
    304 UnknownUnicast Unreachable "no port has the destination MAC"
        "the sender's neighbor entry is stale; nothing is flooded, so it heals by ARP or ND";
    305 Reflected Unsupported "the frame would leave by the port it came in"
        "the sender addressed its own MAC";
    306 FloodScopeEmpty Unreachable "a group frame, and no other pod to take it"
        "harmless: nobody is there to listen";
    307 SourceIpSpoofed Spoofed "the source address is not the port's"
        "give the pod the address, or annotate it with hopscope.dev/allowed-addresses";
    308 ArpSpoofed Spoofed "ARP sender fields that are not the port's"
        "the pod claims another's address; annotate it if it may (keepalived, for one)";
    309 NdSpoofed Spoofed "neighbor discovery fields that are not the port's"
        "the pod claims another's address; annotate it if it may";
    310 RouterMessageFromPod Spoofed "a router advertisement or redirect from a pod"
        "pods are no routers here; find out why it sends them";
    311 NeighborUnknown Unreachable "ARP or ND asks for an address that nobody has"
        "the address is not attached on this node: hopctl get neighbors";
    312 StormLimited Exhausted "more broadcast or multicast than a port may send"
        "look for a loop or a chatty protocol in the pod";
    313 DhcpServer Spoofed "a DHCP server's message from a pod"
        "addresses come from the CNI; no pod serves them";
    314 ReservedGroup Unsupported "a link-control group address that bridges never forward"
        "spanning tree, pause and LACP end at the port";
    315 PortUnknown Transient "the ingress port does not exist"
        "a frame was on its way when its port was removed";
    316 NeighborUnasked Unsupported "an ARP reply or neighbor advertisement to the gateway"
        "the switch knows its neighbors and never asks; nothing is learned from pods";
    317 Martian Spoofed "an address that cannot be on a wire"
        "loopback, unspecified, class E or multicast where a host's address belongs";
    318 ConfigurationPending Transient "desired state has not been loaded whole"
        "wait for hopctl status --wait; nothing is forwarded on half a configuration";
    401 ConntrackInvalid Malformed "the packet fits no state of its connection"
        "a stray, late or forged segment; capture at the pod's port, look at flags and numbers";
    402 ConntrackFull Exhausted "the table of connections is full"
        "hopctl get conntrack shows whose they are; look for scans and for clients that leak";
    403 PodConnectionsFull Exhausted "the pod has as many connections as one may have"
        "hopctl get conntrack; find out why the pod opens so many";
    404 RelatedUnknown Unsupported "an ICMP error about no known connection"
        "late or forged; harmless unless path MTU discovery fails";
    501 NoRoute Unreachable "no route to the destination"
        "hopctl get routes; the sender was told by ICMP";
    502 Blackhole Unreachable "the route leads nowhere on purpose"
        "hopctl get routes shows it; the sender was told by ICMP";
    503 HopLimitExceeded Unreachable "the hop limit ran out here"
        "a traceroute, or a routing loop; the sender was told by ICMP";
    504 MtuExceeded Unreachable "larger than the egress port takes"
        "path MTU discovery was told when routed; bridged pods must agree on an MTU";
    506 NeighborFailed Unreachable "no pod has the destination address"
        "the pod is gone: hopctl get neighbors; the sender was told by ICMP";
    507 GroupRouted Unsupported "a group address beyond the pods' segment"
        "multicast stays on the node's segment";
    508 LinkScope Unsupported "a link-local address cannot be routed"
        "use the pod's own address; a sender with a link-local one was told by ICMP";
    509 FragmentUnsupported Unsupported "a fragment for a host inside of the switch"
        "the gateway, and who answers health checks, take whole packets only";
    510 EgressDown Transient "the egress port is down"
        "the receiving pod is being removed or its interface is down: hopctl get ports";
    511 GatewayBusy Exhausted "more for the gateway itself than a port may ask"
        "the gateway serves nobody; find out what the pod wants of it";
    512 RoutedBack Unreachable "the packet would go back to the node that has sent it here"
        "a service's address whose service is gone; the node's route to it goes within a second";
    601 OverlayFromPod Spoofed "a pod sends to the node's overlay port"
        "only nodes speak VXLAN to each other; a tunnel of the pod's own needs another port";
    701 ServiceNoBackend Unreachable "the service has no backend"
        "hopctl get backends; no pod of it is ready; the sender was told by RST or ICMP";
    702 ServiceNoneLocal Unreachable "the service's policy is Local, and no backend is on this node"
        "run a backend here, or have the load balancer ask for the node's health";
    703 ServicePortUnknown Unreachable "the service has no such port"
        "hopctl get services shows its ports; the sender was told by RST or ICMP";
    704 ServiceAddressUnallocated Unreachable "no service has this address"
        "the service is gone and the client kept its address: hopctl get services";
    705 ServiceSourceRefused Unreachable "the service does not admit the source"
        "spec.loadBalancerSourceRanges of the service says who may; add the client's range";
    706 ServiceMidStream Unreachable "a segment amid a stream to a service, of no known connection"
        "the connection timed out or its backend is gone; the sender was told by RST";
    801 SnatExhausted Exhausted "no port of the node is left for the destination"
        "widen snat-ports, or let clients keep their connections to one destination";
    901 Bug Bug "the switch contradicts itself"
        "please report it with a recording";
}

impl DropReason {
    /// The stable number.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The place in [`DropReason::ALL`] and in every array of counters by reason.
    #[must_use]
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|reason| *reason == self).unwrap_or(0)
    }

    /// The reason of that name, whatever the case.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which reasons frames were truly dropped for while the tests ran. A name in a test's text proves
/// nothing: it may stand in a comment.
#[cfg(test)]
pub(crate) mod seen {
    use std::collections::BTreeSet;
    use std::sync::{Mutex, PoisonError};
    use std::vec::Vec;

    use super::DropReason;

    static SEEN: Mutex<BTreeSet<DropReason>> = Mutex::new(BTreeSet::new());

    /// A test saw a frame dropped for this reason.
    pub(crate) fn note(reason: DropReason) {
        SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(reason);
    }

    /// Runs the tests and fails unless they saw every reason of those numbers.
    #[track_caller]
    pub(crate) fn all(numbers: core::ops::Range<u16>, tests: &[fn()]) {
        tests.iter().for_each(|test| test());
        let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = DropReason::ALL.iter().filter(|reason| numbers.contains(&reason.code()));
        let unseen: Vec<&DropReason> = wanted.filter(|reason| !seen.contains(reason)).collect();
        assert_eq!(unseen, Vec::<&DropReason>::new(), "no test causes these");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_indices_agree() {
        for (index, pair) in DropReason::ALL.windows(2).enumerate() {
            assert!(pair[0].code() < pair[1].code(), "{} before {}", pair[0], pair[1]);
            assert_eq!(pair[0].index(), index);
        }
    }

    #[test]
    fn every_reason_is_found_by_its_name() {
        for reason in DropReason::ALL {
            assert_eq!(DropReason::by_name(&reason.name().to_ascii_lowercase()), Some(*reason));
        }
    }
}

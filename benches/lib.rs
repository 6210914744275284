//! Cases of the core that both benches run: `walk.rs` takes their time, `instructions/` counts
//! their instructions and compares them by [`counts`]. Everything goes through the public door,
//! [`Switch::input`].
//!
//! ```text
//!   pod a  10.99.0.2  fd00:99::2 --+                 +-- hop0, default route
//!   pod b  10.99.0.3  fd00:99::3 --+-- gateway .1 ---+
//! ```

use smoltcp::wire::{
    EthernetAddress, IpAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr,
};
use stack::pipeline::parse;
use stack::wire::build::{Link, flags};
use stack::{
    Config, Frame, Input, Instant, Limits, NodeConfig, Outbox, PortConfig, PortId, PortKind, Route,
    RouteTarget, Seeds, Switch, Verdict,
};

pub mod counts;
pub mod crowd;

pub use crowd::{Crowd, Size};

/// What a frame meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// A TCP segment over IPv4 from pod to pod, not routed.
    BridgedTcp4,
    /// The same over IPv6.
    BridgedTcp6,
    /// A TCP segment over IPv4 from a pod to the world: hop limit and MACs change.
    RoutedTcp4,
    /// The same over IPv6.
    RoutedTcp6,
    /// An ARP request for another pod, answered by the switch.
    AnsweredArp,
    /// A source address that is not the pod's: dropped.
    DroppedSpoof,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::BridgedTcp4,
        Self::BridgedTcp6,
        Self::RoutedTcp4,
        Self::RoutedTcp6,
        Self::AnsweredArp,
        Self::DroppedSpoof,
    ];

    /// Its name in results, the same as that of its count in `instructions.json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BridgedTcp4 => "bridged_tcp4",
            Self::BridgedTcp6 => "bridged_tcp6",
            Self::RoutedTcp4 => "routed_tcp4",
            Self::RoutedTcp6 => "routed_tcp6",
            Self::AnsweredArp => "answered_arp",
            Self::DroppedSpoof => "dropped_spoof",
        }
    }

    /// The frame as pod a sends it.
    #[must_use]
    pub fn frame(self) -> Vec<u8> {
        let to_pod = Link { src: POD_A_MAC, dst: POD_B_MAC };
        let to_gateway = Link { src: POD_A_MAC, dst: NodeConfig::GATEWAY_MAC };
        let payload = [0x5a; 1_000];
        let tcp = (40_000, 80);
        match self {
            Self::BridgedTcp4 => to_pod.ipv4(POD_A4, POD_B4).tcp(tcp, flags::ACK, 1, 1, &payload),
            Self::BridgedTcp6 => to_pod.ipv6(POD_A6, POD_B6).tcp(tcp, flags::ACK, 1, 1, &payload),
            Self::RoutedTcp4 => {
                to_gateway.ipv4(POD_A4, WORLD4).tcp(tcp, flags::ACK, 1, 1, &payload)
            }
            Self::RoutedTcp6 => {
                to_gateway.ipv6(POD_A6, WORLD6).tcp(tcp, flags::ACK, 1, 1, &payload)
            }
            Self::AnsweredArp => Link { src: POD_A_MAC, dst: EthernetAddress::BROADCAST }.arp(
                true,
                (POD_A_MAC, POD_A4),
                (EthernetAddress([0; 6]), POD_B4),
            ),
            Self::DroppedSpoof => to_pod.ipv4(WORLD4, POD_B4).tcp(tcp, flags::ACK, 1, 1, &payload),
        }
    }

    /// Whether a walk ended as this case is meant to.
    #[must_use]
    pub fn is_met_by(self, verdict: Verdict) -> bool {
        match self {
            Self::BridgedTcp4 | Self::BridgedTcp6 => verdict == Verdict::Forward(POD_B),
            Self::RoutedTcp4 | Self::RoutedTcp6 => verdict == Verdict::Forward(HOST),
            Self::AnsweredArp => matches!(verdict, Verdict::Answer(_)),
            Self::DroppedSpoof => matches!(verdict, Verdict::Drop(_)),
        }
    }
}

/// A switch, and one frame that goes through it again and again in the same buffer.
#[derive(Debug)]
pub struct Bed {
    switch: Switch,
    out: Outbox,
    now: Instant,
    frame: Frame,
    /// What an edit may have changed, to be put back.
    head: Vec<u8>,
}

impl Bed {
    /// The port that its frames come by.
    pub const PORT: PortId = POD_A;

    /// A small datagram over IPv4 from pod a to pod b.
    #[must_use]
    pub fn datagram() -> Vec<u8> {
        Link { src: POD_A_MAC, dst: POD_B_MAC }.ipv4(POD_A4, POD_B4).udp(1, 1, &[0x5a; 64])
    }

    /// The desired state of its switch.
    #[must_use]
    pub fn configuration() -> Config {
        configuration()
    }

    /// Ready to walk: everything that is allocated on first use has been.
    ///
    /// # Panics
    /// When the walk does not end as the case says: then the bench would measure something else.
    #[must_use]
    pub fn new(case: Case) -> Self {
        let bytes = case.frame();
        let switch = Switch::new(configuration(), Limits::default(), Seeds { table: 1, choice: 1 });
        let mut bed = Self {
            switch,
            out: Outbox::default(),
            now: Instant(1_000_000_000),
            frame: Frame::from_bytes(&bytes),
            head: bytes.iter().copied().take(HEAD).collect(),
        };
        for _ in 0..3 {
            bed.walk();
            let verdict = bed.out.walked.first().map(|trace| trace.verdict);
            assert!(
                verdict.is_some_and(|verdict| case.is_met_by(verdict)),
                "{}: the walk ended with {verdict:?}",
                case.name()
            );
            bed.reset();
        }
        bed
    }

    /// One walk, with all that belongs to it: counters, trace, outbox.
    pub fn walk(&mut self) {
        let frame = std::mem::take(&mut self.frame);
        self.switch.input(self.now, Input::Frame { port: POD_A, frame }, &mut self.out);
    }

    /// Makes ready for the next walk: takes the buffer back, undoes edits, moves the clock. Costs a
    /// few nanoseconds.
    pub fn reset(&mut self) {
        let came_back = self.out.reclaimed.pop().map(|(_, frame)| frame);
        let came_out = self.out.transmits.pop().map(|transmit| transmit.frame);
        // An answered frame comes back, and the answer comes out in a buffer of its own.
        self.frame = came_back.or(came_out).unwrap_or_default();
        if let Some(head) = self.frame.bytes_mut().get_mut(..self.head.len()) {
            head.copy_from_slice(&self.head);
        }
        self.out.clear();
        self.now.0 += 1_000;
    }

    /// What came of the last walk, for whoever looks on.
    #[must_use]
    pub fn seen(&self) -> (Instant, &Switch, &Outbox) {
        (self.now, &self.switch, &self.out)
    }

    /// Reads the frame's headers and nothing else.
    ///
    /// # Panics
    /// Never for the frames of [`Case`].
    pub fn parse(&self) {
        let parsed = parse::parse(self.frame.window(), self.frame.len(), self.frame.offload());
        assert!(std::hint::black_box(parsed).is_ok(), "the frames of all cases parse");
    }
}

/// Bytes that a walk may edit: Ethernet and IP.
const HEAD: usize = 54;

const POD_A: PortId = PortId(2);
const POD_B: PortId = PortId(3);
const HOST: PortId = PortId(1);
const POD_A_MAC: EthernetAddress = EthernetAddress([0x02, 0x48, 10, 99, 0, 2]);
const POD_B_MAC: EthernetAddress = EthernetAddress([0x02, 0x48, 10, 99, 0, 3]);
const POD_A4: Ipv4Address = Ipv4Address::new(10, 99, 0, 2);
const POD_B4: Ipv4Address = Ipv4Address::new(10, 99, 0, 3);
const WORLD4: Ipv4Address = Ipv4Address::new(198, 51, 100, 7);
const POD_A6: Ipv6Address = Ipv6Address::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 2);
const POD_B6: Ipv6Address = Ipv6Address::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 3);
const WORLD6: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);

/// Pods of the node; the first is the port of number 2.
pub(crate) const PODS: u8 = 110;

pub(crate) fn pod_mac(number: u8) -> EthernetAddress {
    EthernetAddress([0x02, 0x48, 10, 99, 0, number])
}

/// A node as full as one gets: 110 pods and a few hundred routes, so that tables are not trivially
/// small.
pub(crate) fn configuration() -> Config {
    let node = NodeConfig {
        gateway4: Some(Ipv4Cidr::new(Ipv4Address::new(10, 99, 0, 1), 24)),
        gateway6: Some(Ipv6Cidr::new(Ipv6Address::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 1), 64)),
        addresses: vec![Ipv4Address::new(192, 0, 2, 10).into()],
        // What is routed is measured without a translation.
        non_masquerade: vec![
            IpCidr::new(Ipv4Address::UNSPECIFIED.into(), 0),
            IpCidr::new(Ipv6Address::UNSPECIFIED.into(), 0),
        ],
        ..NodeConfig::default()
    };
    let host = PortConfig {
        id: HOST,
        kind: PortKind::Host,
        mac: EthernetAddress([0x02, 0x48, 10, 99, 0, 250]),
        addresses: node.addresses.clone(),
        allowed: Vec::new(),
        mtu: 1_500,
        up: true,
    };
    let pods = (2..PODS + 2).map(|number| PortConfig {
        id: PortId(number.into()),
        kind: PortKind::Pod,
        mac: pod_mac(number),
        addresses: vec![
            Ipv4Address::new(10, 99, 0, number).into(),
            Ipv6Address::new(0xfd00, 0x99, 0, 0, 0, 0, 0, number.into()).into(),
        ],
        allowed: Vec::new(),
        mtu: 1_500,
        up: true,
    });
    let route =
        |address: IpAddress, bits, target| Route { prefix: IpCidr::new(address, bits), target };
    let elsewhere = (0..=255)
        .map(|third| route(Ipv4Address::new(10, 100, third, 0).into(), 24, RouteTarget::Blackhole));
    let routes = [
        route(Ipv4Address::new(10, 99, 0, 0).into(), 24, RouteTarget::Connected),
        route(Ipv6Address::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 0).into(), 64, RouteTarget::Connected),
        route(Ipv4Address::UNSPECIFIED.into(), 0, RouteTarget::Port(HOST)),
        route(Ipv6Address::UNSPECIFIED.into(), 0, RouteTarget::Port(HOST)),
    ];
    Config {
        ports: pods.chain([host, Switch::gateway_port(&node, PortId(0))]).collect(),
        routes: routes.into_iter().chain(elsewhere).collect(),
        node,
        services: Vec::new(),
        complete: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_ends_as_it_says_again_and_again() {
        for case in Case::ALL {
            let mut bed = Bed::new(case);
            for _ in 0..1_000 {
                bed.walk();
                let verdict = bed.out.walked[0].verdict;
                assert!(case.is_met_by(verdict), "{}: {verdict:?}", case.name());
                bed.reset();
                assert_eq!(bed.frame.bytes(), case.frame(), "{}", case.name());
            }
        }
    }
}

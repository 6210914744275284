//! What a walk records: a flat list of hops, the edits of each, and the verdict.
//!
//! Always on, nothing allocated: hops and edits are small `Copy` values in bounded lists inside the
//! [`Trace`]. Applying the edits one by one to the recorded window shows the frame as it stood
//! after every hop ([`Trace::render`]). [`Trace::line`] is the hop's line wherever one is shown:
//! `hopctl trace`, capture comments, goldens, test failures.

use core::fmt;

use smoltcp::wire::{EthernetAddress, IpAddress};

use crate::config::ServiceId;
use crate::drop::DropReason;
use crate::input::{EndpointId, PortId};
use crate::list::List;

mod connection;
mod walked;

pub use connection::{Masquerade, Side, State, Tracked, Why};
pub use walked::Walked;

/// Hops of one walk at most. A walk with every stage has fewer.
pub const HOPS_MAX: usize = 16;
/// Edits of one walk at most.
pub const EDITS_MAX: usize = 12;

/// A stage of the walk, in walk order. The numbers are stable; gaps are for stages to come (decap
/// 2, encap 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stage {
    /// Bytes to headers.
    Parse = 1,
    /// Source guard, neighbors, bridged or routed.
    L2 = 3,
    /// Which connection it is of.
    Conntrack = 4,
    /// Services, and masquerade undone: destinations.
    Service = 5,
    /// Route, hop limit, MTU.
    L3 = 6,
    /// Whether the packet may pass.
    Policy = 7,
    /// Masquerade, and Services undone: sources.
    Nat = 8,
    /// The switch replies itself.
    Answer = 10,
    /// Out, or the end.
    Egress = 11,
}

impl Stage {
    /// Every stage, in walk order.
    pub const ALL: &'static [Self] = &[
        Self::Parse,
        Self::L2,
        Self::Conntrack,
        Self::Service,
        Self::L3,
        Self::Policy,
        Self::Nat,
        Self::Answer,
        Self::Egress,
    ];

    /// The name in lower case: the first word of a hop's line and of `if_name` `hop/STAGE`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::L2 => "l2",
            Self::Conntrack => "conntrack",
            Self::Service => "service",
            Self::L3 => "l3",
            Self::Policy => "policy",
            Self::Nat => "nat",
            Self::Answer => "answer",
            Self::Egress => "egress",
        }
    }

    /// The stage of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|stage| stage.name() == name)
    }
}

/// What the switch replied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// An ARP reply: the address is at this MAC.
    Arp(EthernetAddress),
    /// A neighbor advertisement: the address is at this MAC.
    Neighbor(EthernetAddress),
    /// An echo reply of the gateway.
    Echo,
    /// An ICMP or ICMPv6 error for this reason.
    Error {
        /// Why the packet got no further.
        reason: DropReason,
        /// ICMP type.
        icmp_type: u8,
        /// ICMP code.
        code: u8,
        /// The MTU told, 0 if none.
        mtu: u16,
    },
    /// A TCP reset for this reason.
    Reset {
        /// Why the segment got no further.
        reason: DropReason,
    },
}

/// Why the switch kept silent though the packet could not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// RFC 1122 section 3.2.2 and RFC 4443 section 2.4(e): never about such a packet.
    Forbidden,
    /// The port's share of errors is used up (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4(f)).
    RateLimited,
}

/// The end of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Out of one port.
    Forward(PortId),
    /// Out of so many ports.
    Flood(u16),
    /// To a host inside the switch.
    Deliver(EndpointId),
    /// The switch replied.
    Answer(AnswerKind),
    /// No further.
    Drop(DropReason),
    /// Held until the first fragment of its datagram has come; then it walks again.
    Hold,
}

/// One step of a walk: a decision, with what it was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// parse: the headers were understood. The line is read off the recorded window.
    Parsed,
    /// l2: the destination MAC is a pod's.
    Bridged(PortId),
    /// l2: the destination MAC is the gateway's.
    Gateway,
    /// l2: a group address, to so many ports.
    Group(u16),
    /// l2: ARP or ND asked for an address. The line reads it off the recorded window.
    Asked,
    /// conntrack: which connection it is of.
    Tracked(Tracked),
    /// service: a backend was chosen.
    Balanced {
        /// Of this Service.
        service: ServiceId,
        /// By what.
        why: Why,
        /// Of so many that could be.
        of: u16,
    },
    /// service: there is nobody to choose.
    Unbalanced(ServiceId),
    /// service: the destination is what its connection says.
    Readdressed,
    /// service: it asks for the node's health.
    HealthCheck,
    /// service: the node's own, back to the node.
    GivenBack,
    /// nat: the source gives way to an address of this node.
    Masqueraded(Masquerade),
    /// nat: the source is what its connection says.
    SourceRestored,
    /// l3: bridged, nothing to route.
    Local,
    /// l3: the packet is for the gateway itself.
    Own,
    /// l3: the packet is for another host inside of the switch.
    Inside,
    /// l3: the longest prefix that covers the destination, attached or by a port.
    Routed {
        /// Bits of the prefix; its address is the destination's.
        prefix_len: u8,
        /// Whether the destination itself is attached to the port.
        attached: bool,
        /// The egress port.
        port: PortId,
    },
    /// l3: the route leads nowhere on purpose, or to nobody.
    Unreachable {
        /// Bits of the prefix.
        prefix_len: u8,
    },
    /// l3: the port's driver will fragment to this many bytes.
    Fragment(u16),
    /// policy: may pass.
    Cleared,
    /// answer: what was replied.
    Answered(AnswerKind),
    /// answer: why nothing was.
    Silent(Silence),
    /// egress: the end.
    Verdict(Verdict),
}

impl Hop {
    /// The stage it belongs to.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        match self {
            Self::Parsed => Stage::Parse,
            Self::Bridged(_) | Self::Gateway | Self::Group(_) | Self::Asked => Stage::L2,
            Self::Tracked(_) => Stage::Conntrack,
            Self::Balanced { .. }
            | Self::Unbalanced(_)
            | Self::Readdressed
            | Self::HealthCheck
            | Self::GivenBack => Stage::Service,
            Self::Masqueraded(_) | Self::SourceRestored => Stage::Nat,
            Self::Local
            | Self::Own
            | Self::Inside
            | Self::Routed { .. }
            | Self::Unreachable { .. }
            | Self::Fragment(_) => Stage::L3,
            Self::Cleared => Stage::Policy,
            Self::Answered(_) | Self::Silent(_) => Stage::Answer,
            Self::Verdict(_) => Stage::Egress,
        }
    }
}

/// A change of the frame's bytes, with the checksums that follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The destination: address and port.
    Destination(Rewrite),
    /// The source: address and port.
    Source(Rewrite),
    /// The destination of the packet that an ICMP error quotes.
    QuotedDestination(Quotation),
    /// The source of the packet that an ICMP error quotes.
    QuotedSource(Quotation),
    /// Both MACs.
    Macs {
        /// New destination.
        dst: EthernetAddress,
        /// New source.
        src: EthernetAddress,
    },
    /// The hop limit (TTL), and for IPv4 the header checksum by difference (RFC 1624).
    HopLimit(u8),
    /// Source and destination addresses change places (no checksum alters).
    SwapAddresses,
    /// An echo request becomes a reply (RFC 792, RFC 4443 section 4.2), its checksum by difference.
    EchoReply {
        /// Where the ICMP header starts, in bytes from the frame's begin.
        at: u16,
        /// The checksum is partial: the type is among the bytes still to be summed.
        partial: bool,
    },
}

impl Edit {
    /// Whether it translates an end of the packet: what a sender is answered about is the packet
    /// without these.
    #[must_use]
    pub const fn translates(&self) -> bool {
        match self {
            Self::Destination(_)
            | Self::Source(_)
            | Self::QuotedDestination(_)
            | Self::QuotedSource(_) => true,
            Self::Macs { .. }
            | Self::HopLimit(_)
            | Self::SwapAddresses
            | Self::EchoReply { .. } => false,
        }
    }
}

/// One end of a packet, changed. IPv4's header checksum follows by difference (RFC 1624), and the
/// upper header's as [`Rewrite::sum`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The new address, of the packet's family.
    pub address: IpAddress,
    /// The new port or echo identifier; what it was where there is none.
    pub port: u16,
    /// Where the upper header starts, in bytes from the frame's begin.
    pub at: u16,
    /// What the upper header is.
    pub sum: Sum,
}

/// Where in an upper header a port stands, and which checksum covers it and the addresses.
///
/// A partial checksum ([`crate::Checksum::Partial`]) covers the pseudo-header only: addresses count
/// in it, without the complement; a port does not, for it is among the bytes still to be summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// No upper header here: a later fragment, or a protocol of which nothing is known.
    Nothing,
    /// TCP.
    Tcp {
        /// Whether its checksum is partial.
        partial: bool,
    },
    /// UDP: as TCP, but a zero stays, since it means that there is none (RFC 768, RFC 6935 section
    /// 5), and what becomes zero is sent as ones.
    Udp {
        /// Whether its checksum is partial.
        partial: bool,
    },
    /// SCTP: CRC32c over header and payload, which is linear: the difference of the ports and the
    /// packet's length are enough. No address is in it. Of a first fragment nobody knows the whole
    /// length, so its port never changes.
    Sctp,
    /// An ICMP echo: the identifier; no address is in the checksum (RFC 792).
    Echo {
        /// Whether its checksum is partial.
        partial: bool,
    },
    /// An ICMPv6 echo: the identifier, and the pseudo-header (RFC 4443 section 2.3).
    Echo6 {
        /// Whether its checksum is partial.
        partial: bool,
    },
    /// An ICMP message without identifier: nothing follows (RFC 792).
    Icmp,
    /// An ICMPv6 message without identifier: the pseudo-header.
    Icmp6 {
        /// Whether its checksum is partial.
        partial: bool,
    },
}

/// One end of the packet that an ICMP error quotes, changed. The quoted IPv4 header's checksum
/// follows, the quoted upper header's if it is within the window, and the message's own for every
/// byte that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotation {
    /// Where the ICMP header starts, in bytes from the frame's begin.
    pub icmp: u16,
    /// Whether the message's own checksum is partial: the quotation is still to be summed.
    pub partial: bool,
    /// Where the quoted IP header starts.
    pub offset: u16,
    /// The quoted end. [`Rewrite::at`] is where the quoted upper header starts.
    pub rewrite: Rewrite,
}

/// What a walk recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The walk's number: counts all walks of this switch from 1; 0 for a dry run.
    pub number: u64,
    /// The ingress port.
    pub ingress: PortId,
    /// The end, also the last hop.
    pub verdict: Verdict,
    hops: List<Hop, HOPS_MAX>,
    edits: List<(u8, Edit), EDITS_MAX>,
}

/// Names of things the core knows by number only.
pub trait Names {
    /// Writes a port's name.
    ///
    /// # Errors
    /// Those of the formatter.
    fn port(&self, port: PortId, f: &mut dyn fmt::Write) -> fmt::Result;

    /// Writes a Service's name.
    ///
    /// # Errors
    /// Those of the formatter.
    fn service(&self, service: ServiceId, f: &mut dyn fmt::Write) -> fmt::Result {
        write!(f, "service {}", service.0)
    }
}

/// Names every port by its number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbered;

impl Names for Numbered {
    fn port(&self, port: PortId, f: &mut dyn fmt::Write) -> fmt::Result {
        write!(f, "port {}", port.0)
    }
}

impl Trace {
    /// An empty trace. Its verdict says Bug until the walk ends.
    #[must_use]
    pub fn new(ingress: PortId) -> Self {
        Self {
            number: 0,
            ingress,
            verdict: Verdict::Drop(DropReason::Bug),
            hops: List::of(Hop::Parsed),
            edits: List::of((0, Edit::SwapAddresses)),
        }
    }

    /// Makes it an empty one again.
    #[inline]
    pub(crate) fn begin(&mut self, ingress: PortId) {
        self.number = 0;
        self.ingress = ingress;
        self.verdict = Verdict::Drop(DropReason::Bug);
        self.hops.clear();
        self.edits.clear();
    }

    /// The hops, in order; the last is the verdict.
    #[must_use]
    pub fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// The edits, each with the index of the hop that decided it.
    #[must_use]
    pub fn edits(&self) -> &[(u8, Edit)] {
        &self.edits
    }

    /// Applies the edits of the hops up to and including `hop` to a window: the frame as it stood
    /// there.
    pub fn render(&self, window: &mut [u8], hop: usize) {
        for (at, edit) in self.edits() {
            if usize::from(*at) <= hop {
                crate::pipeline::rewrite::apply(window, edit);
            }
        }
    }

    /// Appends a hop. A walk cannot exceed the bound; if it did, the hop is lost and a debug build
    /// asserts.
    #[inline]
    pub(crate) fn hop(&mut self, hop: Hop) {
        let pushed = self.hops.push(|| hop);
        debug_assert!(pushed, "a walk has at most {HOPS_MAX} hops");
    }

    /// Appends an edit to the newest hop.
    #[inline]
    pub(crate) fn edit(&mut self, edit: Edit) {
        self.edit_with(|| edit);
    }

    /// The same of one that is made where it stays ([`List::push`]).
    #[inline(always)]
    pub(crate) fn edit_with(&mut self, edit: impl FnOnce() -> Edit) {
        let at = self.hops.count().saturating_sub(1);
        let pushed = self.edits.push(|| (at, edit()));
        debug_assert!(pushed, "a walk has at most {EDITS_MAX} edits");
    }

    /// Places for the next `M` hops: as [`Trace::hop`], `M` times.
    #[inline(always)]
    pub(crate) fn hops_ahead<const M: usize>(&mut self) -> Option<&mut [Hop; M]> {
        let places = self.hops.grow();
        debug_assert!(places.is_some(), "a walk has at most {HOPS_MAX} hops");
        places
    }

    /// Whether no hop was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hops.is_empty()
    }

    /// The line of a hop: the stage, two spaces after the longest name, what was decided.
    ///
    /// `window` is the header window as it was recorded.
    ///
    /// # Errors
    /// Those of the formatter.
    pub fn line(
        &self,
        hop: usize,
        window: &[u8],
        names: &dyn Names,
        f: &mut dyn fmt::Write,
    ) -> fmt::Result {
        text::line(self, hop, window, names, f)
    }
}

mod text;

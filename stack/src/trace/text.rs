//! Hops as text: one line each, the same everywhere.

use core::fmt;

use smoltcp::wire::{IpAddress, Ipv4Cidr, Ipv6Cidr};

use super::{
    AnswerKind, Edit, Hop, Masquerade, Names, Rewrite, Side, Silence, Sum, Trace, Tracked, Verdict,
    Why,
};
use crate::input::Frame;
use crate::pipeline::parse;
use crate::wire::Mac;

pub(super) fn line(
    trace: &Trace,
    hop: usize,
    window: &[u8],
    names: &dyn Names,
    f: &mut dyn fmt::Write,
) -> fmt::Result {
    let Some(this) = trace.hops().get(hop) else { return Ok(()) };
    // A hop speaks of the frame as it reached it, so what came before is applied first.
    let mut copy = [0_u8; Frame::WINDOW];
    let length = window.len().min(copy.len());
    let (before, _) = copy.split_at_mut(length);
    before.copy_from_slice(window.get(..length).unwrap_or(&[]));
    if let Some(earlier) = hop.checked_sub(1) {
        trace.render(before, earlier);
    }
    let name = this.stage().name();
    f.write_str(name)?;
    f.write_str("           ".get(name.len()..).unwrap_or(""))?;
    match this {
        Hop::Parsed => parse::describe(before, f),
        Hop::Bridged(port) => named(f, "destination MAC is ", *port, names, ": bridged"),
        Hop::Gateway => f.write_str("destination MAC is the gateway's: routed"),
        Hop::Group(ports) => write!(f, "group address: to {ports} other ports of the segment"),
        Hop::Asked => parse::describe(before, f),
        Hop::Tracked(tracked) => connection(f, *tracked),
        Hop::Balanced { service, why, of } => {
            names.service(*service, f)?;
            f.write_str(" -> ")?;
            changed(trace, hop, End::Destination, f)?;
            let why = match why {
                Why::Affinity => "affinity",
                Why::Method(method) => method.name(),
            };
            write!(f, " by {why}, of {of}")
        }
        Hop::Unbalanced(service) => {
            names.service(*service, f)?;
            f.write_str(": nobody to choose")
        }
        Hop::Readdressed => {
            f.write_str("destination -> ")?;
            changed(trace, hop, End::Destination, f)
        }
        Hop::HealthCheck => f.write_str("asks for the node's health"),
        Hop::GivenBack => f.write_str("nobody's here: back to the node"),
        Hop::Masqueraded(why) => {
            f.write_str("source -> ")?;
            changed(trace, hop, End::Source, f)?;
            f.write_str(match why {
                Masquerade::Egress => ": leaves the cluster",
                Masquerade::Service => ": the reply has to come back this way",
                Masquerade::Hairpin => ": asks itself by a service",
                Masquerade::PortTaken => ": the port is another connection's",
            })
        }
        Hop::SourceRestored => {
            f.write_str("source -> ")?;
            changed(trace, hop, End::Source, f)
        }
        Hop::Local => f.write_str("same segment: nothing to route"),
        Hop::Inside => f.write_str("for a host inside of the switch"),
        Hop::Own => f.write_str("for the gateway itself"),
        Hop::Routed { prefix_len, attached, port } => {
            prefix(before, *prefix_len, f)?;
            named(f, if *attached { " is attached: " } else { " via " }, *port, names, "")
        }
        Hop::Unreachable { prefix_len } => {
            prefix(before, *prefix_len, f)?;
            f.write_str(" leads to nobody")
        }
        Hop::Fragment(mtu) => write!(f, "fragmented to {mtu} bytes"),
        Hop::Cleared => f.write_str("no policy selects it: may pass"),
        Hop::Answered(kind) => answer(f, kind),
        Hop::Silent(Silence::Forbidden) => f.write_str("no answer: forbidden about such a packet"),
        Hop::Silent(Silence::RateLimited) => f.write_str("no answer: the port's share is used up"),
        Hop::Verdict(end) => verdict(f, end, names),
    }
}

fn connection(f: &mut dyn fmt::Write, tracked: Tracked) -> fmt::Result {
    let whose = |side| match side {
        Side::Originator => "originator",
        Side::Responder => "responder",
    };
    match tracked {
        Tracked::New => f.write_str("new connection"),
        Tracked::Known { side, state } => write!(f, "{}, from its {}", state.name(), whose(side)),
        Tracked::Related { side } => {
            write!(f, "an error about a packet of a connection's {}", whose(side))
        }
        Tracked::Invalid => f.write_str("of no connection, and begins none"),
    }
}

/// Which end of a packet.
#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

/// What a hop made of an end of the packet.
fn changed(trace: &Trace, hop: usize, end: End, f: &mut dyn fmt::Write) -> fmt::Result {
    let edits = trace.edits().iter().filter(|(at, _)| usize::from(*at) == hop);
    let found = edits.rev().find_map(|(_, edit)| match (end, edit) {
        (End::Source, Edit::Source(rewrite)) | (End::Destination, Edit::Destination(rewrite)) => {
            Some(rewrite)
        }
        _ => None,
    });
    let Some(Rewrite { address, port, sum, .. }) = found else {
        return f.write_str("as its connection says");
    };
    match (address, sum) {
        (_, Sum::Nothing | Sum::Icmp | Sum::Icmp6 { .. }) => write!(f, "{address}"),
        (IpAddress::Ipv6(_), Sum::Tcp { .. } | Sum::Udp { .. } | Sum::Sctp) => {
            write!(f, "[{address}]:{port}")
        }
        (_, Sum::Echo { .. } | Sum::Echo6 { .. }) => write!(f, "{address} id {port}"),
        (_, _) => write!(f, "{address}:{port}"),
    }
}

/// The prefix that covered the destination, read off the window.
fn prefix(window: &[u8], bits: u8, f: &mut dyn fmt::Write) -> fmt::Result {
    match parse::destination(window) {
        Some(IpAddress::Ipv4(address)) => {
            write!(f, "{}", Ipv4Cidr::new(address, bits.min(32)).network())
        }
        Some(IpAddress::Ipv6(address)) => {
            let kept =
                u128::from(address) & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            write!(f, "{}", Ipv6Cidr::new(kept.into(), bits.min(128)))
        }
        None => f.write_str("?"),
    }
}

fn named(
    f: &mut dyn fmt::Write,
    before: &str,
    port: crate::PortId,
    names: &dyn Names,
    after: &str,
) -> fmt::Result {
    f.write_str(before)?;
    names.port(port, f)?;
    f.write_str(after)
}

fn answer(f: &mut dyn fmt::Write, kind: &AnswerKind) -> fmt::Result {
    match kind {
        AnswerKind::Arp(mac) => write!(f, "ARP reply: it is at {}", Mac(*mac)),
        AnswerKind::Neighbor(mac) => write!(f, "neighbor advertisement: it is at {}", Mac(*mac)),
        AnswerKind::Echo => f.write_str("echo reply of the gateway"),
        AnswerKind::Error { reason, icmp_type, code, mtu } => {
            write!(f, "{}: ICMP type {icmp_type} code {code}", reason.text())?;
            if *mtu > 0 { write!(f, " mtu {mtu}") } else { Ok(()) }
        }
        AnswerKind::Reset { reason } => write!(f, "{}: TCP reset", reason.text()),
    }
}

fn verdict(f: &mut dyn fmt::Write, verdict: &Verdict, names: &dyn Names) -> fmt::Result {
    match verdict {
        Verdict::Forward(port) => named(f, "forward to ", *port, names, ""),
        Verdict::Flood(ports) => write!(f, "flood to {ports} ports"),
        Verdict::Deliver(endpoint) => write!(f, "deliver to endpoint {}", endpoint.0),
        Verdict::Answer(_) => f.write_str("answered"),
        Verdict::Drop(reason) => write!(f, "drop {}: {}", reason.name(), reason.text()),
    }
}

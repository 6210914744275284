//! Hops as text: one line each, the same everywhere.

use core::fmt;

use super::{AnswerKind, Hop, Names, Silence, Trace, Verdict};
use crate::config::RouteTarget;

pub(super) fn line(
    trace: &Trace,
    hop: usize,
    window: &[u8],
    names: &dyn Names,
    f: &mut dyn fmt::Write,
) -> fmt::Result {
    let Some(hop) = trace.hops().get(hop) else { return Ok(()) };
    write!(f, "{:<8}", hop.stage().name())?;
    match hop {
        Hop::Parsed => crate::pipeline::parse::describe(window, f),
        Hop::Bridged(port) => named(f, "destination MAC is ", *port, names, ": bridged"),
        Hop::Gateway => f.write_str("destination MAC is the gateway's: routed"),
        Hop::Group(ports) => write!(f, "group address: to {ports} other ports of the segment"),
        Hop::Asked(address) => write!(f, "who has {address}?"),
        Hop::Local => f.write_str("same segment: nothing to route"),
        Hop::Routed { prefix, target, port } => {
            write!(f, "{prefix}")?;
            match target {
                RouteTarget::Connected => named(f, " is attached: ", *port, names, ""),
                RouteTarget::Port(_) => named(f, " via ", *port, names, ""),
                RouteTarget::Blackhole => f.write_str(" leads nowhere"),
            }
        }
        Hop::Fragment(mtu) => write!(f, "fragmented to {mtu} bytes"),
        Hop::Cleared => f.write_str("no policy selects it: may pass"),
        Hop::Answered(kind) => answer(f, kind),
        Hop::Silent(Silence::Forbidden) => f.write_str("no answer: forbidden about such a packet"),
        Hop::Silent(Silence::RateLimited) => f.write_str("no answer: the port's share is used up"),
        Hop::Verdict(end) => verdict(f, end, names),
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
        AnswerKind::Arp(mac) => write!(f, "ARP reply: it is at {mac}"),
        AnswerKind::Neighbor(mac) => write!(f, "neighbor advertisement: it is at {mac}"),
        AnswerKind::Echo => f.write_str("echo reply of the gateway"),
        AnswerKind::Error { reason, icmp_type, code, mtu } => {
            write!(f, "{}: ICMP type {icmp_type} code {code}", reason.text())?;
            if *mtu > 0 { write!(f, " mtu {mtu}") } else { Ok(()) }
        }
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

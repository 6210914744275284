//! What became of a frame, and what two such outcomes differ by.

use stack::table::conntrack::Tuple;
use stack::trace::Sum;
use stack::{AnswerKind, DropReason, Edit, PortId, Trace, Verdict};

/// What became of a frame, as far as a connection is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The end of its walk.
    pub verdict: Verdict,
    /// Its flow as it left; `None` when it did not.
    pub left: Option<Tuple>,
}

/// The first difference of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it is.
    pub reason: Reason,
    /// The connection: the flow of the side that began it, as its frames came in.
    pub flow: Tuple,
    /// The flow of the frame that shows it: that one, or of the other side.
    pub frame: Tuple,
    /// The record that holds the frame.
    pub record: u64,
    /// The recorded walk of the frame.
    pub walk: u64,
    /// When it was, nanoseconds since 1970, UTC.
    pub utc: u64,
    /// The port by which it came in.
    pub ingress: PortId,
    /// The Service it asked for: as recorded, else as it would be.
    pub service: Option<String>,
    /// What was.
    pub then: Outcome,
    /// What would be.
    pub now: Outcome,
}

/// What a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It would be dropped, for this.
    Dropped(DropReason),
    /// Its sender would be told that it gets no further, for this.
    Refused(DropReason),
    /// The switch would answer itself.
    Answered,
    /// It was dropped or refused, and would go on.
    Forwarded,
    /// It would go to another backend, or be translated back otherwise.
    Backend,
    /// It would leave with another source.
    Source,
    /// It would leave by another port.
    Port,
}

impl Reason {
    /// The kind, one word for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dropped(_) => "dropped",
            Self::Refused(_) => "refused",
            Self::Answered => "answered",
            Self::Forwarded => "forwarded",
            Self::Backend => "backend",
            Self::Source => "source",
            Self::Port => "port",
        }
    }

    /// Why it would be dropped or refused.
    #[must_use]
    pub const fn drop(self) -> Option<DropReason> {
        match self {
            Self::Dropped(reason) | Self::Refused(reason) => Some(reason),
            Self::Answered | Self::Forwarded | Self::Backend | Self::Source | Self::Port => None,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dropped(reason) => write!(f, "now dropped: {reason}"),
            Self::Refused(reason) => write!(f, "now refused: {reason}"),
            Self::Answered => f.write_str("now answered by the switch"),
            Self::Forwarded => f.write_str("now forwarded"),
            Self::Backend => f.write_str("other backend"),
            Self::Source => f.write_str("other source"),
            Self::Port => f.write_str("other port"),
        }
    }
}

impl Outcome {
    /// Of a walk of a frame of that flow.
    #[must_use]
    pub fn of(trace: &Trace, seen: &Tuple) -> Self {
        let verdict = trace.verdict;
        let left = match verdict {
            Verdict::Forward(_) | Verdict::Flood(_) | Verdict::Deliver(_) => {
                Some(translated(trace, seen))
            }
            Verdict::Answer(_) | Verdict::Drop(_) | Verdict::Hold => None,
        };
        Self { verdict, left }
    }
}

/// A flow with what a walk made of its ends.
fn translated(trace: &Trace, seen: &Tuple) -> Tuple {
    let mut left = *seen;
    for (_, edit) in trace.edits() {
        let (rewrite, address, port) = match edit {
            Edit::Source(rewrite) => (rewrite, &mut left.src, &mut left.src_port),
            Edit::Destination(rewrite) => (rewrite, &mut left.dst, &mut left.dst_port),
            Edit::QuotedDestination(_)
            | Edit::QuotedSource(_)
            | Edit::Macs { .. }
            | Edit::HopLimit(_)
            | Edit::SwapAddresses
            | Edit::EchoReply { .. } => continue,
        };
        *address = rewrite.address;
        match rewrite.sum {
            Sum::Tcp { .. } | Sum::Udp { .. } | Sum::Sctp => *port = rewrite.port,
            // The identifier is the port of the side that asks, whichever end was changed.
            Sum::Echo { .. } | Sum::Echo6 { .. } if left.src_port != 0 => {
                left.src_port = rewrite.port;
            }
            Sum::Echo { .. } | Sum::Echo6 { .. } => left.dst_port = rewrite.port,
            Sum::Nothing | Sum::Icmp | Sum::Icmp6 { .. } => {}
        }
    }
    left
}

/// What two outcomes differ by: the verdict first, then where it goes, as whom, and by which port.
#[must_use]
pub fn reason(then: &Outcome, now: &Outcome) -> Option<Reason> {
    // A fragment that waits has come to nothing yet.
    let waits = [then, now].iter().any(|outcome| outcome.verdict == Verdict::Hold);
    if then == now || waits {
        return None;
    }
    let ends = |outcome: &Outcome| {
        let tuple = outcome.left?;
        Some(((tuple.dst, tuple.dst_port), (tuple.src, tuple.src_port)))
    };
    Some(match (now.verdict, ends(then), ends(now)) {
        (Verdict::Drop(reason), ..) => Reason::Dropped(reason),
        (Verdict::Answer(AnswerKind::Error { reason, .. } | AnswerKind::Reset { reason }), ..) => {
            Reason::Refused(reason)
        }
        (Verdict::Answer(_), ..) => Reason::Answered,
        (_, None, _) => Reason::Forwarded,
        (_, Some((was, _)), Some((is, _))) if was != is => Reason::Backend,
        (_, Some((_, was)), Some((_, is))) if was != is => Reason::Source,
        (_, Some(_), _) => Reason::Port,
    })
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::IpAddress;

    use super::*;

    fn tuple() -> Tuple {
        let (src, dst) = (IpAddress::v4(10, 1, 0, 2), IpAddress::v4(10, 1, 0, 3));
        Tuple { src, dst, src_port: 4_000, dst_port: 8_080, protocol: 6 }
    }

    #[test]
    fn the_verdict_comes_before_the_destination_before_the_source_before_the_port() {
        let at = |port, left| Outcome { verdict: Verdict::Forward(PortId(port)), left: Some(left) };
        let ended = |verdict| Outcome { verdict, left: None };
        let none = DropReason::ServiceNoBackend;
        let dropped = ended(Verdict::Drop(none));
        let refused = ended(Verdict::Answer(AnswerKind::Reset { reason: none }));
        let told = AnswerKind::Error { reason: none, icmp_type: 3, code: 3, mtu: 0 };
        let was = at(2, tuple());
        let backend = Tuple { dst_port: 9, src_port: 9, ..tuple() };
        let source = Tuple { src_port: 9, ..tuple() };
        for (then, now, expected) in [
            (was, was, None),
            (dropped, dropped, None),
            (was, dropped, Some(Reason::Dropped(none))),
            (was, refused, Some(Reason::Refused(none))),
            (dropped, refused, Some(Reason::Refused(none))),
            (was, ended(Verdict::Answer(told)), Some(Reason::Refused(none))),
            (was, ended(Verdict::Answer(AnswerKind::Echo)), Some(Reason::Answered)),
            (refused, was, Some(Reason::Forwarded)),
            (was, at(3, backend), Some(Reason::Backend)),
            (was, at(3, source), Some(Reason::Source)),
            (was, at(3, tuple()), Some(Reason::Port)),
            (ended(Verdict::Drop(DropReason::NoRoute)), dropped, Some(Reason::Dropped(none))),
        ] {
            assert_eq!(reason(&then, &now), expected, "{then:?} {now:?}");
        }
    }
}

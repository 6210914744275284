//! What was seen of connections and Services, for the proof that all of it occurs.

use std::fmt;

use stack::trace::{Masquerade, Tracked, Why};
use stack::{AnswerKind, DropReason, Hop, Trace, Verdict};

/// Names of what is counted by walks.
const NAMES: [&str; 15] = [
    "balanced by a method",
    "balanced by affinity",
    "masqueraded on the way out",
    "masqueraded for a Service",
    "hairpins",
    "ports that were taken",
    "sources restored",
    "destinations restored",
    "errors about connections",
    "given back to the node",
    "refused without backends",
    "refused without a backend here",
    "refused by source",
    "without room or port",
    "reset amid a stream",
];

/// Counts of walks, and of questions that clients asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    walks: [u64; NAMES.len()],
    pub(crate) questions: u64,
}

impl Tally {
    /// A walk.
    #[expect(clippy::wildcard_enum_match_arm, reason = "what has no name is not counted")]
    pub(crate) fn note(&mut self, trace: &Trace) {
        let hops = trace.hops().iter().filter_map(|hop| match hop {
            Hop::Balanced { why: Why::Method(_), .. } => Some(0),
            Hop::Balanced { why: Why::Affinity, .. } => Some(1),
            Hop::Masqueraded(Masquerade::Egress) => Some(2),
            Hop::Masqueraded(Masquerade::Service) => Some(3),
            Hop::Masqueraded(Masquerade::Hairpin) => Some(4),
            Hop::Masqueraded(Masquerade::PortTaken) => Some(5),
            Hop::SourceRestored => Some(6),
            Hop::Readdressed => Some(7),
            Hop::Tracked(Tracked::Related { .. }) => Some(8),
            Hop::GivenBack => Some(9),
            _ => None,
        });
        hops.for_each(|place| self.walks[place] += 1);
        let (Verdict::Drop(reason)
        | Verdict::Answer(AnswerKind::Error { reason, .. } | AnswerKind::Reset { reason })) =
            trace.verdict
        else {
            return;
        };
        let place = match reason {
            DropReason::ServiceNoBackend => 10,
            DropReason::ServiceNoneLocal => 11,
            DropReason::ServiceSourceRefused => 12,
            DropReason::ConntrackFull
            | DropReason::PodConnectionsFull
            | DropReason::SnatExhausted => 13,
            DropReason::ServiceMidStream => 14,
            _ => return,
        };
        self.walks[place] += 1;
    }

    /// Takes another one in.
    pub(crate) fn add(&mut self, other: &Self) {
        self.walks.iter_mut().zip(other.walks).for_each(|(sum, count)| *sum += count);
        self.questions += other.questions;
    }

    /// Every count.
    pub(crate) fn counts(&self) -> impl Iterator<Item = u64> {
        self.walks.into_iter().chain([self.questions])
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} questions by Services and to the outside", self.questions)?;
        for (count, name) in self.walks.iter().zip(NAMES) {
            write!(f, "\n  {count} {name}")?;
        }
        Ok(())
    }
}

//! Captures: pcapng with one interface a hop point, filters, live sessions.
//!
//! A capture is two halves joined by a bounded ring. [`session::Session`] sits on the event loop's
//! thread: it judges a walk by the filter ([`cbpf`]) and pushes what it keeps as a
//! [`record::Record`]. [`stream::Stream`] sits on the control side and makes pcapng blocks of the
//! records ([`mod@format`], [`pcapng`]). What does not fit into the ring is counted as lost and
//! told at the end, never waited for. A replay shows its walks to the same two halves ([`walks`]).

pub use recording::pcapng;
use serde::{Deserialize, Serialize};
use stack::{PortId, Stage};

pub mod cbpf;
pub mod complete;
pub mod format;
pub mod packet_id;
pub mod record;
pub mod session;
pub mod stream;
pub mod walks;
#[cfg(test)]
pub(crate) mod world;

/// Where the frames of a walk are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Points {
    /// The ports' own view: one copy in, one out for each egress port.
    #[default]
    Ports,
    /// After every hop of every stage.
    AllHops,
    /// After the hops of these stages, by their names.
    Hops(Vec<String>),
}

/// What a capture shall hold.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which hop points.
    pub points: Selection,
    /// Only walks that entered or left by one of these ports.
    pub scope: Option<Vec<PortId>>,
    /// Only walks whose verdict is Drop.
    pub dropped_only: bool,
    /// Which packets; `None` keeps all.
    pub filter: Option<cbpf::Program>,
    /// The filter as it was written, for the file's interface blocks.
    pub filter_text: String,
    /// Bytes of a frame that are kept, 0 for all.
    pub snaplen: u32,
    /// Walks after which the capture ends.
    pub count: Option<u64>,
}

/// [`Points`] with its names understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// The ports' own view.
    #[default]
    Ports,
    /// These stages, in walk order.
    Stages(Vec<Stage>),
}

impl Points {
    /// Understands the names.
    ///
    /// # Errors
    /// A sentence naming the stage that does not exist, and those that do.
    pub fn select(&self) -> Result<Selection, String> {
        let names = match self {
            Self::Ports => return Ok(Selection::Ports),
            Self::AllHops => return Ok(Selection::Stages(Stage::ALL.to_vec())),
            Self::Hops(names) => names,
        };
        let mut stages = Vec::new();
        for name in names {
            let Some(stage) = Stage::by_name(name) else {
                let known: Vec<_> = Stage::ALL.iter().map(|stage| stage.name()).collect();
                return Err(format!(
                    "no hop is named \"{name}\"; there are {} and all",
                    known.join(", ")
                ));
            };
            stages.push(stage);
        }
        stages.sort_unstable();
        stages.dedup();
        Ok(Selection::Stages(stages))
    }
}

/// What is seen of a frame at a stage.
#[must_use]
pub fn describe(stage: Stage) -> &'static str {
    match stage {
        Stage::Parse => "the frame as it came in",
        Stage::L2 => "after source guard and neighbors",
        Stage::Conntrack => "with its connection found",
        Stage::Service => "after the destination's translation",
        Stage::L3 => "after routing",
        Stage::Policy => "after policy",
        Stage::Nat => "after the source's translation",
        Stage::Answer => "what the switch replied",
        Stage::Egress => "the frame at its end",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_selected_in_walk_order_once() {
        let points = Points::Hops(vec!["egress".into(), "l2".into(), "l2".into()]);
        assert_eq!(points.select(), Ok(Selection::Stages(vec![Stage::L2, Stage::Egress])));
        let wrong = Points::Hops(vec!["nat66".into()]).select().unwrap_err();
        assert!(wrong.contains("nat66") && wrong.contains("parse, l2"), "{wrong}");
    }
}

//! Why a daemon made a recording of its own accord: lines of its begin
//! ([`crate::container::Begin`]).
//!
//! A recording that somebody asked for has none of them. Readers that do not know them pass them
//! over, as all keys.

use std::fmt::{self, Write};

use crate::container::{self, Part};
use crate::pcapng;
use crate::pcapng::read::Block;

/// Why a recording was taken, and what of the time around the event is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The rule that asked for it, as it was written.
    pub rule: String,
    /// What happened, one line.
    pub event: String,
    /// When, in nanoseconds since 1970, UTC.
    pub at: u64,
    /// What is in it: from this moment to that one, in nanoseconds since 1970, UTC.
    pub covers: (u64, u64),
    /// Nanoseconds that the rule wanted before `covers` and the journal no longer had.
    pub missing: u64,
    /// Frames in it.
    pub packets: u64,
    /// The record that crashed the switch: a replay stops before it unless it is asked for.
    pub crashed: Option<u64>,
}

impl About {
    /// Appends the lines.
    pub(crate) fn write(&self, text: &mut String) {
        let (from, to) = self.covers;
        // Writing into a String cannot fail, here and below.
        let _written = write!(
            text,
            "rule {}\nevent {}\nevent-time {}\ncovers {from} {to}\nmissing {}\npackets {}\n",
            one_line(&self.rule),
            one_line(&self.event),
            self.at,
            self.missing,
            self.packets,
        );
        if let Some(record) = self.crashed {
            let _written = writeln!(text, "crashed {record}");
        }
    }

    /// Reads them back: `value` gives the rest of the line that begins with a key. `None` when the
    /// recording was asked for, or a line makes no sense.
    pub(crate) fn read<'a>(value: &impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let (from, to) = value("covers")?.split_once(' ')?;
        Some(Self {
            rule: value("rule")?.to_owned(),
            event: value("event")?.to_owned(),
            at: value("event-time")?.parse().ok()?,
            covers: (from.parse().ok()?, to.parse().ok()?),
            missing: value("missing")?.parse().ok()?,
            packets: value("packets")?.parse().ok()?,
            crashed: value("crashed").and_then(|record| record.parse().ok()),
        })
    }
}

/// What the recording says that a file begins with; `None` when somebody asked for it, or it is
/// none, or `head` ends before that is said. The state and the records may be any build's.
#[must_use]
pub fn of(head: &[u8]) -> Option<About> {
    let mut blocks = pcapng::read::Reader::default();
    blocks.push(head);
    while let Ok(Some((block, _raw))) = blocks.block() {
        let Block::Packet(packet) = block else { continue };
        let part = container::Packet::read(&packet.bytes)?;
        if part.part != Some(Part::Begin) || !part.intact {
            return None;
        }
        return container::Begin::read(part.body)?.about;
    }
    None
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}; {}", self.rule, self.event)
    }
}

/// A text with a line break in it would become two lines.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Begin;

    #[test]
    fn it_comes_back_from_the_begin_and_is_one_line_each() {
        let about = About {
            rule: "drop reason=SourceIpSpoofed".to_owned(),
            event: "drop at pod/a/b: ipv4 10.0.0.1 > 10.0.0.2".to_owned(),
            at: 1_700_000_000_000_000_001,
            covers: (5, 7),
            missing: 3,
            packets: 12,
            crashed: Some(9),
        };
        let with = |about: Option<About>| Begin { about, ..Begin::default() };
        let read = |begin: &Begin| Begin::read(begin.text().as_bytes()).unwrap();
        assert_eq!(read(&with(Some(about.clone()))).about, Some(about.clone()));
        assert_eq!(read(&with(None)).about, None);
        let alive = About { crashed: None, ..about.clone() };
        assert_eq!(read(&with(Some(alive.clone()))).about, Some(alive));
        let broken = About { event: "x\nrule y".to_owned(), ..about };
        assert_eq!(read(&with(Some(broken))).about.unwrap().event, "xrule y");
    }
}

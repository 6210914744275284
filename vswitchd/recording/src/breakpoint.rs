//! Where a replay stops: `drop=NoRoute and port=pod/demo/a or walk=17`.
//!
//! | term | the record, or a walk that it led to |
//! | --- | --- |
//! | `drop`, `drop=REASON` | was dropped, for this reason |
//! | `hop=STAGE` | has a hop of this stage |
//! | `address=IP` | is from or to this address |
//! | `port=NAME` or its number | entered or left by this port |
//! | `walk=N` | has this number |
//! | `record=N` | is this one |
//!
//! `and` binds tighter than `or`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use stack::journal::frame::Recorded;
use stack::pipeline::packet::Inner;
use stack::pipeline::parse;
use stack::{DropReason, Frame, Offload, Outbox, PortId, Stage, Trace, Verdict};

/// Terms of which one line must hold whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breakpoint(Vec<Vec<Term>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Dropped(Option<DropReason>),
    Hop(Stage),
    Address(IpAddr),
    Port(String),
    Walk(u64),
    Record(u64),
}

/// What a breakpoint is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The record's number.
    pub record: u64,
    /// The frame that was recorded, if one was.
    pub frame: Option<Recorded<'a>>,
    /// What it led to.
    pub out: &'a Outbox,
    /// Names of ports.
    pub names: &'a BTreeMap<PortId, String>,
}

impl Breakpoint {
    /// Reads an expression.
    ///
    /// # Errors
    /// A sentence that names the term, and the terms there are.
    pub fn read(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut all = Vec::new();
        for line in words.split(|word| *word == "or") {
            let mut terms = Vec::new();
            for term in line.split(|word| *word == "and") {
                let [term] = term else {
                    return Err(format!(
                        "the breakpoint \"{text}\" is not terms joined by `and` and `or`, such as \
                         drop=NoRoute and port=host"
                    ));
                };
                terms.push(Term::read(term)?);
            }
            all.push(terms);
        }
        Ok(Self(all))
    }

    /// The first walk for which it holds; `Some(None)` if it holds for a record without a walk.
    #[must_use]
    pub fn hit<'a>(&self, moment: &Moment<'a>) -> Option<Option<&'a Trace>> {
        for line in &self.0 {
            let holds = |trace: Option<&Trace>| line.iter().all(|term| term.holds(moment, trace));
            let mut walks = moment.out.walked.iter();
            if let Some(trace) = walks.find(|trace| holds(Some(trace))) {
                return Some(Some(trace));
            }
            if moment.out.walked.is_empty() && holds(None) {
                return Some(None);
            }
        }
        None
    }
}

impl Term {
    fn read(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let number = |value: &str| {
            value.parse().map_err(|_other: std::num::ParseIntError| {
                format!("{key}={value}: the number of a {key} is counted from 1")
            })
        };
        match key {
            "drop" if value.is_empty() => Ok(Self::Dropped(None)),
            "drop" => DropReason::ALL
                .iter()
                .find(|reason| reason.name().eq_ignore_ascii_case(value))
                .map(|reason| Self::Dropped(Some(*reason)))
                .ok_or_else(|| {
                    format!("no drop reason is named {value}: ARCHITECTURE.md lists them")
                }),
            "hop" => Stage::by_name(value).map(Self::Hop).ok_or_else(|| {
                let known: Vec<_> = Stage::ALL.iter().map(|stage| stage.name()).collect();
                format!("no hop is named \"{value}\"; there are {}", known.join(", "))
            }),
            "address" => value.parse().map(Self::Address).map_err(|error| {
                format!("address={value}: {error}; an address is written as 10.0.0.5 or fd00::5")
            }),
            "port" if !value.is_empty() => Ok(Self::Port(value.to_owned())),
            "walk" => number(value).map(Self::Walk),
            "record" => number(value).map(Self::Record),
            _ => Err(format!(
                "a breakpoint knows drop, drop=REASON, hop=STAGE, address=IP, port=NAME, walk=N \
                 and record=N, not \"{text}\""
            )),
        }
    }

    fn holds(&self, moment: &Moment<'_>, trace: Option<&Trace>) -> bool {
        match self {
            Self::Record(number) => moment.record == *number,
            Self::Walk(number) => trace.is_some_and(|trace| trace.number == *number),
            Self::Hop(stage) => {
                trace.is_some_and(|trace| trace.hops().iter().any(|hop| hop.stage() == *stage))
            }
            Self::Dropped(wanted) => trace.is_some_and(|trace| match trace.verdict {
                Verdict::Drop(reason) => wanted.is_none_or(|wanted| wanted == reason),
                Verdict::Forward(_)
                | Verdict::Flood(_)
                | Verdict::Deliver(_)
                | Verdict::Answer(_)
                | Verdict::Hold => false,
            }),
            Self::Port(name) => trace.is_some_and(|trace| {
                let is = |port: PortId| {
                    moment.names.get(&port) == Some(name) || port.0.to_string() == *name
                };
                is(trace.ingress) || sent(moment.out, trace).any(|(port, _)| is(port))
            }),
            Self::Address(address) => trace.is_some_and(|trace| {
                let received = moment.frame.is_some_and(|frame| {
                    has_address(frame.bytes, frame.len, &frame.offload, *address)
                });
                received
                    || held(moment.out, trace).is_some_and(|frame| {
                        has_address(frame.bytes(), frame.len(), frame.offload(), *address)
                    })
                    || sent(moment.out, trace).any(|(_, frame)| {
                        has_address(frame.bytes(), frame.len(), frame.offload(), *address)
                    })
            }),
        }
    }
}

/// What left of a walk.
fn sent<'a>(out: &'a Outbox, trace: &Trace) -> impl Iterator<Item = (PortId, &'a Frame)> {
    let at = out.walked.iter().position(|walked| walked.number == trace.number);
    let of_walk = move |walk: u32| usize::try_from(walk).ok() == at;
    let left = out.transmits.iter().filter(move |transmit| of_walk(transmit.walk));
    left.map(|transmit| (transmit.port, &transmit.frame))
}

/// The fragment of a walk that was held until then.
fn held<'a>(out: &'a Outbox, trace: &Trace) -> Option<&'a Frame> {
    let at = out.walked.iter().position(|walked| walked.number == trace.number);
    let of_walk = |walk: u32| usize::try_from(walk).ok() == at;
    out.released.iter().find(|(walk, _)| of_walk(*walk)).map(|(_, frame)| frame)
}

fn has_address(bytes: &[u8], len: usize, offload: &Offload, address: IpAddr) -> bool {
    let window = bytes.get(..Frame::WINDOW).unwrap_or(bytes);
    match parse::parse(window, len, offload) {
        Ok(packet) => match packet.inner {
            Inner::Ip(ip) => IpAddr::from(ip.src) == address || IpAddr::from(ip.dst) == address,
            Inner::Arp(arp) => [arp.sender, arp.target].iter().any(|one| *one == address),
        },
        Err(_reason) => parse::destination(window).map(IpAddr::from) == Some(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_or_say_why() {
        for text in ["drop", "drop=noroute and port=pod/demo/a or walk=17", "address=fd00::1"] {
            assert!(Breakpoint::read(text).is_ok(), "{text}");
        }
        for (text, told) in [
            ("drop=Nothing", "no drop reason is named Nothing"),
            ("hop=l9", "there are parse, l2"),
            ("address=10.0.0", "10.0.0.5"),
            ("walk=x", "counted from 1"),
            ("drop port=host", "joined by `and`"),
            ("", "joined by `and`"),
            ("color=red", "knows drop"),
        ] {
            let error = Breakpoint::read(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}

//! What a rule watches for, as it is written after `on:`. One table of forms, one parser.
//!
//! The table in README.md is generated from [`FORMS`]; a test reads every example in it.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use smoltcp::wire::IpAddress;
use stack::{DropClass, DropReason};

use crate::settings::span::{self, Span};

/// How one kind of rule is written.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Its first word.
    pub word: &'static str,
    /// What may follow; what stands in brackets may be left out.
    pub rest: &'static str,
    /// When it fires, one clause.
    pub meaning: &'static str,
    /// Rules that are written so.
    pub examples: &'static [&'static str],
}

/// Every kind.
pub const FORMS: &[Form] = &[
    Form {
        word: "drop",
        rest: "[reason=NAME,..] [class=NAME,..] [port=PORT] [address=IP]",
        meaning: "a frame got no further: it was dropped, or refused by an ICMP error or RST of \
                  the switch; reasons and classes are those of `hopctl get drops -o wide`, and one \
                  of them is enough",
        examples: &["drop reason=SourceIpSpoofed", "drop class=exhausted,bug port=demo/web"],
    },
    Form {
        word: "rst",
        rest: "[port=PORT] [address=IP]",
        meaning: "a TCP segment with RST went by",
        examples: &["rst", "rst port=demo/web"],
    },
    Form {
        word: "no-answer",
        rest: "TIME udp/L4PORT|tcp/L4PORT [port=PORT] [address=IP]",
        meaning: "a datagram, or a SYN, to that L4 port and nothing back from there within that \
                  time",
        examples: &["no-answer 2s udp/53", "no-answer 500ms tcp/5432 address=10.244.1.7"],
    },
    Form {
        word: "probe-failed",
        rest: "[port=PORT] [address=IP]",
        meaning: "the node itself opens a TCP connection to a pod, as the kubelet does for its \
                  probes, and within 1s the SYN is not answered, or it is refused by RST or ICMP",
        examples: &["probe-failed", "probe-failed port=demo/web"],
    },
];

/// How long a probe's SYN may wait.
pub const PROBE_PATIENCE: Span = Span(std::time::Duration::from_secs(1));
/// The longest time that an answer may be waited for.
const PATIENCE_MAX: Span = Span(std::time::Duration::from_secs(600));

/// What a rule watches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct On {
    /// The kind.
    pub kind: Kind,
    /// Only frames that came in or left by the port of this name, as `hopctl get ports` shows it.
    pub port: Option<String>,
    /// Only frames from or to this address.
    pub address: Option<IpAddress>,
}

/// The kind of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A frame got no further.
    Drop {
        /// For one of these reasons, or of `classes`; when both are empty for any.
        reasons: Vec<DropReason>,
        /// Classes of reasons.
        classes: Vec<DropClass>,
    },
    /// A RST.
    Rst,
    /// A request without an answer.
    NoAnswer {
        /// For so long.
        within: Span,
        /// The requests' protocol.
        transport: Transport,
        /// The L4 port they are sent to.
        l4_port: u16,
    },
    /// A connection of the node to a pod that did not come about.
    ProbeFailed,
}

/// Protocols that have requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Every datagram is a request.
    Udp,
    /// A SYN is one.
    Tcp,
}

impl Transport {
    /// As rules name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

impl Kind {
    /// The first word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Drop { .. } => "drop",
            Self::Rst => "rst",
            Self::NoAnswer { .. } => "no-answer",
            Self::ProbeFailed => "probe-failed",
        }
    }

    /// Whether frames' headers are looked at, or verdicts alone.
    #[must_use]
    pub const fn reads_headers(&self) -> bool {
        match self {
            Self::Drop { .. } => false,
            Self::Rst | Self::NoAnswer { .. } | Self::ProbeFailed => true,
        }
    }
}

/// Reads what stands after `on:`.
///
/// # Errors
/// A clause that names the word that is wrong, and what may stand there.
pub fn parse(text: &str) -> Result<On, String> {
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or("");
    let mut on = match first {
        "drop" => Kind::Drop { reasons: Vec::new(), classes: Vec::new() },
        "rst" => Kind::Rst,
        "no-answer" => no_answer(words.next(), words.next())?,
        "probe-failed" => Kind::ProbeFailed,
        _ => {
            let known: Vec<&str> = FORMS.iter().map(|form| form.word).collect();
            return Err(format!("begins with {}, not `{first}`", listed(&known)));
        }
    }
    .anywhere();
    let mut seen = Vec::new();
    for word in words {
        let key = word.split_once('=').map_or(word, |(key, _)| key);
        if seen.contains(&key) {
            return Err(format!("has `{key}=` twice; several reasons are joined by commas"));
        }
        seen.push(key);
        on.filter(word)?;
    }
    Ok(on)
}

fn no_answer(time: Option<&str>, service: Option<&str>) -> Result<Kind, String> {
    let form =
        "no-answer takes a time and then udp/L4PORT or tcp/L4PORT, as in no-answer 2s udp/53";
    let (Some(time), Some(service)) = (time, service) else { return Err(form.to_owned()) };
    let within = span::parse(time).map_err(|why| format!("{form}; {why}, not `{time}`"))?;
    if within.0.is_zero() || within > PATIENCE_MAX {
        return Err(format!("waits for more than 0s and {PATIENCE_MAX} at most, not `{time}`"));
    }
    let (transport, l4_port) = match service.split_once('/') {
        Some(("udp", number)) => (Transport::Udp, number.parse().ok()),
        Some(("tcp", number)) => (Transport::Tcp, number.parse().ok()),
        _ => return Err(format!("{form}, not `{service}`")),
    };
    match l4_port.filter(|number| *number != 0) {
        Some(l4_port) => Ok(Kind::NoAnswer { within, transport, l4_port }),
        None => Err(format!("an L4 port is 1 to 65535, not `{service}`")),
    }
}

impl Kind {
    /// With no filter yet.
    fn anywhere(self) -> On {
        On { kind: self, port: None, address: None }
    }
}

impl On {
    /// Takes a `key=value` in.
    fn filter(&mut self, word: &str) -> Result<(), String> {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match (key, &mut self.kind) {
            (_, _) if value.is_empty() => {
                return Err(format!("takes {}, not `{word}`", self.keys()));
            }
            ("reason", Kind::Drop { reasons, .. }) => {
                *reasons = value.split(',').map(reason).collect::<Result<_, _>>()?;
            }
            ("class", Kind::Drop { classes, .. }) => {
                *classes = value.split(',').map(class).collect::<Result<_, _>>()?;
            }
            ("port", _) => self.port = Some(port(value)?),
            ("address", _) => {
                let address: IpAddr = value.parse().map_err(|_none| {
                    format!("`address=` takes one IPv4 or IPv6 address, not `{value}`")
                })?;
                self.address = Some(address.into());
            }
            _ => return Err(format!("takes {}, not `{word}`", self.keys())),
        }
        Ok(())
    }

    /// The keys that this kind takes.
    fn keys(&self) -> &'static str {
        match self.kind {
            Kind::Drop { .. } => "reason=, class=, port= and address= with a value",
            Kind::Rst | Kind::NoAnswer { .. } | Kind::ProbeFailed => {
                "port= and address= with a value behind that"
            }
        }
    }
}

fn reason(name: &str) -> Result<DropReason, String> {
    DropReason::by_name(name).ok_or_else(|| {
        let names: Vec<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        let close: Vec<&str> = names.iter().copied().filter(|known| alike(known, name)).collect();
        let known = if close.is_empty() { names } else { close };
        format!("there is no drop reason `{name}`; there is {}", listed(&known))
    })
}

/// Whether two names share a word that begins with a capital letter.
fn alike(known: &str, given: &str) -> bool {
    let words = |name: &str| -> Vec<String> {
        let mut words = Vec::new();
        for c in name.chars() {
            if c.is_uppercase() || words.is_empty() {
                words.push(String::new());
            }
            words.last_mut().into_iter().for_each(|word| word.extend(c.to_lowercase()));
        }
        words
    };
    let (known, given) = (words(known), words(given));
    given.iter().any(|word| word.len() > 1 && known.contains(word))
}

fn class(name: &str) -> Result<DropClass, String> {
    let mut known: Vec<DropClass> = DropReason::ALL.iter().map(|reason| reason.class()).collect();
    known.sort_unstable();
    known.dedup();
    known.iter().copied().find(|class| class.name() == name).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|class| class.name()).collect();
        format!("there is no class of drops `{name}`; there is {}", listed(&names))
    })
}

/// A port's name as `hopctl get ports` shows it, of what people write.
fn port(text: &str) -> Result<String, String> {
    let pod = text.strip_prefix("pod/").unwrap_or(text);
    match pod.split_once('/') {
        _ if text == "host" => Ok("host".to_owned()),
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok(format!("pod/{namespace}/{name}"))
        }
        _ => Err(format!("`port=` takes NAMESPACE/POD, or host for the node, not `{text}`")),
    }
}

/// `a, b or c`.
fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.word())?;
        match &self.kind {
            Kind::Drop { reasons, classes } => {
                let reasons: Vec<&str> = reasons.iter().map(|reason| reason.name()).collect();
                let classes: Vec<&str> = classes.iter().map(|class| class.name()).collect();
                for (key, names) in [("reason", reasons), ("class", classes)] {
                    if !names.is_empty() {
                        write!(f, " {key}={}", names.join(","))?;
                    }
                }
            }
            Kind::NoAnswer { within, transport, l4_port } => {
                write!(f, " {within} {}/{l4_port}", transport.name())?;
            }
            Kind::Rst | Kind::ProbeFailed => {}
        }
        if let Some(port) = &self.port {
            write!(f, " port={}", port.strip_prefix("pod/").unwrap_or(port))?;
        }
        if let Some(address) = &self.address {
            write!(f, " address={address}")?;
        }
        Ok(())
    }
}

impl Serialize for On {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for On {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).map_err(|why| serde::de::Error::custom(format!("`on: {text}`: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_examples_that_are_read_and_shown_again() {
        for form in FORMS {
            assert!(!form.examples.is_empty(), "{}", form.word);
            for example in form.examples {
                let on = parse(example).unwrap();
                assert_eq!(on.kind.word(), form.word);
                assert_eq!(on.to_string(), *example);
                assert_eq!(parse(&format!("  {}  ", example.replace(' ', "  "))), Ok(on));
            }
        }
    }

    #[test]
    fn every_reason_and_class_may_be_named() {
        for reason in DropReason::ALL {
            let text = format!("drop reason={reason} class={}", reason.class().name());
            let on = parse(&text).unwrap();
            let (reasons, classes) = (vec![*reason], vec![reason.class()]);
            assert_eq!(on.kind, Kind::Drop { reasons, classes });
            assert_eq!(on.to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_may_be() {
        for (text, parts) in [
            ("", &["begins with drop, rst, no-answer or probe-failed"][..]),
            ("lost reason=Bug", &["`lost`", "drop, rst"]),
            ("drop reason=GuardSource", &["`GuardSource`", "SourceMacSpoofed", "SourceIpSpoofed"]),
            ("drop reason=x", &["`x`", "Truncated", "or Bug"]),
            ("drop reason=", &["`reason=`", "reason=, class=, port="]),
            ("drop reason", &["`reason`"]),
            ("drop reason=Bug reason=Bug", &["`reason=` twice", "commas"]),
            ("drop class=spoof", &["`spoof`", "malformed", "spoofed"]),
            ("drop port=web", &["`web`", "NAMESPACE/POD"]),
            ("drop port=a/b/c", &["`a/b/c`"]),
            ("drop address=10.0.0.0/8", &["10.0.0.0/8", "one IPv4 or IPv6 address"]),
            ("rst reason=Bug", &["`reason=Bug`", "port= and address="]),
            ("rst now", &["`now`"]),
            ("no-answer udp/53", &["no-answer 2s udp/53"]),
            ("no-answer 2s", &["no-answer 2s udp/53"]),
            ("no-answer 2x udp/53", &["`2x`", "500ms"]),
            ("no-answer 0s udp/53", &["more than 0s"]),
            ("no-answer 11m udp/53", &["10m at most"]),
            ("no-answer 2s sctp/53", &["`sctp/53`"]),
            ("no-answer 2s udp/0", &["1 to 65535"]),
            ("no-answer 2s udp/70000", &["1 to 65535"]),
            ("probe-failed 2s", &["`2s`"]),
        ] {
            let said = parse(text).unwrap_err();
            for part in parts {
                assert!(said.contains(part), "{text}: {said}");
            }
            assert!(!said.contains('\n'), "{said}");
        }
    }
}

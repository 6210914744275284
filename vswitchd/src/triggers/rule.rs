//! A rule of the file of settings: what it watches for, and how much of the time around it is kept.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::grammar::On;
use crate::settings::span::Span;

/// Rules at most: a set of them is a word of 32 bits.
pub const RULES_MAX: usize = 32;
/// The longest time before an event.
const BEFORE_MAX: Span = Span(Duration::from_secs(600));
/// The longest time behind one.
const AFTER_MAX: Span = Span(Duration::from_secs(60));
/// The shortest time between two recordings.
const EVERY_MIN: Span = Span(Duration::from_secs(1));
/// The longest.
const EVERY_MAX: Span = Span(Duration::from_secs(86_400));

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rule {
    /// What it watches for.
    pub on: On,
    /// How much of the time before an event is kept.
    #[serde(default = "before")]
    pub before: Span,
    /// How much of the time behind one is kept.
    #[serde(default = "after")]
    pub after: Span,
    /// At most one recording in so much time; the first event counts, later ones are counted only.
    #[serde(default = "every")]
    pub every: Span,
}

fn before() -> Span {
    Span(Duration::from_secs(10))
}

fn after() -> Span {
    Span(Duration::from_secs(2))
}

fn every() -> Span {
    Span(Duration::from_secs(60))
}

impl Rule {
    /// A rule with the defaults.
    #[must_use]
    pub fn new(on: On) -> Self {
        Self { on, before: before(), after: after(), every: every() }
    }
}

impl fmt::Display for Rule {
    /// What it is called: what stands after `on:`, in one way of writing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.on, f)
    }
}

/// Looks at all rules together.
///
/// # Errors
/// A clause that names the first rule that cannot be, its field, and what may be.
pub fn check(rules: &[Rule]) -> Result<(), String> {
    if rules.len() > RULES_MAX {
        return Err(format!("{RULES_MAX} rules at most, not {}", rules.len()));
    }
    for (number, rule) in rules.iter().enumerate() {
        let within = |field: &str, value: Span, (least, most): (Span, Span)| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(format!("rule `on: {rule}`: `{field}` is {least} to {most}, not {value}"))
        };
        within("before", rule.before, (Span::default(), BEFORE_MAX))?;
        within("after", rule.after, (Span::default(), AFTER_MAX))?;
        within("every", rule.every, (EVERY_MIN, EVERY_MAX))?;
        if rules.iter().take(number).any(|other| other.on == rule.on) {
            return Err(format!("rule `on: {rule}` stands there twice; leave one of them out"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<Vec<Rule>, String> {
        let rules: Vec<Rule> = serde_norway::from_str(text).map_err(|error| error.to_string())?;
        check(&rules).map(|()| rules)
    }

    #[test]
    fn defaults_and_given_times() {
        let rules = rules("- on: rst\n- on: drop\n  before: 30\n  after: 500ms\n  every: 1h\n");
        let rules = rules.unwrap();
        assert_eq!(rules[0], Rule::new(rules[0].on.clone()));
        let times = [rules[1].before, rules[1].after, rules[1].every].map(|span| span.to_string());
        assert_eq!(times, ["30s", "500ms", "1h"]);
    }

    #[test]
    fn a_rule_survives_the_way_to_the_worker() {
        let rules = rules("- on: no-answer 1500ms udp/53 port=demo/web address=fd00::1\n").unwrap();
        let text = serde_json::to_string(&rules).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Rule>>(&text).unwrap(), rules, "{text}");
    }

    #[test]
    fn what_cannot_be_is_named_with_its_field_and_place() {
        for (text, parts) in [
            ("- on: rts\n", &["[0]", "`on: rts`", "begins with drop"][..]),
            ("- on: rst\n- before: 1s\n", &["[1]", "missing field `on`"]),
            ("- on: rst\n  earlier: 1s\n", &["[0]", "`earlier`", "`before`", "line 2"]),
            ("- on: rst\n  after: soon\n", &["[0]", "`soon`", "500ms"]),
            ("- on: rst\n  before: 11m\n", &["on: rst", "`before` is 0s to 10m, not 11m"]),
            ("- on: rst\n  after: 2m\n", &["`after` is 0s to 1m"]),
            ("- on: rst\n  every: 0s\n", &["`every` is 1s to 24h, not 0s"]),
            ("- on: rst\n- on: drop\n- on: rst\n", &["`on: rst` stands there twice"]),
            ("- rst\n", &["[0]"]),
        ] {
            let said = rules(text).unwrap_err();
            for part in parts {
                assert!(said.contains(part), "{text:?}: {said}");
            }
        }
        let many: String = (1..=33).map(|n| format!("- on: no-answer 1s udp/{n}\n")).collect();
        assert!(rules(&many).unwrap_err().contains("32 rules at most"));
    }
}

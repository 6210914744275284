//! Who may know whom inside of `stack`:
//! `time, drop, wire <- trace, table <- pipeline <- switch`, and stages never call one another.

use crate::tree::{File, files, none};

/// Modules of `stack` with their rank. A module knows those of its own rank and below.
const RANKS: &[(&str, u8)] = &[
    ("time", 0),
    ("drop", 0),
    ("hash", 0),
    ("list", 0),
    ("wire", 0),
    ("input", 1),
    ("config", 1),
    ("counters", 1),
    ("trace", 1),
    ("words", 1),
    ("journal", 1),
    ("table", 2),
    ("endpoint", 2),
    ("pipeline", 3),
    ("switch", 4),
    ("replay", 4),
    ("lib", 5),
];

/// References upwards that are meant, each with its reason. The list may only shrink.
const EXCEPTIONS: &[(&str, &str)] = &[
    // Rendering a hop and sending the frame apply edits by the same code, the pipeline's.
    ("trace", "pipeline::rewrite"),
    // What parse understood is the frame's description, which tables and hops quote.
    ("table", "pipeline::packet"),
    ("trace", "pipeline::packet"),
    ("trace", "pipeline::parse"),
];

/// The stages that walk calls. `packet`, `rewrite` and `answer` are none: a description, the code
/// that applies edits, and the maker of replies.
const STAGES: &[&str] = &[
    "parse",
    "decap",
    "l2",
    "fragment",
    "conntrack",
    "service",
    "l3",
    "policy",
    "nat",
    "encap",
    "egress",
];

/// The sources of `stack` that ship, each with its top module.
fn modules() -> Vec<(String, File)> {
    files()
        .into_iter()
        .filter(|file| file.is_rust() && !file.is_test())
        .filter_map(|file| {
            let inside = file.path.strip_prefix("stack/src/")?;
            let top = inside.split(['/', '.']).next()?.to_owned();
            Some((top, file))
        })
        .collect()
}

fn rank(module: &str) -> Option<u8> {
    RANKS.iter().find(|(name, _)| *name == module).map(|(_, rank)| *rank)
}

/// What follows each `crate::` of a line, `{...}` taken apart.
fn references(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = line.get(at + "crate::".len()..).unwrap_or("");
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap_or(list);
                found.extend(list.split(',').map(|one| one.trim().to_owned()));
            }
            None => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
                found.push(rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest).to_owned());
            }
        }
    }
    found
}

#[test]
fn every_module_has_a_rank() {
    let found: Vec<String> = modules()
        .iter()
        .filter(|(top, _)| rank(top).is_none())
        .map(|(top, file)| format!("{}: `{top}`", file.path))
        .collect();
    none("a new module of stack takes its place in RANKS of tests/tidy/arrows.rs:", &found);
}

#[test]
fn arrows_point_down() {
    let mut found = Vec::new();
    for (top, file) in modules() {
        let own = rank(&top).unwrap_or(u8::MAX);
        for (number, line) in file.shipped() {
            for reference in references(line) {
                let target = reference.split("::").next().unwrap_or(&reference);
                let meant =
                    EXCEPTIONS.iter().any(|(from, to)| *from == top && reference.starts_with(to));
                if rank(target).is_some_and(|rank| rank > own) && !meant {
                    found.push(format!("{}:{number}: {top} -> {reference}", file.path));
                }
            }
        }
    }
    none("modules of stack know only what lies below them:", &found);
}

#[test]
fn stages_never_call_one_another() {
    let mut found = Vec::new();
    for (_, file) in modules() {
        let Some(inside) = file.path.strip_prefix("stack/src/pipeline/") else { continue };
        let own = inside.split(['/', '.']).next().unwrap_or(inside);
        if !STAGES.contains(&own) {
            continue;
        }
        let text = file.shipped().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
        for stage in STAGES.iter().filter(|stage| **stage != own) {
            found.extend(calls(&text, stage).iter().map(|it| format!("{}: {it}", file.path)));
        }
    }
    none("only walk() calls stages; a stage takes another's types, never its functions:", &found);
}

/// What of a stage's functions a text names: `stage::lower_case`, `stage::*`, and either of them in
/// a list after `stage::`, in braces that may hold others and may span lines. Types are upper case.
fn calls(text: &str, stage: &str) -> Vec<String> {
    let path = format!("{stage}::");
    let mut found = Vec::new();
    for (at, _) in text.match_indices(&path) {
        let before = text.get(..at).and_then(|s| s.chars().next_back());
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = text.get(at + path.len()..).unwrap_or("");
        let words = if rest.starts_with('{') { within_braces(rest) } else { rest };
        let one = words.len() == rest.len();
        let names = words.split([',', '{', '}']).take(if one { 1 } else { usize::MAX });
        let called = |name: &&str| name.starts_with(|c: char| c.is_ascii_lowercase() || c == '*');
        // `self` is the module, by which its functions can be called.
        found.extend(names.map(str::trim).filter(called).map(|name| {
            let end = name.find(|c: char| !c.is_alphanumeric() && !"_:*".contains(c));
            format!("{path}{}", name.get(..end.unwrap_or(name.len())).unwrap_or(name))
        }));
    }
    found
}

/// What stands from the opening brace at the begin to the one that closes it.
fn within_braces(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return text.get(1..at).unwrap_or("");
        }
    }
    text.get(1..).unwrap_or("")
}

#[test]
fn references_are_seen_in_every_form() {
    assert_eq!(references("use crate::time::Instant;"), ["time::Instant"]);
    assert_eq!(references("use crate::{drop, table::Tables};"), ["drop", "table::Tables"]);
    assert_eq!(references("f(crate::pipeline::walk(x))"), ["pipeline::walk"]);
    assert_eq!(calls("    super::l3::route(cx)", "l3"), ["l3::route"]);
    assert_eq!(calls("    l3::route(cx)", "l3"), ["l3::route"]);
    assert_eq!(calls("use super::l3::{route};", "l3"), ["l3::route"]);
    assert_eq!(calls("use super::l3::{\n    Next,\n    route as r,\n};", "l3"), ["l3::route"]);
    assert_eq!(calls("use super::{l2::{Path, forward}, l3::Next};", "l2"), ["l2::forward"]);
    assert_eq!(calls("use super::l3::{self, Next};", "l3"), ["l3::self"]);
    assert_eq!(calls("use super::l3::*;", "l3"), ["l3::*"]);
    for types in ["use super::policy::Cleared;", "use super::policy::{Cleared, Other};"] {
        assert_eq!(calls(types, "policy"), [""; 0]);
    }
    assert_eq!(calls("use super::{policy::Cleared, route};", "policy"), [""; 0]);
    assert_eq!(calls("hall3::route()", "l3"), [""; 0]);
}

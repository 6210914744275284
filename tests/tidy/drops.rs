//! Drop reasons: the table in ARCHITECTURE.md is generated from the code, and a test reaches each.

use std::fmt::Write as _;

use stack::drop::DropReason;

use crate::tree::{File, files, has_word, none, root};

/// Before the generated table.
const BEGIN: &str = "<!-- drops:begin -->";
/// After it.
const END: &str = "<!-- drops:end -->";
/// Where the table is.
const DOCUMENT: &str = "ARCHITECTURE.md";

fn table() -> String {
    let mut text = String::from("\n| no. | reason | class | what happened | what to do |\n");
    text.push_str("| --- | --- | --- | --- | --- |\n");
    for reason in DropReason::ALL {
        writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            reason.code(),
            reason.name(),
            reason.class().name(),
            reason.text(),
            reason.hint()
        )
        .expect("a string takes text");
    }
    text
}

#[test]
fn the_table_is_up_to_date() {
    let path = root().join(DOCUMENT);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{DOCUMENT}: {error}; it holds the table of drop reasons"));
    let (before, rest) = text
        .split_once(BEGIN)
        .unwrap_or_else(|| panic!("{DOCUMENT} has a line {BEGIN} before the table"));
    let (written, after) =
        rest.split_once(END).unwrap_or_else(|| panic!("{DOCUMENT} has a line {END} after it"));
    if std::env::var_os("LAB_REGEN").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", table()))
            .expect("the document can be written");
        return;
    }
    assert!(
        written == table(),
        "{DOCUMENT}: the table is not the code's; run LAB_REGEN=1 cargo test -p tests --test tidy"
    );
}

/// Test code: whole test files, and what follows `#[cfg(test)]` in others. Tidy does not count.
fn spoken(file: &File) -> &str {
    if file.path.starts_with("tests/tidy") {
        ""
    } else if file.is_test() {
        &file.text
    } else {
        file.text.split_once("#[cfg(test)]").map_or("", |(_, tests)| tests)
    }
}

#[test]
fn every_reason_is_reached_by_a_test() {
    let files = files();
    let tests: Vec<&str> = files.iter().filter(|f| f.is_rust()).map(spoken).collect();
    let found: Vec<String> = DropReason::ALL
        .iter()
        // Nothing may reach this one: it is the alarm.
        .filter(|reason| **reason != DropReason::Bug)
        .filter(|reason| !tests.iter().any(|text| has_word(text, reason.name())))
        .map(|reason| format!("{} {}", reason.code(), reason.name()))
        .collect();
    none("a test reaches every drop reason:", &found);
}

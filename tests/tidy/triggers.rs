//! Rules that keep recordings: the table of forms in README.md is generated from the code.

use std::fmt::Write as _;

use vswitchd::triggers::grammar::{FORMS, Form};

use crate::tree::root;

/// Before the generated table.
const BEGIN: &str = "<!-- triggers:begin -->";
/// After it.
const END: &str = "<!-- triggers:end -->";
/// Where the table is.
const DOCUMENT: &str = "README.md";

fn table() -> String {
    let mut text = String::from("\n| rule | fires when | examples |\n| --- | --- | --- |\n");
    for Form { word, rest, meaning, examples } in FORMS {
        let examples: Vec<String> = examples.iter().map(|rule| format!("`{rule}`")).collect();
        // A stroke would end the cell.
        let rest = rest.replace('|', "\\|");
        writeln!(text, "| `{word} {rest}` | {meaning} | {} |", examples.join(", "))
            .expect("a string takes text");
    }
    text
}

#[test]
fn the_forms_of_rules_are_up_to_date() {
    let path = root().join(DOCUMENT);
    let text = std::fs::read_to_string(&path).expect("the document is there");
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

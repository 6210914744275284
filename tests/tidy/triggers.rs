//! Rules that keep recordings: the table of forms in README.md is generated from the code.

use std::fmt::Write as _;

use vswitchd::triggers::grammar::{FORMS, Form};

use crate::generated::up_to_date;

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
    up_to_date(DOCUMENT, [BEGIN, END], &table());
}

//! Drop reasons: the table in ARCHITECTURE.md is generated from the code. That a test causes each
//! is judged where the tests are (`drop::seen` in `stack`).

use std::fmt::Write as _;

use stack::drop::DropReason;

use crate::generated::up_to_date;

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
    up_to_date(DOCUMENT, [BEGIN, END], &table());
}

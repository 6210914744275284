//! Drop reasons: the table in ARCHITECTURE.md is generated from the code. That a test causes each
//! is judged where the tests are (`drop::seen` in `stack`).

use std::fmt::Write as _;

use stack::drop::DropReason;

use crate::tree::root;

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

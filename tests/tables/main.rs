//! No table can be forgotten: one that no row shows does not compile, and the rows of each that is
//! there come back from a snapshot.
//!
//! State dump, digest and snapshot are one walk over the tables (`stack/src/table/rows.rs`), so
//! what holds of one holds of all three.
#![expect(
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    reason = "all of it is one test program"
)]

mod exported;
mod fields;
mod restored;
mod scratch;

use scratch::Scratch;

/// A field of all state, with its first value.
const FIELD: (&str, &str) = ("    gone: PortCounters,\n", "    extra: u64,\n");
const VALUE: (&str, &str) =
    ("            gone: PortCounters::default(),\n", "            extra: 0,\n");
/// Where rows and the export take all state apart, and where the field becomes a word of a row and
/// a field of the export.
const TAKEN: (&str, &str) = ("            gone,\n", "            extra,\n");
const WORDS: (&str, &str) = ("words.extend([*walks, ", "*extra, ");
const EXPORTED: (&str, &str) = (
    "                    form.number(\"walks\", *walks);\n",
    "                    form.number(\"extra\", *extra);\n",
);

#[test]
fn a_table_that_no_row_shows_does_not_compile() {
    let scratch = Scratch::of_stack();
    scratch.check().expect("the copy compiles as it is");
    scratch.add("src/table/mod.rs", FIELD);
    scratch.add("src/table/mod.rs", VALUE);
    // Dump, digest and snapshot miss it, and so does what another build is given.
    missing(&scratch, &["src/table/export.rs", "src/table/rows.rs"]);
    scratch.add("src/table/rows.rs", TAKEN);
    scratch.add("src/table/rows.rs", WORDS);
    missing(&scratch, &["src/table/export.rs"]);
    scratch.add("src/table/export.rs", TAKEN);
    scratch.add("src/table/export.rs", EXPORTED);
    scratch.check().expect("the field is shown");
}

/// The new field is missing in these files, and nothing else is wrong.
fn missing(scratch: &Scratch, files: &[&str]) {
    let errors = scratch.check().expect_err("something does not show the new field");
    for file in files {
        assert!(errors.contains(file), "{file}: {errors}");
    }
    let missing = errors.matches("pattern does not mention field `extra`\n").count();
    assert_eq!(missing, files.len(), "{errors}");
    assert_eq!(errors.matches("error[").count(), files.len(), "that and nothing else: {errors}");
}

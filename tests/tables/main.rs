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

mod restored;
mod scratch;

use scratch::Scratch;

/// A field of all state, with its first value.
const FIELD: (&str, &str) = ("    gone: PortCounters,\n", "    extra: u64,\n");
const VALUE: (&str, &str) =
    ("            gone: PortCounters::default(),\n", "            extra: 0,\n");
/// Where rows take all state apart, and where the field becomes a word of one.
const TAKEN: (&str, &str) = ("            gone,\n", "            extra,\n");
const WORDS: (&str, &str) = ("words.extend([*walks, ", "*extra, ");

#[test]
fn a_table_that_no_row_shows_does_not_compile() {
    let scratch = Scratch::of_stack();
    scratch.check().expect("the copy compiles as it is");
    scratch.add("src/table/mod.rs", FIELD);
    scratch.add("src/table/mod.rs", VALUE);
    let errors = scratch.check().expect_err("nothing shows the new field");
    assert!(errors.contains("src/table/rows.rs"), "{errors}");
    assert!(errors.contains("pattern does not mention field `extra`"), "{errors}");
    assert_eq!(errors.matches("error[").count(), 1, "that and nothing else: {errors}");
    scratch.add("src/table/rows.rs", TAKEN);
    scratch.add("src/table/rows.rs", WORDS);
    scratch.check().expect("the field is shown");
}

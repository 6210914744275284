//! Tables in documents that are made from the code.

use std::sync::{Mutex, PoisonError};

use crate::tree::root;

/// A document may hold several tables: they are read and written one after another.
static TURN: Mutex<()> = Mutex::new(());

/// Compares what stands in a document between two lines with what the code makes, or writes it
/// there if `LAB_REGEN` is set.
pub(crate) fn up_to_date(document: &str, [begin, end]: [&str; 2], table: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let path = root().join(document);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{document}: {error}; it holds a table of the code's"));
    let (before, rest) = text
        .split_once(begin)
        .unwrap_or_else(|| panic!("{document} has a line {begin} before the table"));
    let (written, after) =
        rest.split_once(end).unwrap_or_else(|| panic!("{document} has a line {end} after it"));
    if std::env::var_os("LAB_REGEN").is_some() {
        std::fs::write(&path, format!("{before}{begin}{table}{end}{after}"))
            .expect("the document can be written");
        return;
    }
    assert!(
        written == table,
        "{document}: the table is not the code's; run LAB_REGEN=1 cargo test -p tests --test tidy"
    );
}

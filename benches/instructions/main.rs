//! Instructions of a walk, counted by valgrind, against reference counts in `instructions.json`:
//! the gate that a busy machine does not disturb.
//!
//! - `cargo bench -p benches --bench instructions` fails when a case takes more than
//!   [`TOLERANCE_PERCENT`] more.
//! - With `-- --regenerate` it writes the counts down instead; commit them with what changed them.
//!
//! The counting itself is gungraun's: it starts this program again under its runner, once a case.
//! The runner is installed below the build's directory if the one of this version is not in the
//! PATH.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it reports to a terminal")]

use std::path::Path;
use std::process::ExitCode;

use benches::counts::{self, Fallible};

mod harness;
mod runner;

/// How many instructions more than the reference a case may take, in per cent.
const TOLERANCE_PERCENT: u64 = 2;

fn main() -> ExitCode {
    let first = std::env::args().nth(1);
    if first.as_deref() == Some(harness::CASE_ARGUMENT) || runner::is_started_by_us() {
        harness::run();
        return ExitCode::SUCCESS;
    }
    match gate() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::from(2)
        }
    }
}

/// Counts, then compares or writes. Whether nothing is above its reference.
fn gate() -> Fallible<bool> {
    let counted = runner::count()?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json");
    if std::env::args().any(|word| word == "--regenerate") {
        counts::write(&file, &counted)?;
        println!("written to benches/instructions.json:");
        for (case, count) in &counted {
            println!("  {case:<24} {count:>8}");
        }
        return Ok(true);
    }
    let reference = counts::read(&file)?;
    let comparison = counts::compare(&reference, &counted, TOLERANCE_PERCENT)?;
    print!("{comparison}");
    Ok(comparison.passes())
}

//! `hopctl node`.

use std::path::Path;

use super::output::{Output, Tone};
use super::{Answer, Failure, Node, Outcome, args};

/// Removes what a daemon made, unless one runs.
///
/// # Errors
/// When a daemon runs, or something cannot be removed.
pub fn cleanup(args: &args::Cleanup, node: &Node, run_dir: &Path, output: &Output) -> Outcome {
    let args = args::Cleanup { run_dir: run_dir.to_owned(), ..args.clone() };
    let removed = (node.cleanup)(&args).map_err(Failure::Negative)?;
    for line in &removed {
        output.line(Tone::Plain, &format!("removed {line}"))?;
    }
    if removed.is_empty() {
        output.notice("nothing to remove");
    }
    Ok(Answer::Yes)
}

//! The tool: wires what works without a daemon to the command line.

use std::process::ExitCode;

use vswitchd::cli::{self, Node, local};

fn main() -> ExitCode {
    cli::main(&Node { cleanup: local::cleanup, check: local::check })
}

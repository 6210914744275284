//! `lab`: nodes and pods out of namespaces, and the programs that run inside of them.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::Result;
use lab::program::Program;

/// Nodes and pods out of network namespaces, wired by the real binaries.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Remove what killed runs of the lab left behind
    Sweep,
    #[command(flatten)]
    Program(Program),
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Sweep => {
            for run in lab::run::sweep()? {
                // A closed standard output is no reason to stop sweeping.
                drop(writeln!(std::io::stdout(), "removed what run {run} left behind"));
            }
            Ok(())
        }
        Command::Program(program) => program.run(),
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "lab: {error}"));
            ExitCode::FAILURE
        }
    }
}

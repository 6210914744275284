//! `lab`: nodes and pods out of namespaces, and the programs that run inside of them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::program::Program;
use lab::{Cluster, Context as _, Result};

mod demo;
mod screen;

/// Nodes and pods out of network namespaces, wired by the real binaries.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show pods on a userspace switch, every hop visible; writes demo.pcapng
    Demo,
    /// Run the nodes and pods of a directory of manifests until Ctrl-C
    Up {
        /// The directory
        manifests: PathBuf,
    },
    /// Remove what killed runs of the lab left behind
    Sweep,
    #[command(flatten)]
    Program(Program),
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo => {
            lab::run::clean_up_on_signals()?;
            demo::run()
        }
        Command::Up { manifests } => {
            lab::run::clean_up_on_signals()?;
            up(&manifests)
        }
        Command::Sweep => sweep(),
        Command::Program(program) => program.run(),
    }
}

fn sweep() -> Result<()> {
    for run in lab::run::sweep()? {
        writeln!(std::io::stdout(), "removed what run {run} left behind").context("stdout")?;
    }
    Ok(())
}

/// Makes the cluster, says how to get in, and waits for a signal.
fn up(manifests: &Path) -> Result<()> {
    let cluster = Cluster::new(manifests)?;
    let mut text = String::new();
    for node in &cluster.nodes {
        let (name, run_dir) = (node.name(), node.run_dir());
        text += &format!("node {name}: hopctl --run-dir {} status\n", run_dir.display());
        text += &format!("  ip netns exec {} bash\n", node.netns.name());
    }
    for running in &cluster.pods {
        text += &format!("pod {}: {:?}\n", running.pod.reference(), running.pod.addresses());
        text += &format!("  ip netns exec {} bash\n", running.pod.name());
    }
    writeln!(std::io::stdout(), "{text}Ctrl-C removes all of it").context("stdout")?;
    loop {
        std::thread::park();
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody to tell when standard error is closed.
            drop(writeln!(std::io::stderr(), "lab: {error}"));
            ExitCode::FAILURE
        }
    }
}

//! `hopctl`: looks at the switch through the admin socket.
//!
//! Exit codes: 0 yes, 1 a negative answer (not ready, trace dropped, replay diverged, with
//! `replay --with` a connection differs or not all was compared, check failed, no such walk), 2
//! usage, 3 no daemon. Lines go to stdout, notices to stderr; a reader that closes stdout early is
//! no error.

use std::process::ExitCode;

use clap::Parser;

use crate::admin::objects::Check;

pub mod args;
pub mod capture;
pub mod client;
pub mod connection;
pub mod explain;
pub mod extcap;
pub mod filter;
pub mod get;
pub mod local;
pub mod node;
pub mod output;
pub mod packet_line;
pub mod past;
pub mod progress;
pub mod record;
pub mod replay;
pub mod status;
pub mod tables;
pub mod trace;
pub mod whatif;

use args::{Args, Command, ExtcapCommand, NodeCommand};
use client::Client;
use output::Output;

/// What can be done on the node itself, without a daemon: given by the program that has these
/// parts.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Removes all that a daemon made on the node, and says what, a line each; or a sentence that
    /// says what could not be removed.
    pub cleanup: fn(&args::Cleanup) -> Result<Vec<String>, String>,
    /// Compares the node with what a daemon needs.
    pub check: fn() -> Vec<Check>,
}

/// Why a command ended early.
#[derive(Debug)]
pub enum Failure {
    /// The answer is no.
    Negative(String),
    /// The request makes no sense: what is wrong, and what to do about it.
    Usage(String, String),
    /// Nobody to ask.
    NoDaemon(String),
    /// Writing failed: a closed pipe ends the program quietly.
    Output(std::io::Error),
}

/// Whether the answer is yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Exit code 0.
    Yes,
    /// Exit code 1.
    No,
}

/// How a command ends.
pub type Outcome = Result<Answer, Failure>;

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

/// Runs the tool with the process's arguments, or as the extcap program by whose name it is called.
#[must_use]
pub fn main(node: &Node) -> ExitCode {
    if extcap::is_called() {
        return extcap::main();
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let printed = error.print();
            return match (error.exit_code(), printed) {
                (0, _) => ExitCode::SUCCESS,
                _ => ExitCode::from(2),
            };
        }
    };
    let output = Output::new(args.output);
    finish(run(&args, &output, node), &output)
}

/// Runs to an end, and says what went wrong.
fn finish(work: impl Future<Output = Outcome>, output: &Output) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => Err(Failure::Negative(format!("no event loop can be had: {error}"))),
    };
    let code = match outcome {
        Ok(Answer::Yes) => 0,
        Ok(Answer::No) => 1,
        Err(failure) => report(&failure, output),
    };
    ExitCode::from(code)
}

async fn run(args: &Args, output: &Output, node: &Node) -> Outcome {
    let client = Client::new(&args.run_dir);
    let namespace = args.namespace.as_deref();
    match &args.command {
        Command::Status(status) => status::status(status, &client, output).await,
        Command::Check => status::check(&client, output, node).await,
        Command::Get(get) => get::get(get, namespace, &client, output).await,
        Command::Trace(trace) => trace::trace(trace, namespace, &client, output).await,
        Command::Capture(capture) => capture::capture(capture, namespace, &client, output).await,
        Command::Record(record) => record::record(record, &client, output).await,
        Command::Explain(explain) => explain::explain(explain, &client, output).await,
        Command::Replay(replay) => replay::replay(replay, namespace, output),
        Command::Extcap(ExtcapCommand::Install(install)) => extcap::install(install, output),
        Command::Node(NodeCommand::Cleanup(cleanup)) => {
            node::cleanup(cleanup, node, &args.run_dir, output)
        }
        Command::Version => status::version(&client, output).await,
    }
}

fn report(failure: &Failure, output: &Output) -> u8 {
    let (code, message, hint) = match failure {
        Failure::Negative(message) => (1, message.as_str(), ""),
        Failure::Usage(message, hint) => (2, message.as_str(), hint.as_str()),
        Failure::NoDaemon(message) => (3, message.as_str(), ""),
        Failure::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return 0,
        Failure::Output(error) => {
            output.notice(&format!("writing failed: {error}"));
            return 1;
        }
    };
    output.error(message);
    if !hint.is_empty() {
        output.notice(&format!("hint: {hint}"));
    }
    code
}

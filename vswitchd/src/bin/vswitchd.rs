//! The daemon: which of its two processes this is, settings, logging, and what an error looks like.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tracing_subscriber::EnvFilter;
use vswitchd::kube::api;
use vswitchd::settings::{Given, LogFormat, Settings, environment};
use vswitchd::{daemon, supervisor, worker};

/// Carries every pod's frames of this node in userspace, and shows each step of each.
///
/// Every setting is a flag, a variable HOPSCOPE_* and a key of the file; the flag wins.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Example:\n  vswitchd --manifests /etc/hopscope/manifests --log-format json"
)]
struct Args {
    /// File of settings (YAML)
    #[arg(long, env = "HOPSCOPE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
}

fn main() -> ExitCode {
    let is_worker = std::env::args_os().nth(1).is_some_and(|word| word == worker::ARGUMENT);
    let result = if is_worker { work() } else { supervise(Args::parse()) };
    result.unwrap_or_else(|error| {
        let text = daemon::with_causes(error.as_ref());
        // Without standard error there is nobody to tell.
        drop(writeln!(std::io::stderr(), "vswitchd: {text}"));
        ExitCode::FAILURE
    })
}

/// The process that was started.
fn supervise(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let settings = settings(args)?;
    log(settings.log_format);
    Ok(supervisor::run(settings)?)
}

/// The one that it starts itself.
fn work() -> Result<ExitCode, Box<dyn Error>> {
    let worker = worker::begin()?;
    log(worker.settings.log_format);
    daemon::run(worker)?;
    Ok(ExitCode::SUCCESS)
}

fn settings(args: Args) -> Result<Settings, Box<dyn Error>> {
    let command = Args::command();
    let known = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str());
    let given: Vec<String> =
        std::env::vars_os().map(|(name, _value)| name.to_string_lossy().into_owned()).collect();
    environment::check(&given, &known.collect::<Vec<_>>())?;
    let file = args.config.as_deref().map(Given::read).transpose()?.unwrap_or_default();
    let host_name = nix::unistd::gethostname()?;
    let file = Given { in_cluster: api::in_cluster(), ..file };
    Ok(args.given.or(file).resolve(&host_name.to_string_lossy())?)
}

/// Lines to standard error; the level by `RUST_LOG`, `info` without it.
fn log(format: LogFormat) {
    // What kube's client meets is told once by the daemon, not at each try.
    let usual = |_unset| EnvFilter::new("info,kube_client=off");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(usual);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().init(),
    }
}

//! `hopctl` as a program that Wireshark asks for interfaces and packets (extcap), when it is called
//! by the name of [`NAME`].
//!
//! Answers go to stdout and nothing else does. Wireshark shows what a capture says on stderr when
//! it has ended, as an error; so one that went well says nothing. Exit codes are those of `hopctl`.

use std::env;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::CommandFactory;

use super::args::{Args, Format};
use super::capture::{Run, Sink, fetch, program, request as asked};
use super::client::Client;
use super::output::{Output, Tone};
use super::{Answer, Failure, Outcome, args, finish};
use crate::admin::objects::{List, Port};
use crate::directory::Label;

mod install;
mod request;
mod sentence;

pub(super) use install::install;
use request::{Capture, Interface, Request};

/// The name under which `hopctl` is an extcap program.
pub const NAME: &str = "hopscope-extcap";

/// What a person is told who calls it.
const HELP: &str = "\
hopscope-extcap is hopctl by another name: Wireshark and tshark call it for interfaces and packets.

  hopctl extcap install        puts it where they look
  tshark -D | grep hopscope    lists what it offers
  tshark -i hopscope:demo/web -f 'tcp port 80' -o extcap.hopscope_demo_web.hop:l2,egress

Arguments of a capture:
  --capture --extcap-interface NAME --fifo FILE [--extcap-capture-filter FILTER]
  [--hop NAME,..|all] [--dropped-only] [--since T] [--run-dir DIR]

HOPSCOPE_RUN_DIR names a daemon's other run-dir. See hopctl capture --help.";

/// Why a capture may be refused that another user gets.
const WHO: &str = "Wireshark's user must be able to open that socket: run it as root, or run sudo \
                   hopctl capture --wireshark, which starts Wireshark as yourself; its other \
                   run-dir is named by HOPSCOPE_RUN_DIR";

/// Time in which a daemon has to list its ports: Wireshark waits for it at its start.
const LISTED: Duration = Duration::from_secs(1);

/// Longest name of an interface, in bytes: Wireshark calls the FIFO by it, with 24 bytes around it,
/// and the name of a file has 255 bytes at most.
const INTERFACE_MAX: usize = 255 - 24;

/// Whether this process was called by that name.
pub(super) fn is_called() -> bool {
    env::args_os().next().is_some_and(|name| Path::new(&name).file_name() == Some(NAME.as_ref()))
}

/// Answers the process's arguments.
pub(super) fn main() -> ExitCode {
    let args: Vec<String> =
        env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let output = Output::new(Format::Table);
    let mut unopened = Request::fifo(&args);
    let code = finish(answer(&args, &output, &mut unopened), &output);
    if let Some(fifo) = unopened {
        // Refused: it is opened as soon as somebody reads it, and nothing is written. Wireshark
        // takes the name of a FIFO that is gone by then for that of a device, and of a reason
        // that is told behind the end it shows nothing.
        drop(OpenOptions::new().write(true).open(fifo));
    }
    code
}

/// `unopened` is the FIFO of a capture for as long as it was not opened.
async fn answer(args: &[String], output: &Output, unopened: &mut Option<PathBuf>) -> Outcome {
    let usage = |message: String| Failure::Usage(message, String::new());
    let (request, run_dir) = Request::read(args).map_err(usage)?;
    let client = Client::new(&run_dir.unwrap_or_else(default_run_dir));
    let text = match request {
        Request::Capture(request) => return capture(request, &client, output, unopened).await,
        Request::Help => format!("{HELP}\n"),
        Request::Version => sentence::version(),
        Request::Interfaces => sentence::interfaces(&interfaces(&client).await),
        Request::LinkTypes => sentence::link_types(),
        Request::Config(interface) => sentence::config(&interface),
        // Wireshark takes the first line for the reason, and no line for a good filter.
        Request::Check(filter) => match program(&filter) {
            Ok(_) => String::new(),
            Err(message) => format!("{message}\n"),
        },
        Request::Nothing => String::new(),
    };
    if !text.is_empty() {
        output.line(Tone::Plain, text.trim_end())?;
    }
    Ok(Answer::Yes)
}

/// As `hopctl` has it: its variable, else its default.
fn default_run_dir() -> PathBuf {
    let given = env::var_os("HOPSCOPE_RUN_DIR").filter(|dir| !dir.is_empty());
    let command = Args::command();
    let known = command.get_arguments().find(|arg| arg.get_id() == "run_dir");
    let default = known.and_then(|arg| arg.get_default_values().first());
    given.or_else(|| default.map(|dir| dir.to_os_string())).unwrap_or_default().into()
}

/// What can be captured. Without a daemon, or for a user who may not ask it, the interfaces that
/// every node has are listed all the same: who looks for Hopscope in Wireshark finds it, and a
/// capture says what is wrong. An empty list would look like a failed installation, and Wireshark
/// shows nobody what a list says on stderr.
async fn interfaces(client: &Client) -> Vec<Interface> {
    let ports = tokio::time::timeout(LISTED, client.get::<List<Port>>("/v1/ports")).await;
    let ports = ports.ok().and_then(Result::ok).map_or_else(Vec::new, |list| list.items);
    let pods = ports.iter().filter_map(|port| match Label::read(&port.name)? {
        Label::Pod { namespace, name } => Some(Interface::Pod(format!("{namespace}/{name}"))),
        Label::Host | Label::Endpoint(_) => None,
    });
    let all = [Interface::AllHops, Interface::Node, Interface::Host].into_iter().chain(pods);
    let mut all: Vec<_> =
        all.filter(|interface| interface.to_string().len() <= INTERFACE_MAX).collect();
    all.sort();
    all
}

/// Packets into the FIFO until the daemon, Wireshark or a signal ends it.
async fn capture(
    capture: Capture,
    client: &Client,
    output: &Output,
    unopened: &mut Option<PathBuf>,
) -> Outcome {
    let mut run = Run::new(Sink::Fifo(capture.fifo.clone()));
    let ended = packets(&args::Capture::from(capture), client, output, &mut run).await;
    if run.has_begun() {
        *unopened = None;
    }
    match ended {
        Err(Failure::NoDaemon(message)) if !run.has_begun() => {
            Err(Failure::NoDaemon(format!("{message}. {WHO}")))
        }
        Ok(answer) => {
            if let Some(lost @ 1..) = run.lost() {
                output
                    .notice(&format!("{lost} packets lost: they came faster than they were read"));
            }
            Ok(answer)
        }
        failed @ Err(_) => failed,
    }
}

async fn packets(args: &args::Capture, client: &Client, output: &Output, run: &mut Run) -> Outcome {
    fetch(asked(args, None)?, args.since, client, output, run).await
}

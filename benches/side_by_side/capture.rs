//! A capture of all hops on pod a, as a user takes it: the daemon's admin socket in the process
//! that moves the frames, and a `hopctl` of its own that writes a file in memory.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use vswitchd::admin::objects::{Attachment, Check, Lease, Problem, Upkeep, Worker};
use vswitchd::admin::{self, Captures, Context, Sources, record, socket};
use vswitchd::cli::{self, Node, local};
use vswitchd::directory::{self, Directory, Label};
use vswitchd::event_loop::Handle;
use vswitchd::gate::Gate;
use vswitchd::recorder::Home;
use vswitchd::settings::Given;
use vswitchd::triggers::Keeper;

use crate::Fallible;
use crate::load::PACED_PORT;
use crate::role::PODS;

/// The name by which a process of this program is `hopctl`.
const HOPCTL: &str = "hopctl";
/// The pods' namespace in the names of ports.
const NAMESPACE: &str = "bench";
/// Hops of a datagram from pod to pod, each a frame in the file: parse, l2, conntrack, l3, policy,
/// egress.
const HOPS: u64 = 6;

/// Plays `hopctl`, if this process is called so.
pub(crate) fn play_hopctl() -> Option<ExitCode> {
    let is_called = std::env::args_os().next().is_some_and(|name| name == HOPCTL);
    is_called.then(|| {
        // The bench leaves signals to one thread of its own, and its children inherit that.
        let _masked = SigSet::empty().thread_set_mask();
        cli::main(&Node { cleanup: local::cleanup, check: local::check })
    })
}

/// Serves the admin socket as the daemon does, on one thread, until the process ends.
pub(crate) fn serve(run_dir: &Path, handle: Handle) -> Fallible<()> {
    let bound = socket::bind(run_dir)?;
    let names = directory::Shared::default();
    let label = |name: &str| Label::Pod { namespace: NAMESPACE.to_owned(), name: name.to_owned() };
    let ports = PODS.iter().zip(["a", "b"]).map(|(pod, name)| (pod.port, label(name)));
    names.store(Arc::new(Directory { ports: ports.collect(), ..Directory::default() }));
    let (manifests, state_dir) = (Some(run_dir.to_owned()), Some(run_dir.to_owned()));
    let settings = Given { manifests, state_dir, ..Given::default() }.resolve(NAMESPACE)?;
    let context = Context {
        handle,
        directory: names,
        sources: Arc::new(Nothing),
        past: None,
        captures: Captures::default(),
        journal: Arc::new(record::Forgetful),
        keeper: Arc::new(Keeper::idle(&settings)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(async {
            let listener = socket::Listener::new(bound, Gate::default())?;
            admin::serve(listener, context, std::future::pending()).await
        })
    })?;
    Ok(())
}

/// The daemon's other parts, of which a capture asks nothing.
struct Nothing;

impl Sources for Nothing {
    fn node_name(&self) -> String {
        NAMESPACE.to_owned()
    }

    fn uptime(&self) -> Duration {
        Duration::ZERO
    }

    fn worker(&self) -> Worker {
        Worker::default()
    }

    fn upkeep(&self) -> Upkeep {
        Upkeep::default()
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }

    fn leases(&self) -> Vec<Lease> {
        Vec::new()
    }

    fn attachments(&self) -> Vec<Attachment> {
        Vec::new()
    }

    fn check(&self) -> Vec<Check> {
        Vec::new()
    }
}

/// A capture that runs. It ends when this is dropped, and its file goes.
#[derive(Debug)]
pub(crate) struct Capture {
    hopctl: Child,
    said: BufReader<ChildStderr>,
    file: PathBuf,
}

/// What a capture says at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Packets in the file, each with all its hops.
    pub(crate) captured: u64,
    /// Packets it says were lost.
    pub(crate) lost: u64,
}

impl Capture {
    /// Starts one of the paced stream, and waits until it is granted.
    pub(crate) fn start(run_dir: &Path) -> Fallible<Self> {
        let file = Home::make(run_dir, None)?.directory.join("capture.pcapng");
        let mut hopctl = Command::new(std::env::current_exe()?)
            .arg0(HOPCTL)
            .arg("--run-dir")
            .arg(run_dir)
            .args(["capture", &format!("{NAMESPACE}/a"), "--hop", "all", "-w"])
            .arg(&file)
            .arg(format!("udp port {PACED_PORT}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = hopctl.stderr.take().ok_or("hopctl has no stderr")?;
        let mut capture = Self { hopctl, said: BufReader::new(stderr), file };
        let mut line = String::new();
        capture.said.read_line(&mut line)?;
        if line.contains("capturing to") {
            return Ok(capture);
        }
        capture.said.read_to_string(&mut line)?;
        Err(format!("hopctl capture: {}", line.trim()).into())
    }

    /// Ends it as Ctrl-C does. What has not been shown yet is still written.
    pub(crate) fn end(mut self) -> Fallible<Counts> {
        self.interrupt()?;
        let mut rest = String::new();
        self.said.read_to_string(&mut rest)?;
        let status = self.hopctl.wait()?;
        let counts = counts(&rest).filter(|_| status.success());
        counts.ok_or_else(|| format!("hopctl capture ended with {status}: {}", rest.trim()).into())
    }

    fn interrupt(&self) -> Fallible<()> {
        kill(Pid::from_raw(i32::try_from(self.hopctl.id())?), Signal::SIGINT)?;
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if matches!(self.hopctl.try_wait(), Ok(None)) {
            drop(self.hopctl.kill());
            drop(self.hopctl.wait());
        }
        drop(fs::remove_file(&self.file));
    }
}

/// Reads `25 frames captured, 3 packets lost`.
fn counts(said: &str) -> Option<Counts> {
    let line = said.lines().find(|line| line.contains(" frames captured, "))?;
    let (before, after) = line.split_once(" frames captured, ")?;
    let frames: u64 = before.rsplit(' ').next()?.parse().ok()?;
    let lost = after.strip_suffix(" packets lost")?.parse().ok()?;
    // A packet is in the file at every hop, or it is not.
    frames.is_multiple_of(HOPS).then_some(Counts { captured: frames / HOPS, lost })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hopctl_says_at_the_end_is_understood() {
        let read = counts("note\n30 frames captured, 3 packets lost\n");
        assert_eq!(read, Some(Counts { captured: 5, lost: 3 }));
        assert_eq!(counts("25 frames captured, 3 packets lost"), None, "a packet is in part there");
        assert_eq!(counts("30 frames captured; the end is missing, and how many were lost"), None);
    }
}

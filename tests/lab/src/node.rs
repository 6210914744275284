//! A node: a namespace with an uplink to the [`Lan`], a directory of manifests, and `vswitchd`
//! inside.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::binaries::Binaries;
use crate::cni::Runtime;
use crate::manifest::{self, NodeObject};
use crate::process::{Output, Process};
use crate::{Context, Error, Lan, Namespace, Pod, Result};

/// Time the daemon may take until it says `ready`, and to end.
const DAEMON_TIMEOUT: Duration = Duration::from_secs(20);
/// Time hopctl may take.
const HOPCTL_TIMEOUT: Duration = Duration::from_secs(30);

/// What a node shall be.
#[derive(Debug, Clone, Default)]
pub struct NodeSpec {
    /// The Node object.
    pub object: NodeObject,
    /// Manifests that the node is given, the Node's own among them; `None` writes the Node's
    /// alone.
    pub manifests: Option<PathBuf>,
    /// Further keys of the daemon's configuration.
    pub settings: BTreeMap<String, Value>,
}

impl NodeSpec {
    /// The `index`th node of a lab, from 1: its name, ranges and addresses follow from the number.
    pub fn numbered(index: u8) -> Self {
        Self {
            object: NodeObject {
                name: format!("node{index}"),
                pod_cidrs: vec![
                    format!("10.244.{index}.0/24"),
                    format!("fd00:10:244:{index:x}::/64"),
                ],
                addresses: vec![
                    format!("192.0.2.{}", 10 + u16::from(index)),
                    format!("2001:db8::{:x}", 0x10 + u16::from(index)),
                ],
            },
            ..Self::default()
        }
    }

    /// The same with a key of the daemon's configuration set.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }
}

/// A node.
#[derive(Debug)]
pub struct Node {
    // Ends before the namespace, the directories and the outside go.
    daemon: Option<Process>,
    /// The node's namespace: what a hostNetwork process sees.
    pub netns: Namespace,
    binaries: Binaries,
    spec: NodeSpec,
    dir: PathBuf,
    lan: Arc<Lan>,
}

impl Node {
    /// Makes the namespace, the uplink, the manifests and the configuration. Starts nothing.
    ///
    /// # Errors
    /// When something is not built, or namespaces cannot be made.
    pub fn prepare(lan: &Arc<Lan>, index: usize, spec: NodeSpec) -> Result<Self> {
        let run = lan.netns.owner();
        let netns = Namespace::new(run, &spec.object.name)?;
        lan.attach(&netns, index, &spec.object.addresses)?;
        let dir = run.dir(&spec.object.name)?;
        for part in ["manifests", "state"] {
            fs::create_dir_all(dir.join(part)).context(dir.display())?;
        }
        let binaries = Binaries::find()?;
        let node = Self { netns, daemon: None, binaries, spec, dir, lan: Arc::clone(lan) };
        match &node.spec.manifests {
            Some(given) => copy_files(given, &node.manifests())?,
            None => {
                let name = format!("node-{}", node.name());
                manifest::write(&node.manifests(), &name, &node.spec.object.to_json())?;
            }
        }
        Ok(node)
    }

    /// Makes a node and starts its daemon.
    ///
    /// # Errors
    /// As [`Node::prepare`] and [`Node::start`].
    pub fn new(lan: &Arc<Lan>, index: usize, spec: NodeSpec) -> Result<Self> {
        let mut node = Self::prepare(lan, index, spec)?;
        node.start()?;
        Ok(node)
    }

    /// One node with that setting of `port-kind`, on a LAN of its own.
    ///
    /// # Errors
    /// As [`Node::new`].
    pub fn alone(port_kind: &str) -> Result<Self> {
        let spec = NodeSpec::numbered(1).with("port-kind", port_kind);
        Self::new(&Lan::new(1500)?, 0, spec)
    }

    /// The outside.
    pub fn lan(&self) -> &Lan {
        &self.lan
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.object.name
    }

    /// Its own IPv4 address.
    ///
    /// # Errors
    /// When it has none.
    pub fn v4(&self) -> Result<&str> {
        self.address(|address| !address.contains(':'))
    }

    /// Its own IPv6 address.
    ///
    /// # Errors
    /// When it has none.
    pub fn v6(&self) -> Result<&str> {
        self.address(|address| address.contains(':'))
    }

    fn address(&self, wanted: impl Fn(&str) -> bool) -> Result<&str> {
        let mut addresses = self.spec.object.addresses.iter().map(String::as_str);
        addresses
            .find(|address| wanted(address))
            .ok_or_else(|| Error::new(format!("{} lacks an address of that family", self.name())))
    }

    /// The directory of manifests that its daemon watches.
    pub fn manifests(&self) -> PathBuf {
        self.dir.join("manifests")
    }

    /// The daemon's run-dir.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The daemon's state-dir.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The path of the daemon's configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.yaml")
    }

    /// Sets a key of the configuration; the next start reads it.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.spec.settings.insert(key.to_owned(), value.into());
    }

    /// A command that runs the daemon as [`Node::start`] does, its configuration written.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn daemon_command(&self) -> Result<Command> {
        let mut settings: BTreeMap<String, Value> = [
            ("node-name", json!(self.name())),
            ("manifests", json!(self.manifests())),
            ("run-dir", json!(self.run_dir())),
            ("state-dir", json!(self.state_dir())),
            ("uplink", json!("up0")),
            // Many nodes at a time, and short ones.
            ("journal-size", json!("32Mi")),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        settings.extend(self.spec.settings.clone());
        let text = serde_norway::to_string(&settings).context("configuration")?;
        fs::write(self.config(), text).context(self.config().display())?;
        let mut command = Command::new(&self.binaries.vswitchd);
        command.arg("--config").arg(self.config());
        Ok(command)
    }

    /// Starts the daemon and waits until it is ready.
    ///
    /// # Errors
    /// What it printed, when it ends before that or takes too long.
    pub fn start(&mut self) -> Result<()> {
        let mut daemon = self.netns.spawn(self.daemon_command()?)?;
        daemon.wait_ready(DAEMON_TIMEOUT)?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Runs a further daemon on the same directories, which takes over. Gives back what the one
    /// before has printed, which must have ended with 0.
    ///
    /// # Errors
    /// What either has printed, when the new one is not ready or the old one does not end.
    pub fn hand_over(&mut self) -> Result<Output> {
        self.hand_over_to(self.daemon_command()?)
    }

    /// The same with a command of one's own.
    ///
    /// # Errors
    /// As [`Node::hand_over`].
    pub fn hand_over_to(&mut self, command: Command) -> Result<Output> {
        let mut next = self.netns.spawn(command)?;
        next.wait_ready(DAEMON_TIMEOUT)?;
        self.adopt(next)?.finish(DAEMON_TIMEOUT)?.success()
    }

    /// Takes another daemon for this node's; gives back the one before.
    ///
    /// # Errors
    /// When there was none.
    pub fn adopt(&mut self, daemon: Process) -> Result<Process> {
        let before = self.daemon.replace(daemon);
        before.ok_or_else(|| Error::new(format!("{}: no daemon runs", self.name())))
    }

    /// The running daemon.
    ///
    /// # Errors
    /// When there is none.
    pub fn daemon(&mut self) -> Result<&mut Process> {
        let name = self.spec.object.name.clone();
        self.daemon.as_mut().ok_or_else(|| Error::new(format!("{name}: no daemon runs")))
    }

    /// Ends the daemon by SIGTERM: pods and flows stay. Gives back what it printed.
    ///
    /// # Errors
    /// When there is none, it does not end, not with 0, or has said anything but `ready` on its
    /// standard output: who starts it waits for that one line.
    pub fn stop(&mut self) -> Result<Output> {
        let daemon = self.daemon.take();
        let daemon =
            daemon.ok_or_else(|| Error::new(format!("{}: no daemon runs", self.name())))?;
        let output = daemon.terminate(DAEMON_TIMEOUT)?.success()?;
        if output.stdout != "ready\n" {
            let said = format!("{:?} instead of one line `ready`", output.stdout);
            return Err(Error::new(format!("{}: {said}", output.what)));
        }
        Ok(output)
    }

    /// Whether a daemon was started and not ended by [`Node::stop`] or [`Node::kill`].
    pub fn has_daemon(&self) -> bool {
        self.daemon.is_some()
    }

    /// Ends the daemon by SIGKILL.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// What the daemon has printed, for a person who looks at a failed test.
    pub fn log(&self) -> String {
        self.daemon.as_ref().map_or_else(String::new, |daemon| {
            let output = daemon.output();
            format!("{}{}", output.stdout, output.stderr)
        })
    }

    /// A runtime on this node.
    pub fn runtime(&self) -> Runtime {
        let socket = self.run_dir().join("cni.sock");
        Runtime::new(self.netns.owner(), &self.binaries.plugin, &socket)
    }

    /// Makes a namespace and wires it as the pod `default/<name>`.
    ///
    /// # Errors
    /// When it cannot be made, or the plugin's, with the daemon's log.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        self.pod_with(("default", name), &BTreeMap::new())
    }

    /// Makes a namespace and wires it as that pod, with further keys of the plugin's configuration.
    ///
    /// # Errors
    /// When it cannot be made, or the plugin's, with the daemon's log.
    pub fn pod_with(&self, pod: (&str, &str), extra: &BTreeMap<String, Value>) -> Result<Pod> {
        let netns = Namespace::new(self.netns.owner(), &format!("{}-{}", pod.0, pod.1))?;
        Pod::wire(netns, self.runtime(), pod, extra)
            .map_err(|error| Error::new(format!("{error}\n--- vswitchd\n{}", self.log())))
    }

    /// Runs hopctl against this node's daemon; it must exit with 0.
    ///
    /// # Errors
    /// What it printed, when not.
    pub fn hopctl(&self, args: &[&str]) -> Result<String> {
        self.hopctl_attempt(args)?.success().map(|output| output.stdout)
    }

    /// Runs hopctl against this node's daemon, whatever its exit status.
    ///
    /// # Errors
    /// When it cannot be started or hangs.
    pub fn hopctl_attempt(&self, args: &[&str]) -> Result<Output> {
        self.hopctl_start(args)?.finish(HOPCTL_TIMEOUT)
    }

    /// Runs hopctl and reads the JSON it prints.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn hopctl_json(&self, args: &[&str]) -> Result<Value> {
        let text = self.hopctl(&[&["-o", "json"], args].concat())?;
        serde_json::from_str(&text).context(format!("hopctl {}: {text:?}", args.join(" ")))
    }

    /// Runs hopctl and reads the YAML it prints.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn hopctl_yaml(&self, args: &[&str]) -> Result<Value> {
        let text = self.hopctl(&[&["-o", "yaml"], args].concat())?;
        serde_norway::from_str(&text).context(format!("hopctl {}: {text:?}", args.join(" ")))
    }

    /// Starts hopctl in the background.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn hopctl_start(&self, args: &[&str]) -> Result<Process> {
        self.netns.spawn(self.hopctl_command(args))
    }

    /// A shell's command line of hopctl, for pipes.
    pub fn hopctl_line(&self, args: &str) -> String {
        let hopctl = self.binaries.hopctl.display();
        format!("{hopctl} --run-dir {} {args}", self.run_dir().display())
    }

    /// Starts a live capture and waits until it has begun.
    ///
    /// # Errors
    /// When it does not begin.
    pub fn capture(&self, file: &Path, args: &[&str]) -> Result<Capture> {
        let path = file.to_string_lossy();
        let command = self.hopctl_command(&[&["capture", "-w", &path], args].concat());
        let mut process = self.netns.spawn(command)?;
        // The first notice on stderr says that the daemon has opened the session.
        process.wait_line(HOPCTL_TIMEOUT, |line| line.contains("capturing"))?;
        Ok(Capture { process })
    }

    fn hopctl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binaries.hopctl);
        command.arg("--run-dir").arg(self.run_dir()).args(args);
        command.stdin(std::process::Stdio::null());
        command
    }
}

/// Copies the files of a directory.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).context(from.display())?.flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).context(entry.path().display())?;
        }
    }
    Ok(())
}

/// A live capture in the background.
#[derive(Debug)]
pub struct Capture {
    process: Process,
}

impl Capture {
    /// Ends it as Ctrl-C would, so that the file is whole; gives back its notices.
    ///
    /// # Errors
    /// When it does not end, or not with 0.
    pub fn stop(self) -> Result<Output> {
        // What was seen in the last moment is on its way from the ring to the file.
        std::thread::sleep(Duration::from_millis(200));
        self.process.interrupt(HOPCTL_TIMEOUT)?.success()
    }

    /// Makes its reader stand still, or go on: what comes meanwhile has to wait in the daemon.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&self, still: bool) -> Result<()> {
        let signal = if still { Signal::SIGSTOP } else { Signal::SIGCONT };
        self.process.signal(signal)
    }

    /// Waits until it ends by itself (`-c N`, `--duration T`).
    ///
    /// # Errors
    /// When it does not, or not with 0.
    pub fn finish(self) -> Result<Output> {
        self.process.finish(HOPCTL_TIMEOUT)?.success()
    }
}

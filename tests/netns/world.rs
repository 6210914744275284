//! What every test here stands on: one node at a time, its log when a test fails, and the law at
//! its end.

use std::fmt::Write as _;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lab::{Lan, Node, NodeSpec, Pod, counters};

/// Both ways to wire a pod.
pub(crate) const KINDS: [&str; 2] = ["tap", "veth"];

/// Reasons that idle pods cause by themselves: a lone pod asks for routers and reports groups to
/// nobody; the node's kernel reports its own groups on `hop0` as soon as that is up, to which the
/// switch is a router.
const IDLE: &[&str] = &["FloodScopeEmpty", "host:GroupRouted"];
/// Reasons for which frames of a pod that is being removed, or to it, may be dropped.
pub(crate) const LEAVING: &[&str] = &["PortUnknown", "PortDown", "EgressDown"];

/// Where recordings of the tests' traffic are left, for `make again` to replay.
pub(crate) fn recordings() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("LAB_RECORDINGS")?);
    std::fs::create_dir_all(&folder).unwrap();
    Some(folder)
}

static TURN: Mutex<()> = Mutex::new(());

/// Nodes have fixed names within a process: one test at a time in each, however it is run.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A node with its daemon running.
pub(crate) struct World {
    node: Node,
    /// Whether the test has said which drops it means to cause.
    settled: AtomicBool,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for World {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Node {
        &mut self.node
    }
}

impl World {
    /// A node that wires pods in that way.
    pub(crate) fn new(kind: &str) -> Self {
        let mut world = Self::prepare(NodeSpec::numbered(1).with("port-kind", kind));
        world.node.start().unwrap();
        world
    }

    /// A node whose daemon does not run yet.
    pub(crate) fn prepare(spec: NodeSpec) -> Self {
        let turn = turn();
        let node = Node::prepare(&Lan::new(1500).unwrap(), 0, spec).unwrap();
        Self { node, settled: AtomicBool::new(false), _turn: turn }
    }

    /// Pods of those names.
    pub(crate) fn pods<const N: usize>(&self, names: [&str; N]) -> [Pod; N] {
        names.map(|name| self.node.pod(name).unwrap())
    }

    /// A path for a capture.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.node.netns.owner().dir("captures").unwrap().join(name)
    }

    /// The laws of counting hold, and only for these reasons was anything dropped.
    pub(crate) fn settle(&self, reasons: &[&str]) -> Vec<counters::Port> {
        self.settled.store(true, Ordering::Relaxed);
        let expected = [IDLE, reasons].concat();
        counters::conservation(&self.node, &expected).unwrap()
    }

    /// The end of every test whose daemon runs: the laws hold, its pods' ports gone or not, what it
    /// was about can be replayed, and the daemon ends as it should. A test that never settled has
    /// meant no drops.
    fn finish(&mut self) -> lab::Result<()> {
        self.keep_recording()?;
        if self.settled.load(Ordering::Relaxed) {
            counters::balance(&self.node)?;
        } else {
            counters::conservation(&self.node, &[IDLE, LEAVING].concat())?;
        }
        self.node.stop().map(drop)
    }

    /// Leaves a recording of the test's traffic, if `LAB_RECORDINGS` names a directory.
    fn keep_recording(&self) -> lab::Result<()> {
        let Some(folder) = recordings() else { return Ok(()) };
        let test = std::thread::current().name().unwrap_or("main").replace("::", "-");
        // A test may have several worlds.
        let file = (1..)
            .map(|n| folder.join(format!("netns-{test}-{n}.pcapng")))
            .find(|file| !file.exists());
        let file = file.unwrap_or_default();
        self.node.hopctl(&["record", "-w", &file.to_string_lossy()]).map(drop)
    }

    /// All there is to know of a node whose test has failed.
    fn show(&self) {
        let mut text = format!("--- vswitchd of {}\n{}", self.node.name(), self.node.log());
        for what in ["ports", "drops", "counters"] {
            let shown = self.node.hopctl(&["get", what]);
            let shown = shown.unwrap_or_else(|error| error.to_string());
            writeln!(text, "--- hopctl get {what}\n{shown}").unwrap();
        }
        println!("{text}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        } else if self.node.has_daemon()
            && let Err(error) = self.finish()
        {
            self.show();
            panic!("{error}");
        }
    }
}

//! The verbs on a fake node, by the plugin's own code and a real socket.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use shim::fault::Printed;
use shim::proto::{self, Request, Response};
use shim::{deletion, plugin};
use smoltcp::wire::IpCidr;

use super::attachment::Attachment;
use super::conformance::{self, Stage};
use super::ipam::Range;
use super::reconcile::Reconciled;
use super::registry::Registry;
use super::server::Admission;
use super::store::StoreError;
use super::verbs::{Cni, Defaults};
use super::wiring::{Wiring, WiringError};
use super::{server, store};
use crate::gate::Gate;
use crate::node::{LinkKind, Netns, NodeError, Problem};

/// Makes the error of a step.
type Break = Box<dyn Fn() -> WiringError + Send>;

/// A node whose namespaces are files of a directory.
#[derive(Default)]
struct Fake {
    /// Interfaces by namespace and name, with their ports.
    live: Mutex<BTreeMap<(u64, String), u32>>,
    /// Steps that fail from now on, each by what makes its error.
    broken: Mutex<BTreeMap<String, Break>>,
    /// The node's ends of veth pairs.
    ends: Mutex<BTreeSet<String>>,
    /// What CHECK finds.
    problems: Mutex<Vec<Problem>>,
    /// The most attachments that were in work at once.
    at_once: AtomicU32,
    at_once_max: AtomicU32,
}

impl Fake {
    fn step(&self, name: &str) -> Result<(), WiringError> {
        self.broken.lock().unwrap().get(name).map_or(Ok(()), |error| Err(error()))
    }
    fn link(attachment: &Attachment) -> (u64, String) {
        (attachment.netns_inode, attachment.key.ifname.clone())
    }
}

/// A handle the test keeps, too.
#[derive(Clone, Default)]
struct Node(Arc<Fake>);

impl Wiring for Node {
    async fn open(&self, path: &Path) -> Result<Netns, WiringError> {
        let refuse = |why: &str| NodeError::Netns { path: path.into(), why: why.into() };
        let file = File::open(path).map_err(|error| refuse(&error.to_string()))?;
        let inode = file.metadata().map_err(|error| refuse(&error.to_string()))?.ino();
        if !path.to_string_lossy().contains("/netns/") {
            return Err(refuse("is no network namespace").into());
        }
        Ok(Netns { descriptor: file.into(), inode, path: path.into() })
    }

    async fn attach(&self, attachment: &Attachment, _netns: Netns) -> Result<(), WiringError> {
        let now = self.0.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.at_once_max.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
        self.0.step("attach")?;
        let mut live = self.0.live.lock().unwrap();
        let link = Fake::link(attachment);
        if live.contains_key(&link) {
            return Err(NodeError::Exists { what: link.1 }.into());
        }
        live.insert(link, attachment.port);
        Ok(())
    }

    async fn take_back(&self, attachment: &Attachment, _netns: Netns) -> Result<(), WiringError> {
        self.0.step("take_back")?;
        assert!(self.0.live.lock().unwrap().contains_key(&Fake::link(attachment)));
        Ok(())
    }

    async fn detach(
        &self,
        attachment: &Attachment,
        _netns: Option<Netns>,
    ) -> Result<(), WiringError> {
        self.0.step("detach")?;
        self.0.step(&format!("detach {}", attachment.key.container_id))?;
        let mut live = self.0.live.lock().unwrap();
        if live.get(&Fake::link(attachment)) == Some(&attachment.port) {
            live.remove(&Fake::link(attachment));
        }
        Ok(())
    }

    async fn check(&self, _: &Attachment, _netns: Netns) -> Result<Vec<Problem>, WiringError> {
        Ok(self.0.problems.lock().unwrap().clone())
    }

    async fn sweep(&self, keep: BTreeSet<String>) -> Result<Vec<String>, WiringError> {
        self.0.step("sweep")?;
        let mut ends = self.0.ends.lock().unwrap();
        let strangers: Vec<String> = ends.difference(&keep).cloned().collect();
        ends.retain(|end| keep.contains(end));
        Ok(strangers)
    }

    async fn ready(&self) -> Result<(), String> {
        self.0.step("ready").map_err(|error| error.to_string())
    }
}

/// A directory with everything, and a daemon on it.
struct World {
    root: PathBuf,
    node: Node,
    next_netns: AtomicU32,
}

const BOTH: [&str; 2] = ["10.1.2.0/24", "fd00:1:2::/64"];

impl World {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("hs-cni-{name}-{}", std::process::id()));
        fs::create_dir_all(root.join("netns")).unwrap();
        Self { root, node: Node::default(), next_netns: AtomicU32::new(0) }
    }
    fn netns(&self) -> String {
        let path = format!("{}/netns/{}", self.root.display(), self.number());
        fs::write(&path, "").unwrap();
        path
    }
    fn number(&self) -> u32 {
        self.next_netns.fetch_add(1, Ordering::SeqCst)
    }
    fn state(&self) -> PathBuf {
        self.root.join("state")
    }
    fn open(&self, boot: &str, cidrs: &[&str]) -> Result<Registry, StoreError> {
        let cidrs: Vec<IpCidr> = cidrs.iter().map(|text| text.parse().unwrap()).collect();
        Registry::open(&self.state(), boot.into(), Vec::new(), &Range::all(&cidrs).unwrap())
    }
    /// As a daemon that starts.
    async fn boot(&self, boot: &str, cidrs: &[&str]) -> Cni<Node> {
        let defaults = Defaults { mtu: 1450, kind: LinkKind::Tap };
        let cni = Cni::new(self.node.clone(), self.open(boot, cidrs).unwrap(), defaults);
        let mut reconciled = cni.reconcile().await;
        cni.tidy(&mut reconciled).await;
        cni
    }
    /// The same, and what it found.
    async fn reboot(&self) -> (Cni<Node>, Reconciled) {
        let defaults = Defaults { mtu: 1450, kind: LinkKind::Tap };
        let cni = Cni::new(self.node.clone(), self.open("boot", &BOTH).unwrap(), defaults);
        let mut reconciled = cni.reconcile().await;
        cni.tidy(&mut reconciled).await;
        (cni, reconciled)
    }
    /// All that is left: interfaces, attachments, files.
    fn left(&self, cni: &Cni<Node>) -> Vec<String> {
        let live = self.node.0.live.lock().unwrap();
        let mut left: Vec<String> = live.keys().map(|link| format!("link {link:?}")).collect();
        left.extend(cni.registry().list().iter().map(|a| format!("attachment {}", a.key)));
        for usage in cni.registry().usage().iter().filter(|usage| usage.used > 0) {
            left.push(format!("{} leases of {}", usage.used, usage.range));
        }
        for entry in fs::read_dir(self.state().join("attachments")).unwrap() {
            left.push(format!("file {}", entry.unwrap().path().display()));
        }
        left
    }
    /// The kernel refuses that step, which the error names.
    fn break_(&self, step: &'static str) {
        self.break_with(step, move || {
            let source = std::io::Error::from_raw_os_error(libc::EIO);
            NodeError::Kernel { doing: step.into(), source }.into()
        });
    }
    fn break_with(&self, step: &str, error: impl Fn() -> WiringError + Send + 'static) {
        self.node.0.broken.lock().unwrap().insert(step.to_owned(), Box::new(error));
    }
    fn mend(&self) {
        self.node.0.broken.lock().unwrap().clear();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.root));
    }
}

fn request(verb: &str, container: &str, netns: &str, more: Value) -> Request {
    let environment = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", container),
        ("CNI_NETNS", netns),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    let mut config = json!({"cniVersion": "1.1.0", "name": "hopscope", "type": "hopscope"});
    if let Value::Object(more) = more {
        config.as_object_mut().unwrap().extend(more);
    }
    Request {
        version: proto::VERSION,
        environment: environment.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        stdin: config.to_string(),
    }
}

async fn add(cni: &Cni<Node>, container: &str, netns: &str) -> Response {
    cni.answer(&request("ADD", container, netns, Value::Null)).await
}

async fn del(cni: &Cni<Node>, container: &str) -> Response {
    cni.answer(&request("DEL", container, "", Value::Null)).await
}

fn code(response: &Response) -> u16 {
    assert_ne!(response.exit, 0, "{response:?}");
    serde_json::from_str::<Printed>(&response.stdout).unwrap().code
}

fn address(response: &Response) -> String {
    assert_eq!(response.exit, 0, "{response:?}");
    let result: Value = serde_json::from_str(&response.stdout).unwrap();
    result["ips"][0]["address"].as_str().unwrap().to_owned()
}

/// The whole table, by the plugin's code over a real socket.
#[test]
fn the_specification() {
    let world = World::new("spec");
    let run_dir = world.root.join("run");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cni = Arc::new(runtime.block_on(world.boot("boot", &BOTH)));
    let listener = {
        let _within = runtime.enter();
        server::open(server::bind(&run_dir).unwrap()).unwrap()
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (served, admission) = (cni.clone(), Admission::new(Gate::default()));
    let thread = std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = server::serve(listener, served, admission) => {}
                _ = stopped => {}
            }
        });
    });
    let bad = world.root.join("no-namespace");
    fs::write(&bad, "").unwrap();
    let missing = world.root.join("netns/missing");
    conformance::play(&Stage {
        run: &|environment, stdin| {
            let response = plugin::run(environment.clone(), || Ok(stdin.to_owned()));
            (i32::from(response.exit), response.stdout, response.stderr)
        },
        socket: run_dir.join(server::SOCKET).display().to_string(),
        netns: &|| world.netns(),
        bad_netns: [missing, bad].iter().map(|path| path.display().to_string()).collect(),
        left: &|| world.left(&cni),
    });
    stop.send(()).unwrap();
    thread.join().unwrap();
}

#[tokio::test]
async fn whatever_fails_leaves_nothing() {
    let world = World::new("fails");
    let cni = world.boot("boot", &BOTH).await;
    world.break_("attach");
    let failed = add(&cni, "a", &world.netns()).await;
    assert_eq!(code(&failed), 105);
    assert!(failed.stdout.contains("os error 5"), "{failed:?}");
    assert_eq!(world.left(&cni), Vec::<String>::new());
    world.mend();
    // The disk refuses before anything is made.
    let attachments = world.state().join("attachments");
    fs::rename(&attachments, world.root.join("away")).unwrap();
    assert_eq!(code(&add(&cni, "a", &world.netns()).await), 5);
    assert!(world.node.0.live.lock().unwrap().is_empty());
    fs::rename(world.root.join("away"), &attachments).unwrap();
    assert_eq!(world.left(&cni), Vec::<String>::new());
    assert_eq!(del(&cni, "a").await.exit, 0);
    // A DEL the kernel refuses keeps the lease, so that its repetition can end it.
    let first = address(&add(&cni, "a", &world.netns()).await);
    world.break_("detach");
    assert_eq!(code(&del(&cni, "a").await), 105);
    assert_eq!(cni.registry().usage()[0].used, 1, "{first} is still held");
    world.mend();
    assert_eq!(del(&cni, "a").await.exit, 0);
    assert_eq!(world.left(&cni), Vec::<String>::new());
}

#[tokio::test]
async fn what_may_be_left_is_remembered_until_its_del() {
    let world = World::new("left");
    let cni = world.boot("boot", &BOTH).await;
    let unanswered = || NodeError::Unanswered { source: std::io::ErrorKind::BrokenPipe.into() };
    world.break_with("attach", move || WiringError::Left(Box::new(unanswered().into())));
    let failed = add(&cni, "a", &world.netns()).await;
    assert_eq!(code(&failed), 105);
    assert!(failed.stdout.contains("the parent process does not answer"), "{failed:?}");
    assert_eq!(cni.registry().usage()[0].used, 1);
    world.mend();
    assert_eq!(del(&cni, "a").await.exit, 0);
    assert_eq!(world.left(&cni), Vec::<String>::new());
    // The next start clears it away as well.
    world.break_with("attach", move || WiringError::Left(Box::new(unanswered().into())));
    assert_eq!(code(&add(&cni, "b", &world.netns()).await), 105);
    assert_eq!(cni.registry().usage()[0].used, 1);
    drop(cni);
    world.mend();
    let cni = world.boot("boot", &BOTH).await;
    assert_eq!(world.left(&cni), Vec::<String>::new());
}

#[tokio::test]
async fn a_refusal_of_the_switch_and_a_dead_task_have_their_codes() {
    let world = World::new("codes");
    let cni = world.boot("boot", &BOTH).await;
    let dead = || {
        let task = tokio::spawn(std::future::pending::<()>());
        task.abort();
        task
    };
    let dead = Mutex::new(vec![dead().await.unwrap_err(), dead().await.unwrap_err()]);
    world.break_with("attach", move || match dead.lock().unwrap().pop() {
        Some(error) => error.into(),
        None => WiringError::Refused(stack::ConfigError::OverLimit { what: "ports", max: 7 }),
    });
    for (expected, says) in [(999, "task"), (999, "task"), (104, "more than 7 ports")] {
        let failed = add(&cni, "a", &world.netns()).await;
        assert_eq!(code(&failed), expected);
        assert!(failed.stdout.contains(says), "{failed:?}");
        assert_eq!(world.left(&cni), Vec::<String>::new());
    }
    world.mend();
    assert_eq!(add(&cni, "a", &world.netns()).await.exit, 0);
    assert_eq!(del(&cni, "a").await.exit, 0);
    assert_eq!(world.left(&cni), Vec::<String>::new());
}

#[tokio::test]
async fn a_collection_goes_on_after_errors_and_tells_them_all() {
    let world = World::new("collection");
    let cni = world.boot("boot", &BOTH).await;
    for container in ["a", "b", "c", "d", "kept"] {
        assert_eq!(add(&cni, container, &world.netns()).await.exit, 0);
    }
    let valid = json!([{"containerID": "kept", "ifname": "eth0"}]);
    let gc = || {
        let request = request("GC", "", "", json!({"cni.dev/valid-attachments": &valid}));
        async { cni.answer(&{ request }).await }
    };
    let there = || -> Vec<String> {
        let list = cni.registry().list();
        list.iter().map(|attachment| attachment.key.container_id.clone()).collect()
    };
    // The first and one in the middle: what comes behind them is removed all the same.
    world.break_("detach a");
    world.break_("detach c");
    for _again in 0..2 {
        let failed = gc().await;
        assert_eq!(code(&failed), 106);
        let printed: Printed = serde_json::from_str(&failed.stdout).unwrap();
        assert!(printed.msg.starts_with("2 attachments"), "{printed:?}");
        for said in ["container a", "detach a", "container c", "detach c", "os error 5"] {
            assert!(printed.details.contains(said), "{said}: {printed:?}");
        }
        assert!(!printed.details.contains("container b"), "{printed:?}");
        assert_eq!(there(), ["a", "c", "kept"], "these are still held");
    }
    world.mend();
    assert_eq!(gc().await.exit, 0);
    assert_eq!(there(), ["kept"]);
    assert_eq!(del(&cni, "kept").await.exit, 0);
    assert_eq!(world.left(&cni), Vec::<String>::new());
}

#[tokio::test]
async fn parallel_adds_share_nothing() {
    let world = World::new("parallel");
    let cni = Arc::new(world.boot("boot", &["10.1.2.0/26"]).await);
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let (cni, netns) = (cni.clone(), world.netns());
            tokio::spawn(async move { address(&add(&cni, &format!("c{n}"), &netns).await) })
        })
        .collect();
    let mut addresses = BTreeSet::new();
    for task in tasks {
        assert!(addresses.insert(task.await.unwrap()), "an address was given twice");
    }
    assert_eq!(addresses.len(), 50);
    assert!(world.node.0.at_once_max.load(Ordering::SeqCst) > 10, "they ran one by one");
    let list = cni.registry().list();
    let macs: BTreeSet<_> = list.iter().map(|attachment| attachment.mac).collect();
    let ports: BTreeSet<_> = list.iter().map(|attachment| attachment.port).collect();
    assert_eq!((macs.len(), ports.len()), (50, 50));
    for n in 0..50 {
        assert_eq!(del(&cni, &format!("c{n}")).await.exit, 0);
    }
    assert_eq!(world.left(&cni), Vec::<String>::new());
}

#[tokio::test]
async fn two_hundred_cycles_leave_nothing() {
    let world = World::new("cycles");
    let cni = Arc::new(world.boot("boot", &BOTH).await);
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let (cni, netns) = (cni.clone(), world.netns());
            tokio::spawn(async move {
                let container = format!("c{n}");
                address(&add(&cni, &container, &netns).await);
                assert_eq!(del(&cni, &container).await.exit, 0);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(world.left(&cni), Vec::<String>::new());
    let again = address(&add(&cni, "again", &world.netns()).await);
    assert_eq!(again, "10.1.2.202/24", "200 were used before, none of them comes back yet");
}

#[tokio::test]
async fn many_of_one_container_win_once() {
    let world = World::new("same");
    let cni = Arc::new(world.boot("boot", &BOTH).await);
    let netns = world.netns();
    let tasks: Vec<_> = (0..20)
        .map(|_n| {
            let (cni, netns) = (cni.clone(), netns.clone());
            tokio::spawn(async move { add(&cni, "one", &netns).await })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        let response = task.await.unwrap();
        if response.exit == 0 { won += 1 } else { assert_eq!(code(&response), 100) }
    }
    assert_eq!(won, 1);
    assert_eq!(cni.registry().usage()[0].used, 1);
    del(&cni, "one").await;
    assert_eq!(world.left(&cni), Vec::<String>::new());
}

/// Whatever the order in which they come, a DEL that comes after an ADD ends it.
#[tokio::test]
async fn a_deletion_within_an_add_waits_for_it() {
    let world = World::new("within");
    let cni = Arc::new(world.boot("boot", &BOTH).await);
    let (adder, netns) = (cni.clone(), world.netns());
    let adding = tokio::spawn(async move { add(&adder, "a", &netns).await });
    while world.node.0.at_once.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(del(&cni, "a").await.exit, 0);
    assert_eq!(adding.await.unwrap().exit, 0, "it was there for a moment");
    assert_eq!(world.left(&cni), Vec::<String>::new());
}

#[tokio::test]
async fn a_full_range_names_itself_and_is_not_available() {
    let world = World::new("full");
    let cni = world.boot("boot", &["10.1.2.0/30"]).await;
    let status = request("STATUS", "", "", Value::Null);
    assert_eq!(cni.answer(&status).await.exit, 0);
    assert_eq!(address(&add(&cni, "a", &world.netns()).await), "10.1.2.2/30");
    let full = add(&cni, "b", &world.netns()).await;
    assert_eq!(code(&full), 103);
    assert!(full.stdout.contains("10.1.2.0/30"), "{full:?}");
    let status = cni.answer(&status).await;
    assert_eq!(code(&status), 50);
    assert!(status.stdout.contains("10.1.2.0/30"), "{status:?}");
    del(&cni, "a").await;
    assert_eq!(address(&add(&cni, "b", &world.netns()).await), "10.1.2.2/30");
}

#[tokio::test]
async fn without_a_node_nothing_can_be_attached() {
    let world = World::new("nonode");
    let cni = world.boot("boot", &[]).await;
    let none = add(&cni, "a", &world.netns()).await;
    assert_eq!(code(&none), 11);
    assert!(none.stdout.contains("podCIDRs"), "{none:?}");
    assert_eq!(code(&cni.answer(&request("STATUS", "", "", Value::Null)).await), 50);
    cni.registry().set_ranges(&Range::all(&["fd00::/64".parse().unwrap()]).unwrap());
    assert_eq!(address(&add(&cni, "a", &world.netns()).await), "fd00::2/64");
    let mac = cni.registry().list()[0].mac;
    assert_eq!(mac.0[0] & 3, 2);
    world.break_("ready");
    assert_eq!(code(&cni.answer(&request("STATUS", "", "", Value::Null)).await), 50);
}

#[tokio::test]
async fn check_tells_what_the_node_says() {
    let world = World::new("check");
    let cni = world.boot("boot", &BOTH).await;
    let netns = world.netns();
    let added = add(&cni, "a", &netns).await;
    let previous: Value = serde_json::from_str(&added.stdout).unwrap();
    let check = request("CHECK", "a", &netns, json!({ "prevResult": previous }));
    assert_eq!(cni.answer(&check).await.exit, 0);
    *world.node.0.problems.lock().unwrap() = vec![Problem("eth0 is down".into())];
    let response = cni.answer(&check).await;
    assert_eq!(code(&response), 101);
    assert!(response.stdout.contains("eth0 is down"), "{response:?}");
}

#[tokio::test]
async fn a_restart_takes_back_forgets_and_reuses_no_number() {
    let world = World::new("restart");
    let cni = world.boot("boot", &BOTH).await;
    let (stays, goes) = (world.netns(), world.netns());
    let kept = address(&add(&cni, "stays", &stays).await);
    add(&cni, "goes", &goes).await;
    let ports: Vec<u32> = cni.registry().list().iter().map(|a| a.port).collect();
    let before = cni.registry().list();
    drop(cni);
    fs::remove_file(&goes).unwrap();
    // Killed within an ADD, after the interface was made.
    let stays_record = before.iter().find(|a| a.key.container_id == "stays").unwrap();
    let cni = world.boot("boot", &BOTH).await;
    let list = cni.registry().list();
    assert_eq!(list.len(), 1);
    assert_eq!(&list[0], stays_record);
    assert_eq!(world.node.0.live.lock().unwrap().len(), 1, "the gone one's link is removed");
    add(&cni, "new", &world.netns()).await;
    let new = cni.registry().list().into_iter().find(|a| a.key.container_id == "new").unwrap();
    assert!(!ports.contains(&new.port));
    assert_eq!(code(&add(&cni, "stays", &stays).await), 100);
    // The state is lost for the runtime's DEL only if the daemon forgot: it did not.
    del(&cni, "stays").await;
    del(&cni, "new").await;
    assert_eq!(world.left(&cni), Vec::<String>::new());
    assert!(kept.starts_with("10.1.2.2"));
}

#[tokio::test]
async fn killed_within_an_add_leaks_nothing() {
    let world = World::new("killed");
    let cni = world.boot("boot", &BOTH).await;
    let netns = world.netns();
    add(&cni, "a", &netns).await;
    drop(cni);
    // As the file stood before the ADD was confirmed: state is a field like any other.
    let (store, loaded) = store::Store::open(&world.state()).unwrap();
    let mut begun = loaded.attachments[0].clone();
    begun.state = super::attachment::State::Wiring;
    store.write(&begun, true).unwrap();
    let cni = world.boot("boot", &BOTH).await;
    assert_eq!(world.left(&cni), Vec::<String>::new());
    assert_eq!(add(&cni, "a", &netns).await.exit, 0, "the runtime may try again");
}

#[tokio::test]
async fn another_boot_forgets_all() {
    let world = World::new("reboot");
    let cni = world.boot("one", &BOTH).await;
    let first = address(&add(&cni, "a", &world.netns()).await);
    drop(cni);
    let cni = world.boot("two", &BOTH).await;
    assert_eq!(cni.registry().list().len(), 0);
    assert_ne!(address(&add(&cni, "b", &world.netns()).await), first, "the longest freed first");
}

#[tokio::test]
async fn a_start_tells_what_is_not_as_it_was_and_sweeps_what_nobody_owns() {
    let world = World::new("differs");
    let cni = world.boot("boot", &BOTH).await;
    add(&cni, "a", &world.netns()).await;
    let own = cni.registry().list()[0].host_ifname.clone();
    *world.node.0.ends.lock().unwrap() = ["hvstranger".to_owned(), own.clone()].into();
    drop(cni);
    let (cni, found) = world.reboot().await;
    assert_eq!((found.taken_back, found.differing.len(), found.left), (1, 0, None));
    assert_eq!(*world.node.0.ends.lock().unwrap(), [own].into());
    drop(cni);
    *world.node.0.problems.lock().unwrap() = vec![Problem("eth0 is down".into())];
    world.break_("sweep");
    let (cni, found) = world.reboot().await;
    assert_eq!(found.taken_back, 1, "it works, as far as it can");
    let [(attachment, why)] = found.differing.as_slice() else { panic!("{found:?}") };
    assert_eq!(attachment.key.container_id, "a");
    assert!(why.contains("eth0 is down") && why.contains("delete the pod"), "{why}");
    assert!(found.left.is_some_and(|why| why.contains("os error 5")));
    drop(cni);
    world.break_("take_back");
    let (cni, found) = world.reboot().await;
    assert!(found.differing[0].1.contains("no network"), "{found:?}");
    assert_eq!((found.taken_back, found.differing.len()), (0, 1));
    del(&cni, "a").await;
    assert_eq!(world.left(&cni), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_taken_back_keeps_its_address() {
    let world = World::new("stuck");
    let cni = world.boot("boot", &["10.1.2.0/29"]).await;
    let held = address(&add(&cni, "a", &world.netns()).await);
    drop(cni);
    world.break_("take_back");
    let cni = world.boot("boot", &["10.1.2.0/29"]).await;
    for n in 0..4 {
        assert_ne!(address(&add(&cni, &format!("b{n}"), &world.netns()).await), held);
    }
    assert_eq!(code(&add(&cni, "c", &world.netns()).await), 103);
    assert_eq!(del(&cni, "a").await.exit, 0);
    assert_eq!(address(&add(&cni, "c", &world.netns()).await), held);
}

#[tokio::test]
async fn freed_order_survives_restarts_and_other_ranges() {
    let world = World::new("order");
    let cni = world.boot("boot", &["10.1.2.0/29"]).await;
    for n in 0..5 {
        add(&cni, &format!("c{n}"), &world.netns()).await;
    }
    for n in [3, 1, 4] {
        del(&cni, &format!("c{n}")).await;
    }
    drop(cni);
    let cni = world.boot("boot", &[]).await;
    cni.registry().set_ranges(&Range::all(&["10.9.0.0/24".parse().unwrap()]).unwrap());
    assert_eq!(address(&add(&cni, "x", &world.netns()).await), "10.9.0.2/24");
    cni.registry().set_ranges(&Range::all(&["10.1.2.0/29".parse().unwrap()]).unwrap());
    for last in [5, 3, 6] {
        let next = address(&add(&cni, &format!("d{last}"), &world.netns()).await);
        assert_eq!(next, format!("10.1.2.{last}/29"));
    }
    assert_eq!(code(&add(&cni, "e", &world.netns()).await), 103);
}

#[tokio::test]
async fn damaged_files_are_set_aside_and_new_ones_refused() {
    let world = World::new("damaged");
    let cni = world.boot("boot", &BOTH).await;
    for container in ["a", "b", "c"] {
        add(&cni, container, &world.netns()).await;
    }
    drop(cni);
    let path = |container: &str| {
        let stem = deletion::file_stem(container, "eth0");
        world.state().join(format!("attachments/{stem}.json"))
    };
    let mode = fs::metadata(path("a")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(path("a")).unwrap();
    fs::write(path("a"), text.replace("10.1.2.2/24", "10.1.2.9/24")).unwrap();
    fs::write(path("b"), &text[..text.len() / 2]).unwrap();
    fs::copy(path("c"), path("d")).unwrap();
    fs::write(path("e").with_extension("new"), "half").unwrap();
    // Two owners of one address: the second file is wrong, whole as it is.
    let (store, loaded) = store::Store::open(&world.state()).unwrap();
    let mut twice = loaded.attachments[0].clone();
    twice.key.container_id = "z".into();
    twice.port += 100;
    store.write(&twice, true).unwrap();
    let cni = world.boot("boot", &BOTH).await;
    let list = cni.registry().list();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].key.container_id, "c");
    assert_eq!(fs::read_dir(world.state().join("damaged")).unwrap().count(), 4);
    assert_eq!(cni.registry().damaged().len(), 4);
    drop(cni);
    // Until somebody has seen to them they are told at each start.
    let cni = world.boot("boot", &BOTH).await;
    assert_eq!(cni.registry().damaged().len(), 4);
    drop(cni);
    let newer = fs::read_to_string(path("c")).unwrap().replace("\"schema\":1", "\"schema\":2");
    fs::write(path("c"), newer).unwrap();
    let error = world.open("boot", &BOTH).err().unwrap().to_string();
    assert!(error.contains("schema 2"), "{error}");
    assert!(path("c").exists(), "what a newer daemon wrote is left as it is");
    fs::set_permissions(world.state(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(world.open("boot", &BOTH).err().unwrap().to_string().contains("chmod 0700"));
}

#[tokio::test]
async fn recorded_deletions_are_carried_out() {
    let world = World::new("recorded");
    let cni = world.boot("boot", &BOTH).await;
    add(&cni, "a", &world.netns()).await;
    let run_dir = world.root.join("run");
    fs::create_dir_all(&run_dir).unwrap();
    let directory = deletion::directory(&run_dir.join(server::SOCKET));
    let gone = request("DEL", "a", "", Value::Null);
    deletion::record(&directory, "a", "eth0", &gone).unwrap();
    let add = request("ADD", "b", &world.netns(), Value::Null);
    deletion::record(&directory, "b", "eth0", &add).unwrap();
    fs::write(directory.join("junk.json"), "{").unwrap();
    // Left by a plugin that was killed as it wrote; and one that is being written now.
    let stem = deletion::file_stem("c", "eth0");
    let dead = directory.join(format!(".{stem}.{}", u32::MAX));
    let alive = directory.join(format!(".{stem}.{}", std::process::id()));
    fs::write(&dead, "{").unwrap();
    fs::write(&alive, "{").unwrap();
    assert_eq!(server::carry_out_deletions(&run_dir, &cni).await.unwrap(), 1);
    assert_eq!(world.left(&cni), Vec::<String>::new());
    assert_eq!((dead.exists(), alive.exists()), (false, true));
    fs::remove_file(&alive).unwrap();
    let names = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    assert!(names.into_iter().all(|path| path.extension().unwrap() == "damaged"));
    assert_eq!(server::carry_out_deletions(&run_dir, &cni).await.unwrap(), 0);
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
    let open = server::carry_out_deletions(&run_dir, &cni).await.unwrap_err().to_string();
    assert!(open.contains("written to by others"), "{open}");
}

#[tokio::test]
async fn the_socket_is_private_and_survives_junk() {
    let world = World::new("junk");
    let run_dir = world.root.join("run");
    let cni = Arc::new(world.boot("boot", &BOTH).await);
    let listener = server::bind(&run_dir).unwrap();
    assert!(server::bind(&run_dir).unwrap_err().to_string().contains("another vswitchd"));
    let socket = run_dir.join(server::SOCKET);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&run_dir), mode(&socket)), (0o700, 0o600));
    let listener = server::open(listener).unwrap();
    let serving = tokio::spawn(server::serve(listener, cni, Admission::new(Gate::default())));
    for junk in [&[0xff; 4][..], &[0; 4], b"\x02\0\0\0{}", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, junk).await.unwrap();
        let mut answer = Vec::new();
        // A reset instead of an end is as good: there is no answer.
        drop(tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await);
        assert_eq!(answer, Vec::<u8>::new());
    }
    let silent = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let status = request("STATUS", "", "", json!({"socket": socket}));
    let (environment, stdin) = (status.environment, status.stdin);
    let asked = tokio::task::spawn_blocking(move || plugin::run(environment, || Ok(stdin)));
    assert_eq!(asked.await.unwrap().exit, 0);
    drop(silent);
    serving.abort();
    drop(serving.await);
    // What a killed daemon leaves is no other daemon.
    assert!(socket.exists());
    drop(server::bind(&run_dir).unwrap());
    fs::set_permissions(&run_dir, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(server::bind(&run_dir).unwrap_err().to_string().contains("run-dir"));
}

//! The API over its socket: a real event loop with a real switch, pods that are ends of socket
//! pairs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use recording::Excerpt;
use serde_json::{Value, json};
use stack::wire::build::flags;
use stack::{Frame, Instant, PortId};
use tokio::sync::oneshot;

use super::capture::{Captures, ID_HEADER};
use super::objects::{Attachment, Check, Lease, Object, Problem, Upkeep, Worker};
use super::record::{ExcerptError, Excerpts, RecordRequest};
use super::{Context, Sources, serve, socket};
use crate::capture::pcapng::read::{Block, Reader};
use crate::capture::world::{A, B, World, bridged, v4};
use crate::cli::Failure;
use crate::cli::client::Client;
use crate::event_loop::{self, Handle};
use crate::port::{Capabilities, Losses, Pool, PortIo};
use crate::settings::Given;
use crate::triggers::Keeper;

/// A device whose other end the test holds.
struct Wire(UnixDatagram);

impl PortIo for Wire {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn receive(&mut self, pool: &mut Pool) -> io::Result<Option<Frame>> {
        let mut frame = pool.take();
        frame.set_len(2_000);
        match self.0.recv(frame.bytes_mut()) {
            Ok(len) => frame.set_len(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(Some(frame))
    }

    fn transmit(&mut self, frame: &mut Frame) -> io::Result<()> {
        self.0.send(frame.bytes()).map(drop)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn losses(&mut self) -> io::Result<Losses> {
        Ok(Losses::default())
    }
}

struct Parts;

impl Sources for Parts {
    fn node_name(&self) -> String {
        "n1".into()
    }

    fn worker(&self) -> Worker {
        Worker {
            pid: 7,
            parent_pid: 6,
            restarts: 1,
            last_end: Some("killed by SIGKILL".into()),
            takeover: None,
        }
    }

    fn upkeep(&self) -> Upkeep {
        Upkeep { mended: 2, last: Some("a rule".into()), last_seconds: Some(3), wrong: None }
    }

    fn uptime(&self) -> Duration {
        Duration::from_secs(61)
    }

    fn ready(&self) -> Result<(), String> {
        Err("waiting for the Node".into())
    }

    fn problems(&self) -> Vec<Problem> {
        vec![Problem { object: "pods.yaml:3".into(), message: "no such field".into() }]
    }

    fn leases(&self) -> Vec<Lease> {
        vec![Lease { address: "10.1.0.2".into(), pod: "a".into(), ..Lease::default() }]
    }

    fn attachments(&self) -> Vec<Attachment> {
        vec![Attachment { port: A.0, link: "tap".into(), ..Attachment::default() }]
    }

    fn check(&self) -> Vec<Check> {
        vec![Check { name: "tun".into(), ok: false, ..Check::default() }]
    }
}

/// A journal that begins a minute ago.
struct Kept(Excerpt);

impl Excerpts for Kept {
    fn excerpt(&self, since: Option<Instant>) -> Result<Excerpt, ExcerptError> {
        let horizon = Instant(1);
        match since {
            Some(since) if since < horizon => {
                Err(ExcerptError::BeyondHorizon { horizon: Some(horizon) })
            }
            _ => Ok(self.0.clone()),
        }
    }
}

/// A daemon's admin side, and the pods' ends.
struct Daemon {
    client: Client,
    handle: Handle,
    captures: Captures,
    run_dir: PathBuf,
    a: UnixDatagram,
    b: UnixDatagram,
    _stop: oneshot::Sender<()>,
}

fn attach(handle: &Handle, port: PortId) -> UnixDatagram {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    handle.attach(port, Box::new(Wire(theirs))).unwrap();
    ours
}

async fn daemon(name: &str) -> Daemon {
    let mut world = World::new();
    world.traffic();
    let journal = Arc::new(Kept(world.excerpt()));
    let world = World::new();
    let (handle, _thread) = event_loop::start(world.switch).unwrap();
    let run_dir = std::env::temp_dir().join(format!("hopscope-{}-{name}", std::process::id()));
    let listener =
        socket::Listener::new(socket::bind(&run_dir).unwrap(), crate::gate::Gate::default())
            .unwrap();
    let captures = Captures::default();
    let state_dir = Some(run_dir.join("state"));
    let given = Given { manifests: Some("/m".into()), state_dir, ..Given::default() };
    let settings = given.resolve("n1").unwrap();
    let context = Context {
        handle: handle.clone(),
        directory: world.names,
        sources: Arc::new(Parts),
        past: None,
        captures: captures.clone(),
        journal,
        keeper: Arc::new(Keeper::idle(&settings)),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    drop(tokio::spawn(serve(listener, context, async { drop(stopped.await) })));
    let (a, b) = (attach(&handle, A), attach(&handle, B));
    // A frame from a that is read before b is attached would be lost.
    handle.ask(|_| ()).await.unwrap();
    Daemon { client: Client::new(&run_dir), handle, captures, run_dir, a, b, _stop: stop }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let stopped = self.handle.stop();
        assert!(stopped.is_ok() || std::thread::panicking(), "the loop still runs");
        drop(std::fs::remove_dir_all(&self.run_dir));
    }
}

impl Daemon {
    /// Sends a datagram from a to b, and waits until it is there.
    fn send(&self, payload: &[u8]) {
        let frame = bridged(A, B).ipv4(v4(A), v4(B)).udp(1, 2, payload);
        self.a.send(&frame).unwrap();
        let mut read = [0; 2_000];
        let len = self.b.recv(&mut read).unwrap();
        assert_eq!(read[..len], frame);
    }

    async fn refused(&self, path: &str, body: Value) -> (String, String) {
        match self.client.post::<Value>(path, &body).await {
            Err(Failure::Usage(message, hint)) => (message, hint),
            other => panic!("{path} {body}: {other:?}"),
        }
    }

    /// Waits for the loop to have taken in what was sent to it.
    async fn settled(&self) {
        self.handle.ask(|_| ()).await.unwrap();
    }
}

#[tokio::test]
async fn the_socket_is_for_its_owner_alone() {
    let daemon = daemon("socket").await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&daemon.run_dir), 0o700);
    assert_eq!(mode(&daemon.run_dir.join(socket::NAME)), 0o600);
}

#[tokio::test]
async fn every_list_says_its_kind_and_has_its_entries() {
    let daemon = daemon("lists").await;
    daemon.send(b"one");
    let lists = [
        ("ports", "PortList", 5),
        ("fdb", "FdbEntryList", 5),
        ("routes", "RouteList", 4),
        ("neighbors", "NeighborList", 14),
        ("drops", "DropList", 0),
        ("counters", "CounterList", 5),
        ("leases", "LeaseList", 1),
        ("conntrack?protocol=udp", "ConnectionList", 1),
        ("conntrack?protocol=tcp", "ConnectionList", 0),
        ("services", "ServiceList", 0),
        ("backends", "BackendList", 0),
    ];
    for (path, kind, count) in lists {
        let list: Value = daemon.client.get(&format!("/v1/{path}")).await.unwrap();
        assert_eq!((&list["apiVersion"], &list["kind"]), (&json!("hopscope.dev/v1"), &json!(kind)));
        assert_eq!(list["items"].as_array().unwrap().len(), count, "{list}");
    }
    let ports: Value = daemon.client.get("/v1/ports").await.unwrap();
    let a = &ports["items"].as_array().unwrap()[2];
    assert_eq!(
        (&a["name"], &a["link"], &a["received"]),
        (&json!("pod/demo/a"), &json!("tap"), &json!(1))
    );
    assert_eq!(a["mac"], json!("02:00:00:00:00:02"));
    let counters: Value = daemon.client.get("/v1/counters").await.unwrap();
    let b = &counters["items"].as_array().unwrap()[3];
    assert_eq!(
        (&b["port"], &b["transmitted"], &b["written"]),
        (&json!("pod/demo/b"), &json!(1), &json!(1))
    );
    let status: Value = daemon.client.get("/v1/status").await.unwrap();
    assert_eq!(status["traffic"]["forwarded"], json!(1));
    assert_eq!(
        (&status["ready"], &status["reason"]),
        (&json!(false), &json!("waiting for the Node"))
    );
    assert_eq!(status["problems"][0]["object"], json!("pods.yaml:3"));
    let check: Value = daemon.client.get("/v1/check").await.unwrap();
    assert_eq!(check["passed"], json!(false));
}

#[tokio::test]
async fn a_trace_is_the_walk_that_follows() {
    let daemon = daemon("trace").await;
    let request = json!({"from": "demo/a", "to": "demo/b", "protocol": "tcp", "l4Port": 80});
    let trace: Value = daemon.client.post("/v1/trace", &request).await.unwrap();
    assert_eq!((&trace["kind"], &trace["passed"]), (&json!("TraceResult"), &json!(true)));
    assert_eq!(trace["verdict"], json!({"type": "forward", "port": "pod/demo/b"}));
    let lines: Vec<_> =
        trace["hops"].as_array().unwrap().iter().map(|hop| hop["line"].clone()).collect();

    let capture = json!({"points": "allHops", "count": 1});
    let response = daemon.client.stream("/v1/capture", &capture).await.unwrap();
    daemon.settled().await;
    let frame = bridged(A, B).ipv4(v4(A), v4(B)).tcp((40_000, 80), flags::SYN, 1, 0, &[]);
    daemon.a.send(&frame).unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let shown: Vec<_> = packets(&body).into_iter().map(|comment| json!(comment)).collect();
    let lines: Vec<_> =
        lines.iter().map(|line| json!(format!("{}; walk 1", line.as_str().unwrap()))).collect();
    assert_eq!(shown, lines);

    let of = |from: &str, to: &str| json!({"from": from, "to": to});
    let nobody: Value = daemon.client.post("/v1/trace", &of("demo/a", "10.1.0.77")).await.unwrap();
    assert_eq!(nobody["verdict"]["reason"], json!("NeighborUnknown"));
    let outside: Value =
        daemon.client.post("/v1/trace", &of("203.0.113.1", "demo/b")).await.unwrap();
    assert_eq!((&outside["ingress"], &outside["passed"]), (&json!("host"), &json!(true)));
    let six: Value = daemon.client.post("/v1/trace", &of("demo/a", "fd00:1::3")).await.unwrap();
    assert_eq!((&six["source"], &six["passed"]), (&json!("fd00:1::2"), &json!(true)));
}

#[tokio::test]
async fn a_trace_has_the_hop_limit_and_the_size_it_is_asked_for() {
    let daemon = daemon("sized").await;
    // A pod with an MTU of 1,280 bytes.
    let asked = async |what: &Value| {
        let mut request = json!({"from": "node", "to": "demo/c", "l4Port": 80});
        request.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
        let trace: Value = daemon.client.post("/v1/trace", &request).await.unwrap();
        (trace["passed"].as_bool().unwrap(), trace["hops"].to_string())
    };
    for (protocol, headers) in [("icmp", 28), ("udp", 28), ("tcp", 40)] {
        for (mut what, passes, tells) in [
            (json!({"hopLimit": 2}), true, "forward to pod/demo/c"),
            (json!({"hopLimit": 1}), false, "ICMP type 11 code 0"),
            (json!({"size": headers}), true, "forward to pod/demo/c"),
            (json!({"size": 1_280}), true, "forward to pod/demo/c"),
            (json!({"size": 1_280, "family": 6}), true, "forward to pod/demo/c"),
            (json!({"size": 1_281}), false, "ICMP type 3 code 4"),
            (json!({"size": 1_281, "family": 6}), false, "ICMP type 2 code 0"),
            (json!({"size": 1_281, "mayFragment": true}), true, "forward to pod/demo/c"),
        ] {
            what["protocol"] = json!(protocol);
            let (passed, hops) = asked(&what).await;
            assert_eq!(passed, passes, "{what}: {hops}");
            assert!(hops.contains(tells), "{what}: {hops}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_reason() {
    let daemon = daemon("refused").await;
    let cases = [
        ("/v1/trace", json!({"from": "demo/zz", "to": "node"}), "no pod demo/zz"),
        ("/v1/trace", json!({"from": "web", "to": "node"}), "web: neither"),
        ("/v1/trace", json!({"from": "demo/a", "to": "svc/demo/x"}), "no Service of this name"),
        ("/v1/trace", json!({"from": "10.1.0.1", "to": "demo/a"}), "only answers"),
        ("/v1/trace", json!({"from": "demo/a", "to": "fd00:1::3", "family": 4}), "no IPv4"),
        ("/v1/trace", json!({"from": "demo/a"}), "missing field `to`"),
        ("/v1/trace", json!({"from": "demo/a", "to": "node", "size": 27}), "headers alone take 28"),
        ("/v1/trace", json!({"from": "demo/a", "to": "node", "size": 65_536}), "65536"),
        ("/v1/capture", json!({"scope": "pod/demo/zz"}), "no port is named pod/demo/zz"),
        ("/v1/capture", json!({"points": {"hops": ["l9"]}}), "no hop is named"),
        ("/v1/capture", json!({"program": []}), "1 to 4096 instructions"),
        ("/v1/nothing", json!({}), "nothing at /v1/nothing"),
        ("/v1/ports", json!({}), "does not take POST"),
    ];
    for (path, body, message) in cases {
        let (told, _) = daemon.refused(path, body).await;
        assert!(told.contains(message), "{path}: {told}");
    }
    assert_eq!(daemon.captures.running(), 0);
}

/// Comments of a whole file's packets. Asserts that the file has its end, and lost nothing.
fn packets(file: &[u8]) -> Vec<String> {
    let mut reader = Reader::default();
    reader.push(file);
    let (mut comments, mut ended) = (Vec::new(), false);
    while let Some((block, _)) = reader.block().unwrap() {
        match block {
            Block::Packet(packet) => comments.push(packet.comment),
            Block::Statistics(_, counts) => {
                assert_eq!(counts.lost, 0);
                ended = true;
            }
            Block::Section | Block::Interface(_) | Block::Other => {}
        }
    }
    assert!(ended, "the file has its end");
    comments
}

#[tokio::test]
async fn a_stopped_capture_has_its_end() {
    let daemon = daemon("stopped").await;
    let response = daemon.client.stream("/v1/capture", &json!({})).await.unwrap();
    let id = response.headers()[ID_HEADER].to_str().unwrap().to_owned();
    daemon.settled().await;
    assert_eq!(daemon.captures.running(), 1);
    for _ in 0..3 {
        daemon.send(b"seen");
    }
    daemon.settled().await;
    daemon.client.delete(&format!("/v1/capture/{id}")).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(packets(&body).len(), 6);
    assert!(daemon.client.delete("/v1/capture/99").await.is_err());
}

#[tokio::test]
async fn a_capture_ends_with_its_reader_and_its_time() {
    let daemon = daemon("ends").await;
    let response = daemon.client.stream("/v1/capture", &json!({"durationMs": 50})).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(packets(&body).is_empty());

    let gone = daemon.client.stream("/v1/capture", &json!({})).await.unwrap();
    daemon.settled().await;
    drop(gone);
    for _ in 0..100 {
        if daemon.captures.running() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(daemon.captures.running(), 0);
    daemon.send(b"forwarding goes on");
}

#[tokio::test]
async fn captures_are_limited() {
    let daemon = daemon("limited").await;
    let mut running = Vec::new();
    for _ in 0..16 {
        running.push(daemon.client.stream("/v1/capture", &json!({})).await.unwrap());
    }
    let (message, _) = daemon.refused("/v1/capture", json!({})).await;
    assert!(message.contains("16 captures run already"), "{message}");
    daemon.captures.stop_all();
    for response in running {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(packets(&body).is_empty());
    }
}

#[tokio::test]
async fn a_recording_replays_and_a_moment_beyond_the_horizon_is_told() {
    let daemon = daemon("record").await;
    let mut request = Object::new(RecordRequest { since_ms: None });
    let response = daemon.client.stream("/v1/record", &request).await.unwrap();
    let file = response.into_body().collect().await.unwrap().to_bytes();
    let (_, start, ending) = Excerpt::read(&file).unwrap();
    assert!(start.build.starts_with("vswitchd ") && !ending.cut && ending.records > 20);
    let mut replayer = recording::Replayer::new(1);
    replayer.push(&file);
    replayer.finish();
    while !matches!(replayer.turn().unwrap(), recording::Turn::End(_)) {}
    request.body.since_ms = Some(u64::MAX);
    let refused = daemon.client.stream("/v1/record", &request).await.unwrap_err();
    let Failure::Negative(message) = refused else { panic!("{refused:?}") };
    assert!(message.contains("it begins") && message.contains(" s ago, at 2"), "{message}");
    assert!(message.contains("journal-size"), "{message}");
}

#[tokio::test]
async fn hopctl_records_whole_or_without_payload() {
    use crate::cli::args::{Format, Record};
    let daemon = daemon("hopctl-record").await;
    let output = crate::cli::output::Output::plain(Format::Table);
    let mut sizes = Vec::new();
    for redact in [false, true] {
        let write = daemon.run_dir.join(format!("{redact}.pcapng"));
        let args = Record { write: write.clone(), since: None, redact };
        crate::cli::record::record(&args, &daemon.client, &output).await.unwrap();
        let file = std::fs::read(&write).unwrap();
        assert_eq!(write.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let (excerpt, start, _) = Excerpt::read(&file).unwrap();
        assert_eq!(start.redacted, redact);
        let says = |text: &[u8]| file.windows(text.len()).any(|bytes| bytes == text);
        assert_ne!(says(b"GET / HTTP/1.0"), redact, "payload");
        assert!(says(b"pod/demo/a"), "names");
        sizes.push(excerpt.records.len());
    }
    assert_eq!(sizes.first(), sizes.last());
}

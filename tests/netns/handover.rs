//! A second daemon takes over from the one that runs, and nobody notices.

use std::process::Command;
use std::time::Duration;

use lab::cni::Attachment;
use lab::process::Process;
use lab::{Namespace, Pod, binaries};
use serde_json::Value;

use crate::state::listed;
use crate::{KINDS, World, state};

mod faults;
mod version;

/// How often a daemon is followed by the next.
const TIMES: u32 = 20;
/// Datagrams a second, unless `HOPSCOPE_LAB_RATE` says otherwise: what builds for tests carry on a
/// machine that others use as well. An interface's queue of 1,000 lasts half a second at that; at
/// 5,000 one run in the suite lost 69 in a queue, for a reason not found. The project is judged by
/// 50,000 with the builds for users.
const RATE: u64 = 2_000;
/// Frames that the queue of a pod's interface holds, if `HOPSCOPE_LAB_QUEUE` says so: on a machine
/// that others use as well the default overflows without any hand-over.
const QUEUE: &str = "HOPSCOPE_LAB_QUEUE";
/// Time for anything to happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn worker(world: &World) -> Value {
    world.hopctl_json(&["status"]).unwrap()["worker"].clone()
}

fn pid(worker: &Value, key: &str) -> u32 {
    u32::try_from(worker[key].as_u64().unwrap()).unwrap()
}

fn ping(from: &Pod, to: &Pod) {
    for to in [to.v4().unwrap().to_string(), to.v6().unwrap().to_string()] {
        from.run("ping", &["-c", "1", "-W", "2", &to]).unwrap();
    }
}

fn start_lab(pod: &Pod, args: &[&str]) -> Process {
    let mut command = Command::new(binaries::lab().unwrap());
    command.args(args);
    pod.spawn(command).unwrap()
}

/// What must be as before.
fn kept(world: &World) -> [Vec<String>; 2] {
    [
        listed(world, "leases", &["address", "pod", "containerId"]),
        listed(world, "ports", &["name", "id", "mac", "addresses", "up"]),
    ]
}

/// Numbered datagrams from one pod to another at a steady pace.
struct Stream {
    sender: Process,
    receiver: Process,
    count: u64,
    rate: u64,
}

impl Stream {
    fn start(from: &Pod, to: &Pod, seconds: u64) -> Self {
        let given = std::env::var("HOPSCOPE_LAB_RATE").ok();
        let rate = given.map_or(RATE, |rate| rate.parse().unwrap());
        let receiver = to.serve(&["pace-receive", "--listen", "0.0.0.0:9000"]).unwrap();
        let target = format!("{}:9000", to.v4().unwrap());
        let (interval, count) = ((1_000_000 / rate).to_string(), rate * seconds);
        let text = count.to_string();
        let pace = ["pace-send", "--to", &target, "--interval-us", &interval, "--count", &text];
        // On one core: a veth queues by core, and a sender that changes it overtakes itself.
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(binaries::lab().unwrap()).args(pace);
        let sender = from.spawn(command).unwrap();
        Self { sender, receiver, count, rate }
    }

    /// Waits for its end: every datagram has come, in order.
    fn whole(self) {
        let count = self.count;
        let (said, received) = self.end();
        println!("{said}");
        let whole = format!("received {count} lost 0 reordered 0");
        assert_eq!(received, whole, "{said}");
    }

    /// Waits for its end: every datagram has come. A veth queues by the core that wrote: when the
    /// switch's thread is moved to another one, as it is when processes begin and die, one may
    /// overtake another in the kernel.
    fn all_came(self) {
        let count = self.count;
        let (said, received) = self.end();
        println!("{said}");
        let in_order = format!("received {count} lost 0 reordered 0");
        let one_late = format!("received {count} lost 0 reordered 1");
        assert!(received == in_order || received == one_late, "{said}");
    }

    /// Waits for its end: said is all, and of it what the receiver said.
    fn end(self) -> (String, String) {
        let sent = self.sender.finish(Duration::from_secs(180)).unwrap().success().unwrap();
        let received = self.receiver.finish(PATIENCE).unwrap().success().unwrap();
        let last = |text: &str| text.lines().last().unwrap_or_default().to_owned();
        let (sent, received) = (last(&sent.stdout), last(&received.stdout));
        let took: u64 = sent.rsplit(' ').next().unwrap().parse().unwrap();
        let reached = self.count * 1_000_000 / took;
        let said = format!("{} a second meant, {reached} reached; {sent}; {received}", self.rate);
        (said, received)
    }
}

/// Hands over to a daemon of that command; for how long nobody read the ports, in microseconds.
fn hand_over(world: &mut World, command: Command) -> u64 {
    let before = worker(world);
    let old = world.hand_over_to(command).unwrap();
    let now = worker(world);
    assert_ne!(pid(&before, "pid"), pid(&now, "pid"));
    assert_eq!(now["takeover"]["fromPid"], before["parentPid"], "{now}");
    let parent = world.daemon().unwrap().id();
    assert_eq!(pid(&now, "parentPid"), parent);
    let last = old.stderr.lines().last().unwrap_or_default();
    let told = last.contains("handed over") && last.contains(&parent.to_string());
    assert!(told, "{}", old.stderr);
    now["takeover"]["blindUs"].as_u64().unwrap()
}

fn told(mut blind: Vec<u64>) -> String {
    blind.sort_unstable();
    let at = |share: usize| blind[(blind.len() - 1) * share / 100];
    format!("ports unread for {} us (p50), {} us (most)", at(50), at(100))
}

#[test]
fn no_datagram_is_lost_and_none_is_late() {
    for kind in KINDS {
        let mut world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        if let Ok(frames) = std::env::var(QUEUE) {
            a.ip(&["link", "set", "eth0", "txqueuelen", &frames]).unwrap();
        }
        // What the sender and this machine do by themselves.
        println!("{kind}, no hand-over:");
        Stream::start(&a, &b, 3).whole();
        let before = kept(&world);
        let stream = Stream::start(&a, &b, u64::from(TIMES) / 2 + 2);
        let mut blind = Vec::new();
        for _ in 0..TIMES {
            std::thread::sleep(Duration::from_millis(200));
            let command = world.daemon_command().unwrap();
            blind.push(hand_over(&mut world, command));
        }
        println!("{kind}, {TIMES} hand-overs, {}:", told(blind));
        stream.whole();
        assert_eq!(kept(&world), before);
        [&a, &b].into_iter().for_each(|pod| pod.check().unwrap());
        let [c] = world.pods(["c"]);
        ping(&c, &a);
        world.settle(&[]);
        [a, b, c].into_iter().for_each(|pod| pod.remove().unwrap());
        assert_eq!(state::left(&world), Vec::<String>::new());
    }
}

#[test]
fn connections_do_not_notice() {
    for kind in KINDS {
        let mut world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let to = b.v4().unwrap().to_string();
        let iperf = |pod: &Pod, args: &[&str]| {
            let mut command = Command::new("iperf3");
            command.args(["-p", "5201"]).args(args);
            pod.spawn(command).unwrap()
        };
        let _iperf_server = iperf(&b, &["-s"]);
        let _http_server = b.serve(&["http", "--keep-alive", "--listen", "[::]:80"]).unwrap();
        let asks = format!("[{}]:80", b.v6().unwrap());
        let http = ["http-ask", "--to", &asks, "--connections", "50", "--seconds", "12"];
        let mut http = start_lab(&a, &http);
        http.wait_ready(PATIENCE).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        let iperf = iperf(&a, &["-c", &to, "-t", "12", "-b", "200M"]);
        std::thread::sleep(Duration::from_millis(500));
        let mut blind = Vec::new();
        for _ in 0..TIMES {
            std::thread::sleep(Duration::from_millis(300));
            let command = world.daemon_command().unwrap();
            blind.push(hand_over(&mut world, command));
        }
        let http = http.finish(Duration::from_secs(60)).unwrap().success().unwrap();
        let iperf = iperf.finish(Duration::from_secs(60)).unwrap().success().unwrap();
        let iperf = iperf.stdout.lines().rev().nth(2).unwrap_or_default().to_owned();
        println!("{kind}: {}, {iperf}, {}", http.stdout.trim().replace('\n', ", "), told(blind));
        world.settle(&[]);
    }
}

/// Namespaces of pods to be, with what a runtime asks for them.
fn unwired(world: &World, names: &[String]) -> Vec<(Namespace, Attachment)> {
    let namespace = |name: &String| {
        let netns = Namespace::new(world.netns.owner(), name).unwrap();
        let attachment = Attachment {
            container_id: name.clone(),
            netns: netns.path().to_string_lossy().into_owned(),
            ifname: "eth0".to_owned(),
            pod: ("default".to_owned(), name.clone()),
        };
        (netns, attachment)
    };
    names.iter().map(namespace).collect()
}

#[test]
fn pods_come_and_go_amid_a_hand_over() {
    for kind in KINDS {
        let mut world = World::new(kind);
        let names: Vec<String> = (0..12).map(|n| format!("w{n}")).collect();
        let pods = unwired(&world, &names);
        let runtime = world.runtime();
        let configuration = runtime.configuration(lab::cni::VERSION);
        for _ in 0..3 {
            std::thread::scope(|scope| {
                let asked = scope.spawn(|| {
                    for (_, attachment) in &pods {
                        runtime.add(attachment, &configuration).unwrap();
                    }
                });
                world.hand_over().unwrap();
                asked.join().unwrap();
            });
            assert_eq!(listed(&world, "leases", &["containerId"]).len(), 2 * pods.len());
            assert_eq!(worker(&world)["restarts"], 0);
            std::thread::scope(|scope| {
                let asked = scope.spawn(|| {
                    for (_, attachment) in &pods {
                        runtime.del(attachment, None).unwrap();
                    }
                });
                world.hand_over().unwrap();
                asked.join().unwrap();
            });
            assert_eq!(state::left(&world), Vec::<String>::new(), "{kind}");
        }
        world.settle(&["PortUnknown", "PortDown", "EgressDown"]);
    }
}

#[test]
fn what_the_next_one_is_told_holds_from_its_first_moment() {
    let mut world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    let own = std::fs::read_dir(world.manifests()).unwrap().flatten().next().unwrap().path();
    let text = std::fs::read_to_string(&own).unwrap();
    world.set("mtu", 1400);
    // It reads what the old one has not seen yet, since that one is busy with its hand-over.
    std::fs::write(&own, text.replace("192.0.2.11", "192.0.2.12")).unwrap();
    world.netns.ip(&["addr", "add", "192.0.2.12/24", "dev", "up0"]).unwrap();
    world.hand_over().unwrap();
    let shown = world.netns.ip(&["link", "show", "hop0"]).unwrap();
    assert!(shown.contains("mtu 1400 "), "{shown}");
    a.run("ping", &["-c", "1", "-W", "2", "192.0.2.12"]).unwrap();
    ping(&a, &b);
    // A capture that runs ends with its daemon; the file is whole.
    let file = world.file("until.pcapng");
    let capture = world.capture(&file, &[]).unwrap();
    ping(&a, &b);
    world.hand_over().unwrap();
    let notices = capture.finish().unwrap().stderr;
    assert!(notices.contains("another one takes over"), "{notices}");
    assert!(std::fs::metadata(&file).unwrap().len() > 500);
    ping(&b, &a);
    world.settle(&[]);
}

//! Daemons that die and pods that come and go meanwhile: nothing leaks, nothing is lost.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::cni::{Attachment, VERSION, error_of};
use lab::{Namespace, Node, Pod, binaries};
use serde_json::Value;

use crate::foretell::{How, passes};
use crate::world::LEAVING;
use crate::{KINDS, World, state};

fn attachment(netns: &Namespace, name: &str) -> Attachment {
    Attachment {
        container_id: name.to_owned(),
        netns: netns.path().to_string_lossy().into_owned(),
        ifname: "eth0".to_owned(),
        pod: ("default".to_owned(), name.to_owned()),
    }
}

/// A namespace wired by hand, so that a test decides when it is unwired.
fn wired(node: &Node, name: &str) -> (Namespace, Attachment, Value) {
    let netns = Namespace::new(node.netns.owner(), name).unwrap();
    let attachment = attachment(&netns, name);
    let runtime = node.runtime();
    let result = runtime.add(&attachment, &runtime.configuration(VERSION)).unwrap();
    (netns, attachment, result)
}

fn deletions(node: &Node) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(node.run_dir().join("deletions")) else {
        return Vec::new();
    };
    entries.flatten().map(|entry| entry.path()).collect()
}

fn leases(node: &Node) -> Vec<String> {
    let listed = node.hopctl_json(&["get", "leases"]).unwrap();
    let items = listed["items"].as_array().unwrap().iter();
    let mut texts: Vec<String> = items
        .map(|item| format!("{} {} {}", item["address"], item["pod"], item["containerID"]))
        .collect();
    texts.sort();
    texts
}

#[test]
fn a_start_tells_what_is_not_as_it_was() {
    for kind in KINDS {
        let mut world = World::new(kind);
        let pods = ["kept", "changed", "lost"].map(|name| world.pod(name).unwrap());
        assert!(!world.hopctl(&["status"]).unwrap().contains("problem"), "{kind}");
        let [kept, changed, lost] = &pods;
        world.kill();
        changed.ip(&["link", "set", "eth0", "mtu", "1300"]).unwrap();
        // Its file is cut off in the middle.
        let file = std::fs::read_dir(world.state_dir().join("attachments")).unwrap().flatten();
        let mut files = file.map(|entry| entry.path());
        let file = files.find(|path| path.to_string_lossy().contains(lost.name()));
        let file = file.unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, &text[..text.len() / 2]).unwrap();
        world.start().unwrap();
        let said = world.hopctl(&["status"]).unwrap();
        let problems: Vec<&str> = said.lines().filter(|line| line.starts_with("problem")).collect();
        assert_eq!(problems.len(), 2, "{kind}: {said}");
        let changed_is = problems.iter().find(|line| line.contains("default/changed")).unwrap();
        assert!(changed_is.contains("MTU 1300 instead of 1500"), "{kind}: {said}");
        let damaged = world.state_dir().join("damaged").join(file.file_name().unwrap());
        let lost_is = problems.iter().find(|line| line.contains("damaged")).unwrap();
        assert!(lost_is.contains(&*damaged.to_string_lossy()), "{kind}: {said}");
        if kind == "veth" {
            assert_eq!(state::switch_links(&world).len(), 2, "the lost one's end is swept");
            assert_eq!(lost.interfaces().unwrap(), ["lo"]);
        }
        kept.check().unwrap();
        let [_, changed, _lost] = pods;
        changed.remove().unwrap();
        std::fs::remove_file(damaged).unwrap();
        assert!(!world.hopctl(&["status"]).unwrap().contains("problem"), "{kind}");
    }
}

#[test]
fn a_client_that_does_not_read_does_not_hold_the_end() {
    let mut world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    let connect = || UnixStream::connect(world.run_dir().join("admin.sock")).unwrap();
    // Half a request, and a capture that nobody reads: more than all buffers hold.
    let mut half = connect();
    half.write_all(b"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{").unwrap();
    let mut capture = connect();
    let body = r#"{"points":"allHops"}"#;
    let head = "POST /v1/capture HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    write!(capture, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !world.hopctl(&["status"]).unwrap().contains("captures") {
        assert!(Instant::now() < deadline, "the capture has not begun");
        std::thread::sleep(Duration::from_millis(20));
    }
    let target = b.v4().unwrap().to_string();
    a.run("ping", &["-A", "-c", "100", "-s", "60000", "-W", "2", &target]).unwrap();
    let began = Instant::now();
    let output = world.stop().unwrap();
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(output.stderr.contains("does not read"), "{}", output.stderr);
    drop((half, capture));
    world.start().unwrap();
    a.run("ping", &["-c", "1", "-W", "2", &target]).unwrap();
}

#[test]
fn cleanup_leaves_a_daemon_alone_and_says_what_it_did() {
    let mut world = World::new("veth");
    let state_dir = world.state_dir().to_string_lossy().into_owned();
    let cleanup = ["node", "cleanup", "--state-dir", &state_dir];
    let [a, b] = world.pods(["a", "b"]);
    let before = (state::kernel(&world.netns), state::all_files(&world));
    let ping = || a.run("ping", &["-c", "1", "-W", "2", &b.v4().unwrap().to_string()]).unwrap();
    // Whatever became of its socket, and by the state-dir alone as well.
    let socket = world.run_dir().join("admin.sock");
    let aside = world.run_dir().join("aside");
    std::fs::rename(&socket, &aside).unwrap();
    let output = world.hopctl_attempt(&cleanup).unwrap();
    std::fs::rename(&aside, &socket).unwrap();
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("run-dir") && output.stderr.contains("another vswitchd"));
    let mut command = Command::new(binaries::Binaries::find().unwrap().hopctl);
    command.arg("--run-dir").arg(world.run_dir().with_file_name("elsewhere")).args(cleanup);
    let output = world.netns.spawn(command).unwrap().finish(Duration::from_secs(10)).unwrap();
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("state-dir") && output.stderr.contains("another vswitchd"));
    state::same(&before.0, &state::kernel(&world.netns), "kernel");
    state::same(&before.1, &state::all_files(&world), "files");
    ping();
    world.stop().unwrap();
    let said = world.hopctl(&cleanup).unwrap();
    for part in ["eth0 of pod/default/a", "hop0 with its routes", "the namespace of veth ends"] {
        assert!(said.contains(&format!("removed {part}")), "{part}: {said}");
    }
    let files = state::all_files(&world);
    let again = world.hopctl_attempt(&cleanup).unwrap();
    assert_eq!((again.code, &*again.stdout), (Some(0), ""), "{again:?}");
    assert!(again.stderr.contains("nothing to remove"), "{again:?}");
    state::same(&files, &state::all_files(&world), "a second cleanup");
}

/// Ends the daemon in one of the two ways.
fn end(world: &mut World, hard: bool) {
    if hard {
        world.kill();
    } else {
        let output = world.stop().unwrap();
        assert_eq!(output.code, Some(0), "{output:?}");
    }
}

#[test]
fn a_deletion_without_a_daemon_is_recorded_and_done_at_the_next_start() {
    for kind in KINDS {
        let mut world = World::new(kind);
        for namespace_too in [false, true] {
            let (netns, attachment, result) = wired(&world, "later");
            world.kill();
            let began = Instant::now();
            world.runtime().del(&attachment, Some(&result)).unwrap();
            world.runtime().del(&attachment, None).unwrap();
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            assert_eq!(deletions(&world).len(), 1, "one file an attachment");
            let kept = (!namespace_too).then_some(netns);
            world.start().unwrap();
            assert_eq!(state::left(&world), Vec::<String>::new(), "{kind}");
            if let Some(netns) = kept {
                assert_eq!(netns.interfaces().unwrap(), ["lo"], "{kind}");
            }
        }
    }
}

#[test]
fn a_deletion_after_a_restart_frees_everything() {
    for kind in KINDS {
        let mut world = World::new(kind);
        let (netns, attachment, result) = wired(&world, "after");
        world.kill();
        world.start().unwrap();
        world.runtime().check(&attachment, &result).unwrap();
        world.runtime().del(&attachment, Some(&result)).unwrap();
        assert_eq!(state::left(&world), Vec::<String>::new(), "{kind}");
        assert_eq!(netns.interfaces().unwrap(), ["lo"], "{kind}");
    }
}

#[test]
fn a_namespace_that_went_while_nobody_looked_frees_its_lease_at_the_next_start() {
    for kind in KINDS {
        let mut world = World::new(kind);
        let (netns, _, _) = wired(&world, "gone");
        let (_kept, attachment, result) = wired(&world, "kept");
        world.kill();
        drop(netns);
        world.start().unwrap();
        let leases = leases(&world);
        assert_eq!(leases.len(), 2, "{kind}: {leases:?}");
        assert!(leases.iter().all(|lease| lease.contains("kept")), "{kind}: {leases:?}");
        world.runtime().check(&attachment, &result).unwrap();
        world.runtime().del(&attachment, Some(&result)).unwrap();
        assert_eq!(state::left(&world), Vec::<String>::new(), "{kind}");
    }
}

/// Once its parent is killed a worker may say so and nothing else; the runtime asks again.
fn refused_by_an_orphan_only(deleted: lab::Result<()>, killed: &AtomicBool) {
    if let Err(error) = deleted {
        let says_so = error.to_string().contains("the parent process does not answer");
        assert!(says_so && killed.load(Ordering::SeqCst), "{error}");
    }
}

#[test]
fn a_daemon_killed_amid_adds_and_dels_leaves_nothing_after_their_dels() {
    for kind in KINDS {
        let mut world = World::new(kind);
        for round in 0..6_u64 {
            let names: Vec<String> = (0..8).map(|n| format!("r{round}-{n}")).collect();
            let netns: Vec<Namespace> = names
                .iter()
                .map(|name| Namespace::new(world.netns.owner(), name).unwrap())
                .collect();
            let attachments: Vec<Attachment> =
                netns.iter().zip(&names).map(|(netns, name)| attachment(netns, name)).collect();
            let runtime = world.runtime();
            let configuration = runtime.configuration(VERSION);
            let killed = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for (index, attachment) in attachments.iter().enumerate() {
                    let (runtime, configuration) = (&runtime, &configuration);
                    let killed = &killed;
                    scope.spawn(move || {
                        // Whether it succeeds depends on the moment; that it leaks must not.
                        let added = runtime.add(attachment, configuration);
                        if index % 2 == 0 && added.is_ok() {
                            refused_by_an_orphan_only(runtime.del(attachment, None), killed);
                        }
                    });
                }
                std::thread::sleep(Duration::from_millis(15 + 20 * round));
                killed.store(true, Ordering::SeqCst);
                world.kill();
            });
            // Half of the DELs come before the next start, half after it.
            let (early, late) = attachments.split_at(4);
            for attachment in early {
                runtime.del(attachment, None).unwrap();
            }
            world.start().unwrap();
            for attachment in late {
                runtime.del(attachment, None).unwrap();
            }
            assert_eq!(state::left(&world), Vec::<String>::new(), "{kind}, round {round}");
            for netns in &netns {
                assert_eq!(netns.interfaces().unwrap(), ["lo"], "{kind}, round {round}");
            }
        }
        let [a, b] = world.pods(["a", "b"]);
        a.run("ping", &["-c", "1", "-W", "2", &b.v4().unwrap().to_string()]).unwrap();
    }
}

#[test]
fn a_machine_that_was_booted_anew_forgets_attachments_but_not_freed_addresses() {
    let mut world = World::new("tap");
    let (netns, _, result) = wired(&world, "old");
    let old = result["ips"][0]["address"].clone();
    world.stop().unwrap();
    drop(netns);
    // What a boot takes: the run-dir and the node's interfaces. The state-dir stays.
    std::fs::remove_dir_all(world.run_dir()).unwrap();
    world.netns.ip(&["link", "del", "hop0"]).unwrap();
    world.start().unwrap();
    assert_eq!(state::left(&world), Vec::<String>::new());
    let (_netns, attachment, result) = wired(&world, "new");
    assert_ne!(result["ips"][0]["address"], old, "least recently used first");
    world.runtime().del(&attachment, None).unwrap();
}

/// What CHECK must say after something was done to a pod.
fn noticed(pod: &Pod, what: &str, expected: &str, code: u64, runtime: &lab::cni::Runtime) {
    let mut configuration = runtime.configuration(VERSION);
    configuration["prevResult"] = pod.result().clone();
    let environment = pod.attachment().environment("CHECK");
    let output = runtime.call(&environment, &configuration.to_string()).unwrap();
    assert_ne!(output.code, Some(0), "{what}: {output:?}");
    assert_eq!(error_of(&output).unwrap().0, code, "{what}: {output:?}");
    assert!(output.stdout.contains(expected), "{what}: {}", output.stdout);
}

#[test]
fn check_names_what_is_not_as_it_was() {
    // What is done to the pod, and a word of what CHECK says about it.
    let damages: [(&[&str], &str); 9] = [
        (&["-4", "addr", "flush", "dev", "eth0"], "address 10.244.1."),
        (&["-6", "addr", "flush", "dev", "eth0", "scope", "global"], "address fd00:"),
        (&["-4", "route", "del", "default"], "route 0.0.0.0/0"),
        (&["-6", "route", "del", "default"], "route ::/0"),
        (&["link", "set", "eth0", "down"], "is down"),
        (&["link", "set", "eth0", "mtu", "1300"], "MTU 1300 instead of 1500"),
        (&["link", "set", "eth0", "address", "02:00:00:00:00:99"], "instead of"),
        (&["link", "set", "eth0", "name", "eth9"], "missing"),
        (&["link", "del", "eth0"], "missing"),
    ];
    for kind in KINDS {
        let mut world = World::new(kind);
        let runtime = world.runtime();
        for (damage, expected) in damages {
            let pod = world.pod("checked").unwrap();
            pod.check().unwrap();
            if damage.contains(&"name") {
                pod.ip(&["link", "set", "eth0", "down"]).unwrap();
            }
            pod.ip(damage).unwrap();
            noticed(&pod, &format!("{kind}: {damage:?}"), expected, 101, &runtime);
            pod.remove().unwrap();
            assert_eq!(state::left(&world), Vec::<String>::new(), "{kind}: {damage:?}");
        }
        let pod = world.pod("checked").unwrap();
        if let [end] = state::switch_links(&world).as_slice() {
            let netns = format!("--net={}", world.run_dir().join("netns").display());
            let down = [&netns, "ip", "link", "set", end, "down"].map(|text: &str| text.to_owned());
            let down: Vec<&str> = down.iter().map(String::as_str).collect();
            world.netns.run("nsenter", &down).unwrap();
            noticed(&pod, "the node's end", "is down", 101, &runtime);
        }
        world.stop().unwrap();
        noticed(&pod, "the daemon", "vswitchd does not answer", 11, &runtime);
        world.start().unwrap();
        pod.check().unwrap();
        // The pod whose MAC was changed spoke up; counts outlive the daemon that made them.
        world.settle(&[&["SourceMacSpoofed"], LEAVING].concat());
    }
}

/// Sequence numbers that a ping of 20 per second got answers for.
fn answered(text: &str) -> Vec<u32> {
    let number = |line: &str| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok();
    text.lines().filter(|line| line.contains("bytes from")).filter_map(number).collect()
}

#[test]
fn the_daemon_takes_everything_back_however_it_ended() {
    for kind in KINDS {
        for hard in [false, true] {
            let mut world = World::new(kind);
            let [a, b] = world.pods(["a", "b"]);
            let _listener = b.serve(&["listener", "--listen", "[::]:22"]).unwrap();
            let mut session = Command::new(binaries::lab().unwrap());
            session.args(["session", "--lines", "150"]);
            session.args(["--to", &format!("[{}]:22", b.v6().unwrap())]);
            let mut session = a.spawn(session).unwrap();
            session.wait_ready(Duration::from_secs(5)).unwrap();
            let mut ping = Command::new("ping");
            ping.args(["-i", "0.05", "-c", "100", &b.v4().unwrap().to_string()]);
            let ping = a.spawn(ping).unwrap();
            std::thread::sleep(Duration::from_millis(500));
            let views = || [&world.netns, &*a, &*b].map(state::kernel);
            let before = (leases(&world), views());
            let ports = world.hopctl(&["get", "ports", "-o", "json"]).unwrap();
            end(&mut world, hard);
            // Nobody answers, but nothing is taken down either.
            std::thread::sleep(Duration::from_millis(700));
            assert!(world.netns.interfaces().unwrap().contains(&"hop0".to_owned()));
            world.start().unwrap();
            let views = || [&world.netns, &*a, &*b].map(state::kernel);
            let after = (leases(&world), views());
            assert_eq!(before.0, after.0, "{kind}: leases");
            for (was, is) in before.1.iter().zip(&after.1) {
                state::same(was, is, kind);
            }
            assert_eq!(
                names(&ports),
                names(&world.hopctl(&["get", "ports", "-o", "json"]).unwrap())
            );
            session.finish(Duration::from_secs(30)).unwrap().success().unwrap();
            let heard = answered(&ping.finish(Duration::from_secs(30)).unwrap().stdout);
            assert!(heard.contains(&5) && heard.contains(&100), "{kind}: {heard:?}");
            assert!(heard.len() >= 60, "{kind}: {} of 100 pings were answered", heard.len());
            for pod in [&a, &b] {
                pod.check().unwrap();
            }
            let [c] = world.pods(["c"]);
            world.foretell(&[
                passes(("default/a", &a), "default/b", (How::Tcp(22), false), "pod/default/b"),
                passes(("node", &world.netns), "default/a", (How::Icmp, true), "pod/default/a"),
                passes(("default/c", &c), "default/a", (How::Udp(53), true), "pod/default/a"),
            ]);
            let target = a.v6().unwrap().to_string();
            c.run("ping", &["-c", "1", "-W", "2", &target]).unwrap();
            world.settle(&[]);
            for pod in [a, b, c] {
                pod.remove().unwrap();
            }
            assert_eq!(state::left(&world), Vec::<String>::new());
        }
    }
}

fn names(text: &str) -> Vec<String> {
    let listed: Value = serde_json::from_str(text).unwrap();
    let items = listed["items"].as_array().unwrap().iter();
    let mut names: Vec<String> = items.map(|item| item["name"].to_string()).collect();
    names.sort();
    names
}

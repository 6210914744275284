//! The plugin and the daemon together, as a runtime meets them: verbs in and out of order, many at
//! once, and with the daemon away.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lab::binaries::Binaries;
use lab::cni::{Attachment, VERSION, error_of};
use lab::{Namespace, Node, Pod};
use serde_json::{Value, json};

use crate::{KINDS, World, state};

/// Everything that a wired pod leaves somewhere on the node.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    leases: usize,
    ports: BTreeSet<String>,
    interfaces: Vec<String>,
    files: BTreeSet<String>,
}

fn names(list: &Value, key: &str) -> BTreeSet<String> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
}

fn files(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            files(&entry.path(), found);
        } else if entry.file_name() != "leases.json" {
            // What is in that file is counted as leases.
            found.insert(entry.path().to_string_lossy().into_owned());
        }
    }
}

fn traces(node: &Node) -> Traces {
    let leases = node.hopctl_json(&["get", "leases"]).unwrap();
    let mut found = BTreeSet::new();
    files(&node.state_dir(), &mut found);
    Traces {
        leases: leases["items"].as_array().unwrap().len(),
        ports: names(&node.hopctl_json(&["get", "ports"]).unwrap(), "name"),
        interfaces: node.netns.interfaces().unwrap(),
        files: found,
    }
}

fn attachment(netns: &Namespace, name: &str) -> Attachment {
    Attachment {
        container_id: name.to_owned(),
        netns: netns.path().to_string_lossy().into_owned(),
        ifname: "eth0".to_owned(),
        pod: ("default".to_owned(), name.to_owned()),
    }
}

#[test]
fn the_result_is_true_in_every_version() {
    for kind in KINDS {
        let world = World::new(kind);
        let before = traces(&world);
        let runtime = world.runtime();
        for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let netns = Namespace::new(world.netns.owner(), "cni").unwrap();
            let attachment = attachment(&netns, "versions");
            let result = runtime.add(&attachment, &runtime.configuration(version)).unwrap();
            assert_eq!(result["cniVersion"], version, "{result}");
            let shown = netns.ip(&["-o", "addr", "show", "eth0"]).unwrap();
            let addresses: Vec<&str> = match version {
                "0.1.0" | "0.2.0" => ["/ip4/ip", "/ip6/ip"]
                    .iter()
                    .map(|pointer| result.pointer(pointer).unwrap().as_str().unwrap())
                    .collect(),
                _ => {
                    let ips = result["ips"].as_array().unwrap();
                    ips.iter().map(|ip| ip["address"].as_str().unwrap()).collect()
                }
            };
            assert_eq!(addresses.len(), 2, "{result}");
            assert!(addresses.iter().all(|address| shown.contains(address)), "{shown} {result}");
            runtime.del(&attachment, None).unwrap();
            assert_eq!(netns.interfaces().unwrap(), ["lo"], "{version}");
        }
        assert_eq!(traces(&world), before);
    }
}

#[test]
fn add_twice_is_refused_and_del_always_succeeds() {
    let world = World::new("tap");
    let before = traces(&world);
    let runtime = world.runtime();
    let netns = Namespace::new(world.netns.owner(), "cni").unwrap();
    let attachment = attachment(&netns, "twice");
    let configuration = runtime.configuration(VERSION);
    let result = runtime.add(&attachment, &configuration).unwrap();
    let wired = traces(&world);
    let again = runtime.call(&attachment.environment("ADD"), &configuration.to_string()).unwrap();
    assert_ne!(again.code, Some(0));
    assert!(error_of(&again).unwrap().0 >= 100, "{again:?}");
    assert_eq!(traces(&world), wired, "the first attachment is as it was");
    runtime.check(&attachment, &result).unwrap();
    for _ in 0..3 {
        runtime.del(&attachment, Some(&result)).unwrap();
    }
    // The namespace gone, no namespace at all, a container that never was, no result.
    for (id, path) in [("twice", "/run/netns/gone"), ("twice", ""), ("never", "")] {
        let mut other = attachment.clone();
        (other.container_id, other.netns) = (id.to_owned(), path.to_owned());
        runtime.del(&other, None).unwrap();
    }
    assert_eq!(traces(&world), before);
}

#[test]
fn check_finds_what_somebody_changed() {
    type Damage = fn(&Namespace);
    let damages: [(&str, Damage); 4] = [
        ("the address", |netns| drop(netns.ip(&["-4", "addr", "flush", "dev", "eth0"]).unwrap())),
        ("the route", |netns| drop(netns.ip(&["-6", "route", "del", "default"]).unwrap())),
        ("the MTU", |netns| drop(netns.ip(&["link", "set", "eth0", "mtu", "1300"]).unwrap())),
        ("the link", |netns| drop(netns.ip(&["link", "set", "eth0", "down"]).unwrap())),
    ];
    for kind in KINDS {
        let world = World::new(kind);
        for (what, damage) in &damages {
            let [pod] = world.pods(["checked"]);
            pod.check().unwrap();
            damage(&pod);
            let error = pod.check().unwrap_err().to_string();
            assert!(error.contains("\"code\""), "{what}: {error}");
        }
        let [pod] = world.pods(["checked"]);
        pod.check().unwrap();
    }
}

#[test]
fn two_hundred_cycles_in_parallel_leave_nothing() {
    for kind in KINDS {
        let world = World::new(kind);
        let before = traces(&world);
        std::thread::scope(|scope| {
            for worker in 0..8 {
                let world: &Node = &world;
                scope.spawn(move || {
                    for round in 0..25 {
                        let pod = world.pod(&format!("w{worker}-{round}")).unwrap();
                        assert_eq!(pod.addresses().len(), 2);
                        pod.remove().unwrap();
                    }
                });
            }
        });
        assert_eq!(traces(&world), before, "{kind}");
        // The switch's namespace and the run-dir are looked at as well.
        assert_eq!(state::left(&world), Vec::<String>::new(), "{kind}");
        world.settle(&["PortUnknown", "PortDown", "EgressDown"]);
    }
}

#[test]
fn fifty_at_once_get_fifty_addresses() {
    let world = World::new("tap");
    let pods: Vec<_> = std::thread::scope(|scope| {
        let node: &Node = &world;
        let wiring: Vec<_> = (0..50)
            .map(|index| scope.spawn(move || node.pod(&format!("p{index}")).unwrap()))
            .collect();
        wiring.into_iter().map(|pod| pod.join().unwrap()).collect()
    });
    let addresses: BTreeSet<_> = pods.iter().flat_map(Pod::addresses).collect();
    assert_eq!(addresses.len(), 100);
}

#[test]
fn without_the_daemon_calls_fail_fast_and_del_is_done_later() {
    let mut world = World::new("tap");
    let before = traces(&world);
    let netns = Namespace::new(world.netns.owner(), "cni").unwrap();
    let attachment = attachment(&netns, "later");
    let runtime = world.runtime();
    let configuration = runtime.configuration(VERSION);
    let result = runtime.add(&attachment, &configuration).unwrap();
    // kill -9 between ADD and DEL.
    world.kill();
    let began = Instant::now();
    for (verb, code) in [("STATUS", 50), ("ADD", 11)] {
        let mut other = attachment.clone();
        other.container_id = "another".to_owned();
        let output = runtime.call(&other.environment(verb), &configuration.to_string()).unwrap();
        assert_eq!(error_of(&output).unwrap().0, code, "{verb}: {output:?}");
    }
    runtime.del(&attachment, Some(&result)).unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(netns);
    world.start().unwrap();
    assert_eq!(traces(&world), before, "the daemon did the DEL when it started");
    runtime.call(&attachment.environment("STATUS"), &configuration.to_string()).unwrap();
}

#[test]
fn gc_removes_what_is_not_listed_and_nothing_without_a_list() {
    let world = World::new("tap");
    let [kept, stale] = world.pods(["kept", "stale"]);
    let runtime = world.runtime();
    let gc = |key: Option<Value>| {
        let mut configuration = runtime.configuration(VERSION);
        if let Some(list) = key {
            configuration["cni.dev/valid-attachments"] = list;
        }
        let environment = kept.attachment().environment("GC");
        runtime.call(&environment, &configuration.to_string()).unwrap().success().unwrap();
        names(&world.hopctl_json(&["get", "ports"]).unwrap(), "name")
    };
    for nothing in [None, Some(Value::Null)] {
        assert!(gc(nothing).contains("pod/default/stale"));
    }
    let valid = json!([{"containerID": kept.attachment().container_id, "ifname": "eth0"}]);
    let ports = gc(Some(valid));
    assert!(
        ports.contains("pod/default/kept") && !ports.contains("pod/default/stale"),
        "{ports:?}"
    );
    assert_eq!(stale.interfaces().unwrap(), ["lo"]);
    kept.check().unwrap();
}

/// The file in which the daemon remembers a pod's attachment.
fn remembered(world: &World, pod: &Pod) -> PathBuf {
    let entries = fs::read_dir(world.state_dir().join("attachments")).unwrap().flatten();
    let mut paths = entries.map(|entry| entry.path());
    let id = format!("{:?}", pod.attachment().container_id);
    paths.find(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(&id))).unwrap()
}

#[test]
fn gc_goes_on_after_errors_and_tells_them_all() {
    for kind in KINDS {
        let world = World::new(kind);
        let pods = world.pods(["a", "b", "c", "kept"]);
        let [a, b, c, kept] = &pods;
        // A directory in the place of the file that is to be removed: the disk refuses.
        let refused = [a, c].map(|pod| (remembered(&world, pod), pod));
        for (path, _) in &refused {
            fs::rename(path, path.with_extension("away")).unwrap();
            fs::create_dir_all(path.join("full")).unwrap();
        }
        let runtime = world.runtime();
        let mut configuration = runtime.configuration(VERSION);
        configuration["cni.dev/valid-attachments"] =
            json!([{"containerID": kept.attachment().container_id, "ifname": "eth0"}]);
        let environment = kept.attachment().environment("GC");
        let gc = || runtime.call(&environment, &configuration.to_string()).unwrap();
        let failed = gc();
        assert_eq!(error_of(&failed).unwrap().0, 106, "{failed:?}");
        for (_, pod) in &refused {
            assert!(failed.stdout.contains(&pod.attachment().container_id), "{failed:?}");
        }
        assert!(!failed.stdout.contains(&b.attachment().container_id), "{failed:?}");
        assert_eq!(b.interfaces().unwrap(), ["lo"], "{kind}");
        kept.check().unwrap();
        for (path, _) in &refused {
            fs::remove_dir_all(path).unwrap();
            fs::rename(path.with_extension("away"), path).unwrap();
        }
        gc().success().unwrap();
        assert_eq!(names(&world.hopctl_json(&["get", "leases"]).unwrap(), "pod").len(), 1);
        kept.check().unwrap();
        for pod in pods {
            pod.remove().unwrap();
        }
        assert_eq!(state::left(&world), Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn a_port_that_the_switch_refuses_is_told_and_leaves_nothing() {
    for kind in KINDS {
        let world = World::new(kind);
        // One more prefix than a port may have.
        let prefixes: Vec<String> = (0..33).map(|n| format!("198.51.100.{n}/32")).collect();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "default", "name": "many", "annotations": {
                "hopscope.dev/allowed-addresses": prefixes.join(",")}},
        });
        fs::write(world.manifests().join("many.yaml"), pod.to_string()).unwrap();
        let netns = Namespace::new(world.netns.owner(), "cni").unwrap();
        let attachment = attachment(&netns, "many");
        let runtime = world.runtime();
        let configuration = runtime.configuration(VERSION).to_string();
        let mut code = 0;
        // The manifest takes a moment to be seen; a pod that came before that goes again.
        for _attempt in 0..50 {
            let output = runtime.call(&attachment.environment("ADD"), &configuration).unwrap();
            if output.code != Some(0) {
                let (number, message) = error_of(&output).unwrap();
                assert!(message.contains("refuses the port"), "{message}");
                code = number;
                break;
            }
            runtime.del(&attachment, None).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(code, 104, "{kind}");
        assert_eq!(netns.interfaces().unwrap(), ["lo"], "{kind}");
        assert_eq!(state::left(&world), Vec::<String>::new(), "{kind}");
        runtime.del(&attachment, None).unwrap();
    }
}

/// Whether a program asks for an interpreter, which loads its libraries (PT_INTERP of elf(5)).
fn wants_interpreter(program: &Path) -> bool {
    const PT_INTERP: [u8; 4] = 3_u32.to_le_bytes();
    let bytes = fs::read(program).unwrap();
    assert_eq!(bytes[..6], *b"\x7fELF\x02\x01", "64 bits, little-endian: {}", program.display());
    let number = |at: usize, length: usize| {
        let le = bytes[at..at + length].iter().rev();
        le.fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
    };
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    assert!(count > 0, "{}: no program headers", program.display());
    (0..count).any(|index| bytes[table + index * size..][..4] == PT_INTERP)
}

#[test]
fn the_plugin_needs_nothing_of_the_node_it_is_copied_to() {
    let binaries = Binaries::find().unwrap();
    assert!(!wants_interpreter(&binaries.plugin), "the plugin is a static binary");
    assert!(wants_interpreter(&binaries.vswitchd), "and a dynamic one would be seen");
}

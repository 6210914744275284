//! `hopctl` as people and scripts use it: formats, exit codes, pipes, and honesty about losses.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use lab::{NodeSpec, tshark};
use serde_json::Value;
use vswitchd::capture::pcapng::read::{Block, Reader};

use crate::{KINDS, World, state};

/// Time that a pipe may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What can be listed, its first column, and one that only the wide form shows.
const LISTS: [(&str, &str, Option<&str>); 7] = [
    ("ports", "NAME", Some("MAC")),
    ("fdb", "MAC", None),
    ("routes", "PREFIX", None),
    ("neighbors", "ADDRESS", None),
    ("drops", "COUNT", Some("WHAT TO DO")),
    ("counters", "PORT", None),
    ("leases", "ADDRESS", None),
];

/// One list in every format.
struct Shown {
    table: String,
    wide: String,
    json: Value,
    yaml: Value,
}

/// Looks again until nothing moved between the first look and the last: pods report their groups
/// for some seconds, and that is counted.
fn shown(world: &World, what: &str) -> Shown {
    for _ in 0..50 {
        let json = timeless(world.hopctl_json(&["get", what]).unwrap());
        let table = world.hopctl(&["get", what]).unwrap();
        let wide = world.hopctl(&["get", what, "-o", "wide"]).unwrap();
        let yaml = timeless(world.hopctl_yaml(&["get", what]).unwrap());
        if timeless(world.hopctl_json(&["get", what]).unwrap()) == json {
            return Shown { table, wide, json, yaml };
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{what}: never the same twice");
}

/// A list without ages.
fn timeless(mut list: Value) -> Value {
    for item in list["items"].as_array_mut().unwrap() {
        item.as_object_mut().unwrap().retain(|key, _| !key.ends_with("Seconds"));
    }
    list
}

#[test]
fn every_list_in_every_format() {
    for kind in KINDS {
        let world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        // Something to count: an address that nobody has.
        a.attempt("ping", &["-c", "1", "-W", "0.2", "10.244.1.99"], PATIENCE).unwrap();
        world.settle(&["NeighborUnknown"]);
        for (what, first, only_wide) in LISTS {
            let Shown { table, wide, json, yaml } = shown(&world, what);
            let head = |text: &str| text.lines().next().unwrap().to_owned();
            assert!(head(&table).starts_with(first), "{table}");
            assert!(head(&wide).starts_with(head(&table).trim_end()), "{wide}");
            let hidden =
                |column: &str| head(&wide).contains(column) && !head(&table).contains(column);
            assert!(only_wide.is_none_or(hidden), "{wide}");
            assert!(json["apiVersion"].is_string() && json["kind"].is_string(), "{json}");
            let items = json["items"].as_array().unwrap();
            assert_eq!(table.lines().count(), 1 + items.len(), "{table}");
            assert_eq!(yaml, json, "{what}");
        }
        let of = |what: &str| world.hopctl(&["get", what]).unwrap();
        let (mac, v4) = (a.mac().unwrap(), a.v4().unwrap().to_string());
        assert!(of("fdb").contains(&mac) && of("fdb").contains("02:48:4f:50:00:01"));
        assert!(of("neighbors").contains(&v4) && of("neighbors").contains(&mac));
        assert!(of("routes").contains("10.244.1.0/24") && of("routes").contains("::/0"));
        assert!(of("leases").contains(&v4) && of("leases").contains(&b.v6().unwrap().to_string()));
        assert!(of("drops").contains("NeighborUnknown"));
    }
}

/// The values of a field, in the order they are listed.
fn column(world: &World, args: &[&str], key: &str) -> Vec<Value> {
    let list = world.hopctl_json(args).unwrap();
    list["items"].as_array().unwrap().iter().map(|item| item[key].clone()).collect()
}

#[test]
fn lists_are_sorted_and_chosen_from() {
    let world = World::new("tap");
    let [a, _b] = world.pods(["a", "b"]);
    let other = world.pod_with(("other", "c"), &std::collections::BTreeMap::new()).unwrap();
    a.run("ping", &["-c", "2", "-i", "0.05", "-W", "2", &other.v4().unwrap().to_string()]).unwrap();
    world.settle(&[]);
    let received = column(&world, &["get", "counters", "--sort-by", "received"], "received");
    let received: Vec<u64> = received.iter().map(|value| value.as_u64().unwrap()).collect();
    assert!(received.is_sorted_by(|a, b| a >= b) && received[0] > 0, "{received:?}");
    let names = |args: &[&str]| -> Vec<String> {
        let names = column(&world, args, "name");
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let sorted = names(&["get", "ports", "--sort-by", "name"]);
    assert!(sorted.is_sorted() && sorted.len() == 6, "{sorted:?}");
    assert_eq!(names(&["-n", "other", "get", "ports"]), ["pod/other/c"]);
    let of_a = a.v4().unwrap().to_string();
    assert_eq!(names(&["get", "ports", &of_a]), ["pod/default/a"]);
    let none = world.hopctl_attempt(&["-n", "nobody", "get", "ports"]).unwrap();
    assert_eq!(
        (none.code, none.stdout.as_str(), none.stderr.as_str()),
        (Some(0), "", "no ports\n")
    );
}

/// What is asked, the exit code, and a part of what is said on standard output and error.
type Case = (&'static [&'static str], i32, &'static str, &'static str);

/// With a daemon and two pods.
const ANSWERED: [Case; 25] = [
    (&["--help"], 0, "Exit codes", ""),
    (&["--version"], 0, "hopctl", ""),
    (&["version"], 0, "vswitchd  ", ""),
    (&["version", "-o", "yaml"], 0, "kind: Versions", ""),
    (&["status"], 0, "state     ready", ""),
    (&["status", "--wait"], 0, "4 of 4 up", ""),
    (&["status", "-o", "json"], 0, "\"ready\": true", ""),
    (&["check"], 0, "ok ", ""),
    (&["check", "-o", "json"], 0, "\"passed\": true", ""),
    (&["trace", "default/a", "node"], 0, "egress     forward to host", ""),
    (&["-n", "default", "trace", "a", "node", "-6"], 0, "egress     forward to host", ""),
    (&["trace", "default/a", "10.244.1.99"], 1, "drop NeighborUnknown", "hint: "),
    (&["trace", "default/a", "10.244.1.99", "-o", "yaml"], 1, "passed: false", ""),
    (&["trace", "default/a", "default/none"], 2, "", "no pod default/none"),
    (&["trace", "10.244.1.1", "default/a"], 2, "", "which only answers"),
    (&["trace", "default/a", "svc/default/x"], 2, "", "no Service of this name"),
    (&["trace", "default/a", "10.244.1.9", "-6"], 2, "", "no IPv6 addresses in common"),
    (&["trace", "default/a"], 2, "", "<TO>"),
    (&["trace", "default/a", "node", "--tcp", "80", "--icmp"], 2, "", "cannot be used with"),
    (&["get", "everything"], 2, "", "everything"),
    (&["get", "ports", "--sort-by", "shoe"], 2, "", "the fields are"),
    (&["capture", "tcp prot 80"], 2, "", "prot"),
    (&["capture", "--hop", "l9"], 2, "", "l9"),
    (&["capture", "default/none"], 2, "", "no port is named pod/default/none"),
    (&["node", "cleanup"], 1, "", "stop that one"),
];

/// Without one.
const ALONE: [Case; 8] = [
    (&["version"], 0, "hopctl  ", "no daemon listens on "),
    (&["check"], 0, "ok    tun", "no daemon listens on "),
    (&["status"], 3, "", "no daemon listens on "),
    (&["status", "--wait", "--timeout", "300ms"], 3, "", "no daemon listens on "),
    (&["get", "ports"], 3, "", "no daemon listens on "),
    (&["trace", "default/a", "default/b"], 3, "", "no daemon listens on "),
    (&["capture"], 3, "", "no daemon listens on "),
    (&["get"], 2, "", "<WHAT>"),
];

fn play(world: &World, cases: &[Case]) {
    for (args, code, stdout, stderr) in cases {
        let output = world.hopctl_attempt(args).unwrap();
        assert_eq!(output.code, Some(*code), "{args:?}: {output:?}");
        assert!(output.stdout.contains(stdout), "{args:?}: {output:?}");
        assert!(output.stderr.contains(stderr), "{args:?}: {output:?}");
        // Where nothing is expected nothing is said: answers go out, what is wrong goes to stderr.
        assert_eq!(stdout.is_empty(), output.stdout.is_empty(), "{args:?}: {output:?}");
        assert_eq!(stderr.is_empty(), output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}

#[test]
fn exit_codes_say_yes_no_usage_and_nobody_there() {
    let mut world = World::prepare(NodeSpec::numbered(1));
    play(&world, &ALONE);
    // Who waits from before the start is told in the end.
    let waits = world.hopctl_start(&["status", "--wait", "--timeout", "30s"]).unwrap();
    world.start().unwrap();
    let waited = waits.finish(PATIENCE).unwrap().success().unwrap();
    assert!(waited.stdout.contains("state     ready"), "{waited:?}");
    let pods = world.pods(["a"]);
    let before = (state::left(&world), state::kernel(&world.netns));
    play(&world, &ANSWERED);
    assert_eq!(state::left(&world), before.0, "none of these changed anything");
    state::same(&before.1, &state::kernel(&world.netns), "hopctl");
    drop(pods);
    world.stop().unwrap();
    play(&world, &ALONE);
}

/// Waits until that many captures run.
pub(crate) fn capturing(world: &World, count: u64) {
    for _ in 0..200 {
        if world.hopctl_json(&["status"]).unwrap()["captures"] == count {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{count} captures shall run: {}", world.hopctl(&["status"]).unwrap());
}

#[test]
fn a_capture_goes_through_a_pipe() {
    for kind in KINDS {
        let world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let shell = |script: String| {
            let mut bash = std::process::Command::new("bash");
            bash.args(["-o", "pipefail", "-c", &script]);
            world.netns.spawn(bash).unwrap()
        };
        let ping = |count: &str| {
            let to = b.v6().unwrap().to_string();
            a.run("ping", &["-c", count, "-i", "0.05", "-W", "2", &to]).unwrap();
        };
        let fields = "-T fields -e frame.interface_name -e icmpv6.type -e frame.comment";
        let hopctl =
            world.hopctl_line("capture node -w - --hop parse -c 4 icmp6 and 'ip6[40] > 127'");
        let piped = shell(format!("{hopctl} 'and ip6[40] < 130' | tshark -n -r - {fields}"));
        capturing(&world, 1);
        ping("2");
        let piped = piped.finish(PATIENCE).unwrap().success().unwrap();
        let types: Vec<&str> =
            piped.stdout.lines().filter_map(|line| line.split('\t').nth(1)).collect();
        assert_eq!(types, ["128", "129", "128", "129"], "{piped:?}");
        assert!(piped.stdout.lines().all(|line| line.starts_with("hop/parse\t")), "{piped:?}");
        assert!(piped.stderr.contains("4 frames captured, 0 packets lost"), "{piped:?}");
        // A reader that has enough is no error: lines for people, and blocks.
        for (form, reader) in [("", "head -n 1"), ("-w -", "head -c 600 | wc -c")] {
            let hopctl = world.hopctl_line(&format!("capture {form}"));
            let piped = shell(format!("{hopctl} | {reader}"));
            capturing(&world, 1);
            ping("10");
            let piped = piped.finish(PATIENCE).unwrap().success().unwrap();
            assert_eq!(piped.stdout.lines().count(), 1, "{piped:?}");
            assert!(!piped.stderr.contains("error"), "{piped:?}");
            capturing(&world, 0);
        }
        world.settle(&[]);
    }
}

/// Packets in a file, and what its end says was seen and was lost.
fn counted(file: &Path) -> (u64, u64, u64) {
    let mut reader = Reader::default();
    reader.push(&fs::read(file).unwrap());
    let (mut packets, mut received, mut lost) = (0, 0, 0);
    while let Some((block, _)) = reader.block().unwrap() {
        match block {
            Block::Packet(_) => packets += 1,
            Block::Statistics(_, counts) => {
                received += counts.received;
                lost += counts.lost;
            }
            Block::Interface(_) | Block::Section | Block::Other => {}
        }
    }
    (packets, received, lost)
}

#[test]
fn a_slow_reader_is_told_how_much_it_missed_and_slows_nobody() {
    for kind in KINDS {
        let world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let file = world.file("slow.pcapng");
        let echoes = "udp port 7002";
        let slow = ["--hop", "all", "-s", "2000", echoes];
        let slow = world.capture(&file, &slow).unwrap();
        let quick = world.file("quick.pcapng");
        let beside = ["-s", "300", &format!("icmp or {echoes}")];
        let beside = world.capture(&quick, &beside).unwrap();
        slow.pause(true).unwrap();
        let _server = b.serve(&["udp-echo", "--listen", "[::]:7002"]).unwrap();
        let to = crate::pods::at(b.v6().unwrap().into(), 7002);
        // More walks than may wait for a reader, and what lies in sockets and pipes beside.
        a.lab(&["udp-rr", "--to", &to, "--size", "1000", "--count", "4000"]).unwrap();
        a.run("ping", &["-c", "1", "-W", "2", &b.v4().unwrap().to_string()]).unwrap();
        slow.pause(false).unwrap();
        let told = slow.stop().unwrap().stderr;
        let (packets, received, lost) = counted(&file);
        assert!(lost > 0, "8000 walks went by: {told}");
        let said = format!("{packets} frames captured, {lost} packets lost");
        assert!(told.contains(&said), "{said}: {told}");
        assert_eq!(received, packets + lost);
        // Not judged: tshark takes some of the random payload for other protocols.
        let read = tshark::fields(&file, "", &["frame.number"]).unwrap().len();
        assert_eq!(u64::try_from(read).unwrap(), packets);
        // The one beside it lost nothing, so it has all that matched: what the slow one has not is
        // what it says it lost, neither more nor less.
        crate::foretell::whole(&beside.stop().unwrap());
        assert_eq!(tshark::fields(&quick, "icmp", &["ip.src"]).unwrap().len(), 4);
        let walks = |file: &Path, of: &str| -> BTreeSet<String> {
            let comments = tshark::fields(file, of, &["frame.comment"]).unwrap();
            let comments = comments.into_iter().flatten();
            comments.map(|text| text.rsplit_once("; walk ").unwrap().1.to_owned()).collect()
        };
        let (matched, captured) = (walks(&quick, "!icmp"), walks(&file, ""));
        assert_eq!(matched.len(), 8_000, "4000 there and back");
        assert!(captured.is_subset(&matched));
        assert_eq!(captured.len() as u64 + lost, matched.len() as u64);
        assert_eq!(packets, captured.len() as u64 * 6, "each with all its hops");
        world.settle(&[]);
    }
}

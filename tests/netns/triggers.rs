//! Rules keep a recording of the seconds around an event: real events, files that replay, a rate, a
//! budget, and a disk that is full.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lab::{NodeSpec, Pod, tshark};
use serde_json::{Value, json};

use crate::disk::{BALLAST, Disk};
use crate::frames::{ethernet, hex, mac, udp4};
use crate::{KINDS, World};

/// Time for an event to become a file.
const PATIENCE: Duration = Duration::from_secs(20);

fn spec(kind: &str, rules: &Value) -> NodeSpec {
    NodeSpec::numbered(1).with("port-kind", kind).with("triggers", rules.clone())
}

fn world(kind: &str, rules: &Value) -> World {
    let mut world = World::prepare(spec(kind, rules));
    world.start().unwrap();
    world
}

fn items(world: &World, what: &str) -> Vec<Value> {
    world.hopctl_json(&["get", what]).unwrap()["items"].as_array().unwrap().clone()
}

#[track_caller]
fn eventually<T>(world: &World, what: &str, look: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}\n{:?}", items(world, "recordings"));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The recordings, once there are that many.
#[track_caller]
fn recordings(world: &World, count: usize) -> Vec<Value> {
    eventually(world, &format!("{count} recordings"), || {
        Some(items(world, "recordings")).filter(|items| items.len() == count)
    })
}

fn path(recording: &Value) -> PathBuf {
    recording["path"].as_str().unwrap().into()
}

/// Sends frames whose source is not the pod's.
fn spoof(from: &Pod, to: &Pod, count: usize) {
    let own = mac(&from.mac().unwrap());
    let stranger = Ipv4Addr::new(10, 244, 1, 77);
    let packet = udp4(stranger, to.v4().unwrap(), 64, b"spoofed");
    let frame = ethernet(mac(&to.mac().unwrap()), own, 0x0800, &packet);
    let frames = from.owner().fresh_path("frames");
    fs::write(&frames, hex(&vec![frame; count])).unwrap();
    from.lab(&["raw", "--interface", "eth0", "--frames", &frames.to_string_lossy()]).unwrap();
}

/// Runs a recording again: it is what happened. Gives back what was told.
fn replay(world: &World, recording: &Path) -> Value {
    let told = world.hopctl_json(&["replay", &recording.to_string_lossy()]).unwrap();
    assert!(told["equal"] == true && told["stopped"] == "end", "{told}");
    told
}

#[test]
fn a_spoofed_frame_is_recorded_once_with_what_was_around_it() {
    let rules = json!([
        {"on": "drop reason=SourceIpSpoofed", "before": "3s", "after": "500ms"},
        {"on": "drop reason=SourceIpSpoofed port=default/b", "after": "500ms"},
    ]);
    for kind in KINDS {
        let world = world(kind, &rules);
        let [a, b] = world.pods(["a", "b"]);
        let empty = world.hopctl_attempt(&["get", "recordings"]).unwrap().success().unwrap();
        assert!(empty.stderr.contains("no recordings\n2 rules watch"), "{empty:?}");
        // Long before: it shall not be in there.
        a.run("ping", &["-c", "3", "-i", "0.1", "-s", "700", &b.v4().unwrap().to_string()])
            .unwrap();
        std::thread::sleep(Duration::from_secs(4));
        a.run("ping", &["-c", "2", "-i", "0.1", "-s", "33", &b.v4().unwrap().to_string()]).unwrap();
        spoof(&a, &b, 100);
        let [recording] = <[Value; 1]>::try_from(recordings(&world, 1)).unwrap();
        assert_eq!(recording["rule"], "drop reason=SourceIpSpoofed");
        let event = recording["event"].as_str().unwrap();
        let packet = format!("ipv4 10.244.1.77:40000 > {}:33333 udp", b.v4().unwrap());
        assert!(event.starts_with("drop SourceIpSpoofed: "), "{event}");
        assert!(event.contains(&packet) && event.contains(" from pod/default/a; walk "), "{event}");
        let covered = recording["coveredMs"].as_u64().unwrap();
        assert!((3_400..3_600).contains(&covered), "{recording}");
        let file = path(&recording);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&file).unwrap().len(), recording["sizeBytes"].as_u64().unwrap());
        let told = replay(&world, &file);
        assert_eq!(told["taken"]["rule"], recording["rule"]);
        let dropped = told["drops"].as_array().unwrap().iter().find(|drop| drop["code"] == 307);
        assert!(dropped.unwrap()["count"].as_u64().unwrap() >= 1, "{told}");
        let (_, rest) = event.split_once("; walk ").unwrap();
        let walk = rest.split(',').next().unwrap();
        let explained = world.hopctl(&["explain", "--file", &file.to_string_lossy(), "drop", walk]);
        assert!(explained.unwrap().contains("SourceIpSpoofed"));
        // The seconds around it and no more, for whoever has but Wireshark.
        let sizes = tshark::fields(&file, "icmp.type == 8", &["frame.len"]).unwrap();
        assert_eq!(sizes, [["75"], ["75"]]);
        let packets = tshark::fields(&file, "eth", &["frame.number"]).unwrap().len();
        assert_eq!(packets as u64, recording["packets"].as_u64().unwrap());
        let why = tshark::fields(&file, "frame.comment contains \"rule drop\"", &["frame.number"]);
        assert_eq!(why.unwrap(), [["1"]]);
        let [rule, other] = <[Value; 2]>::try_from(items(&world, "triggers")).unwrap();
        let counts = ["fired", "suppressed", "recorded", "givenUp"].map(|key| rule[key].as_u64());
        assert_eq!(counts, [1, 99, 1, 0].map(Some), "{rule}");
        assert_eq!((&other["fired"], &other["suppressed"]), (&json!(0), &json!(0)), "{other}");
        let shown = world.hopctl_attempt(&["get", "recordings"]).unwrap().success().unwrap();
        assert!(shown.stderr.contains("not recorded of `drop reason=SourceIpSpoofed`: 99, "));
        assert!(shown.stdout.contains(&*file.to_string_lossy()), "{shown:?}");
        let status = world.hopctl(&["status"]).unwrap();
        assert!(status.contains("triggers  rules 2, recordings 1; "), "{status}");
        world.settle(&["SourceIpSpoofed"]);
    }
}

#[test]
fn resets_silence_and_failed_probes_are_recorded() {
    let rules = json!([
        {"on": "rst port=default/b", "after": "300ms"},
        {"on": "no-answer 2s udp/53", "after": "300ms"},
        {"on": "probe-failed port=default/a", "after": "300ms"},
        {"on": "probe-failed port=default/b", "after": "300ms"},
    ]);
    for kind in KINDS {
        let world = world(kind, &rules);
        let [a, b] = world.pods(["a", "b"]);
        let of = |rule: &Value| {
            let is_it = |item: &Value| item["rule"] == rule["on"];
            let mut found = items(&world, "recordings").into_iter().filter(is_it);
            (found.next(), found.count())
        };
        let one = |number: usize| {
            let rule = &rules[number];
            let found = eventually(&world, &rule.to_string(), || of(rule).0);
            assert_eq!(of(rule).1, 0, "one of {rule}");
            replay(&world, &path(&found));
            found["event"].as_str().unwrap().to_owned()
        };
        let curl =
            |address: &str| ["-s", "-m", "3", &format!("http://{address}:81/")].map(str::to_owned);
        let attempt = |netns: &lab::Namespace, address: Ipv4Addr| {
            let args = curl(&address.to_string());
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            assert_ne!(netns.attempt("curl", &args, PATIENCE).unwrap().code, Some(0));
        };
        let _silent = b.serve(&["pace-receive", "--listen", "0.0.0.0:53"]).unwrap();
        let _answers = a.serve(&["udp-echo", "--listen", "0.0.0.0:53"]).unwrap();
        let asked = format!("{}:53", a.v4().unwrap());
        b.lab(&["udp-rr", "--to", &asked, "--size", "40"]).unwrap();
        let silent = format!("@{}", b.v4().unwrap());
        let dig = ["+tries=1", "+time=3", &*silent, "hopscope.dev"];
        assert_ne!(a.attempt("dig", &dig, PATIENCE).unwrap().code, Some(0));
        let event = one(1);
        let to = format!("> {}:53 from pod/default/a", b.v4().unwrap());
        assert!(event.starts_with("no answer for 20") && event.contains(&to), "{event}");
        // A closed port: b's kernel sends the RST, and a probe of the node finds the same.
        attempt(&a, b.v4().unwrap());
        let event = one(0);
        assert!(event.contains("tcp") && event.contains(" from pod/default/b; walk "), "{event}");
        attempt(&world.netns, b.v4().unwrap());
        assert!(one(3).starts_with("refused by RST: tcp "), "{}", one(3));
        // A pod whose answers go nowhere.
        let node = world.v4().unwrap().to_owned();
        a.ip(&["route", "add", "blackhole", &node]).unwrap();
        attempt(&world.netns, a.v4().unwrap());
        let event = one(2);
        assert!(
            event.starts_with("no answer for 10") && event.contains(":81 from host"),
            "{event}"
        );
        assert_eq!(items(&world, "recordings").len(), 4);
        world.settle(&[]);
    }
}

#[test]
fn the_budget_keeps_the_newest_and_survives_a_restart() {
    let rules = json!([{"on": "drop class=spoofed", "after": "0s", "every": "1s"}]);
    let mut world = world("tap", &rules);
    let [a, b] = world.pods(["a", "b"]);
    for count in 1..=3 {
        spoof(&a, &b, 1);
        recordings(&world, count);
        std::thread::sleep(Duration::from_millis(1_100));
    }
    let kept = items(&world, "recordings");
    let times: Vec<&str> = kept.iter().map(|item| item["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a > b), "{times:?}");
    // Room for one and a half of the newest.
    let size = kept[0]["sizeBytes"].as_u64().unwrap();
    world.stop().unwrap();
    world.set("recordings-budget", (size * 3 / 2).to_string());
    world.start().unwrap();
    let left = recordings(&world, 1);
    assert_eq!(left[0]["path"], kept[0]["path"], "the newest stays");
    spoof(&a, &b, 1);
    let newer = eventually(&world, "another one", || {
        let items = items(&world, "recordings");
        items.into_iter().next().filter(|newest| newest["path"] != kept[0]["path"])
    });
    assert!(items(&world, "recordings").len() <= 2 && path(&newer).exists());
    let used: u64 =
        items(&world, "recordings").iter().map(|item| item["sizeBytes"].as_u64().unwrap()).sum();
    assert!(used <= size * 3 / 2, "{used}");
    // None fits any more: said, and nothing is left.
    world.stop().unwrap();
    world.set("recordings-budget", "1Ki");
    world.start().unwrap();
    recordings(&world, 0);
    spoof(&a, &b, 1);
    let problem = eventually(&world, "a problem", || problem(&world));
    assert!(problem.contains("is not kept: recordings-budget is 1024 bytes"), "{problem}");
    assert_eq!(files(&world), Vec::<String>::new());
    world.settle(&["SourceIpSpoofed"]);
}

/// What status says of recordings.
fn problem(world: &World) -> Option<String> {
    let status = world.hopctl_json(&["status"]).unwrap();
    let problems = status["problems"].as_array().unwrap().iter();
    let mut texts = problems.map(|problem| problem["message"].as_str().unwrap().to_owned());
    texts.find(|text| text.contains("no recording"))
}

fn files(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.state_dir().join("recordings")).into_iter().flatten();
    entries.flatten().map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing_half_written() {
    let rules = json!([{"on": "drop class=spoofed", "after": "0s", "every": "1s"}]);
    let mut world = World::prepare(spec("tap", &rules));
    let disk = Disk::new(world.state_dir().join("recordings"), "64k");
    // A recording begins to be written and is stopped.
    disk.fill_but(1);
    world.start().unwrap();
    let [a, b] = world.pods(["a", "b"]);
    spoof(&a, &b, 1);
    let told = eventually(&world, "a problem", || problem(&world));
    assert!(told.contains("drop class=spoofed") && told.contains("free the disk"), "{told}");
    assert!(world.log().contains("recording not kept"), "{}", world.log());
    assert_eq!(files(&world), [BALLAST]);
    // The node goes on, and with room the next one is kept.
    a.run("ping", &["-c", "1", "-W", "2", &b.v4().unwrap().to_string()]).unwrap();
    disk.grow("16m");
    std::thread::sleep(Duration::from_millis(1_100));
    spoof(&a, &b, 1);
    let kept = recordings(&world, 1);
    replay(&world, &path(&kept[0]));
    assert_eq!(problem(&world), None);
    world.settle(&["SourceIpSpoofed"]);
    b.remove().unwrap();
    a.remove().unwrap();
    world.stop().unwrap();
}

#[test]
fn a_short_journal_gives_what_it_has_and_a_bad_rule_refuses_the_start() {
    let rules = json!([{"on": "drop class=spoofed", "before": "10m", "after": "100ms"}]);
    let mut world = world("tap", &rules);
    let [a, b] = world.pods(["a", "b"]);
    spoof(&a, &b, 1);
    let [recording] = <[Value; 1]>::try_from(recordings(&world, 1)).unwrap();
    let of = |key: &str| recording[key].as_u64().unwrap();
    assert!(of("missingMs") > 500_000 && of("coveredMs") < 100_000, "{recording}");
    assert!((600_090..600_200).contains(&(of("missingMs") + of("coveredMs"))), "{recording}");
    assert!(world.hopctl(&["get", "recordings"]).unwrap().contains("earlier were gone)"));
    replay(&world, &path(&recording));
    world.settle(&["SourceIpSpoofed"]);
    world.stop().unwrap();
    for (rules, parts) in [
        (
            json!([{"on": "drop reason=GuardSource"}]),
            ["triggers[0]", "`GuardSource`", "SourceIpSpoofed"],
        ),
        (json!([{"on": "rst", "earlier": "1s"}]), ["triggers[0]", "`earlier`", "`before`"]),
        (json!([{"on": "rst", "every": "1ms"}]), ["`triggers`", "`every`", "1s to 24h"]),
    ] {
        world.set("triggers", rules);
        let daemon = world.netns.spawn(world.daemon_command().unwrap()).unwrap();
        let refused = daemon.finish(PATIENCE).unwrap();
        assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1), "{refused:?}");
        for part in parts {
            assert!(refused.stderr.contains(part), "{part}: {refused:?}");
        }
    }
}

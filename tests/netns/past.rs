//! What was asked for after the fact: captures of the past show what a live one saw, and drops are
//! explained with the tables as they were.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use lab::Pod;
use lab::process::Output;
use vswitchd::capture::pcapng::read::{Block, Packet, Reader};

use crate::foretell::whole;
use crate::frames::{ethernet, hex, mac, udp4};
use crate::world::LEAVING;
use crate::{KINDS, World};

/// Bytes of a frame that every record holds.
const WINDOW: usize = stack::Frame::WINDOW;

/// The packets of a capture with their interfaces' names, within the window. Interfaces have other
/// numbers in each file.
fn packets(file: &Path) -> Vec<(String, Packet)> {
    let mut reader = Reader::default();
    reader.push(&std::fs::read(file).unwrap());
    let (mut names, mut packets) = (Vec::new(), Vec::new());
    while let Some((block, _)) = reader.block().unwrap() {
        match block {
            Block::Interface(name) => names.push(name),
            Block::Packet(mut packet) => {
                let name = names[usize::try_from(packet.interface).unwrap()].clone();
                packet.interface = 0;
                packet.bytes.truncate(WINDOW);
                packets.push((name, packet));
            }
            Block::Section | Block::Statistics(..) | Block::Other => {}
        }
    }
    packets
}

fn walk(packet: &Packet) -> u64 {
    let (_, walk) = packet.comment.rsplit_once("; walk ").unwrap();
    walk.parse().unwrap()
}

/// Pings, TCP in bulk, and a packet that is dropped.
fn traffic(a: &Pod, b: &Pod) {
    let _tcp = b.serve(&["tcp-receive", "--listen", "[::]:7001"]).unwrap();
    for address in b.addresses() {
        let to = std::net::SocketAddr::new(address, 7001).to_string();
        a.run("ping", &["-c", "2", "-i", "0.05", "-s", "900", &address.to_string()]).unwrap();
        a.lab(&["tcp-send", "--to", &to, "--bytes", "200000"]).unwrap();
    }
    let own = mac(&a.mac().unwrap());
    let packet = udp4("10.244.1.77".parse().unwrap(), b.v4().unwrap(), 64, b"spoofed");
    let frames = a.owner().fresh_path("frames");
    std::fs::write(&frames, hex(&[ethernet(mac(&b.mac().unwrap()), own, 0x0800, &packet)]))
        .unwrap();
    a.lab(&["raw", "--interface", "eth0", "--frames", &frames.to_string_lossy()]).unwrap();
}

/// Asks for what was since a moment.
fn since(world: &World, begun: Instant, args: &[&str]) -> Output {
    let ago = format!("{}ms", begun.elapsed().as_millis() + 1);
    world.hopctl_attempt(&[&["capture", "--since", &ago], args].concat()).unwrap()
}

#[test]
fn a_capture_of_the_past_is_the_live_one() {
    let views: [&[&str]; 3] = [&["--hop", "all"], &["default/b", "tcp"], &["--dropped-only"]];
    for kind in KINDS {
        let world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let begun = Instant::now();
        // The tool takes a while to ask; what live captures saw shall lie behind that all the same.
        std::thread::sleep(Duration::from_millis(300));
        let window = WINDOW.to_string();
        let lives: Vec<_> = views
            .iter()
            .enumerate()
            .map(|(number, view)| {
                let file = world.file(&format!("live{number}.pcapng"));
                let args = [&["-s", &*window], *view].concat();
                (world.capture(&file, &args).unwrap(), file, *view)
            })
            .collect();
        traffic(&a, &b);
        let lives: Vec<_> = lives
            .into_iter()
            .map(|(live, file, view)| {
                whole(&live.stop().unwrap());
                (packets(&file), view)
            })
            .collect();
        world.settle(&["SourceIpSpoofed"]);
        // Whoever is gone was there.
        b.remove().unwrap();
        for (live, view) in lives {
            let file = world.file("past.pcapng");
            let path = file.to_string_lossy();
            let args = [&["-w", &*path], view].concat();
            whole(&since(&world, begun, &args).success().unwrap());
            let walks: BTreeSet<u64> = live.iter().map(|(_, packet)| walk(packet)).collect();
            assert!(!walks.is_empty(), "{view:?}");
            // The live one begins a little later and has ended before the other was asked for.
            let mut past = packets(&file);
            past.retain(|(_, packet)| walks.contains(&walk(packet)));
            for (one, other) in live.iter().zip(&past) {
                assert_eq!(one, other, "{view:?}");
            }
            assert_eq!(live.len(), past.len(), "{view:?}");
        }
        let told = since(&world, begun, &["--dropped-only", "udp"]).success().unwrap();
        assert_eq!(told.stdout.lines().count(), 1, "{told:?}");
        assert!(told.stdout.contains("SourceIpSpoofed"), "{told:?}");
    }
}

#[test]
fn beyond_the_horizon_and_of_nobody_is_told_and_nothing_is_made() {
    let world = World::new("tap");
    let begun = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    let file = world.file("never.pcapng");
    let path = file.to_string_lossy();
    let beyond = world.hopctl_attempt(&["capture", "--since", "3h", "-w", &path]).unwrap();
    assert_eq!(beyond.code, Some(1), "{beyond:?}");
    assert!(beyond.stderr.contains("it begins ") && beyond.stderr.contains(" s ago, at 2"));
    assert_eq!(beyond.stderr.lines().count(), 1, "{beyond:?}");
    let nobody = since(&world, begun, &["default/nobody", "-w", &path]);
    assert_eq!(nobody.code, Some(2), "{nobody:?}");
    assert!(nobody.stderr.contains("no port was named pod/default/nobody"), "{nobody:?}");
    assert!(!file.exists());
}

/// The newest drop for a reason, as `explain drop` lists it.
fn newest(world: &World, reason: &str) -> String {
    let list = world.hopctl_json(&["explain", "drop"]).unwrap();
    assert_eq!(list["kind"], "DroppedWalkList");
    let items = list["items"].as_array().unwrap();
    assert!(items.len() <= 10, "{list}");
    let newest = items.iter().find(|item| item["reason"] == reason).unwrap();
    newest["walk"].to_string()
}

#[test]
fn a_drop_is_explained_with_the_tables_as_they_were() {
    for kind in KINDS {
        let mut world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let begun = Instant::now();
        std::thread::sleep(Duration::from_millis(300));
        let [to, absent] = [b.v4().unwrap().to_string(), "10.244.1.200".to_owned()];
        let lost = a.run("ping", &["-c", "1", "-W", "1", &absent]);
        assert!(lost.is_err(), "nobody has {absent}");
        a.run("ping", &["-c", "1", "-W", "2", &to]).unwrap();
        let id = newest(&world, "NeighborUnknown");
        // The number is the one that captures print.
        let captured = since(&world, begun, &["--dropped-only", "arp"]).success().unwrap();
        assert!(captured.stdout.contains(&format!("; walk {id}\n")), "{captured:?}");
        // The tables are others since.
        a.remove().unwrap();
        let told = world.hopctl_attempt(&["explain", "drop", &id]).unwrap().success().unwrap();
        for part in [
            &*format!("walk {id} at 2"),
            "frame from pod/default/a: arp who has 10.244.1.200",
            "egress     drop NeighborUnknown: ARP or ND asks for an address that nobody has",
            "came in by pod/default/a:",
            "neighbor 10.244.1.200: there was none",
        ] {
            assert!(told.stdout.contains(part), "{part}: {told:?}");
        }
        let hint = "hint: the address is not attached on this node: hopctl get neighbors";
        assert!(told.stderr.contains(hint), "{told:?}");
        let object = world.hopctl_json(&["explain", "packet", &id]).unwrap();
        assert_eq!(object["kind"], "Explanation");
        assert_eq!(object["drop"]["reason"], "NeighborUnknown");
        assert_eq!(object["lookups"][1]["row"], serde_json::Value::Null);
        let captured = since(&world, begun, &["-c", "1", "icmp"]).success().unwrap();
        let (_, forwarded) = captured.stdout.trim_end().rsplit_once("; walk ").unwrap();
        let passed = world.hopctl(&["explain", "packet", forwarded]).unwrap();
        assert!(
            passed.contains("destination MAC ") && passed.contains("to leave by pod/default/b")
        );
        let file = world.file("bug.pcapng").to_string_lossy().into_owned();
        world.hopctl(&["record", "-w", &file]).unwrap();
        for (args, code, part) in [
            (&["drop", forwarded][..], 1, "was not dropped: forward to pod/default/b"),
            (&["packet", "99999999"], 1, "there has been no walk 99999999: the newest is "),
            (&["drop", "1", "2"], 2, "one ID will do"),
            (&["packet"], 2, "needs an ID"),
            (&["drop", "x7"], 2, "x7 is no ID"),
            (&["--file", "/nonexistent", "drop"], 2, "/nonexistent"),
        ] {
            let refused = world.hopctl_attempt(&[&["explain"], args].concat()).unwrap();
            assert_eq!(refused.code, Some(code), "{refused:?}");
            assert!(refused.stderr.contains(part) && refused.stdout.is_empty(), "{refused:?}");
        }
        world.settle(&[&["NeighborUnknown"], LEAVING].concat());
        b.remove().unwrap();
        world.stop().unwrap();
        let alone = world.hopctl_attempt(&["explain", "drop", &id]).unwrap();
        assert_eq!(alone.code, Some(3), "{alone:?}");
        let again = world.hopctl(&["explain", "--file", &file, "drop", &id]).unwrap();
        assert_eq!(again, told.stdout);
    }
}

//! Files judged by tshark, and the laws of captures over a real switch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use smoltcp::wire::Ipv4Address;
use stack::wire::build::flags;
use stack::{Frame, Stage};

use super::super::cbpf::{Bytes, Program};
use super::super::packet_id::packet_id;
use super::super::pcapng::read::{Block, Packet, Reader};
use super::super::pcapng::{CHECKSUM_NOT_READY, INBOUND, OUTBOUND, Statistics, TCP_SEGMENTATION};
use super::super::world::{A, B, HOST, UTC_OFFSET, World, bridged, offloaded, routed, v4};
use super::super::{Options, Points};
use crate::cli::filter::compile;

/// Interfaces by number, frames, and what was counted.
type Parsed = (Vec<String>, Vec<Packet>, Vec<(u32, Statistics)>);

fn parse(file: &[u8]) -> Parsed {
    let mut reader = Reader::default();
    reader.push(file);
    let mut parsed = Parsed::default();
    let mut read = 0;
    while let Some((block, bytes)) = reader.block().unwrap() {
        read += bytes.len();
        match block {
            Block::Interface(name) => parsed.0.push(name),
            Block::Packet(packet) => parsed.1.push(packet),
            Block::Statistics(interface, counts) => parsed.2.push((interface, counts)),
            Block::Section | Block::Other => {}
        }
    }
    assert_eq!(read, file.len(), "whole blocks only");
    parsed
}

fn hops() -> Options {
    Options { points: Points::AllHops.select().unwrap(), ..Options::default() }
}

fn filtered(options: Options, expression: &str) -> Options {
    let filter = Program::new(&compile(expression).unwrap()).unwrap();
    Options { filter: Some(filter), filter_text: expression.to_owned(), ..options }
}

fn walk(packet: &Packet) -> u64 {
    packet.comment.rsplit_once("; walk ").unwrap().1.parse().unwrap()
}

/// tshark on a file, checksums on. Whatever it says on stderr is a failure.
fn tshark(name: &str, file: &[u8], args: &[&str]) -> Vec<String> {
    let path = std::env::temp_dir().join(format!("hopscope-{}-{name}.pcapng", std::process::id()));
    fs::write(&path, file).unwrap();
    let on = ["ip.check_checksum:TRUE", "tcp.check_checksum:TRUE", "udp.check_checksum:TRUE"];
    let output = Command::new("tshark")
        .args(["-n", "-r"])
        .arg(&path)
        .args(on.iter().flat_map(|option| ["-o", option]))
        .args(args)
        .output()
        .expect("tshark is installed");
    fs::remove_file(&path).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<_> = errors.lines().filter(|line| !line.contains("Running as user")).collect();
    assert!(output.status.success() && errors.is_empty(), "tshark: {errors:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

const WRONG: &str = "ip.checksum.status==0 || tcp.checksum.status==0 || udp.checksum.status==0 || \
    icmp.checksum.status==0 || icmpv6.checksum.status==0 || _ws.malformed || \
    _ws.expert.severity==error";

#[test]
fn tshark_finds_nothing_wrong_in_either_view() {
    let mut world = World::new();
    let ports = world.capture(Options::default());
    let hops = world.capture(hops());
    world.traffic();
    for (name, file) in [("ports", ports.finish()), ("hops", hops.finish())] {
        let (_, packets, _) = parse(&file);
        let seen = tshark(name, &file, &["-T", "fields", "-e", "frame.packet_id"]);
        assert_eq!(seen.len(), packets.len(), "{name}");
        let ours: Vec<_> = packets.iter().map(|packet| packet.id.to_string()).collect();
        assert_eq!(seen, ours, "{name}: ids");
        // The one super-frame with bytes that no wire has is right as well.
        let wrong = tshark(name, &file, &["-Y", WRONG]);
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        let good = tshark(name, &file, &["-Y", "tcp.checksum.status==1 && tcp.len==30000"]);
        assert!(!good.is_empty(), "{name}: the super-frame is verified");
    }
}

#[test]
fn interfaces_are_the_hop_points() {
    let mut world = World::new();
    let ports = world.capture(Options::default());
    let hops = world.capture(hops());
    world.traffic();
    let (ports, hops) = (ports.finish(), hops.finish());
    let names = ["host", "pod/demo/a", "pod/demo/b", "pod/demo/c", "endpoint/gateway"];
    assert_eq!(parse(&ports).0, names);
    let stages: Vec<_> = Stage::ALL.iter().map(|stage| format!("hop/{}", stage.name())).collect();
    assert_eq!(parse(&hops).0, stages);
    let names = tshark("names", &hops, &["-T", "fields", "-e", "frame.interface_name"]);
    assert!(names.iter().all(|name| stages.contains(name)), "{names:?}");
}

#[test]
fn a_bridged_packet_is_in_once_and_out_once_with_one_id() {
    let mut world = World::new();
    let file = world.capture(Options::default());
    let bytes = bridged(A, B).ipv4(v4(A), v4(B)).udp(1, 2, b"x");
    world.put(A, Frame::from_bytes(&bytes));
    let (names, packets, counts) = parse(&file.finish());
    let shown: Vec<_> = packets
        .iter()
        .map(|packet| (names[usize::try_from(packet.interface).unwrap()].as_str(), packet.flags))
        .collect();
    assert_eq!(shown, [("pod/demo/a", INBOUND), ("pod/demo/b", OUTBOUND)]);
    assert_eq!(packets[0].id, packets[1].id);
    assert_eq!(packets[0].time, world.now.0 + u64::try_from(UTC_OFFSET).unwrap());
    assert!(packets.iter().all(|packet| packet.bytes == bytes));
    assert_eq!(packets[0].comment, "egress     forward to pod/demo/b; walk 1");
    let one = Statistics { received: 1, lost: 0 };
    let none = Statistics::default();
    assert_eq!(counts, [(0, none), (1, one), (2, one), (3, none), (4, none)]);
}

/// The last hop shows what left, and each comment is the line of the same packet's trace.
#[test]
fn the_last_hop_is_what_left() {
    let mut world = World::new();
    let file = world.capture(hops());
    let outside = Ipv4Address::new(203, 0, 113, 9);
    let frame = Frame::from_bytes(&routed(A).ipv4(v4(A), outside).udp(1, 2, b"x"));
    let trace = world.switch.trace(world.now, A, &frame);
    let names = world.names.load_full();
    let lines: Vec<_> = (0..trace.hops().len())
        .map(|hop| {
            let mut line = String::new();
            trace.line(hop, frame.window(), &*names, &mut line).unwrap();
            line + "; walk 1"
        })
        .collect();
    let received = frame.bytes().to_vec();
    let left = world.put(A, frame);
    let (_, packets, _) = parse(&file.finish());
    let comments: Vec<_> = packets.iter().map(|packet| packet.comment.clone()).collect();
    assert_eq!(comments, lines);
    assert_eq!(packets[0].bytes, received);
    assert_eq!(packets.last().unwrap().bytes, left[0].1.bytes());
    assert_ne!(packets.last().unwrap().bytes, received);
    assert_eq!(left[0].0, HOST);
}

#[test]
fn the_kept_set_is_that_of_the_filter_on_the_unfiltered_file() {
    let expressions = [
        "tcp",
        "udp port 53",
        "icmp or icmp6",
        "arp",
        "ether host 02:00:00:00:00:01",
        "ip[8] = 63",
        "host 203.0.113.9",
        "greater 1000",
        "ip6 and not udp",
        "icmp[icmptype] = icmp-echoreply",
    ];
    for expression in expressions {
        for options in [Options::default(), hops()] {
            let mut world = World::new();
            let forms = [world.capture(Options::default()), world.capture(hops())];
            let all = world.capture(options.clone());
            let some = world.capture(filtered(options, expression));
            world.traffic();
            let forms = forms.map(|file| parse(&file.finish()).1).concat();
            let (_, all, _) = parse(&all.finish());
            let (_, some, _) = parse(&some.finish());
            let filter = Program::new(&compile(expression).unwrap()).unwrap();
            let key = |packet: &Packet| (walk(packet), packet.id);
            let matched: BTreeSet<_> = forms
                .iter()
                .filter(|packet| filter.accepts(Bytes::whole(&packet.bytes)))
                .map(key)
                .collect();
            let expected = || all.iter().filter(|packet| matched.contains(&key(packet)));
            let count = expected().count();
            assert!(0 < count && count < all.len(), "{expression}: {count} of {}", all.len());
            assert!(some.iter().eq(expected()), "{expression}: the kept set differs");
        }
    }
}

#[test]
fn ids_tie_the_hops_of_a_packet_and_tell_packets_apart() {
    let mut world = World::new();
    let file = world.capture(hops());
    world.traffic();
    let (_, packets, _) = parse(&file.finish());
    let mut by_walk: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for packet in &packets {
        by_walk.entry(walk(packet)).or_default().insert(packet.id);
    }
    for (number, ids) in &by_walk {
        let answered = packets.iter().any(|p| walk(p) == *number && p.comment.contains("answered"));
        assert_eq!(ids.len(), if answered { 2 } else { 1 }, "walk {number}");
    }
    let ids: BTreeSet<_> = by_walk.values().flatten().collect();
    assert_eq!(ids.len(), by_walk.values().map(BTreeSet::len).sum::<usize>());
}

#[test]
fn scope_drops_and_count_are_kept_to() {
    let mut world = World::new();
    let host = world.capture(Options { scope: Some(vec![HOST]), ..Options::default() });
    let dropped = world.capture(Options { dropped_only: true, ..Options::default() });
    let three = world.capture(Options { count: Some(3), ..Options::default() });
    world.traffic();
    assert_eq!(world.sessions.len(), 2, "the third had enough");
    let (_, host, _) = parse(&host.finish());
    let (_, dropped, _) = parse(&dropped.finish());
    let (_, three, _) = parse(&three.finish());
    for number in host.iter().map(walk).collect::<BTreeSet<_>>() {
        assert!(host.iter().any(|packet| walk(packet) == number && packet.interface == 0));
    }
    assert!(
        !dropped.is_empty() && dropped.iter().all(|p| p.comment.starts_with("egress     drop "))
    );
    assert_eq!(three.iter().map(walk).collect::<BTreeSet<_>>(), BTreeSet::from([1, 2, 3]));
}

#[test]
fn what_does_not_fit_is_counted_once_and_never_waited_for() {
    const PUT: u64 = 5_000;
    let mut world = World::new();
    let files = [world.capture(Options::default()), world.capture(hops())];
    let bytes = bridged(A, B).ipv4(v4(A), v4(B)).udp(1, 2, b"x");
    for _ in 0..PUT {
        world.put(A, Frame::from_bytes(&bytes));
    }
    for file in files {
        let (_, packets, counts) = parse(&file.finish());
        let written: BTreeSet<_> = packets.iter().map(walk).collect();
        let lost: u64 = counts.iter().map(|(_, counts)| counts.lost).sum();
        assert!(lost > 0);
        assert_eq!(u64::try_from(written.len()).unwrap() + lost, PUT);
        for (interface, counted) in counts {
            let written = packets.iter().filter(|packet| packet.interface == interface).count();
            assert_eq!(counted.received, u64::try_from(written).unwrap() + counted.lost);
        }
    }
}

#[test]
fn a_cut_frame_says_that_its_checksum_is_not_ready() {
    let mut world = World::new();
    let cut = world.capture(Options { snaplen: 60, ..Options::default() });
    let whole = world.capture(Options::default());
    world.put(A, offloaded(A, B, 9_000, 1_448));
    let (_, cut, _) = parse(&cut.finish());
    let (_, whole, _) = parse(&whole.finish());
    assert_eq!((cut[0].bytes.len(), cut[0].original_len), (60, 9_054));
    assert_eq!(cut[0].flags, INBOUND | CHECKSUM_NOT_READY | TCP_SEGMENTATION);
    assert_eq!(whole[0].flags, INBOUND | TCP_SEGMENTATION);
    assert_eq!(whole[0].bytes.len(), 9_054);
    assert_eq!(cut[0].id, whole[0].id);
    let first = bridged(A, B).ipv4(v4(A), v4(B));
    let first = first.tcp((41_000, 80), flags::ACK, 990, 7, &[0; 10]);
    assert_eq!(packet_id(&first, None), cut[0].id);
}

#[test]
fn answers_are_packets_of_their_own() {
    let mut world = World::new();
    let file = world.capture(hops());
    let link = routed(A);
    let ping = link.ipv4(v4(A), v4(HOST)).echo(true, 7, 1, b"ping");
    let left = world.put(A, Frame::from_bytes(&ping));
    let (names, packets, _) = parse(&file.finish());
    let (answers, own): (Vec<_>, Vec<_>) = packets
        .iter()
        .map(|packet| (names[usize::try_from(packet.interface).unwrap()].as_str(), packet))
        .partition(|(name, _)| matches!(*name, "hop/answer" | "hop/egress"));
    assert!(own.len() >= 2 && own[0].1.bytes == ping);
    assert!(own.iter().all(|(_, packet)| packet.id == own[0].1.id));
    assert_eq!(answers.len(), 2);
    for (name, packet) in answers {
        assert_eq!(packet.bytes, left[0].1.bytes(), "{name}");
        assert_ne!(packet.id, own[0].1.id);
    }
}

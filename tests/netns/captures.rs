//! Captures of every hop: Wireshark finds no fault in them, ids tie the hops of a packet together,
//! filters choose what tshark would, and drops say why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lab::node::Capture;
use lab::{Pod, tshark};
use vswitchd::capture::pcapng::read::{Block, Packet, Reader};

use crate::foretell::whole;
use crate::frames::{ethernet, hex, mac, udp4};
use crate::{KINDS, World};

/// Some of everything between two pods: ICMP, UDP with fragments, TCP in bulk, both families.
fn traffic(a: &Pod, b: &Pod) {
    let _tcp = b.serve(&["tcp-receive", "--listen", "[::]:7001"]).unwrap();
    let _udp = b.serve(&["udp-echo", "--listen", "[::]:7002"]).unwrap();
    for address in b.addresses() {
        let at = |l4_port| std::net::SocketAddr::new(address, l4_port).to_string();
        a.run("ping", &["-c", "2", "-i", "0.05", "-W", "2", &address.to_string()]).unwrap();
        a.lab(&["udp-rr", "--to", &at(7002), "--size", "3000", "--count", "2"]).unwrap();
        a.lab(&["tcp-send", "--to", &at(7001), "--bytes", "300000"]).unwrap();
    }
}

/// Interface names and comments of a file's packets, by their ids, in the order of the file.
fn by_id(file: &Path) -> BTreeMap<String, Vec<(String, String)>> {
    let mut ids: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let names = ["frame.packet_id", "frame.interface_name", "frame.comment"];
    for packet in tshark::fields(file, "", &names).unwrap() {
        let [id, interface, comment] = packet.try_into().unwrap();
        ids.entry(id).or_default().push((interface, comment));
    }
    ids
}

#[test]
fn wireshark_finds_no_fault_and_ids_tie_the_hops() {
    for kind in KINDS {
        let world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let file = world.file("all.pcapng");
        let capture = world.capture(&file, &["--hop", "all"]).unwrap();
        traffic(&a, &b);
        let ended = capture.stop().unwrap();
        whole(&ended);
        assert!(tshark::judge(&file).unwrap() > 50, "{ended:?}");
        let syn =
            tshark::fields(&file, "tcp.flags.syn == 1 && tcp.flags.ack == 0", &["frame.packet_id"]);
        let syns: BTreeSet<String> = syn.unwrap().into_iter().flatten().collect();
        assert_eq!(syns.len(), 2, "one SYN a family");
        let ids = by_id(&file);
        for id in &syns {
            let points: Vec<&str> = ids[id].iter().map(|(name, _)| name.as_str()).collect();
            let hops: Vec<&str> =
                points.iter().filter(|name| name.starts_with("hop/")).copied().collect();
            let stages = ["parse", "l2", "conntrack", "l3", "policy", "egress"];
            assert_eq!(hops, stages.map(|stage| format!("hop/{stage}")));
            let (_, verdict) = &ids[id][points.len() - 1];
            assert!(verdict.contains("forward to pod/default/b"), "{verdict}");
            let walks: BTreeSet<&str> =
                ids[id].iter().filter_map(|(_, comment)| comment.split("walk ").nth(1)).collect();
            assert_eq!(walks.len(), 1, "one walk: {:?}", ids[id]);
        }
        world.settle(&[]);
    }
}

/// The ports alone, and every hop.
const VIEWS: [&[&str]; 2] = [&[], &["--hop", "all"]];

#[test]
fn a_filter_chooses_what_tshark_would() {
    for kind in KINDS {
        let world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let v6 = b.v6().unwrap().to_string();
        // A capture filter, and the display filter that means the same.
        let filters = [
            ("icmp", "icmp".to_owned()),
            ("tcp port 7001", "tcp.port == 7001".to_owned()),
            (&*format!("ip6 and dst host {v6}"), format!("ipv6.dst == {v6}")),
            (
                "udp and less 200",
                "(ip.proto == 17 || ipv6.nxt == 17 || ipv6.fraghdr.nxt == 17) && frame.len <= 200"
                    .to_owned(),
            ),
            // Only the answer, and only what a hop has changed: the routed packet as it leaves.
            ("icmp[icmptype] == icmp-echoreply", "icmp.type == 0".to_owned()),
            (
                "icmp and ip[8] == 63 and ether src 02:48:4f:50:00:01",
                "icmp && ip.ttl == 63 && eth.src == 02:48:4f:50:00:01".to_owned(),
            ),
        ]
        .map(|(capture, display)| (capture.to_owned(), display));
        for view in VIEWS {
            chosen(&world, [&a, &b], view, &filters);
        }
        world.settle(&[]);
    }
}

/// Captures of the same traffic, one with each filter and one without, agree.
fn chosen(world: &World, [a, b]: [&Pod; 2], view: &[&str], filters: &[(String, String)]) {
    let all = world.file("unfiltered.pcapng");
    let everything = world.capture(&all, view).unwrap();
    let captures: Vec<_> = filters
        .iter()
        .enumerate()
        .map(|(index, (filter, display))| {
            let file = world.file(&format!("filter{index}.pcapng"));
            let args = [view, &[filter.as_str()]].concat();
            (world.capture(&file, &args).unwrap(), file, filter, display)
        })
        .collect();
    traffic(a, b);
    a.run("ping", &["-c", "1", "-W", "2", "192.0.2.11"]).unwrap();
    a.run("ping", &["-c", "1", "-W", "2", "10.244.1.1"]).unwrap();
    whole(&everything.stop().unwrap());
    let everything = packets(&all, "");
    let judge = |(capture, file, filter, display): (Capture, PathBuf, &String, &String)| {
        whole(&capture.stop().unwrap());
        let own = written(&file);
        assert!(!own.is_empty(), "{filter}");
        // A packet is kept whole if its form at any hop matches.
        let matching = packets(&all, display);
        let kept: BTreeSet<String> = matching.iter().map(one).collect();
        let judged = everything.iter().filter(|packet| kept.contains(&one(packet)));
        let judged: Vec<_> = judged.cloned().collect();
        assert_eq!(own, judged, "{view:?} {filter} and {display}");
    };
    // Most of the time is tshark's start, and nobody else is busy by now.
    std::thread::scope(|scope| {
        for capture in captures {
            scope.spawn(|| judge(capture));
        }
    });
}

/// What tells one packet from another, as tshark shows it of those that a display filter accepts:
/// id, interface, length and comment; sorted.
fn packets(file: &Path, display: &str) -> Vec<[String; 4]> {
    let names = ["frame.packet_id", "frame.interface_name", "frame.len", "frame.comment"];
    let packets = tshark::fields(file, display, &names).unwrap();
    let mut packets: Vec<[String; 4]> =
        packets.into_iter().map(|packet| packet.try_into().unwrap()).collect();
    packets.sort();
    packets
}

/// The same of all packets of a file, without tshark, whose start takes longer than all else here.
fn written(file: &Path) -> Vec<[String; 4]> {
    let mut reader = Reader::default();
    reader.push(&std::fs::read(file).unwrap());
    let (mut interfaces, mut packets) = (Vec::new(), Vec::new());
    while let Some((block, _)) = reader.block().unwrap() {
        match block {
            Block::Interface(name) => interfaces.push(name),
            Block::Packet(Packet { interface, original_len, id, comment, .. }) => {
                let interface = interfaces[usize::try_from(interface).unwrap()].clone();
                packets.push([id.to_string(), interface, original_len.to_string(), comment]);
            }
            Block::Section | Block::Statistics(..) | Block::Other => {}
        }
    }
    packets.sort();
    packets
}

/// What all hops of one packet have in common: its id, and its walk, in which a request and the
/// switch's answer to it are two.
fn one([id, _, _, comment]: &[String; 4]) -> String {
    let (_, walk) = comment.rsplit_once("; walk ").unwrap();
    format!("{id} {walk}")
}

#[test]
fn a_drop_is_shown_with_its_reason() {
    let world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    let file = world.file("dropped.pcapng");
    let capture = world.capture(&file, &["--hop", "all", "--dropped-only"]).unwrap();
    let own = mac(&a.mac().unwrap());
    let packet = udp4("10.244.1.77".parse().unwrap(), b.v4().unwrap(), 64, b"spoofed");
    let frames = a.owner().fresh_path("frames");
    let frame = ethernet(mac(&b.mac().unwrap()), own, 0x0800, &packet);
    std::fs::write(&frames, hex(&[frame])).unwrap();
    a.lab(&["raw", "--interface", "eth0", "--frames", &frames.to_string_lossy()]).unwrap();
    a.run("ping", &["-c", "1", "-W", "2", &b.v4().unwrap().to_string()]).unwrap();
    whole(&capture.stop().unwrap());
    let spoofed = tshark::fields(&file, "ip.src == 10.244.1.77", &["frame.comment"]).unwrap();
    let comments = spoofed.concat().join("\n");
    assert!(comments.contains("SourceIpSpoofed"), "{comments}");
    assert_eq!(tshark::fields(&file, "icmp", &["frame.number"]).unwrap().len(), 0);
    let ports = world.settle(&["SourceIpSpoofed"]);
    assert_eq!(lab::counters::drops(&ports, "pod/default/a", "SourceIpSpoofed"), 1);
}

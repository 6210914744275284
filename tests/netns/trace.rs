//! `hopctl trace` predicts, hop by hop, what a capture of the real packet then shows.

use std::path::Path;
use std::time::Duration;

use lab::{Namespace, tshark};
use serde_json::Value;

use crate::{KINDS, World};

/// The lines of a trace, each with its stage.
fn predicted(trace: &Value) -> Vec<(String, String)> {
    let text = |hop: &Value, key: &str| hop[key].as_str().unwrap().to_owned();
    let hops = trace["hops"].as_array().unwrap();
    hops.iter().map(|hop| (text(hop, "stage"), text(hop, "line"))).collect()
}

/// The comments at the hops of the first packet that a display filter accepts.
fn shown(file: &Path, filter: &str) -> Vec<(String, String)> {
    let ids = tshark::fields(file, filter, &["frame.packet_id"]).unwrap();
    let id = ids.first().unwrap_or_else(|| panic!("{filter} is in the capture"))[0].clone();
    let filter = format!("frame.packet_id == {id}");
    let packets =
        tshark::fields(file, &filter, &["frame.interface_name", "frame.comment"]).unwrap();
    packets
        .into_iter()
        .filter_map(|packet| {
            let [interface, comment] = packet.try_into().unwrap();
            Some((interface.strip_prefix("hop/")?.to_owned(), comment))
        })
        .collect()
}

/// The prediction and the capture agree: the same stages, and the same line at each.
///
/// The line of parse spells what an imagined packet cannot know (source port, length, id), so there
/// only addresses and protocol are compared.
fn agree(predicted: &[(String, String)], shown: &[(String, String)], addresses: [&str; 2]) {
    let mut stages: Vec<&str> = predicted.iter().map(|(stage, _)| stage.as_str()).collect();
    // Several hops of one stage are one point of the capture.
    stages.dedup();
    let points: Vec<&str> = shown.iter().map(|(stage, _)| stage.as_str()).collect();
    assert_eq!(points, stages, "{predicted:#?}\n{shown:#?}");
    for (stage, line) in predicted {
        let (_, comment) = shown.iter().find(|(point, _)| point == stage).unwrap();
        if stage == "parse" {
            assert!(addresses.iter().all(|address| comment.contains(address)), "{comment}");
            assert!(addresses.iter().all(|address| line.contains(address)), "{line}");
        } else {
            assert!(comment.contains(line.trim_end()), "{stage}: {line:?} in {comment:?}");
        }
    }
}

/// One question to `hopctl trace`, and the packet that then really goes.
struct Question<'a> {
    to: &'a str,
    how: &'a [&'a str],
    program: (&'a str, &'a [&'a str]),
    filter: &'a str,
    addresses: [&'a str; 2],
    passes: bool,
}

fn check(world: &World, from: (&str, &Namespace), question: &Question<'_>) {
    let args = [&["-o", "json", "trace", from.0, question.to], question.how].concat();
    let output = world.hopctl_attempt(&args).unwrap();
    let code = if question.passes { 0 } else { 1 };
    assert_eq!(output.code, Some(code), "{output:?}");
    let trace: Value = serde_json::from_str(&output.stdout).unwrap();
    let file = world.file("trace.pcapng");
    let capture = world.capture(&file, &["--hop", "all"]).unwrap();
    let (program, args) = question.program;
    // Whether somebody answers is not asked here.
    from.1.attempt(program, args, Duration::from_secs(10)).unwrap();
    capture.stop().unwrap();
    agree(&predicted(&trace), &shown(&file, question.filter), question.addresses);
}

#[test]
fn a_trace_tells_what_the_packet_then_does() {
    for kind in KINDS {
        let world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let (a4, b4) = (a.v4().unwrap().to_string(), b.v4().unwrap().to_string());
        let (a6, b6) = (a.v6().unwrap().to_string(), b.v6().unwrap().to_string());
        let url = format!("http://{b4}/");
        let curl = ["-s", "--max-time", "2", &url];
        let tcp = Question {
            to: "default/b",
            how: &["--tcp", "80"],
            program: ("curl", &curl),
            filter: "tcp.flags.syn == 1 && tcp.flags.ack == 0",
            addresses: [&a4, &b4],
            passes: true,
        };
        check(&world, ("default/a", &a), &tcp);
        let icmp6 = Question {
            to: &b6,
            how: &["--icmp"],
            program: ("ping", &["-c", "1", "-W", "2", &b6]),
            filter: "icmpv6.type == 128",
            addresses: [&a6, &b6],
            passes: true,
        };
        check(&world, ("default/a", &a), &icmp6);
        let node = Question {
            to: "node",
            how: &["--icmp"],
            program: ("ping", &["-c", "1", "-W", "2", "192.0.2.11"]),
            filter: "icmp.type == 8",
            addresses: [&a4, "192.0.2.11"],
            passes: true,
        };
        check(&world, ("default/a", &a), &node);
        let from_node = Question {
            to: "default/a",
            how: &["--icmp"],
            program: ("ping", &["-c", "1", "-W", "2", &a4]),
            filter: "icmp.type == 8",
            addresses: ["192.0.2.11", &a4],
            passes: true,
        };
        check(&world, ("node", &world.netns), &from_node);
        world.settle(&[]);
    }
}

//! Recordings run again: what was captured live is captured again, stops are where they were asked
//! for, and plain captures find their configuration.

use recording::{Cause, Divergence};
use recording::{Excerpt, Header, Id};
use stack::Frame;

use super::objects::Replay;
use super::show::{Part, Show};
use super::time::Until;
use super::with::{Capture, feed};
use super::{Ended, Failure, Options, Stop, Watch, run};
use crate::capture::pcapng::read::{Block, Packet, Reader};
use crate::capture::world::{C, UTC_OFFSET, World};
use crate::capture::{Options as Captured, Points, Selection};
use crate::kube::objects::Desired;
use crate::utc::rfc3339;

pub(super) fn file(excerpt: &Excerpt) -> Vec<u8> {
    let mut out = Vec::new();
    let header = Header { id: Id(5), build: "test 1".to_owned(), redacted: false, about: None };
    recording::write(excerpt, &header, &mut out);
    out
}

pub(super) fn replayed(file: &[u8], options: &Options, show: Option<&mut dyn Watch>) -> Ended {
    run(&mut &*file, options, show, &mut |_, _| {}).unwrap()
}

/// The packets of a capture, each with its interface's name.
fn packets(file: &[u8]) -> Vec<(String, Packet)> {
    let mut reader = Reader::default();
    reader.push(file);
    let (mut names, mut packets) = (Vec::new(), Vec::new());
    while let Some((block, _)) = reader.block().unwrap() {
        match block {
            Block::Interface(name) => names.push(name),
            Block::Packet(packet) => {
                let at = usize::try_from(packet.interface).unwrap();
                packets.push((names[at].clone(), packet));
            }
            Block::Section | Block::Statistics(..) | Block::Other => {}
        }
    }
    packets
}

/// Within the window, since answers are longer than what a live capture of it keeps.
fn windows(packets: Vec<(String, Packet)>) -> Vec<(String, Packet)> {
    let window = |(name, mut packet): (String, Packet)| {
        packet.bytes.truncate(Frame::WINDOW);
        (name, packet)
    };
    packets.into_iter().map(window).collect()
}

#[test]
fn a_capture_by_replay_is_the_live_one() {
    for points in [Selection::Ports, Points::AllHops.select().unwrap()] {
        let mut world = World::new();
        let snaplen = u32::try_from(Frame::WINDOW).unwrap();
        let live = Captured { points: points.clone(), snaplen, ..Captured::default() };
        let live = world.capture(live);
        world.traffic();
        let mut again = Vec::new();
        let options = Captured { points, ..Captured::default() };
        let mut show = Show::new(options, Part::default(), &mut again);
        let ended = replayed(&file(&world.excerpt()), &Options::default(), Some(&mut show));
        assert_eq!(ended.snapshot().unwrap().digest, world.switch.digest());
        let (live, again) = (windows(packets(&live.finish())), windows(packets(&again)));
        assert!(live.len() > 30);
        for (one, other) in live.iter().zip(&again) {
            assert_eq!(one, other);
        }
        assert_eq!(live.len(), again.len());
    }
}

#[test]
fn a_capture_of_the_past_is_the_live_one_of_that_time() {
    let live = |options: Captured| Captured { snaplen: 256, ..options };
    let program = |text: &str| {
        let compiled = crate::cli::filter::compile(text).unwrap();
        Some(crate::capture::cbpf::Program::new(&compiled).unwrap())
    };
    let all = || Points::AllHops.select().unwrap();
    for (options, port) in [
        (Captured { points: all(), ..Captured::default() }, None),
        (Captured { points: all(), dropped_only: true, ..Captured::default() }, None),
        (Captured { filter: program("udp"), count: Some(4), ..Captured::default() }, None),
        (Captured { scope: Some(vec![C]), ..Captured::default() }, Some("pod/demo/c")),
    ] {
        let mut world = World::new();
        world.traffic();
        let from = world.now.0.saturating_add_signed(UTC_OFFSET) + 1;
        let seen = world.capture(live(options.clone()));
        world.traffic();
        let to = world.now.0.saturating_add_signed(UTC_OFFSET);
        let seen = windows(packets(&seen.finish()));
        world.traffic();
        let part = Part { from, to, port: port.map(str::to_owned) };
        let mut again = Vec::new();
        let options = Captured { scope: None, ..options };
        let wants_four = options.count.is_some();
        let mut show = Show::new(options, part, &mut again);
        let ended = replayed(&file(&world.excerpt()), &Options::default(), Some(&mut show));
        assert_eq!(ended.stop.unwrap(), Stop::Enough, "of three times the second");
        let again = windows(packets(&again));
        assert!(!seen.is_empty() && (again.len() < 10 || !wants_four));
        assert_eq!(again, seen, "{port:?}");
    }
}

#[test]
fn of_a_port_that_never_was_there_is_no_file() {
    let mut world = World::new();
    world.traffic();
    let file = file(&world.excerpt());
    let mut out = Vec::new();
    let part = Part { port: Some("pod/demo/nobody".into()), ..Part::default() };
    let mut show = Show::new(Captured::default(), part, &mut out);
    replayed(&file, &Options::default(), Some(&mut show));
    assert_eq!(show.missing(), Some("pod/demo/nobody"));
    assert!(out.is_empty());
}

#[test]
fn it_stops_where_it_was_asked_to() {
    let mut world = World::new();
    world.traffic();
    let file = file(&world.excerpt());
    let ended = replayed(&file, &Options::default(), None);
    let all = Replay::new(&ended, Vec::new());
    assert_eq!((all.stopped, all.equal, all.walks), ("end", true, 25));
    assert_eq!(all.verdicts.values().sum::<u64>(), 25);
    assert_eq!(all.drops.iter().map(|drop| drop.count).sum::<u64>(), all.verdicts["dropped"]);
    assert_eq!(all.first.as_deref(), Some("2023-11-14T22:13:25.001000001Z"));

    let breakpoint = recording::breakpoint::Breakpoint::read("drop=SourceIpSpoofed").unwrap();
    let options = Options { breakpoint: Some(breakpoint), until: None };
    let ended = replayed(&file, &options, None);
    let Ok(Stop::Break(hit)) = &ended.stop else { panic!("{:?}", ended.stop) };
    assert!(hit.what.contains("frame from pod/demo/a: ipv4 10.1.0.4"), "{hit:?}");
    assert!(hit.hops.last().unwrap().starts_with("egress     drop SourceIpSpoofed"), "{hit:?}");
    let drops = ended.snapshot().unwrap().drops(&ended.directory());
    let spoofed = drops.iter().find(|drop| drop.reason == "SourceIpSpoofed").unwrap();
    assert_eq!((spoofed.port.as_str(), spoofed.count), ("pod/demo/a", 1));

    for (text, walks) in [("record=7", 7), ("10ms", 10), ("22:13:25.003", 2)] {
        let options = Options { until: Some(Until::read(text).unwrap()), breakpoint: None };
        let ended = replayed(&file, &options, None);
        assert_eq!(ended.stop.as_ref().unwrap(), &Stop::Until, "{text}");
        assert_eq!(ended.summary.walks, walks, "{text}");
    }
    let early = Options { until: Some(Until::Utc(7)), breakpoint: None };
    let refused = run(&mut &*file, &early, None, &mut |_, _| {}).unwrap_err();
    let Failure::Until(message) = refused else { panic!("{refused:?}") };
    assert!(message.contains(&rfc3339(5_001_000_001 + UTC_OFFSET.unsigned_abs())), "{message}");
}

#[test]
fn damage_is_told_at_its_record_and_a_divergence_says_what_its_record_changed() {
    let mut world = World::new();
    world.traffic();
    let mut excerpt = world.excerpt();
    // A bit of the fourth frame's body, turned before the file was written.
    let fourth = stack::journal::records(&excerpt.records).nth(3).unwrap().unwrap();
    let at = fourth.as_ptr().addr() - excerpt.records.as_ptr().addr() + 32 + 45;
    excerpt.records[at] ^= 1;
    let file = file(&excerpt);
    let ended = replayed(&file, &Options::default(), None);
    let Err(divergence) = &ended.stop else { panic!("{:?}", ended.stop) };
    assert_eq!((divergence.record, divergence.noticed, divergence.walk), (4, 4, 0));
    // Had it been carried out and found later, what it changed would be told.
    let acted = Divergence { record: 3, cause: Cause::Acted, ..(**divergence).clone() };
    let divergence = &acted;
    let open = || -> std::io::Result<Box<dyn std::io::Read>> {
        Ok(Box::new(std::io::Cursor::new(file.clone())))
    };
    let changed = super::changed_by(&open, divergence);
    assert!(changed.len() >= 4 && changed.len().is_multiple_of(2), "{changed:?}");
    let replay = Replay::new(&ended, changed);
    assert_eq!((replay.equal, replay.stopped), (false, "diverged"));
    assert!(replay.divergence.unwrap().message.contains("diverged at record 4 (frame from "));
}

#[test]
fn a_plain_capture_goes_through_a_configuration() {
    let mut world = World::new();
    let live = world.capture(Captured::default());
    world.traffic();
    let capture = Capture::read(&live.finish()).unwrap();
    assert!(capture.left_out > 5, "what left");
    let desired = Desired {
        pod_cidrs: vec!["10.1.0.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()],
        node_addresses: vec!["192.0.2.10".parse().unwrap()],
        ..Desired::default()
    };
    let fed = feed(capture, &desired).unwrap();
    assert_eq!(fed.pods, 2, "a and b send");
    let ended = replayed(&file(&fed.excerpt), &Options::default(), None);
    let all = Replay::new(&ended, Vec::new());
    assert!(all.equal && all.verdicts["forwarded"] > 8, "{all:?}");
    let names = ended.directory();
    let ports = ended.snapshot().unwrap().ports(&names, &[]);
    assert!(ports.iter().any(|port| port.name == "pod/capture/02-00-00-00-00-02"), "{ports:?}");
    // The spoofer's frame is dropped here as well.
    assert!(all.verdicts["dropped"] > 1);
    assert!(feed(Capture::default(), &desired).unwrap_err().contains("nothing to feed"));
    let refused = Capture::read(b"no capture at all, but long enough").unwrap_err();
    assert!(refused.contains("editcap"), "{refused}");
}

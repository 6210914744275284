//! Captures that cannot keep up: nothing that matched is missing without being counted.

use std::collections::BTreeSet;

use smoltcp::wire::Ipv4Address;
use stack::Frame;

use super::super::cbpf::Program;
use super::super::world::{A, B, World, bridged, offloaded, routed, v4};
use super::super::{Options, Points};
use super::{BYTES_MAX, RECORDS_MAX};
use crate::cli::filter::compile;

/// A reader that takes one packet of every four, while as many come that do not match.
fn overloaded(matching: &Frame, puts: usize) -> (usize, usize) {
    let mut world = World::new();
    let filter = Program::new(&compile("udp port 7002 or tcp").unwrap()).unwrap();
    let mut file = world.capture(Options {
        points: Points::AllHops.select().unwrap(),
        filter: Some(filter),
        ..Options::default()
    });
    let other = bridged(A, B).ipv4(v4(A), v4(B)).udp(1, 7_003, b"x");
    let (mut matched, mut read) = (BTreeSet::new(), Vec::new());
    for put in 0..puts {
        world.put(A, matching.duplicate());
        matched.insert(world.switch.tables().walks());
        world.put(A, Frame::from_bytes(&other));
        if put % 4 == 0 {
            read.extend(file.receiver.pop());
        }
    }
    let while_it_ran = read.len();
    read.extend(std::iter::from_fn(|| file.receiver.pop()));
    let captured: BTreeSet<u64> = read.iter().map(|record| record.trace.number).collect();
    assert_eq!(captured.len(), read.len(), "none twice");
    assert!(captured.is_subset(&matched), "only what matches");
    for record in &read {
        assert_eq!(record.received.bytes, matching.bytes(), "whole, whatever became of it");
    }
    let lost: u64 = file.receiver.lost().values().sum();
    let lost = usize::try_from(lost).unwrap();
    assert_eq!(captured.len() + lost, matched.len());
    (while_it_ran, lost)
}

#[test]
fn captured_and_lost_are_all_that_matched() {
    let small = Frame::from_bytes(&bridged(A, B).ipv4(v4(A), v4(B)).udp(1, 7_002, b"x"));
    let puts = 3 * RECORDS_MAX;
    let (read, lost) = overloaded(&small, puts);
    assert_eq!(lost, puts - read - RECORDS_MAX, "as many wait as may");
    // The other bound: bytes.
    let bulky = offloaded(A, B, 60_000, 1_448);
    let wait = BYTES_MAX / bulky.len() + 1;
    let puts = 2 * wait;
    let (read, lost) = overloaded(&bulky, puts);
    assert_eq!(lost, puts - read - wait, "as many wait as may");
}

#[test]
fn a_packet_is_whole_though_its_frame_was_cut_on_the_way() {
    let mut world = World::new();
    let mut file = world.capture(Options::default());
    let link = routed(A);
    let mut padded = link.ipv4(v4(A), Ipv4Address::new(198, 51, 100, 7)).udp(1, 2, &[7; 400]);
    let end = padded.len();
    padded.extend([9; 300]);
    let left = world.put(A, Frame::from_bytes(&padded));
    assert_eq!(left[0].1.len(), end, "a router carries no padding on");
    assert_eq!(file.receiver.pop().unwrap().received.bytes, padded);
}

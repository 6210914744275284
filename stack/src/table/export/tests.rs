//! What is exported comes back, whatever else stands beside it.

use std::string::{String, ToString};
use std::vec;

use smoltcp::wire::{EthernetAddress, Ipv4Address};

use super::*;
use crate::config::{Change, Config, Limits, PortConfig, PortKind, Seeds};
use crate::input::{Event, Frame, Input, Outbox};
use crate::switch::Switch;

fn pod(n: u8) -> PortConfig {
    PortConfig {
        id: PortId(u32::from(n)),
        kind: PortKind::Pod,
        mac: EthernetAddress([2, 0, 0, 0, 0, n]),
        addresses: vec![Ipv4Address::new(10, 1, 0, n).into()],
        allowed: vec![],
        mtu: 1_500,
        up: true,
    }
}

fn configured(pods: &[u8], choice: u64) -> Switch {
    let ports = pods.iter().map(|n| pod(*n)).collect();
    let config = Config { ports, complete: true, ..Config::default() };
    Switch::new(config, Limits::default(), Seeds { table: choice, choice })
}

fn input(switch: &mut Switch, at: u64, input: Input) -> Vec<Event> {
    let mut out = Outbox::default();
    switch.input(Instant(at), input, &mut out);
    out.events
}

/// A switch that has seen something, one port of which is gone.
fn busy() -> Switch {
    let mut switch = configured(&[1, 2, 3], 9);
    for n in 0..200_u32 {
        let port = PortId(n % 4);
        let frame = Frame::from_bytes(&n.to_le_bytes().repeat(20));
        input(&mut switch, u64::from(n) * 1_000, Input::Frame { port, frame });
    }
    input(&mut switch, 300_000, Input::Change(Change::PortRemoved(PortId(3))));
    switch
}

/// Rows of a dump without their slots, which follow from a history.
fn rows(switch: &Switch) -> Vec<String> {
    let row = |line: &str| {
        let (table, words) = line.split_once(':').unwrap_or((line, ""));
        table.split(' ').next().unwrap_or("").to_string() + words
    };
    let mut rows: Vec<String> = switch.dump().lines().map(row).collect();
    rows.sort();
    rows
}

#[test]
fn what_one_switch_exports_another_has() {
    let one = busy();
    // In another order, so that slots differ.
    let mut other = configured(&[2, 1], 4);
    assert_ne!(rows(&one), rows(&other));
    assert_eq!(input(&mut other, 1, Input::Import(one.export())), []);
    assert_eq!(rows(&one), rows(&other));
    assert_eq!(one.export().len(), other.export().len());
    assert_eq!(other.counters().imbalances(), []);
}

#[test]
fn counts_of_ports_that_are_gone_are_kept() {
    let one = busy();
    let mut other = configured(&[2, 7], 4);
    assert_eq!(input(&mut other, 1, Input::Import(one.export())), []);
    assert_eq!(one.counters().total(), other.counters().total());
    assert_eq!(other.counters().port(PortId(7)), Some(&PortCounters::default()));
}

/// An export whose fields are these.
fn made(fields: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut form = Writer::default();
    fields(&mut form);
    [&MAGIC[..], &MAJOR.to_le_bytes(), &form.into_bytes()].concat()
}

#[test]
fn unknown_fields_are_passed_over_and_missing_ones_have_a_value() {
    let strange = made(|form| {
        form.number("mood", 3);
        form.list("connections", 0..3, |form, n| form.number("n", n));
        form.record("walks", |form| form.number("now", 1));
        form.list("ports", [1_u64, 99].into_iter(), |form, id| {
            form.number("vlan", 7);
            form.number("id", id);
            form.record("counters", |form| {
                form.number("received", 30);
                form.number("mirrored", 10);
                form.number("forwarded", 12);
                form.list("dropped", [u64::from(DropReason::ALL[0].code()), 60_000].iter(), {
                    |form, reason| {
                        form.number("reason", *reason);
                        form.number("count", 4);
                    }
                });
            });
        });
        form.number("walks", 17);
    });
    let mut switch = configured(&[1], 4);
    assert_eq!(input(&mut switch, 5, Input::Import(strange)), []);
    assert_eq!((switch.tables().walks(), switch.tables().now()), (17, Instant(5)));
    let counters = switch.counters();
    let port = counters.port(PortId(1)).unwrap();
    assert_eq!((port.received, port.forwarded, port.dropped_total()), (16, 12, 4));
    assert_eq!(counters.gone.forwarded, 12);
    assert_eq!(counters.imbalances(), [], "the law holds of what is known");
    // Nothing at all is an export as well.
    assert_eq!(input(&mut switch, 5, Input::Import(made(|_| {}))), []);
    assert_eq!(switch.tables().walks(), 17);
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let whole = busy().export();
    let mut switch = busy();
    let before = switch.dump();
    let mut newer = whole.clone();
    newer[8] = 2;
    let said = input(&mut switch, 300_000, Input::Import(newer));
    let [Event::NotImported(error)] = &said[..] else { panic!("{said:?}") };
    assert_eq!(*error, ImportError::Version { theirs: 2, ours: MAJOR });
    assert!(error.to_string().contains("of version 2, this program reads 1"));
    let mut cut = 0;
    for len in 0..whole.len() {
        let part = whole.get(..len).unwrap_or(&[]).to_vec();
        let mut fresh = switch.clone();
        if !input(&mut fresh, 300_000, Input::Import(part)).is_empty() {
            assert_eq!(fresh.dump(), before);
            cut += 1;
        }
    }
    // Between two fields an export may end: what follows is missing.
    assert!(cut > whole.len() - 11, "{cut} of {}", whole.len());
    for seed in 0..2_000_u64 {
        let mut damaged = whole.clone();
        let at = usize::try_from(seed.wrapping_mul(0x9e37_79b9)).unwrap_or(0) % damaged.len();
        damaged[at] ^= 1 << (seed % 8);
        let mut fresh = switch.clone();
        // Taken or refused, never a panic, and counts can still be added to.
        let _whatever = input(&mut fresh, 300_000, Input::Import(damaged));
        let frame = Frame::from_bytes(&[0; 60]);
        input(&mut fresh, u64::MAX, Input::Frame { port: PortId(1), frame });
    }
}

//! The chain: its values are fixed, and everything counts.

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::drop::DropReason;
use crate::input::{Frame, PortId, Transmit};

/// Recordings hold these values: a change here is a change of format.
#[test]
fn values_are_fixed() {
    let mut chain = Chain::new();
    chain.record(b"a record of thirty-eight bytes, unpadded");
    chain.outcome(&out(PortId(2), &[7; 100]));
    assert_eq!((chain.inputs(), chain.outcomes(), chain.check()), FIXED);
}

const FIXED: (u64, u64, u32) = (13_802_669_588_287_767_237, 1_710_744_585_325_586_654, 685_687_493);

fn out(port: PortId, bytes: &[u8]) -> Outbox {
    let mut out = Outbox::default();
    out.walked.push(Trace::new(PortId(1)));
    out.transmits.push(Transmit { port, frame: Frame::from_bytes(bytes), walk: 0 });
    out
}

#[test]
fn every_bit_of_a_record_counts() {
    let record: Vec<u8> = (0..100).collect();
    let of = |record: &[u8]| {
        let mut chain = Chain::new();
        chain.record(record);
        chain
    };
    let mut seen = vec![of(&record).inputs()];
    for at in 0..record.len() {
        for bit in 0..8 {
            let mut other = record.clone();
            other[at] ^= 1 << bit;
            // The check itself, and whether it was carried out.
            if (16..20).contains(&at) || (at, bit) == (4, 7) {
                assert_eq!(of(&other), of(&record));
            } else {
                seen.push(of(&other).inputs());
            }
        }
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
    assert_ne!(of(&[0; 8]), of(&[0; 9]), "the length counts");
    assert_ne!(of(&[]), Chain::new());
}

#[test]
fn order_port_and_what_left_count() {
    let of = |outs: &[Outbox]| {
        let mut chain = Chain::new();
        outs.iter().for_each(|out| chain.outcome(out));
        chain
    };
    let (one, two) = ([1_u8; 60], [2_u8; 60]);
    let base = of(&[out(PortId(1), &one), out(PortId(1), &two)]);
    assert_eq!(base, of(&[out(PortId(1), &one), out(PortId(1), &two)]));
    assert_ne!(base, of(&[out(PortId(1), &two), out(PortId(1), &one)]));
    assert_ne!(base, of(&[out(PortId(2), &one), out(PortId(1), &two)]));
    assert_ne!(of(&[out(PortId(1), &one)]), of(&[out(PortId(1), &one[..59])]));
    let mut longer = one.to_vec();
    longer[59] = 9;
    assert_ne!(of(&[out(PortId(1), &one)]), of(&[out(PortId(1), &longer)]));
    let mut described = out(PortId(1), &one);
    let offload = Offload { fragment_mtu: Some(1_280), ..Offload::default() };
    described.transmits[0].frame.set_offload(offload);
    assert_ne!(of(&[out(PortId(1), &one)]), of(&[described]), "the offload description");
    let mut refused = out(PortId(1), &one);
    refused.events.push(Event::Rejected(crate::config::ConfigError::PortUnknown(PortId(1))));
    assert_ne!(of(&[out(PortId(1), &one)]), of(&[refused]), "a refused change");
}

#[test]
fn the_reason_of_a_reset_counts() {
    let of = |verdict| {
        let mut chain = Chain::new();
        let mut out = out(PortId(1), &[1; 60]);
        out.walked[0].verdict = verdict;
        chain.outcome(&out);
        chain
    };
    let (one, other) = (DropReason::ServiceNoBackend, DropReason::ServiceMidStream);
    let reset = of(Verdict::Answer(AnswerKind::Reset { reason: one }));
    assert_eq!(reset, of(Verdict::Answer(AnswerKind::Reset { reason: one })));
    assert_ne!(reset, of(Verdict::Answer(AnswerKind::Reset { reason: other })));
    assert_ne!(reset, of(Verdict::Drop(one)));
    let (icmp_type, code, mtu) = (0, 0, 0);
    assert_ne!(reset, of(Verdict::Answer(AnswerKind::Error { reason: one, icmp_type, code, mtu })));
}

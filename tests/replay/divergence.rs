//! A turned bit in an input, and a switch that is another: found, located, and told apart.

use recording::{Cause, Divergence, Excerpt, Problem};
use stack::Switch;
use stack::journal::{Head, Kind, records, stride};

use crate::{bed, file, replayer, run};

fn diverged(excerpt: &Excerpt) -> Divergence {
    match run(&mut replayer(&file(excerpt, 1), 1)) {
        Err(Problem::Diverged(divergence)) => *divergence,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bit_turned_before_the_file_was_written_is_located() {
    // In the ring's memory, say: the file itself is sound.
    let excerpt = bed::generated(21, 200, true).excerpt();
    let mut at = 0;
    let mut found = 0;
    let all: Vec<(usize, Head)> = records(&excerpt.records)
        .map(|record| {
            let head = Head::read(record.unwrap()).unwrap();
            let begin = at;
            at += stride(head.len);
            (begin, head)
        })
        .collect();
    for (number, (begin, head)) in (1_u64..).zip(&all) {
        if head.kind != Kind::Frame || head.len == stack::journal::HEAD {
            continue;
        }
        let mut other = excerpt.clone();
        other.records[begin + head.len - 1] ^= 1;
        let divergence = diverged(&other);
        assert_eq!((divergence.record, divergence.cause), (number, Cause::Damaged));
        assert_eq!(divergence.noticed, number, "before it was carried out: {divergence}");
        assert!(divergence.what.starts_with("frame from "), "{divergence}");
        found += 1;
    }
    assert!(found > 80, "{found}");
}

#[test]
fn a_switch_of_another_limit_is_told_from_damage() {
    // The same records from a state whose limit is another: what a changed constant looks like.
    let bed = bed::made(22, 400, true, false);
    let excerpt = bed.excerpt();
    let state = excerpt.state.clone().unwrap();
    let mut other = excerpt.clone();
    other.state = Some(with_other_limit(&state));
    let divergence = diverged(&other);
    assert_eq!(divergence.cause, Cause::Acted, "{divergence}");
    assert!(divergence.walk > 0 && divergence.record > 0, "{divergence}");
    let text = divergence.to_string();
    assert!(text.contains(&format!("record {}", divergence.record)), "{text}");
    assert!(text.contains("the switch acted differently"), "{text}");
    // Up to there both went the same way.
    let mut one = replayer(&file(&excerpt, 1), 1);
    one.limit(recording::Limit::Record(divergence.record - 1));
    let mut two = replayer(&file(&other, 1), 1);
    two.limit(recording::Limit::Record(divergence.record - 1));
    for replayer in [&mut one, &mut two] {
        while !matches!(replayer.turn().unwrap(), recording::Turn::Limit) {}
    }
    assert_eq!(one.chain(), two.chain());
    let (one, two) = (one.switch().unwrap().dump(), two.switch().unwrap().dump());
    assert!(!recording::difference::lines(&one, &two, 20).is_empty());
}

/// The snapshot of the same switch under limits that allow no errors and no floods.
fn with_other_limit(state: &[u8]) -> Vec<u8> {
    let switch = Switch::restore(state, 1).unwrap();
    let limits = stack::Limits { errors_burst: 0, flood_burst: 0, ..bed::limits() };
    let mut other = Switch::new(switch.config(), limits, stack::Seeds { table: 1, choice: 9 });
    // As many walks, so that only what was decided differs.
    let mut out = stack::Outbox::default();
    while other.tables().walks() < switch.tables().walks() {
        let frame = stack::Frame::from_bytes(&[0; 20]);
        let port = stack::PortId(1);
        let now = switch.tables().now();
        other.input(now, stack::Input::Frame { port, frame }, &mut out);
        out.clear();
    }
    other.snapshot()
}

#[test]
fn a_state_that_differs_is_found_at_its_mark() {
    // A counter is of no consequence for what leaves, but of the state.
    let mut bed = bed::Bed::new(bed::limits(), &bed::config());
    bed.begin_here(bed::LABELS);
    let frame = || stack::Frame::from_bytes(&[0; 20]);
    let port = stack::PortId(1);
    bed.frame(port, frame());
    bed.mark(1);
    let mut excerpt = bed.excerpt();
    run(&mut replayer(&file(&excerpt, 1), 1)).unwrap();
    let mut switch = Switch::restore(excerpt.state.as_deref().unwrap(), 1).unwrap();
    let now = switch.tables().now();
    switch.input(now, stack::Input::Frame { port, frame: frame() }, &mut stack::Outbox::default());
    excerpt.state = Some(switch.snapshot());
    let divergence = diverged(&excerpt);
    assert_eq!((divergence.cause, divergence.noticed), (Cause::State, 4), "{divergence}");
    let text = divergence.to_string();
    assert!(text.contains("the state is another"), "{text}");
    // Walks so far, and what the port counted; nothing else.
    assert!(text.contains("by the tables state, port: "), "{text}");
}

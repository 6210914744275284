//! Fuzzing for a bounded time: bytes from the wire never panic and always have one answer.
//!
//! `HOPSCOPE_FUZZ_SECONDS` (default 5) is how long each target runs, `HOPSCOPE_FUZZ_SEED` the seed
//! to begin with (else the clock's). The seed is printed first, and the frame of a failure last, as
//! hex: it becomes a test case of the stage it fell in. Targets see what [`frames`] makes: valid
//! frames mutated knowing their structure, and pure garbage of every length. A further target is a
//! line with [`run`].
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::tests_outside_test_module,
    reason = "all of it is one test program; the seed must be seen to be used again"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stack::input::Frame;
use stack::{AnswerKind, Offload, Verdict};

mod frames;
#[path = "../laws/mod.rs"]
mod laws;
mod parse;
mod walk;

/// Runs `target` on made frames until the time is over; gives how many there were.
fn run(name: &str, target: impl Fn(&[u8], &Offload)) {
    let seed = number("HOPSCOPE_FUZZ_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) ^ now.as_secs().rotate_left(32)
    });
    let seconds = number("HOPSCOPE_FUZZ_SECONDS").unwrap_or(5);
    println!("{name}: HOPSCOPE_FUZZ_SEED={seed} HOPSCOPE_FUZZ_SECONDS={seconds}");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut maker = frames::Maker::new(seed);
    let mut count = 0_u64;
    while count == 0 || Instant::now() < end {
        // The clock is asked seldom: it costs as much as a frame.
        for _ in 0..1_000 {
            let (frame, offload) = maker.next();
            let fell = catch_unwind(AssertUnwindSafe(|| target(&frame, &offload))).is_err();
            assert!(!fell, "{name}: {} bytes, {offload:?}: {}", frame.len(), hex(&frame));
            count += 1;
        }
    }
    println!("{name}: {count} frames");
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number; give a whole one")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The header window of a whole frame, and the frame's length.
fn window(frame: &[u8]) -> (&[u8], usize) {
    (&frame[..frame.len().min(Frame::WINDOW)], frame.len())
}

#[test]
fn parse_takes_any_bytes() {
    run("parse", parse::judge);
}

#[test]
fn the_walk_keeps_its_laws() {
    run("walk", walk::judge);
}

/// Frames on which a law once fell, as [`run`] prints them.
const FELL: [&str; 1] = [
    // The quoted checksum would lie in the padding behind the packet, which does not go on.
    "02000000000202000000000186dd6000000000483a4020010db80000000000000000000000052001\
     0db80000000000000000000000060200ff30000005966000000000182c4020010db8000000000080\
     0000000000000520010db80000000000000000000000060000000000000000000006110000010000\
     00010001000200103cdf71756f74656421212121",
];

#[test]
fn what_once_fell_stands() {
    for text in FELL {
        let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        let frame: Vec<u8> = (0..text.len()).step_by(2).map(byte).collect();
        walk::judge(&frame, &Offload::default());
    }
}

#[test]
fn the_maker_reaches_far_into_the_parser() {
    // A fuzzer whose frames are all refused at the door would find nothing behind it.
    let mut maker = frames::Maker::new(1);
    let mut accepted = 0;
    let mut reasons = std::collections::BTreeSet::new();
    for _ in 0..50_000 {
        let (frame, offload) = maker.next();
        let (window, len) = window(&frame);
        match stack::pipeline::parse::parse(window, len, &offload) {
            Ok(_) => accepted += 1,
            Err(reason) => {
                reasons.insert(reason.code());
            }
        }
    }
    assert!(accepted > 5_000, "only {accepted} of 50,000 frames were valid");
    assert_eq!(reasons, (101..=115).collect(), "reasons reached");
}

#[test]
fn the_maker_reaches_far_into_the_walk() {
    let mut maker = frames::Maker::new(1);
    let mut verdicts = std::collections::BTreeMap::new();
    for _ in 0..4_000 {
        let (frame, offload) = maker.next();
        let verdict = match walk::verdict(&frame, &offload) {
            Verdict::Drop(reason) if reason.code() < 300 => continue,
            Verdict::Drop(reason) => reason.name(),
            Verdict::Forward(_) => "forward",
            Verdict::Flood(_) => "flood",
            Verdict::Deliver(_) => "deliver",
            Verdict::Hold => "hold",
            Verdict::Answer(AnswerKind::Arp(_)) => "arp",
            Verdict::Answer(AnswerKind::Neighbor(_)) => "neighbor",
            Verdict::Answer(AnswerKind::Echo) => "echo",
            Verdict::Answer(AnswerKind::Error { reason, .. } | AnswerKind::Reset { reason }) => {
                reason.name()
            }
        };
        *verdicts.entry(verdict).or_insert(0) += 1;
    }
    let reached = |name| verdicts.get(name).copied().unwrap_or(0) > 0;
    let kinds = ["forward", "flood", "deliver", "hold", "arp", "neighbor", "echo", "MtuExceeded"];
    let missing: Vec<_> = kinds.into_iter().filter(|kind| !reached(*kind)).collect();
    assert!(missing.is_empty() && verdicts.len() > 20, "missing {missing:?} of {verdicts:?}");
}

#[test]
fn equal_seeds_make_equal_frames() {
    let (mut one, mut other) = (frames::Maker::new(7), frames::Maker::new(7));
    for _ in 0..1_000 {
        assert_eq!(one.next(), other.next());
    }
    let differ = (0..100).any(|_| one.next() != frames::Maker::new(8).next());
    assert!(differ);
}

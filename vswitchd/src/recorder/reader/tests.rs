//! Readers beside a writer that never waits.

use std::sync::atomic::AtomicBool;
use std::thread;

use stack::journal::frame::Door;
use stack::journal::{Chain, Recorder};
use stack::{Frame, PortId};

use super::super::layout::{Geometry, Identity, SIZE_MIN};
use super::super::ring::Ring;
use super::super::tests::{Scratch, low};
use super::*;

/// A frame whose bytes all follow from its time.
fn frame(n: u64) -> Frame {
    let len = 60 + (n * 31 % 2_000) as usize;
    Frame::from_bytes(&vec![low(n) | 1; len])
}

#[test]
fn no_record_is_ever_torn() {
    let scratch = Scratch::new();
    let geometry = Geometry::for_size(SIZE_MIN);
    let map = Arc::new(Map::create(&scratch.ring(), geometry).unwrap());
    map.header().begin(geometry, &Identity::new([1, 2]));
    let ring = Ring::new(&map).unwrap();
    let stop = AtomicBool::new(false);
    let (mut overwritten, mut read) = (0_u32, 0_u64);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut recorder = Recorder::new(ring, Chain::new(), true);
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                recorder.frame(Instant(n), Door::Port(PortId(1)), &frame(n));
                n += 1;
            }
        });
        let begun = std::time::Instant::now();
        let mut reader = Reader::new(Arc::clone(&map), 0);
        let mut last = None;
        while begun.elapsed() < std::time::Duration::from_secs(2) || overwritten == 0 {
            match reader.advance() {
                Ok(true) => {
                    let head = Head::read(reader.record()).unwrap();
                    let n = head.time.0;
                    assert!(last.is_none_or(|last| n == last + 1), "{last:?} then {n}");
                    assert_eq!(head.len, 32 + frame(n).len());
                    let body = &reader.record()[32..head.len];
                    assert!(body.iter().all(|byte| *byte == low(n) | 1), "torn at {n}");
                    last = Some(n);
                    read += 1;
                }
                Ok(false) => thread::yield_now(),
                Err(ReadError::Overwritten(lost)) => {
                    assert!(lost.oldest > reader.position());
                    overwritten += 1;
                    // Now and then from the edge, where the writer is about to come.
                    let from =
                        if overwritten.is_multiple_of(2) { reader.head() } else { lost.oldest };
                    let begin = reader.geometry.begin(reader.geometry.number(from));
                    reader = Reader::new(Arc::clone(&map), begin);
                    last = None;
                }
                Err(ReadError::Damaged { position }) => panic!("no record at {position}"),
            }
            if read.is_multiple_of(50_000) {
                // Slow enough to be overtaken.
                thread::sleep(std::time::Duration::from_millis(3));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(read > 1_000, "{read} records, overwritten {overwritten} times");
}

//! The writer alone: what lies in the file after each step.

use stack::PortId;
use stack::journal::frame::Door;
use stack::journal::{Kind, Recorder};

use super::super::layout::{Geometry, Identity, SIZE_MIN};
use super::super::reader::{Reader, oldest, reaches};
use super::super::tests::{Scratch, low};
use super::*;

fn ring(scratch: &Scratch) -> (Arc<Map>, Recorder<Ring>) {
    let geometry = Geometry::for_size(SIZE_MIN);
    let map = Arc::new(Map::create(&scratch.ring(), geometry).unwrap());
    map.header().begin(geometry, &Identity::new([1, 2]));
    let ring = Ring::new(&map).unwrap();
    (map, Recorder::new(ring, Chain::new(), true))
}

#[test]
fn one_writes_and_the_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let (map, recorder) = ring(&scratch);
    assert!(Ring::new(&map).is_none(), "there is a writer");
    assert_eq!(recorder.place().position(), 0);
    let metadata = std::fs::metadata(scratch.ring()).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(metadata.len(), map.geometry().file_len() as u64);
    let read_only = Arc::new(Map::open(&scratch.ring(), false).unwrap());
    assert!(Ring::new(&read_only).is_none());
}

#[test]
fn records_of_every_length_go_round() {
    let scratch = Scratch::new();
    let (map, mut recorder) = ring(&scratch);
    let mut reader = Reader::new(Arc::clone(&map), 0);
    assert!(!reader.advance().unwrap());
    let mut lens = (0..).map(|n: usize| n * 7_919 % 66_000);
    let (mut wraps, mut count) = (0, 0_u64);
    while wraps < 3 {
        let len = lens.next().unwrap();
        let frame = stack::Frame::from_bytes(&vec![low(count); len]);
        recorder.frame(Instant(count), Door::Port(PortId(1)), &frame);
        count += 1;
        assert!(reader.advance().unwrap(), "what is published is there");
        let head = stack::journal::Head::read(reader.record()).unwrap();
        assert_eq!((head.kind, head.time, head.len), (Kind::Frame, Instant(count - 1), len + 32));
        assert!(reader.record()[32..head.len].iter().all(|byte| *byte == low(count - 1)));
        assert_eq!(reader.behind(), recorder.place().position());
        assert!(reaches(&map, reader.position()));
        wraps = recorder.place().position() / SIZE_MIN;
    }
    assert!(!reader.advance().unwrap());
    let first = oldest(&map);
    assert!(first > 0 && !reaches(&map, 0));
    // From the oldest segment on, everything is still there.
    let mut again = Reader::new(Arc::clone(&map), first);
    let mut last = None;
    while again.advance().unwrap() {
        let head = stack::journal::Head::read(again.record()).unwrap();
        assert!(last.is_none_or(|last| head.time.0 == last + 1u64));
        last = Some(head.time.0);
    }
    assert_eq!(last, Some(count - 1));
}

#[test]
fn heads_of_segments_say_where_they_belong() {
    let scratch = Scratch::new();
    let (map, mut recorder) = ring(&scratch);
    for n in 0..20_000_u64 {
        let before = (*recorder.chain(), recorder.place().position());
        recorder.place_mut().set_walks(n);
        recorder.tick(Instant(n));
        let (position, geometry) = (recorder.place().position(), map.geometry());
        if geometry.number(before.1) != geometry.number(position - 1) || n == 0 {
            let number = geometry.number(position - 1);
            let head = map.head(geometry.place(number)).unwrap();
            let get = |word: &AtomicU64| word.load(Ordering::Relaxed);
            assert_eq!((get(&head.sequence), get(&head.time)), (number + 1, n));
            assert_eq!(get(&head.inputs), before.0.inputs());
            assert_eq!((get(&head.walks), get(&head.first)), (n, position - 32));
        }
    }
}

//! Areas: what was written is read, and half of it is nothing.

use super::super::tests::Scratch;
use super::*;

fn origin(number: u64) -> Origin {
    Origin {
        number,
        position: number * 1_000,
        chain: Chain::resume(1, 2),
        time: Instant(7),
        utc_offset: -5,
        walks: 3,
    }
}

fn labels() -> BTreeMap<PortId, String> {
    [(PortId(1), "host".to_owned()), (PortId(9), "pod/a/b".to_owned())].into()
}

fn write(path: &Path, number: u64) {
    let mut writing = Writing::begin(path, origin(number), &labels()).unwrap();
    writing.append(&[1; 1_000]).unwrap();
    writing.append(&[2; 500]).unwrap();
    writing.finish().unwrap();
}

#[test]
fn the_newest_comes_first_and_is_whole() {
    let scratch = Scratch::new();
    for (area, number) in [(0, 3), (1, 9), (2, 4)] {
        write(&path(&scratch.0, area), number);
    }
    let found = find(&scratch.0);
    let numbers: Vec<u64> = found.iter().map(|found| found.origin.number).collect();
    assert_eq!(numbers, [9, 4, 3]);
    let area = found[0].read().unwrap();
    assert_eq!((area.origin, area.state.len()), (origin(9), 1_500));
    assert_eq!(area.labels, labels().into_iter().collect::<Vec<_>>());
    // Overwritten between finding and reading.
    write(&path(&scratch.0, 1), 10);
    assert_eq!(found[0].read(), None);
}

#[test]
fn half_an_area_is_none() {
    let scratch = Scratch::new();
    let path = path(&scratch.0, 0);
    write(&path, 1);
    let mut writing = Writing::begin(&path, origin(2), &labels()).unwrap();
    assert_eq!(find(&scratch.0), []);
    writing.append(&[1; 100]).unwrap();
    assert_eq!(find(&scratch.0), []);
    writing.finish().unwrap();
    assert_eq!(find(&scratch.0).len(), 1);
    let bytes = std::fs::read(&path).unwrap();
    for end in 0..bytes.len() {
        std::fs::write(&path, &bytes[..end]).unwrap();
        assert_eq!(find(&scratch.0), [], "cut at {end}");
    }
}

#[test]
fn damage_of_the_header_or_the_names_is_seen() {
    let scratch = Scratch::new();
    let path = path(&scratch.0, 0);
    write(&path, 1);
    let bytes = std::fs::read(&path).unwrap();
    let state = bytes.len() - 1_500;
    for at in (0..WORDS * 8).chain(usize::try_from(BODY).unwrap()..state) {
        let mut other = bytes.clone();
        other[at] ^= 0x10;
        std::fs::write(&path, &other).unwrap();
        assert!(find(&scratch.0).iter().all(|found| found.read().is_none()), "byte {at}");
    }
}

//! Journals read again: to the end, and with a bit that was turned.

use stack::Replay;
use stack::journal::{self, Head, records};
use stack::replay::ReplayError;

use crate::draw::Draw;

/// Feeds all of `bytes`.
pub(crate) fn feed(replay: &mut Replay, bytes: &[u8]) -> Result<(), ReplayError> {
    for record in records(bytes) {
        let record = record.map_err(|_damaged| ReplayError::Unreadable { kind: None })?;
        replay.record(record)?;
    }
    Ok(())
}

/// Where each record begins, and its kind.
pub(crate) fn places(bytes: &[u8]) -> Vec<(usize, Head)> {
    let mut at = 0;
    let place = |record: &[u8]| {
        let head = Head::read(record).unwrap();
        let place = (at, head);
        at += journal::stride(head.len);
        place
    };
    records(bytes).map(Result::unwrap).map(place).collect()
}

/// A replay of a whole journal from its begin.
pub(crate) fn replay(bytes: &[u8], table: u64) -> Replay {
    let mut replay = Replay::from_begin(table);
    if let Err(error) = feed(&mut replay, bytes) {
        panic!("record {} of the journal: {error}", replay.records());
    }
    replay
}

/// One bit of a journal is turned: the replay says so at that record or the next.
pub(crate) fn flip(bytes: &[u8], table: u64, draw: &mut Draw) {
    let places = places(bytes);
    // What is turned in a comment does not matter, and behind the last record nobody looks.
    let comment = |n: &usize| places[*n].1.kind.is_comment();
    let chained: Vec<usize> = (0..places.len() - 1).filter(|n| !comment(n)).collect();
    let number = chained[draw.index(chained.len())];
    let next = (number + 1..places.len()).find(|n| !comment(n)).unwrap();
    let (at, head) = places[number];
    let (byte, bit) = (draw.index(head.len), draw.below(8));
    let mut other = bytes.to_vec();
    other[at + byte] ^= 1 << bit;
    let turned = format!("bit {bit} of byte {byte} of record {number} ({})", head.kind.name());
    let mut replay = Replay::from_begin(table);
    assert!(feed(&mut replay, &other).is_err(), "{turned}: nobody noticed");
    // Records are counted from 1, and what is none is not counted.
    let reached = usize::try_from(replay.records()).unwrap();
    let hit = (number..=next + 1).contains(&reached);
    assert!(hit, "{turned}: found behind {reached} of {} records", places.len());
}

//! Journals read again: to the end, with the records that crashed a worker skipped, and with a
//! bit that was turned.

use stack::Replay;
use stack::journal::{self, Head, Kind, records};
use stack::replay::ReplayError;

use crate::draw::Draw;

/// Feeds all of `bytes`. A record is skipped that a [`Kind::Skip`] follows, or the last one if
/// `last` says so: its skip is not written yet.
pub(crate) fn feed(replay: &mut Replay, bytes: &[u8], last: bool) -> Result<(), ReplayError> {
    let mut records = records(bytes).peekable();
    while let Some(record) = records.next() {
        let skipped = match records.peek() {
            Some(next) => Head::read(next).is_some_and(|head| head.kind == Kind::Skip),
            None => last,
        };
        replay.record(record, skipped)?;
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
    records(bytes).map(place).collect()
}

/// A replay of a whole journal from its begin.
pub(crate) fn replay(bytes: &[u8], table: u64, last: bool) -> Replay {
    let mut replay = Replay::from_begin(table);
    if let Err(error) = feed(&mut replay, bytes, last) {
        panic!("record {} of the journal: {error}", replay.records());
    }
    replay
}

/// One bit of a journal is turned: the replay says so at that record or the next.
pub(crate) fn flip(bytes: &[u8], table: u64, draw: &mut Draw) {
    let places = places(bytes);
    // What is turned in a comment or in a record that was skipped does not matter, and behind the
    // last record nobody looks.
    let matters = |n: &usize| !places[*n].1.kind.is_comment() && places[n + 1].1.kind != Kind::Skip;
    let chained: Vec<usize> = (0..places.len() - 1).filter(matters).collect();
    let number = chained[draw.index(chained.len())];
    let next = (number + 1..places.len()).find(|n| !places[*n].1.kind.is_comment()).unwrap();
    let (at, head) = places[number];
    let (byte, bit) = (draw.index(head.len), draw.below(8));
    let mut other = bytes.to_vec();
    other[at + byte] ^= 1 << bit;
    let turned = format!("bit {bit} of byte {byte} of record {number} ({})", head.kind.name());
    let mut replay = Replay::from_begin(table);
    let found = feed(&mut replay, &other, false).err();
    let reached = usize::try_from(replay.records()).unwrap();
    match found {
        Some(_) => {
            // Records are counted from 1, the one that was refused too.
            let hit = (number + 1..=next + 1).contains(&reached);
            assert!(hit, "{turned}: found at {} only", reached - 1);
        }
        // A length that cannot be ends the journal there; a reader sees that bytes are left.
        None => {
            let ended = reached <= number + 1 && reached < places.len();
            assert!(ended, "{turned}: nobody noticed in {} records", places.len());
        }
    }
}

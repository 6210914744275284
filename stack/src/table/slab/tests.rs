//! Slots, and snapshots of rows that change meanwhile.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

/// What a snapshot showed, in the order of slots.
fn finish(slab: &mut Slab<u64>, slots: usize, shown: &mut Vec<(usize, Vec<u64>)>) {
    while !slab.step(slots, &mut |slot, words| shown.push((slot, words.to_vec()))) {}
    shown.sort();
}

fn rows(slab: &Slab<u64>) -> Vec<(usize, Vec<u64>)> {
    slab.iter().map(|(slot, row)| (slot, vec![*row])).collect()
}

#[test]
fn the_lowest_free_slot_is_taken() {
    let mut slab = Slab::<u64>::new(3);
    assert_eq!([slab.insert(10), slab.insert(11), slab.insert(12)], [Some(0), Some(1), Some(2)]);
    assert_eq!(slab.insert(13), None, "full");
    assert_eq!(slab.remove(0), Some(10));
    assert_eq!(slab.remove(1), Some(11));
    assert_eq!([slab.insert(14), slab.insert(15)], [Some(0), Some(1)]);
    assert_eq!((slab.len(), slab.get(2)), (3, Some(&12)));
}

#[test]
fn restored_rows_stand_where_they_were() {
    let mut slab = Slab::<u64>::new(5);
    assert!(slab.restore(3, 33));
    assert!(!slab.restore(3, 34), "taken");
    assert!(!slab.restore(5, 35), "beyond the table");
    assert!(slab.restore(0, 30));
    assert_eq!([slab.insert(1), slab.insert(2), slab.insert(4)], [Some(1), Some(2), Some(4)]);
    assert_eq!(slab.insert(5), None);
}

#[derive(Clone, Debug)]
enum Act {
    Insert(u64),
    Change(usize, u64),
    Remove(usize),
    Step(usize),
}

fn act() -> impl Strategy<Value = Act> {
    (0..4_u8, 0..200_usize, any::<u64>()).prop_map(|(which, slot, value)| match which {
        0 => Act::Insert(value),
        1 => Act::Change(slot, value),
        2 => Act::Remove(slot),
        _ => Act::Step(slot % 9),
    })
}

proptest! {
    /// Whatever happens between the steps, a snapshot shows each row once, as it was at the begin.
    #[test]
    fn a_snapshot_shows_the_rows_of_its_begin(
        before in prop::collection::vec(act(), 0..150),
        during in prop::collection::vec(act(), 0..300),
    ) {
        let mut slab = Slab::new(150);
        let apply = |slab: &mut Slab<u64>, act: &Act, shown: &mut Vec<(usize, Vec<u64>)>| {
            match act {
                Act::Insert(value) => { slab.insert(*value); }
                Act::Change(slot, value) => if let Some(row) = slab.change(*slot) { *row = *value },
                Act::Remove(slot) => { slab.remove(*slot); }
                Act::Step(slots) => {
                    slab.step(*slots, &mut |slot, words| shown.push((slot, words.to_vec())));
                }
            }
        };
        for one in &before {
            apply(&mut slab, one, &mut Vec::new());
        }
        let expected = rows(&slab);
        slab.begin();
        let mut shown = Vec::new();
        for one in &during {
            apply(&mut slab, one, &mut shown);
        }
        finish(&mut slab, 7, &mut shown);
        prop_assert_eq!(&shown, &expected);

        let mut restored = Slab::new(150);
        for (slot, words) in shown {
            prop_assert!(restored.restore(slot, words[0]));
        }
        prop_assert_eq!(rows(&restored), expected);
    }
}

//! Directories that fill up, are full, or are not ours alone.

use std::os::unix::fs::PermissionsExt;

use recording::Id;

use super::*;
use crate::capture::world::World;
use crate::recorder::tests::Scratch;

/// A recording of some thousand bytes at that second.
fn take(store: &mut Store, second: u64, rule: &str) -> Result<Kept, KeepError> {
    let mut world = World::new();
    world.traffic();
    let about = About {
        rule: rule.to_owned(),
        event: format!("at {second}"),
        at: second * 1_000_000_000,
        ..About::default()
    };
    let header = Header { id: Id(second), about: Some(about), ..Header::default() };
    store.keep(&world.excerpt(), header)
}

fn files(scratch: &Scratch) -> Vec<String> {
    let entries = fs::read_dir(scratch.0.join(NAME)).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn events(store: &mut Store) -> Vec<String> {
    store.list().iter().map(|kept| kept.about.event.clone()).collect()
}

#[test]
fn recordings_are_private_named_for_time_and_rule_and_found_again() {
    let scratch = Scratch::new();
    let directory = scratch.0.join(NAME);
    let mut store = Store::open(directory.clone(), 1 << 20);
    assert_eq!(store.list(), []);
    assert!(!directory.exists(), "nothing is made before there is something to keep");
    let first = take(&mut store, 1_700_000_000, "drop reason=NoRoute port=a/b").unwrap();
    take(&mut store, 1_700_000_000, "drop reason=NoRoute port=a/b").unwrap();
    take(&mut store, 1_600_000_000, "../../etc").unwrap();
    assert_eq!(
        files(&scratch),
        [
            "20200913T122640.000Z-etc.pcapng",
            "20231114T221320.000Z-drop-reason-NoRoute-port-a-b-2.pcapng",
            "20231114T221320.000Z-drop-reason-NoRoute-port-a-b.pcapng",
        ]
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&first.path)), (0o700, 0o600));
    assert_eq!(fs::metadata(&first.path).unwrap().len(), first.size);
    let (excerpt, start, ending) = Excerpt::read(&fs::read(&first.path).unwrap()).unwrap();
    assert_eq!((start.about.unwrap(), ending.cut), (first.about.clone(), false));
    assert!(!excerpt.records.is_empty());
    // Somebody else's file, one that was not finished, and one that was removed by hand.
    fs::write(directory.join("mine.pcapng"), "mine").unwrap();
    fs::write(directory.join("half.part"), "half").unwrap();
    fs::remove_file(&first.path).unwrap();
    let mut again = Store::open(directory.clone(), 1 << 20);
    assert_eq!(events(&mut again), ["at 1600000000", "at 1700000000"]);
    assert!(directory.join("mine.pcapng").exists() && !directory.join("half.part").exists());
    assert_eq!(events(&mut store), ["at 1600000000", "at 1700000000"]);
}

#[test]
fn the_oldest_go_for_the_budget_and_the_largest_is_not_kept() {
    let scratch = Scratch::new();
    let directory = scratch.0.join(NAME);
    let size = take(&mut Store::open(directory.clone(), u64::MAX), 1, "rst").unwrap().size;
    let budget = size * 3 + size / 2;
    let mut store = Store::open(directory.clone(), budget);
    for second in [2, 4, 3, 5, 6] {
        take(&mut store, second, "rst").unwrap();
        let used: u64 = files(&scratch)
            .iter()
            .map(|name| fs::metadata(directory.join(name)).unwrap().len())
            .sum();
        assert!(used <= budget, "{used} of {budget}");
    }
    assert_eq!(events(&mut store), ["at 4", "at 5", "at 6"]);
    // A smaller budget holds from the next start on; what is larger than all of it is refused.
    let mut store = Store::open(directory.clone(), size);
    assert_eq!(events(&mut store), ["at 6"]);
    let mut store = Store::open(directory, size - 1);
    assert_eq!(events(&mut store), [""; 0]);
    let said = take(&mut store, 7, "rst").unwrap_err().to_string();
    assert!(said.contains(&format!("{size} bytes")) && said.contains("raise it"), "{said}");
    assert_eq!(files(&scratch), [""; 0]);
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let scratch = Scratch::new();
    fs::write(scratch.0.join(NAME), "a file").unwrap();
    let mut store = Store::open(scratch.0.join(NAME), 1 << 20);
    let said = take(&mut store, 1, "rst").unwrap_err().to_string();
    assert!(said.contains("cannot be written") && said.contains("free the disk"), "{said}");
    assert_eq!(
        (store.list(), fs::read(scratch.0.join(NAME)).unwrap()),
        (&[][..], b"a file".into())
    );
}

#[test]
fn one_from_elsewhere_is_taken_in() {
    let scratch = Scratch::new();
    let elsewhere = take(&mut Store::open(scratch.0.join("e"), 1 << 20), 9, "quarantine").unwrap();
    let mut store = Store::open(scratch.0.join(NAME), 1 << 20);
    let kept = store.adopt(&elsewhere.path).unwrap().unwrap();
    assert_eq!((&kept.about, kept.size), (&elsewhere.about, elsewhere.size));
    assert!(!elsewhere.path.exists());
    let foreign = scratch.0.join("foreign.pcapng");
    fs::write(&foreign, "x").unwrap();
    assert!(store.adopt(&foreign).unwrap().is_none() && foreign.exists());
    // Without room it stays.
    let mut store = Store::open(scratch.0.join("small"), 10);
    store.adopt(&kept.path).unwrap_err();
    assert!(kept.path.exists());
}

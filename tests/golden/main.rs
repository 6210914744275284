//! Goldens: frames in, and everything that came of them, compared whole.
//!
//! Each folder beside this file but `cases` is a case, its name a sentence:
//!
//! | file | holds |
//! | --- | --- |
//! | `topology.txt` | who is attached where, routes, limits ([`topology`]) |
//! | `in.pcapng` | frames: the interface is the ingress port, the time the moment, the comment the offload |
//! | `out.pcapng` | frames that left: the interface is the egress port, the packet id the walk's number |
//! | `walk.txt` | the walk of each frame, hop by hop |
//! | `counters.txt` | what each port counted, exactly |
//!
//! Every case runs twice with each of two table seeds. `LAB_REGEN=1` rewrites what is expected; read the
//! diff. Inputs are made by [`cases`] and rewritten as well; a folder that no code makes (a capture from
//! the field, a crash of the fuzzer) keeps the input it has.
#![expect(
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    reason = "all of it is one test program"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

mod capture;
mod cases;
mod run;
mod topology;

use topology::Topology;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn regenerate() -> bool {
    std::env::var("LAB_REGEN").is_ok_and(|value| value == "1")
}

/// The folders of all cases, by name.
fn names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name != "cases")
        .collect();
    names.sort();
    names
}

/// The files that a case's code makes.
fn inputs(case: &cases::Case) -> [(&'static str, Vec<u8>); 2] {
    let topology = Topology::read(case.topology);
    let frames = capture::write(&topology, &(case.frames)());
    [("topology.txt", case.topology.as_bytes().to_vec()), ("in.pcapng", frames)]
}

#[test]
fn inputs_are_those_the_code_makes() {
    for case in cases::all() {
        let folder = folder().join(case.name);
        for (name, made) in inputs(&case) {
            let path = folder.join(name);
            if regenerate() {
                fs::create_dir_all(&folder).unwrap();
                fs::write(&path, made).unwrap();
            } else {
                let kept = fs::read(&path).unwrap_or_default();
                assert!(kept == made, "{}: run with LAB_REGEN=1", path.display());
            }
        }
    }
}

/// Compares a text line by line, or else rewrites it.
fn expect_text(path: &Path, found: &str) {
    if regenerate() {
        return fs::write(path, found).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    let longest = expected.lines().count().max(found.lines().count());
    for number in 0..longest {
        let (one, other) = (expected.lines().nth(number), found.lines().nth(number));
        assert_eq!(one, other, "{}:{}: expected, found", path.display(), number + 1);
    }
    assert_eq!(expected, found, "{}", path.display());
}

/// Compares frames one by one, then the files byte by byte, or else rewrites.
fn expect_frames(path: &Path, found: &[u8]) {
    if regenerate() {
        return fs::write(path, found).unwrap();
    }
    let kept = fs::read(path).unwrap_or_default();
    let (expected, made) = (capture::packets(&kept), capture::packets(found));
    for (number, pair) in expected.iter().zip(&made).enumerate() {
        assert_eq!(pair.0, pair.1, "{}: frame {}: expected, found", path.display(), number + 1);
    }
    assert_eq!(expected.len(), made.len(), "{}: frames: expected, found", path.display());
    assert!(kept == found, "{}: the frames agree, the file does not", path.display());
}

#[test]
fn every_case_comes_out_as_it_did() {
    if regenerate() {
        inputs_are_those_the_code_makes();
    }
    let names = names();
    for name in &names {
        let folder = folder().join(name);
        let topology = Topology::read(&fs::read_to_string(folder.join("topology.txt")).unwrap());
        let frames = capture::read(&topology, &fs::read(folder.join("in.pcapng")).unwrap());
        assert!(!frames.is_empty(), "{name}: no frames");
        let outcome = run::run(&topology, &frames, 1);
        for table in [1, 0xdead_beef, 0xdead_beef] {
            let again = run::run(&topology, &frames, table);
            assert!(outcome == again, "{name}: another outcome with table seed {table}");
        }
        expect_text(&folder.join("walk.txt"), &outcome.walk);
        expect_text(&folder.join("counters.txt"), &outcome.counters);
        expect_frames(&folder.join("out.pcapng"), &outcome.sent);
    }
}

#[test]
fn folders_are_complete_and_names_are_sentences() {
    let files = ["counters.txt", "in.pcapng", "out.pcapng", "topology.txt", "walk.txt"];
    for name in names() {
        let entries = fs::read_dir(folder().join(&name)).unwrap();
        let mut found: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        assert!(regenerate() || found == files, "{name}: {found:?}");
        assert!(name.split('_').count() >= 3, "{name}: say what happens");
    }
    let mut cases = BTreeMap::new();
    for case in cases::all() {
        assert!(cases.insert(case.name, ()).is_none(), "{}: twice", case.name);
    }
}

/// A golden that could not fail would be worth nothing.
#[test]
fn another_topology_has_another_outcome() {
    let case = cases::all().into_iter().next().unwrap();
    let topology = Topology::read(case.topology);
    let frames = capture::read(&topology, &capture::write(&topology, &(case.frames)()));
    let outcome = run::run(&topology, &frames, 1);
    let down = case.topology.replacen("pod demo/b", "down pod demo/b", 1);
    let other = run::run(&Topology::read(&down), &frames, 1);
    assert_ne!(outcome.walk, other.walk);
    assert_ne!(outcome.counters, other.counters);
    assert_ne!(outcome.sent, other.sent);
}

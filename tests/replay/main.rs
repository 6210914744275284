//! Recordings: what is written is read, replays to the same digests natively and as WebAssembly,
//! survives Wireshark's tools, and says what is wrong with it when it was damaged.
//!
//! Journals come from the fuzzer's frames and the goldens' inputs ([`bed`]). `make replay` compares
//! the optimised build as well.
#![expect(
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    reason = "all of it is one test program"
)]

use recording::{Ending, Excerpt, Header, Id, Problem, Replayer, Turn, write};

mod bed;
#[path = "../golden/capture.rs"]
#[expect(dead_code, reason = "goldens are only read here")]
mod capture;
mod damage;
mod divergence;
#[path = "../fuzz/frames.rs"]
mod frames;
mod redacted;
mod tools;
#[path = "../golden/topology.rs"]
mod topology;
mod wasm;
mod whatif;

/// A file of an excerpt.
fn file(excerpt: &Excerpt, id: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let header = Header { id: Id(id), build: "test 1.0".to_owned(), redacted: false, about: None };
    write(excerpt, &header, &mut out);
    out
}

/// A replayer that has all bytes of a file.
fn replayer(file: &[u8], table_seed: u64) -> Replayer {
    let mut replayer = Replayer::new(table_seed);
    replayer.push(file);
    replayer.finish();
    replayer
}

/// Replays to the end.
fn run(replayer: &mut Replayer) -> Result<Ending, Problem> {
    loop {
        match replayer.turn()? {
            Turn::End(ending) => return Ok(ending),
            Turn::Started | Turn::Done(_) => {}
            Turn::Starved | Turn::Limit => panic!("all bytes are there, and no limit"),
        }
    }
}

/// Some of each kind of journal, with names.
fn corpus() -> Vec<(String, Excerpt)> {
    let mut all = bed::goldens();
    for (seed, from_state) in [(1, false), (2, true), (3, true)] {
        let name = format!("generated {seed}");
        all.push((name, bed::generated(seed, 400, from_state).excerpt()));
    }
    all
}

#[test]
fn what_is_written_is_read_and_replays() {
    for (name, excerpt) in corpus() {
        let file = file(&excerpt, 7);
        let (read, start, ending) = Excerpt::read(&file).unwrap();
        assert_eq!(read, excerpt, "{name}");
        assert_eq!((start.id, start.build.as_str(), start.redacted), (Id(7), "test 1.0", false));
        let records = u64::try_from(stack::journal::records(&excerpt.records).count()).unwrap();
        assert_eq!(ending, Ending { records, ..Ending::default() }, "{name}");
        let mut digests = Vec::new();
        for table_seed in [1, 0xdead_beef] {
            let mut replayer = replayer(&file, table_seed);
            assert_eq!(run(&mut replayer), Ok(ending.clone()), "{name}");
            let switch = replayer.switch().unwrap();
            digests.push((switch.digest(), switch.dump(), replayer.chain()));
            assert!(replayer.verified().records > 0 && replayer.verified().digests > 0, "{name}");
        }
        assert_eq!(digests.first(), digests.last(), "{name}");
    }
}

#[test]
fn a_replay_ends_in_the_state_that_was_recorded() {
    for from_state in [false, true] {
        let mut bed = bed::generated(4, 300, from_state);
        let mut replayer = replayer(&file(&bed.excerpt(), 1), 3);
        run(&mut replayer).unwrap();
        assert_eq!(replayer.switch().unwrap().dump(), bed.switch.dump());
        assert_eq!(replayer.utc_offset(), bed::UTC_OFFSET + 244);
        assert!(replayer.verified().states > 0);
        assert_eq!(replayer.switch().unwrap().digest(), bed.switch.digest());
        bed.tick();
        assert_ne!(replayer.chain().inputs(), 0);
    }
}

#[test]
fn pieces_of_a_file_are_the_file() {
    let excerpt = bed::generated(5, 100, true).excerpt();
    let whole = file(&excerpt, 1);
    let header = Header { id: Id(1), build: "test 1.0".to_owned(), redacted: false, about: None };
    let mut writer = recording::Writer::new(excerpt, header);
    let mut pieces = Vec::new();
    while writer.piece(1_000, &mut pieces) {}
    assert_eq!(pieces, whole);
    let mut replayer = Replayer::new(1);
    for byte in &whole {
        assert!(!matches!(replayer.turn(), Ok(Turn::End(_)) | Err(_)));
        replayer.push(&[*byte]);
    }
    replayer.finish();
    run(&mut replayer).unwrap();
}

#[test]
fn limits_stop_before_what_is_beyond() {
    use recording::Limit;
    let file = file(&bed::generated(6, 200, true).excerpt(), 1);
    let mut replayer = replayer(&file, 1);
    replayer.limit(Limit::Record(50));
    let mut last = 0;
    let time = loop {
        match replayer.turn().unwrap() {
            Turn::Done(done) => last = done.number,
            Turn::Limit => break replayer.utc(replayer.switch().unwrap().tables().now()),
            Turn::Started => {}
            turn @ (Turn::Starved | Turn::End(_)) => panic!("{turn:?}"),
        }
    };
    assert_eq!(last, 50);
    replayer.limit(Limit::Utc(time + 10_000_000));
    let reached = loop {
        match replayer.turn().unwrap() {
            Turn::Done(done) => assert!(replayer.utc(done.head.time) <= time + 10_000_000),
            Turn::Limit => break replayer.chain(),
            turn @ (Turn::Started | Turn::Starved | Turn::End(_)) => panic!("{turn:?}"),
        }
    };
    assert_eq!(replayer.turn(), Ok(Turn::Limit), "and stays there");
    assert_eq!(replayer.chain(), reached);
    replayer.limit(Limit::End);
    run(&mut replayer).unwrap();
}

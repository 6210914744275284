//! Damaged files: a clear message or the whole truth, never a panic and never a wrong replay.

use recording::{Ending, Excerpt, Problem, ReadError};

use crate::{bed, file, frames, replayer, run};

/// How a replay of some bytes ends, and in which state.
fn end(file: &[u8]) -> (Result<Ending, Problem>, u64, recording::replayer::Verified) {
    let mut replayer = replayer(file, 1);
    let ending = run(&mut replayer);
    let digest = replayer.switch().map_or(0, stack::Switch::digest);
    (ending, digest, replayer.verified())
}

#[test]
fn a_file_cut_anywhere_replays_up_to_its_last_whole_record() {
    let excerpt = bed::generated(11, 120, true).excerpt();
    let whole = file(&excerpt, 1);
    let records = Excerpt::read(&whole).unwrap().2.records;
    let mut seen = std::collections::BTreeSet::new();
    for length in whole.len() - 4_096..whole.len() {
        let (ending, _, verified) = end(&whole[..length]);
        let ending = ending.unwrap_or_else(|problem| panic!("cut at {length}: {problem}"));
        assert!(ending.cut && ending.records <= records, "cut at {length}: {ending:?}");
        assert!(verified.records + 20 >= ending.records, "all but labels and skipped ones");
        seen.insert(ending.records);
    }
    assert!(seen.len() > 10 && seen.contains(&records), "{seen:?}");
    assert!(!end(&whole).0.unwrap().cut);
    // Before the first record there is nothing to replay, and that is said.
    for length in (0..whole.len() - 4_096).step_by(97) {
        match end(&whole[..length]).0 {
            Ok(ending) => assert!(ending.cut),
            Err(Problem::Read(
                ReadError::CutStart | ReadError::NotPcapng | ReadError::NotRecording(0),
            )) => {}
            Err(problem) => panic!("cut at {length}: {problem}"),
        }
    }
}

#[test]
fn flipped_bytes_are_told_or_do_not_matter() {
    let excerpt = bed::generated(12, 120, true).excerpt();
    let whole = file(&excerpt, 1);
    let (expected, digest, verified) = end(&whole);
    let (mut told, mut harmless) = (0, 0);
    let mut draws = Draws(1);
    for _ in 0..1_000 {
        let mut damaged = whole.clone();
        let at = draws.below(whole.len());
        damaged[at] ^= 1 << draws.below(8);
        match end(&damaged) {
            (Ok(ending), state, compared) => {
                // What Wireshark shows beside the record: names, lengths, times, flags.
                harmless += 1;
                let same = (Ok(Ending { cut: false, ..ending.clone() }), state, compared);
                // A block that is lost at the end is told as a cut.
                assert!(ending.cut || same == (expected.clone(), digest, verified), "byte {at}");
            }
            (Err(problem), ..) => {
                told += 1;
                let text = problem.to_string();
                assert!(text.len() > 30 && !text.contains("diverged"), "byte {at}: {text}");
            }
        }
    }
    assert!(told > 700 && harmless > 0, "{told} told, {harmless} harmless");
}

#[test]
fn a_flipped_byte_of_a_record_names_the_record() {
    let excerpt = bed::generated(13, 60, true).excerpt();
    let whole = file(&excerpt, 1);
    let mut reader = recording::pcapng::read::Reader::default();
    reader.push(&whole);
    let (mut at, mut found) = (0, 0);
    while let Ok(Some((block, raw))) = reader.block() {
        if let recording::pcapng::read::Block::Packet(packet) = block
            && let Some(rest) = packet.comment.strip_prefix("record ")
            && !packet.bytes.is_empty()
        {
            let number: u64 = rest.split([' ', ',']).next().unwrap().parse().unwrap();
            let mut damaged = whole.clone();
            // The last byte of the packet's own bytes.
            damaged[at + 28 + packet.bytes.len() - 1] ^= 0x40;
            let problem = end(&damaged).0.unwrap_err();
            let expected = format!("damaged at record {number} ");
            assert!(problem.to_string().contains(&expected), "{number}: {problem}");
            found += 1;
        }
        at += raw.len();
    }
    assert!(found > 40, "{found}");
}

#[test]
fn any_bytes_have_an_end() {
    let mut maker = frames::Maker::new(3);
    for round in 0..500 {
        let mut bytes = maker.next().0;
        if round % 2 == 0 {
            let mut begun = Vec::new();
            recording::pcapng::section(&mut begun, "test");
            begun.extend(bytes);
            bytes = begun;
        }
        end(&bytes).0.unwrap_err();
    }
}

#[test]
fn what_is_no_recording_is_told_what_it_is() {
    let told = |bytes: &[u8]| end(bytes).0.unwrap_err().to_string();
    assert!(told(b"a text file, long enough to be read").contains("no pcapng"));
    assert!(told(&[]).contains("no pcapng"));
    let golden = bed::goldens().swap_remove(0).0;
    let path = format!("{}/golden/{golden}/in.pcapng", env!("CARGO_MANIFEST_DIR"));
    let text = told(&std::fs::read(path).unwrap());
    assert!(text.contains("a capture of") && text.contains("--with DIR"), "{text}");

    let excerpt = bed::generated(14, 30, true).excerpt();
    let whole = file(&excerpt, 1);
    let mut other = whole.clone();
    other[8..12].reverse();
    assert!(told(&other).contains("byte order"));
    let stateless = Excerpt { state: None, ..excerpt.clone() };
    assert!(told(&file(&stateless, 1)).contains("no start state"));

    let changed = |from: &str, to: &str| {
        let mut other = whole.clone();
        let at = other.windows(from.len()).position(|text| text == from.as_bytes()).unwrap();
        let magic = other[..at].windows(8).rposition(|text| text == b"HOPSCOPE").unwrap();
        other[at..at + to.len()].copy_from_slice(to.as_bytes());
        // With its sum: another build made it so.
        let length = recording::container::Begin {
            state: excerpt.state.as_ref().map(|state| state.len() as u64),
            records: stack::journal::VERSION,
            reasons: stack::journal::reasons(),
            build: "test 1.0".to_owned(),
            redacted: false,
            utc_offset: excerpt.utc_offset,
            chain: excerpt.chain,
            labels: excerpt.labels.len() as u64,
            about: None,
        };
        let end = magic + 32 + length.text().len();
        let part = recording::container::Part::Begin;
        let body = other[magic + 32..end].to_vec();
        let sum = recording::container::sum(part, recording::Id(1), 1, &body);
        other[magic + 12..magic + 16].copy_from_slice(&sum.to_le_bytes());
        other
    };
    let records = format!("records {}", stack::journal::VERSION);
    let text = told(&changed(&records, "records 9"));
    assert!(text.contains("records of version 9") && text.contains("test 1.0"), "{text}");
    let reasons = format!("reasons {}", stack::journal::reasons());
    let text = told(&changed(&reasons, "reasons 99"));
    assert!(text.contains("99 drop reasons") && text.contains("test 1.0"), "{text}");
    let mut newer = whole.clone();
    let magic = newer.windows(8).position(|text| text == b"HOPSCOPE").unwrap();
    newer[magic + 8] = 2;
    let text = told(&newer);
    assert!(text.contains("container of version 2, this program reads 1"), "{text}");
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(limit).unwrap()).unwrap()
    }
}

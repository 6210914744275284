//! What a seed leaves: journals for who asks, and when it fails, all that it takes to see why.

use std::fs;
use std::path::{Path, PathBuf};

use recording::{Excerpt, Header, Id};
use stack::journal::records;
use stack::replay::Step;
use stack::{DropReason, Replay, Verdict};

use crate::draw::Draw;
use crate::options::Options;
use crate::shrink::{Case, Fault, quietly};
use crate::topology::Topology;
use crate::world::World;
use crate::{candidate, capture, golden, run};

/// Seeds whose journals are kept at most: what is replayed by three builds afterwards.
const KEPT: u64 = 50;

/// Keeps the journals of the first seeds as recordings, if `LAB_RECORDINGS` names a directory.
pub(crate) fn keep_journals(seed: u64, world: Option<&World>) {
    if let (Ok(folder), Some(world), 1..=KEPT) = (std::env::var("LAB_RECORDINGS"), world, seed) {
        write_recordings(Path::new(&folder), seed, world);
    }
}

/// Files `seed-N-node-M.pcapng`, with the digests of state and chain at their end.
fn write_recordings(folder: &Path, seed: u64, world: &World) {
    fs::create_dir_all(folder).unwrap();
    for node in &world.nodes {
        let excerpt = Excerpt { records: node.journal(), ..Excerpt::default() };
        let header = Header { id: Id(seed), build: "simulation".to_owned(), ..Header::default() };
        let mut file = Vec::new();
        recording::write(&excerpt, &header, &mut file);
        fs::write(folder.join(recording_of(seed, node.number)), file).unwrap();
    }
}

fn recording_of(seed: u64, node: u8) -> String {
    format!("seed-{seed}-node-{node}.pcapng")
}

/// Where shrunk failures are written.
pub(crate) fn folder(seed: u64) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sim/seed-{seed}"))
}

/// What there is to say about a seed that failed; its recording is written.
pub(crate) fn tell(seed: u64, options: Options, draw: &Draw, world: Option<&World>) -> String {
    let state = world.map_or_else(String::new, World::describe);
    let found = match small(seed, options, draw) {
        Ok((case, fault, written)) => {
            let files: Vec<String> =
                written.iter().map(|path| path.display().to_string()).collect();
            let (inputs, node, Fault { place, message }) = (case.items.len(), case.number, fault);
            format!(
                "{place}: {message}\n{inputs} inputs of node {node} are enough for that; they are \
                 in\n  {}",
                files.join("\n  ")
            )
        }
        Err(why) => why,
    };
    format!(
        "{state}\nseed {seed} failed with {options:#?}\n{found}\nrerun it: \
         HOPSCOPE_SIM_SEED={seed} HOPSCOPE_SIM_SEEDS=1 cargo test -p tests --test sim seeds_keep \
         -- --nocapture"
    )
}

/// The few inputs that break the same law, and where they were written; or why there are none.
pub(crate) fn small(
    seed: u64,
    options: Options,
    draw: &Draw,
) -> Result<(Case, Fault, Vec<PathBuf>), String> {
    // Journals of whole frames: laws look at payload, the switch never does.
    let mut place = None;
    let whole = Options { payload: true, ..options };
    let Err(fault) = quietly(|| run(whole, draw, (1, true), &mut place)) else {
        return Err("a run alone with whole frames in its journals keeps the laws".to_owned());
    };
    let nodes = place.as_ref().map_or(&[][..], |world| &world.nodes);
    for node in nodes {
        let case = Case::read(node.number, options, &node.journal());
        if let Some(case) = case.shrink(&fault) {
            let written = candidate::write(&folder(seed), &case);
            return Ok((case, fault, written));
        }
    }
    let Fault { place, message } = fault;
    Err(format!("{place}: {message}\nno switch alone breaks that law: it is one of the world"))
}

/// A law that is none: this is dropped all the time.
const BROKEN: DropReason = DropReason::ArpSpoofed;

/// Seeds in which that happens, with options that see to it.
fn broken(number: u64) -> (Draw, Options) {
    let mut draw = Draw::new(number);
    let options = Options::draw(&mut draw);
    (draw, Options { hostile: 240, changes: 30, crashes: 3, broken: Some(BROKEN), ..options })
}

#[test]
fn a_failure_is_shrunk_to_a_recording_and_a_golden() {
    for number in 1_000_001..1_000_004 {
        let (draw, options) = broken(number);
        let (case, fault, written) = small(number, options, &draw).unwrap();
        assert!(fault.message.contains("the law that a test broke"), "{fault:?}");
        let inputs = case.items.len();
        assert!((1..=4).contains(&inputs), "{inputs} inputs: {:?}", case.items);
        let needless: Vec<usize> =
            (0..inputs).filter(|item| case.fails_without(*item, &fault)).collect();
        assert!(needless.is_empty(), "each input is needed: {:?}", case.items);

        let [journal, golden] = &written[..] else { panic!("{written:?}") };
        let journal = fs::read(journal).unwrap();
        let (mut replay, mut last) = (Replay::from_begin(3), None);
        for record in records(&journal) {
            replay.record(record.unwrap()).unwrap();
            last = replay.out().walked.first().map(|trace| trace.verdict);
        }
        assert_eq!(last, Some(Verdict::Drop(BROKEN)), "the journal ends where it happened");

        let file = |name: &str| fs::read(golden.join(name)).unwrap();
        let text = |name: &str| String::from_utf8(file(name)).unwrap();
        let topology = Topology::read(&text("topology.txt"));
        let frames = capture::read(&topology, &file("in.pcapng"));
        let outcome = golden::run(&topology, &frames, 5);
        assert_eq!(outcome.walk, text("walk.txt"));
        assert!(outcome.walk.contains(BROKEN.name()), "{}", outcome.walk);
        assert_eq!(outcome.counters, text("counters.txt"));
        assert_eq!(outcome.sent, file("out.pcapng"));
        fs::remove_dir_all(folder(number)).unwrap();
    }
}

#[test]
fn a_failure_says_all_that_it_takes() {
    let number = 1_000_009;
    let (draw, options) = broken(number);
    let mut place = None;
    quietly(|| run(options, &draw, (1, false), &mut place)).unwrap_err();
    let text = tell(number, options, &draw, place.as_ref());
    for said in [
        "the last walks:",
        "node 0",
        "seed 1000009 failed",
        "hostile: 240",
        "inputs of node",
        "/golden",
        "HOPSCOPE_SIM_SEED=1000009 HOPSCOPE_SIM_SEEDS=1 cargo test",
    ] {
        assert!(text.contains(said), "{said} is missing in\n{text}");
    }
    fs::remove_dir_all(folder(number)).unwrap();
}

#[test]
fn what_no_switch_alone_does_is_said_to_be_of_the_world() {
    let (draw, options) = broken(1_000_010);
    let whole = Options { broken: None, ..options };
    // Nothing fails.
    let why = small(1_000_010, whole, &draw).map(|_| ()).unwrap_err();
    assert!(why.contains("a run alone"), "{why}");
}

#[test]
fn journals_are_recordings_that_end_with_their_digests() {
    let number = 1_000_011;
    let mut draw = Draw::new(number);
    let options = Options { nodes: 2, ..Options::draw(&mut draw) };
    let mut place = None;
    let seen = run(options, &draw, (1, false), &mut place);
    write_recordings(&folder(number), number, place.as_ref().unwrap());
    for node in &seen.nodes {
        let path = folder(number).join(recording_of(number, node.number));
        let (excerpt, _start, ending) = Excerpt::read(&fs::read(path).unwrap()).unwrap();
        assert!(!ending.cut);
        let mut replay = Replay::from_begin(9);
        let steps: Vec<Step> = records(&excerpt.records)
            .map(|record| replay.record(record.unwrap()).unwrap())
            .collect();
        assert_eq!(steps[steps.len() - 2..], [Step::Verified, Step::Verified]);
        assert_eq!(replay.switch().unwrap().dump(), node.dump);
    }
    fs::remove_dir_all(folder(number)).unwrap();
}

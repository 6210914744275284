//! Crashes at every point, records that crash, and damage.

use std::os::unix::fs::FileExt;
use std::process::Command;

use stack::journal::frame::Door;
use stack::{Frame, Input};

use super::super::layout;
use super::super::tests::{A, Scratch, Worker, replayed};
use super::*;

fn worker(scratch: &Scratch, rounds: u64) -> Worker {
    let mut worker = Worker::start(scratch, 1_000);
    (0..rounds).for_each(|n| worker.round(n));
    worker
}

#[test]
fn what_was_not_published_never_was() {
    let scratch = Scratch::new();
    let mut worker = worker(&scratch, 20);
    let before = worker.state();
    let frame = Frame::from_bytes(&[9; 200]);
    for written in 0..232 {
        // The first bytes of a record lie behind the head, and the worker dies.
        let chain = before.1;
        let room = stack::journal::Place::room(
            worker.journal.recorder().place_mut(),
            232,
            Instant(5),
            &chain,
        );
        let mut bytes = vec![0; 232];
        stack::journal::frame::write(&mut bytes, Instant(5), Door::Port(A), &frame, true);
        room[..written].copy_from_slice(&bytes[..written]);
        if written % 8 == 0 {
            let copy = scratch.copy();
            let again = Worker::start(&copy, 9_000_000);
            let how = again.recovered.unwrap();
            assert_eq!((how.digest, how.chain), before);
        }
    }
}

#[test]
fn what_was_published_is_carried_out_by_the_next_worker() {
    let scratch = Scratch::new();
    let mut worker = worker(&scratch, 20);
    let frame = Frame::from_bytes(&[9; 200]);
    let (input, now) = (Input::Frame { port: A, frame: frame.duplicate() }, worker.now);
    worker.journal.before(Instant(now), &input);
    let died = scratch.copy();
    // The worker that did not die goes on.
    worker.switch.input(Instant(now), input, &mut stack::Outbox::default());
    let again = Worker::start(&died, now);
    assert_eq!(again.recovered.unwrap().digest, worker.switch.digest());
    assert_eq!(again.notice, None);
}

#[test]
fn half_of_a_change_is_forgotten() {
    let scratch = Scratch::new();
    let mut worker = worker(&scratch, 5);
    let before = worker.switch.digest();
    let routes = (0..30_000_u32).map(|n| stack::Route {
        prefix: smoltcp::wire::IpCidr::new(smoltcp::wire::Ipv4Address::from(n << 8).into(), 24),
        target: stack::RouteTarget::Blackhole,
    });
    let change = stack::Change::Routes(routes.collect());
    let begin = worker.journal.recorder().place().position();
    worker.journal.before(Instant(worker.now), &Input::Change(change));
    let copy = scratch.copy();
    // Only the first part was published when the worker died.
    let map = Arc::new(Map::open(&copy.ring(), true).unwrap());
    let mut chain = chain_at(&map, begin);
    let mut reader = Reader::new(Arc::clone(&map), begin);
    assert!(reader.advance().unwrap());
    let head = stack::journal::Head::read(reader.record()).unwrap();
    assert_eq!(head.flags, stack::journal::FLAG_MORE);
    chain.record(&reader.record()[..head.len]);
    let header = map.header();
    header.head.store(reader.behind(), Ordering::Relaxed);
    header.slots[0].position.store(reader.behind(), Ordering::Relaxed);
    header.slots[0].inputs.store(chain.inputs(), Ordering::Relaxed);
    let mut again = Worker::start(&copy, worker.now);
    assert_eq!(again.recovered.unwrap().digest, before, "{:?}", again.notice);
    again.round(1);
    assert_eq!(replayed(&again.past), again.state());
}

/// The chain before the record at a position.
fn chain_at(map: &Arc<Map>, position: u64) -> Chain {
    let mut reader = Reader::new(Arc::clone(map), 0);
    let mut replay = Replay::from_begin(1);
    while reader.behind() < position && reader.advance().unwrap() {
        replay.record(reader.record()).unwrap();
    }
    *replay.chain()
}

/// Leaves a ring as a worker would that died on its newest record.
fn die(worker: &mut Worker, byte: u8) {
    let input = Input::Frame { port: A, frame: Frame::from_bytes(&[byte; 80]) };
    worker.journal.before(Instant(worker.now), &input);
}

/// Leaves it as a recovery would that died on the record behind `done`.
fn die_again(scratch: &Scratch) {
    let map = Map::open(&scratch.ring(), true).unwrap();
    let done = map.header().done.load(Ordering::Relaxed);
    let post_mortem = post_mortem(map.header()).unwrap();
    assert_eq!(post_mortem, None, "once is no reason");
    map.header().replaying.store(done + 1, Ordering::Relaxed);
}

#[test]
fn a_record_that_crashes_twice_is_set_aside() {
    let scratch = Scratch::new();
    let mut first = worker(&scratch, 20);
    let (before, now) = (first.state(), first.now);
    die(&mut first, 6);
    drop(first);
    die_again(&scratch);
    let mut second = Worker::start(&scratch, now);
    let notice = second.notice.clone().unwrap();
    assert!(notice.contains("set aside"), "{notice}");
    let how = second.recovered.unwrap();
    assert_eq!(how.digest, before.0, "it is as if it had never come");
    assert_ne!(how.chain, before.1, "but it is not forgotten");
    let [file] = <[PathBuf; 1]>::try_from(quarantine::files(&scratch.0)).unwrap();
    stops_before_the_crash(&file, before.0);
    // What follows, and all of it again, leaves the record out.
    (0..5).for_each(|n| second.round(n));
    assert_eq!(replayed(&second.past), second.state());
    let now = second.now;
    drop(second);
    let third = Worker::start(&scratch, now);
    assert_eq!(third.notice, None);
}

/// A replay of the recording comes to the state before the record, and goes on only if told to.
fn stops_before_the_crash(file: &Path, before: u64) {
    use recording::{Limit, Replayer, Turn};
    let kept = std::fs::read(file).unwrap();
    let mut replayer = Replayer::new(3);
    replayer.push(&kept);
    replayer.finish();
    let mut last = 0;
    let stop = |replayer: &mut Replayer, last: &mut u64| loop {
        match replayer.turn().unwrap() {
            Turn::Done(done) => *last = done.number,
            Turn::Started => {}
            other @ (Turn::Starved | Turn::Limit | Turn::End(_)) => return other,
        }
    };
    assert_eq!(stop(&mut replayer, &mut last), Turn::Limit);
    assert_eq!(replayer.switch().unwrap().digest(), before);
    let (number, what) = replayer.crash().unwrap();
    assert!(number == last + 1 && what.starts_with("frame from pod/demo/a: "), "{what}");
    replayer.limit(Limit::Utc(u64::MAX));
    assert_eq!(stop(&mut replayer, &mut last), Turn::Limit, "a moment is no word for it");
    replayer.limit(Limit::Record(number));
    assert!(matches!(stop(&mut replayer, &mut last), Turn::End(ending) if !ending.cut));
    assert_eq!(last, number);
    assert_eq!(replayer.frame().unwrap().bytes, [6; 80]);
    let about = replayer.start().about.clone().unwrap();
    assert_eq!((about.rule.as_str(), about.crashed), ("quarantine", Some(number)));
    assert!(about.event.contains("crashed the switch twice: frame from pod/demo/a"), "{about}");
    assert!(about.packets > 20 && about.covers.1 == about.at);
}

#[test]
fn three_within_a_minute_start_empty() {
    let scratch = Scratch::new();
    let mut worker = worker(&scratch, 20);
    for round in 0..3_u8 {
        let now = worker.now;
        die(&mut worker, round);
        drop(worker);
        die_again(&scratch);
        worker = Worker::start(&scratch, now);
        assert_eq!(worker.recovered.is_some(), round < 2);
    }
    let notice = worker.notice.unwrap();
    assert!(notice.contains("three records") && notice.contains("started empty"), "{notice}");
}

#[test]
fn a_replay_that_dies_on_what_went_well_starts_empty() {
    let scratch = Scratch::new();
    let first = worker(&scratch, 20);
    let now = first.now;
    drop(first);
    for crash in 0..2 {
        let map = Map::open(&scratch.ring(), true).unwrap();
        map.header().replaying.store(401, Ordering::Relaxed);
        if crash == 0 {
            assert_eq!(post_mortem(map.header()).unwrap(), None);
        }
    }
    let second = Worker::start(&scratch, now);
    assert!(second.recovered.is_none());
    assert!(second.notice.unwrap().contains("crashed the recovery twice at position 400"));
}

/// A generator of its own: the same positions every time.
fn draw(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 16
}

#[test]
fn damage_is_never_a_state() {
    let scratch = Scratch::new();
    let mut worker = worker(&scratch, 900);
    let (before, now) = (worker.state(), worker.now);
    let used = worker.journal.recorder().place().position() + layout::HEADER as u64;
    drop(worker);
    let (mut seed, mut refused) = (1, 0);
    let identity = Identity::new(super::super::boot_id().unwrap());
    let file = std::fs::File::options().read(true).write(true).open(scratch.ring()).unwrap();
    for _ in 0..300 {
        // One of the header's bytes now and then, else one of the records.
        let header = draw(&mut seed).is_multiple_of(4);
        let at = draw(&mut seed) % if header { 400 } else { used };
        let bit = 1 << (draw(&mut seed) % 8);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        let mut page = [0; layout::HEADER];
        file.read_exact_at(&mut page, 0).unwrap();
        file.write_all_at(&[byte[0] ^ bit], at).unwrap();
        match recover(&scratch.options(), &identity, Instant(now), 3) {
            Ok(state) => assert_eq!((state.how.digest, state.how.chain), before, "byte {at}"),
            Err(why) => {
                assert!(!why.to_string().is_empty());
                refused += 1;
            }
        }
        file.write_all_at(&byte, at).unwrap();
        file.write_all_at(&page, 0).unwrap();
    }
    assert!(refused > 150, "{refused} of 300 were refused");
}

#[test]
fn damaged_snapshots_are_passed_over() {
    let scratch = Scratch::new();
    let mut first = worker(&scratch, 9_000);
    let (before, now) = (first.state(), first.now);
    let found = areas::find(&scratch.0);
    assert!(found.len() >= 2);
    drop(first);
    let newest = &found[0];
    let mut bytes = std::fs::read(&newest.path).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    std::fs::write(&newest.path, bytes).unwrap();
    let again = Worker::start(&scratch, now);
    let how = again.recovered.unwrap();
    assert_eq!((how.digest, how.chain), before);
    assert_eq!(how.snapshot, Some(found[1].origin.number));
}

const CHILD: &str = "HOPSCOPE_TEST_CHILD";

/// Not a test: the worker that [`killed_workers_are_followed`] kills.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let scratch = Scratch(directory.into());
    let now = crate::event_loop::monotonic().0;
    let mut worker = Worker::start(&scratch, now);
    assert_eq!(worker.notice, None);
    for n in 0.. {
        worker.round(n);
    }
}

#[test]
fn killed_workers_are_followed() {
    let scratch = Scratch::new();
    let mut seed = u64::from(std::process::id());
    let head = || {
        let map = Map::open(&scratch.ring(), false).ok()?;
        Some(map.header().head.load(Ordering::Relaxed))
    };
    for _ in 0..20 {
        let before = head().unwrap_or(0);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "recorder::recovery::tests::child"]).env(CHILD, &scratch.0);
        command.stdout(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        let begun = Clock::now();
        while head().is_none_or(|head| head < before + 10_000) {
            assert!(begun.elapsed() < Duration::from_secs(20), "the child writes");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(draw(&mut seed) % 100_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let copy = scratch.copy();
        let map = || Arc::new(Map::open(&copy.ring(), true).unwrap());
        // From the oldest start, with other tables than the worker's.
        let compared = replay_from_oldest(map(), &copy);
        let now = crate::event_loop::monotonic();
        let identity = Identity::new(super::super::boot_id().unwrap());
        let state = recover(&scratch.options(), &identity, now, 8).unwrap();
        assert_eq!(state.how.digest, compared.how.digest);
        assert_eq!(state.how.chain, compared.how.chain);
        assert_eq!(state.switch.dump(), compared.switch.dump());
    }
}

fn replay_from_oldest(map: Arc<Map>, scratch: &Scratch) -> State {
    if reaches(&map, 0) {
        return replay_from_begin(map, 5, Purpose::Compare).unwrap();
    }
    let mut found = areas::find(&scratch.0);
    found.retain(|found| reaches(&map, found.origin.position));
    found.pop();
    found.into_iter().for_each(|newer| std::fs::remove_file(newer.path).unwrap());
    replay(map, &scratch.0, 5, Purpose::Compare).unwrap()
}

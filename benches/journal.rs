//! What the recorder costs, by criterion: `cargo bench -p benches --bench journal`.
//!
//! The ring lies in /dev/shm with 256 MiB, so a record's place is in no cache, as in the daemon.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use benches::{Bed, Case};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use stack::journal::frame::{self, Door};
use stack::journal::{Chain, Place, Recorder, Tape};
use stack::replay::Replay;
use stack::table::slab::Slab;
use stack::words::{Take, Words};
use stack::{Frame, Input, Instant, Limits, Outbox, PortId, Seeds, Switch};
use vswitchd::recorder::journal::Journal;
use vswitchd::recorder::layout::{Geometry, Identity};
use vswitchd::recorder::map::Map;
use vswitchd::recorder::ring::Ring;
use vswitchd::recorder::snapshots::RECORDS;
use vswitchd::recorder::{self, Begun, Options};

/// Bytes of a small frame, and of one whose window is full.
const FRAMES: [(&str, usize); 2] = [("small", 66), ("window", 1_000)];
/// As by default.
const SIZE: u64 = 256 << 20;

/// A directory in memory that goes with the bench.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("hopscope-bench-{}-{name}", std::process::id());
        let directory = PathBuf::from("/dev/shm").join(name);
        std::fs::create_dir_all(&directory).expect("/dev/shm can be written to");
        Self(directory)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn ring(scratch: &Scratch) -> Ring {
    let geometry = Geometry::for_size(SIZE);
    let map = Map::create(&scratch.0.join("journal"), geometry).expect("room in /dev/shm");
    map.header().begin(geometry, &Identity::new([1, 2]));
    (0..geometry.segments).for_each(|place| map.populate(place));
    Ring::new(&Arc::new(map)).expect("the only writer")
}

fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Elements(1));
    let door = Door::Port(PortId(7));
    for (name, len) in FRAMES {
        let frame = Frame::from_bytes(&vec![0x5a; len]);
        let scratch = Scratch::new(name);
        let mut recorder = Recorder::new(ring(&scratch), Chain::new(), false);
        let mut now = 0;
        group.bench_function(format!("append_and_chain/{name}"), |bencher| {
            bencher.iter(|| {
                now += 1_000;
                recorder.frame(Instant(now), door, black_box(&frame));
            });
        });
        let out = outbox(&frame);
        group.bench_function(format!("append_chain_and_outcome/{name}"), |bencher| {
            bencher.iter(|| {
                now += 1_000;
                recorder.frame(Instant(now), door, black_box(&frame));
                recorder.outcome(black_box(&out));
            });
        });
        let (mut ring, chain) = (recorder.into_place(), Chain::new());
        group.bench_function(format!("append/{name}"), |bencher| {
            bencher.iter(|| {
                now += 1_000;
                let record = frame::Record::of(Instant(now), door, black_box(&frame), false);
                let room = ring.room(record.len(), Instant(now), &chain);
                record.write(room, 0);
                ring.publish(record.len(), &chain);
            });
        });
        let record = frame::Record::of(Instant(1), door, &frame, false);
        let mut place = vec![0; record.len()];
        record.write(&mut place, 0);
        let record = place;
        let mut chain = Chain::new();
        group.bench_function(format!("chain/{name}"), |bencher| {
            bencher.iter(|| chain.record(black_box(&record)));
        });
    }
    group.finish();
}

/// What a frame led to that was forwarded.
fn outbox(frame: &Frame) -> Outbox {
    let mut out = Outbox::default();
    out.walked.push(stack::Trace::new(PortId(1)));
    out.transmits.push(stack::Transmit { port: PortId(2), frame: frame.duplicate(), walk: 0 });
    out
}

/// A row as large as an IPv4 connection's.
#[derive(Clone, Debug)]
struct Row([u64; 14]);

impl Words for Row {
    fn put(&self, out: &mut Vec<u64>) {
        out.extend(self.0);
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        let mut row = [0; 14];
        for word in &mut row {
            *word = words.word()?;
        }
        Some(Self(row))
    }
}

fn snapshots(criterion: &mut Criterion) {
    const ROWS: usize = 1_000_000;
    let mut group = criterion.benchmark_group("snapshot");
    let mut slab = Slab::new(ROWS);
    for n in 0..ROWS as u64 {
        slab.insert(Row([n; 14]));
    }
    let mut bytes: Vec<u8> = Vec::with_capacity(1 << 20);
    group.bench_function("begin/1000000", |bencher| bencher.iter(|| slab.begin()));
    slab.begin();
    group.bench_function("step_of_512/1000000", |bencher| {
        bencher.iter(|| {
            bytes.clear();
            let whole = slab.step(512, &mut |_, words| {
                words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
            });
            if whole {
                slab.begin();
            }
        });
    });
    let mut count = 0_usize;
    group.bench_function("change_before_its_turn/1000000", |bencher| {
        bencher.iter(|| {
            // Rows far apart; what was put aside is forgotten before it is much.
            if count.is_multiple_of(4_096) {
                slab.begin();
            }
            count += 1;
            slab.change(count * 7_919 % ROWS).map(|row| row.0[0] += 1)
        });
    });
    group.finish();
}

/// Connections there are when a journal is opened.
const CONNECTIONS: u32 = 100_000;

fn limits() -> Limits {
    Limits { pod_connections_max: 1 << 18, ..Limits::default() }
}

/// A frame of each connection in turn, far from the one before it: the first of each begins it.
fn datagram(number: u64) -> Input {
    let connection = u32::try_from(number * 38_197 % u64::from(CONNECTIONS)).expect("a remainder");
    let port = |number: u32| u16::try_from(number).expect("a port").to_be_bytes();
    let mut bytes = Bed::datagram();
    bytes[34..36].copy_from_slice(&port(1_024 + connection % 50_000));
    bytes[36..38].copy_from_slice(&port(1_024 + connection / 50_000));
    // No checksum (RFC 768), so that none must follow.
    bytes[40..42].copy_from_slice(&[0, 0]);
    Input::Frame { port: Bed::PORT, frame: Frame::from_bytes(&bytes) }
}

/// A switch with that many connections.
fn with_connections(connections: u32) -> Switch {
    let mut switch = Switch::new(Bed::configuration(), limits(), Seeds { table: 1, choice: 2 });
    let mut out = Outbox::default();
    for number in 0..u64::from(connections) {
        switch.input(Instant(1_000 * number), datagram(number), &mut out);
        out.clear();
    }
    assert_eq!(switch.tables().connections().len(), connections as usize);
    switch
}

fn recoveries(criterion: &mut Criterion) {
    const REPLAYED: u64 = 20_000;
    let mut group = criterion.benchmark_group("recovery");
    group.sample_size(20);
    let state = with_connections(CONNECTIONS).snapshot();
    group.bench_function("restore/100000", |bencher| {
        bencher.iter(|| Switch::restore(black_box(&state), 3));
    });
    let mut tape = Recorder::new(Tape::default(), Chain::new(), false);
    let small = with_connections(0);
    let (mut live, mut out) = (small.clone(), Outbox::default());
    for n in 0..REPLAYED {
        let case = Case::ALL[usize::try_from(n).unwrap_or(0) % Case::ALL.len()];
        let (now, frame) = (Instant(1_000 * n), Frame::from_bytes(&case.frame()));
        let port = Bed::PORT;
        tape.frame(now, Door::Port(port), &frame);
        live.input(now, Input::Frame { port, frame }, &mut out);
        tape.outcome(&out);
        out.clear();
    }
    group.throughput(Throughput::Elements(REPLAYED));
    group.bench_function("replay", |bencher| {
        bencher.iter_batched(
            || Replay::from_state(small.clone(), Chain::new()),
            |mut replay| {
                for record in stack::journal::records(tape.place().bytes()) {
                    replay.record(record.expect("whole")).expect("as recorded");
                }
                replay
            },
            BatchSize::LargeInput,
        );
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("open/100000_connections_at_the_worst_moment", |bencher| {
        let scratch = Scratch::new("open");
        let options = Options { directory: scratch.0.clone(), size: SIZE, payload: false };
        leave_behind(&options);
        let begun = begun();
        bencher.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for _ in 0..times {
                let begin = Clock::now();
                let opened = recorder::open(&options, &begun).expect("a journal");
                took += begin.elapsed();
                let how = opened.recovered.expect("recovered");
                assert!(how.records > RECORDS && how.snapshot.is_some(), "{how:?}");
                let there = opened.switch.tables().connections().len();
                assert_eq!(there, CONNECTIONS as usize);
                // The pages ahead are mapped beside the worker; the next recovery, which a killed
                // worker's never meets, would share the memory with that.
                wait_for_threads();
            }
            took
        });
    });
    group.finish();
}

/// Until this program has one thread again.
fn wait_for_threads() {
    let count = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    while count() > 1 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn begun() -> Begun {
    let seeds = Seeds { table: 1, choice: 2 };
    Begun { now: Instant(1), utc_offset: 0, seeds, limits: limits() }
}

/// A journal as a busy worker leaves it at the worst moment: one snapshot is taken, the next one is
/// nearly whole.
fn leave_behind(options: &Options) {
    let opened = recorder::open(options, &begun()).expect("a journal");
    let (mut switch, mut journal, mut out) = (opened.switch, opened.journal, Outbox::default());
    let mut put_in = |journal: &mut Journal, switch: &mut Switch, now, input| {
        journal.before(now, &input);
        switch.input(now, input, &mut out);
        journal.after(&out);
        out.clear();
    };
    for change in stack::config::diff(&switch.config(), &Bed::configuration()) {
        put_in(&mut journal, &mut switch, Instant(1), Input::Change(change));
    }
    // When the first snapshot with all connections was begun, and how many records it took: the
    // second, begun next, would be whole after as many again.
    let (mut begun, mut took) = (None, None);
    let mut end = u64::MAX;
    for n in 0_u64.. {
        if n >= end {
            break;
        }
        let now = Instant(1_000 * n);
        put_in(&mut journal, &mut switch, now, datagram(n));
        if n < u64::from(CONNECTIONS) || !n.is_multiple_of(64) || end != u64::MAX {
            continue;
        }
        journal.between(now, &mut switch);
        match (begun, took, journal.is_busy()) {
            (None, _, true) => begun = Some(n),
            (Some(from), None, false) => took = Some(n - from),
            (Some(_), Some(took), true) => end = n + took,
            _ => {}
        }
    }
}

criterion_group!(benches_of_the_recorder, appends, snapshots, recoveries);
criterion_main!(benches_of_the_recorder);

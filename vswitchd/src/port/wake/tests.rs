//! Tests of the waiter. Times are bounded from one side only, since the machine is shared.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::OFlag;

use super::*;

fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap()
}

fn in_millis(millis: u64) -> Option<Instant> {
    Some(now() + Duration::from_millis(millis))
}

#[test]
fn a_deadline_is_never_early() {
    let mut waiter = Waiter::new().unwrap();
    let mut ready = Vec::new();
    for millis in [0, 1, 3] {
        let until = in_millis(millis);
        let time = waiter.wait(until, &mut ready).unwrap();
        assert!(Some(time) >= until, "woken {time} for {until:?}");
        assert!(ready.is_empty());
    }
}

#[test]
fn the_waker_wakes_from_another_thread_once() {
    let mut waiter = Waiter::new().unwrap();
    let waker = waiter.waker();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(5));
        nix::unistd::write(&waker, &1_u64.to_ne_bytes()).unwrap()
    });
    let mut ready = Vec::new();
    waiter.wait(None, &mut ready).unwrap();
    assert_eq!(ready, [Waiter::WAKER]);
    assert_eq!(thread.join().unwrap(), 8);
    ready.clear();
    waiter.wait(in_millis(1), &mut ready).unwrap();
    assert!(ready.is_empty(), "the waker was reset");
}

#[test]
fn what_is_left_unread_is_reported_again() {
    let mut waiter = Waiter::new().unwrap();
    let (first, first_writer) = pipe();
    let (second, _second_writer) = pipe();
    waiter.add(first.as_fd(), 7).unwrap();
    waiter.add(second.as_fd(), 8).unwrap();
    nix::unistd::write(&first_writer, b"ab").unwrap();
    let mut ready = Vec::new();
    waiter.wait(None, &mut ready).unwrap();
    assert_eq!(ready, [7]);
    nix::unistd::read(&first, &mut [0; 1]).unwrap();
    waiter.wait(None, &mut ready).unwrap();
    assert_eq!(ready, [7, 7], "appended, and level-triggered");
    nix::unistd::read(&first, &mut [0; 1]).unwrap();
    ready.clear();
    waiter.wait(in_millis(1), &mut ready).unwrap();
    assert!(ready.is_empty());
}

#[test]
fn a_removed_descriptor_is_silent_and_a_broken_one_is_not() {
    let mut waiter = Waiter::new().unwrap();
    let (reader, writer) = pipe();
    waiter.add(reader.as_fd(), 1).unwrap();
    assert_eq!(waiter.add(reader.as_fd(), 1).unwrap_err().raw_os_error(), Some(libc::EEXIST));
    drop(writer);
    let mut ready = Vec::new();
    waiter.wait(None, &mut ready).unwrap();
    assert_eq!(ready, [1], "hung up");
    waiter.remove(reader.as_fd()).unwrap();
    assert_eq!(waiter.remove(reader.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    ready.clear();
    waiter.wait(in_millis(1), &mut ready).unwrap();
    assert!(ready.is_empty());
}

#[test]
fn more_is_ready_than_one_call_reports() {
    let mut waiter = Waiter::new().unwrap();
    let count = EVENTS_MAX + 10;
    let pipes: Vec<_> = (0..count).map(|_| pipe()).collect();
    for (token, (reader, writer)) in (0..).zip(&pipes) {
        waiter.add(reader.as_fd(), token).unwrap();
        nix::unistd::write(writer, b"a").unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut ready = Vec::new();
    while seen.len() < count {
        ready.clear();
        waiter.wait(None, &mut ready).unwrap();
        for token in &ready {
            let (reader, _) = &pipes[usize::try_from(*token).unwrap()];
            nix::unistd::read(reader, &mut [0; 1]).unwrap();
            assert!(seen.insert(*token), "{token} was read already");
        }
    }
}

#[test]
fn the_spin_follows_the_traffic() {
    let mut spin = Spin::default();
    assert!(!spin.pays(), "nobody has shown that it pays");
    spin.slept(Duration::from_millis(1));
    assert!(!spin.pays(), "traffic too far apart");
    spin.slept(Duration(20_000));
    assert_eq!(spin.length, SPIN_START);
    spin.hit();
    spin.hit();
    spin.hit();
    assert_eq!(spin.length, SPIN_MAX, "doubled up to the cap");
    spin.slept(Duration(20_000));
    assert_eq!(spin.length, SPIN_MAX, "a short sleep does not shorten it");
    let mut misses = 0;
    while spin.pays() {
        spin.miss();
        misses += 1;
    }
    assert_eq!(misses, 6, "a silent node ends it soon");
}

#[test]
fn runnable_tasks_are_the_fourth_field() {
    assert_eq!(parse_runnable(b"0.20 0.18 0.12 3/80 11206\n"), Some(3));
    for strange in ["", "0.20 0.18 0.12", "0.20 0.18 0.12 x/80 1", "0.20 0.18 0.12 3 1"] {
        assert_eq!(parse_runnable(strange.as_bytes()), None, "{strange:?}");
    }
}

/// Threads that never sleep.
struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Busy {
    fn new(count: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = |_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || while !stop.load(Ordering::Relaxed) {})
        };
        let threads = (0..count).map(thread).collect();
        Self { stop, threads }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// The share of the elapsed time that this thread computed, while it waited for a millisecond again
/// and again and believed each time that a long spin would pay.
fn share_of_waiting(waiter: &mut Waiter) -> f64 {
    let computed = || {
        let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
        std::time::Duration::from(time).as_secs_f64()
    };
    let (began, before) = (std::time::Instant::now(), computed());
    let mut ready = Vec::new();
    while began.elapsed() < std::time::Duration::from_millis(500) {
        waiter.spin.length = SPIN_MAX;
        waiter.wait(in_millis(1), &mut ready).unwrap();
    }
    assert!(ready.is_empty());
    (computed() - before) / began.elapsed().as_secs_f64()
}

#[test]
fn a_loaded_node_is_not_spun_on() {
    let mut waiter = Waiter::new().unwrap();
    let cores = waiter.contention.cores;
    if waiter.contention.loadavg.is_none() || cores < 2 {
        println!("skipped: no /proc/loadavg here, or one core");
        return;
    }
    let busy = Busy::new(cores);
    let share = share_of_waiting(&mut waiter);
    assert!(share < 0.06, "{share} of a core taken from those who need it");
    // The same blind to the run queues: this is what was not done.
    waiter.contention.cores = u32::MAX;
    let blind = share_of_waiting(&mut waiter);
    assert!(blind > share, "{blind} of a core with the spin, {share} without");
    drop(busy);
}

#[test]
fn more_runnable_tasks_than_cores_end_a_spin() {
    let mut contention = Contention::new();
    if contention.loadavg.is_none() {
        println!("skipped: no /proc/loadavg here");
        return;
    }
    let busy = Busy::new(contention.cores + 1);
    let deadline = now() + Duration::from_secs(2);
    assert!(contention.allows_spin(now()));
    let mut wanted = false;
    while !wanted && now() < deadline {
        wanted = contention.is_wanted(now());
    }
    drop(busy);
    assert!(wanted, "{} busy threads on {} cores", contention.cores + 1, contention.cores);
    let held = contention.hold_until;
    assert!(!contention.allows_spin(held - Duration(1)), "the answer holds for a while");
    assert!(contention.allows_spin(held));
}

#[test]
fn a_crowd_of_a_moment_does_not_end_a_spin() {
    let mut contention = Contention::new();
    // Without /proc/loadavg nobody else is runnable, as far as can be known.
    contention.loadavg = None;
    contention.cores = 2;
    for _ in 0..10 {
        assert!(contention.allows_spin(now()));
        for _ in 1..LOOKS_TO_AGREE {
            contention.crowded += 1;
        }
        assert_eq!(contention.runnable(), 0);
        // Unless this very thread was preempted in between, which is the other signal.
        contention.preemptions = None;
        assert!(!contention.is_wanted(now()));
        assert_eq!(contention.crowded, 0);
    }
}

#[test]
fn one_core_is_never_spun_on() {
    let mut contention = Contention::new();
    contention.cores = 1;
    assert!(!contention.allows_spin(now()));
}

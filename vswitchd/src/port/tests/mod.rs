//! Drivers against the kernel: two namespaces, a relay between them, real traffic. Needs root.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, setns, unshare};

use super::wake::Waiter;
use super::{Losses, Pool, PortIo, offload};

mod packet;
mod segment;
mod tap;
mod traffic;

/// A network namespace without a name: it goes with the last descriptor and the last task in it.
pub(crate) struct Namespace {
    file: File,
}

impl Namespace {
    /// A new one with loopback up and cubic set, or `None` with a printed reason where that needs
    /// root.
    pub(crate) fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: making network namespaces needs root");
            return None;
        }
        let thread = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let namespace = Self { file: thread.join().unwrap() };
        namespace.run(|| {
            ip("link set lo up");
            std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "cubic").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
        });
        Some(namespace)
    }

    /// Runs a closure on a thread of its own inside the namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let enter = || {
                setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                work()
            };
            scope.spawn(enter).join().unwrap()
        })
    }

    /// The descriptor, for `ip link set ... netns /proc/self/fd/N`.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// Runs `ip` with words separated by spaces in the current namespace.
pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Gives an interface the addresses 10.9.0.N and fd09::N and puts it up.
pub(crate) fn configure(interface: &str, number: u8) {
    ip(&format!("addr add 10.9.0.{number}/24 dev {interface}"));
    ip(&format!("addr add fd09::{number}/64 dev {interface} nodad"));
    ip(&format!("link set {interface} up"));
}

/// Takes IPv6 away, which sends frames of its own accord.
pub(crate) fn silence(interface: &str) {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    std::fs::write(path, "1").unwrap();
}

/// What a relay saw from one side.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) frames: u64,
    pub(crate) super_frames: u64,
    pub(crate) longest: usize,
    pub(crate) failed: u64,
}

type Ports = [Box<dyn PortIo>; 2];

/// Two devices wired to each other by a thread.
pub(crate) struct Relay {
    thread: JoinHandle<(Ports, [Seen; 2])>,
    stop: Arc<AtomicBool>,
    waker: Arc<std::os::fd::OwnedFd>,
}

impl Relay {
    pub(crate) fn start(mut ports: Ports) -> Self {
        let mut waiter = Waiter::new().unwrap();
        let waker = waiter.waker();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut pool = Pool::new();
            let mut seen = [Seen::default(); 2];
            for (token, port) in (0..).zip(&ports) {
                waiter.add(port.descriptor(), token).unwrap();
            }
            let mut ready = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                ready.clear();
                waiter.wait(None, &mut ready).unwrap();
                for token in &ready {
                    let from = match token {
                        0 => 0,
                        1 => 1,
                        _waker => continue,
                    };
                    turn(&mut ports, &mut pool, &mut seen[from], from);
                }
            }
            (ports, seen)
        });
        Self { thread, stop, waker }
    }

    /// Ends the relay: the devices, what was seen of each, what was lost before each.
    pub(crate) fn stop(self) -> (Ports, [Seen; 2], [Losses; 2]) {
        self.stop.store(true, Ordering::Relaxed);
        nix::unistd::write(&self.waker, &1_u64.to_ne_bytes()).unwrap();
        let (mut ports, seen) = self.thread.join().unwrap();
        let losses = ports.each_mut().map(|port| port.losses().unwrap());
        (ports, seen, losses)
    }
}

fn turn(ports: &mut Ports, pool: &mut Pool, seen: &mut Seen, from: usize) {
    let to = 1 - from;
    let mut out = Vec::new();
    for _ in 0..32 {
        let Some(frame) = ports[from].receive(pool).unwrap() else { break };
        seen.frames += 1;
        seen.super_frames += u64::from(frame.offload().gso.is_some());
        seen.longest = seen.longest.max(frame.len());
        offload::prepare(frame, &ports[to].capabilities(), pool, &mut out);
        for mut frame in out.drain(..) {
            // A pod that is not up yet refuses: its peer's first solicitations meet that.
            if let Err(error) = ports[to].transmit(&mut frame) {
                seen.failed += 1;
                println!("write of {} bytes failed: {error} {:?}", frame.len(), frame.offload());
            }
            pool.give(frame);
        }
    }
}

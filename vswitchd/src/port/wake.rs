//! Waiting for frames, commands or a deadline: epoll, and a bounded spin before it where that pays.
//!
//! On a virtual machine the way out of an idle CPU costs more than all packet work, so after work
//! the waiter polls for a while before it sleeps. How long follows the traffic: [`SPIN_START`] when
//! a sleep turned out to be shorter than [`SPIN_MAX`], doubled on a hit, halved when nothing came,
//! off below [`SPIN_MIN`]. A silent node never spins.
//!
//! It must never take a core from a pod. Two signals say that somebody else wants one, asked every
//! few microseconds of a spin ([`Contention`]); after a yes there is no spin for [`HOLD_OFF`].
//! Finding out costs about 20 us of polling, so a busy node loses a hundredth of a core to it at
//! most.
//!
//! epoll is level-triggered: the event loop reads a bounded batch of a port and leaves the rest for
//! its next turn, and what is left is reported again by itself. Edge-triggered would save the
//! kernel one look at each ready device a turn, and ask for a list of half-read ports and one
//! failing read more.

#![expect(
    unsafe_code,
    reason = "getrusage of one thread has no safe wrapper in nix's chosen features"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::time::{ClockId, clock_gettime};
use stack::{Duration, Instant};

/// Waits on any number of descriptors and one waker. Belongs to the thread that made it.
#[derive(Debug)]
pub struct Waiter {
    epoll: Epoll,
    waker: Arc<OwnedFd>,
    events: Vec<EpollEvent>,
    spin: Spin,
    contention: Contention,
}

impl Waiter {
    /// The token of the waker.
    pub const WAKER: u64 = u64::MAX;

    /// A waiter with no descriptors but its waker.
    ///
    /// # Errors
    /// The kernel's, when it has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let waker = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        epoll.add(&waker, EpollEvent::new(EpollFlags::EPOLLIN, Self::WAKER))?;
        Ok(Self {
            epoll,
            waker: Arc::new(waker.into()),
            events: vec![EpollEvent::empty(); EVENTS_MAX],
            spin: Spin::default(),
            contention: Contention::new(),
        })
    }

    /// What wakes the waiter from another thread: write eight bytes that are not all zero.
    #[must_use]
    pub fn waker(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.waker)
    }

    /// Reports `token` whenever the descriptor is readable, or broken, until it is removed.
    ///
    /// # Errors
    /// The kernel's; EEXIST when the descriptor is there already.
    pub fn add(&mut self, descriptor: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// Forgets a descriptor. Needed before it is closed if a duplicate of it lives elsewhere.
    ///
    /// # Errors
    /// The kernel's; ENOENT when it is not there.
    pub fn remove(&mut self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        Ok(self.epoll.delete(descriptor)?)
    }

    /// Waits until something is ready or the moment `until` has come (at most a millisecond late),
    /// and appends the tokens of what is ready. Gives back the time. With [`Waiter::WAKER`]
    /// among them the waker has been reset: look for commands afterwards.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&mut self, until: Option<Instant>, ready: &mut Vec<u64>) -> io::Result<Instant> {
        let begin = now();
        let mut count = self.poll(EpollTimeout::ZERO)?;
        let mut end = begin;
        if count == 0 {
            (count, end) = self.spin_until(begin, until)?;
        }
        while count == 0 && until.is_none_or(|until| end < until) {
            count = self.poll(timeout(end, until))?;
            end = now();
            if count != 0 {
                self.spin.slept(end.since(begin));
            }
        }
        for event in self.events.iter().take(count) {
            if event.data() == Self::WAKER {
                self.reset_waker()?;
            }
            ready.push(event.data());
        }
        Ok(end)
    }

    /// Polls for as long as that is likely to pay. Gives back what came and the time.
    fn spin_until(
        &mut self,
        begin: Instant,
        until: Option<Instant>,
    ) -> io::Result<(usize, Instant)> {
        if !self.spin.pays() || !self.contention.allows_spin(begin) {
            return Ok((0, begin));
        }
        let stop = begin + self.spin.length;
        let mut turn = 0_u32;
        loop {
            let count = self.poll(EpollTimeout::ZERO)?;
            let end = now();
            if count != 0 {
                self.spin.hit();
                return Ok((count, end));
            }
            if end >= stop {
                self.spin.miss();
                return Ok((0, end));
            }
            turn += 1;
            // A deadline that cuts the spin short says nothing about the traffic: neither hit nor
            // miss.
            if until.is_some_and(|until| end >= until)
                || (turn.is_multiple_of(POLLS_PER_LOOK) && self.contention.is_wanted(end))
            {
                return Ok((0, end));
            }
        }
    }

    fn poll(&mut self, timeout: EpollTimeout) -> io::Result<usize> {
        match self.epoll.wait(&mut self.events, timeout) {
            Ok(count) => Ok(count),
            // A signal: to the caller the same as nothing.
            Err(Errno::EINTR) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    fn reset_waker(&self) -> io::Result<()> {
        match nix::unistd::read(self.waker.as_fd(), &mut [0; 8]) {
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// CLOCK_MONOTONIC, which every Linux has.
#[must_use]
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(std::time::Duration::ZERO, std::time::Duration::from);
    Instant(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// Milliseconds until the deadline, rounded up: woken early, the caller would find nothing to do.
fn timeout(now: Instant, until: Option<Instant>) -> EpollTimeout {
    let Some(until) = until else { return EpollTimeout::NONE };
    let millis = until.since(now).0.div_ceil(1_000_000);
    EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::MAX)
}

/// How long to poll before sleeping.
#[derive(Debug, Default, PartialEq, Eq)]
struct Spin {
    length: Duration,
}

impl Spin {
    fn pays(&self) -> bool {
        self.length >= SPIN_MIN
    }

    fn hit(&mut self) {
        self.length = Duration(self.length.0 * 2).min(SPIN_MAX);
    }

    fn miss(&mut self) {
        self.length = Duration(self.length.0 / 2);
    }

    /// Something came after `span` of polling and sleeping together.
    fn slept(&mut self, span: Duration) {
        if span < SPIN_MAX {
            self.length = self.length.max(SPIN_START);
        }
    }
}

/// Whether other tasks want the core that a spin uses.
///
/// - More tasks are runnable than there are cores for us (`/proc/loadavg`, its fourth field, the
///   momentary sum over the run queues; asking costs about a microsecond). The scheduler spreads
///   tasks over idle cores, so while this is not so nobody waits behind us for long. Several looks
///   must agree: right after a write the pod it wakes and the pod that caused it overlap for a
///   moment.
/// - The scheduler took the core from this thread by force (`ru_nivcsw` of getrusage(2)). This
///   covers what the first misses: pinned tasks, a quota of the control group, another view of
///   /proc.
///
/// sched_yield(2) would tell more directly, but it costs the caller its turn for a whole slice
/// whenever there is a competitor, which is milliseconds of latency for every pod.
#[derive(Debug)]
struct Contention {
    loadavg: Option<File>,
    cores: u32,
    hold_until: Instant,
    /// `ru_nivcsw` at the last look of this spin.
    preemptions: Option<libc::c_long>,
    /// Looks in a row that found more runnable tasks than cores.
    crowded: u32,
}

impl Contention {
    fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            // Without it one signal is left, which the type's description says.
            loadavg: File::open("/proc/loadavg").ok(),
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            hold_until: Instant::ZERO,
            preemptions: None,
            crowded: 0,
        }
    }

    /// Asked at the begin of each spin. On one core never: whoever sends us a frame needs it.
    fn allows_spin(&mut self, now: Instant) -> bool {
        self.preemptions = None;
        self.crowded = 0;
        self.cores > 1 && now >= self.hold_until
    }

    /// Asked during a spin.
    fn is_wanted(&mut self, now: Instant) -> bool {
        let preemptions = preemptions();
        let before = self.preemptions.replace(preemptions);
        let preempted = before.is_some_and(|before| before != preemptions);
        self.crowded = if self.runnable() > self.cores { self.crowded + 1 } else { 0 };
        let wanted = preempted || self.crowded == LOOKS_TO_AGREE;
        if wanted {
            self.hold_until = now + HOLD_OFF;
        }
        wanted
    }

    /// Tasks that run or could, this thread among them; 0 if that cannot be known.
    fn runnable(&self) -> u32 {
        let mut text = [0; 128];
        let Some(Ok(len)) = self.loadavg.as_ref().map(|file| file.read_at(&mut text, 0)) else {
            return 0;
        };
        text.get(..len).and_then(parse_runnable).unwrap_or(0)
    }
}

/// `0.20 0.18 0.12 3/80 11206`: the 3.
fn parse_runnable(loadavg: &[u8]) -> Option<u32> {
    let field = std::str::from_utf8(loadavg).ok()?.split(' ').nth(3)?;
    field.split_once('/')?.0.parse().ok()
}

/// How often the scheduler took the core from this thread although it wanted to go on.
fn preemptions() -> libc::c_long {
    // SAFETY: an rusage is plain numbers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills in one rusage, which lives through the call. It cannot fail: the
    // constant is known since Linux 2.6.26 and the address is good.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    usage.ru_nivcsw
}

const SPIN_START: Duration = Duration(50_000);
const SPIN_MAX: Duration = Duration(200_000);
/// Shorter than a wake-up takes; polling less is not worth the calls.
const SPIN_MIN: Duration = Duration(6_000);
/// After somebody wanted the core. Long enough that looking costs nothing, short beside a human's
/// pause.
const HOLD_OFF: Duration = Duration::from_millis(2);
/// A poll takes about 150 ns, a look at the contention ten times that.
const POLLS_PER_LOOK: u32 = 32;
const LOOKS_TO_AGREE: u32 = 3;
/// Tokens a call; the rest comes with the next one.
const EVENTS_MAX: usize = 256;

#[cfg(test)]
mod tests;

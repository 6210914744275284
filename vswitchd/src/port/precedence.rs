//! Who goes first on a busy node: a worker that reads the ports, before one that prepares itself to
//! follow it.
//!
//! Niceness would not do: a nicer thread that runs is left to run for a few milliseconds before one
//! that wakes up has its turn, and in that time a port's queue overflows. A thread of the policy
//! SCHED_IDLE makes way at once.

#![expect(unsafe_code, reason = "no library in use has sched_setscheduler")]

use std::io;

use rustix::process::{Resource, Rlimit, getpriority_process, getrlimit, setrlimit};

/// The policy that a thread had before it stepped back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usual(libc::c_int);

impl Usual {
    /// The calling thread goes behind all others from now on, and so do the threads that it starts.
    /// `None` when it cannot, or has a policy that somebody has given it on purpose.
    #[must_use]
    pub fn step_back() -> Option<Self> {
        // SAFETY: reads a number of the calling thread.
        let usual = unsafe { libc::sched_getscheduler(0) };
        let is_usual = [libc::SCHED_OTHER, libc::SCHED_BATCH].contains(&usual);
        (is_usual && set(libc::SCHED_IDLE).is_ok()).then_some(Self(usual))
    }

    /// The calling thread goes where it was.
    pub fn step_forward(self) {
        let Self(usual) = self;
        if let Err(error) = set(usual) {
            tracing::warn!(%error, "a thread cannot go back to its scheduling policy");
        }
    }
}

fn set(policy: libc::c_int) -> io::Result<()> {
    // SAFETY: a sched_param is a plain number, for which zero is valid, and the one of these
    // policies.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: concerns the calling thread alone, and reads parameters that live through the call.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets this process and its children step forward again without privileges: a worker has none,
/// and inherits the limit that decides about it.
pub fn let_step_forward() {
    let nice = getpriority_process(None).unwrap_or(0);
    let wanted = u64::try_from(20_i32.saturating_sub(nice)).unwrap_or(0);
    let at_least = |there: Option<u64>| there.map(|there| there.max(wanted));
    let there = getrlimit(Resource::Nice);
    let limit = Rlimit { current: at_least(there.current), maximum: at_least(there.maximum) };
    if let Err(errno) = setrlimit(Resource::Nice, limit) {
        tracing::warn!(%errno, "the limit of priorities stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_steps_back_and_forward_again() {
        // On a thread of its own: what it is afterwards no other test needs.
        std::thread::spawn(|| {
            // SAFETY: reads a number of the calling thread.
            let policy = || unsafe { libc::sched_getscheduler(0) };
            if policy() != libc::SCHED_OTHER {
                return;
            }
            let usual = Usual::step_back().unwrap();
            assert_eq!(policy(), libc::SCHED_IDLE);
            assert_eq!(Usual::step_back(), None);
            let inherited = std::thread::spawn(move || policy());
            assert_eq!(inherited.join().unwrap(), libc::SCHED_IDLE);
            if nix::unistd::geteuid().is_root() {
                let_step_forward();
                usual.step_forward();
                assert_eq!(policy(), libc::SCHED_OTHER);
            }
        })
        .join()
        .unwrap();
    }
}

//! Who goes first on a busy node: a worker that reads the ports, before one that prepares itself to
//! follow it.

use rustix::process::{
    Resource, Rlimit, getpriority_process, getrlimit, setpriority_process, setrlimit,
};
use serde::{Deserialize, Serialize};

/// How much nicer the one is that prepares itself: a tenth of a core is left to it where others
/// want all.
const STEP: i32 = 10;
/// The nicest there is.
const NICEST: i32 = 19;

/// A thread's niceness before it stepped back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usual(i32);

impl Usual {
    /// The calling thread goes behind others from now on, and so do the threads and processes that
    /// it starts. `None` when it cannot.
    #[must_use]
    pub fn step_back() -> Option<Self> {
        let usual = getpriority_process(None).ok()?;
        let_go_forward(usual);
        setpriority_process(None, usual.saturating_add(STEP).min(NICEST)).ok()?;
        Some(Self(usual))
    }

    /// The calling thread goes where it was.
    pub fn step_forward(self) {
        let Self(usual) = self;
        if let Err(errno) = setpriority_process(None, usual) {
            tracing::warn!(%errno, nice = usual, "a thread cannot go back to its priority");
        }
    }
}

/// A worker has no privileges: what lets it be less nice again is this limit, which it inherits.
fn let_go_forward(usual: i32) {
    let wanted = u64::try_from(20_i32.saturating_sub(usual)).unwrap_or(0);
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
            let nice = || getpriority_process(None).unwrap();
            let before = nice();
            let usual = Usual::step_back().unwrap();
            assert_eq!(usual, Usual(before));
            assert_eq!(nice(), (before + STEP).min(NICEST));
            let inherited = std::thread::spawn(move || getpriority_process(None).unwrap());
            assert_eq!(inherited.join().unwrap(), nice());
            if nix::unistd::geteuid().is_root() {
                usual.step_forward();
                assert_eq!(nice(), before);
            }
        })
        .join()
        .unwrap();
    }
}

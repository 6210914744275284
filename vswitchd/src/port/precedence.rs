//! Who goes first on a busy node: a worker that reads the ports, before one that prepares itself to
//! follow it.
//!
//! Niceness would not do: a nicer thread that runs is left to run for a few milliseconds before one
//! that wakes up has its turn, and in that time a port's queue overflows. A thread of the policy
//! SCHED_IDLE makes way at once. There is no way back without privileges, which a worker has not:
//! what is heavy is done by a thread that ends with it.

#![expect(unsafe_code, reason = "no library in use has sched_setscheduler")]

use std::io;

/// Does something heavy behind all other threads; what that starts goes behind them as well.
///
/// # Errors
/// When there is no thread to be had, or the work ended by a panic.
pub fn behind_others<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let stepped_back = move || {
            if let Err(error) = step_back() {
                tracing::debug!(%error, "heavy work is not done behind other threads");
            }
            work()
        };
        let thread = std::thread::Builder::new().name("prepare".to_owned());
        let ended = thread.spawn_scoped(scope, stepped_back)?.join();
        ended.map_err(|_panic| io::Error::other("it ended by a panic"))
    })
}

/// The calling thread goes behind all others from now on.
fn step_back() -> io::Result<()> {
    // SAFETY: a sched_param is a plain number, for which zero is valid, and the one of this policy.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: concerns the calling thread alone, and reads parameters that live through the call.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_that_works_steps_back() {
        // SAFETY: reads a number of the calling thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let before = policy();
        let inside = behind_others(|| (policy(), std::thread::spawn(policy).join().unwrap()));
        assert_eq!(inside.unwrap(), (libc::SCHED_IDLE, libc::SCHED_IDLE));
        assert_eq!(policy(), before);
    }
}

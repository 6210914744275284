//! ^C and TERM: the run stops at the next look and cleans up as if it had ended.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use crate::Fallible;

/// Whether somebody wants the run to end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes the signals over. Call it before there are other threads: they inherit that they do
    /// not get them.
    pub(crate) fn watch() -> io::Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        signals.thread_block()?;
        let flag = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&flag);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if signals.wait().is_ok() {
                seen.store(true, Ordering::Relaxed);
            }
        })?;
        Ok(Self(flag))
    }

    /// Sleeps.
    ///
    /// # Errors
    /// As soon as the run shall end.
    pub(crate) fn sleep(&self, span: Duration) -> Fallible<()> {
        let end = Instant::now() + span;
        loop {
            if self.0.load(Ordering::Relaxed) {
                return Err("interrupted; nothing is left behind".into());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(LOOK));
        }
    }
}

/// Between two looks at the flag.
const LOOK: Duration = Duration::from_millis(50);

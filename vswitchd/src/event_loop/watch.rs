//! Rules on the data thread: they see what came of each input, and time. Whoever they fire for is
//! told by a bounded channel; nothing waits, and the switch knows nothing of it.

use stack::Instant;
use tokio::sync::mpsc;

use super::run::Loop;
use crate::recorder::Journal;
use crate::triggers::watcher::{Counts, Fired, Watcher};

/// Events that may wait for the control side: each rule fires once a second at most.
const WAITING_MAX: usize = 64;

/// A rule fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which, and why.
    pub fired: Fired,
    /// The journal's position behind what it was about.
    pub position: u64,
}

/// The data thread's end.
#[derive(Debug)]
pub(crate) struct Watching {
    watcher: Watcher,
    events: mpsc::Sender<Event>,
}

/// Both ends.
pub(super) fn open(watcher: Watcher) -> (Watching, mpsc::Receiver<Event>) {
    let (events, receiver) = mpsc::channel(WAITING_MAX);
    (Watching { watcher, events }, receiver)
}

impl Watching {
    /// A port is called so from now on.
    pub(super) fn name(&mut self, port: stack::PortId, name: &str) {
        self.watcher.name(port, name);
    }

    /// When time alone may fire a rule.
    pub(super) fn due(&self) -> Option<Instant> {
        self.watcher.due()
    }

    pub(super) fn counts(&self) -> Vec<Counts> {
        self.watcher.counts().collect()
    }

    fn send(&mut self, journal: Option<&Journal>) {
        if self.watcher.is_quiet() {
            return;
        }
        let position = journal.map_or(0, Journal::position);
        for fired in self.watcher.take_fired() {
            let rule = fired.rule;
            if self.events.try_send(Event { fired, position }).is_err() {
                tracing::warn!(rule, "an event is not recorded: too many wait for it");
            }
        }
    }
}

impl Loop {
    /// Shows the rules what came of the last input, before frames leave the outbox.
    #[inline]
    pub(super) fn watch_walks(&mut self) {
        if let Some(watching) = &mut self.watching {
            watching.watcher.see(self.now, &self.switch, &self.out);
            watching.send(self.journal.as_ref());
        }
    }

    /// Shows them the time.
    pub(super) fn watch_time(&mut self) {
        if let Some(watching) = &mut self.watching
            && watching.due().is_some_and(|due| due <= self.now)
        {
            watching.watcher.expire(self.now);
            watching.send(self.journal.as_ref());
        }
    }
}

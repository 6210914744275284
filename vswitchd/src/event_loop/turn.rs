//! From one worker to the next while frames come: what the one who leaves does, and what the one
//! who comes does until it is its turn.
//!
//! Who waits for its turn reads no port and writes no journal that another writes. It takes devices
//! and questions as always. A change is tried on its own copy of the switch, so that whoever asks
//! for it has the answer, and is made again when the journal is its own.

use std::num::NonZeroU64;

use stack::{Change, Duration, Event, Input, PortId};
use tokio::sync::oneshot;

use super::baton::{Baton, Left};
use super::run::Loop;
use super::{monotonic, utc_offset};
use crate::recorder::follow::FollowError;
use crate::recorder::{Begun, Follower, Staged};

/// How often a journal is followed while nothing presses.
const STROLL: Duration = Duration::from_millis(1);
/// How often it is looked whether it is our turn, once all is prepared: the time in which nobody
/// reads the ports begins before we see it.
const GLANCE: std::time::Duration = std::time::Duration::from_micros(25);
/// A sleep is not longer than asked for by more than this, in nanoseconds; the default is twice the
/// glance.
const SLACK: NonZeroU64 = NonZeroU64::MIN;

/// What a worker is prepared with while another one reads the ports.
pub struct Turn {
    /// Where the other one leaves what it has to.
    pub baton: Baton,
    /// Its process id.
    pub from: u32,
    /// Limits and seeds.
    pub begun: Begun,
    /// What becomes of its state.
    pub way: Way,
}

/// How the state of the worker before is had.
pub enum Way {
    /// Its journal is followed, and gone on with.
    Follow(Box<Follower>),
    /// It is left in the baton, and a journal of ours begins with it.
    Import(Option<Staged>),
}

/// It is our turn.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// For how long nobody read the ports.
    pub blind: Duration,
}

/// Tells the control side how far it is.
pub struct Herald {
    /// Completes when there is nothing left to do but to take over.
    pub prepared: oneshot::Receiver<()>,
    /// Completes when we are the one who reads the ports.
    pub taken: oneshot::Receiver<Taken>,
}

/// The data thread's side of a turn that has not come yet.
pub(super) struct Waiting {
    turn: Turn,
    prepared: Option<oneshot::Sender<()>>,
    taken: oneshot::Sender<Taken>,
    /// Whether the control side is done.
    armed: bool,
    /// Changes that were tried.
    later: Vec<Change>,
    labels: Vec<(PortId, String)>,
}

/// Why the turn never comes.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error("the worker before has not said where its journal ends")]
    NoPosition,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Waiting {
    pub(super) fn new(turn: Turn) -> (Self, Herald) {
        let (prepared, is_prepared) = oneshot::channel();
        let (taken, is_taken) = oneshot::channel();
        let herald = Herald { prepared: is_prepared, taken: is_taken };
        let (later, labels) = (Vec::new(), Vec::new());
        (Self { turn, prepared: Some(prepared), taken, armed: false, later, labels }, herald)
    }

    /// The control side is done.
    pub(super) fn arm(&mut self) {
        self.armed = true;
    }

    /// A change that the switch has taken on trial. Whose journal is its own has recorded it.
    pub(super) fn remember(&mut self, change: Change) {
        if matches!(self.turn.way, Way::Follow(_)) {
            self.later.push(change);
        }
    }

    pub(super) fn label(&mut self, port: PortId, name: String) {
        self.labels.push((port, name));
    }

    /// Follows what there is; then looks for the baton.
    fn look(&mut self) -> Result<Look, TurnError> {
        if let Way::Follow(follower) = &mut self.turn.way
            && !follower.step()?
        {
            return Ok(Look::More);
        }
        if !self.armed {
            return Ok(Look::Stroll);
        }
        if let Some(prepared) = self.prepared.take() {
            let _nobody_waits = prepared.send(());
        }
        Ok(self.turn.baton.look()?.map_or(Look::Glance, Look::Ours))
    }
}

/// What to do next while waiting.
enum Look {
    More,
    Stroll,
    Glance,
    Ours(Left),
}

impl Loop {
    /// Waits until the ports are ours to read. False: the loop ends.
    pub(super) fn await_turn(&mut self) -> bool {
        if self.waiting.is_none() {
            return true;
        }
        // A longer wait than meant costs frames only; what the kernel says about it is no matter.
        let _no_matter = rustix::thread::set_current_timer_slack(Some(SLACK));
        let is_ours = self.wait_for_turn();
        let _no_matter = rustix::thread::set_current_timer_slack(None);
        is_ours
    }

    fn wait_for_turn(&mut self) -> bool {
        let mut ready = Vec::new();
        while let Some(waiting) = &mut self.waiting {
            let until = match waiting.look() {
                Ok(Look::More) => self.now,
                Ok(Look::Stroll) => monotonic() + STROLL,
                Ok(Look::Glance) => {
                    std::thread::sleep(GLANCE);
                    self.now
                }
                Ok(Look::Ours(left)) => match self.take_over(left) {
                    Ok(()) => return true,
                    Err(error) => return cannot(&error),
                },
                Err(error) => return cannot(&error),
            };
            ready.clear();
            match self.waiter.wait(Some(until), &mut ready) {
                Ok(now) => self.now = now,
                Err(error) => return cannot(&error.into()),
            }
            if !ready.is_empty() && !self.obey() {
                return false;
            }
        }
        true
    }

    /// The ports are ours to read from here on.
    fn take_over(&mut self, left: Left) -> Result<(), TurnError> {
        let Some(waiting) = self.waiting.take() else { return Ok(()) };
        let Waiting { turn, taken, later, labels, .. } = waiting;
        let Turn { from, way, mut begun, baton: _ } = turn;
        self.now = monotonic();
        (begun.now, begun.utc_offset) = (self.now, utc_offset());
        // Freed when frames flow again.
        let mut tried = None;
        match way {
            Way::Follow(follower) => {
                let closed = left.position.ok_or(TurnError::NoPosition)?;
                let (switch, journal) = follower.take_over(&begun, closed, from)?;
                self.utc_offset = journal.utc_offset();
                self.journal = Some(journal);
                tried = Some(std::mem::replace(&mut self.switch, switch));
            }
            Way::Import(staged) => {
                staged.map(Staged::settle).transpose()?;
                self.import(left.state.unwrap_or_default(), from);
            }
        }
        self.count_from_here();
        self.poll_devices();
        let blind = monotonic().since(left.last_read);
        for change in later {
            // Desired state differs from what the worker before had: as in a reload.
            if let Err(error) = self.change(change) {
                tracing::error!(%error, "a change that was tried before the hand-over is refused");
            }
        }
        for (port, name) in labels {
            self.label(port, name);
        }
        drop(tried);
        let _nobody_waits = taken.send(Taken { blind });
        Ok(())
    }

    /// Takes over the state of another build. What it cannot be read as is lost, and said.
    fn import(&mut self, state: Vec<u8>, from: u32) {
        self.feed(Input::Import(state));
        for event in self.out.events.drain(..) {
            if let Event::NotImported(error) = event {
                tracing::error!(%error, "counters and shares begin anew");
            }
        }
        if let Some(journal) = &mut self.journal {
            journal.recorder().resume(self.now, &crate::recorder::follow::handed_over(from));
        }
    }

    /// Leaves the ports to the next worker: what is here ends between two batches, all of it
    /// written.
    pub(super) fn leave(&mut self, baton: &Baton, with_state: bool) -> std::io::Result<()> {
        self.flush();
        let position = self.journal.as_ref().map(crate::recorder::Journal::position);
        let state = with_state.then(|| self.switch.export());
        baton.leave(&Left { last_read: self.now, position, state })
    }
}

fn cannot(error: &TurnError) -> bool {
    tracing::error!(%error, "cannot take over");
    false
}

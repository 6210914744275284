//! The side that hands over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::super::Supervisor;
use super::super::channel::{Channel, Received};
use super::super::keeper::{self, Owner};
use super::super::protocol::{self, Report, Word};
use super::{Hello, Inventory, Message, VERSION, journal, say};

/// Until when whoever knocked must have said what it wants.
const GREETING: Duration = Duration::from_secs(2);
/// Until when the worker must be quiet; it gives up a little earlier.
const QUIET: Duration = Duration::from_secs(8);
/// Until when the other one must be prepared. So long nobody can wire a pod.
const PREPARING: Duration = Duration::from_secs(60);
/// Until when the worker must have left the ports.
const YIELDING: Duration = Duration::from_secs(2);

/// A hand-over under way.
#[derive(Debug)]
pub(in super::super) struct Giving {
    channel: Channel,
    /// Process id of the other parent.
    to: u32,
    step: Step,
    due: Option<Instant>,
}

/// How far it is. With the last two goes the other worker's process.
#[derive(Debug)]
enum Step {
    /// It has not said what it wants.
    Greeting,
    /// The worker finishes what has begun.
    Quieting,
    /// The other one prepares itself.
    Preparing,
    /// The worker was told to leave the ports.
    Yielding(OwnedFd),
    /// It has left them, or has ended.
    Given(OwnedFd),
}

impl Giving {
    /// The channel to the other parent.
    pub(in super::super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// When patience ends.
    pub(in super::super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether the ports are, or are about to be, another worker's.
    pub(in super::super) fn is_given(&self) -> bool {
        matches!(self.step, Step::Yielding(_) | Step::Given(_))
    }
}

impl Supervisor {
    /// Somebody knocked.
    pub(in super::super) fn answer_the_door(&mut self) {
        let (channel, pid) = match self.holdings.door.answer() {
            Ok(answered) => answered,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => return tracing::warn!(%error, "takeover.sock: not let in"),
        };
        if self.giving.is_some() || self.taking.is_some() {
            return refuse(&channel, "another hand-over is under way; try again when it is over");
        }
        let due = Some(Instant::now() + GREETING);
        self.giving = Some(Giving { channel, to: pid, step: Step::Greeting, due });
    }

    /// Hears the other parent.
    pub(in super::super) fn hear_successor(&mut self) {
        let Some(giving) = &mut self.giving else { return };
        let (message, descriptors) = match giving.channel.receive() {
            Ok(Received::Message(bytes, descriptors)) => {
                (protocol::decode::<Message>(&bytes).ok(), descriptors)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Ok(Received::Oversized | Received::Ended) | Err(_) => (None, Vec::new()),
        };
        match (message, &giving.step) {
            (Some(Message::Hello(hello)), Step::Greeting) => self.greet(&hello),
            (Some(Message::Yield { with_state }), Step::Preparing) => {
                if self.tell_to_yield(descriptors, with_state).is_none() {
                    self.lost_successor();
                }
            }
            (Some(Message::Worker), Step::Given(_)) => match descriptors.into_iter().next() {
                Some(process) => giving.step = Step::Given(process),
                None => self.lost_successor(),
            },
            (Some(Message::Ready), Step::Yielding(_) | Step::Given(_)) => self.retire(),
            _ended_or_strange => self.lost_successor(),
        }
    }

    fn greet(&mut self, hello: &Hello) {
        let said = match self.why_not(hello) {
            Some(why) => Err(why),
            None => match self.worker.as_ref().map(|worker| worker.say(Word::Quiet, &[])) {
                Some(Ok(())) => Ok(()),
                _not_there => Err("its worker does not listen; try again".to_owned()),
            },
        };
        let Some(giving) = &mut self.giving else { return };
        match said {
            Ok(()) => {
                if let Some(worker) = &self.worker {
                    worker.prefer(true);
                }
                tracing::info!(to = giving.to, build = hello.build, "another vswitchd takes over");
                (giving.step, giving.due) = (Step::Quieting, Some(Instant::now() + QUIET));
            }
            Err(why) => {
                tracing::warn!(to = giving.to, why, "a hand-over is refused");
                refuse(&giving.channel, &why);
                self.giving = None;
            }
        }
    }

    /// Why that one may not take over.
    fn why_not(&self, hello: &Hello) -> Option<String> {
        let own = &self.settings;
        let state_dir = own.state_dir.canonicalize().ok();
        let other = |key: &str, theirs: &dyn std::fmt::Debug, ours: &dyn std::fmt::Debug| {
            Some(format!("its {key} is {ours:?}, not {theirs:?}; give both the same, or stop it"))
        };
        if hello.form != VERSION {
            return Some(format!(
                "it hands over by form {VERSION}, not {}; stop it, then start this one",
                hello.form
            ));
        }
        if state_dir.as_ref() != Some(&hello.state_dir) {
            return other("state-dir", &hello.state_dir, &own.state_dir);
        }
        if own.host_port != hello.host_port {
            return other("host-port", &hello.host_port, &own.host_port);
        }
        if own.journal_dir != hello.journal_dir {
            return other("journal-dir", &hello.journal_dir, &own.journal_dir);
        }
        let ready = self.worker.as_ref().is_some_and(|worker| worker.ready().is_some());
        if !ready || self.stopping.is_some() {
            return Some("it is not ready itself; try again when it is".to_owned());
        }
        None
    }

    /// The worker has said something on the way.
    pub(in super::super) fn worker_on_its_way(&mut self, report: Report) {
        let Some(giving) = &mut self.giving else { return };
        match (report, &mut giving.step) {
            (Report::Quiet, Step::Quieting) => {
                (giving.step, giving.due) = (Step::Preparing, Some(Instant::now() + PREPARING));
                if let Err(error) = self.hand_copies() {
                    self.give_up(&format!("its holdings cannot be handed over ({error})"));
                }
            }
            (Report::Busy, Step::Quieting) => {
                self.give_up("pods are being wired and that does not end; try again");
            }
            (Report::Yielded, Step::Yielding(_)) => self.given(&Message::Yielded),
            _late_or_strange => {}
        }
    }

    /// All that must outlive a worker, as copies.
    fn hand_copies(&self) -> io::Result<()> {
        let (Some(giving), Some(worker)) = (&self.giving, &self.worker) else { return Ok(()) };
        let held = &self.holdings;
        let process = worker.process()?;
        let mut descriptors: Vec<BorrowedFd<'_>> = held.directories.locks().collect();
        let locks = descriptors.len();
        let own = [held.tether.as_fd(), held.cni.as_fd(), held.admin.as_fd()];
        descriptors.extend(own);
        descriptors.extend([held.door.as_fd(), process.as_fd()]);
        let inventory = Inventory {
            parent: std::process::id(),
            worker: worker.id(),
            journal: journal(&self.settings),
            state: stack::table::export::MAJOR,
            locks,
            ports: held.keeper.all().count(),
        };
        say(&giving.channel, &Message::Inventory(inventory), &descriptors)?;
        for keeper::Kept { owner, parts } in held.keeper.all() {
            let device = parts.description;
            let message = match owner {
                Owner::Pod { inode, ifname, host_ifname } => Message::Pod {
                    inode,
                    ifname: ifname.to_owned(),
                    host_ifname: host_ifname.to_owned(),
                    device,
                },
                Owner::Host => Message::Host { device },
                Owner::HostSide => Message::HostSide { device },
            };
            let descriptors: Vec<_> = parts.descriptors.iter().map(AsFd::as_fd).collect();
            say(&giving.channel, &message, &descriptors)?;
        }
        Ok(())
    }

    /// From here on the other one is answerable for the ports. `None` when it makes no sense.
    fn tell_to_yield(&mut self, descriptors: Vec<OwnedFd>, with_state: bool) -> Option<()> {
        let [baton, successor]: [OwnedFd; 2] = descriptors.try_into().ok()?;
        let giving = self.giving.as_mut()?;
        (giving.step, giving.due) = (Step::Yielding(successor), Some(Instant::now() + YIELDING));
        let told = self.worker.as_ref()?.say(Word::Yield { with_state }, &[baton.as_fd()]);
        if let (Err(error), Some(worker)) = (told, &mut self.worker) {
            tracing::warn!(%error, "the worker cannot be told to leave the ports; it is killed");
            worker.kill();
        }
        Some(())
    }

    /// The worker is off the ports, by itself or dead.
    fn given(&mut self, message: &Message) {
        let Some(giving) = self.giving.take() else { return };
        let Giving { channel, to, step, .. } = giving;
        let successor = match step {
            Step::Yielding(successor) | Step::Given(successor) => successor,
            Step::Greeting | Step::Quieting | Step::Preparing => return,
        };
        if say(&channel, message, &[]).is_err() {
            tracing::debug!(to, "the other vswitchd does not listen any more");
        }
        self.giving = Some(Giving { channel, to, step: Step::Given(successor), due: None });
    }

    /// The worker has ended while another vswitchd takes over. True: that one goes on.
    pub(in super::super) fn worker_gone_on_its_way(&mut self, how: &str) -> bool {
        match self.giving.as_ref().map(|giving| &giving.step) {
            None => false,
            Some(Step::Greeting | Step::Quieting | Step::Preparing) => {
                self.give_up(&format!("its worker is gone ({how}); try again"));
                false
            }
            Some(Step::Yielding(_)) => {
                tracing::warn!(how, "the worker has ended while it left the ports");
                self.given(&Message::Ended);
                true
            }
            Some(Step::Given(_)) => true,
        }
    }

    /// Patience has ended.
    pub(in super::super) fn giving_takes_too_long(&mut self) {
        let Some(giving) = &mut self.giving else { return };
        if giving.due.is_none_or(|due| Instant::now() < due) {
            return;
        }
        match &giving.step {
            Step::Greeting => self.giving = None,
            Step::Quieting => self.give_up("its worker does not come to rest; try again"),
            Step::Preparing => {
                self.give_up(&format!("this one is not prepared within {PREPARING:?}"));
            }
            Step::Yielding(_) => {
                giving.due = None;
                if let Some(worker) = &mut self.worker {
                    tracing::warn!("the worker does not leave the ports in time and is killed");
                    worker.kill();
                }
            }
            Step::Given(_) => {}
        }
    }

    /// Nothing has changed hands yet: the worker goes on.
    fn give_up(&mut self, why: &str) {
        let Some(giving) = self.giving.take() else { return };
        tracing::warn!(to = giving.to, why, "the hand-over is given up; this vswitchd goes on");
        refuse(&giving.channel, why);
        self.resume();
    }

    fn resume(&self) {
        let Some(worker) = &self.worker else { return };
        worker.prefer(false);
        if let Err(error) = worker.say(Word::Resume, &[]) {
            tracing::warn!(%error, "the worker cannot be told to go on");
        }
    }

    /// The other vswitchd is gone, or makes no sense.
    fn lost_successor(&mut self) {
        let Some(Giving { channel, to, step, .. }) = self.giving.take() else { return };
        match step {
            Step::Greeting => {}
            Step::Quieting | Step::Preparing => {
                // Should it live, it must not take this for our end.
                refuse(&channel, "what it was asked for is not understood; try again");
                tracing::warn!(to, "the vswitchd that took over has ended; this one goes on");
                self.resume();
            }
            Step::Yielding(successor) | Step::Given(successor) => {
                tracing::warn!(
                    to,
                    "the vswitchd that took over has ended; this one goes on when that one's \
                     worker is gone"
                );
                self.blocked_by = Some(successor);
                if let Some(worker) = &mut self.worker {
                    worker.kill();
                }
            }
        }
    }

    /// The other vswitchd works: this one has nothing left to do.
    fn retire(&mut self) {
        let Some(giving) = self.giving.take() else { return };
        self.handed_to = Some(giving.to);
        self.stop_worker();
    }
}

fn refuse(channel: &Channel, why: &str) {
    if let Err(error) = say(channel, &Message::Refused { why: why.to_owned() }, &[]) {
        tracing::debug!(%error, "who wanted to take over does not listen");
    }
}

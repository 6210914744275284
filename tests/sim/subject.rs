//! A switch under all laws: whatever goes in, what comes of it is judged here, in the simulated
//! cluster and when a journal is played again.

use stack::hash::Hasher;
use stack::input::{EndpointId, Event, Frame, Input, Outbox, PortId};
use stack::trace::Silence;
use stack::{
    AnswerKind, Change, Config, DropReason, Hop, Instant, Limits, Seeds, Switch, Trace, Verdict,
};

use crate::nat::{Before, Nat};
use crate::share::Shares;
use crate::{laws, state};

/// Connections of a table that is looked through at every step.
const SMALL: usize = 8;
/// Frames after which a larger one is.
const SEEN_EVERY: u64 = 25;

/// A switch and the models of what it may still do.
pub(crate) struct Subject {
    pub(crate) switch: Switch,
    floods: Shares,
    errors: Shares,
    nat: Nat,
    /// Inputs so far.
    inputs: u64,
    /// See [`crate::options::Options::broken`].
    broken: Option<DropReason>,
}

impl Subject {
    /// An empty switch.
    pub(crate) fn new(limits: Limits, seeds: Seeds, broken: Option<DropReason>) -> Self {
        Self {
            switch: Switch::new(Config::default(), limits, seeds),
            floods: Shares::new("floods", limits.flood_burst, limits.flood_interval),
            errors: Shares::new("errors", limits.errors_burst, limits.errors_interval),
            nat: Nat::default(),
            inputs: 0,
            broken,
        }
    }

    /// A frame goes in.
    pub(crate) fn frame(&mut self, now: Instant, port: PortId, frame: Frame, out: &mut Outbox) {
        let given = frame.duplicate();
        let before = Before::of(&self.switch, now, port, &frame);
        laws::frame(&mut self.switch, now, port, frame, out);
        self.shares(now, &out.walked[0], &given);
        for (walk, held) in &out.released {
            self.shares(now, &out.walked[usize::try_from(*walk).unwrap()], held);
        }
        self.nat.judge((&self.switch, now, port), &before, out);
        self.inputs += 1;
        // All of a small table at every step, of a large one what the frame touched.
        let small = self.switch.tables().connections().len() <= SMALL;
        if small || self.inputs.is_multiple_of(SEEN_EVERY) {
            state::connections(&self.switch);
        }
        if let (Some(reason), Verdict::Drop(found)) = (self.broken, out.walked[0].verdict) {
            assert_ne!(reason, found, "the law that a test broke");
        }
    }

    /// A delivered frame goes to its endpoint.
    pub(crate) fn deliver(
        &mut self,
        now: Instant,
        endpoint: EndpointId,
        frame: Frame,
        out: &mut Outbox,
    ) {
        laws::deliver(&mut self.switch, now, endpoint, frame, out);
    }

    /// Time passes. All that may come of it is that fragments are dropped that waited too long.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Outbox) {
        let before = self.switch.counters();
        self.switch.input(now, Input::Tick, out);
        assert_eq!((out.transmits.len(), out.deliveries.len()), (0, 0), "a tick moves no frame");
        laws::counted(&before, &self.switch.counters(), None, out);
        laws::released(&self.switch, 0, out);
        for trace in &out.walked {
            assert_eq!(trace.verdict, Verdict::Drop(DropReason::FragmentTimeout));
        }
    }

    /// A change goes in, at the time of the last input. True if it was accepted.
    pub(crate) fn change(&mut self, now: Instant, change: &Change, out: &mut Outbox) -> bool {
        let accepted = state::change(&mut self.switch, now, change.clone(), out);
        if accepted {
            self.nat.changed(change);
        }
        assert_eq!(accepted, !out.events.iter().any(|event| matches!(event, Event::Rejected(_))));
        accepted
    }

    fn shares(&mut self, now: Instant, trace: &Trace, given: &Frame) {
        let port = trace.ingress;
        match trace.verdict {
            Verdict::Flood(_) | Verdict::Drop(DropReason::StormLimited) => {
                let granted = matches!(trace.verdict, Verdict::Flood(_));
                let copies = laws::receivers(&self.switch, port, given).len();
                // A token for each 64 KiB of copies, of which each counts 4 KiB at least.
                let tokens = (copies * given.len().max(4_096)).div_ceil(65_536);
                self.floods.judge(port, now, u64::try_from(tokens).unwrap(), granted);
            }
            // What the gateway hears comes out of the share of errors as well.
            Verdict::Answer(AnswerKind::Error { .. }) | Verdict::Deliver(_) => {
                self.errors.judge(port, now, 1, true);
            }
            Verdict::Drop(DropReason::GatewayBusy) => self.errors.judge(port, now, 1, false),
            Verdict::Drop(_) if trace.hops().contains(&Hop::Silent(Silence::RateLimited)) => {
                self.errors.judge(port, now, 1, false);
            }
            Verdict::Answer(_) | Verdict::Forward(_) | Verdict::Drop(_) | Verdict::Hold => {}
        }
    }
}

/// Takes a frame that left into the hash of all that left.
pub(crate) fn remember(sent: &mut u64, now: Instant, frame: &Frame, port: PortId) {
    let mut hasher = Hasher::new(*sent);
    hasher.number(now.0);
    hasher.number(u64::from(port.0));
    hasher.bytes(frame.bytes());
    hasher.bytes(format!("{:?}", frame.offload()).as_bytes());
    *sent = hasher.finish();
}

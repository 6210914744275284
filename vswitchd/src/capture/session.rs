//! One live capture: sits on the event loop's thread, decides which walks it wants, and passes them
//! to its writer through a bounded ring. What does not fit is counted, never waited for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stack::{AnswerKind, Frame, Instant, Offload, PortId, Trace, Verdict};
use tokio::sync::Notify;

use super::cbpf::{Bytes, Program};
use super::record::{Kept, Point, Record, answered_at};
use super::{Options, Selection};

/// Walks that may wait for the writer.
const RECORDS_MAX: usize = 4_096;
/// Bytes of frames that may wait for the writer.
const BYTES_MAX: usize = 64 << 20;

/// A walk as a session sees it.
pub struct Observed<'a> {
    /// When it happened, CLOCK_MONOTONIC.
    pub now: Instant,
    /// What was recorded.
    pub trace: &'a Trace,
    /// The whole frame as it came in.
    pub received: Bytes<'a>,
    /// Its offload description.
    pub offload: Offload,
    /// Whether it came in now: a fragment that was held was seen when it did.
    pub came: bool,
    /// Bytes of it that are known: a replay knows the header window of most.
    pub known: usize,
    /// What left: egress port and the frame as it left, answers included.
    pub sent: &'a [(PortId, &'a Frame)],
}

/// The event loop's end of a capture.
#[derive(Debug)]
pub struct Session {
    options: Options,
    /// Nanoseconds from CLOCK_MONOTONIC to UTC.
    utc_offset: i64,
    ring: rtrb::Producer<Record>,
    shared: Arc<Shared>,
    /// Walks still wanted.
    left: u64,
}

/// The writer's end of the ring.
#[derive(Debug)]
pub struct Receiver {
    ring: rtrb::Consumer<Record>,
    shared: Arc<Shared>,
}

/// Ends a capture as if it had had enough: its file gets its end.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// Ends the capture.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
        self.0.wake.notify_one();
    }
}

/// What both ends see.
#[derive(Debug, Default)]
struct Shared {
    /// Bytes in the ring.
    waiting: AtomicUsize,
    /// Set by the writer: no more is wanted.
    stopped: AtomicBool,
    /// Rung when the ring fills; otherwise the writer looks by itself now and then.
    wake: Notify,
    /// Walks lost, each counted once at the first point that would have shown it.
    lost: Mutex<BTreeMap<Point, u64>>,
}

/// Both ends of a capture. `utc_offset` is in nanoseconds from CLOCK_MONOTONIC to UTC.
#[must_use]
pub fn open(options: Options, utc_offset: i64) -> (Session, Receiver) {
    let (producer, consumer) = rtrb::RingBuffer::new(RECORDS_MAX);
    let shared = Arc::new(Shared::default());
    let left = options.count.unwrap_or(u64::MAX);
    let session = Session { options, utc_offset, ring: producer, shared: shared.clone(), left };
    (session, Receiver { ring: consumer, shared })
}

impl Session {
    /// Shows it a walk. False when the reader is gone or has enough: the loop then lets go of the
    /// session.
    pub fn observe(&mut self, walk: &Observed<'_>) -> bool {
        if self.left == 0 || self.ring.is_abandoned() || self.shared.is_stopped() {
            return false;
        }
        if !self.in_scope(walk) {
            return true;
        }
        let replied = matches!(walk.trace.verdict, Verdict::Answer(_));
        let is_answer = |port: PortId| replied && port == walk.trace.ingress;
        let answer = walk.sent.iter().find(|(port, _)| is_answer(*port)).map(|(_, frame)| *frame);
        let filter = self.options.filter.as_ref();
        let wanted = filter.is_none_or(|filter| any_form(filter, walk));
        let answer = answer.filter(|frame| {
            filter.is_none_or(|filter| filter.accepts(Bytes::whole(frame.bytes())))
        });
        if !wanted && answer.is_none() {
            return true;
        }
        if self.ring.is_full() || self.shared.waiting.load(Ordering::Relaxed) > BYTES_MAX {
            self.shared.lose(first_point(&self.options.points, walk.trace));
            self.shared.wake.notify_one();
            return true;
        }
        let most = match self.options.snaplen {
            0 => usize::MAX,
            snaplen => usize::try_from(snaplen).unwrap_or(usize::MAX),
        };
        let known = most.min(walk.known);
        // An answer is made of the window, but for an echo: that is the request, edited.
        let is_echo = walk.trace.verdict == Verdict::Answer(AnswerKind::Echo);
        let most = if is_echo { known } else { most };
        let sent = walk.sent.iter().map(|(port, _)| *port);
        self.push(Record {
            time: walk.now.0.saturating_add_signed(self.utc_offset),
            trace: walk.trace.clone(),
            received: Kept::copy(walk.received, known, walk.offload),
            wanted,
            came: walk.came,
            egress: sent.filter(|port| !is_answer(*port)).collect(),
            answer: answer
                .map(|frame| Kept::copy(Bytes::whole(frame.bytes()), most, *frame.offload())),
        });
        self.left -= 1;
        self.left > 0
    }

    /// From now on only walks that enter or leave by one of these ports: a replay learns only on
    /// its way which ports have a name.
    pub fn look_at(&mut self, ports: Vec<PortId>) {
        self.options.scope = Some(ports);
    }

    fn in_scope(&self, walk: &Observed<'_>) -> bool {
        if self.options.dropped_only && !matches!(walk.trace.verdict, Verdict::Drop(_)) {
            return false;
        }
        let Some(ports) = &self.options.scope else { return true };
        let is_there = |port: PortId| ports.contains(&port);
        is_there(walk.trace.ingress) || walk.sent.iter().any(|(egress, _)| is_there(*egress))
    }

    fn push(&mut self, record: Record) {
        let weight = record.weight();
        let waiting = self.shared.waiting.fetch_add(weight, Ordering::Relaxed) + weight;
        // There was room a moment ago and only this end fills it.
        let pushed = self.ring.push(record).is_ok();
        debug_assert!(pushed, "the ring had room");
        // Waking a thread costs more than the rest of this: only when the writer falls behind.
        if waiting > BYTES_MAX / 4 || self.ring.slots() < RECORDS_MAX / 4 * 3 {
            self.shared.wake.notify_one();
        }
    }
}

/// Whether the packet matches as it came in or as it stood after any hop, up to where it was
/// answered.
fn any_form(filter: &Program, walk: &Observed<'_>) -> bool {
    if filter.accepts(walk.received) {
        return true;
    }
    let own = answered_at(walk.trace);
    let mut rendered = [0_u8; Frame::WINDOW];
    let Bytes { head: received, tail } = walk.received;
    let Some(head) = rendered.get_mut(..received.len()) else { return false };
    let mut last = None;
    for (hop, _) in walk.trace.edits() {
        let hop = usize::from(*hop);
        if hop >= own || last == Some(hop) {
            continue;
        }
        last = Some(hop);
        head.copy_from_slice(received);
        walk.trace.render(head, hop);
        if filter.accepts(Bytes { head, tail }) {
            return true;
        }
    }
    false
}

/// The first point at which the capture would have shown a walk.
fn first_point(points: &Selection, trace: &Trace) -> Point {
    match points {
        Selection::Ports => Point::Port(trace.ingress),
        Selection::Stages(stages) => {
            let mut shown = trace.hops().iter().map(|hop| hop.stage());
            let first = shown.find(|stage| stages.contains(stage));
            Point::Stage(
                first.unwrap_or_else(|| stages.first().copied().unwrap_or(stack::Stage::Parse)),
            )
        }
    }
}

impl Receiver {
    /// The next record, if there is one.
    pub fn pop(&mut self) -> Option<Record> {
        let record = self.ring.pop().ok()?;
        self.shared.waiting.fetch_sub(record.weight(), Ordering::Relaxed);
        Some(record)
    }

    /// Whether the session has ended or was stopped; what it pushed before may still be in the
    /// ring.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ring.is_abandoned() || self.shared.is_stopped()
    }

    /// Tells the session that no more is wanted.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }

    /// Something that stops the session from elsewhere.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.shared.clone())
    }

    /// Returns when the ring fills or the capture was stopped.
    pub fn woken(&self) -> impl Future<Output = ()> + Send + use<> {
        let shared = self.shared.clone();
        async move { shared.wake.notified().await }
    }

    /// Walks lost so far, each counted once at the first point that would have shown it.
    #[must_use]
    pub fn lost(&self) -> BTreeMap<Point, u64> {
        self.shared.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The lock is taken for losses only, and the other side holds it for a copy of a few numbers.
    fn lose(&self, point: Point) {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner).entry(point).or_default() += 1;
    }
}

#[cfg(test)]
mod tests;

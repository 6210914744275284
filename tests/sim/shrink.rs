//! From a journal that ends in a failure to the few inputs that cause it: ranges of inputs are left
//! out for as long as the same law fails (Zeller and Hildebrandt, 2002: ddmin without complements).

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use stack::input::{Frame, Outbox, PortId};
use stack::journal::frame::{Door, Recorded};
use stack::journal::{self, BODY_MAX, Head, Kind, records};
use stack::{Change, Instant};
use vswitchd::port::offload::checksum;

use crate::node::{Doom, Fate, Node};
use crate::options::Options;

/// Replays at most: shrinking is for reading, and seconds are enough.
const REPLAYS_MAX: usize = 3_000;

/// An input. What endpoints get and ticks before changes follow from the others.
#[derive(Debug)]
pub(crate) enum Item {
    Frame(PortId, Frame),
    Change(Change),
    /// The worker died.
    Crash,
}

/// The inputs of a node.
pub(crate) struct Case {
    pub(crate) number: u8,
    pub(crate) options: Options,
    pub(crate) items: Vec<(Instant, Item)>,
}

/// A law that failed: where it stands, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) place: String,
    pub(crate) message: String,
}

impl Case {
    /// The inputs of a journal that holds whole frames, except those that were skipped.
    pub(crate) fn read(number: u8, options: Options, bytes: &[u8]) -> Self {
        let mut items = Vec::new();
        let mut pieces = Vec::new();
        for record in records(bytes).map(Result::unwrap) {
            let head = Head::read(record).unwrap();
            if head.skipped {
                pieces.clear();
                continue;
            }
            let item = match head.kind {
                Kind::Frame => {
                    let recorded = Recorded::read(record, &head).unwrap();
                    let mut frame = Frame::with_capacity(BODY_MAX);
                    assert!(recorded.fill(&mut frame), "a frame of the journal fits");
                    let Door::Port(port) = recorded.door else { continue };
                    Item::Frame(port, frame.duplicate())
                }
                Kind::Change => {
                    pieces.extend(journal::body(record, &head));
                    if head.flags & journal::FLAG_MORE != 0 {
                        continue;
                    }
                    Item::Change(journal::change(&std::mem::take(&mut pieces)).unwrap())
                }
                Kind::Resume => Item::Crash,
                Kind::Begin
                | Kind::Deliver
                | Kind::Tick
                | Kind::Digest
                | Kind::Skip
                | Kind::Clock
                | Kind::Mark
                | Kind::State
                | Kind::Label
                | Kind::Import => continue,
            };
            items.push((head.time, item));
        }
        Self { number, options: Options { payload: true, ..options }, items }
    }

    /// The node to which this happened, all its laws kept; `reached` is the item that is in work.
    fn play(&self, kept: &[usize], reached: &mut usize) -> Node {
        let mut node = Node::empty(self.number, self.options, 1);
        let (mut out, mut now) = (Outbox::default(), Instant::ZERO);
        for (place, index) in kept.iter().enumerate() {
            *reached = place;
            let (time, item) = &self.items[*index];
            now = *time;
            out.clear();
            match item {
                Item::Frame(port, frame) => put(&mut node, now, *port, frame.duplicate(), &mut out),
                Item::Change(change) => _ = node.change(now, change, None, &mut out),
                Item::Crash => die(&mut node, now),
            }
        }
        // Whatever it is, the next worker comes to it as well.
        die(&mut node, now);
        node
    }

    /// The journal that is left of it, or what there is when it fails.
    pub(crate) fn journal(&self) -> Vec<u8> {
        let all: Vec<usize> = (0..self.items.len()).collect();
        if let Ok(node) = quietly(|| self.play(&all, &mut 0)) {
            return node.journal();
        }
        // The last input is the one that fails: it is in the journal, as the daemon would have it,
        // and nothing came of it.
        let Some((last, before)) = all.split_last() else { return Vec::new() };
        let Ok(mut node) = quietly(|| self.play(before, &mut 0)) else { return Vec::new() };
        match &self.items[*last] {
            (now, Item::Frame(port, frame)) => node.record_frame(*now, *port, frame),
            (now, Item::Change(change)) => node.record_change(*now, change),
            (_, Item::Crash) => {}
        }
        node.journal()
    }

    /// The fault of those items, if they have one.
    fn fault(&self, kept: &[usize]) -> (Option<Fault>, usize) {
        let mut reached = 0;
        let fault = quietly(|| self.play(kept, &mut reached)).err();
        (fault, reached)
    }

    /// The few items that are enough for this fault; `None` when the items do not lead to it.
    pub(crate) fn shrink(mut self, fault: &Fault) -> Option<Self> {
        let all: Vec<usize> = (0..self.items.len()).collect();
        let (found, reached) = self.fault(&all);
        if found.is_none_or(|found| found.place != fault.place) {
            return None;
        }
        let mut replays = 0;
        let kept = less(all[..=reached].to_vec(), |kept| {
            replays += 1;
            replays <= REPLAYS_MAX
                && self.fault(kept).0.is_some_and(|found| found.place == fault.place)
        });
        self.keep(&kept);
        Some(self)
    }

    fn keep(&mut self, kept: &[usize]) {
        let mut index = 0;
        self.items.retain(|_| {
            index += 1;
            kept.contains(&(index - 1))
        });
    }

    /// Whether it still has this fault when one of its items is left out.
    pub(crate) fn fails_without(&self, left_out: usize, fault: &Fault) -> bool {
        let kept: Vec<usize> = (0..self.items.len()).filter(|index| *index != left_out).collect();
        self.fault(&kept).0.is_some_and(|found| found.place == fault.place)
    }
}

fn put(node: &mut Node, now: Instant, port: PortId, frame: Frame, out: &mut Outbox) {
    assert_eq!(node.frame(now, port, frame, out), Fate::Done);
    for (endpoint, mut frame) in std::mem::take(&mut out.deliveries) {
        checksum::complete(&mut frame);
        out.clear();
        node.deliver(now, endpoint, frame, out);
    }
}

fn die(node: &mut Node, now: Instant) {
    node.doom(Doom::Between);
    node.recover(now, 7);
}

/// Leaves out ranges, halving their length down to one, for as long as what is left `fails`.
fn less(mut kept: Vec<usize>, mut fails: impl FnMut(&[usize]) -> bool) -> Vec<usize> {
    let mut range = kept.len();
    loop {
        let before = kept.len();
        let mut at = 0;
        while at < kept.len() {
            let end = kept.len().min(at + range);
            let rest = [&kept[..at], &kept[end..]].concat();
            if fails(&rest) {
                kept = rest;
            } else {
                at = end;
            }
        }
        if range > 1 {
            range = range.div_ceil(2);
        } else if kept.len() == before {
            return kept;
        }
    }
}

thread_local! {
    /// Set while this thread's panics are caught to be looked at: the newest one.
    static CAUGHT: RefCell<Option<Option<Fault>>> = const { RefCell::new(None) };
}

/// Runs something whose failure is a fault to be looked at, and nothing to be printed.
pub(crate) fn quietly<T>(run: impl FnOnce() -> T) -> Result<T, Fault> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map_or_else(String::new, ToString::to_string);
            let message = info.payload_as_str().unwrap_or("").lines().next().unwrap_or("");
            let fault = Fault { place, message: message.to_owned() };
            let quiet = CAUGHT.with_borrow_mut(|caught| {
                caught.as_mut().map(|caught| *caught = Some(fault)).is_some()
            });
            if !quiet {
                usual(info);
            }
        }));
    });
    CAUGHT.set(Some(None));
    let result = catch_unwind(AssertUnwindSafe(run));
    let fault = CAUGHT.take().flatten();
    result.map_err(|_panic| fault.expect("a panic tells its place"))
}

#[test]
fn ranges_are_left_out_down_to_what_is_needed() {
    let all: Vec<usize> = (0..1_000).collect();
    let mut tries = 0;
    let kept = less(all, |kept| {
        tries += 1;
        [17, 400, 401, 999].iter().all(|needed| kept.contains(needed))
    });
    assert_eq!(kept, [17, 400, 401, 999]);
    assert!(tries < 200, "{tries} tries");
}

#[test]
fn a_fault_is_known_by_its_place() {
    let fails = |n: u8| quietly(|| assert_eq!(n, 1, "never")).unwrap_err();
    assert_eq!(fails(2).place, fails(3).place);
    assert!(fails(2).message.contains("never"), "{:?}", fails(2));
    assert_eq!(quietly(|| 5), Ok(5));
}

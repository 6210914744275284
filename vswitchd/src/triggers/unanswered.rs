//! Requests that wait for their answer: a table of fixed size.
//!
//! Buckets of eight, chosen by a keyed hash of the flow, so nobody can aim at one. A full bucket
//! gives up a request that came in by the same port as the new one, the oldest first: a pod that
//! floods requests pushes out its own. Only where it has none in that bucket does the oldest of the
//! others go. What was given up is counted.

use smoltcp::wire::IpAddress;
use stack::hash::Hasher;
use stack::{Duration, Instant, PortId};

use super::grammar::Transport;

/// Buckets.
const BUCKETS: usize = 128;
/// Requests of a bucket.
const SLOTS: usize = 8;

/// One direction of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Its protocol.
    pub transport: Transport,
    /// Source address and L4 port.
    pub src: (IpAddress, u16),
    /// Destination address and L4 port.
    pub dst: (IpAddress, u16),
}

impl Flow {
    /// The other direction.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { transport: self.transport, src: self.dst, dst: self.src }
    }
}

/// A request that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks whom.
    pub flow: Flow,
    /// The rule that wants to know.
    pub rule: usize,
    /// The walk of its frame.
    pub walk: u64,
    /// Where it came in.
    pub ingress: PortId,
    /// When.
    pub asked: Instant,
    /// How long it may wait.
    pub within: Duration,
}

impl Request {
    fn due(&self) -> Instant {
        self.asked + self.within
    }
}

/// The table.
#[derive(Debug)]
pub struct Unanswered {
    key: u64,
    buckets: Box<[[Option<Request>; SLOTS]]>,
    /// Requests in it.
    count: usize,
    /// No request is due before that.
    next: Option<Instant>,
    /// Those that fell due at once, given out one by one.
    expired: Vec<Request>,
}

impl Unanswered {
    /// An empty table, all of its memory allocated. `key` decides who shares a bucket.
    #[must_use]
    pub fn new(key: u64) -> Self {
        let buckets = vec![[None; SLOTS]; BUCKETS].into_boxed_slice();
        let expired = Vec::with_capacity(BUCKETS * SLOTS);
        Self { key, buckets, count: 0, next: None, expired }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes a request in, unless the same is there already: one that is sent again waits no
    /// longer. Gives back the one that was given up for it.
    pub fn ask(&mut self, request: Request) -> Option<Request> {
        let due = request.due();
        let bucket = self.bucket(request.flow)?;
        let same = |other: &Request| other.flow == request.flow && other.rule == request.rule;
        if bucket.iter().flatten().any(same) {
            return None;
        }
        let slot = match bucket.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                let age = |(_, other): &(usize, &Request)| {
                    (other.ingress != request.ingress, other.asked)
                };
                let there = bucket.iter().enumerate();
                let oldest = there.filter_map(|(at, other)| Some((at, other.as_ref()?)));
                oldest.min_by_key(age).map_or(0, |(at, _)| at)
            }
        };
        let given_up = bucket.get_mut(slot).and_then(|place| place.replace(request));
        self.count += usize::from(given_up.is_none());
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
        given_up
    }

    /// Takes a request of that flow out, of a rule that `is_meant`; again until there is none.
    pub fn answered(&mut self, flow: Flow, is_meant: impl Fn(usize) -> bool) -> Option<Request> {
        if self.count == 0 {
            return None;
        }
        let is_it = |slot: &&mut Option<Request>| {
            slot.is_some_and(|other| other.flow == flow && is_meant(other.rule))
        };
        let found = self.bucket(flow)?.iter_mut().find(is_it)?.take();
        self.count -= usize::from(found.is_some());
        found
    }

    /// When to look again; too early perhaps, never too late.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.next
    }

    /// Takes a request out that has waited for its time by now; again until there is none.
    pub fn expired(&mut self, now: Instant) -> Option<Request> {
        if self.expired.is_empty() && self.next.is_some_and(|next| next <= now) {
            self.sweep(now);
        }
        self.expired.pop()
    }

    fn sweep(&mut self, now: Instant) {
        self.next = None;
        for slot in self.buckets.iter_mut().flatten() {
            match slot {
                Some(request) if request.due() <= now => {
                    self.expired.push(*request);
                    self.count -= 1;
                    *slot = None;
                }
                Some(request) => {
                    let due = request.due();
                    self.next = Some(self.next.map_or(due, |next| next.min(due)));
                }
                None => {}
            }
        }
        // Given out from the end: the oldest first.
        self.expired.sort_unstable_by_key(|request| std::cmp::Reverse(request.asked));
    }

    fn bucket(&mut self, flow: Flow) -> Option<&mut [Option<Request>; SLOTS]> {
        let mut hasher = Hasher::new(self.key);
        for (address, l4_port) in [flow.src, flow.dst] {
            match address {
                IpAddress::Ipv4(v4) => hasher.number(u64::from(u32::from(v4))),
                IpAddress::Ipv6(v6) => hasher.bytes(&v6.octets()),
            }
            hasher.number(u64::from(l4_port));
        }
        hasher.number(flow.transport as u64);
        let place = hasher.finish() % BUCKETS as u64;
        self.buckets.get_mut(usize::try_from(place).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flow(n: u32) -> Flow {
        let [a, b, c, d] = n.to_be_bytes();
        let src = (IpAddress::v4(10, b, c, d), u16::from(a) + 1_024);
        Flow { transport: Transport::Udp, src, dst: (IpAddress::v4(10, 0, 0, 1), 53) }
    }

    fn request(n: u32, ingress: u32, asked: u64) -> Request {
        Request {
            flow: flow(n),
            rule: 0,
            walk: 0,
            ingress: PortId(ingress),
            asked: Instant(asked),
            within: Duration(100),
        }
    }

    fn answered(table: &mut Unanswered, flow: Flow) -> Option<Request> {
        table.answered(flow, |_any| true)
    }

    #[test]
    fn an_answer_takes_all_of_its_flow_and_no_other() {
        let mut table = Unanswered::new(1);
        assert_eq!(table.ask(request(1, 2, 10)), None);
        assert_eq!(table.ask(Request { rule: 1, ..request(1, 2, 10) }), None);
        assert_eq!(table.ask(request(2, 2, 10)), None);
        assert_eq!(answered(&mut table, flow(1).reversed()), None);
        assert_eq!(table.answered(flow(1), |rule| rule == 7), None);
        let rules = [answered(&mut table, flow(1)), answered(&mut table, flow(1))];
        assert_eq!(rules.map(|request| request.unwrap().rule), [0, 1]);
        assert_eq!((answered(&mut table, flow(1)), table.count), (None, 1));
        assert_eq!(table.expired(Instant(109)), None);
        assert_eq!(table.expired(Instant(110)), Some(request(2, 2, 10)));
        assert_eq!((table.expired(Instant(999)), table.is_empty()), (None, true));
    }

    #[test]
    fn one_that_is_sent_again_waits_no_longer() {
        let mut table = Unanswered::new(1);
        table.ask(request(1, 2, 10));
        table.ask(request(1, 2, 90));
        assert_eq!(table.due(), Some(Instant(110)));
        assert_eq!(table.expired(Instant(110)).unwrap().asked, Instant(10));
        assert_eq!(table.due(), None);
    }

    #[test]
    fn a_flood_pushes_out_its_own() {
        let mut table = Unanswered::new(7);
        let quiet = 200;
        for n in 0..quiet {
            assert_eq!(table.ask(request(n, 2, 10)), None, "room for {n}");
        }
        for n in 0..100_000 {
            table.ask(request(1_000 + n, 3, 11 + u64::from(n)));
        }
        assert_eq!(table.count, BUCKETS * SLOTS);
        let there = (0..quiet).filter(|n| answered(&mut table, flow(*n)).is_some()).count();
        assert_eq!(there, quiet as usize);
    }

    /// A step of a table and of a list without a bound beside it. `n` is who asks, and how much
    /// time passes before.
    fn step(
        (table, list): (&mut Unanswered, &mut Vec<Request>),
        now: u64,
        (step, n): (u8, u32),
    ) -> Result<(), TestCaseError> {
        match step {
            0 => {
                let new = request(n, n % 5, now);
                if let Some(given_up) = table.ask(new) {
                    list.retain(|other| *other != given_up);
                }
                if !list.iter().any(|other| other.flow == new.flow) {
                    list.push(new);
                }
            }
            1 => {
                let found = list.iter().position(|other| other.flow == flow(n));
                let found = found.map(|at| list.remove(at));
                prop_assert_eq!(answered(table, flow(n)), found);
            }
            _ => {
                let now = Instant(now);
                let mut due: Vec<Request> = list.extract_if(.., |one| one.due() <= now).collect();
                let mut found: Vec<Request> = std::iter::from_fn(|| table.expired(now)).collect();
                due.sort_by_key(|one| (one.asked, one.flow.src.0));
                found.sort_by_key(|one| (one.asked, one.flow.src.0));
                prop_assert_eq!(found, due);
            }
        }
        Ok(())
    }

    proptest! {
        /// Nothing is held that was not asked, nothing is given out early or twice, `due` is never
        /// too late, and what is missing was given up.
        #[test]
        fn it_is_a_bounded_list(
            steps in proptest::collection::vec((0..3_u8, 0..2_000_u32), 0..4_000),
        ) {
            let (mut table, mut list) = (Unanswered::new(3), Vec::new());
            let mut now = 0;
            for (kind, n) in steps {
                now += u64::from(n % 7);
                step((&mut table, &mut list), now, (kind, n))?;
                prop_assert_eq!(table.count, list.len());
                prop_assert!(table.count <= BUCKETS * SLOTS);
                let earliest = list.iter().map(Request::due).min();
                let in_time = |earliest| table.due().is_some_and(|due| due <= earliest);
                prop_assert!(earliest.is_none_or(in_time));
            }
        }
    }
}

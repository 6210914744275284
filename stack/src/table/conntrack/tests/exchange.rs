//! Two hosts that behave, with all that networks do to their segments: nothing is ever invalid.
#![expect(clippy::disallowed_types, reason = "prop_oneof! shares its arms by Arc; no switch here")]

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// One host, as far as TCP shows it on the wire.
#[derive(Clone, Copy, Debug)]
struct Host {
    side: Side,
    /// The scale in force for what it announces.
    scale: u8,
    /// Bytes it can take behind what it has.
    room: u32,
    /// Oldest number not acknowledged, next to send, and the right edge it was given.
    oldest: u32,
    next: u32,
    edge: u32,
    /// Next expected, and the one block behind a hole.
    expected: u32,
    block: Option<(u32, u32)>,
    /// The right edge it has announced: it never takes it back.
    announced: u32,
    /// The number of its FIN.
    fin: Option<u32>,
    /// Whether it has the other's FIN.
    heard_fin: bool,
}

/// What happens to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Arrives,
    LostBefore,
    LostBehind,
}

/// What a host does next, and what becomes of it.
#[derive(Clone, Copy, Debug)]
struct Act {
    originator: bool,
    kind: u8,
    amount: u32,
    fate: Fate,
}

impl Host {
    fn new(side: Side, first: u32, scale: u8, room: u32) -> Self {
        let next = first.wrapping_add(1);
        Self {
            side,
            scale,
            room,
            oldest: next,
            next,
            edge: next,
            expected: 0,
            block: None,
            announced: 0,
            fin: None,
            heard_fin: false,
        }
    }

    /// Its window field now; the announced edge moves only to the right.
    fn window(&mut self, room: u32) -> u16 {
        let wanted = self.expected.wrapping_add(room.min(self.room));
        let edge = if before(self.announced, wanted) { wanted } else { self.announced };
        // Rounded up where rounding down would take an edge back (RFC 7323 section 2.4).
        let mut field = (edge.wrapping_sub(self.expected) >> self.scale).min(65_535);
        if before(self.expected.wrapping_add(field << self.scale), self.announced) {
            field = (field + 1).min(65_535);
        }
        let told = self.expected.wrapping_add(field << self.scale);
        if before(self.announced, told) {
            self.announced = told;
        }
        u16::try_from(field).unwrap()
    }

    fn segment(&mut self, seq: u32, len: u32, fin: bool, room: u32) -> Segment {
        let window = self.window(room);
        Segment::Tcp {
            seq,
            ack: self.expected,
            window,
            flags: if fin { FIN | ACK } else { ACK },
            len,
            scale: None,
            sack_permitted: false,
            sacked: self.block.map(|(_, right)| right),
        }
    }

    /// What it says; `None` when it has nothing to say.
    fn act(&mut self, act: Act) -> Option<Segment> {
        let sendable = self.edge.wrapping_sub(self.next);
        let open = before(self.next, self.edge) && self.fin.is_none();
        match act.kind {
            // New data, up to a super-frame.
            0..=3 if open => {
                let len = sendable.min(1 + act.amount % 65_000);
                let seq = self.next;
                self.next = seq.wrapping_add(len);
                Some(self.segment(seq, len, false, act.amount))
            }
            // Something unacknowledged once more.
            4..=6 if before(self.oldest, self.next) => {
                let seq = self.oldest;
                let last = self.fin.unwrap_or(self.next);
                let len = last.wrapping_sub(seq).min(1 + act.amount % 5_000);
                let fin = self.fin.is_some_and(|fin| seq.wrapping_add(len) == fin);
                Some(self.segment(seq, len, fin, act.amount))
            }
            // A keep-alive, with a byte or without.
            7 if self.oldest == self.next => {
                let seq = self.next.wrapping_sub(1);
                Some(self.segment(seq, act.amount % 2, false, act.amount))
            }
            // A probe of a closed window, by one byte.
            8 if self.next == self.edge && self.fin.is_none() => {
                let seq = self.next;
                Some(self.segment(seq, 1, false, act.amount))
            }
            9 if open => {
                let seq = self.next;
                self.fin = Some(seq);
                self.next = seq.wrapping_add(1);
                Some(self.segment(seq, 0, true, act.amount))
            }
            _ => {
                let seq = self.next;
                Some(self.segment(seq, 0, false, act.amount))
            }
        }
    }

    fn hear(&mut self, segment: &Segment, scale: u8) {
        let Segment::Tcp { seq, ack, window, flags, len, .. } = *segment else { unreachable!() };
        // An acknowledgment of a probe's byte moves the number on.
        if before(self.oldest, ack) {
            self.oldest = ack;
        }
        if before(self.next, ack) {
            self.next = ack;
        }
        let edge = ack.wrapping_add(u32::from(window) << scale);
        if before(self.edge, edge) {
            self.edge = edge;
        }
        let fin = flags & FIN != 0;
        let mut end = seq.wrapping_add(len);
        // It takes what it has announced and no more.
        let cut = before(self.announced, end);
        if cut {
            end = self.announced;
        }
        if before(self.expected, seq) {
            if before(seq, end) {
                self.block = Some((seq, end));
            }
            return;
        }
        if before(self.expected, end) {
            self.expected = end;
        }
        if let Some((left, right)) = self.block
            && !before(self.expected, left)
        {
            self.block = None;
            if before(self.expected, right) {
                self.expected = right;
            }
        }
        if fin && !cut && self.expected == end && !self.heard_fin {
            self.heard_fin = true;
            self.expected = end.wrapping_add(1);
        }
    }
}

fn before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) >> 31 == 1
}

/// Both hosts and what the switch thinks of them.
struct World {
    hosts: [Host; 2],
    talk: Talk,
    /// The switch has forgotten the connection.
    forgotten: bool,
    /// It took it up again by a segment of the responder, which it takes for the originator.
    swapped: bool,
}

impl World {
    fn new(first: [u32; 2], offers: [Option<u8>; 2], room: [u32; 2]) -> Self {
        let scaled = offers.iter().all(Option::is_some);
        let scale = offers.map(|offer| if scaled { offer.unwrap_or(0) } else { 0 });
        let mut o = Host::new(O, first[0], scale[0], room[0]);
        let mut r = Host::new(R, first[1], scale[1], room[1]);
        (o.expected, r.expected) = (r.next, o.next);
        let syn = |host: &mut Host, flags, ack, offer: Option<u8>| {
            // A SYN's window is never scaled.
            let field = host.room.min(65_535);
            host.announced = host.expected.wrapping_add(field);
            Segment::Tcp {
                seq: host.next.wrapping_sub(1),
                ack,
                window: u16::try_from(field).unwrap(),
                flags,
                len: 0,
                scale: offer,
                sack_permitted: true,
                sacked: None,
            }
        };
        let open = syn(&mut o, SYN, 0, offers[0]);
        let ack = r.expected;
        let answer = syn(&mut r, SYN | ACK, ack, offers[1]);
        let mut talk = Talk::begin(&open);
        talk.say(R, &answer, State::SynReceived);
        r.edge = r.next.wrapping_add(o.announced.wrapping_sub(o.expected));
        o.edge = o.next.wrapping_add(r.announced.wrapping_sub(r.expected));
        let last = o.segment(o.next, 0, false, u32::MAX);
        talk.say(O, &last, State::Established);
        r.hear(&last, o.scale);
        Self { hosts: [o, r], talk, forgotten: false, swapped: false }
    }

    fn act(&mut self, act: Act) -> Result<(), TestCaseError> {
        let [o, r] = &mut self.hosts;
        let (host, other) = if act.originator { (o, r) } else { (r, o) };
        let before = *host;
        let Some(segment) = host.act(act) else { return Ok(()) };
        if act.fate == Fate::LostBefore {
            return Ok(());
        }
        if self.forgotten {
            let taken_up = begin(&segment, TCP, NOW, &Timeouts::default());
            if let Some(track) = taken_up {
                self.talk.track = track;
                (self.forgotten, self.swapped) = (false, host.side == R);
            }
        } else {
            let side = if self.swapped { host.side.other() } else { host.side };
            match self.talk.judge(side, &segment) {
                Advance::Keep(track) => self.talk.track = track,
                // Such as a keep-alive before a window that never was open.
                Advance::Ignored => {}
                other @ (Advance::Invalid | Advance::Reopen) => {
                    let talk = &self.talk;
                    prop_assert!(false, "{act:?} {segment:?}: {other:?}\n{before:?}\n{talk:?}");
                }
            }
        }
        if act.fate == Fate::Arrives {
            other.hear(&segment, host.scale);
        }
        Ok(())
    }

    /// Both have room, close, and say it until it is heard.
    fn close(&mut self) -> Result<(), TestCaseError> {
        for host in &mut self.hosts {
            host.room = 1 << 20;
        }
        for round in 0..100 {
            for originator in [true, false] {
                let [o, r] = self.hosts;
                let host = if originator { o } else { r };
                let kind = if host.fin.is_none() {
                    9
                } else if host.oldest == host.next {
                    10
                } else {
                    4
                };
                let amount = if round == 0 { 0 } else { 1 << 20 };
                self.act(Act { originator, kind, amount, fate: Fate::Arrives })?;
            }
        }
        Ok(())
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![6 => Just(Fate::Arrives), 1 => Just(Fate::LostBefore), 1 => Just(Fate::LostBehind)]
}

fn acts(fate: impl Strategy<Value = Fate>) -> impl Strategy<Value = Vec<Act>> {
    // A FIN is rare, or nothing else would be tried.
    let kind = prop_oneof![40 => 0_u8..9, 1 => Just(9), 8 => Just(10)];
    let act = (any::<bool>(), kind, prop_oneof![0_u32..3_000, any::<u32>()], fate)
        .prop_map(|(originator, kind, amount, fate)| Act { originator, kind, amount, fate });
    prop::collection::vec(act, 0..120)
}

fn firsts() -> impl Strategy<Value = [u32; 2]> {
    let first = || prop_oneof![any::<u32>(), (u32::MAX - 100_000)..=u32::MAX];
    [first(), first()]
}

fn offers() -> impl Strategy<Value = [Option<u8>; 2]> {
    let offer = || prop_oneof![3 => (0_u8..=14).prop_map(Some), 1 => Just(None)];
    [offer(), offer()]
}

fn rooms() -> impl Strategy<Value = [u32; 2]> {
    let room = || prop_oneof![0_u32..3_000, 1_000_u32..70_000, 0_u32..4_000_000];
    [room(), room()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_segment_of_hosts_that_behave_is_invalid(
        firsts in firsts(), offers in offers(), rooms in rooms(), acts in acts(fate()),
    ) {
        let mut world = World::new(firsts, offers, rooms);
        for act in acts {
            world.act(act)?;
        }
    }

    #[test]
    fn nor_when_the_connection_is_taken_up_amid_the_stream(
        firsts in firsts(), offers in offers(), rooms in rooms(), acts in acts(fate()),
        more in acts(fate()),
    ) {
        let mut world = World::new(firsts, offers, rooms);
        for act in acts {
            world.act(act)?;
        }
        world.forgotten = true;
        for act in more {
            world.act(act)?;
        }
    }

    #[test]
    fn they_open_speak_and_close(
        firsts in firsts(), offers in offers(), rooms in rooms(), acts in acts(Just(Fate::Arrives)),
    ) {
        let mut world = World::new(firsts, offers, rooms);
        for act in acts {
            world.act(act)?;
        }
        world.close()?;
        prop_assert!(world.hosts.iter().all(|host| host.heard_fin && host.oldest == host.next));
        prop_assert_eq!(world.talk.track.state, State::TimeWait);
        prop_assert_eq!(world.talk.track.end, world.hosts.map(|host| host.next));
    }
}

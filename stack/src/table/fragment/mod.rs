//! Datagrams in fragments: what became of the first fragment, for those that follow; and those that
//! came before it.
//!
//! Only the first fragment has ports, so the others go where it went (virtual reassembly, RFC 4787
//! requirement 14). Until it has come the others are held, whole: they are the only frames that the
//! switch ever holds.
//!
//! Limits: datagrams and bytes held, in all and of one port; fragments held and gaps of one
//! datagram. Attacks: first fragments that nothing follows, and later ones that nothing precedes.
//! Whoever sends them meets its own port's limit first, and what goes for a new datagram is one of
//! its own, the one that expires first of those looked at ([`Datagrams::victim`]); where none of
//! these is its own, the new one is refused. When the table is full in all, of as many ports as
//! that takes, it is anybody's by the same rule. Frames are never dropped for others to be held:
//! where there is no room the new one is dropped.
//!
//! A datagram is forgotten when all of it has been seen, else [`Limits::fragment_timeout`] after
//! its begin, whatever comes meanwhile.
//!
//! [`Limits::fragment_timeout`]: crate::config::Limits::fragment_timeout

use alloc::vec::Vec;

use smoltcp::wire::{EthernetAddress, IpAddress};

use super::conntrack::Tuple;
use super::map::Map;
use super::slab::Slab;
use super::sweep::Sweep;
use crate::config::Limits;
use crate::drop::DropReason;
use crate::hash;
use crate::input::{Checksum, Frame, Offload, PortId};
use crate::pipeline::packet::Part;
use crate::time::Instant;

mod commit;
mod spans;
#[cfg(test)]
mod tests;
mod words;

pub use spans::Fit;
pub(in crate::table) use spans::Spans;

/// Fragments held of one datagram: the largest has 53 at the least MTU of IPv6 (1,280).
const PARTS_MAX: usize = 64;
/// Bytes that a fragment counts at least. What is held is let go at once, when it expires or its
/// first comes, and a short frame's walk takes as long as another's: without it 70,000 could wait
/// for one moment.
const HELD_BYTES_MIN: usize = 512;
/// Slots looked at for one that may go.
const VICTIMS: usize = 64;

/// What tells a datagram from all others of its time.
///
/// The port and the MAC are in it as well: nobody's fragments are taken for another's, and those of
/// one datagram take one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatagramKey {
    /// The ingress port.
    pub port: PortId,
    /// The destination MAC.
    pub mac: EthernetAddress,
    /// Source address.
    pub src: IpAddress,
    /// Destination address, of the same family.
    pub dst: IpAddress,
    /// The protocol's number; 0 for IPv6, whose later fragments need not name it (RFC 8200 section
    /// 4.5).
    pub protocol: u8,
    /// Its identification.
    pub id: u32,
}

/// What the first fragment of a datagram came as and how it left, for those that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Its flow as it came.
    pub seen: Tuple,
    /// Its flow as it left.
    pub out: Tuple,
    /// Whether it went back to the node, whose own it was.
    pub given_back: bool,
}

/// What becomes of the fragments of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The first is still to come: they are held.
    Waiting,
    /// The first went this way, and they do.
    Passed(Passage),
    /// The first got no further, and they do not.
    Refused,
    /// Two of them overlap: none goes any further (RFC 5722; Linux has the same for IPv4).
    Overlapping,
}

/// A fragment that is held, whole. It has no offload but that its checksum may count as verified
/// (parse lets no other pass).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::table) struct Held {
    pub(in crate::table) bytes: Vec<u8>,
    pub(in crate::table) valid: bool,
}

/// A datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Which one.
    pub key: DatagramKey,
    /// From when on it counts as absent.
    pub deadline: Instant,
    /// What becomes of its fragments.
    pub fate: Fate,
    /// Bytes of the first fragment's part; 0 before it has come.
    pub(in crate::table) first_len: u16,
    /// What has come of it.
    pub(in crate::table) spans: Spans,
    /// What waits for the first, in the order in which it came.
    pub(in crate::table) held: Vec<Held>,
}

/// What a port has in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    datagrams: u32,
    held_bytes: usize,
}

/// All datagrams.
#[derive(Clone, Debug)]
pub struct Datagrams {
    rows: Slab<Datagram>,
    index: Map<DatagramKey, u32>,
    /// What each port has, of those that have any.
    shares: Map<PortId, Share>,
    held_bytes: usize,
    pub(in crate::table) sweep: Sweep,
    /// What was held until this input and still has to walk or to be dropped. Empty between two
    /// inputs.
    loose: Vec<Loose>,
}

/// A fragment that is held no more.
#[derive(Clone, Debug)]
pub struct Loose {
    /// The port that it came in by.
    pub ingress: PortId,
    /// What is to be done with it.
    pub end: End,
    held: Held,
}

impl Loose {
    /// The fragment as it came in.
    #[must_use]
    pub fn frame(&self) -> Frame {
        self.held.frame()
    }
}

/// What is to be done with a fragment that was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It goes as its first did.
    Walk(Passage),
    /// It goes no further.
    Drop(DropReason),
}

/// What a walk makes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragmented {
    /// Which one.
    pub key: DatagramKey,
    /// The part that came.
    pub part: Part,
    /// What it is to the datagram.
    pub what: What,
    /// A datagram that goes for this one, and why.
    pub instead_of: Option<(u32, DropReason)>,
}

/// What a fragment is to its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The first; how it left, if it did.
    First(Option<Passage>),
    /// A later one that goes where the first went, or no further than it.
    Later,
    /// A later one that is held.
    Held,
    /// It overlaps another.
    Overlaps,
}

/// What the table says of a datagram.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// It knows nothing of it.
    Nothing,
    /// There was one, and it is over.
    Stale(u32),
    /// It is there.
    Live(&'a Datagram),
}

impl Held {
    fn of(frame: &Frame) -> Self {
        let valid = frame.offload().checksum == Checksum::Valid;
        Self { bytes: frame.bytes().to_vec(), valid }
    }

    fn frame(&self) -> Frame {
        let mut frame = Frame::from_bytes(&self.bytes);
        if self.valid {
            frame.set_offload(Offload { checksum: Checksum::Valid, ..Offload::default() });
        }
        frame
    }
}

impl Datagram {
    fn new(key: DatagramKey, deadline: Instant) -> Self {
        Self {
            key,
            deadline,
            fate: Fate::Waiting,
            first_len: 0,
            spans: Spans::default(),
            held: Vec::new(),
        }
    }

    /// Whether a part fits to those that have come.
    #[must_use]
    pub fn fit(&self, part: &Part) -> Fit {
        self.spans.fit(part)
    }

    /// Whether the first fragment has come, as long as this one: it is the same again, or its
    /// sender uses the identification anew, as fast senders do (RFC 4963).
    #[must_use]
    pub fn begins_anew(&self, first: &Part) -> bool {
        self.first_len == first.len
    }

    /// Whether no more of its fragments may be held.
    #[must_use]
    pub fn holds_many(&self) -> bool {
        self.held.len() >= PARTS_MAX
    }

    fn held_bytes(&self) -> usize {
        self.held.iter().map(|held| counted(held.bytes.len())).sum()
    }

    /// How many of its fragments are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

/// What a fragment of so many bytes counts.
fn counted(len: usize) -> usize {
    len.max(HELD_BYTES_MIN)
}

impl Datagrams {
    /// A table of these limits.
    #[must_use]
    pub fn new(seed: u64, limits: &Limits) -> Self {
        Self {
            rows: Slab::new(limits.datagrams_max),
            index: Map::new(seed, limits.datagrams_max),
            shares: Map::growing(seed, limits.datagrams_max),
            held_bytes: 0,
            sweep: Sweep::default(),
            loose: Vec::new(),
        }
    }

    /// The datagram of a key.
    #[must_use]
    pub fn find(&self, key: &DatagramKey, now: Instant) -> Found<'_> {
        let Some(slot) = self.index.get(key).copied() else { return Found::Nothing };
        match self.rows.get(slot as usize) {
            Some(datagram) if now < datagram.deadline => Found::Live(datagram),
            Some(_) | None => Found::Stale(slot),
        }
    }

    /// Whether there is room for another datagram of a port; if so by which one's end, else why
    /// not.
    ///
    /// # Errors
    /// Which limit is reached, when nothing may go.
    pub fn room(
        &self,
        key: &DatagramKey,
        limits: &Limits,
        seed: u64,
    ) -> Result<Option<(u32, DropReason)>, DropReason> {
        let (of, reason) = if self.share(key.port).datagrams >= limits.port_datagrams_max {
            (Some(key.port), DropReason::PortFragmentsFull)
        } else if self.rows.is_full() {
            (None, DropReason::FragmentsFull)
        } else {
            return Ok(None);
        };
        let hash = hash::numbers(seed, &[u64::from(key.port.0), u64::from(key.id)]);
        self.victim(hash, of).map(|slot| Some((slot, reason))).ok_or(reason)
    }

    /// Whether a fragment of `len` bytes more of a port may be held.
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn room_to_hold(
        &self,
        port: PortId,
        len: usize,
        limits: &Limits,
    ) -> Result<(), DropReason> {
        self.room_for(port, counted(len), limits)
    }

    /// Whether there is room for what counts so many bytes.
    fn room_for(&self, port: PortId, bytes: usize, limits: &Limits) -> Result<(), DropReason> {
        if self.share(port).held_bytes.saturating_add(bytes) > limits.port_held_bytes_max {
            return Err(DropReason::PortFragmentsFull);
        }
        if self.held_bytes.saturating_add(bytes) > limits.held_bytes_max {
            return Err(DropReason::FragmentsFull);
        }
        Ok(())
    }

    /// All datagrams by slot; some may be past their deadline.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Datagram)> + '_ {
        self.rows.iter()
    }

    /// How many there are, those past their deadline included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(in crate::table) fn rows(&self) -> &Slab<Datagram> {
        &self.rows
    }

    pub(in crate::table) fn rows_mut(&mut self) -> &mut Slab<Datagram> {
        &mut self.rows
    }

    /// Puts a row where it was. False when it cannot be there.
    pub(in crate::table) fn restore(
        &mut self,
        slot: usize,
        row: Datagram,
        limits: &Limits,
    ) -> bool {
        let (key, held) = (row.key, row.held_bytes());
        if !self.admits(&row, limits) || !self.rows.restore(slot, row) {
            return false;
        }
        self.index(slot, &key, held);
        true
    }

    /// Puts a row of another build into the lowest free slot, if it can be there.
    pub(in crate::table) fn take(&mut self, row: Datagram, limits: &Limits) -> bool {
        let (key, held) = (row.key, row.held_bytes());
        let room = self.share(key.port).datagrams < limits.port_datagrams_max;
        if !room || !self.admits(&row, limits) {
            return false;
        }
        let Some(slot) = self.rows.insert(row) else { return false };
        self.index(slot, &key, held);
        true
    }

    /// Whether a row can be there that was not made here.
    fn admits(&self, row: &Datagram, limits: &Limits) -> bool {
        let held = row.held_bytes();
        let waits = row.fate == Fate::Waiting;
        self.index.get(&row.key).is_none()
            && self.room_for(row.key.port, held, limits).is_ok()
            && row.held.len() <= PARTS_MAX
            && (waits || row.held.is_empty())
            && waits == (row.first_len == 0 && row.fate != Fate::Overlapping)
            && (row.fate == Fate::Overlapping || !row.spans.is_whole())
    }

    fn index(&mut self, slot: usize, key: &DatagramKey, held: usize) {
        let Ok(slot) = u32::try_from(slot) else { return };
        self.index.insert(*key, slot);
        self.count(key.port, |share| {
            share.datagrams = share.datagrams.saturating_add(1);
            share.held_bytes = share.held_bytes.saturating_add(held);
        });
        self.held_bytes = self.held_bytes.saturating_add(held);
    }

    /// Among the slots after a place chosen by `hash`, of one port or of all, the one that expires
    /// first.
    fn victim(&self, hash: u64, of: Option<PortId>) -> Option<u32> {
        let slots = self.rows.slots() as u64;
        let begin = hash.checked_rem(slots)?;
        let places = (0..slots.min(VICTIMS as u64)).map(|step| (begin + step) % slots);
        let places = places.filter_map(|place| usize::try_from(place).ok());
        let rows = places.filter_map(|place| Some((place, self.rows.get(place)?)));
        let mine = rows.filter(|(_, row)| of.is_none_or(|port| row.key.port == port));
        let first = mine.min_by_key(|(_, row)| row.deadline)?;
        u32::try_from(first.0).ok()
    }

    fn share(&self, port: PortId) -> Share {
        self.shares.get(&port).copied().unwrap_or_default()
    }

    fn count(&mut self, port: PortId, change: impl FnOnce(&mut Share)) {
        let mut share = self.share(port);
        change(&mut share);
        if share == Share::default() {
            self.shares.remove(&port);
        } else {
            // Room is there: no more ports have datagrams than there are datagrams.
            self.shares.insert(port, share);
        }
    }
}

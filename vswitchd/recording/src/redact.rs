//! The same excerpt without what people said: everything behind the L4 headers of frames is zero.
//!
//! What an endpoint received stays whole, since endpoints read it. Addresses, ports and lengths
//! stay, and so does the walk of each frame, which is compared. Checksums of L4 no longer fit their
//! packets. The chain is another (an ICMP error quotes what it answers), so it is made anew by
//! replaying, and the result replays as exactly as the original did.

use std::net::IpAddr;

use stack::journal::frame::{Door, Recorded};
use stack::journal::{self, Chain, Head, Kind, records};
use stack::pipeline::packet::{Inner, L4};
use stack::pipeline::parse;
use stack::replay::ReplayError;
use stack::{Frame, Instant, PortId, Replay, Switch};

use crate::Excerpt;
use crate::replayer::{Cause, Divergence, Problem, describe};

/// Zeroes payload and chains the records anew.
///
/// # Errors
/// When the excerpt does not replay as it is.
pub fn redact(excerpt: &Excerpt, table_seed: u64) -> Result<Excerpt, Problem> {
    let begin = |state: Option<&Vec<u8>>| -> Result<Replay, Problem> {
        let Some(bytes) = state else { return Ok(Replay::from_begin(table_seed)) };
        let switch = Switch::restore(bytes, table_seed).map_err(Problem::State)?;
        Ok(Replay::from_state(switch, excerpt.chain))
    };
    let mut original = begin(excerpt.state.as_ref())?;
    let state = excerpt.state.as_ref().map(|bytes| without_held(bytes, original.switch()));
    let mut redacted = begin(state.as_ref())?;
    let mut result = Excerpt { records: Vec::new(), state, ..excerpt.clone() };
    for (number, record) in (1..).zip(records(&excerpt.records)) {
        let unreadable = |_damaged| {
            let error = ReplayError::Unreadable { kind: None };
            Problem::Record { number, error }
        };
        let record = record.map_err(unreadable)?;
        take(&mut original, record, number)?;
        let Some(head) = Head::read(record) else { continue };
        let mut other = record.to_vec();
        match head.kind {
            Kind::Frame => zero(&mut other, &head, redacted.switch()),
            // Fragments that were held there are others.
            Kind::State => {
                let words = redacted.marked().into_iter().flat_map(|digests| {
                    digests.words().flat_map(u64::to_le_bytes).collect::<Vec<_>>()
                });
                // Behind the number.
                let places = other.iter_mut().skip(journal::HEAD + 8);
                places.zip(words).for_each(|(place, byte)| *place = byte);
            }
            Kind::Digest => {
                let walks = redacted.switch().map_or(0, |switch| switch.tables().walks());
                let words = journal::digest(redacted.chain(), walks);
                let body = words.iter().flat_map(|word| word.to_le_bytes());
                for (place, byte) in other.iter_mut().skip(journal::HEAD).zip(body) {
                    *place = byte;
                }
            }
            Kind::Begin
            | Kind::Deliver
            | Kind::Change
            | Kind::Tick
            | Kind::Skip
            | Kind::Clock
            | Kind::Resume
            | Kind::Mark
            | Kind::Label
            | Kind::Import => {}
        }
        vouch(&mut other, &head, redacted.chain());
        take(&mut redacted, &other, number)?;
        if original.out().walked != redacted.out().walked {
            let walk = original.out().walked.first().map_or(0, |trace| trace.number);
            let what = describe(record, &excerpt.labels.iter().cloned().collect());
            return Err(Problem::Diverged(Box::new(Divergence {
                record: number,
                noticed: number,
                utc: head.time.0.saturating_add_signed(excerpt.utc_offset),
                walk,
                what,
                cause: Cause::Acted,
                error: ReplayError::Diverged,
            })));
        }
        result.push(&other);
    }
    Ok(result)
}

/// A start state without what is said in the fragments that it holds.
fn without_held(state: &[u8], switch: Option<&Switch>) -> Vec<u8> {
    let holds = |switch: &&Switch| switch.counters().total().held > 0;
    let Some(mut switch) = switch.filter(holds).cloned() else { return state.to_vec() };
    switch.blank_held(|bytes| {
        let recorded = Recorded {
            door: Door::Port(PortId(0)),
            offload: stack::Offload::default(),
            len: bytes.len(),
            bytes,
        };
        let kept = kept(&recorded);
        if let Some(payload) = bytes.get_mut(kept..) {
            payload.fill(0);
        }
    });
    switch.snapshot()
}

/// Writes the check of a record that follows a chain.
fn vouch(record: &mut [u8], head: &Head, before: &Chain) {
    if head.kind.is_comment() {
        return;
    }
    let begins = head.kind == Kind::Begin && head.flags & journal::FLAG_REST == 0;
    let mut chain = if begins { Chain::new() } else { *before };
    chain.record(record);
    if let Some(place) = record.get_mut(16..20) {
        place.copy_from_slice(&chain.check().to_le_bytes());
    }
}

fn take(replay: &mut Replay, record: &[u8], number: u64) -> Result<(), Problem> {
    match replay.record(record) {
        Ok(_step) => Ok(()),
        Err(error) => Err(Problem::Record { number, error }),
    }
}

/// Zeroes the payload of a frame's record: as much as leaves its walk as it is.
fn zero(record: &mut [u8], head: &Head, switch: Option<&Switch>) {
    let Some(recorded) = Recorded::read(record, head) else { return };
    let Door::Port(port) = recorded.door else { return };
    let len = recorded.bytes.len();
    let kept = match (kept(&recorded), switch) {
        (kept, None) => kept,
        (kept, Some(switch)) => {
            let walks = Walks::new(switch, head.time, port, &recorded);
            // A frame that is refused may be refused for any of its first bytes.
            let mut most = (kept..Frame::WINDOW).step_by(4);
            most.find(|most| walks.are_equal(*most)).unwrap_or(Frame::WINDOW)
        }
    };
    if let Some(payload) = record.get_mut(journal::HEAD + kept.min(len)..journal::HEAD + len) {
        payload.fill(0);
    }
}

/// Dry walks of a frame with and without its payload.
struct Walks<'a> {
    switch: &'a Switch,
    now: Instant,
    port: PortId,
    recorded: &'a Recorded<'a>,
    trace: stack::Trace,
}

impl<'a> Walks<'a> {
    fn new(switch: &'a Switch, now: Instant, port: PortId, recorded: &'a Recorded<'a>) -> Self {
        let frame = frame(recorded, usize::MAX);
        let trace = switch.trace(now, port, &frame);
        Self { switch, now, port, recorded, trace }
    }

    /// Whether the frame goes the same way when only `kept` bytes of it are kept.
    fn are_equal(&self, kept: usize) -> bool {
        self.switch.trace(self.now, self.port, &frame(self.recorded, kept)) == self.trace
    }
}

fn frame(recorded: &Recorded<'_>, kept: usize) -> Frame {
    let mut frame = Frame::with_capacity(recorded.len);
    let filled = recorded.fill(&mut frame);
    debug_assert!(filled, "a buffer of the frame's length takes the frame");
    if let Some(payload) = frame.bytes_mut().get_mut(kept..) {
        payload.fill(0);
    }
    frame
}

/// Bytes of a frame up to the end of its L4 header.
fn kept(recorded: &Recorded<'_>) -> usize {
    let window = recorded.bytes.get(..Frame::WINDOW).unwrap_or(recorded.bytes);
    let Ok(packet) = parse::parse(window, recorded.len, &recorded.offload) else {
        return ETHERNET;
    };
    let ip = match packet.inner {
        Inner::Arp(_) => return ETHERNET + ARP,
        Inner::Ip(ip) => ip,
    };
    let header = match ip.l4 {
        L4::Tcp { header_len, .. } => usize::from(header_len),
        L4::Udp { .. } => 8,
        L4::Sctp { .. } => 12,
        // An error quotes the headers of another packet: IP's and 8 bytes.
        L4::Icmp { quoted: Some(_), .. } => {
            8 + if IpAddr::from(ip.src).is_ipv4() { 20 } else { 40 } + 8
        }
        L4::Icmp { quoted: None, .. } => 8,
        // Neighbor discovery is all header.
        L4::Nd(_) => usize::from(u16::MAX),
        L4::Opaque => 0,
    };
    usize::from(ip.l4_offset) + header
}

/// Bytes of an Ethernet header, and of an ARP packet for IPv4.
const ETHERNET: usize = 14;
const ARP: usize = 28;

//! From the switch to the devices: frames in their order a port, small ones at the end of the
//! batch.
//!
//! Large frames are written at once, while they are in the cache. Small ones wait for the end of
//! the batch (never longer: there is no timer), so that datagrams of one flow can leave as one
//! super-frame. Where frames come one at a time they do not even wait for the read that finds no
//! second one.

use std::io;

use stack::{EndpointId, Frame, Input, PortId, PortKind};

use super::DriverCounters;
use super::run::Loop;
use crate::capture::walks::{self, PutIn};
use crate::port::offload::{self, Coalesced, Coalescer};
use crate::port::{Capabilities, Pool, PortIo};

/// Frames of at most this many bytes wait for the end of the batch.
const SMALL: usize = 2_048;
/// Frames that may wait for one port.
const WAITING_MAX: usize = 64;

/// A port's device with what belongs to it.
pub(super) struct Attached {
    pub(super) id: PortId,
    pub(super) io: Box<dyn PortIo>,
    pub(super) counters: DriverCounters,
    /// Whether the waiter has been told of the device.
    pub(super) polled: bool,
    /// Whether the last turn found one frame alone: requests and answers, no stream.
    pub(super) lone: bool,
    capabilities: Capabilities,
    waiting: Vec<Frame>,
    coalescer: Coalescer,
    merged: Vec<Coalesced>,
    pieces: Vec<Frame>,
    results: Vec<io::Result<()>>,
    /// For each group of pieces: how many there are, and the frames of the switch they stand for.
    groups: Vec<(usize, u32)>,
}

impl Attached {
    pub(super) fn new(id: PortId, io: Box<dyn PortIo>) -> Self {
        let capabilities = io.capabilities();
        Self {
            id,
            io,
            counters: DriverCounters::default(),
            polled: false,
            lone: false,
            capabilities,
            waiting: Vec::with_capacity(WAITING_MAX),
            coalescer: Coalescer::default(),
            merged: Vec::new(),
            pieces: Vec::new(),
            results: Vec::new(),
            groups: Vec::new(),
        }
    }

    /// Makes of a frame what the receiver takes; `frames` of the switch are in it.
    fn prepare(&mut self, frame: Frame, frames: u32, pool: &mut Pool) {
        let before = self.pieces.len();
        offload::prepare(frame, &self.capabilities, pool, &mut self.pieces);
        self.groups.push((self.pieces.len() - before, frames));
    }

    /// Writes one frame now, in software what the receiver does not take.
    fn write(&mut self, mut frame: Frame, pool: &mut Pool) {
        // Nearly all are, and this is where most of the time goes.
        if offload::is_taken(frame.offload(), &self.capabilities) {
            let failed = self.io.transmit(&mut frame).err();
            self.count(failed.as_ref(), 1);
            pool.give(frame);
            return;
        }
        self.prepare(frame, 1, pool);
        self.write_pieces(pool);
    }

    /// Writes what waited, coalesced where the receiver takes it.
    fn flush(&mut self, pool: &mut Pool) {
        if self.waiting.len() < 2 {
            if let Some(frame) = self.waiting.pop() {
                self.write(frame, pool);
            }
            return;
        }
        let merging = self.capabilities.udp_gso && self.capabilities.checksum;
        let mut waiting = std::mem::take(&mut self.waiting);
        if !merging {
            for frame in waiting.drain(..) {
                self.prepare(frame, 1, pool);
            }
        } else {
            let mut merged = std::mem::take(&mut self.merged);
            for frame in waiting.drain(..) {
                self.coalescer.push(frame, pool, &mut merged);
            }
            self.coalescer.flush(&mut merged);
            for Coalesced { frame, frames } in merged.drain(..) {
                self.prepare(frame, frames, pool);
            }
            self.merged = merged;
        }
        self.waiting = waiting;
        self.write_pieces(pool);
    }

    /// Writes what is prepared. A frame of the switch is written when all its pieces are.
    fn write_pieces(&mut self, pool: &mut Pool) {
        self.io.transmit_batch(&mut self.pieces, &mut self.results);
        let (mut results, mut groups) =
            (std::mem::take(&mut self.results), std::mem::take(&mut self.groups));
        let mut rest = results.drain(..);
        for (pieces, frames) in groups.drain(..) {
            let mut failed = None;
            for error in rest.by_ref().take(pieces).filter_map(Result::err) {
                failed = failed.or(Some(error));
            }
            self.count(failed.as_ref(), frames);
        }
        drop(rest);
        (self.results, self.groups) = (results, groups);
        for frame in self.pieces.drain(..) {
            pool.give(frame);
        }
    }

    /// Counts frames of the switch as written, or as what their first failure says.
    fn count(&mut self, failed: Option<&io::Error>, frames: u32) {
        match failed {
            None => self.counters.written += u64::from(frames),
            Some(error) => {
                let errno = error.raw_os_error().unwrap_or(0);
                *self.counters.failed.entry(errno).or_default() += u64::from(frames);
            }
        }
    }
}

impl Loop {
    /// Puts a frame into the switch and does what comes of it.
    pub(super) fn put_in(&mut self, port: PortId, frame: Frame) {
        let came = (frame.len(), *frame.offload());
        if !self.sessions.is_empty() {
            self.received.clear();
            self.received.extend_from_slice(frame.window());
        }
        self.feed(Input::Frame { port, frame });
        self.show(Some(came));
        self.watch_walks();
        self.carry_out();
    }

    /// Shows the walks of the last input to the captures. `came` is what the frame put in was, if
    /// one was: its length and its offload description.
    fn show(&mut self, came: Option<(usize, stack::Offload)>) {
        if self.sessions.is_empty() {
            return;
        }
        let bytes = &self.received;
        let frame = came.map(|(len, offload)| PutIn { bytes, len, offload, known: usize::MAX });
        let sessions = &mut self.sessions;
        walks::each(self.now, frame, &self.out, |walk| {
            sessions.retain_mut(|session| session.observe(walk));
        });
    }

    pub(super) fn carry_out(&mut self) {
        let mut transmits = std::mem::take(&mut self.out.transmits);
        for transmit in transmits.drain(..) {
            self.send(transmit.port, transmit.frame);
        }
        self.out.transmits = transmits;
        for (_, frame) in self.out.reclaimed.drain(..) {
            self.pool.give(frame);
        }
        self.out.walked.clear();
        if !self.out.deliveries.is_empty() {
            for (endpoint, frame) in std::mem::take(&mut self.out.deliveries) {
                self.deliver(endpoint, frame);
            }
        }
    }

    /// An endpoint sees whole frames with complete checksums.
    fn deliver(&mut self, endpoint: EndpointId, mut frame: Frame) {
        offload::checksum::complete(&mut frame);
        let outside = (endpoint != EndpointId::GATEWAY).then(|| frame.duplicate());
        self.feed(Input::Deliver { endpoint, frame });
        self.show(None);
        self.watch_walks();
        self.carry_out();
        if let Some(frame) = outside {
            self.hand_over(endpoint, frame);
        }
    }

    /// To an endpoint that lives outside of the core, which has recorded it. The device counts what
    /// it has no room for.
    fn hand_over(&mut self, endpoint: EndpointId, mut frame: Frame) {
        let ports = self.switch.tables().ports();
        let kind = PortKind::Endpoint(endpoint);
        let port = ports.iter().find_map(|(_, port)| {
            let config = &port.config;
            (config.kind == kind).then_some(config.id)
        });
        let place = port.and_then(|id| self.index.get(&id));
        if let Some(attached) = place.and_then(|at| self.ports.get_mut(*at)?.as_mut()) {
            let _counted = attached.io.transmit(&mut frame);
        }
    }

    fn send(&mut self, port: PortId, frame: Frame) {
        let index = self.index.get(&port).copied();
        let attached = index.and_then(|index| Some((index, self.ports.get_mut(index)?.as_mut()?)));
        let Some((index, attached)) = attached else {
            // Its device is gone while the port still stands: CNI DEL closes the device first.
            let counters = self.detached.entry(port).or_default();
            *counters.failed.entry(libc::ENODEV).or_default() += 1;
            self.pool.give(frame);
            return;
        };
        let small = frame.len() <= SMALL && frame.offload().gso.is_none();
        if !small {
            attached.flush(&mut self.pool);
            attached.write(frame, &mut self.pool);
            return;
        }
        if attached.waiting.is_empty() {
            self.pending.push(index);
        }
        attached.waiting.push(frame);
        if attached.waiting.len() >= WAITING_MAX {
            attached.flush(&mut self.pool);
        }
    }

    /// Writes what waits for the end of the batch.
    pub(super) fn flush(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        for index in pending.drain(..) {
            if let Some(attached) = self.ports.get_mut(index).and_then(Option::as_mut) {
                attached.flush(&mut self.pool);
            }
        }
        self.pending = pending;
    }
}

#[cfg(test)]
mod tests;

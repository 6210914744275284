//! The way between the data thread and the host: two queues of bounded length, and an eventfd that
//! tells the data thread. Who would fill them loses frames, as on any link.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use stack::Frame;

use crate::port::{Capabilities, Losses, Pool, PortIo};

/// Frames that wait, each way.
const WAITING_MAX: usize = 256;

/// The data thread's end.
pub(super) struct Port {
    to_host: SyncSender<Vec<u8>>,
    from_host: Receiver<Vec<u8>>,
    wake: Arc<EventFd>,
    /// Frames for which there was no room.
    lost: u64,
}

/// The host's end: whole frames.
pub(super) struct Cable {
    to_port: SyncSender<Vec<u8>>,
    from_port: Receiver<Vec<u8>>,
    wake: Arc<EventFd>,
}

/// What came of waiting for a frame.
pub(super) enum Came {
    /// A frame.
    Frame(Vec<u8>),
    /// Nothing in that time.
    Nothing,
    /// Nothing ever again.
    End,
}

/// Both ends.
pub(super) fn lay() -> io::Result<(Port, Cable)> {
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    let wake = Arc::new(EventFd::from_value_and_flags(0, flags)?);
    let (to_host, from_port) = sync_channel(WAITING_MAX);
    let (to_port, from_host) = sync_channel(WAITING_MAX);
    let port = Port { to_host, from_host, wake: wake.clone(), lost: 0 };
    Ok((port, Cable { to_port, from_port, wake }))
}

impl PortIo for Port {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    fn receive(&mut self, pool: &mut Pool) -> io::Result<Option<Frame>> {
        let bytes = match self.from_host.try_recv() {
            Ok(bytes) => bytes,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                // The next word comes after the next frame: whatever was written before this is
                // seen by another look.
                match self.wake.read() {
                    Ok(_) | Err(Errno::EAGAIN) => {}
                    Err(errno) => return Err(errno.into()),
                }
                let Ok(bytes) = self.from_host.try_recv() else { return Ok(None) };
                // There may be more, of which nothing would tell.
                self.wake.write(1)?;
                bytes
            }
        };
        let mut frame = pool.take_for(bytes.len());
        frame.set_len(bytes.len());
        frame.bytes_mut().copy_from_slice(&bytes);
        Ok(Some(frame))
    }

    fn transmit(&mut self, frame: &mut Frame) -> io::Result<()> {
        self.to_host.try_send(frame.bytes().to_vec()).map_err(|_full| {
            self.lost = self.lost.saturating_add(1);
            Errno::ENOBUFS.into()
        })
    }

    /// It takes whole frames with whole checksums.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn losses(&mut self) -> io::Result<Losses> {
        Ok(Losses { frames: self.lost })
    }
}

impl Cable {
    /// Waits for a frame; without a limit for as long as it takes.
    pub(super) fn wait(&self, limit: Option<Duration>) -> Came {
        match limit {
            None => self.from_port.recv().map_or(Came::End, Came::Frame),
            Some(limit) => match self.from_port.recv_timeout(limit) {
                Ok(frame) => Came::Frame(frame),
                Err(RecvTimeoutError::Timeout) => Came::Nothing,
                Err(RecvTimeoutError::Disconnected) => Came::End,
            },
        }
    }

    /// Sends a frame. What finds no room is lost, and sent again by TCP.
    pub(super) fn send(&self, frame: Vec<u8>) {
        if self.to_port.try_send(frame).is_ok()
            && let Err(errno) = self.wake.write(1)
        {
            tracing::warn!(%errno, "the data thread cannot be told of a frame");
        }
    }
}

/// Under the host's interface: packets that came and that are to go, IP without Ethernet.
pub(super) struct Wire {
    pub(super) came: VecDeque<Vec<u8>>,
    pub(super) goes: Vec<Vec<u8>>,
    pub(super) mtu: usize,
}

pub(super) struct Packet(Vec<u8>);
pub(super) struct Room<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Packet {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut packet = vec![0; len];
        let result = fill(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Packet;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Packet, Room<'_>)> {
        Some((Packet(self.came.pop_front()?), Room(&mut self.goes)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Room<'_>> {
        (self.goes.len() < WAITING_MAX).then_some(Room(&mut self.goes))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

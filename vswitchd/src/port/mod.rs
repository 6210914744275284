//! Drivers: how frames get from a kernel device into a [`Frame`] and back, offloads included.
//!
//! [`tap`] and [`packet`] are the two kinds of device, [`icmp`] is one that is only read, `vnet`
//! the header both speak, `loss` the kernel's counter of what a TAP dropped, [`parts`] a device on
//! its way between processes.
//! [`offload`] does in software what a receiver cannot take, [`wake`] waits.

use std::io;
use std::os::fd::BorrowedFd;

use stack::Frame;

pub mod icmp;
mod loss;
pub mod offload;
pub mod packet;
pub mod parts;
pub mod pool;
pub mod precedence;
pub mod tap;
mod vnet;
pub mod wake;

pub use parts::Parts;
pub use pool::Pool;

/// What a receiver takes; everything else is done in software before [`PortIo::transmit`] (see
/// [`offload`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Partial checksums (NEEDS_CSUM).
    pub checksum: bool,
    /// TCP super-frames over IPv4 and IPv6.
    pub tcp_gso: bool,
    /// UDP super-frames (USO, UDP_L4).
    pub udp_gso: bool,
}

/// What a device's kernel side lost before the switch could read it, since the device was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Frames: a TAP's `tx_dropped`, a packet socket's `tp_drops`.
    pub frames: u64,
}

/// A device under a port. One owner: the event loop's thread.
pub trait PortIo: Send {
    /// What to poll for readability.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Reads one frame into a buffer of the pool; `None` when nothing is there (EAGAIN), or when a
    /// turn's worth of frames was there that cannot be carried.
    ///
    /// # Errors
    /// The kernel's; the port is broken if it is neither EINTR (retried inside) nor EAGAIN.
    fn receive(&mut self, pool: &mut Pool) -> io::Result<Option<Frame>>;

    /// Writes one frame that fits [`PortIo::capabilities`]. Uses the frame's headroom for its
    /// header.
    ///
    /// # Errors
    /// The kernel's errno; counted per port by errno.
    fn transmit(&mut self, frame: &mut Frame) -> io::Result<()>;

    /// Writes several; a driver with a cheaper way for many overrides this. Returns a result for
    /// each.
    fn transmit_batch(&mut self, frames: &mut [Frame], results: &mut Vec<io::Result<()>>) {
        for frame in frames {
            results.push(self.transmit(frame));
        }
    }

    /// What the receiver takes.
    fn capabilities(&self) -> Capabilities;

    /// What the kernel lost before us.
    ///
    /// # Errors
    /// The kernel's, when it cannot be asked.
    fn losses(&mut self) -> io::Result<Losses>;

    /// Takes the device apart, so that another process can put it together.
    ///
    /// # Errors
    /// When it is of a kind that cannot leave its process.
    fn into_parts(self: Box<Self>) -> io::Result<Parts> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests;

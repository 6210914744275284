//! Buffers for frames, reused last in, first out: the newest is the one still in the cache.

use stack::Frame;

/// A stock of buffers. Small ones take any frame of an MTU of 9000; large ones any super-frame.
#[derive(Debug, Default)]
pub struct Pool {
    free: Vec<Frame>,
}

impl Pool {
    /// Bytes a buffer takes: the largest super-frame, 64 KiB and its Ethernet header with a tag.
    pub const CAPACITY: usize = 65_536 + 18;
    /// Buffers kept; more are given back to the allocator.
    pub const KEPT: usize = 256;

    /// An empty stock.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer for any frame: empty, with headroom.
    #[must_use]
    pub fn take(&mut self) -> Frame {
        self.free.pop().unwrap_or_else(|| Frame::with_capacity(Self::CAPACITY))
    }

    /// A buffer for a frame of up to `len` bytes: one of the stock if there is any, else one just
    /// large enough, since what splits one frame into many would ask for megabytes.
    #[must_use]
    pub fn take_for(&mut self, len: usize) -> Frame {
        self.free.pop().unwrap_or_else(|| Frame::with_capacity(len))
    }

    /// Takes a buffer back. Those of another size (answers, copies of floods) go to the allocator.
    pub fn give(&mut self, mut frame: Frame) {
        frame.reset();
        if self.free.len() < Self::KEPT && frame.capacity() == Self::CAPACITY {
            self.free.push(frame);
        }
    }
}

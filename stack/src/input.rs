//! What goes into the switch and what comes out: frames, changes, ticks, and the [`Outbox`].
//!
//! A [`Frame`] owns its buffer and moves: from the port that read it, through the walk, to the port
//! that writes it. The core looks at the header window only ([`Frame::window`]); payload stays
//! where it is.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::config::{Change, ConfigError};
use crate::trace::Trace;

/// A port of the switch, unique on the node and never reused while the daemon's state lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u32);

/// A host inside the switch (see [`crate::endpoint`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u16);

impl EndpointId {
    /// The gateway as a host: it lives in the core and keeps nothing between two packets.
    pub const GATEWAY: Self = Self(0);
    /// Who answers health checks at the node's addresses. It lives outside of the core, since its
    /// connections are nothing that a replay would need: what it hears is recorded as what any
    /// endpoint hears, and what it says comes in by its port.
    pub const HEALTH: Self = Self(1);
}

/// State of the L4 checksum, the virtio-net header's meaning (virtio 1.2, 5.1.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// The field is complete; nobody verified it.
    #[default]
    Complete,
    /// The field is complete and was verified (DATA_VALID).
    Valid,
    /// The field holds the pseudo-header's sum (NEEDS_CSUM): the bytes from `start` to the frame's
    /// end are still to be summed, and the result belongs at `start + offset`. Both in bytes
    /// from the frame's begin.
    Partial {
        /// Where summing starts: the L4 header.
        start: u16,
        /// Where the field lies, counted from `start`.
        offset: u16,
    },
}

/// What a super-frame splits into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP datagrams of equal size, the last may be shorter (USO), over either IP.
    Udp,
}

/// Generic segmentation: the frame stands for several, each with at most `size` bytes of L4
/// payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// The protocol it splits by.
    pub kind: GsoKind,
    /// L4 payload bytes of each segment.
    pub size: u16,
    /// TCP: CWR belongs to the first segment only.
    pub ecn: bool,
}

/// How a frame's bytes differ from what goes over a wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// State of the L4 checksum.
    pub checksum: Checksum,
    /// Set for a super-frame.
    pub gso: Option<Gso>,
    /// Set by the switch: the port's driver fragments the IPv4 packet to this many bytes an IP
    /// packet.
    pub fragment_mtu: Option<u16>,
}

/// An Ethernet frame in an owned buffer with room before it for headers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Frame {
    buffer: Vec<u8>,
    start: usize,
    len: usize,
    offload: Offload,
}

impl Frame {
    /// Bytes of the header window: all of a frame that the core looks at.
    pub const WINDOW: usize = 256;
    /// Room before a fresh frame: a virtio-net header (24 bytes) and VXLAN's outer headers (at most
    /// 70).
    pub const HEADROOM: usize = 128;

    /// An empty frame that can take `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            buffer: vec![0; Self::HEADROOM + capacity],
            start: Self::HEADROOM,
            len: 0,
            offload: Offload::default(),
        }
    }

    /// A frame with a copy of `bytes`, complete checksums, no GSO.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut frame = Self::with_capacity(bytes.len());
        frame.set_len(bytes.len());
        frame.bytes_mut().copy_from_slice(bytes);
        frame
    }

    /// The header window: the first 256 bytes, or all if the frame is shorter.
    #[must_use]
    #[inline]
    pub fn window(&self) -> &[u8] {
        let end = self.start + self.len.min(Self::WINDOW);
        self.buffer.get(self.start..end).unwrap_or(&[])
    }

    /// The header window for edits.
    #[must_use]
    pub fn window_mut(&mut self) -> &mut [u8] {
        let end = self.start + self.len.min(Self::WINDOW);
        self.buffer.get_mut(self.start..end).unwrap_or(&mut [])
    }

    /// The whole frame. For ports, captures and endpoints; stages of the walk use
    /// [`Frame::window`].
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.start + self.len).unwrap_or(&[])
    }

    /// The whole frame, writable.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.start..self.start + self.len).unwrap_or(&mut [])
    }

    /// The first `len` bytes from the frame's begin, as far as the buffer goes: a frame that the
    /// walk has cut still has behind its end what it lost. For captures.
    #[must_use]
    pub fn bytes_before_cut(&self, len: usize) -> &[u8] {
        let end = self.buffer.len().min(self.start.saturating_add(len));
        self.buffer.get(self.start..end).unwrap_or(&[])
    }

    /// Length in bytes, from the destination MAC to the last byte of payload.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the frame has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes the frame can have without growing.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Sets the length, cut to the capacity.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(self.capacity());
    }

    /// The offload description.
    #[must_use]
    #[inline]
    pub fn offload(&self) -> &Offload {
        &self.offload
    }

    /// Sets the offload description.
    pub fn set_offload(&mut self, offload: Offload) {
        self.offload = offload;
    }

    /// The buffer from `front` bytes before the frame to the end of its capacity: what a driver
    /// reads into or writes from when a header of its own goes directly before the frame.
    /// `front` is cut to the room.
    #[must_use]
    pub fn with_front_mut(&mut self, front: usize) -> &mut [u8] {
        let begin = self.start.saturating_sub(front);
        self.buffer.get_mut(begin..).unwrap_or(&mut [])
    }

    /// Empties the frame for reuse: no bytes, full headroom, default offload. Keeps the buffer.
    pub fn reset(&mut self) {
        self.start = Self::HEADROOM.min(self.buffer.len());
        self.len = 0;
        self.offload = Offload::default();
    }

    /// A copy in a buffer of its own, just large enough.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let mut copy = Self::from_bytes(self.bytes());
        copy.offload = self.offload;
        copy
    }
}

/// One input. Everything that can alter what the switch does is one of these.
#[derive(Debug)]
pub enum Input {
    /// A frame came in by a port.
    Frame {
        /// The ingress port.
        port: PortId,
        /// The frame.
        frame: Frame,
    },
    /// A frame whose walk ended in Deliver comes back whole, with complete checksums.
    Deliver {
        /// The endpoint it is for.
        endpoint: EndpointId,
        /// The frame.
        frame: Frame,
    },
    /// Desired state or a port changed.
    Change(Change),
    /// Time passed: see [`crate::Switch::poll_at`].
    Tick,
    /// What a switch of another build had ([`crate::Switch::export`]) is taken over.
    Import(Vec<u8>),
}

/// A frame to be written.
#[derive(Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The egress port.
    pub port: PortId,
    /// The frame.
    pub frame: Frame,
    /// Index into [`Outbox::walked`]: the walk that made it.
    pub walk: u32,
}

/// Something the operator may want to know, never per frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A change was refused; the state before it stays.
    Rejected(ConfigError),
    /// An import was refused; the state before it stays.
    NotImported(ImportError),
}

/// Why an export is not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportError {
    /// No export, or a damaged one.
    Damaged,
    /// Its fields mean something else.
    Version {
        /// Theirs.
        theirs: u32,
        /// This build's.
        ours: u32,
    },
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => f.write_str("this is no whole export of a switch"),
            Self::Version { theirs, ours } => write!(
                f,
                "the export is of version {theirs}, this program reads {ours}: stop the other \
                 vswitchd, then start this one"
            ),
        }
    }
}

impl core::error::Error for ImportError {}

/// What an input led to, in order. The caller empties it; the switch only appends.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Frames to write.
    pub transmits: Vec<Transmit>,
    /// Frames for endpoints, to be put in again by [`Input::Deliver`].
    pub deliveries: Vec<(EndpointId, Frame)>,
    /// Exactly one for each frame that walked: those put in, and those that endpoints sent.
    pub walked: Vec<Trace>,
    /// Events.
    pub events: Vec<Event>,
    /// Buffers the switch has no more use for (dropped or answered frames), with their bytes.
    /// Beside each the index into [`Outbox::walked`].
    pub reclaimed: Vec<(u32, Frame)>,
}

impl Outbox {
    /// Forgets everything but keeps the allocations.
    pub fn clear(&mut self) {
        self.transmits.clear();
        self.deliveries.clear();
        self.walked.clear();
        self.events.clear();
        self.reclaimed.clear();
    }
}

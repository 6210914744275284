//! The upper header's place: what IPv4 and IPv6 hand on.

use smoltcp::wire::{IpProtocol, Ipv6Address};

use crate::drop::DropReason;
use crate::pipeline::packet::Fragment;

/// Where the upper header is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upper<'a> {
    /// The protocol that the last IP header names.
    pub(super) protocol: IpProtocol,
    /// Where it starts, from the frame's begin.
    pub(super) offset: usize,
    /// What the window has of it, cut to the packet's end.
    pub(super) bytes: &'a [u8],
    /// Its bytes up to the packet's end, in the window or not.
    pub(super) len: usize,
    /// Whether it is whole.
    pub(super) fragment: Fragment,
    /// Of IPv6, what neighbor discovery is judged by.
    pub(super) ipv6: Option<Ipv6Facts>,
}

/// What RFC 4861 asks of the IP header below a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ipv6Facts {
    pub(super) src: Ipv6Address,
    pub(super) dst: Ipv6Address,
    pub(super) hop_limit: u8,
    /// There was a fragment header, be it an atomic fragment's.
    pub(super) fragmented: bool,
}

impl<'a> Upper<'a> {
    /// The first `N` bytes.
    pub(super) fn header<const N: usize>(&self) -> Result<&'a [u8; N], DropReason> {
        self.bytes.first_chunk().ok_or_else(|| self.missing(N))
    }

    /// Why not `need` bytes are there: the packet ends, or the window does.
    pub(super) fn missing(&self, need: usize) -> DropReason {
        if need <= self.len {
            DropReason::HeaderChainTooLong
        } else if let Fragment::First(_) = self.fragment {
            // A first fragment that leaves part of the header to the next hides it (RFC 1858
            // section 3, RFC 7112 section 5).
            DropReason::FragmentInvalid
        } else {
            DropReason::L4Truncated
        }
    }
}

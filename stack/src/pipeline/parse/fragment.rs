//! Fragments of either version: where a part may lie.

use smoltcp::wire::IpProtocol;

use super::IP_MAX;
use crate::drop::DropReason;
use crate::pipeline::packet::{Fragment, Part};

/// A part of a datagram as its headers have it, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The datagram's identification.
    pub(super) id: u32,
    /// Where it begins in the datagram's payload.
    pub(super) offset: usize,
    /// Its own length.
    pub(super) len: usize,
    /// Whether others follow.
    pub(super) more: bool,
    /// What stands before the payload and counts in the datagram's length field: the IPv4 header,
    /// or the IPv6 extension headers before the fragment header.
    pub(super) before: usize,
    /// The protocol of what was divided.
    pub(super) protocol: IpProtocol,
}

impl Place {
    /// Which part it is, if it can be one.
    pub(super) fn judge(self) -> Result<Fragment, DropReason> {
        // Only the last may end elsewhere than on a multiple of 8 (RFC 791 section 3.2, RFC 8200
        // section 4.5); an empty one only costs whoever puts them together.
        let length_fits = self.len > 0 && (!self.more || self.len.is_multiple_of(8));
        // An end beyond what a length field can say: the ping of death.
        let end_fits = self.before + self.offset + self.len <= IP_MAX;
        // A second part that begins within the TCP header could replace its flags (RFC 1858 section
        // 4.2, RFC 3128 section 4).
        let hides_tcp = self.offset == 8 && self.protocol == IpProtocol::Tcp;
        if !length_fits || !end_fits || hides_tcp {
            return Err(DropReason::FragmentInvalid);
        }
        // Both are within what a length field can say.
        let bytes = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX);
        let (offset, len) = (bytes(self.offset), bytes(self.len));
        let part = Part { id: self.id, offset, len, more: self.more };
        Ok(if offset == 0 { Fragment::First(part) } else { Fragment::Later(part) })
    }
}

//! Where a frame's headers lie, as far as segmenting and fragmenting must know.

/// Offsets from the frame's begin; all lie inside of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Headers {
    /// The IP header.
    pub(crate) l3: usize,
    /// The L4 header.
    pub(crate) l4: usize,
    /// The end of the packet by the IP header's word; padding may follow.
    pub(crate) end: usize,
    /// The IP version.
    pub(crate) version: Version,
    /// The L4 protocol.
    pub(crate) protocol: u8,
}

/// Version of an IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V6,
}

/// Finds the headers of an IPv4 or IPv6 packet. `None` for all else, for fragments of IPv6, and for
/// what is too short. A fragment of IPv4 has its data where a whole packet has L4.
pub(crate) fn find(bytes: &[u8]) -> Option<Headers> {
    let mut l3 = 14;
    let mut ethertype = u16_at(bytes, 12)?;
    // A customer's tag, and a provider's before it.
    for _tag in 0..2 {
        if matches!(ethertype, 0x8100 | 0x88a8) {
            ethertype = u16_at(bytes, l3 + 2)?;
            l3 += 4;
        }
    }
    let headers = match ethertype {
        0x0800 => ipv4(bytes, l3)?,
        0x86dd => ipv6(bytes, l3)?,
        _other => return None,
    };
    (headers.l4 <= headers.end && headers.end <= bytes.len()).then_some(headers)
}

fn ipv4(bytes: &[u8], l3: usize) -> Option<Headers> {
    let first = *bytes.get(l3)?;
    let header_len = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || header_len < 20 {
        return None;
    }
    Some(Headers {
        l3,
        l4: l3 + header_len,
        end: l3 + usize::from(u16_at(bytes, l3 + 2)?),
        version: Version::V4,
        protocol: *bytes.get(l3 + 9)?,
    })
}

fn ipv6(bytes: &[u8], l3: usize) -> Option<Headers> {
    if *bytes.get(l3)? >> 4 != 6 {
        return None;
    }
    let end = l3 + 40 + usize::from(u16_at(bytes, l3 + 4)?);
    let mut protocol = *bytes.get(l3 + 6)?;
    let mut l4 = l3 + 40;
    // Hop-by-hop, routing and destination options (RFC 8200, 4): each at least 8 bytes, so this
    // ends.
    while matches!(protocol, 0 | 43 | 60) {
        protocol = *bytes.get(l4)?;
        l4 += (usize::from(*bytes.get(l4 + 1)?) + 1) * 8;
    }
    (protocol != FRAGMENT).then_some(Headers { l3, l4, end, version: Version::V6, protocol })
}

/// The 16-bit field at `at`, in network order.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|field| u16::from_be_bytes(*field))
}

/// The 32-bit field at `at`, in network order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|field| u32::from_be_bytes(*field))
}

/// Writes a field at `at`; nothing where there is no room.
pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(field) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *field = value;
    }
}

/// Sets an IP header's length for a packet that ends at `end`, and, in IPv4, its checksum.
pub(crate) fn put_length(bytes: &mut [u8], headers: &Headers, end: usize) {
    let from = match headers.version {
        Version::V4 => headers.l3,
        Version::V6 => headers.l3 + 40,
    };
    let length = u16::try_from(end.saturating_sub(from)).unwrap_or(u16::MAX).to_be_bytes();
    match headers.version {
        Version::V6 => put(bytes, headers.l3 + 4, length),
        Version::V4 => {
            put(bytes, headers.l3 + 2, length);
            put_header_checksum(bytes, headers.l3, headers.l4);
        }
    }
}

/// Computes the checksum of the IPv4 header from `l3` to `l4`.
pub(crate) fn put_header_checksum(bytes: &mut [u8], l3: usize, l4: usize) {
    put(bytes, l3 + 10, [0, 0]);
    let sum = super::checksum::sum(bytes.get(l3..l4).unwrap_or(&[]));
    put(bytes, l3 + 10, (!sum).to_be_bytes());
}

/// The sum of the pseudo-header (RFC 793, 3.1; RFC 8200, 8.1) for an L4 packet of `l4_len` bytes.
pub(crate) fn pseudo_sum(bytes: &[u8], headers: &Headers, l4_len: u16) -> u16 {
    let addresses = match headers.version {
        Version::V4 => headers.l3 + 12..headers.l3 + 20,
        Version::V6 => headers.l3 + 8..headers.l3 + 40,
    };
    let addresses = super::checksum::sum(bytes.get(addresses).unwrap_or(&[]));
    let rest = super::checksum::add(u16::from(headers.protocol), l4_len);
    super::checksum::add(addresses, rest)
}

/// The fragment header among IPv6's next headers.
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

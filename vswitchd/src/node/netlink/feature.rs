//! Offloads of a link, switched by ethtool's generic netlink family (linux/ethtool_netlink.h).
//!
//! Written by hand over bytes: three attributes are all of it, and the ioctl would need unsafe
//! code.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

/// `GENL_ID_CTRL`: the family that knows the others.
const CONTROL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const ETHTOOL_MSG_FEATURES_SET: u8 = 12;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_WANTED: u16 = 3;
const ETHTOOL_A_HEADER_DEV_NAME: u16 = 2;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;

/// Length of `struct nlmsghdr` and of `struct genlmsghdr`.
const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;

/// Switches one feature of a link in the calling thread's namespace off, by ethtool's name for it,
/// such as `tx-checksum-sctp`.
///
/// # Errors
/// The kernel's errno: EINVAL for a feature it does not know, ENOENT without ethtool's family.
pub(crate) fn switch_off(ifname: &str, feature: &str) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let name = attribute(CTRL_ATTR_FAMILY_NAME, b"ethtool\0");
    let answer = exchange(&socket, CONTROL, CTRL_CMD_GETFAMILY, &name)?;
    let family = find(&answer, CTRL_ATTR_FAMILY_ID)
        .and_then(|value| <[u8; 2]>::try_from(value).ok())
        .map(u16::from_ne_bytes)
        .ok_or_else(|| io::Error::other("the answer names no ethtool family"))?;
    exchange(&socket, family, ETHTOOL_MSG_FEATURES_SET, &features_off(ifname, feature))
        .map(|_answer| ())
}

/// A bit that is named without the flag "value" is to be cleared; bits not named stay.
fn features_off(ifname: &str, feature: &str) -> Vec<u8> {
    let mut body = attribute(
        ETHTOOL_A_FEATURES_HEADER | NLA_F_NESTED,
        &attribute(ETHTOOL_A_HEADER_DEV_NAME, &zero_terminated(ifname)),
    );
    let bit = attribute(ETHTOOL_A_BITSET_BIT_NAME, &zero_terminated(feature));
    let bits = attribute(ETHTOOL_A_BITSET_BITS_BIT | NLA_F_NESTED, &bit);
    let set = attribute(ETHTOOL_A_BITSET_BITS | NLA_F_NESTED, &bits);
    body.extend(attribute(ETHTOOL_A_FEATURES_WANTED | NLA_F_NESTED, &set));
    body
}

/// Sends one request and gives back the attributes of its answer, which are empty where there is
/// only an acknowledgment.
fn exchange(socket: &Socket, family: u16, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
    let length =
        u32::try_from(HEADER + GENERIC_HEADER + attributes.len()).map_err(io::Error::other)?;
    let mut request = Vec::new();
    request.extend(length.to_ne_bytes());
    request.extend(family.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    // Sequence and port number: one request at a time on a socket of its own.
    request.extend([0; 8]);
    request.extend([command, 1, 0, 0]); // version 1
    request.extend(attributes);
    socket.send(&request, 0)?;
    let mut answer = Vec::new();
    loop {
        let mut bytes = Vec::with_capacity(super::RECEIVE_BUFFER);
        socket.recv(&mut bytes, 0)?;
        let mut rest = bytes.as_slice();
        while let Some((length, kind)) = u32_at(rest, 0).zip(u16_at(rest, 4)) {
            let (message, after) = super::split_message(rest, length)?;
            rest = after;
            if kind != NLMSG_ERROR {
                answer = message.get(HEADER + GENERIC_HEADER..).unwrap_or_default().to_vec();
                continue;
            }
            let code = u32_at(message, HEADER).unwrap_or(0).cast_signed();
            return if code == 0 {
                Ok(answer)
            } else {
                Err(io::Error::from_raw_os_error(code.wrapping_neg()))
            };
        }
    }
}

/// One attribute with its header, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    // Values here are names of at most a few dozen bytes.
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::from(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The value of the first attribute of that kind.
fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let found = u16_at(attributes, 2)?;
        let value = attributes.get(4..length)?;
        if found == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn zero_terminated(text: &str) -> Vec<u8> {
    let mut bytes = Vec::from(text.as_bytes());
    bytes.push(0);
    bytes
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..offset + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_padding_and_cut_ones_are_not() {
        let mut bytes = attribute(1, b"abcde");
        bytes.extend(attribute(2, b"xy"));
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(find(&bytes, 2), Some(b"xy".as_slice()));
        assert_eq!(find(&bytes, 3), None);
        for cut in 0..14 {
            assert_eq!(find(&bytes[..cut], 2), None, "cut at {cut}");
        }
        assert_eq!(find(&[0; 8], 2), None, "an attribute of length 0 does not end in a loop");
    }
}

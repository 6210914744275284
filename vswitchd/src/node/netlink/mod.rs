//! A small synchronous rtnetlink client.
//!
//! One socket, one request at a time. The socket belongs to the network namespace of the thread
//! that opened it, so a [`Netlink`] is opened inside [`super::netns::within`]. No tokio: the
//! parent process has none.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "attributes of the kernel are an open set, of which we read some"
)]

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use smoltcp::wire::{IpAddress, IpCidr};

use super::NodeError;

pub(crate) mod address;
pub(crate) mod feature;
pub(crate) mod link;
pub(crate) mod monitor;
pub(crate) mod neighbor;
pub(crate) mod route;
pub(crate) mod rule;

/// Marks routes and rules as ours (`proto 104` in `ip route`): an unassigned number, `h` in ASCII.
pub(crate) const PROTOCOL: u8 = 104;

/// More than any message of the kernel: dumps come in pieces of at most 32 KiB.
const RECEIVE_BUFFER: usize = 64 << 10;

/// A dump that other changes keep interrupting is asked for anew at most this often.
const DUMP_ATTEMPTS: u32 = 16;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Of an address.
    pub(crate) fn of(address: &IpAddress) -> Self {
        match address {
            IpAddress::Ipv4(_) => Self::V4,
            IpAddress::Ipv6(_) => Self::V6,
        }
    }

    /// `0.0.0.0/0` or `::/0`.
    pub(crate) fn everything(self) -> IpCidr {
        match self {
            Self::V4 => IpCidr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0),
            Self::V6 => IpCidr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), 0),
        }
    }

    /// Bits of an address.
    pub(crate) fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    fn code(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }

    fn from_code(code: AddressFamily) -> Option<Self> {
        if code == AddressFamily::Inet {
            Some(Self::V4)
        } else if code == AddressFamily::Inet6 {
            Some(Self::V6)
        } else {
            None
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A prefix with the bits behind its length cleared, as the kernel keeps destinations.
pub(crate) fn network(cidr: &IpCidr) -> IpCidr {
    match cidr {
        IpCidr::Ipv4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(v4.prefix_len())).unwrap_or(0);
            let bits = u32::from(v4.address()) & mask;
            IpCidr::new(IpAddress::Ipv4(bits.into()), v4.prefix_len())
        }
        IpCidr::Ipv6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(v6.prefix_len())).unwrap_or(0);
            let bits = u128::from(v6.address()) & mask;
            IpCidr::new(IpAddress::Ipv6(bits.into()), v6.prefix_len())
        }
    }
}

/// A socket to rtnetlink.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn open() -> Result<Self, NodeError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(Self { socket, sequence: 0 })
        };
        open().map_err(|source| NodeError::Kernel {
            doing: "cannot open a netlink socket".to_owned(),
            source,
        })
    }

    /// Sends a change and waits for its acknowledgment.
    fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(message, flags | NLM_F_ACK)?;
        // The acknowledgment is an error message with code 0, which ends the reading.
        self.receive(&mut |_| {}).map(|_complete| ())
    }

    /// Asks for one object.
    fn get(&mut self, message: RouteNetlinkMessage) -> io::Result<Option<RouteNetlinkMessage>> {
        let mut found = None;
        self.send(message, NLM_F_ACK)?;
        self.receive(&mut |message| found = Some(message))?;
        Ok(found)
    }

    /// Asks for all objects of a kind, again when they changed underway.
    fn dump(&mut self, message: &RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut all = Vec::new();
            self.send(message.clone(), NLM_F_DUMP)?;
            if self.receive(&mut |message| all.push(message))? {
                return Ok(all);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::Interrupted,
            "the kernel's tables change faster than they can be read",
        ))
    }

    /// As [`Netlink::dump`], of what the request's attributes ask for alone: without strictness the
    /// kernel passes over them.
    fn dump_strictly(
        &mut self,
        message: &RouteNetlinkMessage,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.socket.set_netlink_get_strict_chk(true)?;
        let all = self.dump(message);
        self.socket.set_netlink_get_strict_chk(false)?;
        all
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(|_sent| ())
    }

    /// Reads answers to the last request to their end. False: a dump was interrupted and is not
    /// consistent.
    fn receive(&self, each: &mut dyn FnMut(RouteNetlinkMessage)) -> io::Result<bool> {
        let mut consistent = true;
        loop {
            let mut bytes = Vec::with_capacity(RECEIVE_BUFFER);
            self.socket.recv(&mut bytes, 0)?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let length = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?.length();
                let (one, after) = split_message(rest, length)?;
                rest = after;
                // Whatever we neither make nor look for may have attributes our decoder does not
                // know; only strangers' objects can be skipped by this, since it
                // decodes its own encoding.
                let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) else {
                    continue;
                };
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                consistent &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => each(inner),
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    NetlinkPayload::Done(_) => return Ok(consistent),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(consistent),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }
}

/// One message and what follows it; messages begin at multiples of four bytes.
fn split_message(bytes: &[u8], length: u32) -> io::Result<(&[u8], &[u8])> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let one =
        bytes.get(..length).ok_or_else(|| io::Error::other("a netlink message is cut off"))?;
    Ok((one, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// Gives an error of the kernel its sentence.
fn doing<T>(result: io::Result<T>, what: impl FnOnce() -> String) -> Result<T, NodeError> {
    result.map_err(|source| NodeError::Kernel { doing: what(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_loses_the_bits_behind_its_length() {
        for (given, wanted) in [
            ("10.1.2.3/24", "10.1.2.0/24"),
            ("10.1.2.3/32", "10.1.2.3/32"),
            ("10.1.2.3/0", "0.0.0.0/0"),
            ("fd00::1:2/64", "fd00::/64"),
            ("fd00::1/128", "fd00::1/128"),
            ("fd00::1/0", "::/0"),
        ] {
            assert_eq!(network(&given.parse().unwrap()), wanted.parse().unwrap(), "{given}");
        }
    }

    #[test]
    fn a_message_that_claims_more_than_there_is_is_an_error() {
        split_message(&[0; 16], 20).unwrap_err();
        let (one, rest) = split_message(&[0; 24], 17).unwrap();
        assert_eq!((one.len(), rest.len()), (17, 4));
    }
}

//! What the kernel dropped on its way into a TAP: the netdev's `tx_dropped`, asked over netlink.
//!
//! The netdev lives in the pod's network namespace and the event loop's thread does not. A socket
//! belongs to the namespace it was made in, whoever uses it later, so one is made beside the TAP
//! and kept. It pins the namespace no more than the TAP's own descriptor does.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    socket,
};

/// Asks one device's counters.
#[derive(Debug)]
pub(crate) struct LossMeter {
    socket: OwnedFd,
    ifindex: u32,
    sequence: u32,
    /// `tx_dropped` when the device was opened: a persistent TAP has a past.
    before: u64,
    reply: Vec<u8>,
}

impl LossMeter {
    /// A meter of the device `ifindex` in the calling thread's network namespace, at zero.
    ///
    /// # Errors
    /// The kernel's, when it has no netlink socket for us or does not know the device.
    pub(crate) fn new(ifindex: u32) -> io::Result<Self> {
        // The kernel answers inside of the send call, so an answer that is not there will not come.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let mut meter = Self::from_parts(socket, ifindex, 0);
        meter.before = meter.tx_dropped()?;
        Ok(meter)
    }

    /// A meter as another process made it.
    pub(super) fn from_parts(socket: OwnedFd, ifindex: u32, before: u64) -> Self {
        // Numbered apart from the questions of a process that ended over one of them.
        let sequence = std::process::id().rotate_left(16);
        Self { socket, ifindex, sequence, before, reply: vec![0; REPLY_LEN_MAX] }
    }

    /// Its socket, the device's number, and where it began to count.
    pub(super) fn into_parts(self) -> (OwnedFd, u32, u64) {
        (self.socket, self.ifindex, self.before)
    }

    /// Frames lost since [`LossMeter::new`].
    ///
    /// # Errors
    /// The kernel's; ENODEV when the device is gone.
    pub(crate) fn lost(&mut self) -> io::Result<u64> {
        // Saturating: should the device have been replaced under its index, "none" is the honest
        // answer.
        Ok(self.tx_dropped()?.saturating_sub(self.before))
    }

    fn tx_dropped(&mut self) -> io::Result<u64> {
        self.sequence = self.sequence.wrapping_add(1);
        let fd = self.socket.as_raw_fd();
        send(fd, &request(self.ifindex, self.sequence), MsgFlags::empty())?;
        // Answers to questions that were given up, by a process that ended over them too, lie
        // before ours.
        loop {
            let read = recv(fd, &mut self.reply, MsgFlags::empty())?;
            let reply = self.reply.get(..read).unwrap_or_default();
            if field_u32(reply, 8) == Some(self.sequence) {
                return parse(reply);
            }
        }
    }
}

/// `RTM_GETSTATS` (rtnetlink(7)) for the 64-bit counters of one device: cheaper than `RTM_GETLINK`,
/// whose answer describes all of the device.
fn request(ifindex: u32, sequence: u32) -> [u8; REQUEST_LEN] {
    let mut request = [0; REQUEST_LEN];
    let words = [
        28,                                        // nlmsg_len
        u32::from(RTM_GETSTATS) | (REQUEST << 16), // nlmsg_type, nlmsg_flags
        sequence,
        0,             // nlmsg_pid: the kernel fills it in
        0,             // if_stats_msg: family, padding
        ifindex,       // if_stats_msg: ifindex
        FILTER_LINK64, // if_stats_msg: filter_mask
    ];
    for (field, word) in request.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *field = word.to_ne_bytes();
    }
    request
}

/// The counter out of an answer: an error, or `RTM_NEWSTATS` with one attribute,
/// `rtnl_link_stats64`.
fn parse(reply: &[u8]) -> io::Result<u64> {
    let malformed =
        || io::Error::new(io::ErrorKind::InvalidData, "malformed netlink answer to RTM_GETSTATS");
    let kind = field_u32(reply, 4).ok_or_else(malformed)? & 0xffff;
    if kind == NLMSG_ERROR {
        let errno = field_u32(reply, 16).ok_or_else(malformed)?.cast_signed();
        return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
    }
    let attribute = field_u32(reply, 28).ok_or_else(malformed)? >> 16;
    if kind != u32::from(RTM_NEWSTATS) || attribute != IFLA_STATS_LINK_64 {
        return Err(malformed());
    }
    reply
        .get(COUNTERS + TX_DROPPED * 8..)
        .and_then(|rest| rest.first_chunk())
        .map(|field| u64::from_ne_bytes(*field))
        .ok_or_else(malformed)
}

fn field_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|field| u32::from_ne_bytes(*field))
}

const RTM_NEWSTATS: u16 = 92;
const RTM_GETSTATS: u16 = 94;
const REQUEST: u32 = 1; // NLM_F_REQUEST
const NLMSG_ERROR: u32 = 2;
const IFLA_STATS_LINK_64: u32 = 1;
const FILTER_LINK64: u32 = 1 << (IFLA_STATS_LINK_64 - 1);
/// nlmsghdr (16 bytes) and if_stats_msg (12).
const REQUEST_LEN: usize = 28;
/// Where the counters begin: after the two headers and the attribute's own.
const COUNTERS: usize = REQUEST_LEN + 4;
/// Place of `tx_dropped` among the counters.
const TX_DROPPED: usize = 7;
/// An answer has about 250 bytes.
const REPLY_LEN_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_counters_and_a_stranger_has_not() {
        // Reading counters needs no privileges; index 1 is the loopback device of every namespace.
        let mut meter = LossMeter::new(1).unwrap();
        assert_eq!(meter.lost().unwrap(), 0);
        let refused = LossMeter::new(0x7fff_0000).err().unwrap();
        assert_eq!(refused.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn the_counter_is_read_from_its_place() {
        let mut reply = request(7, 9).to_vec();
        reply[4] = 92;
        reply.extend_from_slice(&[204, 0, 1, 0]);
        for counter in 0..24_u64 {
            reply.extend_from_slice(&(counter * 1000).to_ne_bytes());
        }
        assert_eq!(parse(&reply).unwrap(), 7000);
        for cut in 0..COUNTERS + 64 {
            assert!(parse(&reply[..cut]).is_err(), "cut at {cut}");
        }
    }
}

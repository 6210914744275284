//! The node's end of a veth pair, read and written by an AF_PACKET socket: for pods that must keep
//! a veth.
//!
//! Frames come with a virtio-net header of ten bytes, so super-frames and partial checksums pass as
//! they do with a TAP. The socket gets *copies*: that the node's own stack ignores what comes in by
//! the interface is the business of whoever made it. At the pod's end SCTP checksums and tunnel
//! segmentation have to be off, since a virtio-net header cannot describe them.

#![expect(unsafe_code, reason = "packet sockets' options, recvmsg with a control buffer")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, sockopt};
use stack::{Checksum, Frame};

use super::parts::Description;
use super::{Capabilities, Losses, Parts, Pool, PortIo, vnet};

/// Reads of one call that may end without a frame: as many as frames in a port's turn.
const ATTEMPTS_MAX: usize = 64;

/// A packet socket bound to one interface of the network namespace it was made in.
#[derive(Debug)]
pub struct PacketPort {
    socket: OwnedFd,
    udp_gso: bool,
    control: Control,
    /// The kernel's count starts anew at each question; this is their sum.
    dropped: u64,
    /// Frames whose header says what [`stack::Offload`] cannot, and such as were cut.
    refused: u64,
}

impl PacketPort {
    /// Opens the interface `name` of the calling thread's network namespace. It may be down still.
    ///
    /// # Errors
    /// Says what failed; `NotFound` when there is no such interface.
    pub fn open(name: &str) -> io::Result<Self> {
        let index = if_nametoindex(name).map_err(|_absent| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("cannot open the interface {name}: there is none of this name"),
            )
        })?;
        Self::open_index(index).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot open the interface {name}: {error}"))
        })
    }

    fn open_index(index: libc::c_uint) -> io::Result<Self> {
        // Without a protocol the socket gets nothing before it is bound to its interface.
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket::socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        let index = libc::c_int::try_from(index).map_err(io::Error::other)?;
        for option in [libc::PACKET_VNET_HDR, libc::PACKET_AUXDATA, libc::PACKET_IGNORE_OUTGOING] {
            set_option::<libc::c_int>(&socket, option, &1)?;
        }
        // Forced past rmem_max, which needs CAP_NET_ADMIN, as making interfaces does.
        socket::setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        bind(&socket, index)?;
        let everything = libc::packet_mreq {
            mr_ifindex: index,
            mr_type: PROMISCUOUS,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set_option(&socket, libc::PACKET_ADD_MEMBERSHIP, &everything)?;
        // An interface that is down leaves an error behind, which is no error of the port.
        socket::getsockopt(&socket, sockopt::SocketError)?;
        let udp_gso = std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .is_ok_and(|release| knows_udp_gso(&release));
        Ok(Self::from_parts(socket, udp_gso))
    }

    /// A packet socket as another process opened it.
    pub(super) fn from_parts(socket: OwnedFd, udp_gso: bool) -> Self {
        let control = Control([0; CONTROL_LEN]);
        Self { socket, udp_gso, control, dropped: 0, refused: 0 }
    }

    /// A port over any socket that gives datagrams.
    #[cfg(test)]
    pub(super) fn over(socket: OwnedFd) -> Self {
        let control = Control([0; CONTROL_LEN]);
        Self { socket, udp_gso: false, control, dropped: 0, refused: 0 }
    }

    /// Frames that were read and could not be carried.
    #[cfg(test)]
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// One recvmsg into the frame's buffer. Bytes of header and frame together, or `None` if it was
    /// cut.
    fn receive_into(&mut self, frame: &mut Frame) -> io::Result<Option<usize>> {
        let buffer = frame.with_front_mut(vnet::LEN);
        let mut piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        self.control = Control([0; CONTROL_LEN]);
        // SAFETY: a msghdr is plain pointers and numbers, for which zero is valid.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut self.control).cast();
        message.msg_controllen = CONTROL_LEN;
        // SAFETY: the message points to one piece of memory and to the control buffer, both
        // writable for the lengths given and alive through the call.
        let read = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        let read = usize::try_from(Errno::result(read)?).map_err(io::Error::other)?;
        Ok((message.msg_flags & libc::MSG_TRUNC == 0).then_some(read))
    }
}

impl PortIo for PacketPort {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn receive(&mut self, pool: &mut Pool) -> io::Result<Option<Frame>> {
        let mut frame = pool.take();
        let mut failed = Ok(None);
        // A sender of nothing but what cannot be carried has its turn as others have: whoever polls
        // finds the rest still there.
        for _ in 0..ATTEMPTS_MAX {
            match self.receive_into(&mut frame) {
                Ok(Some(read)) if finish(&mut frame, read, &self.control) => {
                    return Ok(Some(frame));
                }
                Ok(_strange) => self.refused += 1,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // The kernel found no words for the frame either, such as SCTP GSO, and has
                    // dropped it.
                    Some(libc::EINVAL) => self.refused += 1,
                    // Down, which passes, or gone. Said once.
                    Some(libc::ENETDOWN) if is_bound(&self.socket) => {}
                    Some(libc::ENETDOWN) => {
                        failed = Err(Errno::ENODEV.into());
                        break;
                    }
                    Some(libc::EAGAIN) => break,
                    _broken => {
                        failed = Err(error);
                        break;
                    }
                },
            }
        }
        pool.give(frame);
        failed
    }

    fn transmit(&mut self, frame: &mut Frame) -> io::Result<()> {
        let bytes =
            vnet::prefix::<{ vnet::LEN }>(frame).ok_or_else(|| io::Error::from(Errno::ENOBUFS))?;
        loop {
            match socket::send(self.socket.as_raw_fd(), bytes, MsgFlags::empty()) {
                // A packet socket takes a frame whole or not at all.
                Ok(_written) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { checksum: true, tcp_gso: true, udp_gso: self.udp_gso }
    }

    fn losses(&mut self) -> io::Result<Losses> {
        // SAFETY: tpacket_stats is two numbers, for which zero is valid.
        let mut stats: libc::tpacket_stats = unsafe { std::mem::zeroed() };
        let mut len = option_len::<libc::tpacket_stats>();
        // SAFETY: the kernel writes at most `len` bytes, the size of the statistics.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut len,
            )
        };
        Errno::result(result)?;
        self.dropped += u64::from(stats.tp_drops);
        Ok(Losses { frames: self.dropped + self.refused })
    }

    fn into_parts(self: Box<Self>) -> io::Result<Parts> {
        let Self { socket, udp_gso, control: _, dropped: _, refused: _ } = *self;
        Ok(Parts { description: Description::Packet { udp_gso }, descriptors: vec![socket] })
    }
}

/// Whether a packet socket's interface still exists: the socket loses its address with it.
pub(super) fn is_bound(socket: &OwnedFd) -> bool {
    // SAFETY: a sockaddr_ll is plain bytes, for which zero is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut len = SOCKADDR_LEN;
    let fd = socket.as_raw_fd();
    // SAFETY: the kernel writes at most `len` bytes, the size of the address.
    let result = unsafe { libc::getsockname(fd, (&raw mut address).cast(), &raw mut len) };
    result == 0 && address.sll_ifindex > 0
}

/// Makes of `read` bytes before and in the frame's buffer a frame. Whether that was possible.
fn finish(frame: &mut Frame, read: usize, control: &Control) -> bool {
    let header = frame.with_front_mut(vnet::LEN).get(..vnet::LEN.min(read));
    let Some(mut offload) = header.and_then(vnet::decode) else { return false };
    let len = read.saturating_sub(vnet::LEN);
    frame.set_len(len);
    if let Some(tag) = control.stripped_tag()
        && len >= MACS
    {
        frame.set_len(len + tag.len());
        let bytes = frame.bytes_mut();
        bytes.copy_within(MACS..len, MACS + tag.len());
        if let Some(field) = bytes.get_mut(MACS..).and_then(|rest| rest.first_chunk_mut()) {
            *field = tag;
        }
        if let Checksum::Partial { start, .. } = &mut offload.checksum {
            *start = start.saturating_add(4);
        }
    }
    frame.set_offload(offload);
    true
}

/// The control buffer: room for one message, aligned as the kernel's cmsghdr.
#[derive(Debug)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

impl Control {
    /// The VLAN tag that the kernel took out of the frame (struct tpacket_auxdata of
    /// linux/if_packet.h).
    fn stripped_tag(&self) -> Option<[u8; 4]> {
        let number = |at: usize| {
            self.0.get(at..)?.first_chunk().map(|field| libc::c_int::from_ne_bytes(*field))
        };
        let level_and_kind = (number(8)?, number(12)?);
        let status = number(AUXDATA)?.cast_unsigned();
        if level_and_kind != (libc::SOL_PACKET, libc::PACKET_AUXDATA)
            || status & libc::TP_STATUS_VLAN_VALID == 0
        {
            return None;
        }
        let [tci_low, tci_high, tpid_low, tpid_high] =
            *self.0.get(AUXDATA + 16..)?.first_chunk()?;
        let tpid = match status & libc::TP_STATUS_VLAN_TPID_VALID {
            0 => 0x8100,
            _valid => u16::from_ne_bytes([tpid_low, tpid_high]),
        };
        let ([a, b], [c, d]) =
            (tpid.to_be_bytes(), u16::from_ne_bytes([tci_low, tci_high]).to_be_bytes());
        Some([a, b, c, d])
    }
}

fn bind(socket: &OwnedFd, index: libc::c_int) -> io::Result<()> {
    // SAFETY: a sockaddr_ll is plain bytes, for which zero is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?.to_be();
    address.sll_ifindex = index;
    // SAFETY: the address lives through the call and has the size given.
    let result =
        unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), SOCKADDR_LEN) };
    Errno::result(result)?;
    Ok(())
}

/// Sets an option of level SOL_PACKET whose value in the kernel is a `T`.
fn set_option<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    let value: *const T = value;
    // SAFETY: the value lives through the call and has the size given.
    let result =
        unsafe { libc::setsockopt(fd, libc::SOL_PACKET, option, value.cast(), option_len::<T>()) };
    Errno::result(result)?;
    Ok(())
}

/// Whether a kernel of this release has USO in its virtio-net header, which there is no way to ask.
fn knows_udp_gso(release: &str) -> bool {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(2))
}

#[expect(clippy::cast_possible_truncation, reason = "sizes of the kernel's small structures")]
const fn option_len<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

const SOCKADDR_LEN: libc::socklen_t = option_len::<libc::sockaddr_ll>();
#[expect(clippy::cast_possible_truncation, reason = "the constant is 1; the field has 16 bits")]
const PROMISCUOUS: libc::c_ushort = libc::PACKET_MR_PROMISC as libc::c_ushort;
/// What waits for the switch at most, in bytes of kernel memory: about a hundred super-frames or
/// ten thousand small frames.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Both MACs: a tag goes behind them.
const MACS: usize = 12;
/// Where the auxiliary data begins in the control buffer: after a cmsghdr.
const AUXDATA: usize = 16;
/// A cmsghdr and a tpacket_auxdata of 20 bytes, rounded up to eight.
const CONTROL_LEN: usize = 40;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_gso_came_with_6_2() {
        for (release, known) in [
            ("6.2.0\n", true),
            ("6.18.44-fc-v595", true),
            ("7.0-rc1", true),
            ("6.1.0-28-amd64", false),
            ("5.15.0", false),
            ("", false),
        ] {
            assert_eq!(knows_udp_gso(release), known, "{release:?}");
        }
    }

    #[test]
    fn a_stripped_tag_is_put_back() {
        let mut control = Control([0; CONTROL_LEN]);
        assert_eq!(control.stripped_tag(), None);
        control.0[8..12].copy_from_slice(&libc::SOL_PACKET.to_ne_bytes());
        control.0[12..16].copy_from_slice(&libc::PACKET_AUXDATA.to_ne_bytes());
        assert_eq!(control.stripped_tag(), None);
        let status = libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID;
        control.0[16..20].copy_from_slice(&status.to_ne_bytes());
        control.0[32..34].copy_from_slice(&0x6005_u16.to_ne_bytes());
        control.0[34..36].copy_from_slice(&0x88a8_u16.to_ne_bytes());
        let mut frame = Frame::with_capacity(100);
        frame.set_len(20);
        frame.bytes_mut().copy_from_slice(&[
            0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
        ]);
        frame.with_front_mut(vnet::LEN)[..vnet::LEN]
            .copy_from_slice(&[1, 0, 0, 0, 0, 0, 14, 0, 6, 0]);
        assert!(finish(&mut frame, vnet::LEN + 20, &control));
        assert_eq!(
            frame.bytes(),
            [
                0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0x88, 0xa8, 0x60, 5, 12, 13, 14, 15, 16, 17,
                18, 19
            ]
        );
        assert_eq!(frame.offload().checksum, Checksum::Partial { start: 18, offset: 6 });
    }
}

//! Copies of ICMP and ICMPv6 packets to the node's own addresses, as frames of the node's port.
//!
//! ICMP has no L4 ports by which the kernel could divert what belongs to the switch, so the node
//! keeps its own and the switch is given copies: of echo replies and errors, which may be about
//! what was sent in the node's name. They are read only. What is no business of the switch is
//! dropped there.
//!
//! What came by the node's port is left out, by a filter in the kernel: the switch has seen it, and
//! a pod that floods the node must not push others' copies out of the socket's queue.

#![expect(unsafe_code, reason = "socket filters and counts have no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType,
    SockaddrIn6, sockopt,
};
use serde::{Deserialize, Serialize};
use smoltcp::wire::{EthernetAddress, IpAddress};
use stack::Frame;
use stack::wire::checksum;

use super::parts::Description;
use super::{Capabilities, Losses, Parts, Pool, PortIo};
use crate::text;

/// Whose frames the copies are made to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copies {
    /// The node's MAC behind its port: the source.
    #[serde(with = "text::mac")]
    pub node: EthernetAddress,
    /// The gateway's: the destination.
    #[serde(with = "text::mac")]
    pub gateway: EthernetAddress,
}

/// A raw socket of the network namespace it was made in.
#[derive(Debug)]
pub struct IcmpPort {
    socket: OwnedFd,
    v6: bool,
    copies: Copies,
    /// Where the kernel puts what the packet's header was, IPv6 only.
    control: Vec<u8>,
    /// Packets that were read and could not be made frames of.
    refused: u64,
}

impl IcmpPort {
    /// Opens a socket in the calling thread's network namespace. It gives nothing before it is told
    /// of which addresses: see [`IcmpPort::limit_to`].
    ///
    /// # Errors
    /// The kernel's; EPERM without CAP_NET_RAW.
    pub fn open(v6: bool, copies: Copies) -> io::Result<Self> {
        let (family, protocol) = match v6 {
            false => (AddressFamily::Inet, SockProtocol::Icmp),
            true => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket::socket(family, SockType::Raw, flags, protocol)?;
        // Until it is told of addresses it would take what anybody sends anywhere.
        attach_filter(&socket, &[statement(RETURN, 0)])?;
        if v6 {
            socket::setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            socket::setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            socket::setsockopt(&socket, sockopt::Ipv6RecvTClass, &true)?;
            set_option(&socket, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &blocked_v6())?;
        } else {
            set_option(&socket, libc::SOL_RAW, ICMP_FILTER, &[blocked_v4()])?;
        }
        // Forced past rmem_max, which needs CAP_NET_ADMIN, as making interfaces does.
        socket::setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        Ok(Self::from_parts(socket, v6, copies))
    }

    /// A socket as another process opened it.
    pub(super) fn from_parts(socket: OwnedFd, v6: bool, copies: Copies) -> Self {
        let control =
            if v6 { nix::cmsg_space!(libc::in6_pktinfo, libc::c_int, libc::c_int) } else { vec![] };
        Self { socket, v6, copies, control, refused: 0 }
    }

    /// Whether it is for IPv6.
    #[must_use]
    pub fn is_v6(&self) -> bool {
        self.v6
    }

    /// The same socket, whose copies look otherwise from now on.
    #[must_use]
    pub fn again(self, copies: Copies) -> Self {
        Self { copies, ..self }
    }

    /// Gives copies of packets to these addresses, 400 at most, unless they came by the interface
    /// `besides`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn limit_to(&self, addresses: &[IpAddress], besides: u32) -> io::Result<()> {
        attach_filter(&self.socket, &filter(addresses, besides))
    }

    /// One packet into the frame's buffer, behind room for the headers that are missing. Bytes of
    /// all, or `None` if it was cut or is nothing to make a frame of.
    fn receive_into(&mut self, frame: &mut Frame) -> io::Result<Option<usize>> {
        let buffer = frame.with_front_mut(0);
        let headers = ETHERNET + if self.v6 { IPV6 } else { 0 };
        let Some((front, packet)) = buffer.split_at_mut_checked(headers) else {
            return Ok(None);
        };
        let room = packet.len();
        let (ethernet, ipv6) = front.split_at_mut(ETHERNET);
        let read = if self.v6 {
            let (read, header) = receive_v6(&self.socket, packet, &mut self.control)?;
            let Some(header) = header.filter(|_whole| read <= room) else { return Ok(None) };
            ipv6.copy_from_slice(&header);
            read
        } else {
            socket::recv(self.socket.as_raw_fd(), packet, MsgFlags::MSG_TRUNC)?
        };
        if read > room {
            return Ok(None);
        }
        if !self.v6 {
            sum_options(packet);
        }
        let [destination, source] = [self.copies.gateway, self.copies.node];
        let kind = if self.v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        let header = [destination.as_bytes(), source.as_bytes(), &kind].concat();
        ethernet.copy_from_slice(&header);
        Ok(Some(headers + read))
    }
}

impl PortIo for IcmpPort {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn receive(&mut self, pool: &mut Pool) -> io::Result<Option<Frame>> {
        let mut frame = pool.take();
        let mut failed = Ok(None);
        for _ in 0..ATTEMPTS_MAX {
            match self.receive_into(&mut frame) {
                Ok(Some(len)) => {
                    frame.set_len(len);
                    return Ok(Some(frame));
                }
                Ok(None) => self.refused += 1,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        failed = Err(error);
                    }
                    break;
                }
            }
        }
        pool.give(frame);
        failed
    }

    /// Nothing is written: the node's port is where frames go.
    fn transmit(&mut self, _frame: &mut Frame) -> io::Result<()> {
        Err(Errno::EOPNOTSUPP.into())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn losses(&mut self) -> io::Result<Losses> {
        Ok(Losses { frames: u64::from(dropped(&self.socket)?) + self.refused })
    }

    fn into_parts(self: Box<Self>) -> io::Result<Parts> {
        let Self { socket, v6, copies, control: _, refused: _ } = *self;
        Ok(Parts { description: Description::Icmp { v6, copies }, descriptors: vec![socket] })
    }
}

/// Reads one ICMPv6 packet, and makes the IPv6 header that the socket keeps to itself (RFC 8200
/// section 3, without extension headers). `None` when it cannot be known.
fn receive_v6(
    socket: &OwnedFd,
    packet: &mut [u8],
    control: &mut [u8],
) -> io::Result<(usize, Option<[u8; IPV6]>)> {
    let mut pieces = [io::IoSliceMut::new(packet)];
    let got = socket::recvmsg::<SockaddrIn6>(
        socket.as_raw_fd(),
        &mut pieces,
        Some(control),
        MsgFlags::MSG_TRUNC,
    )?;
    let (mut to, mut hop_limit, mut class) = (None, None, 0);
    for message in got.cmsgs()? {
        if let ControlMessageOwned::Ipv6PacketInfo(info) = message {
            to = Some(info.ipi6_addr.s6_addr);
        } else if let ControlMessageOwned::Ipv6HopLimit(number) = message {
            hop_limit = u8::try_from(number).ok();
        } else if let ControlMessageOwned::Ipv6TClass(number) = message {
            class = u8::try_from(number).unwrap_or(0);
        }
    }
    let from = got.address.map(|address| address.ip().octets());
    let header = || {
        let length = u16::try_from(got.bytes).ok()?.to_be_bytes();
        let mut header = [0; IPV6];
        let fields: [&[u8]; 5] = [
            &[0x60 | class >> 4, class << 4, 0, 0],
            &length,
            &[NEXT_HEADER, hop_limit?],
            &from?,
            &to?,
        ];
        header.copy_from_slice(&fields.concat());
        Some(header)
    };
    Ok((got.bytes, header()))
}

/// Sums an IPv4 header with options anew (RFC 791 section 3.1): the kernel has written the node's
/// address into a recorded route, and left the sum as it was.
fn sum_options(packet: &mut [u8]) {
    let words = packet.first().map_or(0, |first| usize::from(first & 0xf));
    let Some(header) = packet.get_mut(..words * 4).filter(|_| words > IPV4_WORDS) else { return };
    if let Some(field) = header.get_mut(IPV4_SUM..IPV4_SUM + 2) {
        field.fill(0);
    }
    let sum = (!checksum::fold(checksum::sum(header))).to_be_bytes();
    if let Some(field) = header.get_mut(IPV4_SUM..IPV4_SUM + 2) {
        field.copy_from_slice(&sum);
    }
}

/// Types that an ICMP socket shall not give, a bit each: all but echo reply, destination
/// unreachable, time exceeded and parameter problem. Source quench is deprecated (RFC 6633). Types
/// above 31 the kernel gives in any case.
fn blocked_v4() -> u32 {
    [0, 3, 11, 12].into_iter().fold(u32::MAX, |bits, kind| bits & !(1 << kind))
}

/// As [`blocked_v4`] for ICMPv6: all but destination unreachable, packet too big, time exceeded,
/// parameter problem, and echo reply.
fn blocked_v6() -> [u32; 8] {
    let mut words = [u32::MAX; 8];
    for kind in [1_usize, 2, 3, 4, 129] {
        if let Some(word) = words.get_mut(kind / 32) {
            *word &= !(1 << (kind % 32));
        }
    }
    words
}

/// Classic BPF (linux/filter.h): what came by the interface goes, what is to one of the addresses
/// stays. The kernel's offsets reach back to the IP header, which an ICMPv6 socket does not give.
fn filter(addresses: &[IpAddress], besides: u32) -> Vec<libc::sock_filter> {
    let interface = (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX).cast_unsigned();
    let mut program = vec![statement(LOAD, interface), jump(besides, 0, 1), statement(RETURN, 0)];
    for address in addresses.iter().take(ADDRESSES_MAX) {
        let (at, bytes) = match address {
            IpAddress::Ipv4(v4) => (16, v4.octets().to_vec()),
            IpAddress::Ipv6(v6) => (24, v6.octets().to_vec()),
        };
        // Two statements a word; a word that differs leads behind the last of them.
        let mut rest = u8::try_from(bytes.len() / 2).unwrap_or(u8::MAX);
        for (word, offset) in bytes.as_chunks::<4>().0.iter().zip((at..).step_by(4)) {
            rest = rest.saturating_sub(2);
            let offset = libc::SKF_NET_OFF.saturating_add(offset).cast_unsigned();
            program.extend([
                statement(LOAD, offset),
                jump(u32::from_be_bytes(*word), 0, rest.saturating_add(1)),
            ]);
        }
        program.push(statement(RETURN, u32::MAX));
    }
    program.push(statement(RETURN, 0));
    program
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or(0), jt: 0, jf: 0, k }
}

/// Goes on `yes` or `no` statements further, as what was loaded is `k` or is not.
fn jump(k: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter { jt: yes, jf: no, ..statement(EQUALS, k) }
}

/// Gives the socket a program that says what it takes, in place of the one it had.
fn attach_filter(socket: &OwnedFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        // The kernel only reads it.
        filter: program.as_ptr().cast_mut(),
    };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &[program])
}

/// Packets for which the socket's queue had no room, since it was opened.
fn dropped(socket: &OwnedFd) -> io::Result<u32> {
    let mut counts = [0_u32; MEMINFO];
    let mut len = len_of(&counts)?;
    // SAFETY: the kernel writes at most `len` bytes, the size of the counts.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            counts.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    Errno::result(result)?;
    let [.., drops] = counts;
    Ok(drops)
}

fn set_option<T>(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &[T],
) -> io::Result<()> {
    let (fd, len) = (socket.as_raw_fd(), len_of(value)?);
    // SAFETY: the value lives through the call and has the size given; what a program for the
    // kernel points to is borrowed by the caller for as long.
    let result = unsafe { libc::setsockopt(fd, level, option, value.as_ptr().cast(), len) };
    Errno::result(result)?;
    Ok(())
}

fn len_of<T>(value: &[T]) -> io::Result<libc::socklen_t> {
    libc::socklen_t::try_from(size_of_val(value)).map_err(io::Error::other)
}

/// Reads of one call that may end without a frame: as many as frames in a port's turn.
const ATTEMPTS_MAX: usize = 64;
/// What waits for the switch at most, in bytes of kernel memory: about a thousand small packets.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Addresses of a filter: nine statements each, of the 4,096 that the kernel takes.
const ADDRESSES_MAX: usize = 400;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Words of an IPv4 header without options, and where in bytes its sum lies.
const IPV4_WORDS: usize = 5;
const IPV4_SUM: usize = 10;
/// Bytes of an IPv6 header.
const IPV6: usize = 40;
/// ICMPv6 among IPv6's next headers.
const NEXT_HEADER: u8 = 58;
/// `ICMP_FILTER` of linux/icmp.h, `ICMPV6_FILTER` of linux/icmpv6.h.
const ICMP_FILTER: libc::c_int = 1;
const ICMPV6_FILTER: libc::c_int = 1;
/// `SK_MEMINFO_DROPS` of linux/sock_diag.h is the ninth number and the last.
const MEMINFO: usize = 9;
const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const EQUALS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

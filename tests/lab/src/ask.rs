//! One question to a server by a socket of a namespace, and how it was answered or refused: the
//! kernel keeps the ICMP error that ended it in the socket's error queue, which tells a reset from
//! a message.

use std::io::{ErrorKind, IoSliceMut, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6, sock_extended_err, sockaddr_in6};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage, bind,
    connect, recvmsg, setsockopt, socket, sockopt,
};

use crate::{Context as _, Namespace, Result};

/// How a question ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The server's words, and from where it was asked.
    Said {
        /// What it said.
        text: String,
        /// The client's own address and port.
        from: SocketAddr,
    },
    /// TCP RST.
    Reset,
    /// An ICMP error.
    Told(Told),
    /// The client's own kernel let it not be sent.
    Forbidden,
    /// Nothing, for as long as the client waited.
    Silence,
}

/// What an ICMP error says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its type.
    pub icmp_type: u8,
    /// Its code.
    pub code: u8,
    /// The MTU, in bytes, of one that says that a packet is too big.
    pub mtu: u32,
    /// Who sent it.
    pub by: IpAddr,
}

/// Asks by TCP from that address and port, or any where they are 0: connects and reads to the end.
///
/// # Errors
/// When the socket fails for reasons of its own.
pub fn tcp(
    from: &Namespace,
    source: SocketAddr,
    to: SocketAddr,
    patience: Duration,
) -> Result<Answer> {
    from.within(|| {
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).context(to)?;
        queue_errors(&fd, to)?;
        // The port may be that of a connection that is just ending.
        setsockopt(&fd, sockopt::ReuseAddr, &true).context(to)?;
        bind(fd.as_raw_fd(), &SockaddrStorage::from(source)).context(source)?;
        let mut stream = TcpStream::from(fd);
        // The time-out of a blocking connect is that of sending.
        stream.set_write_timeout(Some(patience)).context(to)?;
        stream.set_read_timeout(Some(patience)).context(to)?;
        match connect(stream.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) => {}
            Err(Errno::EINPROGRESS | Errno::EAGAIN | Errno::ETIMEDOUT) => {
                return Ok(Answer::Silence);
            }
            Err(Errno::ECONNREFUSED) => return Ok(queued(&stream)?.unwrap_or(Answer::Reset)),
            Err(error) => return queued(&stream)?.map_or_else(|| Err(error).context(to), Ok),
        }
        let from = stream.local_addr().context(to)?;
        let mut text = String::new();
        match stream.read_to_string(&mut text) {
            Ok(_) => Ok(Answer::Said { text, from }),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Answer::Silence),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Answer::Reset),
            Err(error) => Err(error).context(to),
        }
    })?
}

/// Asks by one UDP datagram of that size in bytes, from that address and port, or any where they
/// are 0.
///
/// # Errors
/// When the socket fails for reasons of its own.
pub fn udp(
    from: &Namespace,
    source: SocketAddr,
    to: SocketAddr,
    size: usize,
    patience: Duration,
) -> Result<Answer> {
    from.within(|| {
        let socket = UdpSocket::bind(source).context(source)?;
        queue_errors(&socket, to)?;
        socket.set_read_timeout(Some(patience)).context(to)?;
        socket.connect(to).context(to)?;
        datagram(&socket, size)
    })?
}

/// Any address of that one's family, any port.
pub fn any(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Asks by a UDP socket that is connected already and made known to [`queue_errors`].
///
/// # Errors
/// When the socket fails for reasons of its own.
pub fn datagram(socket: &UdpSocket, size: usize) -> Result<Answer> {
    let from = socket.local_addr().context("socket")?;
    let mut buffer = vec![0; 0xffff];
    let asked = socket.send(&vec![b'?'; size]).and_then(|_| socket.recv(&mut buffer));
    match asked {
        Ok(length) => {
            let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            Ok(Answer::Said { text: text.into_owned(), from })
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Answer::Silence),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Ok(queued(socket)?.unwrap_or(Answer::Forbidden))
        }
        Err(error) => queued(socket)?.map_or_else(|| Err(error).context(from), Ok),
    }
}

/// Has the kernel keep ICMP errors about what this socket sends.
///
/// # Errors
/// The kernel's.
pub fn queue_errors(socket: &impl AsFd, to: SocketAddr) -> Result<()> {
    match to {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4RecvErr, &true).context(to),
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvErr, &true).context(to),
    }
}

/// The ICMP error that the kernel has kept; `None` without one.
fn queued(socket: &impl AsFd) -> Result<Option<Answer>> {
    let mut bytes = [0; 1];
    let mut bytes = [IoSliceMut::new(&mut bytes)];
    let mut control = nix::cmsg_space!(sock_extended_err, sockaddr_in6);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let fd = socket.as_fd().as_raw_fd();
    let message = match recvmsg::<SockaddrStorage>(fd, &mut bytes, Some(&mut control), flags) {
        Ok(message) => message,
        Err(Errno::EAGAIN) => return Ok(None),
        Err(error) => return Err(error).context("error queue"),
    };
    for part in message.cmsgs().context("error queue")? {
        let (error, by): (_, IpAddr) =
            if let ControlMessageOwned::Ipv4RecvErr(error, Some(by)) = part {
                (error, Ipv4Addr::from(u32::from_be(by.sin_addr.s_addr)).into())
            } else if let ControlMessageOwned::Ipv6RecvErr(error, Some(by)) = part {
                (error, Ipv6Addr::from(by.sin6_addr.s6_addr).into())
            } else {
                continue;
            };
        if [SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6].contains(&error.ee_origin) {
            let (icmp_type, code, mtu) = (error.ee_type, error.ee_code, error.ee_info);
            return Ok(Some(Answer::Told(Told { icmp_type, code, mtu, by })));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::run::Run;

    #[test]
    fn a_reset_a_message_and_silence_are_told_apart() {
        let run = Run::join().unwrap();
        let netns = Namespace::new(&run, "ask").unwrap();
        let second = Duration::from_secs(1);
        for address in ["127.0.0.1", "::1"] {
            let address: IpAddr = address.parse().unwrap();
            let to = |l4_port| SocketAddr::new(address, l4_port);
            assert_eq!(tcp(&netns, any(to(0)), to(1), second).unwrap(), Answer::Reset);
            let Answer::Told(told) = udp(&netns, any(to(0)), to(1), 9, second).unwrap() else {
                panic!("nobody listens")
            };
            let expected = if to(1).is_ipv4() { (3, 3) } else { (1, 4) };
            assert_eq!(((told.icmp_type, told.code), told.by), (expected, address));
            let listener = netns.within(|| TcpListener::bind(to(2)).unwrap()).unwrap();
            let mute = netns.within(|| UdpSocket::bind(to(2)).unwrap()).unwrap();
            assert_eq!(tcp(&netns, any(to(0)), to(2), second / 9).unwrap(), Answer::Silence);
            assert_eq!(udp(&netns, any(to(0)), to(2), 9, second / 9).unwrap(), Answer::Silence);
            drop((listener, mute));
        }
    }
}

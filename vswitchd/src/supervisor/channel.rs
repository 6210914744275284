//! Messages with descriptors between the two processes: SOCK_SEQPACKET, so that each is received
//! whole or refused, and nobody has to find out where one ends.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};

/// Bytes of the longest message. Far above what any has: a request names one interface.
pub const MESSAGE_MAX: usize = 512 << 10;
/// Descriptors of one message at most: the sockets and locks of a welcome.
pub const DESCRIPTORS_MAX: usize = 8;
/// What the kernel shall hold of messages on their way: more than the longest one.
const SEND_BUFFER: usize = 4 << 20;

/// One end.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

/// What came.
#[derive(Debug)]
pub enum Received {
    /// A message whole, with its descriptors.
    Message(Vec<u8>, Vec<OwnedFd>),
    /// One that was cut: longer than any, or with more descriptors.
    Oversized,
    /// The other end is closed.
    Ended,
}

impl Channel {
    /// The parent's end, which never waits, and the worker's, which does.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let (ours, theirs) = (Self { socket: ours }, Self { socket: theirs });
        [&ours, &theirs].into_iter().for_each(Self::widen);
        Ok((ours, theirs))
    }

    /// Makes room for the longest message, and for many short ones.
    pub fn widen(&self) {
        // The default would do for nearly all messages.
        if let Err(errno) = setsockopt(&self.socket, sockopt::SndBufForce, &SEND_BUFFER) {
            tracing::debug!(%errno, "a channel keeps its default buffer");
        }
    }

    /// An end that was handed over.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Whether it is an end of a channel at all, and no terminal or file.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        rustix::net::sockopt::socket_type(&self.socket) == Ok(SocketType::SEQPACKET)
    }

    /// What to hand over.
    #[must_use]
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The kernel's: EPIPE when the other end is closed, EAGAIN when it does not read, EMSGSIZE for
    /// too long a message.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.len() > MESSAGE_MAX || descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let pieces = [IoSlice::new(bytes)];
        rustix::io::retry_on_intr(|| {
            sendmsg(&self.socket, &pieces, &mut control, SendFlags::NOSIGNAL)
        })?;
        Ok(())
    }

    /// Receives one message.
    ///
    /// # Errors
    /// The kernel's: EAGAIN at the parent's end when nothing is there.
    pub fn receive(&self) -> io::Result<Received> {
        let mut bytes = vec![0; MESSAGE_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            let mut pieces = [IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            match recvmsg(&self.socket, &mut pieces, &mut control, flags) {
                Err(rustix::io::Errno::INTR) => {}
                // Its end went with unread messages of ours in it. That is told once, before what
                // it had said to us.
                Err(rustix::io::Errno::CONNRESET) => {}
                got => break got?,
            }
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Ok(Received::Oversized);
        }
        if got.bytes == 0 {
            return Ok(Received::Ended);
        }
        bytes.truncate(got.bytes);
        Ok(Received::Message(bytes, descriptors))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_message_comes_whole_with_its_descriptors() {
        let (ours, theirs) = Channel::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        theirs.send(b"hello", &[writer.as_fd()]).unwrap();
        theirs.send(&vec![7; MESSAGE_MAX], &[]).unwrap();
        drop(writer);
        let Received::Message(bytes, descriptors) = ours.receive().unwrap() else { panic!() };
        assert_eq!((bytes.as_slice(), descriptors.len()), (&b"hello"[..], 1));
        let mut writer = std::fs::File::from(descriptors.into_iter().next().unwrap());
        writer.write_all(b"x").unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        assert!(matches!(ours.receive().unwrap(), Received::Message(bytes, _)
            if bytes.len() == MESSAGE_MAX));
        assert_eq!(ours.receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // The last word is heard, although ours was not.
        theirs.send(b"last", &[]).unwrap();
        ours.send(b"unread", &[]).unwrap();
        drop(theirs);
        assert!(matches!(ours.receive().unwrap(), Received::Message(bytes, _) if bytes == b"last"));
        assert!(matches!(ours.receive().unwrap(), Received::Ended));
        let gone = ours.send(b"x", &[]).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::EPIPE));
    }

    #[test]
    fn what_is_too_long_or_brings_too_many_descriptors_is_dropped_whole() {
        let (ours, theirs) = Channel::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        // Past our own sender's bounds, as a worker that is not ours any more would.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let many = [writer.as_fd(); 64];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
        let pieces = [IoSlice::new(b"{}")];
        sendmsg(&theirs.socket, &pieces, &mut control, SendFlags::empty()).unwrap();
        let long = vec![b'x'; MESSAGE_MAX + 1];
        let mut nothing = SendAncillaryBuffer::default();
        let pieces = [IoSlice::new(&long)];
        sendmsg(&theirs.socket, &pieces, &mut nothing, SendFlags::empty()).unwrap();
        theirs.send(b"fine", &[]).unwrap();
        assert!(matches!(ours.receive().unwrap(), Received::Oversized));
        assert!(matches!(ours.receive().unwrap(), Received::Oversized));
        assert!(matches!(ours.receive().unwrap(), Received::Message(bytes, _) if bytes == b"fine"));
        // Every descriptor that came along is closed again.
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
    }
}

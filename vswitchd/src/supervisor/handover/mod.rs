//! From one vswitchd to the next: what two parents say to each other over `run-dir/takeover.sock`.
//!
//! ```text
//!   new parent                   old parent                    old worker
//!   Hello            ->          Quiet               ->        lets nobody in
//!                    <-          Holdings, ports     <-        Quiet
//!   its worker follows the journal, or makes an empty switch;
//!   it takes ports back from copies and reads none
//!   Yield            ->          Yield               ->        reads no more, leaves the baton
//!   its worker sees the baton, reads the ports
//!                    <-          Yielded             <-        Yielded
//!   Ready            ->          ends, status 0
//! ```
//!
//! Until it hears `Yield` the old one can go on, and does when the other is gone, or says `Refused`
//! when its own worker is; that may cross a `Yield`, which then counts for nothing. From `Yield` on
//! the new one is answerable; the old one keeps what it has until `Ready`, in case that one ends as
//! well. Who goes on alone waits for the other's worker to end first: no two workers read the
//! ports.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with, sockopt,
};
use serde::{Deserialize, Serialize};

use super::channel::Channel;
use crate::port::parts::Description;

pub(super) mod give;
pub(super) mod take;

/// The socket's name within the run-dir.
pub const SOCKET: &str = "takeover.sock";
/// Version of what is said here. Fields are added without another one.
const VERSION: u32 = 1;
/// Connections that may wait.
const BACKLOG: i32 = 8;

/// A message. Fields that are not known are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Message {
    /// Who wants to take over.
    Hello(Hello),
    /// It may not, and why.
    Refused {
        /// A clause with its mend.
        why: String,
    },
    /// What there is. Locks, workers' lock, `cni.sock`, `admin.sock`, `takeover.sock` and the
    /// worker's process come along.
    Inventory(Inventory),
    /// A pod's port, whose descriptors come along.
    Pod {
        /// Inode of its namespace.
        inode: u64,
        /// Its name there.
        ifname: String,
        /// The node's end.
        host_ifname: String,
        /// The device.
        device: Description,
    },
    /// The node's port, whose descriptors come along.
    Host {
        /// The device.
        device: Description,
    },
    /// A device beside the node's port, which comes before it; its descriptors come along.
    HostSide {
        /// The device.
        device: Description,
    },
    /// The other worker is prepared: the baton and its process come along.
    Yield {
        /// Whether the state is to be left in the baton.
        with_state: bool,
    },
    /// The worker has left the ports.
    Yielded,
    /// The worker has ended, and may have left nothing.
    Ended,
    /// Another worker has the ports: its process comes along.
    Worker,
    /// Pods can be wired.
    Ready,
}

/// What the old one compares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hello {
    /// [`VERSION`].
    form: u32,
    /// The build, for people.
    build: String,
    /// Its state-dir, without links.
    state_dir: PathBuf,
    /// Its host-port.
    host_port: String,
    /// Its journal-dir, if one is set.
    journal_dir: Option<PathBuf>,
}

/// What the new one must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Inventory {
    /// Process id of the parent.
    parent: u32,
    /// That of the worker.
    worker: u32,
    /// Whose journal it writes ([`crate::recorder::Identity`] as text); `None`: none.
    journal: Option<String>,
    /// Version of its exported state.
    state: u32,
    /// Locks of directories that come along.
    locks: usize,
    /// Messages with a device that follow.
    ports: usize,
}

/// The listening end, non-blocking.
#[derive(Debug)]
pub(super) struct Door {
    socket: OwnedFd,
}

impl Door {
    /// Listens in the run directory. The caller has its lock: a socket that is there is nobody's.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn make(run_dir: &Path) -> io::Result<Self> {
        let path = run_dir.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        bind(&socket, &SocketAddrUnix::new(&path)?)?;
        // The directory keeps others out until the mode is set.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode)?;
        listen(&socket, BACKLOG)?;
        Ok(Self { socket })
    }

    /// Somebody who knocked, if it is root, with its process id.
    ///
    /// # Errors
    /// The kernel's: EAGAIN when nobody has; EACCES for anybody else.
    fn answer(&self) -> io::Result<(Channel, u32)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = accept_with(&self.socket, flags)?;
        let peer = sockopt::socket_peercred(&socket)?;
        if !peer.uid.is_root() {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        let pid = peer.pid.as_raw_nonzero().get().cast_unsigned();
        let channel = Channel::new(socket);
        channel.widen();
        Ok((channel, pid))
    }
}

impl From<OwnedFd> for Door {
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The other's door; `None` when nobody listens there.
fn knock(run_dir: &Path) -> io::Result<Option<Channel>> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let address = SocketAddrUnix::new(run_dir.join(SOCKET))?;
    match connect(&socket, &address) {
        Ok(()) => {}
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    }
    rustix::io::ioctl_fionbio(&socket, true)?;
    let channel = Channel::new(socket);
    channel.widen();
    Ok(Some(channel))
}

/// Whose journal a vswitchd with these settings writes.
fn journal(settings: &crate::settings::Settings) -> Option<String> {
    let identity = crate::recorder::identity().ok()?;
    (settings.journal_size > 0).then(|| identity.to_string())
}

fn say(channel: &Channel, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    channel.send(&super::protocol::encode(message)?, descriptors)
}

/// Whether the process of a pidfd has ended.
pub(super) fn has_ended(process: &OwnedFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut sources = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut sources, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests;

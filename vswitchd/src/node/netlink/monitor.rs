//! Tells that rules have changed, whoever did it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::node::NodeError;

/// `RTNLGRP_IPV4_RULE` and `RTNLGRP_IPV6_RULE` of linux/rtnetlink.h. The groups are quiet: rules
/// hardly ever change on a node.
const GROUPS: [u32; 2] = [8, 19];

/// A socket that is readable when a rule was added or removed.
#[derive(Debug)]
pub(crate) struct RuleMonitor {
    socket: Socket,
}

impl RuleMonitor {
    /// Listens in the calling thread's network namespace, wherever it is read.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn open() -> Result<Self, NodeError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            GROUPS.into_iter().try_for_each(|group| socket.add_membership(group))?;
            socket.set_non_blocking(true)?;
            Ok(Self { socket })
        };
        open().map_err(|source| NodeError::Kernel {
            doing: "cannot listen to changes of rules".to_owned(),
            source,
        })
    }

    /// Forgets what came. What it says does not matter, and neither does what was lost for want of
    /// room: the rules themselves are looked at.
    pub(crate) fn drain(&self) {
        let mut bytes = Vec::with_capacity(ROOM);
        loop {
            bytes.clear();
            match self.socket.recv(&mut bytes, 0) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_empty) => return,
            }
        }
    }
}

impl AsFd for RuleMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// More than a message about a rule has; a longer one would be cut, and told of all the same.
const ROOM: usize = 4 << 10;

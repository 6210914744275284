//! [`Kernel`] by the parent process: one request is one message with its descriptors, one reply is
//! another.
//!
//! The parent is one thread, so requests wait for one another anyway; a mutex makes them do so
//! here.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::preflight::{Check, Wanted};
use super::{HostLink, HostPort, Kernel, Netns, NodeError, PodLink, Problem, Uplink};
use crate::port::parts::Description;
use crate::port::{Parts, PortIo};
use crate::supervisor::channel::{Channel, Received};
use crate::supervisor::protocol::{self, Reply, Request};

/// The worker's way to the node's kernel.
#[derive(Debug)]
pub struct Remote {
    channel: Mutex<Channel>,
}

type Answered = (Reply, Vec<OwnedFd>);

impl Remote {
    /// Asks by this channel.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self { channel: Mutex::new(channel) }
    }

    fn ask(
        &self,
        request: &Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Answered, NodeError> {
        let bytes = protocol::encode(request).map_err(unanswered)?;
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        channel.send(&bytes, descriptor.as_slice()).map_err(unanswered)?;
        match channel.receive().map_err(unanswered)? {
            Received::Message(bytes, descriptors) => {
                let reply = protocol::decode(&bytes).map_err(unanswered)?;
                if let Reply::Failed(failure) = reply {
                    return Err(failure.into());
                }
                Ok((reply, descriptors))
            }
            Received::Oversized => Err(unanswered(strange())),
            Received::Ended => Err(unanswered(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn device(
        &self,
        request: &Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Box<dyn PortIo>, NodeError> {
        match self.ask(request, descriptor)? {
            (Reply::Port(description), descriptors) => {
                Parts { description, descriptors }.open().map_err(unanswered)
            }
            _other => Err(unanswered(strange())),
        }
    }

    fn problems(
        &self,
        request: &Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<Problem>, NodeError> {
        match self.ask(request, descriptor)? {
            (Reply::Problems(problems), _none) => Ok(problems),
            _other => Err(unanswered(strange())),
        }
    }

    fn done(&self, request: &Request, descriptor: Option<BorrowedFd<'_>>) -> Result<(), NodeError> {
        match self.ask(request, descriptor)? {
            (Reply::Done, _none) => Ok(()),
            _other => Err(unanswered(strange())),
        }
    }
}

impl Kernel for Remote {
    fn open_netns(&self, path: &Path) -> Result<Netns, NodeError> {
        match self.ask(&Request::OpenNetns { path: path.to_owned() }, None)? {
            (Reply::Netns { inode }, descriptors) => match descriptors.into_iter().next() {
                Some(descriptor) => Ok(Netns { descriptor, inode, path: path.to_owned() }),
                None => Err(unanswered(strange())),
            },
            _other => Err(unanswered(strange())),
        }
    }

    fn wire(&self, netns: &Netns, link: &PodLink) -> Result<Box<dyn PortIo>, NodeError> {
        let request = Request::Wire { path: netns.path.clone(), link: link.clone() };
        self.device(&request, Some(netns.descriptor.as_fd()))
    }

    fn take_back(&self, netns: &Netns, link: &PodLink) -> Result<Box<dyn PortIo>, NodeError> {
        let request = Request::TakeBack { path: netns.path.clone(), link: link.clone() };
        self.device(&request, Some(netns.descriptor.as_fd()))
    }

    fn unwire(&self, netns: Option<&Netns>, link: &PodLink) -> Result<(), NodeError> {
        let path = netns.map(|netns| netns.path.clone());
        let descriptor = netns.map(|netns| netns.descriptor.as_fd());
        self.done(&Request::Unwire { path, link: link.clone() }, descriptor)
    }

    fn check(&self, netns: &Netns, link: &PodLink) -> Result<Vec<Problem>, NodeError> {
        let request = Request::Check { path: netns.path.clone(), link: link.clone() };
        self.problems(&request, Some(netns.descriptor.as_fd()))
    }

    fn sweep(&self, keep: &BTreeSet<String>) -> Result<Vec<String>, NodeError> {
        match self.ask(&Request::Sweep { keep: keep.clone() }, None)? {
            (Reply::Swept(names), _none) => Ok(names),
            _other => Err(unanswered(strange())),
        }
    }

    fn may_wire_host(&self, link: &HostLink) -> Result<(), NodeError> {
        self.done(&Request::MayWireHost { link: link.clone() }, None)
    }

    fn wire_host(&self, link: &HostLink) -> Result<HostPort, NodeError> {
        match self.ask(&Request::WireHost { link: link.clone() }, None)? {
            (Reply::Host { device, sides }, descriptors) => {
                host_port(device, sides, descriptors).map_err(unanswered)
            }
            _other => Err(unanswered(strange())),
        }
    }

    fn adjust_host(&self, link: &HostLink) -> Result<(), NodeError> {
        self.done(&Request::AdjustHost { link: link.clone() }, None)
    }

    fn check_host(&self, link: &HostLink) -> Result<Vec<Problem>, NodeError> {
        self.problems(&Request::CheckHost { link: link.clone() }, None)
    }

    fn unwire_host(&self, link: &HostLink) -> Result<(), NodeError> {
        self.done(&Request::UnwireHost { link: link.clone() }, None)
    }

    fn uplink(&self, setting: Option<&str>) -> Result<Option<Uplink>, NodeError> {
        let setting = setting.map(ToOwned::to_owned);
        match self.ask(&Request::Uplink { setting }, None)? {
            (Reply::Uplink(uplink), _none) => Ok(uplink),
            _other => Err(unanswered(strange())),
        }
    }

    fn preflight(&self, wanted: &Wanted, uplink: Option<&str>) -> Result<Vec<Check>, NodeError> {
        let uplink = uplink.map(ToOwned::to_owned);
        let request = Request::Preflight { wanted: wanted.clone(), uplink };
        match self.ask(&request, None)? {
            (Reply::Checks(checks), _none) => Ok(checks),
            _other => Err(unanswered(strange())),
        }
    }
}

/// Descriptors come in the order of their devices, as many as each has.
fn host_port(
    device: Description,
    sides: Vec<Description>,
    descriptors: Vec<OwnedFd>,
) -> io::Result<HostPort> {
    let mut rest = descriptors.into_iter();
    let mut open = |description: Description| {
        let descriptors = rest.by_ref().take(description.descriptors()).collect();
        Parts { description, descriptors }.open()
    };
    let device = open(device)?;
    Ok(HostPort { device, sides: sides.into_iter().map(open).collect::<io::Result<_>>()? })
}

fn unanswered(source: io::Error) -> NodeError {
    NodeError::Unanswered { source }
}

fn strange() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer belongs to another question")
}

//! Carries out what the worker asks for, and keeps a copy of every port's descriptors.
//!
//! A kept port is the same device, not a new one: with the copy its carrier stays up and its queue
//! keeps frames while there is no worker, and the next worker reads on where the last one stopped.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::bounds::{self, Bounds};
use super::channel::Received;
use super::protocol::{self, Failure, Reply, Request};
use crate::node::{
    HostHeld as Opened, HostLink, HostPort, Kernel, Linux, Netns, NodeError, PodLink, Problem,
    RuleMonitor,
};
use crate::port::{Parts, PortIo};

/// Ports kept at most: what a switch has, with room for those on their way in and out.
const PORTS_MAX: usize = 2048;

/// The parent's side of `Kernel`.
#[derive(Debug)]
pub struct Keeper {
    linux: Linux,
    bounds: Bounds,
    /// By the inode of the pod's namespace and the interface's name in it.
    pods: BTreeMap<(u64, String), Held>,
    host: Option<HostHeld>,
    /// The node's port as it was asked for last.
    host_link: Option<HostLink>,
}

/// The node's port that is kept.
#[derive(Debug)]
struct HostHeld {
    device: Parts,
    sides: Vec<Parts>,
}

/// A pod's port that is kept.
#[derive(Debug)]
struct Held {
    /// The one name that no other attachment of the node has.
    host_ifname: String,
    parts: Parts,
}

/// A device that is kept, to be handed over.
#[derive(Debug)]
pub struct Kept<'a> {
    /// Whose it is.
    pub owner: Owner<'a>,
    /// The device.
    pub parts: &'a Parts,
}

/// Whose a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// A pod's.
    Pod {
        /// Inode of its namespace.
        inode: u64,
        /// Its name there.
        ifname: &'a str,
        /// The node's end.
        host_ifname: &'a str,
    },
    /// The node's.
    Host,
    /// Beside the node's, which comes before it.
    HostSide,
}

/// A reply with what comes along.
pub type Answer = (Reply, Vec<OwnedFd>);

impl Keeper {
    /// Keeps nothing yet. The bounds are the settings, from which no worker may deviate.
    #[must_use]
    pub fn new(linux: Linux, bounds: Bounds) -> Self {
        let (pods, host, host_link) = (BTreeMap::new(), None, None);
        Self { linux, bounds, pods, host, host_link }
    }

    /// How many ports are kept, the node's own among them.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.pods.len().saturating_add(usize::from(self.host.is_some()))
    }

    /// All that is kept.
    pub fn all(&self) -> impl Iterator<Item = Kept<'_>> {
        let pods = self.pods.iter().map(|((inode, ifname), held)| Kept {
            owner: Owner::Pod { inode: *inode, ifname, host_ifname: &held.host_ifname },
            parts: &held.parts,
        });
        let host = self.host.iter().flat_map(|held| {
            let sides = held.sides.iter().map(|parts| Kept { owner: Owner::HostSide, parts });
            std::iter::once(Kept { owner: Owner::Host, parts: &held.device }).chain(sides)
        });
        pods.chain(host)
    }

    /// Keeps a pod's port that another parent had.
    pub fn keep(&mut self, inode: u64, ifname: String, host_ifname: String, parts: Parts) {
        self.pods.insert((inode, ifname), Held { host_ifname, parts });
    }

    /// Keeps the node's port that another parent had.
    pub fn keep_host(&mut self, device: Parts) {
        self.host = Some(HostHeld { device, sides: Vec::new() });
    }

    /// Keeps a device beside the node's port, that another parent had.
    pub fn keep_host_side(&mut self, parts: Parts) {
        if let Some(held) = &mut self.host {
            held.sides.push(parts);
        }
    }

    /// Whether the node's port was asked for.
    #[must_use]
    pub fn has_host(&self) -> bool {
        self.host_link.is_some()
    }

    /// What differs from the node's port as it was asked for last, all that belongs to it included;
    /// `None` when nobody has asked.
    #[must_use]
    pub fn host_problems(&self) -> Option<Result<Vec<Problem>, NodeError>> {
        self.host_link.as_ref().map(|link| self.linux.check_host(link))
    }

    /// Makes that so again. The device itself is not made anew: its worker would not know.
    ///
    /// # Errors
    /// The kernel's.
    pub fn mend_host(&self) -> Result<(), NodeError> {
        self.host_link.as_ref().map_or(Ok(()), |link| self.linux.adjust_host(link))
    }

    /// Tells when somebody changes rules of the node.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn watch_rules(&self) -> Result<RuleMonitor, NodeError> {
        self.linux.watch_rules()
    }

    /// Answers what came from a worker, whatever it is. Descriptors that came along are closed,
    /// unless they are part of what was asked for.
    pub fn answer(&mut self, bytes: &[u8], descriptors: Vec<OwnedFd>) -> Answer {
        let done = protocol::decode::<Request>(bytes).map_err(|error| error.to_string()).and_then(
            |request| {
                self.bounds.check(&request)?;
                let wanted = bounds::descriptors(&request);
                if descriptors.len() != wanted {
                    return Err(format!("{} descriptors instead of {wanted}", descriptors.len()));
                }
                Ok(request)
            },
        );
        match done {
            Ok(request) => self.carry_out(request, descriptors).unwrap_or_else(failed),
            Err(why) => refused(&why),
        }
    }

    /// As [`Keeper::answer`], for whatever a channel has given.
    pub fn answer_received(&mut self, received: Received) -> Option<Answer> {
        match received {
            Received::Message(bytes, descriptors) => Some(self.answer(&bytes, descriptors)),
            Received::Oversized => Some(refused("the message is longer than any request")),
            Received::Ended => None,
        }
    }

    fn carry_out(
        &mut self,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Answer, NodeError> {
        let descriptor = descriptors.into_iter().next();
        let none = Vec::new();
        Ok(match request {
            Request::OpenNetns { path } => {
                let Netns { descriptor, inode, path: _ } = self.linux.open_netns(&path)?;
                (Reply::Netns { inode }, vec![descriptor])
            }
            Request::Wire { path, link } => {
                let netns = self.adopt(descriptor, &path)?;
                self.room()?;
                let device = self.linux.wire(&netns, &link)?;
                match self.keep_pod(&netns, &link, device) {
                    Ok(answer) => answer,
                    Err(error) => {
                        // Whatever fails, nothing is left behind.
                        self.linux.unwire(Some(&netns), &link)?;
                        return Err(error);
                    }
                }
            }
            Request::TakeBack { path, link } => {
                let netns = self.adopt(descriptor, &path)?;
                self.take_back(&netns, &link)?
            }
            Request::Unwire { path, link } => {
                let netns = path.map(|path| self.adopt(descriptor, &path)).transpose()?;
                self.linux.unwire(netns.as_ref(), &link)?;
                self.forget(netns.as_ref(), &link);
                (Reply::Done, none)
            }
            Request::Check { path, link } => {
                let netns = self.adopt(descriptor, &path)?;
                (Reply::Problems(self.linux.check(&netns, &link)?), none)
            }
            Request::Sweep { keep } => (Reply::Swept(self.linux.sweep(&keep)?), none),
            Request::MayWireHost { link } => {
                self.linux.may_wire_host(&link)?;
                (Reply::Done, none)
            }
            Request::WireHost { link } => self.wire_host(&link)?,
            Request::AdjustHost { link } => {
                // Known first: what cannot be done now is put right later.
                self.host_link = Some(link.clone());
                self.linux.adjust_host(&link)?;
                (Reply::Done, none)
            }
            Request::CheckHost { link } => (Reply::Problems(self.linux.check_host(&link)?), none),
            Request::UnwireHost { link } => {
                self.host_link = None;
                self.linux.unwire_host(&link)?;
                self.host = None;
                (Reply::Done, none)
            }
            Request::Uplink { setting } => {
                (Reply::Uplink(self.linux.uplink(setting.as_deref())?), none)
            }
            Request::Preflight { wanted, uplink } => {
                (Reply::Checks(self.linux.preflight(&wanted, uplink.as_deref())?), none)
            }
        })
    }

    /// The worker's descriptor is looked at as if nobody had before (SEC-21).
    fn adopt(&self, descriptor: Option<OwnedFd>, path: &Path) -> Result<Netns, NodeError> {
        let Some(descriptor) = descriptor else {
            return Err(crossing(io::ErrorKind::InvalidInput.into()));
        };
        self.linux.adopt_netns(descriptor, path)
    }

    fn room(&self) -> Result<(), NodeError> {
        if self.pods.len() < PORTS_MAX {
            return Ok(());
        }
        Err(NodeError::Setting {
            field: "pods".into(),
            why: format!("{PORTS_MAX} interfaces are kept already; remove some pods"),
        })
    }

    /// Gives out one copy and keeps the other.
    fn keep_pod(
        &mut self,
        netns: &Netns,
        link: &PodLink,
        device: Box<dyn PortIo>,
    ) -> Result<Answer, NodeError> {
        let parts = device.into_parts().map_err(crossing)?;
        let copy = parts.try_clone().map_err(crossing)?;
        let host_ifname = link.host_ifname.clone();
        self.pods.insert((netns.inode, link.ifname.clone()), Held { host_ifname, parts });
        Ok((Reply::Port(copy.description), copy.descriptors))
    }

    fn take_back(&mut self, netns: &Netns, link: &PodLink) -> Result<Answer, NodeError> {
        let key = (netns.inode, link.ifname.clone());
        if let Some(held) = self.pods.get(&key)
            && held.host_ifname == link.host_ifname
            && held.parts.serves(&link.ifname)
        {
            let copy = held.parts.try_clone().map_err(crossing)?;
            return Ok((Reply::Port(copy.description), copy.descriptors));
        }
        // Deleted or replaced meanwhile: a copy would only keep the new one from being opened.
        self.pods.remove(&key);
        self.room()?;
        let device = self.linux.take_back(netns, link)?;
        self.keep_pod(netns, link, device)
    }

    /// A namespace that is gone cannot say its inode; then the node's end names the port.
    fn forget(&mut self, netns: Option<&Netns>, link: &PodLink) {
        if let Some(netns) = netns {
            self.pods.remove(&(netns.inode, link.ifname.clone()));
        }
        self.pods.retain(|_, held| held.host_ifname != link.host_ifname);
    }

    fn wire_host(&mut self, link: &HostLink) -> Result<Answer, NodeError> {
        // What follows may fail: the interface stays, and so shall its carrier.
        let held = self.host.take().filter(|held| held.device.serves(&link.ifname));
        let copies = held.as_ref().map(HostHeld::open).transpose();
        self.host = held;
        let copies = copies.map_err(crossing)?.unwrap_or_default();
        let HostPort { device, sides } = self.linux.wire_host_again(link, copies)?;
        // From here on what somebody else changes is put right.
        self.host_link = Some(link.clone());
        let parts = |device: Box<dyn PortIo>| device.into_parts().map_err(crossing);
        let held = HostHeld {
            device: parts(device)?,
            sides: sides.into_iter().map(parts).collect::<Result<_, _>>()?,
        };
        let answer = held.answer();
        self.host = Some(held);
        answer.map_err(crossing)
    }
}

impl HostHeld {
    /// The same devices once more, to be configured.
    fn open(&self) -> io::Result<Opened> {
        let device = self.device.try_clone()?.open_tap()?;
        let sides = self.sides.iter().map(|side| side.try_clone()?.open_icmp());
        Ok(Opened { device: Some(device), icmp: sides.collect::<io::Result<_>>()? })
    }

    /// The same devices once more, to be given out.
    fn answer(&self) -> io::Result<Answer> {
        let device = self.device.try_clone()?;
        let sides = self.sides.iter().map(Parts::try_clone).collect::<io::Result<Vec<_>>>()?;
        let reply = Reply::Host {
            device: device.description,
            sides: sides.iter().map(|side| side.description).collect(),
        };
        let sides = sides.into_iter().flat_map(|side| side.descriptors);
        Ok((reply, device.descriptors.into_iter().chain(sides).collect()))
    }
}

fn failed(error: NodeError) -> Answer {
    (Reply::Failed(Failure::from(error)), Vec::new())
}

fn refused(why: &str) -> Answer {
    tracing::warn!(why, "a request of the worker was refused");
    failed(NodeError::Kernel {
        doing: "the parent process refuses the request".to_owned(),
        source: io::Error::other(why.to_owned()),
    })
}

fn crossing(source: io::Error) -> NodeError {
    NodeError::Kernel { doing: "cannot hand a device to the worker".to_owned(), source }
}

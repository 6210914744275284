//! The node's ends of veth pairs, and the namespace they live in.
//!
//! AF_PACKET reads copies: the kernel's own stack sees every frame of a veth as well, and a pod
//! could send to any socket of the node. So these ends live in a namespace of their own, the
//! switch's, which has no address, no route, a loopback that is down and no socket but the switch's
//! packet sockets: what the stack does with its copy there can reach nobody. It is kept by a mount
//! in the run directory, so that it outlives the daemon, as persistent TAPs do.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::netlink::Netlink;
use super::netlink::link::{Link, LinkChange};
use super::{Netns, NodeError, PodLink, Problem, netns, sysctl};
use crate::port::packet::PacketPort;

/// How the names of these ends begin.
pub const END_PREFIX: &str = "hv";

/// The switch's namespace.
#[derive(Debug)]
pub(crate) struct SwitchNetns {
    path: PathBuf,
    /// Two pods wired at once must not both make it.
    making: Mutex<()>,
}

impl SwitchNetns {
    /// Below the run directory. Nothing is made yet: a node of TAPs needs none.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, making: Mutex::new(()) }
    }

    /// Opens it, making it first where it is missing.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn open_or_make(&self, own: &Netns) -> Result<Netns, NodeError> {
        let _one_at_a_time = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if netns::is_mounted(&self.path) {
            return netns::open(&self.path, own);
        }
        netns::make(&self.path)?;
        let made = netns::open(&self.path, own)
            .and_then(|switch| netns::within(&switch, deafen).map(|()| switch));
        if made.is_err() {
            netns::remove(&self.path)?;
        }
        made
    }

    /// Opens it if it is there.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn open(&self, own: &Netns) -> Result<Option<Netns>, NodeError> {
        if netns::is_mounted(&self.path) {
            netns::open(&self.path, own).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Removes it with all that is in it. Whether it was there.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn remove(&self) -> Result<bool, NodeError> {
        let was_there = self.path.exists();
        netns::remove(&self.path).map(|()| was_there)
    }
}

/// Makes the calling thread's fresh namespace answer nothing. Without addresses it could not
/// anyway; this is the second wall. A new namespace may inherit forwarding from the machine's, so
/// it is switched off by name.
fn deafen() -> Result<(), NodeError> {
    sysctl::write("ipv4/ip_forward", "0")?;
    sysctl::write("ipv4/icmp_echo_ignore_all", "1")?;
    for scope in ["all", "default"] {
        sysctl::write(&sysctl::ipv4(scope, "forwarding"), "0")?;
        sysctl::write(&sysctl::ipv4(scope, "arp_ignore"), "8")?; // answer for no address at all
        if sysctl::has_ipv6() {
            sysctl::write(&sysctl::ipv6(scope, "disable_ipv6"), "1")?;
        }
    }
    Ok(())
}

/// Brings the node's end up and opens it. Runs inside the switch's namespace.
///
/// # Errors
/// The kernel's.
pub(crate) fn open_end(link: &PodLink) -> Result<PacketPort, NodeError> {
    let mut netlink = Netlink::open()?;
    let name = &link.host_ifname;
    let end = netlink.link(name)?.ok_or_else(|| NodeError::Kernel {
        doing: format!("cannot open the node's end {name} of the pod's {}", link.ifname),
        source: std::io::Error::from_raw_os_error(libc::ENODEV),
    })?;
    sysctl::write(&sysctl::ipv4(name, "forwarding"), "0")?;
    if sysctl::has_ipv6() {
        sysctl::write(&sysctl::ipv6(name, "disable_ipv6"), "1")?;
    }
    let change = LinkChange {
        mtu: Some(link.mtu),
        up: Some(true),
        no_arp: Some(true),
        ..LinkChange::default()
    };
    netlink.set_link(&end, change)?;
    PacketPort::open(name).map_err(|source| NodeError::Kernel {
        doing: format!("cannot open a packet socket on {name}"),
        source,
    })
}

/// Removes the node's end, and with it the pod's. Runs inside the switch's namespace.
///
/// # Errors
/// The kernel's.
pub(crate) fn remove_end(name: &str) -> Result<(), NodeError> {
    let mut netlink = Netlink::open()?;
    match netlink.link(name)? {
        Some(end) => netlink.delete_link(&end),
        None => Ok(()),
    }
}

/// Removes the ends that are not to be kept, and says which. Runs inside the switch's namespace.
///
/// # Errors
/// The kernel's.
pub(crate) fn sweep(keep: &BTreeSet<String>) -> Result<Vec<String>, NodeError> {
    let mut netlink = Netlink::open()?;
    let mut ends = netlink.links()?;
    ends.retain(|end| end.name.starts_with(END_PREFIX) && !keep.contains(&end.name));
    for end in &ends {
        netlink.delete_link(end)?;
    }
    Ok(ends.into_iter().map(|end| end.name).collect())
}

/// What is wrong with the node's end. Runs inside the switch's namespace.
///
/// # Errors
/// The kernel's.
pub(crate) fn check_end(link: &PodLink) -> Result<Vec<Problem>, NodeError> {
    let name = &link.host_ifname;
    let Some(end) = Netlink::open()?.link(name)? else {
        return Ok(vec![Problem(format!("the node's end {name} of the veth pair is missing"))]);
    };
    let mut problems = Vec::new();
    let Link { up, mtu, .. } = end;
    if !up {
        problems.push(Problem(format!("the node's end {name} of the veth pair is down")));
    }
    if mtu != u32::from(link.mtu) {
        problems
            .push(Problem(format!("the node's end {name} has MTU {mtu} instead of {}", link.mtu)));
    }
    Ok(problems)
}

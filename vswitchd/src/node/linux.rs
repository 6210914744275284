//! [`Kernel`] on Linux: which piece runs in which namespace.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::host::Held;
use super::netlink::monitor::RuleMonitor;
use super::veth::SwitchNetns;
use super::{
    HostLink, HostPort, Kernel, LinkKind, Netns, NodeError, PodLink, Problem, host, netns, pod,
    preflight, uplink, veth,
};
use crate::port::PortIo;

/// File in the run directory on which the switch's namespace is mounted.
const SWITCH_NETNS: &str = "netns";
/// File in the run directory with the settings as they were before [`Kernel::wire_host`].
const SETTINGS_BEFORE: &str = "sysctl-before";

/// The node's kernel.
#[derive(Debug)]
pub struct Linux {
    own: Netns,
    switch: SwitchNetns,
    run_dir: PathBuf,
}

impl Linux {
    /// The node is the network namespace of the calling thread, from now on; `run_dir` holds what
    /// must outlive the daemon but not the machine. Nothing is made yet.
    ///
    /// # Errors
    /// [`NodeError::Netns`] when the thread's own namespace cannot be opened.
    pub fn new(run_dir: PathBuf) -> Result<Self, NodeError> {
        Ok(Self {
            own: netns::own()?,
            switch: SwitchNetns::new(run_dir.join(SWITCH_NETNS)),
            run_dir,
        })
    }

    /// Gathers what [`preflight::judge`] judges.
    ///
    /// # Errors
    /// As [`Kernel::uplink`].
    pub fn facts(
        &self,
        host_ifname: &str,
        uplink: Option<&str>,
    ) -> Result<preflight::Facts, NodeError> {
        netns::within(&self.own, || {
            preflight::gather(host_ifname, &self.run_dir, uplink::find(uplink)?)
        })
    }

    /// Removes from the node all that any daemon with this run directory made, and says what was
    /// there: the own port, routes, rules, settings, the switch's namespace with the node's ends of
    /// veth pairs. TAPs go with their pods' namespaces, or by [`Kernel::unwire`].
    ///
    /// # Errors
    /// The kernel's; the rest is removed nevertheless.
    pub fn cleanup(&self, host_ifname: &str) -> Result<Vec<String>, NodeError> {
        let host = netns::within(&self.own, || host::remove(host_ifname, &self.settings_before()));
        let switch = self.switch.remove();
        let mut removed = Vec::new();
        if host? {
            removed.push(format!("{host_ifname} with its routes, rules and settings"));
        }
        if switch? {
            removed.push("the namespace of veth ends".to_owned());
        }
        Ok(removed)
    }

    /// Checks a descriptor that somebody else opened, as [`Kernel::open_netns`] does (SEC-21).
    ///
    /// # Errors
    /// [`NodeError::Netns`].
    pub fn adopt_netns(&self, descriptor: OwnedFd, path: &Path) -> Result<Netns, NodeError> {
        netns::adopt(descriptor.into(), path, &self.own)
    }

    /// As [`Kernel::wire_host`], with what is open already.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn wire_host_again(
        &self,
        link: &HostLink,
        held: Held,
    ) -> Result<HostPort, NodeError> {
        let before = self.settings_before();
        let wired = netns::within(&self.own, || host::wire(link, &before, held))?;
        let side = |port| -> Box<dyn PortIo> { Box::new(port) };
        let sides = wired.icmp.into_iter().map(side).collect();
        Ok(HostPort { device: Box::new(wired.device), sides })
    }

    /// Tells when somebody changes rules of the node.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn watch_rules(&self) -> Result<RuleMonitor, NodeError> {
        netns::within(&self.own, RuleMonitor::open)
    }

    fn settings_before(&self) -> PathBuf {
        self.run_dir.join(SETTINGS_BEFORE)
    }

    /// Runs work in the switch's namespace; `None` when there is none.
    fn within_switch<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, NodeError> + Send,
    ) -> Result<Option<T>, NodeError> {
        match self.switch.open(&self.own)? {
            Some(switch) => netns::within(&switch, work).map(Some),
            None => Ok(None),
        }
    }

    fn wire_veth(&self, netns: &Netns, link: &PodLink) -> Result<Box<dyn PortIo>, NodeError> {
        let switch = self.switch.open_or_make(&self.own)?;
        let made = netns::within(netns, || pod::make_veth(link, switch.descriptor.as_fd()))
            .and_then(|()| netns::within(&switch, || veth::open_end(link)));
        match made {
            Ok(port) => Ok(Box::new(port)),
            // Then one of the two names is another's, and nothing was made.
            Err(error @ NodeError::Exists { .. }) => Err(error),
            Err(error) => {
                // The node's end has a name of its own and takes the pod's along, whatever that is
                // called by now.
                let removed = netns::within(&switch, || veth::remove_end(&link.host_ifname));
                if let Err(left) = removed {
                    tracing::warn!(interface = link.host_ifname, error = %left,
                        "half-made veth pair not removed");
                }
                Err(error)
            }
        }
    }
}

impl Kernel for Linux {
    fn open_netns(&self, path: &Path) -> Result<Netns, NodeError> {
        netns::open(path, &self.own)
    }

    fn wire(&self, netns: &Netns, link: &PodLink) -> Result<Box<dyn PortIo>, NodeError> {
        match link.kind {
            LinkKind::Tap => Ok(Box::new(netns::within(netns, || pod::make_tap(link))?)),
            LinkKind::Veth => self.wire_veth(netns, link),
        }
    }

    fn take_back(&self, netns: &Netns, link: &PodLink) -> Result<Box<dyn PortIo>, NodeError> {
        match link.kind {
            LinkKind::Tap => Ok(Box::new(netns::within(netns, || pod::attach_tap(link))?)),
            LinkKind::Veth => match self.within_switch(|| veth::open_end(link))? {
                Some(port) => Ok(Box::new(port)),
                None => Err(NodeError::Kernel {
                    doing: format!(
                        "cannot take back {}: the switch's namespace is gone",
                        link.host_ifname
                    ),
                    source: std::io::Error::from_raw_os_error(libc::ENODEV),
                }),
            },
        }
    }

    fn unwire(&self, netns: Option<&Netns>, link: &PodLink) -> Result<(), NodeError> {
        match (link.kind, netns) {
            (LinkKind::Tap, Some(netns)) => netns::within(netns, || pod::remove(link)),
            // It went with its namespace.
            (LinkKind::Tap, None) => Ok(()),
            // The node's end is ours alone, by name, and takes the pod's with it.
            (LinkKind::Veth, _) => {
                self.within_switch(|| veth::remove_end(&link.host_ifname)).map(|_removed| ())
            }
        }
    }

    fn check(&self, netns: &Netns, link: &PodLink) -> Result<Vec<Problem>, NodeError> {
        let mut problems = netns::within(netns, || pod::check(link))?;
        if link.kind == LinkKind::Veth {
            match self.within_switch(|| veth::check_end(link))? {
                Some(more) => problems.extend(more),
                None => problems
                    .push(Problem("the switch's namespace for veth pairs is gone".to_owned())),
            }
        }
        Ok(problems)
    }

    fn sweep(&self, keep: &BTreeSet<String>) -> Result<Vec<String>, NodeError> {
        Ok(self.within_switch(|| veth::sweep(keep))?.unwrap_or_default())
    }

    fn may_wire_host(&self, link: &HostLink) -> Result<(), NodeError> {
        netns::within(&self.own, || host::may_wire(link))
    }

    fn wire_host(&self, link: &HostLink) -> Result<HostPort, NodeError> {
        self.wire_host_again(link, Held::default())
    }

    fn adjust_host(&self, link: &HostLink) -> Result<(), NodeError> {
        netns::within(&self.own, || host::mend(link, &self.settings_before()))
    }

    fn uplink(&self, setting: Option<&str>) -> Result<Option<uplink::Uplink>, NodeError> {
        netns::within(&self.own, || uplink::find(setting))
    }

    fn preflight(
        &self,
        wanted: &preflight::Wanted,
        uplink: Option<&str>,
    ) -> Result<Vec<preflight::Check>, NodeError> {
        Ok(preflight::judge(&self.facts(&wanted.host_ifname, uplink)?, wanted))
    }

    fn check_host(&self, link: &HostLink) -> Result<Vec<Problem>, NodeError> {
        netns::within(&self.own, || host::check(link))
    }

    fn unwire_host(&self, link: &HostLink) -> Result<(), NodeError> {
        let removed =
            netns::within(&self.own, || host::remove(&link.ifname, &self.settings_before()));
        removed.map(|_any| ())
    }
}

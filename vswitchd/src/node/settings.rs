//! Settings of the whole node that the pod network needs, and how they were before.
//!
//! Packets between pods and the outside are forwarded by the node's kernel between its uplink and
//! the switch's port, so forwarding is on while the switch is there. What was changed is noted in a
//! file of the run directory first, and put back on removal.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::netlink::{Family, Netlink};
use super::{NodeError, Problem, sysctl};

const FORWARD_V4: &str = "ipv4/ip_forward";
const FORWARD_V6: &str = "ipv6/conf/all/forwarding";

/// The key that switches forwarding on for a family.
fn forwarding(family: Family) -> &'static str {
    match family {
        Family::V4 => FORWARD_V4,
        Family::V6 => FORWARD_V6,
    }
}

/// Switches forwarding on for these families.
///
/// # Errors
/// The kernel's, or those of writing `before`.
pub(crate) fn apply(
    netlink: &mut Netlink,
    families: &[Family],
    before: &Path,
) -> Result<(), NodeError> {
    for family in families {
        let key = forwarding(*family);
        if sysctl::read(key)?.as_deref() == Some("1") {
            continue;
        }
        if *family == Family::V6 {
            keep_router_advertisements(netlink, before)?;
        }
        change(key, "1", before)?;
    }
    Ok(())
}

/// A router ignores other routers' advertisements unless told otherwise (`accept_ra` 2), and drops
/// what it learnt from them: a node that has its address or default route from them would lose
/// both. So interfaces that accept them now go on doing so.
fn keep_router_advertisements(netlink: &mut Netlink, before: &Path) -> Result<(), NodeError> {
    for link in netlink.links()?.iter().filter(|link| !link.loopback) {
        let accept = sysctl::ipv6(&link.name, "accept_ra");
        let forwards = sysctl::read(&sysctl::ipv6(&link.name, "forwarding"))?;
        if sysctl::read(&accept)?.as_deref() == Some("1") && forwards.as_deref() == Some("0") {
            change(&accept, "2", before)?;
        }
    }
    Ok(())
}

/// Puts back what [`apply`] changed, the last change first. An interface that went takes its
/// settings along. Whether there was anything on record.
///
/// # Errors
/// The kernel's, or those of reading `before`.
pub(crate) fn restore(before: &Path) -> Result<bool, NodeError> {
    let fail =
        |source| NodeError::Kernel { doing: format!("cannot read {}", before.display()), source };
    let text = match fs::read_to_string(before) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(fail(error)),
    };
    for (key, value) in text.lines().rev().filter_map(|line| line.split_once(' ')) {
        if sysctl::read(key)?.is_some() {
            sysctl::write(key, value)?;
        }
    }
    fs::remove_file(before).map_err(fail).map(|()| true)
}

/// What is not as it shall be.
///
/// # Errors
/// The kernel's, when it cannot be asked.
pub(crate) fn check(families: &[Family]) -> Result<Vec<Problem>, NodeError> {
    let mut problems = Vec::new();
    for family in families {
        let key = forwarding(*family);
        if sysctl::read(key)?.as_deref() != Some("1") {
            problems.push(Problem(format!("{family} forwarding is off: net/{key} is not 1")));
        }
    }
    Ok(problems)
}

/// Changes a setting once how it was is on record: a crash in between records a change that was not
/// made, which is put back to what it is.
fn change(key: &str, value: &str, before: &Path) -> Result<(), NodeError> {
    let old = sysctl::read(key)?.unwrap_or_default();
    let record = || {
        let mut file = OpenOptions::new().create(true).append(true).open(before)?;
        writeln!(file, "{key} {old}")
    };
    record().map_err(|source| NodeError::Kernel {
        doing: format!("cannot note the setting net/{key} in {}", before.display()),
        source,
    })?;
    sysctl::write(key, value)
}

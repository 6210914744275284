//! Settings of the whole node that the pod network needs, and how they were before.
//!
//! - Packets between pods and the outside are forwarded by the node's kernel between its uplink and
//!   the switch's port, so forwarding is on while the switch is there.
//! - Early demultiplexing is off: with it the kernel finds a listener's socket before it routes,
//!   and forwarding drops such a packet without a word, although a rule diverts it to the switch.
//! - The switch's L4 ports of the node's addresses go to no socket that asks for any.
//!
//! What was changed is noted in a file of the run directory first, and put back on removal.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::netlink::{Family, Netlink};
use super::reserved::{self, Ports};
use super::{HostLink, NodeError, Problem, sysctl};

const FORWARD_V4: &str = "ipv4/ip_forward";
const FORWARD_V6: &str = "ipv6/conf/all/forwarding";
/// Both are for both families.
const EARLY_DEMUX: [&str; 2] = ["ipv4/tcp_early_demux", "ipv4/udp_early_demux"];

/// The key that switches forwarding on for a family.
fn forwarding(family: Family) -> &'static str {
    match family {
        Family::V4 => FORWARD_V4,
        Family::V6 => FORWARD_V6,
    }
}

/// Brings the node's settings to what they shall be for these families.
///
/// # Errors
/// The kernel's, or those of writing `before`.
pub(crate) fn apply(
    netlink: &mut Netlink,
    families: &[Family],
    link: &HostLink,
    before: &Path,
) -> Result<(), NodeError> {
    for key in EARLY_DEMUX {
        if sysctl::read(key)?.as_deref() != Some("0") {
            change(key, "0", before)?;
        }
    }
    reserve(link, before)?;
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

/// Reserves the switch's L4 ports beside those that others have reserved, and no more those that
/// were the switch's.
fn reserve(link: &HostLink, before: &Path) -> Result<(), NodeError> {
    let present = Ports::reserved()?;
    let on_record = added(&recorded(before)?.unwrap_or_default());
    let others = present.without(&on_record);
    let ours = Ports::of_switch(link);
    let wanted = others.with(&ours);
    if wanted == present {
        return Ok(());
    }
    let fresh = ours.without(&others).without(&on_record);
    if !fresh.is_empty() {
        record(reserved::KEY, &fresh.to_string(), before)?;
    }
    wanted.reserve()
}

/// Puts back what [`apply`] changed, the last change first. An interface that went takes its
/// settings along. Whether there was anything on record.
///
/// # Errors
/// The kernel's, or those of reading `before`.
pub(crate) fn restore(before: &Path) -> Result<bool, NodeError> {
    let Some(text) = recorded(before)? else { return Ok(false) };
    Ports::reserved()?.without(&added(&text)).reserve()?;
    let changes = text.lines().rev().filter_map(|line| line.split_once(' '));
    for (key, value) in changes.filter(|(key, _)| *key != reserved::KEY) {
        if sysctl::read(key)?.is_some() {
            sysctl::write(key, value)?;
        }
    }
    fs::remove_file(before).map_err(|source| unreadable(before, source)).map(|()| true)
}

/// What is not as it shall be.
///
/// # Errors
/// The kernel's, when it cannot be asked.
pub(crate) fn check(families: &[Family], link: &HostLink) -> Result<Vec<Problem>, NodeError> {
    let mut problems = Vec::new();
    for family in families {
        let key = forwarding(*family);
        if sysctl::read(key)?.as_deref() != Some("1") {
            problems.push(Problem(format!("{family} forwarding is off: net/{key} is not 1")));
        }
    }
    for key in EARLY_DEMUX {
        if sysctl::read(key)?.as_deref() != Some("0") {
            problems.push(Problem(format!(
                "net/{key} is not 0: listeners of the node within the node ports do not answer"
            )));
        }
    }
    let lacking = Ports::of_switch(link).without(&Ports::reserved()?);
    if !lacking.is_empty() {
        problems.push(Problem(format!("net/{} lacks {lacking}", reserved::KEY)));
    }
    Ok(problems)
}

/// Changes a setting once how it was is on record: a crash in between records a change that was not
/// made, which is put back to what it is. What it was at first is what counts, however often
/// somebody else changes it meanwhile.
fn change(key: &str, value: &str, before: &Path) -> Result<(), NodeError> {
    let text = recorded(before)?.unwrap_or_default();
    let known = |line: &str| line.split_once(' ').is_some_and(|(recorded, _)| recorded == key);
    if !text.lines().any(known) {
        record(key, &sysctl::read(key)?.unwrap_or_default(), before)?;
    }
    sysctl::write(key, value)
}

fn record(key: &str, value: &str, before: &Path) -> Result<(), NodeError> {
    let write = || {
        let mut file = OpenOptions::new().create(true).append(true).open(before)?;
        writeln!(file, "{key} {value}")
    };
    write().map_err(|source| NodeError::Kernel {
        doing: format!("cannot note the setting net/{key} in {}", before.display()),
        source,
    })
}

/// All that is on record.
fn recorded(before: &Path) -> Result<Option<String>, NodeError> {
    match fs::read_to_string(before) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(unreadable(before, source)),
    }
}

/// The ports that were reserved by us, of all times: a crash may leave older ones behind.
fn added(record: &str) -> Ports {
    let ours = record.lines().filter_map(|line| line.strip_prefix(reserved::KEY));
    ours.fold(Ports::default(), |all, ports| all.with(&Ports::parse(ports)))
}

fn unreadable(before: &Path, source: io::Error) -> NodeError {
    NodeError::Kernel { doing: format!("cannot read {}", before.display()), source }
}

//! The rules that let the switch stand between the node's addresses and its sockets.
//!
//! The kernel asks the local table first, at preference 0, so nothing to the node's own address can
//! be routed anywhere else. Its rule moves to 100; below it there is room for rules that divert
//! what belongs to the switch (Services), and what the switch gives back to the node is delivered
//! before any of them. At every moment at least one rule asks the local table, so the node's own
//! sockets never notice: add first, then delete.

use super::netlink::route::LOCAL;
use super::netlink::rule::Rule;
use super::netlink::{Family, Netlink, PROTOCOL};
use super::{NodeError, Problem};

/// What came by the node's port goes to the node's sockets, never back into the switch.
const DELIVER: u32 = 40;
/// Where the local table's rule is while the switch runs.
const LOCAL_MOVED: u32 = 100;
/// Where the kernel has it.
const LOCAL_BEFORE: u32 = 0;
/// `RTPROT_KERNEL`: the maker the local table's rule had.
const KERNEL: u8 = 2;

/// The rules that shall be there for one family, in the order they are made.
fn wanted(family: Family, ifname: &str) -> [Rule; 2] {
    let deliver = Rule { input: Some(ifname.to_owned()), ..Rule::new(family, DELIVER, LOCAL) };
    [deliver, Rule::new(family, LOCAL_MOVED, LOCAL)]
}

/// Puts the rules in. Those that are there stay untouched, old ones of ours go.
///
/// # Errors
/// The kernel's.
pub(crate) fn install(
    netlink: &mut Netlink,
    families: &[Family],
    ifname: &str,
) -> Result<(), NodeError> {
    for family in families {
        let wanted = wanted(*family, ifname);
        for rule in &wanted {
            netlink.add_rule(rule)?;
        }
        netlink.delete_rule(&Rule::new(*family, LOCAL_BEFORE, LOCAL))?;
        for found in netlink.rules(*family)? {
            if found.maker == PROTOCOL && !wanted.contains(&found.rule) {
                netlink.delete_rule(&found.rule)?;
            }
        }
    }
    Ok(())
}

/// Takes all rules of ours out; the local table's goes back to where the kernel has it. Does
/// nothing where there are none of ours. Whether there were any.
///
/// # Errors
/// The kernel's.
pub(crate) fn remove(netlink: &mut Netlink, families: &[Family]) -> Result<bool, NodeError> {
    let mut any = false;
    for family in families {
        let mut ours = netlink.rules(*family)?;
        ours.retain(|found| found.maker == PROTOCOL);
        if ours.iter().any(|found| found.rule.table == LOCAL) {
            netlink.add_rule_of(&Rule::new(*family, LOCAL_BEFORE, LOCAL), KERNEL)?;
        }
        for found in ours {
            netlink.delete_rule(&found.rule)?;
            any = true;
        }
    }
    Ok(any)
}

/// What of the rules is not as it shall be.
///
/// # Errors
/// The kernel's, when it cannot be asked.
pub(crate) fn check(
    netlink: &mut Netlink,
    families: &[Family],
    ifname: &str,
) -> Result<Vec<Problem>, NodeError> {
    let mut problems = Vec::new();
    for family in families {
        let found = netlink.rules(*family)?;
        for rule in wanted(*family, ifname) {
            if !found.iter().any(|found| found.rule == rule) {
                problems.push(Problem(format!(
                    "the {rule} is missing; if systemd-networkd runs here, \
                     set ManageForeignRoutingPolicyRules=no"
                )));
            }
        }
        let before = Rule::new(*family, LOCAL_BEFORE, LOCAL);
        if found.iter().any(|found| found.rule == before) {
            problems.push(Problem(format!("the {before} stands before the switch's rules")));
        }
    }
    Ok(problems)
}

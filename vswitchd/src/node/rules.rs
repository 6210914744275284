//! The rules that let the switch stand between the node's addresses and its sockets.
//!
//! The kernel asks the local table first, at preference 0, so nothing to the node's own address can
//! be routed anywhere else. Its rule moves to 100; before it are rules that divert what belongs to
//! the switch into a table of its own, and what the switch gives back to the node is delivered
//! before any of them. At every moment at least one rule asks the local table, so the node's own
//! sockets never notice: add first, then delete. As long as the kernel's rule is at 0, those made
//! before it is deleted do nothing.

use std::collections::HashSet;

use smoltcp::wire::{IpAddress, IpCidr, IpProtocol};

use super::netlink::route::LOCAL;
use super::netlink::rule::Rule;
use super::netlink::{Family, Netlink, PROTOCOL};
use super::{HostLink, NodeError, OwnPort, Problem};

/// What came by the node's port goes to the node's sockets, never back into the switch.
const DELIVER: u32 = 40;
/// What belongs to the switch goes there.
const DIVERT: u32 = 50;
/// A whole datagram to any other L4 port is the node's.
const DATAGRAM: u32 = 55;
/// What is left of UDP are fragments: the kernel sees no L4 port in them, in the first neither, so
/// they come whole to the switch, which gives back what is not its own.
const FRAGMENT: u32 = 56;
/// Where the local table's rule is while the switch runs.
const LOCAL_MOVED: u32 = 100;
/// Where the kernel has it.
const LOCAL_BEFORE: u32 = 0;
/// `RTPROT_KERNEL`: the maker the local table's rule had.
const KERNEL: u8 = 2;
/// The table whose one route leads to the switch.
pub(crate) const TO_SWITCH: u32 = 77;

const TCP: IpProtocol = IpProtocol::Tcp;
const UDP: IpProtocol = IpProtocol::Udp;
const SCTP: IpProtocol = IpProtocol::Unknown(132);
/// L4 ports of [`DATAGRAM`]: 0 is what a fragment looks like, and 65535 the kernel does not take as
/// the end of a range.
const ANY_L4_PORT: (u16, u16) = (1, 65_534);

/// The rules that shall be there for one family, in the order they are made: each stands only when
/// what it leaves to others stands already.
fn wanted(family: Family, link: &HostLink) -> Vec<Rule> {
    let input = Some(link.ifname.clone());
    let mut rules = vec![Rule { input, ..Rule::new(family, DELIVER, LOCAL) }];
    for address in link.node_addresses.iter().filter(|address| Family::of(address) == family) {
        rules.extend(diverted(*address, link));
    }
    rules.extend(single(family, link));
    rules.push(Rule::new(family, LOCAL_MOVED, LOCAL));
    rules
}

/// What of one address of the node goes to the switch.
fn diverted(address: IpAddress, link: &HostLink) -> Vec<Rule> {
    if link.diverted.is_empty() {
        return Vec::new();
    }
    let mut rules = vec![
        to(address, UDP, Some(ANY_L4_PORT), DATAGRAM, LOCAL),
        to(address, UDP, None, FRAGMENT, TO_SWITCH),
    ];
    for range in &link.diverted {
        let ports = Some((range.first, range.last));
        rules.extend([TCP, UDP, SCTP].map(|l4| to(address, l4, ports, DIVERT, TO_SWITCH)));
    }
    rules
}

/// Single ports of the node's addresses and its loopback address, but for those of the first that
/// are diverted already.
fn single(family: Family, link: &HostLink) -> impl Iterator<Item = Rule> + '_ {
    let of_family = move |own: &&OwnPort| Family::of(&IpAddress::from(own.address)) == family;
    let covers = |own: &OwnPort| link.diverted.iter().any(|range| range.contains(own.port));
    let is_new = move |own: &&OwnPort| own.address.is_loopback() || !covers(own);
    link.own_ports.iter().filter(of_family).filter(is_new).map(|own| {
        let ports = Some((own.port, own.port));
        to(own.address.into(), own.protocol.into(), ports, DIVERT, TO_SWITCH)
    })
}

fn to(
    address: IpAddress,
    protocol: IpProtocol,
    l4_ports: Option<(u16, u16)>,
    preference: u32,
    table: u32,
) -> Rule {
    Rule {
        to: Some(IpCidr::new(address, Family::of(&address).bits())),
        protocol: Some(protocol.into()),
        l4_ports,
        ..Rule::new(Family::of(&address), preference, table)
    }
}

/// Puts the rules in. Those that are there stay untouched, old ones of ours go.
///
/// # Errors
/// The kernel's.
pub(crate) fn install(
    netlink: &mut Netlink,
    families: &[Family],
    link: &HostLink,
) -> Result<(), NodeError> {
    for family in families {
        let wanted = wanted(*family, link);
        for rule in &wanted {
            netlink.add_rule(rule)?;
        }
        netlink.delete_rule(&Rule::new(*family, LOCAL_BEFORE, LOCAL))?;
        let wanted: HashSet<Rule> = wanted.into_iter().collect();
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
    link: &HostLink,
) -> Result<Vec<Problem>, NodeError> {
    let mut problems = Vec::new();
    for family in families {
        let found = netlink.rules(*family)?;
        let found: HashSet<Rule> = found.into_iter().map(|found| found.rule).collect();
        for rule in wanted(*family, link) {
            if !found.contains(&rule) {
                problems.push(Problem(format!(
                    "the {rule} is missing; if systemd-networkd runs here, \
                     set ManageForeignRoutingPolicyRules=no"
                )));
            }
        }
        let before = Rule::new(*family, LOCAL_BEFORE, LOCAL);
        if found.contains(&before) {
            problems.push(Problem(format!("the {before} stands before the switch's rules")));
        }
    }
    Ok(problems)
}

//! What a node lacks for pods to have a network, and the command that mends it: `hopctl check`.
//!
//! [`Facts`] are gathered from the kernel; [`judge`] is a pure function over them, so every verdict
//! has a test.

use std::borrow::Cow;
use std::fs::{self, OpenOptions};
use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde::{Deserialize, Serialize};
use smoltcp::wire::{IpAddress, IpCidr};

use super::netlink::route::MAIN;
use super::netlink::{Family, Netlink};
use super::{NodeError, Uplink, sysctl};
use crate::text;

/// Name of the check that the pods' ranges are nobody else's.
pub const RANGES: &str = "ranges";

/// What the pod network shall be, as far as a node can be wrong for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Name of the node's own port.
    pub host_ifname: String,
    /// What lies behind the switch: pod and Service ranges, and Services' single addresses.
    #[serde(with = "text::list")]
    pub prefixes: Vec<IpCidr>,
    /// MTU of the pods in bytes.
    pub mtu: u16,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it shall be.
    Good,
    /// Pods will suffer.
    Bad,
    /// It cannot be seen from here.
    Unknown,
}

/// One line of `hopctl check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: Cow<'static, str>,
    /// What was found.
    pub outcome: Outcome,
    /// A sentence about it.
    pub detail: String,
    /// What to run or change, where something is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// A prefix the node uses itself, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The prefix.
    pub prefix: IpCidr,
    /// The interface.
    pub ifname: String,
    /// Whether its addresses are on the link itself, instead of behind a gateway.
    pub connected: bool,
}

impl Used {
    /// Whether pods of that range and these addresses would be in each other's way.
    ///
    /// The longest prefix wins, so a wider route by a gateway, such as 10.0.0.0/8 to a company's
    /// network, leaves the range to the pods. Hosts on the link itself would be cut off by it,
    /// since they are neighbors there: within a connected subnet no range is free.
    fn overlaps(&self, range: &IpCidr) -> bool {
        range.contains_subnet(&self.prefix)
            || (self.connected && self.prefix.contains_subnet(range))
    }
}

/// What the node is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Effective capabilities of this process, a bit each (capabilities(7)).
    pub capabilities: u64,
    /// Whether /dev/net/tun can be opened, or the reason why not.
    pub tun: Result<(), String>,
    /// Whether the node's own port is there.
    pub host_port: bool,
    /// `net.ipv4.ip_forward`.
    pub forwarding_v4: bool,
    /// `net.ipv6.conf.all.forwarding`; `None` without IPv6.
    pub forwarding_v6: Option<bool>,
    /// What counts for the node's own port: the greater of its own rp_filter and that of all.
    pub rp_filter: Option<u8>,
    /// Whether the kernel has packet filters loaded that may refuse forwarding.
    pub packet_filter: bool,
    /// The uplink.
    pub uplink: Option<Uplink>,
    /// Prefixes of the node's own addresses and routes, those of the node's own port excepted.
    pub used: Vec<Used>,
    /// Whether the run directory, or the nearest parent that exists, is in memory.
    pub run_dir_in_memory: bool,
}

/// Capabilities that are needed, with their bit.
const CAPABILITIES: [(&str, u32); 3] = [("NET_ADMIN", 12), ("NET_RAW", 13), ("SYS_ADMIN", 21)];

/// Overlaps that are told: a node may have many routes, and one is enough to be refused.
const OVERLAPS_MAX: usize = 64;

/// Judges a node.
#[must_use]
pub fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Check> {
    let mut checks = vec![privileges(facts), tun(facts)];
    let wants =
        |family| wanted.prefixes.iter().any(|prefix| Family::of(&prefix.address()) == family);
    if wants(Family::V4) {
        checks.push(forwarding(
            "forwarding-ipv4",
            Some(facts.forwarding_v4),
            "net.ipv4.ip_forward",
            facts,
        ));
        checks.push(rp_filter(facts, wanted));
    }
    if wants(Family::V6) {
        let key = "net.ipv6.conf.all.forwarding";
        checks.push(forwarding("forwarding-ipv6", facts.forwarding_v6, key, facts));
    }
    checks.extend([forward_policy(facts), mtu(facts, wanted)]);
    checks.extend(overlaps(facts, wanted));
    checks.push(run_dir(facts));
    checks
}

fn good(name: &'static str, detail: impl Into<String>) -> Check {
    Check { name: name.into(), outcome: Outcome::Good, detail: detail.into(), mend: None }
}

fn bad(name: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Check {
    Check {
        name: name.into(),
        outcome: Outcome::Bad,
        detail: detail.into(),
        mend: Some(mend.into()),
    }
}

fn privileges(facts: &Facts) -> Check {
    let lacks = missing(facts.capabilities);
    if lacks.is_empty() {
        return good("privileges", "all that is needed");
    }
    let detail = format!("the capabilities {} are missing", lacks.join(", "));
    bad("privileges", detail, "run as root, or give the container these capabilities")
}

fn missing(capabilities: u64) -> Vec<&'static str> {
    let lacks = CAPABILITIES.iter().filter(|(_, bit)| capabilities & (1 << bit) == 0);
    lacks.map(|(name, _)| *name).collect()
}

/// Names of the capabilities that the calling thread lacks.
#[must_use]
pub fn missing_capabilities() -> Vec<&'static str> {
    missing(capabilities(&fs::read_to_string("/proc/thread-self/status").unwrap_or_default()))
}

fn tun(facts: &Facts) -> Check {
    match &facts.tun {
        Ok(()) => good("tun", "/dev/net/tun can be opened"),
        Err(why) => bad(
            "tun",
            format!("/dev/net/tun cannot be opened: {why}"),
            "modprobe tun; mkdir -p /dev/net; test -e /dev/net/tun || mknod /dev/net/tun c 10 200",
        ),
    }
}

fn forwarding(name: &'static str, value: Option<bool>, key: &str, facts: &Facts) -> Check {
    match value {
        Some(true) => good(name, "on"),
        // The daemon switches it on when it makes its port.
        Some(false) if !facts.host_port => {
            good(name, "off until vswitchd switches it on at its start")
        }
        Some(false) => bad(
            name,
            "off: packets between pods and the outside are lost",
            format!("sysctl -w {key}=1"),
        ),
        None => bad(
            name,
            "the kernel has no IPv6, but pods shall have it",
            "boot without ipv6.disable=1, or leave the IPv6 range out of the Node's podCIDRs",
        ),
    }
}

fn rp_filter(facts: &Facts, wanted: &Wanted) -> Check {
    let name = "rp-filter";
    match facts.rp_filter {
        None => good(name, "loose on the node's own port once vswitchd makes it"),
        Some(1) => bad(
            name,
            format!(
                "strict on {}: packets from addresses without a route back are lost",
                wanted.host_ifname
            ),
            format!("sysctl -w net.ipv4.conf.{}.rp_filter=2", wanted.host_ifname),
        ),
        Some(_) => good(name, format!("not strict on {}", wanted.host_ifname)),
    }
}

fn forward_policy(facts: &Facts) -> Check {
    let name = "forward-policy";
    if !facts.packet_filter {
        return good(name, "the kernel has no packet filter loaded that could refuse forwarding");
    }
    let detail =
        "not checked: a packet filter is loaded, whose rules for forwarding are not read here";
    let mend = "look at `nft list ruleset` and `iptables -S FORWARD`: hook forward must accept \
                packets from and to \
                the node's own port";
    Check {
        name: name.into(),
        outcome: Outcome::Unknown,
        detail: detail.to_owned(),
        mend: Some(mend.to_owned()),
    }
}

fn mtu(facts: &Facts, wanted: &Wanted) -> Check {
    let name = "mtu";
    let v6 = wanted.prefixes.iter().any(|prefix| matches!(prefix, IpCidr::Ipv6(_)));
    if v6 && wanted.mtu < 1280 {
        let detail =
            format!("pods have MTU {}, but IPv6 needs 1280 (RFC 8200 section 5)", wanted.mtu);
        return bad(name, detail, "set mtu to 1280 or more");
    }
    match &facts.uplink {
        None => good(name, format!("{} for pods; nothing leads out of the node", wanted.mtu)),
        Some(uplink) if u32::from(wanted.mtu) > uplink.mtu => bad(
            name,
            format!(
                "pods have MTU {}, but the uplink {} only {}",
                wanted.mtu, uplink.ifname, uplink.mtu
            ),
            format!("set mtu to {} or less, or leave it out", uplink.mtu),
        ),
        Some(uplink) => good(
            name,
            format!("{} for pods, {} on the uplink {}", wanted.mtu, uplink.mtu, uplink.ifname),
        ),
    }
}

fn overlaps(facts: &Facts, wanted: &Wanted) -> Vec<Check> {
    let name = RANGES;
    let mut checks = Vec::new();
    // An address of a Service is taken from whoever has it by design: within the node's own subnet
    // it is what a load balancer gives.
    let several = |prefix: &&IpCidr| **prefix != text::single(prefix.address());
    for prefix in wanted.prefixes.iter().filter(several) {
        for used in facts.used.iter().filter(|used| used.overlaps(prefix)) {
            if checks.len() == OVERLAPS_MAX {
                return checks;
            }
            checks.push(bad(
                name,
                format!("{prefix} overlaps {}, which the node has on {}", used.prefix, used.ifname),
                "give the pods or the Services another range",
            ));
        }
    }
    if checks.is_empty() {
        checks.push(good(name, "no overlap with the node's own addresses and routes"));
    }
    checks
}

fn run_dir(facts: &Facts) -> Check {
    if facts.run_dir_in_memory {
        return good("run-dir", "in memory");
    }
    bad(
        "run-dir",
        "not in memory: what must be gone after a boot stays, and the journal would wear a disk",
        "set run-dir to a directory on tmpfs, such as /run/hopscope",
    )
}

/// Gathers the facts about the node of the calling thread's namespace.
///
/// # Errors
/// The kernel's.
pub(crate) fn gather(
    host_ifname: &str,
    run_dir: &Path,
    uplink: Option<Uplink>,
) -> Result<Facts, NodeError> {
    let mut netlink = Netlink::open()?;
    let host_port = netlink.link(host_ifname)?;
    let number = |key: String| -> Result<u8, NodeError> {
        Ok(sysctl::read(&key)?.and_then(|text| text.parse().ok()).unwrap_or(0))
    };
    let rp_filter = match host_port {
        Some(_) => {
            let all = number(sysctl::ipv4("all", "rp_filter"))?;
            Some(all.max(number(sysctl::ipv4(host_ifname, "rp_filter"))?))
        }
        None => None,
    };
    let tun = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    Ok(Facts {
        capabilities: capabilities(
            &fs::read_to_string("/proc/thread-self/status").unwrap_or_default(),
        ),
        tun: tun.map(drop).map_err(|error| error.to_string()),
        host_port: host_port.is_some(),
        forwarding_v4: sysctl::read("ipv4/ip_forward")?.as_deref() == Some("1"),
        forwarding_v6: sysctl::read("ipv6/conf/all/forwarding")?.map(|value| value == "1"),
        rp_filter,
        packet_filter: packet_filter(),
        uplink,
        used: used(&mut netlink, host_ifname)?,
        run_dir_in_memory: run_dir
            .ancestors()
            .find_map(|dir| statfs(dir).ok())
            .is_some_and(|kind| kind.filesystem_type() == TMPFS_MAGIC),
    })
}

/// `CapEff` of a /proc status file.
fn capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// Either of the kernel's packet filters: the old tables name themselves once used, the new one is
/// a module.
fn packet_filter() -> bool {
    let named = |file| {
        fs::read_to_string(file).is_ok_and(|names| names.lines().any(|name| name == "filter"))
    };
    named("/proc/thread-self/net/ip_tables_names")
        || named("/proc/thread-self/net/ip6_tables_names")
        || Path::new("/sys/module/nf_tables").exists()
}

fn used(netlink: &mut Netlink, host_ifname: &str) -> Result<Vec<Used>, NodeError> {
    let links = netlink.links()?;
    let name =
        |index: u32| links.iter().find(|link| link.index == index).map(|link| link.name.clone());
    let addresses = netlink.addresses()?;
    let mut found: Vec<(IpCidr, u32, bool)> =
        addresses.iter().map(|have| (have.cidr, have.link, true)).collect();
    for family in [Family::V4, Family::V6] {
        let routes = netlink.routes(family)?;
        let main = routes.iter().filter(|route| route.table == MAIN);
        found.extend(main.map(|route| (route.destination, route.link, route.gateway.is_none())));
    }
    let mut used: Vec<Used> = Vec::new();
    for (prefix, link, connected) in found {
        let prefix = super::netlink::network(&prefix);
        // A default route is for what nobody else has; link-local and loopback are never a pod's.
        let nobodys = match prefix.address() {
            IpAddress::Ipv4(v4) => v4.is_loopback() || v4.is_link_local(),
            IpAddress::Ipv6(v6) => {
                v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast()
            }
        };
        let Some(ifname) = name(link).filter(|name| name != host_ifname) else { continue };
        let entry = Used { prefix, ifname, connected };
        if prefix.prefix_len() > 0 && !nobodys && !used.contains(&entry) {
            used.push(entry);
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        let prefixes = vec!["10.1.2.0/24".parse().unwrap(), "fd00:1:2::/64".parse().unwrap()];
        Wanted { host_ifname: "hop0".to_owned(), prefixes, mtu: 1450 }
    }

    fn used(prefix: &str, connected: bool) -> Used {
        Used { prefix: prefix.parse().unwrap(), ifname: "eth1".to_owned(), connected }
    }

    fn sound() -> Facts {
        Facts {
            capabilities: u64::MAX,
            tun: Ok(()),
            host_port: true,
            forwarding_v4: true,
            forwarding_v6: Some(true),
            rp_filter: Some(2),
            packet_filter: false,
            uplink: Some(Uplink { ifname: "eth0".to_owned(), mtu: 1500, addresses: Vec::new() }),
            used: vec![used("192.0.2.0/24", true), used("10.0.0.0/8", false)],
            run_dir_in_memory: true,
        }
    }

    fn not_good(facts: &Facts, wanted: &Wanted) -> Vec<(&'static str, Outcome)> {
        let checks = judge(facts, wanted);
        for check in &checks {
            assert_eq!(check.mend.is_some(), check.outcome != Outcome::Good, "{check:?}");
        }
        let others = checks.iter().filter(|check| check.outcome != Outcome::Good);
        let name = |name: &Cow<'static, str>| match name {
            Cow::Borrowed(name) => *name,
            Cow::Owned(name) => panic!("{name} was made up"),
        };
        others.map(|check| (name(&check.name), check.outcome)).collect()
    }

    #[test]
    fn a_sound_node_has_nothing_to_mend() {
        assert_eq!(not_good(&sound(), &wanted()), []);
        assert_eq!(judge(&sound(), &wanted()).len(), 9);
    }

    #[test]
    fn each_lack_is_found_alone() {
        let uplink = |mtu| Some(Uplink { ifname: "eth0".to_owned(), mtu, addresses: Vec::new() });
        for (facts, lacks) in [
            (Facts { capabilities: !(1 << 13), ..sound() }, "privileges"),
            (Facts { tun: Err("gone".to_owned()), ..sound() }, "tun"),
            (Facts { forwarding_v4: false, ..sound() }, "forwarding-ipv4"),
            (Facts { forwarding_v6: Some(false), ..sound() }, "forwarding-ipv6"),
            (Facts { forwarding_v6: None, ..sound() }, "forwarding-ipv6"),
            (Facts { rp_filter: Some(1), ..sound() }, "rp-filter"),
            (Facts { uplink: uplink(1400), ..sound() }, "mtu"),
            (Facts { used: vec![used("10.0.0.0/8", true)], ..sound() }, "ranges"),
            (Facts { used: vec![used("10.1.2.0/24", false)], ..sound() }, "ranges"),
            (Facts { used: vec![used("fd00:1:2::77/128", false)], ..sound() }, "ranges"),
            (Facts { run_dir_in_memory: false, ..sound() }, "run-dir"),
        ] {
            assert_eq!(not_good(&facts, &wanted()), [(lacks, Outcome::Bad)]);
        }
        let filtered = Facts { packet_filter: true, ..sound() };
        assert_eq!(not_good(&filtered, &wanted()), [("forward-policy", Outcome::Unknown)]);
        assert_eq!(not_good(&sound(), &Wanted { mtu: 1200, ..wanted() }), [("mtu", Outcome::Bad)]);
    }

    #[test]
    fn a_services_address_may_be_of_the_nodes_own_subnet() {
        let prefixes = vec!["192.0.2.77/32".parse().unwrap(), "192.0.2.64/26".parse().unwrap()];
        let range = Wanted { prefixes: prefixes[1..].to_vec(), ..wanted() };
        assert_eq!(not_good(&sound(), &range), [("ranges", Outcome::Bad)]);
        assert_eq!(
            not_good(&sound(), &Wanted { prefixes, ..wanted() }),
            [("ranges", Outcome::Bad)]
        );
        let vip = Wanted { prefixes: vec!["192.0.2.77/32".parse().unwrap()], ..wanted() };
        assert_eq!(not_good(&sound(), &vip), []);
    }

    #[test]
    fn what_the_daemon_does_at_its_start_is_no_lack_before() {
        let before = Facts {
            host_port: false,
            rp_filter: None,
            forwarding_v4: false,
            forwarding_v6: Some(false),
            uplink: None,
            ..sound()
        };
        assert_eq!(not_good(&before, &wanted()), []);
    }

    #[test]
    fn without_ipv6_ranges_ipv6_is_not_judged() {
        let only_v4 =
            Wanted { prefixes: vec!["10.1.2.0/24".parse().unwrap()], mtu: 600, ..wanted() };
        assert_eq!(not_good(&Facts { forwarding_v6: None, ..sound() }, &only_v4), []);
    }

    #[test]
    fn capabilities_are_read_from_the_status() {
        assert_eq!(capabilities("Name:\tx\nCapEff:\t00000000a80425fb\nCapBnd:\tff\n"), 0xa804_25fb);
        assert_eq!(capabilities("nothing"), 0);
    }
}

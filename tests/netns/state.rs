//! What a node holds, to compare before with after: what attachments left, and what the kernel
//! shows.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use lab::{Namespace, Node};
use serde_json::Value;

/// Files that a daemon without pods has in its run-dir and state-dir.
const OWN_FILES: &[&str] = &[
    "lock",
    "worker.lock",
    "desired.json",
    "cni.sock",
    "admin.sock",
    "takeover.sock",
    "netns",
    "sysctl-before",
    "leases.json",
];

/// The journal and its snapshots are the daemon's own as well.
fn own_file(name: &str) -> bool {
    OWN_FILES.contains(&name) || name == "journal" || name.starts_with("snapshot-")
}

/// A list as it is told, each item with these fields alone: what changes by itself is left out.
pub(crate) fn listed(node: &Node, what: &str, keys: &[&str]) -> Vec<String> {
    let list = node.hopctl_json(&["get", what]).unwrap();
    let items = list["items"].as_array().unwrap().iter();
    let line = |item: &Value| keys.iter().map(|key| format!("{} ", item[*key])).collect();
    let mut lines: Vec<String> = items.map(line).collect();
    lines.sort();
    lines
}

/// Ports of a switch without pods.
const OWN_PORTS: &[&str] = &["endpoint/gateway", "endpoint/health", "host"];

/// Everything that attachments leave on a node: leases, ports, links, files. Empty without any.
pub(crate) fn left(node: &Node) -> Vec<String> {
    let mut left = Vec::new();
    let mut list = |what: &str, key: &str, own: &[&str]| {
        let listed = node.hopctl_json(&["get", what]).unwrap();
        for item in listed["items"].as_array().unwrap() {
            let name = item[key].as_str().unwrap();
            if !own.contains(&name) {
                left.push(format!("{what}: {name}"));
            }
        }
    };
    list("leases", "address", &[]);
    list("ports", "name", OWN_PORTS);
    left.extend(left_in_kernel(node));
    for dir in [node.run_dir(), node.state_dir()] {
        files(&dir, &mut left);
    }
    left
}

/// Links of the node's namespace and the switch's that are an attachment's.
pub(crate) fn left_in_kernel(node: &Node) -> Vec<String> {
    let mut links = node.netns.interfaces().unwrap();
    links.retain(|name| !["lo", "up0", "hop0"].contains(&name.as_str()));
    links.extend(switch_links(node));
    links.iter().map(|name| format!("link: {name}")).collect()
}

/// The node's ends of veth pairs, which live in the switch's namespace.
pub(crate) fn switch_links(node: &Node) -> Vec<String> {
    let netns = node.run_dir().join("netns");
    if !netns.exists() {
        return Vec::new();
    }
    let enter = format!("--net={}", netns.display());
    let shown = node.netns.run("nsenter", &[&enter, "ip", "-json", "link", "show"]).unwrap();
    let links: Vec<Value> = serde_json::from_str(&shown.stdout).unwrap();
    let names = links.iter().map(|link| link["ifname"].as_str().unwrap().to_owned());
    names.filter(|name| name != "lo").collect()
}

fn files(dir: &Path, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.path().is_dir() {
            files(&entry.path(), found);
        } else if !own_file(&entry.file_name().to_string_lossy()) {
            found.push(format!("file: {}", entry.path().display()));
        }
    }
}

/// Every file of the run-dir and the state-dir with its mode and length, and the directories
/// themselves.
pub(crate) fn all_files(node: &Node) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![node.run_dir(), node.state_dir()];
    while let Some(path) = open.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        }
        let length = if meta.is_file() { meta.len() } else { 0 };
        found.insert(path.to_string_lossy().into_owned(), format!("{:o} {length}", meta.mode()));
    }
    found
}

/// All that the kernel shows of a namespace: links, addresses, rules, routes, neighbors set for
/// good, settings.
pub(crate) fn kernel(netns: &Namespace) -> BTreeMap<String, String> {
    // The kernel takes a moment to be sure of its own link-local addresses, and another one until
    // an address has its route.
    let settled = || {
        let addresses = netns.ip(&["-6", "-o", "addr", "show", "up"]).unwrap();
        let routes = netns.ip(&["-6", "route", "show", "table", "local"]).unwrap();
        let mut own = addresses.lines().filter_map(|line| line.split_whitespace().nth(3));
        let has_route = |cidr: &str| {
            let address = cidr.split('/').next().unwrap_or(cidr);
            routes.contains(&format!("local {address} "))
        };
        !addresses.contains("tentative") && own.all(has_route)
    };
    for _ in 0..50 {
        if settled() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut shown = BTreeMap::new();
    for args in [
        &["-d", "link"][..],
        &["addr"],
        &["rule"],
        &["-6", "rule"],
        &["route", "show", "table", "all"],
        &["-6", "route", "show", "table", "all"],
        &["neigh", "show", "nud", "permanent"],
        &["-6", "neigh", "show", "nud", "permanent"],
    ] {
        // A TAP whose carrier has never changed is in no state; after that it is up.
        let text = netns.ip(args).unwrap().replace("state UNKNOWN", "state UP");
        shown.insert(format!("ip {}", args.join(" ")), text);
    }
    let settings = netns.within(|| {
        let mut found = BTreeMap::new();
        for family in ["ipv4", "ipv6"] {
            settings(&Path::new("/proc/sys/net").join(family), &mut found);
        }
        found
    });
    shown.extend(settings.unwrap());
    shown
}

fn settings(dir: &Path, found: &mut BTreeMap<String, String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            settings(&path, found);
        } else if let Ok(value) = fs::read_to_string(&path) {
            // One that cannot be read is a trigger, no setting.
            found.insert(path.to_string_lossy().into_owned(), value);
        }
    }
}

/// The two are equal; a message names what is not, instead of printing a thousand settings.
pub(crate) fn same(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
    what: &str,
) {
    let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for key in keys {
        assert_eq!(before.get(key), after.get(key), "{what}: {key} changed");
    }
}

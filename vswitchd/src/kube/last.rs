//! The last good desired state, in a file of the run directory: what a worker goes on with whose
//! manifests cannot be taken in at the moment when the one before it dies.
//!
//! It is there while a daemon runs and after it was killed. An orderly end removes it: whoever
//! starts a daemon is told what is wrong with the manifests, and nothing of before is brought back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smoltcp::wire::IpCidr;

use super::objects::Desired;
use crate::text::prefix;

/// The file.
#[must_use]
pub fn file(run_dir: &Path) -> PathBuf {
    run_dir.join("desired.json")
}

/// Keeps it in place of the one before.
///
/// # Errors
/// The file system's; the one before stays.
pub fn keep(run_dir: &Path, node_name: &str, desired: &Desired) -> io::Result<()> {
    let (path, next) = (file(run_dir), run_dir.join("desired.new"));
    let text = serde_json::to_vec(&Kept::of(node_name, desired))?;
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(&next)?.write_all(&text)?;
    fs::rename(next, path)
}

/// Reads it. `None` when there is none, it is another node's, or it cannot be read.
#[must_use]
pub fn read(run_dir: &Path, node_name: &str) -> Option<Desired> {
    let kept: Kept = serde_json::from_slice(&fs::read(file(run_dir)).ok()?).ok()?;
    kept.desired(node_name)
}

/// There is none any more.
///
/// # Errors
/// The file system's.
pub fn forget(run_dir: &Path) -> io::Result<()> {
    match fs::remove_file(file(run_dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// As it stands in the file; prefixes as text.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    node_name: String,
    pod_cidrs: Vec<String>,
    node_addresses: Vec<IpAddr>,
    allowed: Vec<Allowed>,
    idle: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowed {
    namespace: String,
    name: String,
    prefixes: Vec<String>,
}

impl Kept {
    fn of(node_name: &str, desired: &Desired) -> Self {
        let Desired { pod_cidrs, node_addresses, allowed, idle } = desired;
        let text = |prefixes: &Vec<IpCidr>| prefixes.iter().map(ToString::to_string).collect();
        let allowed = allowed.iter().map(|((namespace, name), prefixes)| Allowed {
            namespace: namespace.clone(),
            name: name.clone(),
            prefixes: text(prefixes),
        });
        Self {
            node_name: node_name.to_owned(),
            pod_cidrs: text(pod_cidrs),
            node_addresses: node_addresses.clone(),
            allowed: allowed.collect(),
            idle: idle.clone(),
        }
    }

    fn desired(self, node_name: &str) -> Option<Desired> {
        if self.node_name != node_name {
            return None;
        }
        let prefixes = |texts: &[String]| -> Option<Vec<IpCidr>> {
            texts.iter().map(|text| prefix(text)).collect()
        };
        let mut allowed = BTreeMap::new();
        for pod in self.allowed {
            allowed.insert((pod.namespace, pod.name), prefixes(&pod.prefixes)?);
        }
        Some(Desired {
            pod_cidrs: prefixes(&self.pod_cidrs)?,
            node_addresses: self.node_addresses,
            allowed,
            idle: self.idle,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_by_its_node_alone() {
        let run_dir = std::env::temp_dir().join(format!("hs-last-{}", std::process::id()));
        fs::create_dir(&run_dir).unwrap();
        assert_eq!(read(&run_dir, "n1"), None);
        let cidr = |text: &str| prefix(text).unwrap();
        let desired = Desired {
            pod_cidrs: vec![cidr("10.244.1.0/24"), cidr("fd00:10:244:1::/64")],
            node_addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            allowed: [(("demo".to_owned(), "vip".to_owned()), vec![cidr("198.51.100.7")])].into(),
            idle: ["Service".to_owned()].into(),
        };
        keep(&run_dir, "n1", &Desired::default()).unwrap();
        keep(&run_dir, "n1", &desired).unwrap();
        assert_eq!(read(&run_dir, "n1"), Some(desired));
        assert_eq!(read(&run_dir, "n2"), None);
        let text = fs::read_to_string(file(&run_dir)).unwrap();
        for damage in [text.replace("/24", "/240"), text.replace("idle", "odd"), String::new()] {
            fs::write(file(&run_dir), damage).unwrap();
            assert_eq!(read(&run_dir, "n1"), None);
        }
        forget(&run_dir).unwrap();
        forget(&run_dir).unwrap();
        assert_eq!(fs::read_dir(&run_dir).unwrap().count(), 0);
        fs::remove_dir(&run_dir).unwrap();
    }
}

//! The last good desired state, in a file of the run directory: what a worker goes on with whose
//! objects cannot be taken in at its start: manifests that are broken when the one before it dies,
//! is killed with its daemon or hands over; an API server that is away. Numbers of Services are
//! found in it as well.
//!
//! It is there while a daemon runs and after it was killed. An orderly end removes it where
//! manifests are the source: whoever starts a daemon is told what is wrong with them, and nothing
//! of before is brought back. With the API server it stays, since nobody who starts a daemon can
//! mend a server that is away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smoltcp::wire::IpCidr;
use stack::words::{Words, whole};

use super::objects::{Desired, ObjectError};
use super::services::HealthCheck;
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

/// As it stands in the file; prefixes as text, Services as words, as they stand in the journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    node_name: String,
    pod_cidrs: Vec<String>,
    cluster_cidrs: Vec<String>,
    service_cidrs: Vec<String>,
    node_addresses: Vec<IpAddr>,
    allowed: Vec<Allowed>,
    services: Vec<Vec<u64>>,
    health_checks: Vec<HealthCheck>,
    leaving: bool,
    faults: Vec<ObjectError>,
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
        let Desired {
            pod_cidrs,
            cluster_cidrs,
            service_cidrs,
            node_addresses,
            allowed,
            services,
            health_checks,
            leaving,
            faults,
            idle,
        } = desired;
        let text = |prefixes: &Vec<IpCidr>| prefixes.iter().map(ToString::to_string).collect();
        let allowed = allowed.iter().map(|((namespace, name), prefixes)| Allowed {
            namespace: namespace.clone(),
            name: name.clone(),
            prefixes: text(prefixes),
        });
        let services = services.iter().map(|service| {
            let mut words = Vec::new();
            service.put(&mut words);
            words
        });
        Self {
            node_name: node_name.to_owned(),
            pod_cidrs: text(pod_cidrs),
            cluster_cidrs: text(cluster_cidrs),
            service_cidrs: text(service_cidrs),
            node_addresses: node_addresses.clone(),
            allowed: allowed.collect(),
            services: services.collect(),
            health_checks: health_checks.clone(),
            leaving: *leaving,
            faults: faults.clone(),
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
            cluster_cidrs: prefixes(&self.cluster_cidrs)?,
            service_cidrs: prefixes(&self.service_cidrs)?,
            node_addresses: self.node_addresses,
            allowed,
            services: self.services.iter().map(|words| whole(words)).collect::<Option<_>>()?,
            health_checks: self.health_checks,
            leaving: self.leaving,
            faults: self.faults,
            idle: self.idle,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::manifests;
    use crate::kube::objects::{self, Objects};
    use crate::kube::place::Known;

    /// Something of everything that is kept.
    const MANIFESTS: &str = "
kind: Node
metadata: {name: n1}
spec:
  podCIDRs: [10.244.1.0/24, 'fd00:10:244:1::/64']
  taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]
status:
  addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: '2001:db8::1'}]
---
kind: Node
metadata: {name: n2}
spec: {podCIDRs: [10.244.2.0/24]}
---
kind: Pod
metadata:
  name: vip
  namespace: demo
  annotations: {hopscope.dev/allowed-addresses: 198.51.100.7}
---
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/16]}
---
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.7
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 32000
  externalIPs: [127.0.0.1]
  ports: [{port: 80}]
---
kind: NetworkPolicy
";

    #[test]
    fn what_is_kept_is_read_by_its_node_alone() {
        let run_dir = std::env::temp_dir().join(format!("hs-last-{}", std::process::id()));
        fs::create_dir(&run_dir).unwrap();
        assert_eq!(read(&run_dir, "n1"), None);
        let mut objects = Objects::default();
        manifests::parse("a.yaml", MANIFESTS, &mut objects).unwrap();
        let desired = objects::desired(&objects, &Known::alone("n1")).unwrap();
        assert_eq!((desired.services.len(), desired.faults.len()), (1, 1));
        let Desired { pod_cidrs, cluster_cidrs, service_cidrs, node_addresses, .. } = &desired;
        assert_eq!((pod_cidrs.len(), cluster_cidrs.len()), (2, 3));
        assert_eq!((service_cidrs.len(), node_addresses.len()), (1, 2));
        assert_eq!((desired.allowed.len(), desired.idle.len()), (1, 1));
        assert_eq!((desired.health_checks.len(), desired.leaving), (1, true));
        keep(&run_dir, "n1", &Desired::default()).unwrap();
        keep(&run_dir, "n1", &desired).unwrap();
        assert_eq!(read(&run_dir, "n1"), Some(desired));
        assert_eq!(read(&run_dir, "n2"), None);
        let text = fs::read_to_string(file(&run_dir)).unwrap();
        let damages = [("/24", "/240"), ("idle", "odd"), ("\"services\":[[", "\"services\":[[7,")];
        for (what, with) in damages {
            let damage = text.replace(what, with);
            assert_ne!(damage, text);
            fs::write(file(&run_dir), damage).unwrap();
            assert_eq!(read(&run_dir, "n1"), None);
        }
        forget(&run_dir).unwrap();
        forget(&run_dir).unwrap();
        assert_eq!(fs::read_dir(&run_dir).unwrap().count(), 0);
        fs::remove_dir(&run_dir).unwrap();
    }
}

//! The bench's namespaces: named with a prefix and the process id, so that a later run can remove
//! what a killed one left, and nothing else.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::Fallible;

/// Every name begins so, followed by the process id.
pub(crate) const PREFIX: &str = "hopbench-";
/// Where iproute2 keeps namespaces.
const DIRECTORY: &str = "/run/netns";

/// A namespace. It goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Netns {
    name: String,
}

impl Netns {
    /// Makes one, with its loopback up and cubic as the way to control congestion.
    pub(crate) fn make(label: &str) -> Fallible<Self> {
        let name = format!("{PREFIX}{}-{label}", std::process::id());
        ip(&format!("netns add {name}"))?;
        let netns = Self { name };
        netns.ip("link set lo up")?;
        netns.within(set_cubic)??;
        Ok(netns)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Runs `ip` inside.
    pub(crate) fn ip(&self, words: &str) -> Fallible<()> {
        ip(&format!("-n {} {words}", self.name))
    }

    /// Loads rules of nftables inside.
    pub(crate) fn nft(&self, rules: &str) -> Fallible<()> {
        let missing = |error| format!("nft (package nftables): {error}");
        let mut command = Command::new("nft");
        command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.within(|| command.spawn())?.map_err(missing)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(rules.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("nft: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
    }

    /// Does something on a thread inside. Sockets made there stay there, whoever uses them.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Fallible<T> {
        let path = self.path();
        thread::scope(|scope| {
            let inside = scope.spawn(move || enter(&path).map(|()| work()));
            inside.join().map_err(|_panic| "a thread inside a namespace panicked")?
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // A name that stays is removed by the next run.
        drop(ip(&format!("netns del {}", self.name)));
    }
}

/// Moves the calling thread into a namespace.
pub(crate) fn enter(path: &Path) -> Fallible<()> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?;
    Ok(())
}

/// Names of namespaces whose bench has ended without removing them.
pub(crate) fn left_behind() -> io::Result<Vec<String>> {
    let names = match fs::read_dir(DIRECTORY) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut left = Vec::new();
    for name in names {
        let name = name?.file_name().to_string_lossy().into_owned();
        if is_orphan(&name) {
            left.push(name);
        }
    }
    Ok(left)
}

/// Whether a name is a bench's and the process in it is gone.
pub(crate) fn is_orphan(name: &str) -> bool {
    let pid = name.strip_prefix(PREFIX).map(|rest| rest.split('-').next().unwrap_or(rest));
    let pid = pid.and_then(|pid| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

/// Runs `ip` with plain words.
pub(crate) fn ip(words: &str) -> Fallible<()> {
    let output = Command::new("ip")
        .args(words.split_whitespace())
        .output()
        .map_err(|error| format!("ip (package iproute2): {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// Lets namespaces choose cubic. The list is the machine's alone; what it has stays in it.
pub(crate) fn allow_cubic() -> Fallible<()> {
    // Missing where the bench itself runs in a namespace: then the list is somebody else's to set.
    let Ok(allowed) = fs::read_to_string(ALLOWED_CONTROL) else { return Ok(()) };
    if !allowed.split_whitespace().any(|name| name == CUBIC) {
        fs::write(ALLOWED_CONTROL, format!("{} {CUBIC}", allowed.trim()))
            .map_err(|error| format!("cannot add {CUBIC} to {ALLOWED_CONTROL}: {error}"))?;
    }
    Ok(())
}

/// Makes cubic what TCP sockets of the calling thread's namespace get.
fn set_cubic() -> Fallible<()> {
    fs::write(DEFAULT_CONTROL, CUBIC).map_err(|error| {
        format!(
            "cannot set {CUBIC} in a namespace ({error}): add it to the machine's {ALLOWED_CONTROL}"
        )
    })?;
    Ok(())
}

const CUBIC: &str = "cubic";
const DEFAULT_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
const ALLOWED_CONTROL: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dead_bench_leaves_orphans() {
        let own = std::process::id();
        // Above the kernel's largest process id.
        assert!(is_orphan("hopbench-4999999-kernel-a"));
        assert!(!is_orphan(&format!("hopbench-{own}-kernel-a")));
        assert!(!is_orphan("hopbench-"));
        assert!(!is_orphan("somebody-4999999"));
    }
}

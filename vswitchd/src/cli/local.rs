//! What `hopctl` does on the node itself, without a daemon.

use std::error::Error;
use std::fs::OpenOptions;
use std::path::Path;

use super::args::Cleanup;
use crate::admin::objects::Check;
use crate::admin::socket;
use crate::cni::store::Store;
use crate::directories::Directories;
use crate::kube::last;
use crate::node::preflight;
use crate::node::{Kernel, Linux};
use crate::recorder::home;
use crate::supervisor;

/// Where TAPs are made.
const TUN: &str = "/dev/net/tun";

/// Removes the pods' interfaces, the node's own port with its routes, rules and settings, the
/// switch's namespace, and what is remembered of all these.
///
/// # Errors
/// A sentence that says what could not be removed, or that a daemon runs. What was removed before
/// stays removed.
pub fn cleanup(args: &Cleanup) -> Result<Vec<String>, String> {
    // A daemon holds both for as long as it runs, before it has a socket and after.
    let _taken =
        Directories::take_existing(&args.run_dir, &args.state_dir).map_err(|error| told(&error))?;
    let linux = Linux::new(args.run_dir.clone()).map_err(|error| told(&error))?;
    let mut removed = Vec::new();
    if args.state_dir.exists() {
        pods(&linux, &args.state_dir, &mut removed)?;
    }
    removed.extend(linux.cleanup(&args.host_port).map_err(|error| told(&error))?);
    let sockets =
        [socket::NAME, "cni.sock", supervisor::SOCKET].map(|name| args.run_dir.join(name));
    for file in sockets.iter().chain([&last::file(&args.run_dir)]) {
        remove(file, &mut removed)?;
    }
    let journal = home::remove(&args.run_dir)
        .map_err(|(path, error)| format!("{} cannot be removed: {error}", path.display()))?;
    removed.extend(journal.iter().map(|path| path.display().to_string()));
    Ok(removed)
}

fn pods(linux: &Linux, state_dir: &Path, removed: &mut Vec<String>) -> Result<(), String> {
    let (store, loaded) = Store::open(state_dir).map_err(|error| told(&error))?;
    for attachment in &loaded.attachments {
        // A path may by now mean another namespace.
        let netns = linux.open_netns(&attachment.netns).ok();
        let netns = netns.filter(|netns| netns.inode == attachment.netns_inode);
        linux.unwire(netns.as_ref(), &attachment.link()).map_err(|error| told(&error))?;
        store.remove(&attachment.key).map_err(|error| told(&error))?;
        removed.push(format!("{} of {}", attachment.key.ifname, attachment.label()));
    }
    remove(&state_dir.join("leases.json"), removed)
}

fn remove(path: &Path, removed: &mut Vec<String>) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Ok(()) => removed.push(path.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("{} cannot be removed: {error}", path.display())),
    }
    Ok(())
}

/// An error with its causes.
fn told(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", told(source)),
        None => error.to_string(),
    }
}

/// Whether a daemon could start.
#[must_use]
pub fn check() -> Vec<Check> {
    vec![root(), tun(Path::new(TUN))]
}

/// Root of a container may lack what root of the machine has.
fn root() -> Check {
    let lacks = preflight::missing_capabilities();
    let (message, mend) = match (nix::unistd::geteuid().is_root(), lacks.is_empty()) {
        (true, true) => ("this user is root".to_owned(), None),
        (true, false) => (
            format!("this user is root without the capabilities {}", lacks.join(", ")),
            Some("give the container these capabilities".to_owned()),
        ),
        (false, _) => {
            ("this user is not root".to_owned(), Some("run vswitchd and hopctl as root".to_owned()))
        }
    };
    Check { name: "user".to_owned(), ok: mend.is_none(), message, mend }
}

fn tun(path: &Path) -> Check {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    let message = match &opened {
        Ok(_) => format!("{} opens", path.display()),
        Err(error) => format!("{} does not open: {error}", path.display()),
    };
    let ok = opened.is_ok();
    let mend = (!ok).then(|| "modprobe tun; in a container, mount /dev/net/tun".to_owned());
    Check { name: "tun".to_owned(), ok, message, mend }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_is_named_with_its_mend() {
        let check = tun(Path::new("/nowhere/tun"));
        assert!(!check.ok && check.message.contains("/nowhere/tun"));
        assert!(check.mend.is_some_and(|mend| mend.contains("modprobe tun")));
    }
}

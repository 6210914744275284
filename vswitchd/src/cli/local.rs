//! What `hopctl` does on the node itself, without a daemon.

use std::fs::OpenOptions;
use std::path::Path;

use super::args::Cleanup;
use crate::admin::objects::Check;
use crate::node::Linux;

/// Where TAPs are made.
const TUN: &str = "/dev/net/tun";

/// Removes the node's own port with its routes, rules and settings, and the switch's namespace.
///
/// # Errors
/// A sentence that says what could not be removed.
pub fn cleanup(args: &Cleanup) -> Result<Vec<String>, String> {
    let told = |error: crate::node::NodeError| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let linux = Linux::new(args.run_dir.clone()).map_err(told)?;
    linux.cleanup(&args.host_port).map_err(told)?;
    Ok(vec![format!("removed {} with its routes, rules and settings", args.host_port)])
}

/// Whether a daemon could start.
#[must_use]
pub fn check() -> Vec<Check> {
    vec![root(), tun(Path::new(TUN))]
}

fn root() -> Check {
    let ok = nix::unistd::geteuid().is_root();
    let mend = (!ok).then(|| "run vswitchd and hopctl as root".to_owned());
    let message = if ok { "this user is root" } else { "this user is not root" };
    Check { name: "user".to_owned(), ok, message: message.to_owned(), mend }
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

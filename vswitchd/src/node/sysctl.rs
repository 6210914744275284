//! Kernel settings below /proc/sys/net, of the calling thread's network namespace.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::NodeError;

/// Where they are mounted.
const ROOT: &str = "/proc/sys/net";

/// A setting of an interface, IPv4: `ipv4/conf/eth0/rp_filter`.
pub(crate) fn ipv4(ifname: &str, name: &str) -> String {
    format!("ipv4/conf/{ifname}/{name}")
}

/// A setting of an interface, IPv6: `ipv6/conf/eth0/accept_ra`.
pub(crate) fn ipv6(ifname: &str, name: &str) -> String {
    format!("ipv6/conf/{ifname}/{name}")
}

/// Reads a setting, without the line's end. `None` when the kernel has no such setting.
///
/// # Errors
/// The kernel's.
pub(crate) fn read(key: &str) -> Result<Option<String>, NodeError> {
    match fs::read_to_string(path(key)) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => {
            Err(NodeError::Kernel { doing: format!("cannot read the setting net/{key}"), source })
        }
    }
}

/// Writes a setting unless it has that value already: /proc/sys may be mounted read-only where
/// nothing is left to do.
///
/// # Errors
/// The kernel's, a missing setting included.
pub(crate) fn write(key: &str, value: &str) -> Result<(), NodeError> {
    if read(key)?.as_deref() == Some(value) {
        return Ok(());
    }
    fs::write(path(key), value).map_err(|source| NodeError::Kernel {
        doing: format!("cannot set net/{key} to {value}"),
        source,
    })
}

/// Whether this kernel has IPv6 at all.
pub(crate) fn has_ipv6() -> bool {
    Path::new(ROOT).join("ipv6").is_dir()
}

/// Keys are joined as paths, with `/`: an interface's name may hold dots.
fn path(key: &str) -> PathBuf {
    Path::new(ROOT).join(key)
}

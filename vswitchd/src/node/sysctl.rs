//! Kernel settings below /proc/sys/net, of the calling thread's network namespace.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::NodeError;

/// Where they are mounted.
const ROOT: &str = "/proc/sys/net";
/// Bytes of a value at most: a list of a thousand ranges.
const LONGEST: usize = 16 << 10;

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
    // In one piece: the kernel gives as much of a list as there is room for, and no rest.
    let whole = || {
        let mut bytes = vec![0; LONGEST];
        let read = File::open(path(key))?.read(&mut bytes)?;
        bytes.truncate(read);
        String::from_utf8(bytes).map_err(io::Error::other)
    };
    match whole() {
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
    // The line's end lets a value be empty: a list of nothing.
    fs::write(path(key), format!("{value}\n")).map_err(|source| NodeError::Kernel {
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

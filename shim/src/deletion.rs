//! A DEL that came while the daemon was away, written down: `deletions/` beside the socket holds
//! one file each, and the daemon carries them out at its next start. 0600 in a 0700 directory,
//! renamed into place (SEC-25).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::proto::Request;

/// Name of the directory, beside the socket.
pub const DIRECTORY: &str = "deletions";

/// What such a file holds, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// The request, as it would have gone over the socket.
    pub request: Request,
}

/// A file name without extension for an attachment: readable, safe, and different for different
/// ones. Both names must have passed [`crate::environment`]; of a longer id the first 64 bytes are
/// shown.
#[must_use]
pub fn file_stem(container_id: &str, ifname: &str) -> String {
    let safe = |text: &str| -> String {
        let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        text.chars().take(64).map(|c| if keep(c) { c } else { '_' }).collect()
    };
    // FNV-1a, 128 bits: nobody can be expected to meet two container ids with one value.
    let mut hash = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    for byte in container_id.bytes().chain([0]).chain(ifname.bytes()) {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    format!("{}-{}-{hash:032x}", safe(container_id), safe(ifname))
}

/// The directory for a socket.
#[must_use]
pub fn directory(socket: &Path) -> PathBuf {
    socket.parent().unwrap_or_else(|| Path::new("/")).join(DIRECTORY)
}

/// Writes a request down. The directory and its parent are made when missing; nothing further up
/// is, so that a mistyped socket does not pass for a daemon that is away.
///
/// # Errors
/// The file system's; PermissionDenied when others may write to the directory.
pub fn record(
    directory: &Path,
    container_id: &str,
    ifname: &str,
    request: &Request,
) -> io::Result<PathBuf> {
    if let Some(parent) = directory.parent() {
        make(parent)?;
    }
    make(directory)?;
    let meta = fs::symlink_metadata(directory)?;
    if !meta.is_dir() || meta.mode() & 0o022 != 0 {
        let text = format!("{}: others may write to it", directory.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let stem = file_stem(container_id, ifname);
    let temporary = directory.join(unfinished(&stem, std::process::id()));
    let path = directory.join(format!("{stem}.json"));
    let body = serde_json::to_vec(&Deletion { request: request.clone() })?;
    let written = write_whole(&temporary, &body).and_then(|()| fs::rename(&temporary, &path));
    if let Err(error) = written {
        // The first error is the one to tell; a leftover is swept by the daemon's next start.
        drop(fs::remove_file(&temporary));
        return Err(error);
    }
    File::open(directory)?.sync_all()?;
    Ok(path)
}

/// Name of a file that a plugin's process has not finished.
fn unfinished(stem: &str, writer: u32) -> String {
    format!(".{stem}.{writer}")
}

/// The process that began a file of this name; `None` for finished ones and strangers'.
#[must_use]
pub fn writer(name: &str) -> Option<u32> {
    name.strip_prefix('.')?.rsplit_once('.')?.1.parse().ok()
}

fn write_whole(path: &Path, body: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(body)?;
    file.sync_all()
}

fn make(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_known_by_the_name_of_what_it_left() {
        let stem = file_stem("a", "eth0");
        assert_eq!(writer(&unfinished(&stem, 77)), Some(77));
        for other in [format!("{stem}.json"), format!("{stem}.77"), ".hidden".to_owned()] {
            assert_eq!(writer(&other), None, "{other}");
        }
    }

    #[test]
    fn stems_differ_and_stay_in_their_directory() {
        let long = "a".repeat(300);
        let pairs = [
            ("a", "eth0"),
            ("a-eth0", ""),
            ("a", "eth1"),
            ("a.b", "c"),
            ("a_b", "c"),
            (&long, "x"),
        ];
        let mut stems: Vec<String> = pairs.iter().map(|(id, name)| file_stem(id, name)).collect();
        assert!(stems.iter().all(|stem| stem.len() < 160 && !stem.contains(['/', '.'])));
        stems.sort();
        stems.dedup();
        assert_eq!(stems.len(), pairs.len());
    }
}

//! Small file systems, to be filled up.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Somebody's file that takes the room.
pub(crate) const BALLAST: &str = "ballast";
/// What a tmpfs gives out at once.
const PAGE: usize = 4_096;

/// A tmpfs, unmounted at the end.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Mounts one of that size, as mount(8) writes it.
    pub(crate) fn new(at: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&at).unwrap();
        let disk = Self(at);
        disk.mount(&["-t", "tmpfs", "-o", &format!("mode=700,size={size}"), "tmpfs"]);
        disk
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Takes all room but so many pages.
    pub(crate) fn fill_but(&self, pages: u64) {
        let mut ballast = fs::File::create(self.0.join(BALLAST)).unwrap();
        while ballast.write_all(&[1; PAGE]).is_ok() {}
        let length = ballast.metadata().unwrap().len();
        ballast.set_len(length - pages * PAGE as u64).unwrap();
    }

    /// Makes it larger.
    pub(crate) fn grow(&self, size: &str) {
        self.mount(&["-o", &format!("remount,size={size}")]);
    }

    fn mount(&self, args: &[&str]) {
        let output = Command::new("mount").args(args).arg(&self.0).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

//! Where the journal lies.

use super::super::tests::Scratch;
use super::*;

/// A directory on a disk, if this machine has one where tests may write.
fn on_disk() -> Option<PathBuf> {
    let path = std::env::temp_dir().join(format!("hopscope-home-{}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    let disk = in_memory("run-dir", &path).is_err();
    if !disk {
        fs::remove_dir_all(&path).unwrap();
    }
    disk.then_some(path)
}

#[test]
fn a_run_dir_in_memory_holds_the_journal() {
    let scratch = Scratch::new();
    let home = Home::make(&scratch.0, None).unwrap();
    assert_eq!(home, Home { directory: scratch.0.clone(), chosen: false });
    let other = scratch.0.join("elsewhere");
    let home = Home::make(&scratch.0, Some(&other)).unwrap();
    assert_eq!(home.directory, other);
    assert_eq!(fs::read_link(scratch.ring()).unwrap(), other.join(FILE));
    assert_eq!(fs::metadata(&other).unwrap().permissions().mode() & 0o777, 0o700);
    fs::write(other.join(FILE), "x").unwrap();
    let removed = remove(&scratch.0).unwrap();
    assert_eq!(removed, [other.join(FILE), scratch.ring()]);
}

#[test]
fn a_run_dir_on_a_disk_is_given_shared_memory() {
    let Some(disk) = on_disk() else { return };
    let home = Home::make(&disk, None).unwrap();
    assert!(home.chosen && home.directory.starts_with(SHARED_MEMORY));
    assert_eq!(Home::make(&disk, None).unwrap(), home, "the same at the next start");
    fs::write(disk.join(FILE), "x").unwrap();
    assert!(home.directory.join(FILE).exists());
    remove(&disk).unwrap();
    assert!(!home.directory.exists());
    let error = Home::make(&disk, Some(&disk.join("journal"))).unwrap_err().to_string();
    assert!(error.contains("journal-dir") && error.contains("/dev/shm/hopscope"), "{error}");
    fs::remove_dir_all(&disk).unwrap();
}

#[test]
fn a_strangers_directory_is_refused() {
    let scratch = Scratch::new();
    let link = scratch.0.join("link");
    symlink("/", &link).unwrap();
    let error = private(&link).unwrap_err().to_string();
    assert!(error.contains("another user"), "{error}");
}

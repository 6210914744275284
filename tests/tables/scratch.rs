//! A copy of the crate `stack` in a workspace of its own, to be changed and checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The copy.
pub(crate) struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// A fresh copy. What was compiled for an earlier one is kept beside it.
    pub(crate) fn of_stack() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("a-table-more");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let _not_there = fs::remove_dir_all(folder.join("stack"));
        copy(&root.join("stack"), &folder.join("stack"));
        fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
        fs::copy(root.join("rust-toolchain.toml"), folder.join("rust-toolchain.toml")).unwrap();
        // What all crates of the workspace share, without its other members.
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let section = |name: &str| {
            let rest = manifest.split_once(&format!("\n[{name}]\n")).unwrap().1;
            format!("[{name}]\n{}\n", rest.split("\n[").next().unwrap())
        };
        let shared = ["workspace.package", "workspace.lints.rust", "workspace.lints.clippy"];
        let members = "[workspace]\nresolver = \"3\"\nmembers = [\"stack\"]\n\n";
        let text = shared.iter().fold(members.to_owned(), |text, name| text + &section(name));
        fs::write(folder.join("Cargo.toml"), text).unwrap();
        Self { folder }
    }

    /// Adds text behind another that stands in a file of the crate once.
    pub(crate) fn add(&self, file: &str, (behind, text): (&str, &str)) {
        let path = self.folder.join("stack").join(file);
        let before = fs::read_to_string(&path).unwrap();
        assert_eq!(before.matches(behind).count(), 1, "`{behind}` stands in {file} once");
        fs::write(&path, before.replacen(behind, &format!("{behind}{text}"), 1)).unwrap();
    }

    /// Compiles it, without the network; or what the compiler says.
    pub(crate) fn check(&self) -> Result<(), String> {
        let output = Command::new(env!("CARGO"))
            .args(["check", "--offline", "--quiet", "--package", "stack", "--color", "never"])
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", self.folder.join("target"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(text) }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

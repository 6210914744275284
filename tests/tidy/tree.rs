//! The files of the tree, and how a rule reports what it found.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A text file of the tree.
#[derive(Debug)]
pub(crate) struct File {
    /// Path from the root of the workspace, with slashes.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

impl File {
    /// Whether it is Rust source.
    pub(crate) fn is_rust(&self) -> bool {
        self.extension() == "rs"
    }

    /// Whether it is a document.
    pub(crate) fn is_markdown(&self) -> bool {
        self.extension() == "md"
    }

    /// The part of the name after the last dot, or nothing.
    fn extension(&self) -> &str {
        Path::new(&self.path).extension().and_then(|ext| ext.to_str()).unwrap_or("")
    }

    /// Lines with their numbers, from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Lines before the file's own unit tests, without comments: what ships.
    pub(crate) fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines()
            .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
            .map(|(number, line)| (number, line.split("//").next().unwrap_or("")))
    }

    /// Whether all of it is test code.
    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
    }
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the package `tests` lies in the workspace").to_owned()
}

/// Every text file that is tracked, or would be: what `git add --all` would take.
pub(crate) fn files() -> Vec<File> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files of the tree");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let mut files: Vec<File> = String::from_utf8(listed.stdout)
        .expect("paths of the tree are UTF-8")
        .split_terminator('\0')
        .filter_map(|path| {
            // Recordings and deleted files have no text to judge.
            let text = std::fs::read_to_string(root().join(path)).ok()?;
            Some(File { path: path.to_owned(), text })
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup_by(|a, b| a.path == b.path);
    assert!(files.len() > 20, "git listed only {} files", files.len());
    files
}

/// Fails with everything that was found, one a line.
#[track_caller]
pub(crate) fn none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}\n  {}\n({} in all)", found.join("\n  "), found.len());
}

/// Whether `word` stands in `text` as a word of its own.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|s| s.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|s| s.chars().next());
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

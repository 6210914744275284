//! What each crate may stand on, and that every dependency says why it is there.

use std::process::Command;

use crate::tree::{files, none, root};

/// Everything `stack` may pull in: smoltcp with what it needs, and the hash tables.
const STACK: &[&str] = &[
    "bitflags",
    "byteorder",
    "cfg-if",
    "equivalent",
    "foldhash",
    "hash32",
    "hashbrown",
    "heapless",
    "managed",
    "smoltcp",
    "stable_deref_trait",
    "stack",
];

/// Everything the CNI plugin may pull in: std and serde.
const SHIM: &[&str] = &[
    "equivalent",
    "foldhash",
    "hashbrown",
    "indexmap",
    "itoa",
    "memchr",
    "proc-macro2",
    "quote",
    "ryu",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_json",
    "shim",
    "syn",
    "unicode-ident",
    "zmij",
];

/// The names of all crates that a package is built from, itself included.
fn tree(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "-e", "normal", "--prefix", "none", "-p", package])
        .current_dir(root())
        .output()
        .expect("cargo tree runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("names of crates are UTF-8");
    let mut names: Vec<String> =
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names.retain(|name| !name.is_empty());
    assert!(names.iter().any(|name| name == package), "cargo tree shows {package}: {names:?}");
    names
}

#[track_caller]
fn only(package: &str, allowed: &[&str]) {
    let found: Vec<String> =
        tree(package).into_iter().filter(|name| !allowed.contains(&name.as_str())).collect();
    none(&format!("crates that {package} may not stand on (tests/tidy/dependencies.rs):"), &found);
}

#[test]
fn the_core_stands_on_little() {
    only("stack", STACK);
}

#[test]
fn the_plugin_stands_on_serde_only() {
    only("shim", SHIM);
}

#[test]
fn every_dependency_says_why() {
    let mut found = Vec::new();
    for file in files().iter().filter(|file| file.path.ends_with("Cargo.toml")) {
        let mut inside = false;
        let mut explained = false;
        for (number, line) in file.lines() {
            if line.starts_with('[') {
                inside = line.contains("dependencies") && !line.starts_with("[workspace");
                explained = false;
            } else if line.trim().is_empty() {
                explained = false;
            } else if line.starts_with('#') {
                // A comment speaks for the entries right below it.
                explained = true;
            } else if inside && line.starts_with(|c: char| c.is_alphanumeric()) {
                let own = line.contains("workspace = true") || line.contains("path = ");
                // An entry over several lines has its comment above or on its first line.
                if !own && !explained && !comment_follows(&file.text, number) {
                    found.push(format!("{}:{number}: {line}", file.path));
                }
            }
        }
    }
    none("a dependency has a comment with the reason for it:", &found);
}

/// Whether the entry that begins at this line has a comment on it, up to its closing bracket.
fn comment_follows(text: &str, number: usize) -> bool {
    let mut lines = text.lines().skip(number - 1);
    let Some(first) = lines.next() else { return false };
    if first.contains(" # ") {
        return true;
    }
    let closed = first.matches('[').count() == first.matches(']').count()
        && first.matches('{').count() == first.matches('}').count();
    !closed
        && lines
            .take_while(|line| !line.starts_with('['))
            .find(|line| line.starts_with(']') || line.starts_with('}'))
            .is_some_and(|line| line.contains(" # "))
}

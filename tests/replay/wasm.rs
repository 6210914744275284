//! The same recordings in WebAssembly under node: the same digests.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{corpus, file};

/// Builds the module and gives back where it is.
fn module() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = "wasm32-unknown-unknown";
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "-p", "replay-wasm", "--target", target])
        .args(["--message-format", "json"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    // Cargo says where it put the module, whatever its target directory is.
    let text = String::from_utf8_lossy(&built.stdout);
    let name = text.split('"').rfind(|word| word.ends_with("replay_wasm.wasm"));
    PathBuf::from(name.expect("cargo names the module"))
}

#[test]
fn webassembly_comes_to_the_same_digests() {
    let folder = tempdir();
    let mut files = Vec::new();
    for (number, (name, excerpt)) in corpus().into_iter().enumerate() {
        let path = folder.join(format!("{number}.pcapng"));
        let bytes = file(&excerpt, 1);
        std::fs::write(&path, &bytes).unwrap();
        files.push((name, path, bytes));
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("replay/run.mjs");
    let ran = Command::new("node")
        .arg(script)
        .arg(module())
        .arg("77")
        .args(files.iter().map(|(_, path, _)| path))
        .output()
        .expect("node runs: make setup installs it");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = String::from_utf8(ran.stdout).unwrap();
    let texts: Vec<&str> = text.split_terminator('\0').collect();
    assert_eq!(texts.len(), files.len());
    for ((name, _, bytes), under_node) in files.iter().zip(texts) {
        // Another table seed here: it must not show.
        let here = replay_wasm::digests(bytes, 1);
        assert!(here.contains("cut: false") && here.contains("chain "), "{name}: {here}");
        assert_eq!(here, under_node, "{name}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// A new directory of this process.
pub(crate) fn tempdir() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("hopscope-replay-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

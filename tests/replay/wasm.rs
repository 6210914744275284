//! The same recordings in WebAssembly under node and in the optimised build: the same digests.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{corpus, file};

/// Builds a program or module of the package `replay-wasm` and gives back where it is.
fn built(args: &[&str], ends: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "-p", "replay-wasm", "--message-format", "json"])
        .args(args)
        .current_dir(root)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    // Cargo says where it put things, whatever its target directory is.
    let text = String::from_utf8_lossy(&built.stdout);
    let name = text.split('"').rfind(|word| word.ends_with(ends));
    PathBuf::from(name.expect("cargo names what it built"))
}

/// What each program says of the files, one text a file.
fn texts(command: &mut Command, files: &[PathBuf]) -> Vec<String> {
    let ran = command.arg("77").args(files).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = String::from_utf8(ran.stdout).unwrap();
    let texts: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
    assert_eq!(texts.len(), files.len());
    texts
}

#[test]
fn every_build_comes_to_the_same_digests() {
    let folder = tempdir();
    let mut files = Vec::new();
    for (number, (name, excerpt)) in corpus().into_iter().enumerate() {
        let name = name.replace(' ', "-");
        let path = folder.join(format!("{number}-{name}.pcapng"));
        std::fs::write(&path, file(&excerpt, 1)).unwrap();
        files.push(path);
    }
    same_in_every_build(&files);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
#[ignore = "replays what the other suites left in LAB_RECORDINGS: make again"]
fn what_the_suites_recorded_replays_in_every_build() {
    let folder = std::env::var("LAB_RECORDINGS").expect("LAB_RECORDINGS names a folder");
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let of = |prefix: &str| {
        let name =
            |file: &&PathBuf| file.file_name().unwrap().to_string_lossy().starts_with(prefix);
        files.iter().filter(name).count()
    };
    let (seeds, netns, demo) = (of("seed-"), of("netns-"), of("demo"));
    println!("{seeds} of simulated nodes, {netns} of tests in namespaces, {demo} of the demo");
    assert!(seeds >= 50 && netns >= 50 && demo == 1, "each suite left its own");
    same_in_every_build(&files);
}

/// Replays the files here, in WebAssembly, and if asked for in the optimised build: each by another
/// table seed, which must not show.
fn same_in_every_build(files: &[PathBuf]) {
    let here = files.iter().map(|path| {
        let text = replay_wasm::digests(&std::fs::read(path).unwrap(), 1);
        assert!(text.contains("cut: false") && text.contains("chain "), "{path:?}: {text}");
        text
    });
    let here: Vec<String> = here.collect();
    let mut others = Vec::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("replay/run.mjs");
    let module = built(&["--target", "wasm32-unknown-unknown"], "replay_wasm.wasm");
    let node = texts(Command::new("node").arg(script).arg(module), files);
    others.push(("WebAssembly", node));
    // The optimised build takes a while to make.
    if std::env::var_os("HOPSCOPE_REPLAY_RELEASE").is_some() {
        let program = built(&["--release", "--bin", "replay-wasm"], "/replay-wasm");
        others.push(("release", texts(&mut Command::new(program), files)));
    }
    for (build, texts) in others {
        for ((path, one), other) in files.iter().zip(&here).zip(texts) {
            assert_eq!(*one, other, "{build}: {path:?}");
        }
    }
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

//! Gungraun's runner: found or installed, started on this program, its results read.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use benches::counts::{Counts, Fallible};
use serde_json::Value;

/// Must be that of the library in `Cargo.toml`: the two speak a private protocol.
const VERSION: &str = "0.20.0";
const PROGRAM: &str = "gungraun-runner";
/// Set for the process that hands the cases to the runner.
const MARK: &str = "HOPSCOPE_INSTRUCTIONS_STARTED";

/// Whether this is the process that [`count`] starts.
pub(crate) fn is_started_by_us() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Counts the instructions of all cases.
///
/// # Errors
/// When valgrind or the runner is not to be had, or a case fails.
pub(crate) fn count() -> Fallible<Counts> {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !version.is_ok_and(|status| status.success()) {
        return Err("valgrind does not run: install Debian's package valgrind".into());
    }
    let program = std::env::current_exe()?;
    // target/release/deps/instructions-0123
    let target = program.ancestors().nth(3).ok_or("this program lies in no target directory")?;
    let path = path_with_runner(target)?;
    let home = target.join("bench").join("instructions");
    if home.exists() {
        // Results of cases that are no more would be read again.
        fs::remove_dir_all(&home)?;
    }
    let output = Command::new(&program)
        .args(["--bench", "--save-summary=json", "--callgrind-args=--cache-sim=no"])
        .env(MARK, "1")
        .env("PATH", path)
        .env("GUNGRAUN_HOME", &home)
        .output()?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        return Err(format!("counting failed:\n{}", String::from_utf8_lossy(&said)).into());
    }
    let mut counts = Counts::new();
    read_summaries(&home, &mut counts)?;
    if counts.is_empty() {
        return Err(format!("the runner left no results in {}", home.display()).into());
    }
    Ok(counts)
}

/// The PATH, with the runner of this version in it.
fn path_with_runner(target: &Path) -> Fallible<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if has_version(Path::new(PROGRAM)) {
        return Ok(path);
    }
    let root = target.join("tools").join(format!("gungraun-{VERSION}"));
    let directory = root.join("bin");
    if !has_version(&directory.join(PROGRAM)) {
        install(target, &root)?;
    }
    let directories = std::iter::once(directory).chain(std::env::split_paths(&path));
    Ok(std::env::join_paths(directories)?)
}

fn has_version(program: &Path) -> bool {
    let output = Command::new(program).arg("--version").stderr(Stdio::null()).output();
    output.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).split_whitespace().any(|word| word == VERSION)
    })
}

fn install(target: &Path, root: &Path) -> Fallible<()> {
    println!("installing {PROGRAM} {VERSION} below {}", root.display());
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = target.join("tools").join("gungraun-build");
    let status = Command::new(cargo)
        .args(["install", "--quiet", "--locked", "--root"])
        .arg(root)
        .arg("--target-dir")
        .arg(&build)
        .arg(format!("{PROGRAM}@{VERSION}"))
        .status()?;
    if !status.success() {
        return Err(format!("cannot install {PROGRAM} {VERSION}").into());
    }
    fs::remove_dir_all(build)?;
    Ok(())
}

/// Reads every `summary.json` below a directory.
fn read_summaries(directory: &Path, counts: &mut Counts) -> Fallible<()> {
    for entry in fs::read_dir(directory)? {
        let path: PathBuf = entry?.path();
        if path.is_dir() {
            read_summaries(&path, counts)?;
        } else if path.file_name().is_some_and(|name| name == "summary.json") {
            let summary: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
            let (case, count) = count_in(&summary)
                .ok_or_else(|| format!("{} has no count of instructions", path.display()))?;
            counts.insert(case, count);
        }
    }
    Ok(())
}

/// Name of the case and its instructions, as the runner's summary has them.
fn count_in(summary: &Value) -> Option<(String, u64)> {
    let word = |key| summary.get(key).and_then(Value::as_str);
    let case = format!("{}/{}", word("function_name")?, word("id")?);
    let profiles = summary.get("profiles")?.as_array()?;
    let callgrind = profiles.iter().find(|profile| profile["tool"] == "Callgrind")?;
    let count = callgrind.pointer("/data/total/metrics/Ir/values/new")?.as_u64()?;
    Some((case, count))
}

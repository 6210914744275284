//! Rules for single source files: width, length, names, words, and where `unsafe` may be.

use std::path::Path;

use crate::tree::{File, files, has_word, none};

/// Columns of a line of Rust.
const COLUMNS_MAX: usize = 100;
/// Lines of a file of Rust. The aim is 200.
const LINES_MAX: usize = 800;
/// Lines of `walk()`: one screen.
const WALK_LINES_MAX: usize = 45;
/// Names that say nothing about what is inside.
const NAMES_BANNED: &[&str] = &["utils", "util", "helpers", "helper", "common", "misc"];
/// The only places for `unsafe`.
const UNSAFE_PLACES: &[&str] = &[
    "vswitchd/src/port/",
    "vswitchd/src/node/netns.rs",
    "vswitchd/src/recorder/map.rs",
    // Names that a WebAssembly host calls count as such.
    "tests/replay/wasm/src/lib.rs",
];

/// The only places of the daemon that read a clock, and what for. On a frame's way there are two:
/// what the waiter reads is the core's time, and captures are told what that is in UTC.
const CLOCK_PLACES: &[(&str, &str)] = &[
    ("vswitchd/src/port/wake.rs", "the time of a wake-up, and how long a spin has lasted"),
    ("vswitchd/src/event_loop/clock.rs", "from that time to UTC"),
    ("vswitchd/src/capture/stream.rs", "the end of a capture with a duration, for its reader"),
    ("vswitchd/src/cni/registry.rs", "when a lease was given and freed"),
    ("vswitchd/src/daemon/sources.rs", "ages, for people"),
    ("vswitchd/src/health/host.rs", "the time of connections that are no part of the core"),
    ("vswitchd/src/cli/status.rs", "hopctl: how long to wait"),
    ("vswitchd/src/cli/progress.rs", "hopctl: how long it will take"),
    ("vswitchd/src/recorder/recovery.rs", "how long a recovery took, for people"),
    ("vswitchd/src/recorder/snapshots.rs", "how long a step of a snapshot took, to take less"),
    ("vswitchd/src/supervisor/mod.rs", "when the next worker is due, and the end of patience"),
    ("vswitchd/src/supervisor/lock.rs", "how long to wait for an orphan"),
    ("vswitchd/src/supervisor/handover/give.rs", "the end of patience with who takes over"),
    ("vswitchd/src/supervisor/handover/take.rs", "the end of patience with who hands over"),
    ("vswitchd/src/supervisor/process.rs", "since when a worker is of use"),
    ("vswitchd/src/worker/mod.rs", "since when the parent is there"),
];
/// What reads one.
const CLOCKS: &[&str] = &["Instant::now", "SystemTime", "UNIX_EPOCH", "clock_gettime", "elapsed"];

fn rust() -> Vec<File> {
    files().into_iter().filter(File::is_rust).collect()
}

#[test]
fn lines_fit_the_width() {
    let mut found = Vec::new();
    for file in rust() {
        for (number, line) in file.lines() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                found.push(format!("{}:{number}: {columns} columns", file.path));
            }
        }
    }
    none(&format!("a line has at most {COLUMNS_MAX} columns:"), &found);
}

#[test]
fn files_are_short() {
    let found: Vec<String> = rust()
        .iter()
        .map(|file| (&file.path, file.text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    none(&format!("a file has at most {LINES_MAX} lines, tests included:"), &found);
}

#[test]
fn files_say_what_they_are() {
    let found: Vec<String> = rust()
        .iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| file.path.clone())
        .collect();
    none("a file of Rust begins with `//!` and what it is:", &found);
}

#[test]
fn names_mean_something() {
    let mut found = Vec::new();
    for file in files() {
        let path = Path::new(&file.path);
        for part in path.iter().filter_map(|part| part.to_str()) {
            let stem = part.split('.').next().unwrap_or(part);
            if NAMES_BANNED.contains(&stem) {
                found.push(format!("{}: `{stem}`", file.path));
            }
        }
        if file.is_rust() {
            for (number, line) in file.shipped() {
                let module = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
                let name = module.strip_prefix("mod ").and_then(|s| s.split([';', ' ']).next());
                if name.is_some_and(|name| NAMES_BANNED.contains(&name)) {
                    found.push(format!("{}:{number}: {}", file.path, line.trim()));
                }
            }
        }
    }
    none("a module is named for what it holds:", &found);
}

#[test]
fn nothing_is_left_for_later() {
    // Spelled apart, so that this file does not find itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut found = Vec::new();
    for file in files() {
        for (number, line) in file.lines() {
            if marks.iter().any(|mark| has_word(line, mark)) {
                found.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none("what is left to do is an issue, not a comment:", &found);
}

#[test]
fn files_work_on_every_machine() {
    let foreign = [
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
        concat!("registry.npm", "js"),
        concat!("deb.debian", ".org"),
        concat!("proxy.golang", ".org"),
        concat!("\"/wo", "rk/"),
        concat!(" /wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
    ];
    let mut found = Vec::new();
    // The lock file is Cargo's own and names its registry by design.
    for file in files().iter().filter(|file| file.path != "Cargo.lock") {
        for (number, line) in file.lines() {
            if let Some(name) = foreign.iter().find(|name| line.contains(**name)) {
                found.push(format!("{}:{number}: `{}`", file.path, name.trim()));
            }
        }
    }
    none("no hosts of registries and no paths of one machine:", &found);
}

#[test]
fn text_is_clean() {
    let mut found = Vec::new();
    for file in files() {
        let makefile = file.path.ends_with("Makefile");
        for (number, line) in file.lines() {
            if line.ends_with([' ', '\t', '\r']) {
                found.push(format!("{}:{number}: white space at the end", file.path));
            }
            if line.contains('\t') && !makefile && file.is_rust() {
                found.push(format!("{}:{number}: a tab", file.path));
            }
        }
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            found.push(format!("{}: no newline at the end", file.path));
        }
    }
    none("lines end where their text ends, files with a newline:", &found);
}

#[test]
fn unsafe_stays_where_it_belongs() {
    let mut found = Vec::new();
    for file in rust() {
        if UNSAFE_PLACES.iter().any(|place| file.path.starts_with(place)) {
            continue;
        }
        for (number, line) in file.lines() {
            let code = line.split("//").next().unwrap_or("");
            let spoken = code.contains('"') || code.contains("unsafe_code");
            if has_word(code, concat!("un", "safe")) && !spoken {
                found.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none(&format!("unsafe code lies only in {UNSAFE_PLACES:?}:"), &found);
}

#[test]
fn clocks_are_read_where_it_is_known() {
    let mut found = Vec::new();
    let mut used = Vec::new();
    for file in rust().iter().filter(|file| file.path.starts_with("vswitchd/src/")) {
        if file.is_test() {
            continue;
        }
        let place = CLOCK_PLACES.iter().find(|(place, _)| *place == file.path);
        for (number, line) in file.shipped() {
            if CLOCKS.iter().any(|clock| has_word(line, clock)) {
                match place {
                    Some((place, _)) => used.push(*place),
                    None => found.push(format!("{}:{number}: {}", file.path, line.trim())),
                }
            }
        }
    }
    none("time on a frame's way is what the waiter read; see CLOCK_PLACES:", &found);
    let idle = CLOCK_PLACES.iter().filter(|(place, _)| !used.contains(place));
    let idle: Vec<String> = idle.map(|(place, _)| (*place).to_owned()).collect();
    none("these read no clock any more and leave CLOCK_PLACES:", &idle);
}

#[test]
fn the_walk_is_on_one_screen() {
    let path = "stack/src/pipeline/mod.rs";
    let files = files();
    let file = files.iter().find(|file| file.path == path).expect("the pipeline exists");
    let mut lines = file.lines().skip_while(|(_, line)| !has_word(line, "fn walk"));
    let (first, _) = lines.next().unwrap_or_else(|| panic!("{path} has a function `walk`"));
    let (last, _) = lines.find(|(_, line)| *line == "}").expect("the function ends");
    let length = last - first + 1;
    assert!(length <= WALK_LINES_MAX, "walk() has {length} lines, at most {WALK_LINES_MAX}");
}

/// Files that Cargo names itself: roots of crates.
fn is_root(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ["lib.rs", "main.rs", "build.rs"].contains(&name)
        || path.contains("/bin/")
        || path.starts_with("benches/")
        || (path.starts_with("tests/") && path.matches('/').count() == 1)
}

#[test]
fn every_file_is_reached() {
    let files = rust();
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !is_root(&file.path)) {
        let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let module = if name == "mod.rs" {
            folder.rsplit('/').next().unwrap_or(folder)
        } else {
            name.trim_end_matches(".rs")
        };
        // A parent lies beside the file or one folder up; a root may name it by `#[path]`.
        let above = folder.rsplit_once('/').map_or("", |(above, _)| above);
        let declared = files.iter().any(|other| {
            let beside = other.path.starts_with(folder) || other.path.starts_with(above);
            beside && has_word(&other.text, &format!("mod {module}"))
        });
        let target = declared || is_target(&files_manifest(&file.path), &file.path);
        if !target {
            found.push(file.path.clone());
        }
    }
    none("a file that no `mod` names is dead:", &found);
}

/// The nearest manifest above a file, as text.
fn files_manifest(path: &str) -> String {
    let full = crate::tree::root().join(path);
    full.ancestors()
        .skip(1)
        .map(|folder| folder.join("Cargo.toml"))
        .find(|manifest| manifest.exists())
        .and_then(|manifest| std::fs::read_to_string(manifest).ok())
        .unwrap_or_default()
}

/// Whether a manifest names the file as a target's path.
fn is_target(manifest: &str, path: &str) -> bool {
    manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"")?.strip_suffix('"'))
        .any(|target| path.ends_with(target))
}

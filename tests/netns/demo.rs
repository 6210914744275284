//! `make demo`: shows what it promises, and leaves nothing, even when it was killed half way.

use std::process::Command;
use std::time::Duration;

use lab::process::Output;
use lab::{Namespace, binaries, run::Run};

use crate::turn;
use crate::world::recordings;

/// What a run may leave on the machine: namespaces, directories and interfaces.
fn traces() -> (Vec<String>, String) {
    let mut names: Vec<String> = ["/run/netns".into(), lab::run::base()]
        .iter()
        .filter_map(|dir: &std::path::PathBuf| std::fs::read_dir(dir).ok())
        .flat_map(Iterator::flatten)
        .filter_map(|entry| entry.file_name().into_string().ok())
        // Namespaces of the lab, and its directories, which begin with a process id.
        .filter(|name| name.starts_with("hop") || name.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    names.sort();
    let links = Command::new("ip").args(["-o", "link", "show"]).output().unwrap();
    (names, String::from_utf8(links.stdout).unwrap())
}

fn demo(place: &Namespace, dir: &std::path::Path) -> lab::process::Process {
    let mut command = Command::new(binaries::lab().unwrap());
    command.arg("demo").current_dir(dir);
    place.spawn(command).unwrap()
}

#[test]
fn the_demo_shows_every_hop_and_leaves_nothing() {
    let _turn = turn();
    let run = Run::join().unwrap();
    let place = Namespace::new(&run, "demo").unwrap();
    let dir = run.dir("demo").unwrap();
    let before = traces();
    // Killed in the middle of its work: what it made is still there.
    let mut killed = demo(&place, &dir);
    killed.wait_line(Duration::from_secs(60), |line| line.contains("curl")).unwrap();
    drop(killed);
    assert_ne!(traces().0, before.0, "a killed demo could not clean up");
    for _ in 0..2 {
        let Output { stdout, .. } =
            demo(&place, &dir).finish(Duration::from_secs(180)).unwrap().success().unwrap();
        for promised in [
            "ping",
            "curl",
            "iperf3",
            "parse",
            "egress",
            "demo.pcapng",
            "SourceIpSpoofed",
            "demo-recording.pcapng",
            "verified",
        ] {
            assert!(stdout.contains(promised), "{promised}: {stdout}");
        }
        assert!(lab::tshark::judge(&dir.join("demo.pcapng")).unwrap() > 20);
        let recording = dir.join("demo-recording.pcapng");
        assert!(lab::tshark::judge_windows(&recording).unwrap() > 20);
        if let Some(folder) = recordings() {
            std::fs::copy(&recording, folder.join("demo.pcapng")).unwrap();
        }
        assert_eq!(traces(), before, "the next run removed what the killed one left, and its own");
    }
}

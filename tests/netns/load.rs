//! A node whose cores others need: the daemon takes none of them for itself.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::process::Process;

use crate::{KINDS, World};

/// How long is looked.
const SPAN: Duration = Duration::from_secs(2);
/// The share of one core that a daemon without frames may take.
const SHARE_MAX: f64 = 0.02;
/// Clock ticks of /proc a second (proc_pid_stat(5)): the same on every Linux of this platform.
const TICKS: f64 = 100.0;

/// Seconds of CPU that processes have used, their threads together.
fn used(pids: [u32; 2]) -> f64 {
    pids.map(used_by).iter().sum()
}

fn used_by(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: Vec<f64> =
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap()).collect();
    (ticks[0] + ticks[1]) / TICKS
}

#[test]
fn an_idle_daemon_leaves_busy_cores_alone() {
    for kind in KINDS {
        let world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        // Both of its processes.
        let told = world.hopctl_json(&["status"]).unwrap()["worker"].clone();
        let pid = |field: &str| u32::try_from(told[field].as_u64().unwrap()).unwrap();
        let daemon = [pid("pid"), pid("parentPid")];
        let _server = b.serve(&["udp-echo", "--listen", "[::]:7002"]).unwrap();
        let to = crate::pods::at(b.v4().unwrap().into(), 7002);
        let cores = std::thread::available_parallelism().unwrap().get();
        let busy = || {
            let mut shell = Command::new("sh");
            shell.args(["-c", "while :; do :; done"]);
            world.netns.spawn(shell).unwrap()
        };
        let busy: Vec<Process> = (0..cores).map(|_| busy()).collect();
        let before = used(daemon);
        // Round trips teach the waiter that spinning pays; then comes nothing more.
        a.lab(&["udp-rr", "--to", &to, "--size", "100", "--count", "5000"]).unwrap();
        let quiet = used(daemon);
        assert!(quiet > before, "{kind}: work is seen in the numbers");
        let began = Instant::now();
        std::thread::sleep(SPAN);
        let share = (used(daemon) - quiet) / began.elapsed().as_secs_f64();
        assert!(share < SHARE_MAX, "{kind}: an idle daemon took {share} of a core");
        drop(busy);
        world.settle(&[]);
    }
}

//! A second daemon takes over from the one that runs, and nobody notices.

use std::time::Duration;

use crate::{KINDS, World};

/// How often a daemon is followed by the next.
const TIMES: u32 = 20;

fn worker(world: &World) -> serde_json::Value {
    world.hopctl_json(&["status"]).unwrap()["worker"].clone()
}

#[test]
fn a_daemon_takes_over_and_the_old_one_ends() {
    for kind in KINDS {
        let mut world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let before = worker(&world);
        let old = world.hand_over().unwrap();
        println!("{}\n---\n{}", old.stderr, world.log());
        let after = worker(&world);
        assert_ne!(before["pid"], after["pid"]);
        assert_eq!(after["takeover"]["fromPid"], before["parentPid"]);
        let to = b.v4().unwrap().to_string();
        a.run("ping", &["-c", "3", "-i", "0.2", "-W", "2", &to]).unwrap();
        let [c] = world.pods(["c"]);
        c.run("ping", &["-c", "1", "-W", "2", &to]).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        world.settle(&[]);
    }
    let _ = TIMES;
}

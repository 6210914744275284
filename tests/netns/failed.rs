//! Writes that fail: a pod whose interface is down keeps its port, and what is for it is counted
//! as failed by errno, never lost.

use crate::World;
use crate::frames::{ethernet, hex, mac, udp4};

/// Frames sent to the pod that does not listen.
const FRAMES: u64 = 20;

#[test]
fn frames_for_a_pod_whose_interface_is_down() {
    let world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    let [from, to] = [&a, &b].map(|pod| mac(&pod.mac().unwrap()));
    let packet = udp4(a.v4().unwrap(), b.v4().unwrap(), 64, b"nobody is there");
    let frame = ethernet(to, from, 0x0800, &packet);
    // The sender's kernel says again and again which groups it listens to: that would fail as well.
    a.sysctl("net/ipv6/conf/eth0/disable_ipv6", "1").unwrap();
    world.settle(&[]);
    let counters = || {
        let list = world.hopctl_json(&["get", "counters"]).unwrap();
        let ports = list["items"].as_array().unwrap().clone();
        ports.into_iter().find(|port| port["port"] == "pod/default/b").unwrap()
    };
    b.ip(&["link", "set", "eth0", "down"]).unwrap();
    let before = counters();
    let file = world.netns.owner().fresh_path("frames");
    std::fs::write(&file, hex(&vec![frame; usize::try_from(FRAMES).unwrap()])).unwrap();
    let path = file.to_string_lossy();
    lab::pod::lab_run(&a, &["raw", "--interface", "eth0", "--frames", &path]).unwrap();
    // Its law is that transmitted = written + failed, for every port.
    world.settle(&[]);
    let after = counters();
    // A group frame that came while the pod was being wired has failed before, with ENODEV.
    let mut failed = before["failed"].clone();
    failed["EIO"] = FRAMES.into();
    assert_eq!(after["failed"], failed, "{after}");
    assert_eq!(after["written"], before["written"], "{after}");
    let transmitted = |counters: &serde_json::Value| counters["transmitted"].as_u64().unwrap();
    assert_eq!(transmitted(&after), transmitted(&before) + FRAMES, "{after}");
    // It heals by itself.
    b.ip(&["link", "set", "eth0", "up"]).unwrap();
    a.run("ping", &["-c", "1", "-W", "2", &b.v4().unwrap().to_string()]).unwrap();
    world.settle(&[]);
}

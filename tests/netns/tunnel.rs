//! Pods' own tunnels: what a pod's kernel makes of TCP inside of them passes the switch, whatever
//! its offloads.
//!
//! ```text
//!   vx0 ( pod a ) eth0 ── vswitchd ── eth0 ( pod b ) vx0
//! ```

use lab::Pod;
use lab::pod::{lab_run, lab_serve};

use crate::{KINDS, World};

/// Bytes sent each way: more than a window, so that super-frames form.
const BYTES: &str = "8000000";

/// A tunnel of a pod's own: how `ip link add tun0` goes on.
type Kind = fn(own: &str, other: &str) -> String;

/// UDP tunnels with and without a checksum of their own, and those right above IP.
const TUNNELS: &[(&str, Kind)] = &[
    ("VXLAN", |own, other| {
        format!("type vxlan id 7 dstport 8472 local {own} remote {other} dev eth0")
    }),
    ("VXLAN with checksums", |own, other| {
        format!("type vxlan id 7 dstport 8472 local {own} remote {other} dev eth0 udpcsum")
    }),
    ("IPIP", |own, other| format!("type ipip local {own} remote {other}")),
    ("GRE", |own, other| format!("type gre local {own} remote {other} csum")),
];

/// Makes the pod's end. False where the kernel has no such tunnels.
fn end(pod: &Pod, other: &Pod, kind: Kind, own: &str) -> bool {
    let [from, to] = [pod, other].map(|pod| pod.v4().unwrap().to_string());
    let made = format!("link add tun0 {}", kind(&from, &to));
    if pod.ip(&made.split(' ').collect::<Vec<_>>()).is_err() {
        return false;
    }
    pod.ip(&["address", "add", own, "dev", "tun0"]).unwrap();
    pod.ip(&["link", "set", "tun0", "up"]).unwrap();
    true
}

#[test]
fn tcp_inside_of_a_pods_own_tunnel() {
    for kind in KINDS {
        let world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let _server = lab_serve(&b, &["tcp-receive", "--listen", "0.0.0.0:7000"]).unwrap();
        for (name, tunnel) in TUNNELS {
            let made = [end(&a, &b, *tunnel, "10.77.0.1/24"), end(&b, &a, *tunnel, "10.77.0.2/24")];
            assert_eq!(made[0], made[1], "{name}");
            // The first is what the test is about; not every kernel has the others.
            assert!(made[0] || *name != TUNNELS[0].0, "{name} cannot be made");
            if !made[0] {
                println!("skipped on this kernel: {name}");
                continue;
            }
            lab_run(&a, &["tcp-send", "--to", "10.77.0.2:7000", "--bytes", BYTES])
                .unwrap_or_else(|error| panic!("{kind}: TCP inside of {name}: {error}"));
            for pod in [&a, &b] {
                pod.ip(&["link", "del", "tun0"]).unwrap();
            }
        }
        world.settle(&[]);
    }
}

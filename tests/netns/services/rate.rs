//! Connections in masses: as fast as clients can make them, and by one who means harm.

use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use lab::process::Process;
use lab::{Namespace, Pod, binaries};
use serde_json::json;

use super::{PORTS, at_vip, servers, serving, to, vips, world};
use crate::KINDS;
use crate::frames::{GATEWAY, ethernet, hex, mac, tcp};
use crate::node::session;
use crate::worker::resets;

/// SYN, among the flags of TCP.
const SYN: u8 = 2;
/// Connections that one pod may have (`Limits::pod_connections_max`).
const OF_A_POD: usize = 65_536;

/// For how long clients connect: `LAB_LOAD_SECONDS`, else long enough for ports to come again.
fn seconds() -> u64 {
    let given = std::env::var("LAB_LOAD_SECONDS").ok();
    given.map_or(5, |text| text.parse().expect("LAB_LOAD_SECONDS: a number"))
}

/// Clients that connect to the shell's ports of these addresses.
fn connecting(from: &Namespace, addresses: &[String], clients: usize, seconds: u64) -> Process {
    let mut command = Command::new(binaries::lab().unwrap());
    command.args(["connect", "--clients", &clients.to_string(), "--seconds", &seconds.to_string()]);
    for address in addresses {
        command.args(["--to", &to(address, at_vip(3))]);
    }
    from.spawn(command).unwrap()
}

/// How many there were; none was refused, late or answered by another.
fn connected(clients: Process, seconds: u64) -> u64 {
    let output = clients.finish(Duration::from_secs(seconds + 30)).unwrap().success().unwrap();
    let count = output.stdout.lines().last().and_then(|line| line.strip_suffix(" connections"));
    count.unwrap_or_default().parse().unwrap()
}

#[test]
fn new_connections_at_full_rate_are_none_wrong() {
    for kind in KINDS {
        let world = world(kind);
        let [client, one, other] = world.pods(["client", "one", "other"]);
        let _servers = [&one, &other].map(|pod| servers(pod));
        serving(&world, 140, &[&one, &other], &json!({}));
        let count = connected(connecting(&client, &vips(140), 4, seconds()), seconds());
        println!("{kind}: {count} connections in {} s", seconds());
        assert!(count > 100 * seconds(), "{kind}: {count}");
        world.settle(&[]);
    }
}

/// SYNs of a pod that nobody will complete, from ever other ports: to the Service, whose backend
/// answers, and to an address where nobody is.
fn flood(pod: &Pod, family: usize, vip: &str) -> Vec<Vec<u8>> {
    let own = pod.addresses()[family];
    let [vip, nobody]: [IpAddr; 2] =
        [vip, ["192.0.2.250", "2001:db8::250"][family]].map(|text| text.parse().unwrap());
    let ethertype = if family == 0 { 0x0800 } else { 0x86dd };
    let source = mac(&pod.mac().unwrap());
    let frame = |n: u32| {
        // So many ports of nobody's that those of the node suffice for each.
        let (port, far) = (u16::try_from(1_024 + n / 4).unwrap(), n / 4 % 64);
        let to = match n % 4 {
            0 => (vip, PORTS[3].2),
            kind => (nobody, u16::try_from(kind * 1_000 + far).unwrap()),
        };
        ethernet(GATEWAY, source, ethertype, &tcp((own, port), to, [n, 0], SYN))
    };
    (0..u32::try_from(OF_A_POD).unwrap()).map(frame).collect()
}

#[test]
fn a_flood_of_one_pod_harms_nobody_else() {
    let world = world("tap");
    let [client, server, hostile] = world.pods(["client", "server", "hostile"]);
    let _servers = servers(&server);
    serving(&world, 150, &[&server], &json!({}));
    let sessions: Vec<Process> =
        vips(150).iter().map(|vip| session(&client, &to(vip, at_vip(3)))).collect();
    let before = resets(&client);
    for (family, vip) in vips(150).iter().enumerate() {
        let file = hostile.owner().fresh_path("frames");
        fs::write(&file, hex(&flood(&hostile, family, vip))).unwrap();
        let path = file.to_string_lossy();
        let args = ["raw", "--interface", "eth0", "--frames", &path, "--rest-us", "500"];
        hostile.lab(&[&args[..], &["--wait-ms", "0"]].concat()).unwrap();
    }
    for session in sessions {
        session.finish(Duration::from_secs(30)).unwrap().success().unwrap();
    }
    assert_eq!(resets(&client), before, "resets");
    let count = connected(connecting(&client, &vips(150), 1, 1), 1);
    assert!(count > 50, "{count} new connections of another pod amid what the flood has left");
    let args = ["get", "conntrack", "--pod", "default/hostile", "--limit", "1"];
    let table = world.hopctl_json(&args).unwrap();
    let left = 1 + usize::try_from(table["leftOut"].as_u64().unwrap()).unwrap();
    assert!((OF_A_POD / 2..=OF_A_POD).contains(&left), "{left} connections of the hostile pod");
    // What comes of connections that had to go for newer ones: its own kernel's resets, and errors
    // about nobody.
    world.settle(&["pod/default/hostile:ServiceMidStream", "host:RelatedUnknown"]);
}

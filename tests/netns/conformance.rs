//! The table of what the specification and the reference plugins ask, played against the built
//! plugin and daemon.

use std::cell::RefCell;
use std::collections::BTreeMap;

use lab::cni::error_of;
use lab::{Namespace, NodeSpec};

use crate::{KINDS, World, state};

#[path = "../../vswitchd/src/cni/conformance.rs"]
mod table;

/// The node that the table is written for.
fn spec(kind: &str, cidrs: &[&str]) -> NodeSpec {
    let mut spec = NodeSpec::numbered(1).with("port-kind", kind).with("mtu", 1450);
    spec.object.pod_cidrs = cidrs.iter().map(|cidr| (*cidr).to_owned()).collect();
    spec
}

fn started(spec: NodeSpec) -> World {
    let mut world = World::prepare(spec);
    world.start().unwrap();
    world
}

#[test]
fn every_case_of_the_table() {
    for kind in KINDS {
        let world = started(spec(kind, &["10.1.2.0/24", "fd00:1:2::/64"]));
        let before = state::kernel(&world.netns);
        let runtime = world.runtime();
        let made = RefCell::new(Vec::new());
        let netns = || {
            let mut made = made.borrow_mut();
            let netns = Namespace::new(world.netns.owner(), &format!("c{}", made.len())).unwrap();
            let path = netns.path().to_string_lossy().into_owned();
            made.push(netns);
            path
        };
        let run = |environment: &BTreeMap<String, String>, stdin: &str| {
            let output = runtime.call(environment, stdin).unwrap();
            (output.code.unwrap_or(-1), output.stdout, output.stderr)
        };
        let left = || {
            let mut left = state::left(&world);
            for netns in made.borrow_mut().drain(..) {
                let names = netns.interfaces().unwrap();
                left.extend(names.iter().filter(|name| *name != "lo").cloned());
            }
            left
        };
        let regular = world.config().to_string_lossy().into_owned();
        let own = world.netns.path().to_string_lossy().into_owned();
        table::play(&table::Stage {
            run: &run,
            socket: world.run_dir().join("cni.sock").to_string_lossy().into_owned(),
            netns: &netns,
            bad_netns: vec![
                "/nonexistent".to_owned(),
                "/dev/null".to_owned(),
                regular,
                own,
                "/proc/self/ns/mnt".to_owned(),
                "/proc/self/ns/net".to_owned(),
            ],
            left: &left,
        });
        state::same(&before, &state::kernel(&world.netns), kind);
    }
}

#[test]
fn a_full_range_names_itself_and_an_address_that_comes_back_is_enough() {
    let world = started(spec("tap", &["10.1.2.0/29"]));
    // Of eight: the network, the gateway and the broadcast address are nobody's.
    let pods: Vec<_> = (0..5).map(|n| world.pod(&format!("p{n}")).unwrap()).collect();
    let netns = Namespace::new(world.netns.owner(), "full").unwrap();
    let runtime = world.runtime();
    let configuration = runtime.configuration(lab::cni::VERSION).to_string();
    let mut attachment = pods[0].attachment().clone();
    attachment.container_id = "one-more".to_owned();
    attachment.netns = netns.path().to_string_lossy().into_owned();
    let before = state::left(&world);
    let output = runtime.call(&attachment.environment("ADD"), &configuration).unwrap();
    assert_ne!(output.code, Some(0));
    let (code, message) = error_of(&output).unwrap();
    assert!(code >= 100 && message.contains("10.1.2.0/29"), "{code} {message}");
    let output = runtime.call(&attachment.environment("STATUS"), &configuration).unwrap();
    assert_eq!(error_of(&output).unwrap().0, 50, "{output:?}");
    assert!(output.stdout.contains("10.1.2.0/29"), "{output:?}");
    // People are told the same as runtimes.
    let status = world.hopctl_attempt(&["status"]).unwrap();
    assert_eq!(status.code, Some(1), "{status:?}");
    assert!(status.stdout.contains("not ready: ") && status.stdout.contains("10.1.2.0/29"));
    assert_eq!(state::left(&world), before);
    assert_eq!(netns.interfaces().unwrap(), ["lo"]);
    let mut pods = pods;
    let freed = pods.remove(2);
    let address = freed.v4().unwrap();
    freed.remove().unwrap();
    runtime.call(&attachment.environment("STATUS"), &configuration).unwrap().success().unwrap();
    assert!(world.hopctl(&["status"]).unwrap().contains("ready"));
    let again = world.pod("again").unwrap();
    assert_eq!(again.v4().unwrap(), address);
}

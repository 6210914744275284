//! Which paths are taken for a pod's namespace, and where work is done.

use std::path::Path;

use super::{Lab, inode};
use crate::node::{Kernel, NodeError, netns};

#[test]
fn only_a_network_namespace_of_another_is_taken() {
    let Some(mut lab) = Lab::new() else { return };
    let node = lab.netns("node");
    let pod = lab.netns("pod");
    let linux = lab.daemon(&node);
    let file = lab.dir.join("file");
    std::fs::write(&file, "text").unwrap();
    let fifo = lab.dir.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (path, why) in [
        (lab.dir.join("absent").as_path(), "does not exist"),
        (&file, "is no namespace but another kind of file"),
        (&fifo, "is no namespace but another kind of file"),
        (&lab.dir, "is no namespace but another kind of file"),
        (Path::new("/dev/null"), "is no namespace but another kind of file"),
        (Path::new("/proc/self/ns/uts"), "is a namespace, but not one of type net"),
        (&node.path, "is the node's own; a pod needs one of its own"),
    ] {
        match linux.open_netns(path) {
            Err(NodeError::Netns { path: named, why: said }) => {
                assert_eq!((named.as_path(), said.as_str()), (path, why));
            }
            other => panic!("{}: {other:?}", path.display()),
        }
    }
    let opened = linux.open_netns(&pod.path).unwrap();
    assert_eq!(opened.inode, inode(&pod.path));
}

#[test]
fn work_is_done_inside_and_the_caller_stays_where_it_is() {
    let Some(mut lab) = Lab::new() else { return };
    let pod = lab.netns("pod");
    let before = netns::own().unwrap().inode;
    let inside = netns::within(&pod.netns, || netns::own().map(|own| own.inode)).unwrap();
    assert_eq!(inside, inode(&pod.path));
    assert_ne!(inside, before);
    assert_eq!(netns::own().unwrap().inode, before);
}

#[test]
fn a_panic_inside_is_an_error_outside() {
    let Some(mut lab) = Lab::new() else { return };
    let pod = lab.netns("pod");
    let result: Result<(), NodeError> = netns::within(&pod.netns, || panic!("seven"));
    let Err(NodeError::Kernel { doing, source }) = result else { panic!("{result:?}") };
    assert!(doing.contains("panicked"), "{doing}");
    assert_eq!(source.to_string(), "seven");
}

#[test]
fn a_namespace_made_lives_until_it_is_removed_and_removing_twice_is_fine() {
    let Some(lab) = Lab::new() else { return };
    let path = lab.dir.join("kept");
    netns::make(&path).unwrap();
    assert!(netns::is_mounted(&path));
    netns::remove(&path).unwrap();
    assert!(!path.exists());
    netns::remove(&path).unwrap();
}

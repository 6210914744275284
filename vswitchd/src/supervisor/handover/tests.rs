//! What two parents of different builds understand of each other, and who is let in.

use super::super::channel::Received;
use super::super::protocol::{decode, encode};
use super::take::{Next, Step};
use super::*;

/// A run directory that goes with its test.
struct RunDir(PathBuf);

impl RunDir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hs-door-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[test]
fn every_message_arrives_as_it_was_sent() {
    let device = Description::Packet { udp_gso: true };
    let hello = Hello {
        form: VERSION,
        build: "0.1.0".to_owned(),
        state_dir: "/s".into(),
        host_port: "hop0".to_owned(),
        journal_dir: None,
    };
    let inventory = Inventory {
        parent: 1,
        worker: 2,
        journal: Some("1-2".to_owned()),
        state: 1,
        locks: 2,
        ports: 3,
    };
    let (ifname, host_ifname) = ("eth0".to_owned(), "hv1".to_owned());
    for message in [
        Message::Hello(hello),
        Message::Refused { why: "no".to_owned() },
        Message::Inventory(inventory),
        Message::Pod { inode: 9, ifname, host_ifname, device },
        Message::Host { device },
        Message::Yield { with_state: true },
        Message::Yielded,
        Message::Ended,
        Message::Worker,
        Message::Ready,
    ] {
        let bytes = encode(&message).unwrap();
        assert_eq!(decode::<Message>(&bytes).unwrap(), message);
    }
}

#[test]
fn what_a_newer_one_adds_is_passed_over() {
    let text = r#"{"yield": {"with_state": true, "with_music": 7}}"#;
    assert_eq!(decode::<Message>(text.as_bytes()).unwrap(), Message::Yield { with_state: true });
    decode::<Message>(br#"{"dance": {}}"#).unwrap_err();
}

#[test]
fn a_door_is_knocked_at_only_where_somebody_is() {
    let run_dir = RunDir::new("knock");
    assert!(knock(&run_dir.0).unwrap().is_none());
    let door = Door::make(&run_dir.0).unwrap();
    assert_eq!(door.answer().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let outside = knock(&run_dir.0).unwrap().unwrap();
    if nix::unistd::geteuid().is_root() {
        let (inside, pid) = door.answer().unwrap();
        assert_eq!(pid, std::process::id());
        say(&outside, &Message::Ready, &[]).unwrap();
        let Received::Message(bytes, _none) = inside.receive().unwrap() else { panic!() };
        assert_eq!(decode::<Message>(&bytes).unwrap(), Message::Ready);
    } else {
        assert_eq!(door.answer().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
    drop(door);
    assert!(knock(&run_dir.0).unwrap().is_none(), "a socket that nobody has");
    // And the next one is made in its place.
    Door::make(&run_dir.0).unwrap();
}

#[test]
fn an_end_is_seen_by_the_process_itself() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let flags = rustix::process::PidfdFlags::empty();
    let process = rustix::process::pidfd_open(pid, flags).unwrap();
    assert!(!has_ended(&process));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(has_ended(&process));
}

#[test]
fn one_that_refuses_goes_on_even_when_it_was_asked_for_the_ports_meanwhile() {
    let refused = || Some(Message::Refused { why: "its worker is gone".to_owned() });
    let ends = Next::Ends("its worker is gone".to_owned());
    assert_eq!(Step::Preparing.after(refused()), ends);
    // The refusal was sent before our request was heard, and that one is lost with the channel.
    assert_eq!(Step::Asked.after(refused()), ends);
    assert_eq!(Step::Ours.after(refused()), Next::IsLeftAlone);
}

#[test]
fn one_that_ends_is_replaced_unless_it_has_left_the_ports() {
    assert_eq!(Step::Preparing.after(None), Next::Replaces);
    assert_eq!(Step::Asked.after(None), Next::Replaces);
    assert_eq!(Step::Ours.after(None), Next::IsLeftAlone);
    // Its worker has left the ports, or has died over it.
    assert_eq!(Step::Asked.after(Some(Message::Yielded)), Next::Reads);
    assert_eq!(Step::Asked.after(Some(Message::Ended)), Next::Recovers);
    // Nobody has asked for that.
    assert_eq!(Step::Preparing.after(Some(Message::Yielded)), Next::Replaces);
}

//! veth pairs whose node's ends are read by packet sockets.

use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use super::super::packet::PacketPort;
use super::super::tap::Tap;
use super::super::{Pool, PortIo};
use super::{Namespace, Relay, configure, ip, traffic};

/// A pod whose `eth0` is one end of a pair; the other, `pod<N>`, is in `node`.
fn pod(node: &Namespace, number: u8) -> (Namespace, PacketPort) {
    let pod = Namespace::new().unwrap();
    let host_end = format!("pod{number}");
    let port = node.run(|| {
        // `ip` reads the descriptor by its path in /proc of the process that runs the test.
        let netns = format!("/proc/{}/fd/{}", std::process::id(), pod.file().as_raw_fd());
        ip(&format!("link add {host_end} type veth peer name eth0 netns {netns}"));
        super::silence(&host_end);
        let port = PacketPort::open(&host_end).unwrap();
        ip(&format!("link set dev {host_end} arp off up"));
        port
    });
    pod.run(|| configure("eth0", number));
    (pod, port)
}

fn talk(left: &Namespace, right: &Namespace, ports: [Box<dyn PortIo>; 2]) {
    let relay = Relay::start(ports);
    for to in ["10.9.0.2", "fd09::2"] {
        let to: IpAddr = to.parse().unwrap();
        traffic::ping(left, to);
        traffic::tcp(left, right, to, 32 << 20);
        let payload: Vec<u8> = (0..=250).cycle().take(5500).collect();
        let datagrams = traffic::udp(left, right, to, &payload, 1000);
        assert_eq!(datagrams.len(), 6);
        assert_eq!(datagrams.concat(), payload);
    }
    let (_ports, [from_left, from_right], losses) = relay.stop();
    println!("{from_left:?} {from_right:?} {losses:?}");
    assert_eq!((from_left.failed, from_right.failed), (0, 0), "failed writes");
    assert!(from_left.super_frames > 100, "TCP comes in super-frames");
    assert!(from_left.longest > 60_000);
    assert!(from_left.frames < 20_000, "64 MiB in frames of an MTU would be 46,000");
}

#[test]
fn super_frames_pass_whole_between_two_veths() {
    let Some(node) = Namespace::new() else { return };
    let ((left, left_port), (right, right_port)) = (pod(&node, 1), pod(&node, 2));
    talk(&left, &right, [Box::new(left_port), Box::new(right_port)]);
}

#[test]
fn super_frames_pass_whole_from_veth_to_tap() {
    let Some(node) = Namespace::new() else { return };
    let (left, left_port) = pod(&node, 1);
    let right = Namespace::new().unwrap();
    let tap = right.run(|| {
        let tap = Tap::create("eth0", false).unwrap();
        configure("eth0", 2);
        tap
    });
    talk(&left, &right, [Box::new(left_port), Box::new(tap)]);
}

#[test]
fn tags_pass_although_the_kernel_takes_them_out() {
    let Some(node) = Namespace::new() else { return };
    let (pod, mut port) = pod(&node, 1);
    let mut inside = pod.run(|| PacketPort::open("eth0").unwrap());
    let mut pool = Pool::new();
    for tags in [&[0x81, 0, 0x60, 5][..], &[0x88, 0xa8, 0, 9, 0x81, 0, 0xa0, 5], &[]] {
        let mut bytes = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 7];
        bytes.extend_from_slice(tags);
        // An EtherType for experiments (IEEE 802), so that nobody else sends the like.
        bytes.extend_from_slice(&[0x88, 0xb5]);
        bytes.extend(0..100);
        let mut tagged = stack::Frame::from_bytes(&bytes);
        inside.transmit(&mut tagged).unwrap();
        let mut seen = Vec::new();
        while let Some(frame) = port.receive(&mut pool).unwrap() {
            seen.push(frame.bytes().to_vec());
            pool.give(frame);
        }
        assert!(seen.contains(&bytes), "{tags:x?}: {seen:x?}");
    }
}

#[test]
fn what_the_buffer_did_not_take_is_counted_once() {
    let Some(node) = Namespace::new() else { return };
    let (pod, mut port) = pod(&node, 1);
    pod.run(|| {
        super::silence("eth0");
        ip("neigh add 10.9.0.7 lladdr 02:00:00:00:00:07 dev eth0");
    });
    let mut pool = Pool::new();
    while let Some(frame) = port.receive(&mut pool).unwrap() {
        pool.give(frame);
    }
    let before = port.losses().unwrap().frames;
    const SENT: usize = 30_000;
    pod.run(|| {
        let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
        for _ in 0..SENT {
            socket.send_to(&[7; 64], "10.9.0.7:9").unwrap();
        }
    });
    let mut read = 0;
    while let Some(frame) = port.receive(&mut pool).unwrap() {
        read += usize::from(frame.bytes().get(30..34) == Some(&[10, 9, 0, 7]));
        pool.give(frame);
    }
    let lost = usize::try_from(port.losses().unwrap().frames - before).unwrap();
    assert!(lost > 0 && read > 0, "{read} read, {lost} lost");
    assert_eq!(read + lost, SENT);
    let again = usize::try_from(port.losses().unwrap().frames - before).unwrap();
    assert_eq!(again, lost, "kept when asked again");
}

#[test]
fn down_passes_and_gone_is_an_error() {
    let Some(node) = Namespace::new() else { return };
    let (_pod, mut port) = pod(&node, 1);
    let mut pool = Pool::new();
    node.run(|| ip("link set dev pod1 down"));
    while let Some(frame) = port.receive(&mut pool).unwrap() {
        pool.give(frame);
    }
    node.run(|| ip("link set dev pod1 up"));
    let mut frame = stack::Frame::from_bytes(&[0xff; 60]);
    port.transmit(&mut frame).unwrap();
    node.run(|| ip("link del dev pod1"));
    let gone = loop {
        match port.receive(&mut pool) {
            Ok(Some(frame)) => pool.give(frame),
            other => break other.err(),
        }
    };
    assert_eq!(gone.unwrap().raw_os_error(), Some(libc::ENODEV));
    let absent = node.run(|| PacketPort::open("pod1")).err().unwrap();
    assert_eq!(absent.kind(), std::io::ErrorKind::NotFound);
    assert!(absent.to_string().contains("pod1"), "{absent}");
}

#[test]
fn what_cannot_be_carried_does_not_hold_up_others() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(socket.local_addr().unwrap()).unwrap();
    // Too short for a virtio-net header; then a whole one with an Ethernet header behind.
    for _ in 0..150 {
        sender.send(&[1, 2, 3]).unwrap();
    }
    sender.send(&[0; 24]).unwrap();
    let (mut port, mut pool) = (PacketPort::over(OwnedFd::from(socket)), Pool::new());
    let mut calls = 1;
    while port.receive(&mut pool).unwrap().is_none() {
        assert_eq!(port.refused(), 64 * calls, "a call comes back");
        calls += 1;
    }
    assert_eq!((calls, port.refused()), (3, 150), "and the next goes on where it ended");
}

#[test]
fn our_own_frames_do_not_come_back() {
    let Some(node) = Namespace::new() else { return };
    let (_pod, mut port) = pod(&node, 1);
    let mut ours = stack::Frame::from_bytes(&[0xff; 60]);
    port.transmit(&mut ours).unwrap();
    let mut pool = Pool::new();
    while let Some(frame) = port.receive(&mut pool).unwrap() {
        assert_ne!(frame.bytes(), ours.bytes());
        pool.give(frame);
    }
}

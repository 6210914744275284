//! TAPs: made, left, taken back, wired to each other.

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;

use super::super::offload::Coalescer;
use super::super::tap::Tap;
use super::super::wake::Waiter;
use super::super::{Capabilities, Pool, PortIo};
use super::{Namespace, Relay, ip, traffic};

/// A namespace with a TAP `eth0` that is up and has the addresses 10.9.0.N and fd09::N.
fn pod(number: u8) -> Option<(Namespace, Tap)> {
    let namespace = Namespace::new()?;
    let tap = namespace.run(|| {
        let tap = Tap::create("eth0", false).unwrap();
        super::configure("eth0", number);
        tap
    });
    Some((namespace, tap))
}

#[test]
fn super_frames_pass_whole_between_two_taps() {
    let (Some((left, left_tap)), Some((right, right_tap))) = (pod(1), pod(2)) else { return };
    let relay = Relay::start([Box::new(left_tap), Box::new(right_tap)]);
    for to in ["10.9.0.2", "fd09::2"] {
        let to: IpAddr = to.parse().unwrap();
        traffic::ping(&left, to);
        traffic::tcp(&left, &right, to, 32 << 20);
        let payload: Vec<u8> = (0..=250).cycle().take(5500).collect();
        let datagrams = traffic::udp(&left, &right, to, &payload, 1000);
        assert_eq!(
            datagrams.iter().map(Vec::len).collect::<Vec<_>>(),
            [1000, 1000, 1000, 1000, 1000, 500]
        );
        assert_eq!(datagrams.concat(), payload);
    }
    let (_ports, [from_left, from_right], losses) = relay.stop();
    println!("{from_left:?} {from_right:?} {losses:?}");
    assert_eq!((from_left.failed, from_right.failed), (0, 0), "failed writes");
    assert!(from_left.super_frames > 100, "TCP comes in super-frames");
    assert!(from_left.longest > 60_000);
    // 64 MiB in frames of an MTU would be 46,000.
    assert!(from_left.frames < 20_000);
}

#[test]
fn a_name_that_is_taken_is_refused_and_nothing_is_changed() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.run(|| {
        let tap = Tap::create("eth0", true).unwrap();
        let index = if_nametoindex("eth0").unwrap();
        let refused = Tap::create("eth0", false).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        assert!(refused.to_string().contains("TAP eth0"), "{refused}");
        drop(tap);
        let refused = Tap::create("eth0", false).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "a persistent one as well");
        assert_eq!(if_nametoindex("eth0").unwrap(), index);
        for name in ["", "sixteen-letters!", "a%d", "a/b", "lo"] {
            Tap::create(name, false).unwrap_err();
        }
    });
}

#[test]
fn a_persistent_tap_waits_for_the_next_owner() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.run(|| {
        let tap = Tap::create("eth0", true).unwrap();
        let index = if_nametoindex("eth0").unwrap();
        let busy = Tap::attach("eth0").err().unwrap();
        assert_eq!(busy.kind(), ErrorKind::ResourceBusy, "{busy}");
        drop(tap);
        let mut tap = Tap::attach("eth0").unwrap();
        assert_eq!(if_nametoindex("eth0").unwrap(), index);
        let all = Capabilities { checksum: true, tcp_gso: true, udp_gso: true };
        assert_eq!(tap.capabilities(), all);
        assert_eq!(tap.losses().unwrap().frames, 0);
        tap.set_persist(false).unwrap();
        drop(tap);
        assert_eq!(if_nametoindex("eth0"), Err(Errno::ENODEV), "gone with its last owner");
    });
}

#[test]
fn attaching_to_nothing_makes_nothing() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.run(|| {
        let absent = Tap::attach("eth0").err().unwrap();
        assert_eq!(absent.kind(), ErrorKind::NotFound);
        assert!(absent.to_string().contains("eth0: there is no interface"), "{absent}");
        assert_eq!(if_nametoindex("eth0"), Err(Errno::ENODEV));
        ip("link add name dummy0 type bridge");
        assert_eq!(Tap::attach("dummy0").err().unwrap().kind(), ErrorKind::InvalidInput, "no TAP");
    });
}

#[test]
fn what_the_ring_did_not_take_is_counted() {
    let Some((namespace, mut tap)) = pod(1) else { return };
    namespace.run(|| {
        super::silence("eth0");
        ip("link set eth0 txqueuelen 100");
        ip("neigh add 10.9.0.7 lladdr 02:00:00:00:00:07 dev eth0");
    });
    let mut pool = Pool::new();
    while let Some(frame) = tap.receive(&mut pool).unwrap() {
        pool.give(frame);
    }
    let before = tap.losses().unwrap().frames;
    const SENT: usize = 1500;
    namespace.run(|| {
        let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
        for _ in 0..SENT {
            socket.send_to(&[7; 64], "10.9.0.7:9").unwrap();
        }
    });
    let mut read = 0;
    while let Some(frame) = tap.receive(&mut pool).unwrap() {
        read += usize::from(frame.bytes().get(30..34) == Some(&[10, 9, 0, 7]));
        pool.give(frame);
    }
    let lost = usize::try_from(tap.losses().unwrap().frames - before).unwrap();
    assert!(lost > 0 && read > 0, "{read} read, {lost} lost");
    assert_eq!(read + lost, SENT);
}

#[test]
fn a_frame_for_a_tap_that_is_down_is_refused() {
    let Some(namespace) = Namespace::new() else { return };
    let mut tap = namespace.run(|| Tap::create("eth0", false).unwrap());
    let mut frame = stack::Frame::from_bytes(&[0xff; 60]);
    assert_eq!(tap.transmit(&mut frame).unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(frame.bytes(), [0xff; 60]);
}

#[test]
fn coalesced_datagrams_arrive_one_by_one() {
    let (Some((left, left_tap)), Some((right, right_tap))) = (pod(1), pod(2)) else { return };
    let mut ports: [Box<dyn PortIo>; 2] = [Box::new(left_tap), Box::new(right_tap)];
    for (from, to) in [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")] {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        // The neighbors learn each other before the relay is taken away.
        let relay = Relay::start(ports);
        traffic::ping(&left, to);
        ports = relay.stop().0;
        let receiver = right.run(|| UdpSocket::bind((to, 0)).unwrap());
        let target = receiver.local_addr().unwrap();
        let sender = left.run(|| UdpSocket::bind((from, 0)).unwrap());
        let datagrams: Vec<[u8; 64]> = (0..100).map(|number| [number; 64]).collect();
        for datagram in &datagrams {
            sender.send_to(datagram, target).unwrap();
        }
        let (mut pool, mut out) = (Pool::new(), Vec::new());
        let mut coalescer = Coalescer::default();
        while let Some(frame) = ports[0].receive(&mut pool).unwrap() {
            coalescer.push(frame, &mut pool, &mut out);
        }
        coalescer.flush(&mut out);
        let most = out.iter().map(|merged| merged.frames).max();
        assert_eq!(most, Some(64), "what a kernel sends can be merged");
        for mut merged in out {
            ports[1].transmit(&mut merged.frame).unwrap();
        }
        receiver.set_nonblocking(true).unwrap();
        for datagram in &datagrams {
            let mut buffer = [0; 100];
            let len = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], datagram, "to {to}");
        }
        receiver.recv(&mut [0; 100]).unwrap_err();
    }
}

#[test]
fn a_tap_that_was_deleted_is_an_error() {
    let Some((namespace, mut tap)) = pod(1) else { return };
    let mut waiter = Waiter::new().unwrap();
    waiter.add(tap.descriptor(), 1).unwrap();
    let mut pool = Pool::new();
    while let Some(frame) = tap.receive(&mut pool).unwrap() {
        pool.give(frame);
    }
    namespace.run(|| ip("link del dev eth0"));
    let mut ready = Vec::new();
    waiter.wait(None, &mut ready).unwrap();
    assert_eq!(ready, [1], "the event loop hears of it");
    let gone = tap.receive(&mut pool).unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::EBADFD));
    assert_eq!(tap.losses().unwrap_err().raw_os_error(), Some(libc::ENODEV));
}

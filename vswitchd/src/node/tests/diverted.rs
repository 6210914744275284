//! What of the node's own addresses goes to the switch, what comes back from it, and what leaves in
//! the node's name.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use smoltcp::wire::{IpAddress, IpProtocol};
use stack::wire::build::flags;

use super::bed::{Bed, PAIRS, address, is_to, packet};
use super::host_link;
use crate::node::{HostLink, Kernel};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// For a session that waits for nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Protocol and destination port, if it is one of the three to this address.
fn l4(bytes: &[u8], to: IpAddress) -> Option<(u8, u16)> {
    let (_, destination, protocol, rest) = packet(bytes)?;
    let [_, _, high, low] = *rest.first_chunk()?;
    let port = u16::from_be_bytes([high, low]);
    (destination == to && matches!(protocol, TCP | UDP | SCTP)).then_some((protocol, port))
}

/// A first packet from the outside.
fn probe(bed: &Bed, (to, from): (&str, &str), protocol: u8, port: u16) -> Vec<u8> {
    let ip = bed.of_outside(from, to);
    match protocol {
        TCP => ip.tcp((40_000, port), flags::SYN, 1, 0, &[]),
        UDP => ip.udp(40_000, port, b"hello"),
        _ => {
            let ports = [40_000_u16.to_be_bytes(), port.to_be_bytes()].concat();
            ip.upper(IpProtocol::from(SCTP), &[ports.as_slice(), &[0; 8]].concat())
        }
    }
}

#[test]
fn ports_of_the_switch_arrive_at_it_and_no_others_do() {
    let Some(mut bed) = Bed::new() else { return };
    let at_switch = [30_000, 31_000, 32_767, 61_000, 65_534];
    let at_node = [22, 29_999, 32_768, 60_999];
    for pair in PAIRS {
        for protocol in [TCP, UDP, SCTP] {
            for port in at_node.iter().chain(&at_switch) {
                bed.send(&probe(&bed, pair, protocol, *port));
            }
            for port in at_switch {
                let to = address(pair.0);
                let bytes = bed.taken(|bytes| l4(bytes, to).is_some()).unwrap();
                assert_eq!(l4(&bytes, to), Some((protocol, port)), "to {to}");
            }
        }
        // The kernel takes no rule for 65535. Of UDP the rule for fragments has it as well.
        bed.send(&probe(&bed, pair, TCP, 65_535));
        bed.send(&probe(&bed, pair, UDP, 65_535));
        let bytes = bed.taken(|bytes| l4(bytes, address(pair.0)).is_some()).unwrap();
        assert_eq!(l4(&bytes, address(pair.0)), Some((UDP, 65_535)));
    }
}

#[test]
fn connections_of_the_node_to_its_own_ports_are_diverted_as_well() {
    let Some(mut bed) = Bed::new() else { return };
    for (node, _) in PAIRS {
        let at = |port| SocketAddr::new(node.parse().unwrap(), port);
        let socket = bed.node.within(|| {
            let socket = UdpSocket::bind((node, 0)).unwrap();
            socket.send_to(b"x", at(31_000)).unwrap();
            socket.send_to(b"x", at(5_353)).unwrap();
            socket.send_to(b"x", at(61_000)).unwrap();
            socket
        });
        for port in [31_000, 61_000] {
            let bytes = bed.taken(|bytes| l4(bytes, address(node)).is_some()).unwrap();
            assert_eq!(l4(&bytes, address(node)), Some((UDP, port)));
            assert_eq!(packet(&bytes).unwrap().0, address(node), "its source is the node's");
        }
        drop(socket);
    }
}

#[test]
fn a_loopback_port_is_diverted_and_its_answers_come_back() {
    let Some(mut bed) = Bed::new() else { return };
    for bound in [None, Some("127.0.0.1")] {
        // [::1] is not, and neither are other ports.
        let client = bed.node.within(|| {
            let refused = |to: &str| TcpStream::connect(to).unwrap_err().kind();
            assert_eq!(refused("127.0.0.1:8081"), std::io::ErrorKind::ConnectionRefused);
            assert_eq!(refused("[::1]:8080"), std::io::ErrorKind::ConnectionRefused);
            let socket = nix::sys::socket::socket(
                nix::sys::socket::AddressFamily::Inet,
                nix::sys::socket::SockType::Stream,
                nix::sys::socket::SockFlag::empty(),
                None,
            );
            let socket = socket.unwrap();
            if let Some(source) = bound {
                let source = nix::sys::socket::SockaddrIn::from(std::net::SocketAddrV4::new(
                    source.parse().unwrap(),
                    0,
                ));
                nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &source).unwrap();
            }
            socket
        });
        let connecting = std::thread::spawn(move || {
            let to = std::net::SocketAddrV4::new([127, 0, 0, 1].into(), 8080);
            let to = nix::sys::socket::SockaddrIn::from(to);
            nix::sys::socket::connect(std::os::fd::AsRawFd::as_raw_fd(&client), &to)
        });
        let syn = bed.taken(|bytes| is_to(bytes, "127.0.0.1")).unwrap();
        let (source, _, protocol, segment) = packet(&syn).unwrap();
        assert_eq!((source, protocol), (address(bound.unwrap_or("192.0.2.10")), TCP));
        let port = u16::from_be_bytes(*segment.first_chunk().unwrap());
        let seq = u32::from_be_bytes(*segment[4..].first_chunk().unwrap());
        let answer = bed.of_switch("127.0.0.1", &source.to_string());
        bed.give(&answer.tcp((8080, port), flags::RST | flags::ACK, 0, seq + 1, &[]));
        let refused = connecting.join().unwrap();
        assert_eq!(refused, Err(nix::errno::Errno::ECONNREFUSED), "bound to {bound:?}");
    }
}

#[test]
fn fragments_come_whole_to_the_switch_and_what_it_gives_back_arrives() {
    // As long as the uplink's: routers do not fragment IPv6.
    let Some(mut bed) = Bed::with(&HostLink { mtu: 1500, ..host_link() }) else { return };
    for (node, from) in PAIRS {
        let receiver = bed.node.within(|| UdpSocket::bind((node, 5_353)).unwrap());
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let to = receiver.local_addr().unwrap();
        let sent: Vec<u8> = (0..4_000_u16).map(|n| n.to_le_bytes()[0]).collect();
        bed.outside.within(|| {
            let sender = UdpSocket::bind((from, 0)).unwrap();
            sender.send_to(&sent, to).unwrap();
        });
        let mut came = 0;
        while came < sent.len() + 8 {
            let bytes = bed.taken(|bytes| is_to(bytes, node)).unwrap();
            let (_, _, protocol, rest) = packet(&bytes).unwrap();
            came += match protocol {
                UDP => rest.len(),
                44 => rest.len() - 8,
                other => panic!("protocol {other}"),
            };
            let macs = [host_link().mac.0, host_link().gateway_mac.0].concat();
            bed.give(&[macs.as_slice(), &bytes[12..]].concat());
        }
        let mut got = [0; 5_000];
        let count = receiver.recv(&mut got).unwrap();
        assert!(got[..count] == sent, "{count} bytes");
    }
}

/// Ends a thread, of a test that panics as well.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection whose begin has come: its end may not.
fn accept(listener: &TcpListener) -> TcpStream {
    let until = Instant::now() + PATIENCE;
    listener.set_nonblocking(true).unwrap();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                return stream;
            }
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A line to a listener and back, and a datagram.
fn session(client: IpAddr, listener: &TcpListener, echo: &UdpSocket) {
    let to = listener.local_addr().unwrap();
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    let mut accepted = accept(listener);
    for stream in [&stream, &accepted] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let mut line = [0; 5];
    for _ in 0..3 {
        stream.write_all(b"hello").unwrap();
        accepted.read_exact(&mut line).unwrap();
        accepted.write_all(&line).unwrap();
        stream.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"hello");
    }
    let socket = UdpSocket::bind((client, 0)).unwrap();
    for socket in [&socket, echo] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    socket.send_to(b"hello", echo.local_addr().unwrap()).unwrap();
    let (count, from) = echo.recv_from(&mut line).unwrap();
    echo.send_to(&line[..count], from).unwrap();
    socket.recv_from(&mut line).unwrap();
}

#[test]
fn a_listener_of_the_node_on_a_node_port_keeps_answering() {
    let Some(mut bed) = Bed::new() else { return };
    let stop = AtomicBool::new(false);
    let (node, outside) = (bed.node.again(), bed.outside.again());
    std::thread::scope(|scope| {
        scope.spawn(|| bed.give_back(|| stop.load(Ordering::Relaxed)));
        let _ends = Ends(&stop);
        for (address, from) in PAIRS {
            let (listener, echo) = node.within(|| {
                let echo = UdpSocket::bind((address, 31_000)).unwrap();
                (TcpListener::bind((address, 31_000)).unwrap(), echo)
            });
            let ip = |text: &str| text.parse::<IpAddr>().unwrap();
            outside.within(|| session(ip(from), &listener, &echo));
            node.within(|| session(ip(address), &listener, &echo));
        }
    });
}

#[test]
fn what_the_switch_sends_in_the_nodes_name_leaves_by_the_uplink() {
    let Some(mut bed) = Bed::new() else { return };
    // A node may be strict everywhere else.
    for strictness in ["0", "1", "2"] {
        for of in ["all", "eth0"] {
            bed.node.run(&format!("sysctl -qw net.ipv4.conf.{of}.rp_filter={strictness}"));
        }
        // The node's own, a pod's, and one that the node has no route to by this port.
        for (sources, to) in [
            (["192.0.2.10", "10.1.2.5", "198.51.100.9"], PAIRS[0].1),
            (["2001:db8::10", "fd00:1:2::5", "2001:db8:9::9"], PAIRS[1].1),
        ] {
            for source in sources {
                let ip = bed.of_switch(source, to);
                for frame in [
                    ip.clone().udp(61_001, 9, b"hello"),
                    ip.clone().tcp((61_002, 9), flags::ACK, 1, 1, b"hello"),
                    ip.clone().echo(true, 7, 1, b"hello"),
                ] {
                    bed.give(&frame);
                    let same = |bytes: &[u8]| {
                        packet(bytes).is_some_and(|left| left == packet(&frame).unwrap())
                    };
                    assert!(bed.left(same).is_some(), "from {source}, rp_filter {strictness}");
                }
            }
        }
    }
}

#[test]
fn without_what_is_set_for_it_the_nodes_name_is_refused() {
    let Some(mut bed) = Bed::new() else { return };
    let (node, to) = PAIRS[0];
    let frame = bed.of_switch(node, to).echo(true, 7, 1, b"hello");
    let same = |bytes: &[u8]| packet(bytes) == packet(&frame);
    for damage in [
        "sysctl -qw net.ipv4.conf.hop0.accept_local=0",
        "ip address del 192.0.0.8/32 dev hop0",
        "sysctl -qw net.ipv4.ip_forward=0",
    ] {
        bed.node.run(damage);
        bed.give(&frame);
        assert!(bed.stays(same), "this test would not see that {damage} matters");
        Kernel::adjust_host(&bed.linux, &host_link()).unwrap();
        bed.give(&frame);
        assert!(bed.left(same).is_some(), "mended after {damage}");
    }
}

#[test]
fn other_ports_take_the_place_of_those_before() {
    let Some(mut bed) = Bed::new() else { return };
    let moved = [stack::PortRange { first: 20_000, last: 20_010 }];
    let changed = HostLink { diverted: moved.into(), own_ports: vec![], ..host_link() };
    Kernel::adjust_host(&bed.linux, &changed).unwrap();
    assert_eq!(super::sentences(Kernel::check_host(&bed.linux, &changed)), [""; 0]);
    for pair in PAIRS {
        for port in [31_000, 61_000, 20_005] {
            bed.send(&probe(&bed, pair, TCP, port));
        }
        let bytes = bed.taken(|bytes| l4(bytes, address(pair.0)).is_some()).unwrap();
        assert_eq!(l4(&bytes, address(pair.0)), Some((TCP, 20_005)));
    }
    let localnet = bed.node.run("sysctl -n net.ipv4.conf.hop0.route_localnet");
    assert_eq!(localnet.trim(), "0");
}

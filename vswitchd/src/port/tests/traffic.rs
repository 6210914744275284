//! Traffic between two namespaces that are wired to each other.

#![expect(unsafe_code, reason = "UDP_SEGMENT has no safe wrapper")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use super::Namespace;

/// Pings once a millisecond, ten times.
pub(crate) fn ping(from: &Namespace, to: IpAddr) {
    let output = from.run(|| {
        Command::new("ping").args(["-c10", "-i0.001", "-W2", &to.to_string()]).output().unwrap()
    });
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("10 received"), "ping {to}: {text}");
}

/// Sends `len` bytes over TCP and compares them at the other end.
pub(crate) fn tcp(from: &Namespace, to: &Namespace, address: IpAddr, len: usize) {
    let listener = to.run(|| TcpListener::bind((address, 0)).unwrap());
    let target = listener.local_addr().unwrap();
    let stream = from.run(|| TcpStream::connect(target).unwrap());
    let receiver = std::thread::spawn(move || receive(&listener.accept().unwrap().0, len));
    send(stream, len);
    receiver.join().unwrap();
}

fn send(mut stream: TcpStream, len: usize) {
    let mut sent = 0;
    while sent < len {
        let chunk: Vec<u8> = (sent..len.min(sent + 65_536)).map(pattern).collect();
        stream.write_all(&chunk).unwrap();
        sent += chunk.len();
    }
}

fn receive(mut stream: &TcpStream, len: usize) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut chunk = vec![0; 65_536];
    let mut received = 0;
    loop {
        let count = stream.read(&mut chunk).unwrap();
        if count == 0 {
            break;
        }
        for (place, byte) in (received..).zip(&chunk[..count]) {
            assert_eq!(*byte, pattern(place), "byte {place}");
        }
        received += count;
    }
    assert_eq!(received, len);
}

/// A byte for each place, with a long period.
fn pattern(place: usize) -> u8 {
    place.wrapping_mul(0x9e37_79b1).to_be_bytes()[5]
}

/// Sends datagrams by UDP_SEGMENT: the kernel makes one super-frame of each send. Returns what
/// arrived.
pub(crate) fn udp(
    from: &Namespace,
    to: &Namespace,
    address: IpAddr,
    payload: &[u8],
    size: u16,
) -> Vec<Vec<u8>> {
    let receiver = to.run(|| UdpSocket::bind((address, 0)).unwrap());
    let target = receiver.local_addr().unwrap();
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let sender = from.run(|| UdpSocket::bind(SocketAddr::new(any, 0)).unwrap());
    let size = libc::c_int::from(size);
    set_udp_segment(&sender, size);
    sender.send_to(payload, target).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut datagrams = Vec::new();
    let mut buffer = [0; 65_536];
    let mut left = payload.len();
    while left > 0 {
        let count = receiver.recv(&mut buffer).unwrap();
        left = left.saturating_sub(count);
        datagrams.push(buffer[..count].to_vec());
    }
    datagrams
}

fn set_udp_segment(socket: &UdpSocket, size: libc::c_int) {
    let len = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap();
    // SAFETY: the option's value is one int, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const size).cast(),
            len,
        )
    };
    assert_eq!(result, 0, "UDP_SEGMENT {size}");
}

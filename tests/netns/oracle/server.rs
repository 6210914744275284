//! Servers that tell a client how they see it: `NAME ADDRESS PORT`.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lab::Namespace;

use super::services::TARGETS;

/// How often a server looks whether it shall end.
const GLANCE: Duration = Duration::from_millis(20);

/// The servers of a host, at each of its addresses: one of TCP and one of UDP.
pub(super) struct Servers {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    pub(super) fn new(name: &'static str, netns: &Namespace, addresses: &[IpAddr]) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for address in addresses {
            // A reply bears the address that was asked only from a socket that is bound to it.
            let [tcp, udp] = TARGETS.map(|l4_port| SocketAddr::new(*address, l4_port));
            let tcp = netns.within(|| TcpListener::bind(tcp).unwrap()).unwrap();
            let udp = netns.within(|| UdpSocket::bind(udp).unwrap()).unwrap();
            tcp.set_nonblocking(true).unwrap();
            udp.set_read_timeout(Some(GLANCE)).unwrap();
            let until = Arc::clone(&ends);
            threads.push(std::thread::spawn(move || streams(name, &tcp, &until)));
            let until = Arc::clone(&ends);
            threads.push(std::thread::spawn(move || datagrams(name, &udp, &until)));
        }
        Self { ends, threads }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

fn words(name: &str, peer: SocketAddr) -> String {
    format!("{name} {} {} ", peer.ip().to_canonical(), peer.port())
}

fn streams(name: &str, listener: &TcpListener, ends: &AtomicBool) {
    while !ends.load(Ordering::Relaxed) {
        match listener.accept() {
            // A client that is gone is the client's matter.
            Ok((mut stream, peer)) => drop(stream.write_all(words(name, peer).as_bytes())),
            Err(_) => std::thread::sleep(GLANCE),
        }
    }
}

/// Answers are as long as the questions, or longer.
fn datagrams(name: &str, socket: &UdpSocket, ends: &AtomicBool) {
    let mut buffer = vec![0; 0xffff];
    while !ends.load(Ordering::Relaxed) {
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let answer = format!("{:length$}", words(name, peer));
            drop(socket.send_to(answer.as_bytes(), peer));
        }
    }
}

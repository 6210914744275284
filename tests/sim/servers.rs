//! Servers: what a host is told, it says again. Every host serves every Service, so whoever is
//! made a backend answers, and the outside and the nodes serve whoever asks them directly.

use smoltcp::iface::SocketHandle;
use smoltcp::socket::{tcp, udp};
use stack::config::ServiceProtocol;

use crate::SECOND;
use crate::host::Host;
use crate::plan::OUTSIDE;
use crate::services::Service;

/// The port of servers that no Service leads to.
pub(crate) const DIRECT: u16 = 20_200;
/// Bytes that a connection holds at most.
pub(crate) const BUFFER: usize = 2_048;
/// TCP connections of a server at one time.
const LISTENERS: usize = 2;
/// A server gives up a connection on which nothing happens for so long: its client may have gone
/// without a word.
const IDLE: u64 = 20 * SECOND;

/// A TCP socket that listens again when it is done.
struct Listener {
    handle: SocketHandle,
    port: u16,
    /// When something happened last.
    since: u64,
}

/// The servers of all hosts.
pub(crate) struct Servers {
    listeners: Vec<Vec<Listener>>,
    datagrams: Vec<Vec<SocketHandle>>,
}

impl Servers {
    /// Opens them.
    pub(crate) fn open(hosts: &mut [Host], services: &[Service]) -> Self {
        let mut servers = Self { listeners: Vec::new(), datagrams: Vec::new() };
        for host in hosts {
            let (mut listeners, mut datagrams) = (Vec::new(), Vec::new());
            let is_pod = host.id.n > 0;
            let ports = services.iter().filter(|_| host.id != OUTSIDE);
            let mut ports: Vec<(ServiceProtocol, u16)> =
                ports.map(|service| (service.protocol, service.target())).collect();
            if !is_pod {
                ports.push((ServiceProtocol::Tcp, DIRECT));
                ports.push((ServiceProtocol::Udp, DIRECT));
            }
            for (protocol, port) in ports {
                if protocol == ServiceProtocol::Udp {
                    datagrams.push(host.udp(port));
                    continue;
                }
                for _ in 0..LISTENERS {
                    let handle = host.tcp_of(BUFFER);
                    listeners.push(Listener { handle, port, since: 0 });
                }
            }
            servers.listeners.push(listeners);
            servers.datagrams.push(datagrams);
        }
        servers
    }

    /// Answers on the hosts whose sockets may have something new.
    pub(crate) fn pump(&mut self, now: u64, hosts: &mut [Host]) {
        let all = self.listeners.iter_mut().zip(&self.datagrams);
        for (host, (listeners, datagrams)) in hosts.iter_mut().zip(all).filter(|it| it.0.fresh) {
            let mut moved = false;
            for listener in listeners {
                let socket = host.sockets.get_mut::<tcp::Socket<'_>>(listener.handle);
                moved |= listener.pump(now, socket);
            }
            for handle in datagrams {
                moved |= again(host.sockets.get_mut::<udp::Socket<'_>>(*handle));
            }
            host.awake |= moved;
        }
    }
}

impl Listener {
    /// True if the socket has something new to do.
    fn pump(&mut self, now: u64, socket: &mut tcp::Socket<'_>) -> bool {
        if !socket.is_open() {
            socket.listen(self.port).unwrap();
            self.since = now;
            return false;
        }
        if socket.is_listening() {
            self.since = now;
            return false;
        }
        let mut moved = false;
        while socket.can_recv() && socket.can_send() {
            let room = socket.send_capacity() - socket.send_queue();
            let bytes = socket
                .recv(|bytes| {
                    let len = bytes.len().min(room);
                    (len, bytes[..len].to_vec())
                })
                .unwrap();
            if bytes.is_empty() {
                break;
            }
            socket.send_slice(&bytes).unwrap();
            moved = true;
        }
        if socket.state() == tcp::State::CloseWait && !socket.can_recv() {
            socket.close();
            moved = true;
        }
        if moved {
            self.since = now;
        } else if now > self.since + IDLE {
            socket.abort();
            moved = true;
        }
        moved
    }
}

/// Says datagrams again. True if there were any.
fn again(socket: &mut udp::Socket<'_>) -> bool {
    let mut any = false;
    while let Ok((bytes, from)) = socket.recv().map(|(bytes, from)| (bytes.to_vec(), from)) {
        // It answers by the address that it was asked at.
        let _no_room = socket.send_slice(&bytes, from);
        any = true;
    }
    any
}

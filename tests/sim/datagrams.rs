//! Datagrams: when the faults are over and neighbors are known anew, each question gets one answer.

use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp;

use crate::host::Host;
use crate::plan;

/// UDP port of servers and of clients.
const SERVER: u16 = 20_007;
const CLIENT: u16 = 30_007;

/// The sockets of one host.
struct Sockets {
    server: SocketHandle,
    client: SocketHandle,
    answers: Vec<Vec<u8>>,
}

/// A question from each host to each other one, over both families.
pub(crate) struct Datagrams {
    sockets: Vec<Sockets>,
}

fn question(from: usize, to: usize, six: bool) -> Vec<u8> {
    format!("host {from} asks host {to}, six: {six}").into_bytes()
}

impl Datagrams {
    /// Binds sockets on every host.
    pub(crate) fn open(hosts: &mut [Host]) -> Self {
        let sockets = hosts.iter_mut().map(|host| {
            let (server, client) = (host.udp(SERVER), host.udp(CLIENT));
            Sockets { server, client, answers: Vec::new() }
        });
        Self { sockets: sockets.collect() }
    }

    /// Everybody asks everybody.
    pub(crate) fn ask(&self, hosts: &mut [Host]) {
        let ids: Vec<_> = hosts.iter().map(|host| host.id).collect();
        for (from, host) in hosts.iter_mut().enumerate() {
            let socket = host.sockets.get_mut::<udp::Socket<'_>>(self.sockets[from].client);
            for to in (0..ids.len()).filter(|to| *to != from) {
                for six in [false, true] {
                    let address = plan::address(ids[to], six);
                    socket.send_slice(&question(from, to, six), (address, SERVER)).unwrap();
                }
            }
            host.awake = true;
        }
    }

    /// Servers send back what they get, clients keep it.
    pub(crate) fn pump(&mut self, hosts: &mut [Host]) {
        for (own, host) in self.sockets.iter_mut().zip(hosts) {
            let server = host.sockets.get_mut::<udp::Socket<'_>>(own.server);
            while let Ok((bytes, from)) = server.recv().map(|(bytes, from)| (bytes.to_vec(), from))
            {
                server.send_slice(&bytes, from.endpoint).unwrap();
                host.awake = true;
            }
            let client = host.sockets.get_mut::<udp::Socket<'_>>(own.client);
            while let Ok((bytes, _)) = client.recv() {
                own.answers.push(bytes.to_vec());
            }
        }
    }

    /// Judges the answers: each question's own, once. Where connections are `scarce` some may be
    /// missing.
    pub(crate) fn judge(&mut self, scarce: bool) {
        let count = self.sockets.len();
        for (from, own) in self.sockets.iter_mut().enumerate() {
            let others = (0..count).filter(|to| *to != from);
            let mut expected: Vec<Vec<u8>> =
                others.flat_map(|to| [false, true].map(|six| question(from, to, six))).collect();
            expected.sort();
            own.answers.sort();
            if scarce {
                // Where one that was not answered made room for another, that one has its port.
                own.answers.retain(|answer| expected.contains(answer));
                expected.retain(|question| own.answers.contains(question));
            }
            let text = |list: &[Vec<u8>]| -> Vec<String> {
                list.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
            };
            assert_eq!(text(&own.answers), text(&expected), "answers that host {from} got");
        }
    }
}

//! TCP transfers: bytes both ways between two hosts, compared one by one.

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;

use crate::draw::Draw;
use crate::host::Host;
use crate::options::Options;
use crate::plan;

/// First TCP port of servers. Hostile frames use others, so none takes a listener.
const SERVERS: u16 = 20_000;
/// First TCP port of clients.
const CLIENTS: u16 = 30_000;

/// One end.
#[derive(Debug)]
struct End {
    host: usize,
    handle: SocketHandle,
    to_send: u64,
    sent: u64,
    to_get: u64,
    got: u64,
    /// Makes the bytes that this end sends.
    key: u64,
    /// Makes those that it gets.
    other: u64,
}

/// A transfer.
#[derive(Debug)]
pub(crate) struct Transfer {
    ends: [End; 2],
}

/// Byte `at` of a stream.
fn byte(key: u64, at: u64) -> u8 {
    (key.wrapping_add(at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0]
}

impl Transfer {
    /// Transfer `number` between two hosts that are drawn.
    pub(crate) fn open(
        number: u16,
        hosts: &mut [Host],
        options: &Options,
        draw: &mut Draw,
    ) -> Self {
        let mut client = draw.index(hosts.len());
        let mut server = (client + 1 + draw.index(hosts.len() - 1)) % hosts.len();
        // A pod and another node: what is left of a connection when the pod's port is made anew is
        // taken up in the pod's name, and masqueraded. Clients ask again then, a transfer does not.
        let (one, other) = (hosts[client].id, hosts[server].id);
        if options.masquerade && one.node != other.node && (one.n == 0) != (other.n == 0) {
            client += usize::from(one.n == 0);
            server += usize::from(other.n == 0);
        }
        let six = draw.chance(500);
        let (up, down) = (draw.below(options.bytes), draw.below(options.bytes));
        let l4_port = SERVERS + number;
        let listening = hosts[server].tcp();
        hosts[server].sockets.get_mut::<tcp::Socket<'_>>(listening).listen(l4_port).unwrap();
        let calling = hosts[client].tcp();
        let to = plan::address(hosts[server].id, six);
        hosts[client].connect(calling, (to, l4_port), CLIENTS + number);
        let (one, other) = (draw.next(), draw.next());
        let end = |host, handle, to_send, to_get, key, other| End {
            host,
            handle,
            to_send,
            sent: 0,
            to_get,
            got: 0,
            key,
            other,
        };
        Self {
            ends: [
                end(client, calling, up, down, one, other),
                end(server, listening, down, up, other, one),
            ],
        }
    }

    /// Writes and reads what the sockets take and have.
    pub(crate) fn pump(&mut self, hosts: &mut [Host]) {
        for end in &mut self.ends {
            let host = &mut hosts[end.host];
            if end.pump(host.sockets.get_mut(end.handle)) {
                host.awake = true;
            }
        }
    }

    /// Whether both ends have everything, and know that the other has, unless that one has closed
    /// and gone. How they close is smoltcp's own affair (0.14 may fall silent in CLOSING).
    pub(crate) fn done(&self, hosts: &[Host]) -> bool {
        let socket = |end: &End| hosts[end.host].sockets.get::<tcp::Socket<'_>>(end.handle);
        let [one, other] = &self.ends;
        [(one, other), (other, one)].iter().all(|(end, other)| {
            let told = socket(end).send_queue() == 0 || !socket(other).is_open();
            end.got == end.to_get && end.sent == end.to_send && told
        })
    }

    /// Where it stands, for a failure's message.
    pub(crate) fn describe(&self, hosts: &[Host]) -> String {
        let end = |end: &End| {
            let state = hosts[end.host].sockets.get::<tcp::Socket<'_>>(end.handle).state();
            let End { host, to_send, sent, to_get, got, .. } = end;
            format!("host {host} {state}: sent {sent} of {to_send}, got {got} of {to_get}")
        };
        format!("{}; {}", end(&self.ends[0]), end(&self.ends[1]))
    }
}

impl End {
    /// True if the socket has something new to do.
    fn pump(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        let mut moved = false;
        while socket.can_send() && self.sent < self.to_send {
            let len = (self.to_send - self.sent).min(1_024);
            let bytes: Vec<u8> = (0..len).map(|at| byte(self.key, self.sent + at)).collect();
            let taken = socket.send_slice(&bytes).unwrap();
            self.sent += u64::try_from(taken).unwrap();
            moved = true;
        }
        if self.sent == self.to_send && socket.may_send() {
            socket.close();
            moved = true;
        }
        while socket.can_recv() {
            let (key, from) = (self.other, self.got);
            let len = socket
                .recv(|bytes| {
                    let right = (from..).zip(bytes.iter()).all(|(at, got)| *got == byte(key, at));
                    assert!(right, "bytes behind {from} are others than were sent");
                    (bytes.len(), bytes.len())
                })
                .unwrap();
            self.got += u64::try_from(len).unwrap();
            assert!(self.got <= self.to_get, "more bytes than were sent");
            moved = true;
        }
        moved
    }
}

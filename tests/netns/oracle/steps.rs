//! Questions of several steps: backends that go, ports that are used again, what is left of a
//! connection, packets amid a stream, narrow ways.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use lab::pod::lab_run;
use lab::{Namespace, ask};

use super::Seen;
use super::place::{PATIENCE, Place};
use super::questions::of;
use super::services::{Service, TARGETS};
use crate::frames::{Mac, ethernet, hex, mac, tcp};
use crate::services::OUTSIDE;
use crate::worker::resets;

/// All of them, one after another.
pub(super) fn ask(place: &Place, services: &mut [Service]) -> Seen {
    let mut seen = Seen::new();
    for family in 0..2 {
        let mut add = |asked: &str, told: String| {
            seen.insert((asked.to_owned(), family), told);
        };
        add("a port that is used again, TCP", again(place, services, family));
        add("a port of a VIP's client for its backend, TCP", directly(place, services, family));
        add("amid a stream to a VIP, TCP", amid(place, services, family));
        left(place, services, family, &mut add);
    }
    goes(place, services, &mut seen);
    for family in 0..2 {
        let told = narrow(place, services, family);
        seen.insert(("client to a VIP by a narrow way, UDP".to_owned(), family), told);
    }
    seen
}

fn vip(services: &[Service], name: &str, family: usize) -> IpAddr {
    of(services, name).vips()[family].parse().unwrap()
}

/// Asks by TCP from one and the same port.
fn from_port(place: &Place, l4_port: u16, to: SocketAddr) -> String {
    let source = SocketAddr::new(ask::any(to).ip(), l4_port);
    place.tell(ask::tcp(place.netns("client"), source, to, PATIENCE).unwrap(), to.ip(), 1)
}

fn again(place: &Place, services: &[Service], family: usize) -> String {
    let to = SocketAddr::new(vip(services, "web", family), 80);
    let both = [(), ()].map(|()| {
        // The end of the one before is acknowledged by then.
        std::thread::sleep(Duration::from_millis(100));
        from_port(place, 23_456, to)
    });
    both.join("; ")
}

/// The same port to a VIP, then to its backend.
fn directly(place: &Place, services: &[Service], family: usize) -> String {
    let server = place.addresses("server")[family];
    let ways = [(vip(services, "web", family), 80), (server, TARGETS[0])];
    ways.map(|(address, l4_port)| from_port(place, 23_457, (address, l4_port).into())).join("; ")
}

/// An acknowledgment out of nowhere: what comes back, and whether the backend has seen it.
fn amid(place: &Place, services: &[Service], family: usize) -> String {
    let client = place.netns("client");
    let (own, to) = (place.addresses("client")[family], vip(services, "web", family));
    let segment = tcp((own, 23_458), (to, 80), [0x5000_0000, 0x6000_0000], 0x10);
    let ethertype = if family == 0 { 0x0800 } else { 0x86dd };
    let frame = ethernet(gateway(client, own), own_mac(client), ethertype, &segment);
    let file = client.owner().fresh_path("amid");
    std::fs::write(&file, hex(&[frame])).unwrap();
    let (path, before) = (file.to_string_lossy(), resets(place.netns("server")));
    let filter = format!("src host {to} and tcp");
    let args = ["raw", "--interface", "eth0", "--frames", &path, "--filter", &filter];
    let came = crate::frames::unhex(&lab_run(client, &args).unwrap());
    let flags = came.iter().map(|frame| frame[14 + [20, 40][family] + 13] & 0x3f);
    let what: Vec<&str> = flags.map(|it| if it == 0x04 { "RST" } else { "other" }).collect();
    let by = if resets(place.netns("server")) > before { "the backend" } else { "nobody else" };
    format!("{}, from {by}", if what.is_empty() { "silence".to_owned() } else { what.join(" ") })
}

fn own_mac(netns: &Namespace) -> Mac {
    let links: serde_json::Value =
        serde_json::from_str(&netns.ip(&["-json", "link", "show", "eth0"]).unwrap()).unwrap();
    mac(links[0]["address"].as_str().unwrap())
}

/// The MAC of a pod's gateway, which it knows since it has asked others.
fn gateway(netns: &Namespace, own: IpAddr) -> Mac {
    let address = crate::services::GATEWAYS[usize::from(own.is_ipv6())];
    let text = netns.ip(&["-json", "neigh", "show", address, "dev", "eth0"]).unwrap();
    let neighbors: serde_json::Value = serde_json::from_str(&text).unwrap();
    mac(neighbors[0]["lladdr"].as_str().unwrap())
}

/// What is kept of a connection, and for how long, as it goes on.
fn left(place: &Place, services: &[Service], family: usize, add: &mut impl FnMut(&str, String)) {
    let client = place.netns("client");
    let (server, own) = (place.addresses("server")[family], place.addresses("client")[family]);
    let to = vip(services, "mute", family);
    let [tcp, udp] = of(services, "mute").targets.map(|l4_port| SocketAddr::new(server, l4_port));
    let backend = place.netns("server");
    let listener = backend.within(|| TcpListener::bind(tcp).unwrap()).unwrap();
    let echo = backend.within(|| UdpSocket::bind(udp).unwrap()).unwrap();
    echo.set_read_timeout(Some(PATIENCE)).unwrap();

    let kept = |protocol, l4_port| place.kept(protocol, SocketAddr::new(own, l4_port));
    let socket = client.within(|| UdpSocket::bind((own, 0)).unwrap()).unwrap();
    let l4_port = socket.local_addr().unwrap().port();
    socket.connect((to, 7)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 9];
    socket.send(b"question").unwrap();
    let (_, peer) = echo.recv_from(&mut buffer).unwrap();
    add("kept of UDP that nobody has answered", kept("udp", l4_port));
    let exchange = || {
        echo.send_to(b"answer", peer).unwrap();
        socket.recv(&mut [0; 9]).unwrap();
    };
    exchange();
    add("kept of UDP that was answered", kept("udp", l4_port));
    // By then it is more than a question and its answer.
    std::thread::sleep(Duration::from_millis(2_100));
    socket.send(b"question").unwrap();
    echo.recv_from(&mut buffer).unwrap();
    exchange();
    add("kept of UDP that goes on", kept("udp", l4_port));

    let open = || {
        let stream = client.within(|| TcpStream::connect((to, 80)).unwrap()).unwrap();
        let l4_port = stream.local_addr().unwrap().port();
        (stream, listener.accept().unwrap().0, l4_port)
    };
    let (mut near, mut far, l4_port) = open();
    near.write_all(b"word").unwrap();
    far.read_exact(&mut [0; 4]).unwrap();
    add("kept of TCP that is open", kept("tcp", l4_port));
    near.shutdown(Shutdown::Write).unwrap();
    far.read_to_end(&mut Vec::new()).unwrap();
    // Acknowledged, it is half closed.
    std::thread::sleep(Duration::from_millis(100));
    add("kept of TCP that one side has closed", kept("tcp", l4_port));
    drop(far);
    near.read_to_end(&mut Vec::new()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    add("kept of TCP that both have closed", kept("tcp", l4_port));
    let (near, mut far, l4_port) = open();
    // Closed with a word unread, it is reset.
    far.write_all(b"word").unwrap();
    near.peek(&mut [0; 4]).unwrap();
    drop(near);
    far.read_to_end(&mut Vec::new()).unwrap_err();
    add("kept of TCP that was reset", kept("tcp", l4_port));
}

/// Connections of the client with a VIP, open.
struct Open {
    family: usize,
    udp: UdpSocket,
    tcp: [TcpStream; 2],
    /// The backend that has answered by UDP.
    by: String,
}

impl Open {
    fn new(place: &Place, services: &[Service], name: &'static str, family: usize) -> Self {
        let client = place.netns("client");
        let service = of(services, name);
        let listeners = ["server", "other"].map(|name| {
            let at = SocketAddr::new(place.addresses(name)[family], service.targets[0]);
            let listener = place.netns(name).within(|| TcpListener::bind(at).unwrap()).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        });
        let [tcp, echo] = [80, 7].map(|l4_port| (vip(services, name, family), l4_port).into());
        let near = client.within(|| TcpStream::connect_timeout(&tcp, PATIENCE).unwrap()).unwrap();
        // The last step of its handshake may be on its way yet.
        let looks = std::iter::repeat_with(|| {
            std::thread::sleep(Duration::from_millis(10));
            listeners.iter().find_map(|listener| listener.accept().ok())
        });
        let (far, _) = looks.take(200).flatten().next().unwrap();
        far.set_nonblocking(false).unwrap();
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let udp = client.within(|| UdpSocket::bind(ask::any(echo)).unwrap()).unwrap();
        udp.set_read_timeout(Some(PATIENCE)).unwrap();
        ask::queue_errors(&udp, echo).unwrap();
        udp.connect(echo).unwrap();
        let mut open = Self { family, udp, tcp: [near, far], by: String::new() };
        let told = open.asks(place);
        open.by = told.split(' ').next().unwrap().to_owned();
        open
    }

    fn asks(&self, place: &Place) -> String {
        let target = self.udp.peer_addr().unwrap().ip();
        place.tell(ask::datagram(&self.udp, 9).unwrap(), target, 1)
    }

    /// What became of the TCP connection.
    fn says(&mut self) -> String {
        let [near, far] = &mut self.tcp;
        near.write_all(b"word").unwrap();
        match far.read_exact(&mut [0; 4]) {
            Ok(()) => "goes on".to_owned(),
            Err(error) => error.kind().to_string(),
        }
    }
}

/// Backends go while they are spoken to: of each family the one that was chosen for UDP.
fn goes(place: &Place, services: &mut [Service], seen: &mut Seen) {
    for (name, what) in [("leaving", "backend"), ("last", "only backend")] {
        let open = [0, 1].map(|family| Open::new(place, services, name, family));
        let gone = [0, 1].map(|family| place.addresses(&open[family].by)[family]);
        let service = services.iter_mut().find(|service| service.name == name).unwrap();
        service.backends.retain(|backend| !gone.contains(backend));
        let changed = service.clone();
        place.change(services, &changed, &gone);
        for mut one in open {
            let told = one.asks(place);
            let told = match told.split_once(" answers") {
                Some((by, rest)) if by == one.by => format!("it answers{rest}"),
                Some((_, rest)) => format!("another answers{rest}"),
                None => told,
            };
            let asked = |how| (format!("client to a VIP whose {what} goes, {how}"), one.family);
            seen.insert(asked("UDP"), told);
            let asked = asked("TCP that is open");
            seen.insert(asked, one.says());
        }
    }
}

/// A datagram to a VIP that does not fit the way to its backend.
fn narrow(place: &Place, services: &[Service], family: usize) -> String {
    let (flag, outside) = (["-4", "-6"][family], OUTSIDE[family]);
    let way = [flag, "route", "add", outside, "dev", "up0", "mtu", "1300"];
    place.netns("node").ip(&way).unwrap();
    place.udp("client", SocketAddr::new(vip(services, "beyond", family), 7), 1_400)
}

//! UDP: echo, and round trips that compare every byte.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::{Pattern, say};
use crate::{Context as _, Error, Result};

/// Bytes of a UDP datagram at most.
const DATAGRAM_MAX: usize = 65_535;
/// Time for one round trip.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn echo(listen: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(listen).context(listen)?;
    say("ready")?;
    let mut buffer = vec![0; DATAGRAM_MAX];
    let mut last = None;
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).context("receive")?;
        if last != Some(peer) {
            super::say_peer(peer)?;
            last = Some(peer);
        }
        let datagram = buffer.get(..length).unwrap_or_default();
        // An unreachable client is the client's matter.
        drop(socket.send_to(datagram, peer));
    }
}

pub(super) fn request_response(to: &[SocketAddr], size: usize, count: u32) -> Result<()> {
    let mut times = Vec::new();
    for server in to {
        times.extend(round_trips(*server, size, count)?);
    }
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(0, Duration::as_micros);
    say(format!("{} of {size} bytes, p50 {} us, p99 {} us", times.len(), at(50), at(99)))
}

/// The times of `count` round trips to one server.
fn round_trips(to: SocketAddr, size: usize, count: u32) -> Result<Vec<Duration>> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).context(any)?;
    socket.connect(to).context(to)?;
    socket.set_read_timeout(Some(PATIENCE)).context("timeout")?;
    let mut pattern = Pattern::new();
    let (mut sent, mut got) = (vec![0; size], vec![0; DATAGRAM_MAX]);
    let mut times = Vec::new();
    for number in 1..=count {
        let what = |part: &str| format!("{to}: datagram {number}: {part}");
        pattern.fill(&mut sent);
        let began = Instant::now();
        socket.send(&sent).context(what("send"))?;
        let length = socket.recv(&mut got).context(what("echo"))?;
        times.push(began.elapsed());
        if got.get(..length) != Some(&sent) {
            return Err(Error::new(what(&format!("{length} bytes came back, or other ones"))));
        }
    }
    Ok(times)
}

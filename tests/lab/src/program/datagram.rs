//! UDP: echo, and round trips that compare every byte.

use std::io::ErrorKind;
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

/// Round trips to each server in turn. `again`: for how long to wait for an echo before it is asked
/// for once more; without it a loss is an error.
pub(super) fn request_response(
    to: &[SocketAddr],
    size: usize,
    count: u32,
    again: Option<Duration>,
) -> Result<()> {
    let (mut times, mut lost) = (Vec::new(), 0);
    for server in to {
        let (more, without) = round_trips(*server, size, count, again)?;
        times.extend(more);
        lost += without;
    }
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(0, Duration::as_micros);
    let (count, p50, p99) = (times.len(), at(50), at(99));
    say(format!("{count} of {size} bytes, p50 {p50} us, p99 {p99} us, {lost} lost"))
}

/// The times of `count` round trips to one server, and how many echoes did not come.
fn round_trips(
    to: SocketAddr,
    size: usize,
    count: u32,
    again: Option<Duration>,
) -> Result<(Vec<Duration>, u32)> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).context(any)?;
    socket.connect(to).context(to)?;
    socket.set_read_timeout(Some(again.unwrap_or(PATIENCE))).context("timeout")?;
    let mut pattern = Pattern::new();
    let (mut sent, mut got) = (vec![0; size], vec![0; DATAGRAM_MAX]);
    let (mut times, mut lost) = (Vec::new(), 0);
    for number in 1..=count {
        let what = |part: &str| format!("{to}: datagram {number}: {part}");
        let before = sent.clone();
        pattern.fill(&mut sent);
        let began = Instant::now();
        socket.send(&sent).context(what("send"))?;
        loop {
            match socket.recv(&mut got) {
                Ok(length) if got.get(..length) == Some(&sent) => break,
                // The late echo of one that was asked for twice.
                Ok(length) if lost > 0 && got.get(..length) == Some(&before) => {}
                Ok(length) => {
                    return Err(Error::new(what(&format!("{length} other bytes came back"))));
                }
                Err(error) if again.is_some() && error.kind() == ErrorKind::WouldBlock => {
                    lost += 1;
                    socket.send(&sent).context(what("send"))?;
                }
                Err(error) => return Err(error).context(what("echo")),
            }
        }
        times.push(began.elapsed());
    }
    Ok((times, lost))
}

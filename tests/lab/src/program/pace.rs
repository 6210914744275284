//! UDP at a steady pace: how long it is interrupted, what is lost, and whether the order holds.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::say;
use crate::{Context as _, Error, Result};

/// A pause between two arrivals that is told.
const NOTABLE: Duration = Duration::from_millis(3);
/// Bytes that may wait in the receiver's socket: of small datagrams some 50,000.
const RECEIVE_BUFFER: usize = 32 << 20;
/// The sender is done when nothing has come for so long.
const SILENCE: Duration = Duration::from_secs(5);

/// A sender that was kept from its core for longer sends no more than so many at once: a queue on
/// the way would overflow by the sender's own fault. It goes on at its pace then.
const BURST_MAX: u32 = 32;

/// Sends `count` numbered datagrams, one each interval. A late one is followed by the next at once,
/// so that as many are sent as time has passed, within [`BURST_MAX`]. The last line is
/// `sent N in MICROSECONDS`.
pub(super) fn send(to: SocketAddr, interval: Duration, count: u64) -> Result<()> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).context(any)?;
    socket.connect(to).context(to)?;
    let begun = Instant::now();
    let mut due = begun;
    for number in 0..count {
        socket.send(&number.to_be_bytes()).context(format!("datagram {number}"))?;
        let now = Instant::now();
        due = (due + interval).max(now.checked_sub(interval * BURST_MAX).unwrap_or(now));
        let early = due.saturating_duration_since(now);
        if !early.is_zero() {
            std::thread::sleep(early);
        }
    }
    say(format!("sent {count} in {}", begun.elapsed().as_micros()))
}

/// Receives until the sender is silent. Each notable gap is a line `gap MICROSECONDS`, the last
/// line is `received N lost N reordered N`.
pub(super) fn receive(listen: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(listen).context(listen)?;
    // What is lost shall be the network's: not what waits for this process to run.
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).context("receive buffer")?;
    say("ready")?;
    let (mut received, mut reordered, mut highest) = (0_u64, 0_u64, None);
    let mut last: Option<Instant> = None;
    let mut buffer = [0; 8];
    loop {
        match socket.recv(&mut buffer) {
            Ok(8) => {}
            Ok(length) => return Err(Error::new(format!("a datagram of {length} bytes"))),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error).context("receive"),
        }
        let now = Instant::now();
        if last.is_none() {
            socket.set_read_timeout(Some(SILENCE)).context("timeout")?;
        }
        if let Some(gap) = last.map(|last| now - last).filter(|gap| *gap >= NOTABLE) {
            say(format!("gap {}", gap.as_micros()))?;
        }
        last = Some(now);
        let number = u64::from_be_bytes(buffer);
        received += 1;
        reordered += u64::from(highest.is_some_and(|highest| number < highest));
        highest = highest.max(Some(number));
    }
    let lost = highest.map_or(0, |highest| (highest + 1).saturating_sub(received));
    say(format!("received {received} lost {lost} reordered {reordered}"))
}

//! Connections at the highest rate that clients can make: each is opened, asked for its own line,
//! and reset.
//!
//! A reset gives the client's port back at once. An orderly close would leave it in TIME_WAIT for a
//! minute, and the ports to one address are used up within seconds. So ports come again soon, and
//! whoever tracks connections must tell a new one from the one that is over.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use super::{say, session};
use crate::{Context as _, Error, Result};

/// Time for one answer: a few retransmissions of TCP.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many clients connect to the listeners in turn, for so long. Any connection that is not as it
/// should be is an error.
pub(super) fn run(to: &[SocketAddr], clients: usize, time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    let clients: Vec<_> = (0..clients)
        .map(|client| {
            let to = to.to_vec();
            std::thread::spawn(move || connect_until(client, &to, until))
        })
        .collect();
    let mut connections = 0;
    for client in clients {
        connections += client.join().map_err(|_panic| Error::new("a client panicked"))??;
    }
    say(format!("{connections} connections"))
}

fn connect_until(client: usize, to: &[SocketAddr], until: Instant) -> Result<u64> {
    let mut connections = 0;
    for to in to.iter().cycle() {
        if Instant::now() >= until {
            break;
        }
        connections += 1;
        once(to, &format!("{client}.{connections}")).context(format!("{connections} to {to}"))?;
    }
    Ok(connections)
}

fn once(to: &SocketAddr, mark: &str) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(to, PATIENCE).context("connect")?;
    setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 }).context("linger")?;
    stream.set_read_timeout(Some(PATIENCE)).context("timeout")?;
    stream.set_nodelay(true).context("nodelay")?;
    writeln!(stream, "{mark}").context("line")?;
    let mut lines = BufReader::new(stream).lines();
    for expected in [session::BANNER.to_owned(), format!("1 {mark}")] {
        let line = lines.next().unwrap_or_else(|| Ok(String::new())).context("answer")?;
        if line != expected {
            return Err(Error::new(format!("{line:?} instead of {expected:?}")));
        }
    }
    Ok(())
}

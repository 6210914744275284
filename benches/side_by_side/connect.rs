//! Connections that live for one byte: opened, answered, reset.
//!
//! The client resets each (SO_LINGER of 0 seconds). An orderly close would leave its port in
//! TIME_WAIT for a minute, so that the ports to the one address were used up within two seconds,
//! and `tcp_tw_reuse` gives a port back only after a second. A reset gives it back at once, on
//! every path alike; whoever tracks connections must then let one be opened again.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use crate::netns::enter;

/// Threads that connect at once: with one the measurement would be another round trip.
pub(crate) const CLIENTS: usize = 4;
/// How long a client waits. Less than the second after which a SYN is sent again, so that no lost
/// one is counted.
const PATIENCE: Duration = Duration::from_millis(500);

/// Accepts, sends a byte and closes.
pub(crate) fn serve(listener: &TcpListener, stop: &AtomicBool) -> io::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            // A client that has given up does not count.
            Ok((mut socket, _peer)) => drop(socket.write_all(&[0x5a])),
            Err(error) if is_late(&error) || error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Connects from inside a pod, waits for the byte and resets, again and again.
pub(crate) fn ask(
    pod: &Path,
    target: &SocketAddr,
    stop: &AtomicBool,
    count: &AtomicU64,
) -> io::Result<()> {
    enter(pod).map_err(io::Error::other)?;
    while !stop.load(Ordering::Relaxed) {
        match ask_once(target) {
            Ok(()) => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            // What is lost is what is measured.
            Err(error) if is_late(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn ask_once(target: &SocketAddr) -> io::Result<()> {
    let mut socket = TcpStream::connect_timeout(target, PATIENCE)?;
    setsockopt(&socket, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.read_exact(&mut [0])
}

/// Whether a wait was over before anything came.
fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

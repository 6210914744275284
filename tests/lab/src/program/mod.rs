//! Clients and servers that run inside of pods, as subcommands of the binary `lab`.
//!
//! Servers print `ready` when they listen and `peer ADDRESS` for each client, so that a test sees
//! who came. A client exits with 0 only when all it sent came back as it should.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use crate::Result;

mod connect;
mod datagram;
mod http;
mod pace;
mod raw;
mod session;
mod stream;

/// A client or server.
#[derive(Debug, Clone, Subcommand)]
pub enum Program {
    /// TCP server: sends back what it gets
    TcpEcho {
        /// Address and port to listen on
        #[arg(long)]
        listen: SocketAddr,
    },
    /// TCP server: takes all, answers with the number of bytes and their SHA-256
    TcpReceive {
        /// Address and port to listen on
        #[arg(long)]
        listen: SocketAddr,
    },
    /// TCP client of tcp-receive: sends bytes and compares the SHA-256
    TcpSend {
        /// Address and port of the server
        #[arg(long)]
        to: SocketAddr,
        /// How many bytes
        #[arg(long)]
        bytes: u64,
    },
    /// UDP server: sends back what it gets
    UdpEcho {
        /// Address and port to listen on
        #[arg(long)]
        listen: SocketAddr,
    },
    /// UDP client of udp-echo: one datagram after another, each compared with its echo
    UdpRr {
        /// Address and port of a server; may be given several times
        #[arg(long, required = true)]
        to: Vec<SocketAddr>,
        /// Bytes of each datagram
        #[arg(long)]
        size: usize,
        /// How many to each server
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// Ask again after so long and count the loss, instead of failing after five seconds
        #[arg(long, value_name = "MS")]
        again_ms: Option<u64>,
    },
    /// A server as SSH is one: a banner, then a numbered answer for each line of a session
    Listener {
        /// Address and port to listen on
        #[arg(long)]
        listen: SocketAddr,
    },
    /// A session with a listener: one line every 20 ms, every answer's number checked
    Session {
        /// Address and port of the server
        #[arg(long)]
        to: SocketAddr,
        /// How many lines
        #[arg(long)]
        lines: u32,
    },
    /// A small HTTP server: one page that names the client's address
    Http {
        /// Address and port to listen on
        #[arg(long)]
        listen: SocketAddr,
        /// Keep connections for further requests
        #[arg(long)]
        keep_alive: bool,
    },
    /// A client of http --keep-alive: one request every 20 ms on each of some connections
    HttpAsk {
        /// Address and port of the server
        #[arg(long)]
        to: SocketAddr,
        /// How many connections
        #[arg(long)]
        connections: usize,
        /// For how many seconds
        #[arg(long)]
        seconds: u64,
    },
    /// UDP sender of numbered datagrams at a steady pace
    PaceSend {
        /// Address and port of the receiver
        #[arg(long)]
        to: SocketAddr,
        /// Microseconds from one to the next
        #[arg(long)]
        interval_us: u64,
        /// How many
        #[arg(long)]
        count: u64,
    },
    /// UDP receiver of pace-send: prints gaps of 3 ms and more, and what was lost
    PaceReceive {
        /// Address and port to listen on
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Clients of listener: connections opened, asked and reset as fast as they can
    Connect {
        /// Address and port of a server; given several times, in turn
        #[arg(long, required = true)]
        to: Vec<SocketAddr>,
        /// How many clients at once
        #[arg(long, default_value_t = 4)]
        clients: usize,
        /// For how many seconds
        #[arg(long)]
        seconds: u64,
    },
    /// Sends frames that no socket would, and prints what comes in, both in hexadecimal
    Raw {
        /// Interface
        #[arg(long)]
        interface: String,
        /// A file with one frame a line
        #[arg(long)]
        frames: PathBuf,
        /// Microseconds of rest after every 32 frames, or the interface's queue overflows
        #[arg(long, default_value_t = 0)]
        rest_us: u64,
        /// Milliseconds to listen after the last one
        #[arg(long, default_value_t = 300)]
        wait_ms: u64,
        /// pcap filter for what is printed
        #[arg(long, default_value = "")]
        filter: String,
    },
}

impl Program {
    /// Runs it: a server for ever, a client to its end.
    ///
    /// # Errors
    /// What went wrong, or differed.
    pub fn run(self) -> Result<()> {
        match self {
            Self::TcpEcho { listen } => stream::echo(listen),
            Self::TcpReceive { listen } => stream::receive(listen),
            Self::TcpSend { to, bytes } => stream::send(to, bytes),
            Self::UdpEcho { listen } => datagram::echo(listen),
            Self::UdpRr { to, size, count, again_ms } => {
                let again = again_ms.map(Duration::from_millis);
                datagram::request_response(&to, size, count, again)
            }
            Self::Listener { listen } => session::listener(listen),
            Self::Session { to, lines } => session::client(to, lines),
            Self::Http { listen, keep_alive } => http::serve(listen, keep_alive),
            Self::HttpAsk { to, connections, seconds } => {
                http::ask(to, connections, Duration::from_secs(seconds))
            }
            Self::PaceSend { to, interval_us, count } => {
                pace::send(to, Duration::from_micros(interval_us), count)
            }
            Self::PaceReceive { listen } => pace::receive(listen),
            Self::Connect { to, clients, seconds } => {
                connect::run(&to, clients, Duration::from_secs(seconds))
            }
            Self::Raw { interface, frames, rest_us, wait_ms, filter } => {
                let rest = Duration::from_micros(rest_us);
                raw::exchange(&interface, &frames, rest, wait_ms, &filter)
            }
        }
    }
}

/// Prints a line of the program's output, at once.
fn say(line: impl std::fmt::Display) -> Result<()> {
    use std::io::Write as _;

    use crate::Context as _;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("stdout")
}

/// Prints who came: the address alone, as the client itself would write it.
fn say_peer(peer: SocketAddr) -> Result<()> {
    say(format!("peer {}", peer.ip().to_canonical()))
}

/// Bytes that never repeat within a transfer: a counter's xorshift, equal in every run.
struct Pattern(u64);

impl Pattern {
    fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let word = self.0.to_le_bytes();
            chunk.iter_mut().zip(word).for_each(|(byte, value)| *byte = value);
        }
    }
}

/// Bytes in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

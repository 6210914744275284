//! TCP: echo, and transfers that are compared by SHA-256.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::{Pattern, hex, say};
use crate::{Context as _, Error, Result};

/// Bytes written and read at once.
const CHUNK: usize = 256 << 10;
/// A peer that is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// Listens, says `ready`, and serves each client on a thread of its own.
pub(super) fn serve(listen: SocketAddr, each: fn(TcpStream) -> Result<()>) -> Result<()> {
    let listener = TcpListener::bind(listen).context(listen)?;
    say("ready")?;
    for stream in listener.incoming() {
        let stream = stream.context("accept")?;
        super::say_peer(stream.peer_addr().context("peer")?)?;
        std::thread::spawn(move || {
            if let Err(error) = each(stream) {
                // The client sees the broken connection; the server goes on.
                drop(say(format!("error {error}")));
            }
        });
    }
    Ok(())
}

pub(super) fn echo(listen: SocketAddr) -> Result<()> {
    serve(listen, |mut stream| {
        let mut copy = stream.try_clone().context("clone")?;
        std::io::copy(&mut stream, &mut copy).context("echo").map(drop)
    })
}

pub(super) fn receive(listen: SocketAddr) -> Result<()> {
    serve(listen, |mut stream| {
        stream.set_read_timeout(Some(SILENCE)).context("timeout")?;
        let (mut hash, mut total) = (Sha256::new(), 0_u64);
        let mut buffer = vec![0; CHUNK];
        loop {
            let got = stream.read(&mut buffer).context("receive")?;
            let Some(bytes) = buffer.get(..got).filter(|bytes| !bytes.is_empty()) else { break };
            hash.update(bytes);
            total += bytes.len() as u64;
        }
        let line = format!("{total} {}", hex(&hash.finalize()));
        say(&line)?;
        writeln!(stream, "{line}").context("answer")
    })
}

pub(super) fn send(to: SocketAddr, bytes: u64) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, SILENCE).context(to)?;
    stream.set_read_timeout(Some(SILENCE)).context("timeout")?;
    stream.set_write_timeout(Some(SILENCE)).context("timeout")?;
    let (mut hash, mut pattern) = (Sha256::new(), Pattern::new());
    let mut buffer = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let take = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let chunk = buffer.get_mut(..take).unwrap_or_default();
        pattern.fill(chunk);
        hash.update(&*chunk);
        stream.write_all(chunk).context("send")?;
        left -= take as u64;
    }
    stream.shutdown(Shutdown::Write).context("shutdown")?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).context("answer")?;
    let sent = format!("{bytes} {}", hex(&hash.finalize()));
    if answer.trim_end() != sent {
        return Err(Error::new(format!("sent {sent}, but {} arrived", answer.trim_end())));
    }
    say(sent)
}

//! A web server of one page, for curl, and clients that keep their connections.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{say, stream};
use crate::{Context as _, Error, Result};

/// Between two requests of a connection.
const PAUSE: Duration = Duration::from_millis(20);
/// Time for one answer: a few retransmissions of TCP.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn serve(listen: SocketAddr, keep_alive: bool) -> Result<()> {
    if keep_alive { stream::serve(listen, keep) } else { stream::serve(listen, once) }
}

fn once(stream: TcpStream) -> Result<()> {
    answer(&mut BufReader::new(stream), "close").map(drop)
}

fn keep(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true).context("nodelay")?;
    let mut reader = BufReader::new(stream);
    while answer(&mut reader, "keep-alive")? {}
    Ok(())
}

/// Answers one request; false when there is none.
fn answer(reader: &mut BufReader<TcpStream>, connection: &str) -> Result<bool> {
    let peer = reader.get_ref().peer_addr().context("peer")?;
    // The request ends with an empty line; what it asks for does not matter.
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).context("request")? == 0 {
            return Ok(false);
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    let page = format!("hello, {}\n", peer.ip().to_canonical());
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: {connection}\r\n\r\n",
        page.len()
    );
    // Whole at once: one segment, which a reader of captures can follow.
    reader.get_mut().write_all((head + &page).as_bytes()).context("answer")?;
    Ok(true)
}

/// Asks on so many connections for so long, each kept throughout. Any that breaks is an error.
pub(super) fn ask(to: SocketAddr, connections: usize, time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    let open = |_| {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).context(to)?;
        stream.set_read_timeout(Some(PATIENCE)).context("timeout")?;
        stream.set_nodelay(true).context("nodelay")?;
        Ok(stream)
    };
    let streams = (0..connections).map(open).collect::<Result<Vec<_>>>()?;
    say("ready")?;
    let clients: Vec<_> = streams
        .into_iter()
        .map(|stream| std::thread::spawn(move || ask_until(stream, until)))
        .collect();
    let mut requests = 0;
    for (number, client) in clients.into_iter().enumerate() {
        let done = client.join().map_err(|_panic| Error::new("a client panicked"))?;
        requests += done.context(format!("connection {number}"))?;
    }
    say(format!("{requests} requests on {connections} connections"))
}

fn ask_until(stream: TcpStream, until: Instant) -> Result<u64> {
    let mut reader = BufReader::new(stream);
    let mut requests = 0;
    while Instant::now() < until {
        reader.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n").context("request")?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).context("answer")? == 0 {
                return Err(Error::new("the server has closed the connection"));
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().context("length")?;
            }
            if line.trim_end().is_empty() {
                break;
            }
        }
        let mut page = vec![0; length];
        reader.read_exact(&mut page).context("page")?;
        if !page.starts_with(b"hello, ") {
            return Err(Error::new("the page is another one"));
        }
        requests += 1;
        std::thread::sleep(PAUSE);
    }
    Ok(requests)
}

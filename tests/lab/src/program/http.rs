//! A web server of one page, for curl.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;

use super::stream;
use crate::{Context as _, Result};

pub(super) fn serve(listen: SocketAddr) -> Result<()> {
    stream::serve(listen, |mut stream| {
        let peer = stream.peer_addr().context("peer")?;
        let reader = BufReader::new(stream.try_clone().context("clone")?);
        // The request ends with an empty line; what it asks for does not matter.
        for line in reader.lines() {
            if line.context("request")?.is_empty() {
                break;
            }
        }
        let page = format!("hello, {}\n", peer.ip().to_canonical());
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            page.len()
        );
        // Whole at once: one segment, which a reader of captures can follow.
        stream.write_all((head + &page).as_bytes()).context("answer")
    })
}

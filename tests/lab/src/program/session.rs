//! A server with state in each connection, as SSH has: if a session is cut or answered by somebody
//! else, the numbers show it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{say, stream};
use crate::{Context as _, Error, Result};

/// The first line of every session.
pub(super) const BANNER: &str = "SSH-2.0-lab";
/// Between two lines of a session.
const PAUSE: Duration = Duration::from_millis(20);
/// Time for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn listener(listen: SocketAddr) -> Result<()> {
    stream::serve(listen, |mut stream| {
        writeln!(stream, "{BANNER}").context("banner")?;
        let reader = BufReader::new(stream.try_clone().context("clone")?);
        for (number, line) in (1..).zip(reader.lines()) {
            let line = line.context("line")?;
            writeln!(stream, "{number} {line}").context("answer")?;
        }
        Ok(())
    })
}

pub(super) fn client(to: SocketAddr, lines: u32) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).context(to)?;
    stream.set_read_timeout(Some(PATIENCE)).context("timeout")?;
    stream.set_nodelay(true).context("nodelay")?;
    let mut answers = BufReader::new(stream.try_clone().context("clone")?).lines();
    let mut answer = || answers.next().unwrap_or_else(|| Ok(String::new())).context("answer");
    let banner = answer()?;
    if banner != BANNER {
        return Err(Error::new(format!("the banner is {banner:?}")));
    }
    say("ready")?;
    for number in 1..=lines {
        writeln!(stream, "line {number}").context("line")?;
        let got = answer().context(format!("line {number}"))?;
        if got != format!("{number} line {number}") {
            return Err(Error::new(format!("line {number} was answered by {got:?}")));
        }
        std::thread::sleep(PAUSE);
    }
    say(format!("{lines} lines"))
}

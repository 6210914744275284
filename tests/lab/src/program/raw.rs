//! Frames as they are: what no socket would send, and what comes back for it.

use std::path::Path;
use std::time::{Duration, Instant};

use pcap::{Capture, Direction};

use super::{hex, say};
use crate::{Context as _, Error, Result};

/// Time that one look for frames may take, in milliseconds.
const GLANCE_MS: i32 = 10;
/// Frames from one rest to the next.
const BURST: usize = 32;

pub(super) fn exchange(
    interface: &str,
    frames: &Path,
    rest: Duration,
    wait_ms: u64,
    filter: &str,
) -> Result<()> {
    let text = std::fs::read_to_string(frames).context(frames.display())?;
    let frames: Vec<Vec<u8>> = text.lines().map(parse).collect::<Result<_>>()?;
    let capture = Capture::from_device(interface)
        .and_then(|capture| capture.immediate_mode(true).timeout(GLANCE_MS).open())
        .and_then(Capture::setnonblock)
        .context(interface)?;
    let mut capture = capture;
    capture.direction(Direction::In).context("direction")?;
    capture.filter(filter, true).context(filter)?;
    for (number, frame) in frames.iter().enumerate() {
        capture.sendpacket(frame.as_slice()).context(format!("frame {}", number + 1))?;
        if !rest.is_zero() && number % BURST == BURST - 1 {
            std::thread::sleep(rest);
        }
    }
    let deadline = Instant::now() + Duration::from_millis(wait_ms);
    while Instant::now() < deadline {
        match capture.next_packet() {
            Ok(packet) => say(hex(packet.data))?,
            Err(pcap::Error::TimeoutExpired | pcap::Error::NoMorePackets) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(Error::new(format!("{interface}: {error}"))),
        }
    }
    Ok(())
}

/// Bytes of a line in hexadecimal, white space between them allowed.
fn parse(line: &str) -> Result<Vec<u8>> {
    let digits: Vec<u8> = line.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if !digits.len().is_multiple_of(2) {
        return Err(Error::new(format!("an odd number of digits: {line}")));
    }
    digits
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).context(line)?;
            u8::from_str_radix(pair, 16).context(line)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_and_written() {
        assert_eq!(parse("02 ff\t00").unwrap(), [2, 255, 0]);
        assert_eq!(hex(&[2, 255, 0]), "02ff00");
        parse("0").unwrap_err();
        parse("0g").unwrap_err();
    }
}

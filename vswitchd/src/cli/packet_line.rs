//! A packet of a capture as a line, in tcpdump's manner.

use std::fmt::Write;

use stack::Frame;

use super::output::printable;
use crate::capture::pcapng::read::Packet;
use crate::capture::pcapng::{INBOUND, OUTBOUND};

/// Time of day (UTC), hop point, and what happened there. At a port: direction, length, what the
/// packet is, and its verdict.
#[must_use]
pub fn line(packet: &Packet, point: &str) -> String {
    let mut line = time_of_day(packet.time);
    let direction = match packet.flags & 0b11 {
        INBOUND => "in ",
        OUTBOUND => "out",
        _ => {
            let comment = printable(&packet.comment);
            // Writing into a String cannot fail, here and below.
            let _written = write!(line, " {:<11} {comment}", printable(point));
            return line;
        }
    };
    let window = packet.bytes.get(..Frame::WINDOW).unwrap_or(&packet.bytes);
    let mut what = String::new();
    let _written = stack::pipeline::parse::describe(window, &mut what);
    // The verdict's line begins with its stage, which is always the same here.
    let verdict = packet.comment.strip_prefix("egress").unwrap_or(&packet.comment).trim_start();
    let _written = write!(
        line,
        " {} {direction} {} bytes: {} | {}",
        printable(point),
        packet.original_len,
        printable(&what),
        printable(verdict)
    );
    line
}

/// Hours, minutes, seconds and nanoseconds of a time since 1970.
fn time_of_day(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    format!(
        "{:02}:{:02}:{:02}.{:09}",
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60,
        nanoseconds % 1_000_000_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_where_and_what() {
        let mut packet = Packet {
            time: 86_400_000_000_000 * 7 + 3_723_000_000_042,
            original_len: 60,
            flags: OUTBOUND,
            comment: "egress     forward to host; walk 3".into(),
            ..Packet::default()
        };
        let text = line(&packet, "pod/demo/a");
        assert!(text.starts_with("01:02:03.000000042 pod/demo/a out 60 bytes: "), "{text}");
        assert!(text.ends_with("| forward to host; walk 3"), "{text}");
        packet.flags = 0;
        packet.comment = "l2         routed\x07".into();
        let text = line(&packet, "hop/l2");
        assert_eq!(text, "01:02:03.000000042 hop/l2      l2         routed\u{fffd}");
    }
}

//! What fired a rule, as a line for people.

use std::fmt::Write;

use smoltcp::wire::IpAddress;
use stack::pipeline::parse;
use stack::trace::Names;

use super::unanswered::Flow;
use super::watcher::{Fired, Refusal, What, Window};
use crate::event_loop::Event;

/// The line: what happened, to which packet, and where it stands in journal and captures.
#[must_use]
pub fn line(event: &Event, names: &dyn Names) -> String {
    let Fired { what, walk, ingress, began, at, .. } = &event.fired;
    let mut text = String::new();
    // Writing into a String cannot fail, here and below.
    match what {
        What::Stopped(reason, window) => {
            let _written = write!(text, "drop {reason}: ");
            describe(window, &mut text);
        }
        What::Reset(window) => {
            text.push_str("reset: ");
            describe(window, &mut text);
        }
        What::Unanswered(flow) => {
            let millis = at.since(*began).0 / 1_000_000;
            let _written = write!(text, "no answer for {millis} ms: {}", conversation(flow));
        }
        What::Refused(flow, refusal) => {
            match refusal {
                Refusal::Rst => text.push_str("refused by RST: "),
                Refusal::Icmp => text.push_str("refused by ICMP: "),
                Refusal::Switch(reason) => {
                    let _written = write!(text, "refused by the switch ({reason}): ");
                }
            }
            text.push_str(&conversation(flow));
        }
    }
    text.push_str(" from ");
    let _written = names.port(*ingress, &mut text);
    let _written = write!(text, "; walk {walk}, journal position {}", event.position);
    text
}

fn describe(window: &Window, text: &mut String) {
    let _written = parse::describe(window.bytes(), text);
}

fn conversation(flow: &Flow) -> String {
    let side = |(address, l4_port): (IpAddress, u16)| match address {
        IpAddress::Ipv4(v4) => format!("{v4}:{l4_port}"),
        IpAddress::Ipv6(v6) => format!("[{v6}]:{l4_port}"),
    };
    format!("{} {} > {}", flow.transport.name(), side(flow.src), side(flow.dst))
}

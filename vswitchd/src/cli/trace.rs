//! `hopctl trace`.

use super::args;
use super::client::Client;
use super::output::{Output, Tone, printable};
use super::{Answer, Outcome};
use crate::admin::objects::{Hop, Object, Protocol, TraceRequest, TraceResult, Verdict};

/// Shows the walk of a packet that is never sent.
///
/// # Errors
/// When no daemon answers, or a name is unknown.
pub async fn trace(
    args: &args::Trace,
    namespace: Option<&str>,
    client: &Client,
    output: &Output,
) -> Outcome {
    let (protocol, l4_port) = match (args.tcp, args.udp) {
        (Some(port), _) => (Protocol::Tcp, port),
        (None, Some(port)) => (Protocol::Udp, port),
        (None, None) => (Protocol::Icmp, 0),
    };
    let family = match (args.four, args.six) {
        (true, _) => Some(4),
        (false, true) => Some(6),
        (false, false) => None,
    };
    let request = TraceRequest {
        from: party(&args.from, namespace),
        to: party(&args.to, namespace),
        protocol,
        l4_port,
        family,
        hop_limit: args.hop_limit,
        size: args.size,
        may_fragment: args.may_fragment,
    };
    let result: Object<TraceResult> = client.post("/v1/trace", &Object::new(request)).await?;
    if output.is_object() {
        output.object(&result)?;
    } else {
        let result = &result.body;
        print(&result.hops, result.passed, &result.verdict, output)?;
    }
    Ok(if result.body.passed { Answer::Yes } else { Answer::No })
}

/// Prints a walk, and what can be done when it got nowhere.
///
/// # Errors
/// Those of stdout.
pub(super) fn print(
    hops: &[Hop],
    passed: bool,
    verdict: &Verdict,
    output: &Output,
) -> std::io::Result<()> {
    let last = hops.len().saturating_sub(1);
    for (at, hop) in hops.iter().enumerate() {
        let tone = match (at == last, passed) {
            (true, true) => Tone::Good,
            (true, false) => Tone::Bad,
            (false, _) => Tone::Plain,
        };
        output.line(tone, &printable(&hop.line))?;
    }
    if let Some(hint) = &verdict.hint {
        output.notice(&format!("hint: {}", printable(hint)));
    }
    Ok(())
}

/// A pod's name without namespace gets the one of `-n`.
#[must_use]
pub fn party(name: &str, namespace: Option<&str>) -> String {
    let is_whole = name == "node" || name.contains('/') || name.parse::<std::net::IpAddr>().is_ok();
    match namespace {
        Some(namespace) if !is_whole => format!("{namespace}/{name}"),
        _ => name.to_owned(),
    }
}

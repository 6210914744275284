//! POST /v1/trace: what the switch would do with a packet. Nothing is sent, nothing changes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use stack::{AnswerKind, DropReason, Frame, Trace, Verdict};

use super::Context;
use super::objects::{self, Hop, Object, TraceRequest, TraceResult};
use super::probe::{Probe, probe};
use super::reply::Failure;
use super::snapshot::name_of;
use crate::directory::{Directory, Label, Named};

/// Walks the packet dry.
///
/// # Errors
/// When a name is unknown, or the packet cannot exist.
pub async fn trace(
    State(context): State<Context>,
    request: Result<Json<TraceRequest>, JsonRejection>,
) -> Result<Json<Object<TraceResult>>, Failure> {
    let Json(request) = request?;
    let config = context.handle.ask(|view| view.switch.config()).await?;
    let names = context.directory.load_full();
    let probe = probe(&config, &names, &request)?;
    let known = Arc::clone(&names);
    let (ingress, bytes) = (probe.ingress, probe.frame.clone());
    let question = move |view: &crate::event_loop::View<'_>| {
        let frame = Frame::from_bytes(&bytes);
        let trace = view.switch.trace(view.now, ingress, &frame);
        let named = Named { ports: &known, services: Some(view.switch.tables().services()) };
        let hops = hops(&trace, frame.window(), &named);
        (trace, hops)
    };
    let (trace, hops) = context.handle.ask(question).await?;
    Ok(Json(Object::new(result(&trace, hops, &probe, &names))))
}

fn result(trace: &Trace, hops: Vec<Hop>, probe: &Probe, names: &Directory) -> TraceResult {
    TraceResult {
        ingress: name_of(trace.ingress, names),
        source: probe.source.to_string(),
        destination: probe.destination.to_string(),
        passed: passed(&trace.verdict),
        verdict: verdict(&trace.verdict, names),
        hops,
    }
}

/// The hops of a walk with their lines. `window` is the header window as it came in.
#[must_use]
pub fn hops(trace: &Trace, window: &[u8], names: &Named<'_>) -> Vec<Hop> {
    let hop = |(at, hop): (usize, &stack::Hop)| {
        let mut line = String::new();
        // Writing into a String cannot fail.
        let written = trace.line(at, window, names, &mut line);
        debug_assert!(written.is_ok(), "a String takes any text");
        Hop { stage: hop.stage().name().to_owned(), line }
    };
    trace.hops().iter().enumerate().map(hop).collect()
}

/// Whether the sender got what it wanted.
#[must_use]
pub fn passed(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Forward(_) | Verdict::Flood(_) | Verdict::Deliver(_) | Verdict::Hold => true,
        Verdict::Answer(AnswerKind::Error { .. } | AnswerKind::Reset { .. }) | Verdict::Drop(_) => {
            false
        }
        Verdict::Answer(AnswerKind::Arp(_) | AnswerKind::Neighbor(_) | AnswerKind::Echo) => true,
    }
}

/// The end of a walk, as an object.
#[must_use]
pub fn verdict(verdict: &Verdict, names: &Directory) -> objects::Verdict {
    let (kind, port, reason) = parts(verdict, names);
    objects::Verdict {
        r#type: kind.to_owned(),
        port,
        reason: reason.map(|reason| reason.name().to_owned()),
        hint: reason.map(|reason| reason.hint().to_owned()),
    }
}

/// The end of a walk: its kind, whom the frame goes to, why it does not.
pub(crate) fn parts(
    verdict: &Verdict,
    names: &Directory,
) -> (&'static str, Option<String>, Option<DropReason>) {
    match verdict {
        Verdict::Forward(port) => ("forward", Some(name_of(*port, names)), None),
        Verdict::Flood(_) => ("flood", None, None),
        Verdict::Deliver(id) => ("deliver", Some(Label::of_endpoint(*id).to_string()), None),
        Verdict::Answer(AnswerKind::Error { reason, .. } | AnswerKind::Reset { reason }) => {
            ("answer", None, Some(*reason))
        }
        Verdict::Answer(AnswerKind::Arp(_) | AnswerKind::Neighbor(_) | AnswerKind::Echo) => {
            ("answer", None, None)
        }
        Verdict::Drop(reason) => ("drop", None, Some(*reason)),
        Verdict::Hold => ("hold", None, None),
    }
}

//! What was: an excerpt of the journal, and a capture made of it (`hopctl capture --since`).

use std::time::Duration;

use http_body_util::BodyExt;
use recording::Ending;

use super::capture::Run;
use super::client::Client;
use super::progress::Progress;
use super::{Answer, Failure, Outcome};
use crate::admin::capture::options;
use crate::admin::objects::{CaptureRequest, Object};
use crate::admin::record::{RecordRequest, SINCE_HEADER};
use crate::replay::show::{Part, Show};
use crate::replay::{Failure as Broken, Options, Stop, run};

/// A recording that was fetched from the daemon.
pub(super) struct Excerpt {
    /// The file. A journal is made to be held in memory.
    pub(super) bytes: Vec<u8>,
    /// The moment that was asked for, nanoseconds since 1970, UTC; without one it means nothing.
    pub(super) since: u64,
}

/// The part of the journal that begins so long ago, or all of it.
///
/// # Errors
/// When no daemon answers, or the journal does not reach back that far.
pub(super) async fn excerpt(since: Option<Duration>, client: &Client) -> Result<Excerpt, Failure> {
    let request = RecordRequest { since_ms: since.map(millis) };
    let response = client.stream("/v1/record", &Object::new(request)).await?;
    let header = response.headers().get(SINCE_HEADER).and_then(|value| value.to_str().ok());
    let since = header.and_then(|value| value.parse().ok()).ok_or_else(|| {
        let message = "the daemon does not say when that was; compare hopctl version";
        Failure::Negative(message.to_owned())
    })?;
    let body = response.into_body().collect().await;
    let bytes = body.map_err(|_error| gone())?.to_bytes().into();
    Ok(Excerpt { bytes, since })
}

/// A capture of packets from before anybody asked.
///
/// # Errors
/// When no daemon answers, its journal does not reach back that far, or no port had that name.
pub(super) async fn capture(
    since: Duration,
    request: &CaptureRequest,
    client: &Client,
    sink: &mut Run,
) -> Outcome {
    let usage = |message: String| Failure::Usage(message, String::new());
    let options = options(request, None).map_err(usage)?;
    let excerpt = excerpt(Some(since), client).await?;
    let nanos = request.duration_ms.map(|span| span.saturating_mul(1_000_000));
    let part = Part {
        from: excerpt.since,
        to: excerpt.since.saturating_add(nanos.unwrap_or(u64::MAX)),
        port: request.scope.clone(),
    };
    let mut progress = Progress::new(excerpt.bytes.len() as u64, sink.is_written());
    let mut show = Show::new(options, part, sink);
    let ran =
        run(&mut &*excerpt.bytes, &Options::default(), Some(&mut show), &mut |at, records| {
            progress.at(at, records);
        });
    progress.end();
    let missing = show.missing().map(str::to_owned);
    let ended = match ran {
        Ok(ended) => ended,
        Err(broken) => return Err(sink.failure().unwrap_or_else(|| told(broken))),
    };
    if let Some(name) = missing {
        return Err(Failure::Usage(
            format!("no port was named {name}"),
            "hopctl get ports shows those of now".to_owned(),
        ));
    }
    whole(ended.stop.as_ref().map_err(ToString::to_string))
}

/// Whether a replay saw all that there was.
pub(super) fn whole(stop: Result<&Stop, String>) -> Outcome {
    match stop {
        Ok(Stop::End(Ending { cut: true, .. })) => Err(gone()),
        Ok(Stop::End(_) | Stop::Until | Stop::Break(_) | Stop::Enough | Stop::Crash { .. }) => {
            Ok(Answer::Yes)
        }
        Err(divergence) => Err(Failure::Negative(format!(
            "what follows cannot be shown: {divergence}; please report it with a recording, made \
             by hopctl record"
        ))),
    }
}

/// Why there is no replay of an excerpt.
pub(super) fn told(broken: Broken) -> Failure {
    match broken {
        Broken::Input(error) | Broken::Output(error) => Failure::Output(error),
        Broken::Until(message) => Failure::Negative(message),
        Broken::Problem(problem) => {
            Failure::Negative(format!("the recording cannot be replayed: {problem}"))
        }
    }
}

fn gone() -> Failure {
    Failure::NoDaemon("the daemon went away".to_owned())
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

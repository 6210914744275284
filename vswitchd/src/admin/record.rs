//! POST /v1/record: what the switch has been doing, as a file that replays anywhere.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use recording::{Excerpt, Header, Id, Writer};
use serde::{Deserialize, Serialize};
use stack::Instant;
use stack::hash::Hasher;

use super::Context;
use super::objects::Kind;
use super::reply::Failure;
use crate::recorder::{Past, PastError};
use crate::utc::rfc3339;

/// The header of the reply that says when the moment asked for was: nanoseconds since 1970, UTC.
pub const SINCE_HEADER: HeaderName = HeaderName::from_static("hopscope-since");

/// Bytes of a piece of the file.
const PIECE: usize = 1 << 18;

/// A recording to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordRequest {
    /// Milliseconds ago that it shall begin; without it at the oldest moment there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
}

impl Kind for RecordRequest {
    const KIND: &'static str = "RecordRequest";
}

/// The journal, as far as it can be asked about the past.
pub trait Excerpts: Send + Sync {
    /// The part of the journal that begins at `since` or before it, or all that can be replayed.
    /// May block.
    ///
    /// # Errors
    /// When it does not reach back that far, or cannot be read.
    fn excerpt(&self, since: Option<Instant>) -> Result<Excerpt, ExcerptError>;
}

/// Why there is no excerpt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExcerptError {
    /// It lies before what can be replayed.
    #[error("the journal does not reach back that far")]
    BeyondHorizon {
        /// The oldest moment that can be replayed, if any can.
        horizon: Option<Instant>,
    },
    /// There is no journal, or it cannot be read.
    #[error("the journal cannot be read: {0}")]
    Unreadable(String),
}

impl Excerpts for Past {
    fn excerpt(&self, since: Option<Instant>) -> Result<Excerpt, ExcerptError> {
        Self::excerpt(self, since).map_err(|error| match error {
            PastError::BeyondHorizon { horizon } => {
                ExcerptError::BeyondHorizon { horizon: horizon.map(|horizon| horizon.time) }
            }
            PastError::Read(error) => ExcerptError::Unreadable(error.to_string()),
        })
    }
}

/// Nothing is recorded.
#[derive(Clone, Copy, Debug)]
pub struct Forgetful;

impl Excerpts for Forgetful {
    fn excerpt(&self, _since: Option<Instant>) -> Result<Excerpt, ExcerptError> {
        Err(ExcerptError::Unreadable("this daemon keeps none".to_owned()))
    }
}

/// Makes a recording.
///
/// # Errors
/// When the journal does not reach back that far; the message says how far it does.
pub async fn record(
    State(context): State<Context>,
    request: Result<Json<RecordRequest>, JsonRejection>,
) -> Result<Response, Failure> {
    let Json(request) = request?;
    let (now, utc_offset) = context.handle.ask(|view| (view.now, view.utc_offset)).await?;
    let since =
        request.since_ms.map(|ago| Instant(now.0.saturating_sub(ago.saturating_mul(1_000_000))));
    let journal = Arc::clone(&context.journal);
    let asked = tokio::task::spawn_blocking(move || journal.excerpt(since)).await;
    let excerpt = asked
        .map_err(|error| ExcerptError::Unreadable(error.to_string()))
        .and_then(|excerpt| excerpt)
        .map_err(|error| refused(&error, now, utc_offset))?;
    let id = id(&context.sources.node_name(), now, utc_offset, &excerpt);
    let build = concat!("vswitchd ", env!("CARGO_PKG_VERSION")).to_owned();
    // Who records is worth a line: a recording shows what others say.
    tracing::info!(recording = %id, since_ms = request.since_ms, "recording written");
    let writer = Writer::new(excerpt, Header { id, build, redacted: false, about: None });
    let began = since.unwrap_or(Instant(0)).0.saturating_add_signed(utc_offset);
    let headers = [
        (header::CONTENT_TYPE, "application/x-pcapng".to_owned()),
        (SINCE_HEADER, began.to_string()),
    ];
    Ok((headers, Body::new(Pieces { writer, done: false })).into_response())
}

/// Two recordings of one moment are of two nodes.
fn id(node: &str, now: Instant, utc_offset: i64, excerpt: &Excerpt) -> Id {
    let mut hasher = Hasher::new(now.0.saturating_add_signed(utc_offset));
    hasher.bytes(node.as_bytes());
    hasher.number(excerpt.chain.inputs());
    hasher.number(excerpt.records.len() as u64);
    Id(hasher.finish())
}

fn refused(error: &ExcerptError, now: Instant, utc_offset: i64) -> Failure {
    match error {
        ExcerptError::BeyondHorizon { horizon: Some(horizon) } => {
            let ago = now.since(*horizon).0 / 1_000_000_000;
            let utc = rfc3339(horizon.0.saturating_add_signed(utc_offset));
            Failure::new(
                StatusCode::GONE,
                format!("{error}: it begins {ago} s ago, at {utc}"),
                format!("ask for --since {ago}s at most; journal-size sets what is kept"),
            )
        }
        ExcerptError::BeyondHorizon { horizon: None } => Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{error}: it has no state to begin from yet"),
            "ask again in a second",
        ),
        ExcerptError::Unreadable(_) => {
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string(), "look at its log")
        }
    }
}

/// The file, made as fast as it is taken.
struct Pieces {
    writer: Writer<Excerpt>,
    done: bool,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let mut piece = Vec::with_capacity(PIECE + 1_024);
        self.done = !self.writer.piece(PIECE, &mut piece);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(piece)))))
    }
}

//! POST /v1/capture: a stream of pcapng blocks until something ends it; DELETE /v1/capture/ID: its
//! end, with the counts that belong there.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Task, Poll};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use stack::PortId;
use tokio::sync::mpsc;

use super::Context;
use super::objects::CaptureRequest;
use super::reply::Failure;
use crate::capture::Options;
use crate::capture::cbpf::Program;
use crate::capture::format::Format;
use crate::capture::session::{self, Stopper};
use crate::capture::stream::Stream;

/// Captures at one time: each has a ring of several megabytes, and each costs every frame some
/// time.
const CAPTURES_MAX: usize = 16;
/// Chunks between the writer and the connection.
const CHUNKS: usize = 4;

/// The header of the reply that names the capture.
pub const ID_HEADER: HeaderName = HeaderName::from_static("hopscope-capture");

/// Captures that run.
#[derive(Clone, Debug, Default)]
pub struct Captures(Arc<Mutex<Running>>);

#[derive(Debug, Default)]
struct Running {
    last: u64,
    stoppers: BTreeMap<u64, Stopper>,
}

impl Captures {
    /// How many run.
    #[must_use]
    pub fn running(&self) -> u64 {
        u64::try_from(self.lock().stoppers.len()).unwrap_or(u64::MAX)
    }

    /// Ends all.
    pub fn stop_all(&self) {
        for stopper in self.lock().stoppers.values() {
            stopper.stop();
        }
    }

    fn add(&self, stopper: Stopper) -> Option<u64> {
        let mut running = self.lock();
        if running.stoppers.len() >= CAPTURES_MAX {
            return None;
        }
        running.last += 1;
        let id = running.last;
        running.stoppers.insert(id, stopper);
        Some(id)
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a capture.
///
/// # Errors
/// When a name is unknown, the program is refused, or too many run.
pub async fn start(
    State(context): State<Context>,
    request: Result<Json<CaptureRequest>, JsonRejection>,
) -> Result<Response, Failure> {
    let Json(request) = request?;
    let names = context.directory.load_full();
    let scope = request.scope.as_ref().map(|name| names.by_name(name));
    if let (Some(name), Some([])) = (&request.scope, scope.as_deref()) {
        return Err(Failure::missing(format!("no port is named {name}"), "hopctl get ports"));
    }
    let options = options(&request, scope).map_err(|message| Failure::request(message, ""))?;
    let (offset, utc) = context
        .handle
        .ask(|view| (view.utc_offset, view.now.0.saturating_add_signed(view.utc_offset)))
        .await?;
    let format = Format::new(&options, context.directory.clone(), utc);
    let (session, receiver) = session::open(options, offset);
    let Some(id) = context.captures.add(receiver.stopper()) else {
        return Err(Failure::new(
            StatusCode::TOO_MANY_REQUESTS,
            format!("{CAPTURES_MAX} captures run already"),
            "end one of them",
        ));
    };
    let registered = Registered { id, captures: context.captures.clone() };
    context.handle.capture(session)?;
    // Who captures what is worth a line: a capture shows what others say.
    tracing::info!(
        capture = id,
        scope = request.scope.as_deref().unwrap_or("node"),
        filter = request.filter,
        points = ?request.points,
        "capture started"
    );
    let duration = request.duration_ms.map(Duration::from_millis);
    let mut stream = Stream::new(receiver, format, duration);
    let (sender, chunks) = mpsc::channel(CHUNKS);
    drop(tokio::spawn(async move {
        while let Some(chunk) = stream.chunk().await {
            if sender.send(Bytes::from(chunk)).await.is_err() {
                break;
            }
        }
    }));
    let headers =
        [(header::CONTENT_TYPE, "application/x-pcapng".to_owned()), (ID_HEADER, id.to_string())];
    Ok((headers, Body::new(Chunks { chunks, _registered: registered })).into_response())
}

/// Ends a capture; its stream then gets its end.
///
/// # Errors
/// When there is no such capture.
pub async fn stop(
    State(context): State<Context>,
    Path(id): Path<u64>,
) -> Result<StatusCode, Failure> {
    match context.captures.lock().stoppers.get(&id) {
        Some(stopper) => {
            stopper.stop();
            Ok(StatusCode::NO_CONTENT)
        }
        None => Err(Failure::missing(format!("no capture {id} runs"), "it has ended already")),
    }
}

/// What a capture shall hold, of packets to come and of those from before alike.
///
/// # Errors
/// A sentence when a stage is unknown, or the program is refused.
pub fn options(request: &CaptureRequest, scope: Option<Vec<PortId>>) -> Result<Options, String> {
    let filter = match &request.program {
        None => None,
        Some(program) => Some(Program::new(program).map_err(|error| error.to_string())?),
    };
    Ok(Options {
        points: request.points.select()?,
        scope,
        dropped_only: request.dropped_only,
        filter,
        filter_text: request.filter.clone(),
        snaplen: request.snaplen,
        count: request.count,
    })
}

/// Takes the capture off the list, and ends it if it still runs: the reader is gone.
struct Registered {
    id: u64,
    captures: Captures,
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(stopper) = self.captures.lock().stoppers.remove(&self.id) {
            stopper.stop();
        }
    }
}

/// The reply's body. Dropped when the reader is gone, though nothing is being sent.
struct Chunks {
    chunks: mpsc::Receiver<Bytes>,
    _registered: Registered,
}

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.chunks.poll_recv(task).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

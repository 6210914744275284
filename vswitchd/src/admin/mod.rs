//! The admin socket: HTTP with JSON objects over `run-dir/admin.sock`, for `hopctl` and for
//! `curl --unix-socket` alike. See [`objects`] for what goes over it.
//!
//! Only root and the daemon's own user get through: the directory is 0700, the socket 0600, and a
//! peer's uid is asked of the kernel (SEC-10, SEC-11).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};

use crate::directory;
use crate::event_loop::Handle;
use crate::recorder::Past;
use crate::triggers::Keeper;

pub mod capture;
pub mod connections;
pub mod lists;
pub mod objects;
pub mod probe;
pub mod record;
pub mod recordings;
pub mod reply;
pub mod services;
pub mod snapshot;
pub mod socket;
pub mod trace;

pub use capture::Captures;
use objects::{Attachment, Check, Lease, Problem, Upkeep, Worker};

/// Bytes of a request at most: a filter of 4,096 instructions is the largest.
const REQUEST_MAX: usize = 512 << 10;

/// What the daemon's other parts know. Each call is cheap, [`Sources::check`] apart.
pub trait Sources: Send + Sync {
    /// The node's name.
    fn node_name(&self) -> String;

    /// Time since the daemon started.
    fn uptime(&self) -> Duration;

    /// The process that works now, and those before it.
    fn worker(&self) -> Worker;

    /// Whether pods can be wired.
    ///
    /// # Errors
    /// A clause that says what is still missing.
    fn ready(&self) -> Result<(), String>;

    /// What was put right on the node because somebody else had changed it.
    fn upkeep(&self) -> Upkeep;

    /// What the operator should mend: manifests that do not parse, changes the switch refused.
    fn problems(&self) -> Vec<Problem>;

    /// Addresses given out.
    fn leases(&self) -> Vec<Lease>;

    /// Interfaces wired.
    fn attachments(&self) -> Vec<Attachment>;

    /// Compares the node with what the switch needs. May block: called on a thread for that.
    fn check(&self) -> Vec<Check>;
}

/// What the handlers work with.
#[derive(Clone)]
pub struct Context {
    /// The event loop.
    pub handle: Handle,
    /// Names of ports.
    pub directory: directory::Shared,
    /// The daemon's other parts.
    pub sources: Arc<dyn Sources>,
    /// The journal; `None` when nothing is recorded.
    pub past: Option<Past>,
    /// Captures that run.
    pub captures: Captures,
    /// Where recordings come from.
    pub journal: Arc<dyn record::Excerpts>,
    /// Rules, and the recordings kept for them.
    pub keeper: Arc<Keeper>,
}

/// Every address of the API.
pub fn router(context: Context) -> Router {
    Router::new()
        .route("/v1/version", get(lists::version))
        .route("/v1/status", get(lists::status))
        .route("/v1/check", get(lists::check))
        .route("/v1/ports", get(lists::ports))
        .route("/v1/fdb", get(lists::fdb))
        .route("/v1/routes", get(lists::routes))
        .route("/v1/neighbors", get(lists::neighbors))
        .route("/v1/conntrack", get(connections::connections))
        .route("/v1/services", get(services::services))
        .route("/v1/backends", get(services::backends))
        .route("/v1/drops", get(lists::drops))
        .route("/v1/counters", get(lists::counters))
        .route("/v1/leases", get(lists::leases))
        .route("/v1/recordings", get(recordings::recordings))
        .route("/v1/triggers", get(recordings::triggers))
        .route("/v1/trace", post(trace::trace))
        .route("/v1/capture", post(capture::start))
        .route("/v1/capture/{id}", delete(capture::stop))
        .route("/v1/record", post(record::record))
        .fallback(reply::unknown)
        .method_not_allowed_fallback(reply::wrong_method)
        .layer(DefaultBodyLimit::max(REQUEST_MAX))
        .with_state(context)
}

/// Serves until `shutdown` completes; captures then get their end.
///
/// # Errors
/// The socket's.
pub async fn serve(
    listener: socket::Listener,
    context: Context,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let captures = context.captures.clone();
    let ended = async move {
        shutdown.await;
        captures.stop_all();
    };
    axum::serve(listener, router(context)).with_graceful_shutdown(ended).await
}

#[cfg(test)]
mod tests;

//! GET: how things are.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::Context;
use super::objects::{
    CheckReport, Counter, Drop, FdbEntry, Journal, Lease, List, Neighbor, Object, Port, Route,
    Status, Version,
};
use super::recordings;
use super::reply::Failure;
use super::snapshot::Snapshot;
use crate::event_loop;
use crate::recorder::Past;
use crate::utc::rfc3339_millis;

type Listed<T> = Result<Json<List<T>>, Failure>;

async fn snapshot(context: &Context) -> Result<Snapshot, Failure> {
    Ok(context.handle.ask(Snapshot::take).await?)
}

/// The daemon's version.
pub async fn version() -> Json<Object<Version>> {
    Json(Object::new(Version { version: env!("CARGO_PKG_VERSION").to_owned() }))
}

/// How the node is.
///
/// # Errors
/// When the event loop has ended, as for all of these.
pub async fn status(State(context): State<Context>) -> Result<Json<Object<Status>>, Failure> {
    let known = snapshot(&context).await?.status(&context.directory.load());
    let ready = context.sources.ready();
    let mut problems = context.sources.problems();
    problems.extend(context.keeper.problem());
    Ok(Json(Object::new(Status {
        node: context.sources.node_name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: ready.is_ok(),
        reason: ready.err(),
        worker: context.sources.worker(),
        upkeep: context.sources.upkeep(),
        uptime_seconds: context.sources.uptime().as_secs(),
        problems,
        recordings: recordings::summary(&context.keeper).await,
        captures: context.captures.running(),
        journal: context.past.as_ref().map(journal),
        ..known
    })))
}

fn journal(past: &Past) -> Journal {
    let horizon = past.horizon();
    let utc =
        |time: stack::Instant| rfc3339_millis(time.0.saturating_add_signed(past.utc_offset()));
    let ago = |time| event_loop::monotonic().since(time).0 / 1_000_000_000;
    Journal {
        directory: past.directory().display().to_string(),
        size_bytes: past.size(),
        records: past.records(),
        horizon: horizon.map(|horizon| utc(horizon.time)),
        horizon_seconds: horizon.map(|horizon| ago(horizon.time)),
    }
}

/// What the node lacks.
///
/// # Errors
/// When the check itself fails.
pub async fn check(State(context): State<Context>) -> Result<Json<Object<CheckReport>>, Failure> {
    let sources = context.sources;
    let checks = tokio::task::spawn_blocking(move || sources.check()).await.map_err(|error| {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the check did not end well: {error}"),
            "please report it",
        )
    })?;
    let passed = checks.iter().all(|check| check.ok);
    Ok(Json(Object::new(CheckReport { passed, checks })))
}

/// Ports.
///
/// # Errors
/// When the event loop has ended.
pub async fn ports(State(context): State<Context>) -> Listed<Port> {
    let attachments = context.sources.attachments();
    let snapshot = snapshot(&context).await?;
    Ok(Json(List::new(snapshot.ports(&context.directory.load(), &attachments))))
}

/// MACs.
///
/// # Errors
/// When the event loop has ended.
pub async fn fdb(State(context): State<Context>) -> Listed<FdbEntry> {
    Ok(Json(List::new(snapshot(&context).await?.fdb(&context.directory.load()))))
}

/// Routes.
///
/// # Errors
/// When the event loop has ended.
pub async fn routes(State(context): State<Context>) -> Listed<Route> {
    Ok(Json(List::new(snapshot(&context).await?.routes(&context.directory.load()))))
}

/// Neighbors.
///
/// # Errors
/// When the event loop has ended.
pub async fn neighbors(State(context): State<Context>) -> Listed<Neighbor> {
    Ok(Json(List::new(snapshot(&context).await?.neighbors(&context.directory.load()))))
}

/// Drops by port and reason.
///
/// # Errors
/// When the event loop has ended.
pub async fn drops(State(context): State<Context>) -> Listed<Drop> {
    Ok(Json(List::new(snapshot(&context).await?.drops(&context.directory.load()))))
}

/// Counters.
///
/// # Errors
/// When the event loop has ended.
pub async fn counters(State(context): State<Context>) -> Listed<Counter> {
    Ok(Json(List::new(snapshot(&context).await?.counters(&context.directory.load()))))
}

/// Leases.
///
/// # Errors
/// None; the store is the daemon's own.
pub async fn leases(State(context): State<Context>) -> Listed<Lease> {
    Ok(Json(List::new(context.sources.leases())))
}

//! GET: rules, and the recordings that were kept for them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use tokio::task::{JoinError, spawn_blocking};

use super::Context;
use super::objects::{List, Recording, Recordings, Trigger};
use super::reply::Failure;
use crate::event_loop;
use crate::triggers::Keeper;
use crate::triggers::store::Kept;
use crate::utc::rfc3339_millis;

/// Recordings, the newest first.
///
/// # Errors
/// When the directory cannot be looked at.
pub async fn recordings(State(context): State<Context>) -> Result<Json<List<Recording>>, Failure> {
    let kept = list(&context.keeper).await.map_err(|error| {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("recordings cannot be listed: {error}"),
            "please report it",
        )
    })?;
    let offset = event_loop::utc_offset();
    let now = event_loop::monotonic().0.saturating_add_signed(offset);
    Ok(Json(List::new(kept.iter().map(|kept| recording(kept, now)).collect())))
}

fn recording(kept: &Kept, now: u64) -> Recording {
    let about = &kept.about;
    let (from, to) = about.covers;
    Recording {
        time: rfc3339_millis(about.at),
        age_seconds: now.saturating_sub(about.at) / 1_000_000_000,
        rule: about.rule.clone(),
        event: about.event.clone(),
        covered_ms: to.saturating_sub(from) / 1_000_000,
        missing_ms: about.missing / 1_000_000,
        packets: about.packets,
        size_bytes: kept.size,
        path: kept.path.display().to_string(),
    }
}

/// Rules in the order of the settings.
///
/// # Errors
/// When the event loop has ended.
pub async fn triggers(State(context): State<Context>) -> Result<Json<List<Trigger>>, Failure> {
    let counts = context.handle.ask(|view| view.rules.to_vec()).await?;
    let rules = context.keeper.rules();
    let of_rule = |number: usize| counts.get(number).copied().unwrap_or_default();
    let items = rules.iter().enumerate().map(|(number, (rule, recorded))| {
        let counts = of_rule(number);
        Trigger {
            rule: rule.to_string(),
            fired: counts.fired,
            suppressed: counts.suppressed,
            recorded: *recorded,
            given_up: counts.given_up,
            before: rule.before.to_string(),
            after: rule.after.to_string(),
            every: rule.every.to_string(),
        }
    });
    Ok(Json(List::new(items.collect())))
}

async fn list(keeper: &Arc<Keeper>) -> Result<Vec<Kept>, JoinError> {
    let keeper = Arc::clone(keeper);
    spawn_blocking(move || keeper.list()).await
}

/// For the status.
pub async fn summary(keeper: &Arc<Keeper>) -> Recordings {
    let kept = list(keeper).await.unwrap_or_default();
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    Recordings {
        rules: count(keeper.rules().len()),
        count: count(kept.len()),
        size_bytes: kept.iter().map(|kept| kept.size).sum(),
        budget_bytes: keeper.budget(),
        directory: keeper.directory().display().to_string(),
    }
}

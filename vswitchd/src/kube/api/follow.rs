//! Follows the objects of one kind: lists them, watches them, and begins again when that ends,
//! for as long as the daemon runs.

use std::error::Error;

use ::kube::api::{Api, DynamicObject};
use ::kube::core::PartialObjectMeta;
use ::kube::runtime::watcher;
use ::kube::runtime::watcher::{DefaultBackoff, Event};
use ::kube::{Client, Error as ClientError};
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use super::connect::{self, ConnectError};
use super::kind::Kind;
use crate::settings::source::Source;

/// Whether the server answers, and if not why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It has answered a request.
    Answered,
    /// It is not there, or does not let us; a clause.
    Lost(String),
    /// It has no such kind.
    NotServed,
}

/// Where a follower tells what it hears.
#[derive(Clone, Debug)]
pub(super) struct Ear {
    /// Objects. Bounded: while nobody takes them the server waits.
    pub(super) objects: mpsc::Sender<(Kind, Event<DynamicObject>)>,
    /// The server's state, in the order in which it was seen.
    pub(super) reach: mpsc::UnboundedSender<(Kind, Reach)>,
}

/// Follows a kind. Returns when nobody listens any more.
pub(super) async fn follow(kind: Kind, source: Source, ear: Ear) {
    let mut pauses = DefaultBackoff::default();
    while !ear.reach.is_closed() {
        let reach = ear.reach.clone();
        // Nobody listens at the end only.
        let answered = move || drop(reach.send((kind, Reach::Answered)));
        match connect::client(&source, answered).await {
            Ok(client) => converse(kind, client, &ear, &mut pauses).await,
            Err(error) => {
                drop(ear.reach.send((kind, Reach::Lost(unusable(&error)))));
                pause(&mut pauses).await;
            }
        }
    }
}

/// Watches by one client, until the server does not know who asks, or nothing has worked for
/// minutes: then another one is made of what the files say by now.
async fn converse(kind: Kind, client: Client, ear: &Ear, pauses: &mut DefaultBackoff) {
    let mut events = std::pin::pin!(events(kind, client));
    let mut failures = 0;
    while let Some(event) = events.next().await {
        let error = match event {
            Ok(event) => {
                // A list that begins has not been answered yet.
                failures = if matches!(event, Event::Init) { failures } else { 0 };
                if ear.objects.send((kind, event)).await.is_err() {
                    return;
                }
                continue;
            }
            Err(error) => error,
        };
        let code = code(&error);
        // The watch was too old to go on, and what follows is a list: nothing is wrong.
        if code != Some(GONE) {
            let reach = if code == Some(NOT_FOUND) {
                Reach::NotServed
            } else {
                Reach::Lost(clause(kind, &error))
            };
            if ear.reach.send((kind, reach)).is_err() {
                return;
            }
        }
        pause(pauses).await;
        failures += 1;
        if code == Some(UNAUTHORIZED) || failures == FAILURES_MAX {
            return;
        }
    }
}

/// What happens to the objects of a kind.
fn events(
    kind: Kind,
    client: Client,
) -> impl Stream<Item = Result<Event<DynamicObject>, watcher::Error>> {
    let (resource, selection) = (kind.resource(), kind.selection());
    match kind {
        Kind::Pod => {
            let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resource);
            watcher(api, selection).map_ok(of_metadata).left_stream()
        }
        Kind::Node | Kind::Service | Kind::EndpointSlice | Kind::ServiceCidr => {
            let api: Api<DynamicObject> = Api::all_with(client, &resource);
            watcher(api, selection).right_stream()
        }
    }
}

fn of_metadata(event: Event<PartialObjectMeta<DynamicObject>>) -> Event<DynamicObject> {
    let whole = |PartialObjectMeta { types, metadata, .. }| DynamicObject {
        types,
        metadata,
        data: serde_json::Value::Object(serde_json::Map::new()),
    };
    match event {
        Event::Apply(object) => Event::Apply(whole(object)),
        Event::Delete(object) => Event::Delete(whole(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(whole(object)),
        Event::InitDone => Event::InitDone,
    }
}

async fn pause(pauses: &mut DefaultBackoff) {
    tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
}

/// Failures in a row after which what leads to the server is read anew: about three minutes. A
/// certificate that has expired is no answer of the server, but a connection that fails.
const FAILURES_MAX: u32 = 10;

/// Were there no further pause; there always is.
const LONGEST_PAUSE: std::time::Duration = std::time::Duration::from_secs(30);

/// HTTP's words for what has a meaning here (RFC 9110 section 15).
const UNAUTHORIZED: u16 = 401;
const FORBIDDEN: u16 = 403;
const NOT_FOUND: u16 = 404;
const GONE: u16 = 410;

/// The server's answer, if it gave one.
fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(ClientError::Api(status))
        | watcher::Error::WatchStartFailed(ClientError::Api(status))
        | watcher::Error::WatchFailed(ClientError::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => None,
    }
}

/// What is wrong, for people: of causes within causes the innermost says it.
fn clause(kind: Kind, error: &watcher::Error) -> String {
    match code(error) {
        Some(FORBIDDEN) => format!(
            "does not let this daemon list and watch {}; apply the ClusterRole of deploy/rbac.yaml",
            kind.names().1
        ),
        Some(UNAUTHORIZED) => {
            "does not know who asks: token or certificate is refused; renew what kubeconfig names"
                .to_owned()
        }
        Some(_) | None => format!("cannot be asked: {}", innermost(error)),
    }
}

fn unusable(error: &ConnectError) -> String {
    format!("cannot be asked: {error}: {}", innermost(error))
}

fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

//! An API server of a few hundred lines less: objects by kind, lists, watches from a version on,
//! and all that can go wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::settings::source::Source;

/// The server, which may be away.
pub(super) struct Server {
    world: Arc<World>,
    address: SocketAddr,
    /// The end of what serves now.
    stop: Option<(watch::Sender<bool>, tokio::task::JoinHandle<()>)>,
    kubeconfig: PathBuf,
}

struct World {
    state: Mutex<Objects>,
    /// Told of each change of the state.
    changed: watch::Sender<()>,
}

#[derive(Default)]
pub(super) struct Objects {
    version: u64,
    /// By plural, then by namespace and name.
    kinds: BTreeMap<String, BTreeMap<String, Value>>,
    /// Kind, version and event.
    log: Vec<(String, u64, Value)>,
    /// Watches from before this version are too old.
    pub(super) oldest: u64,
    /// Kinds whose lists wait.
    pub(super) held: BTreeSet<&'static str>,
    /// Kinds that are refused, and by which status.
    pub(super) refused: BTreeMap<&'static str, u16>,
    /// Watches end now, in good order; counted.
    pub(super) endings: u64,
    /// Who may ask; anybody without.
    pub(super) token: Option<String>,
    /// What was asked: path and query, and what answer is accepted.
    pub(super) requests: Vec<(String, String)>,
}

impl Server {
    /// A server without objects. `name` is the test's.
    pub(super) async fn start(name: &str) -> Self {
        let world =
            World { state: Mutex::new(Objects::default()), changed: watch::Sender::new(()) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let file = format!("hs-kubeconfig-{name}-{}", std::process::id());
        let kubeconfig = std::env::temp_dir().join(file);
        let mut server = Self { world: Arc::new(world), address, stop: None, kubeconfig };
        server.serve(listener);
        server.write_kubeconfig("first");
        server
    }

    pub(super) fn source(&self) -> Source {
        Source::Kubeconfig(self.kubeconfig.clone())
    }

    pub(super) fn write_kubeconfig(&self, token: &str) {
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "u", "user": {"token": token}}],
        });
        fs::write(&self.kubeconfig, text.to_string()).unwrap();
    }

    /// Changes how it behaves, and lets those know who wait.
    pub(super) fn set(&self, change: impl FnOnce(&mut Objects)) {
        change(&mut self.state());
        self.world.changed.send_replace(());
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Objects> {
        self.world.state.lock().unwrap()
    }

    /// Writes an object.
    pub(super) fn apply(&self, plural: &str, mut object: Value) {
        self.set(|state| {
            state.version += 1;
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            let objects = state.kinds.entry(plural.to_owned()).or_default();
            let before = objects.insert(key(&object), object.clone());
            let what = if before.is_some() { "MODIFIED" } else { "ADDED" };
            state.happened(plural, what, object);
        });
    }

    /// Removes one.
    pub(super) fn delete(&self, plural: &str, key: &str) {
        self.set(|state| {
            state.version += 1;
            let mut object = state.kinds.get_mut(plural).unwrap().remove(key).unwrap();
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            state.happened(plural, "DELETED", object);
        });
    }

    /// Tells the watches of a kind how far the server is.
    pub(super) fn bookmark(&self, plural: &str) -> u64 {
        let mut version = 0;
        self.set(|state| {
            state.version += 10;
            version = state.version;
            let at = json!({"metadata": {"resourceVersion": version.to_string()},
                            "kind": "Service", "apiVersion": "v1"});
            state.happened(plural, "BOOKMARK", at);
        });
        version
    }

    /// What was asked for a kind's watches and lists.
    pub(super) fn requests(&self, plural: &str) -> Vec<(String, String)> {
        let of_kind = |path: &str| path.split('?').next().unwrap().ends_with(&format!("/{plural}"));
        let state = self.state();
        state.requests.iter().filter(|(path, _)| of_kind(path)).cloned().collect()
    }

    /// All connections break, and nobody listens.
    pub(super) async fn go_down(&mut self) {
        let (stop, served) = self.stop.take().unwrap();
        stop.send_replace(true);
        served.await.unwrap();
    }

    /// It listens again.
    pub(super) async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    fn serve(&mut self, listener: TcpListener) {
        let (stop, stopped) = watch::channel(false);
        let state = (self.world.clone(), stopped.clone());
        let router = Router::new().fallback(answer).with_state(state);
        let ended = down(stopped);
        let served = tokio::spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(ended).await.unwrap();
        });
        self.stop = Some((stop, served));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.kubeconfig));
    }
}

impl Objects {
    /// The next version is a much later one.
    pub(super) fn bump(&mut self, to: u64) {
        self.version = self.version.max(to);
    }

    fn happened(&mut self, plural: &str, what: &str, object: Value) {
        let event = json!({"type": what, "object": object});
        self.log.push((plural.to_owned(), self.version, event));
    }
}

fn key(object: &Value) -> String {
    let of = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", of("namespace"), of("name"))
}

async fn down(mut stopped: watch::Receiver<bool>) {
    drop(stopped.wait_for(|down| *down).await);
}

type Shared = (Arc<World>, watch::Receiver<bool>);

async fn answer(
    State((world, stopped)): State<Shared>,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let plural = uri.path().rsplit('/').next().unwrap().to_owned();
    let header = |name: &str| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or("");
    let refused = {
        let mut state = world.state.lock().unwrap();
        state.requests.push((uri.to_string(), header("accept").to_owned()));
        let wanted = state.token.as_ref().map(|token| format!("Bearer {token}"));
        let stranger = wanted.is_some_and(|wanted| header("authorization") != wanted);
        if stranger { Some(401) } else { state.refused.get(plural.as_str()).copied() }
    };
    if let Some(code) = refused {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                            "code": code, "message": "no", "reason": "No"});
        return (StatusCode::from_u16(code).unwrap(), status.to_string()).into_response();
    }
    if query.contains_key("watch") {
        let from = query["resourceVersion"].parse().unwrap();
        return watching(world, stopped, plural, from);
    }
    let mut changed = world.changed.subscribe();
    while world.state.lock().unwrap().held.contains(plural.as_str()) {
        changed.changed().await.unwrap();
    }
    let state = world.state.lock().unwrap();
    let items: Vec<&Value> =
        state.kinds.get(&plural).into_iter().flat_map(|it| it.values()).collect();
    let list = json!({"kind": "List", "apiVersion": "v1", "items": items,
                      "metadata": {"resourceVersion": state.version.to_string()}});
    list.to_string().into_response()
}

fn watching(
    world: Arc<World>,
    stopped: watch::Receiver<bool>,
    plural: String,
    from: u64,
) -> Response {
    let (changed, endings) = (world.changed.subscribe(), world.state.lock().unwrap().endings);
    let seen = (world, stopped, changed, from);
    let lines = futures_util::stream::unfold(Some(seen), move |seen| {
        let plural = plural.clone();
        async move {
            let (world, mut stopped, mut changed, seen) = seen?;
            loop {
                changed.borrow_and_update();
                let (next, old, ended) = {
                    let state = world.state.lock().unwrap();
                    let next = state.log.iter().find(|(of, at, _)| *of == plural && *at > seen);
                    let next = next.map(|(_, at, event)| (*at, format!("{event}\n")));
                    (next, seen < state.oldest, state.endings != endings)
                };
                if old {
                    let gone = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410,
                        "status": "Failure", "message": "too old", "reason": "Expired"}});
                    return Some((Ok(format!("{gone}\n")), None));
                }
                if let Some((at, line)) = next {
                    return Some((Ok(line), Some((world, stopped, changed, at))));
                }
                if ended {
                    return None;
                }
                tokio::select! {
                    told = changed.changed() => told.unwrap(),
                    _ = stopped.wait_for(|down| *down) => {
                        return Some((Err(io::Error::other("down")), None));
                    }
                }
            }
        }
    });
    Body::from_stream(lines).into_response()
}

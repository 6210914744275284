//! An API server as far as a daemon asks one: lists, and watches from a version on. A request a
//! connection; it can be slow, and away.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use lab::Namespace;
use serde_json::{Value, json};

/// The server, in a node's namespace.
pub(crate) struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By plural, then by namespace and name.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    /// Plural, version and event.
    log: Vec<(String, u64, Value)>,
    /// Kinds whose lists wait.
    held: BTreeSet<String>,
    away: bool,
    connections: Vec<TcpStream>,
}

impl Server {
    /// A server without objects.
    pub(crate) fn new(netns: &Namespace) -> Self {
        let shared = Arc::new(Shared::default());
        let listener = netns.within(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = Some(serve(listener, shared.clone()));
        Self { shared, address, accepting }
    }

    /// A kubeconfig that leads to it.
    pub(crate) fn kubeconfig(&self) -> String {
        let server = format!("http://{}", self.address);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        });
        config.to_string()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.changed.notify_all();
    }

    /// Writes an object.
    pub(crate) fn apply(&self, plural: &str, object: Value) {
        self.change(|state| {
            let key = format!("{}/{}", object["metadata"]["namespace"], object["metadata"]["name"]);
            state.happened(plural, "MODIFIED", object.clone());
            state.objects.entry(plural.to_owned()).or_default().insert(key, object);
        });
    }

    /// Removes all objects of a kind.
    pub(crate) fn clear(&self, plural: &str) {
        self.change(|state| {
            for object in state.objects.remove(plural).unwrap_or_default().into_values() {
                state.happened(plural, "DELETED", object);
            }
        });
    }

    /// Lists of that kind wait.
    pub(crate) fn hold(&self, plural: &str) {
        self.change(|state| {
            state.held.insert(plural.to_owned());
        });
    }

    /// No list waits.
    pub(crate) fn release(&self) {
        self.change(|state| state.held.clear());
    }

    /// Nobody is there any more.
    pub(crate) fn go_away(&mut self) {
        self.change(|state| {
            state.away = true;
            for connection in state.connections.drain(..) {
                // It may be at its end already.
                connection.shutdown(Shutdown::Both).unwrap_or_default();
            }
        });
        if let Some(accepting) = self.accepting.take() {
            accepting.join().unwrap();
        }
    }

    /// It is there again, as it was.
    pub(crate) fn come_back(&mut self, netns: &Namespace) {
        self.change(|state| state.away = false);
        let listener = netns.within(|| TcpListener::bind(self.address)).unwrap().unwrap();
        self.accepting = Some(serve(listener, self.shared.clone()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.go_away();
    }
}

impl State {
    fn happened(&mut self, plural: &str, what: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let event = json!({"type": what, "object": object});
        self.log.push((plural.to_owned(), self.version, event));
    }

    fn next(&self, plural: &str, after: u64) -> Option<(u64, String)> {
        let mut events = self.log.iter().filter(|(of, at, _)| of == plural && *at > after);
        events.next().map(|(_, at, event)| (*at, event.to_string()))
    }
}

fn serve(listener: TcpListener, shared: Arc<Shared>) -> JoinHandle<()> {
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        loop {
            let mut state = shared.state.lock().unwrap();
            if state.away {
                return;
            }
            match listener.accept() {
                Ok((connection, _)) => {
                    connection.set_nonblocking(false).unwrap();
                    state.connections.push(connection.try_clone().unwrap());
                    let shared = shared.clone();
                    // A client that is gone ends it.
                    std::thread::spawn(move || answer(&connection, &shared).unwrap_or_default());
                }
                Err(_nobody) => {
                    drop(state);
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
            }
        }
    })
}

fn answer(mut connection: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines.by_ref() {
        if line?.is_empty() {
            break;
        }
    }
    let target = request.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let plural = path.rsplit('/').next().unwrap_or_default();
    let mut head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n".to_owned();
    head.push_str("Connection: close\r\n");
    let waiting = |state: &mut State| state.held.contains(plural) && !state.away;
    if !query.contains("watch=true") {
        let state = shared.state.lock().unwrap();
        let state = shared.changed.wait_while(state, waiting).unwrap();
        let objects = state.objects.get(plural);
        let items: Vec<&Value> = objects.into_iter().flat_map(|it| it.values()).collect();
        let version = json!({"resourceVersion": state.version.to_string()});
        let list = json!({"kind": "List", "apiVersion": "v1", "metadata": version, "items": items});
        let body = list.to_string();
        write!(head, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        drop(state);
        return connection.write_all(head.as_bytes());
    }
    let from = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
    let mut seen: u64 = from.and_then(|from| from.parse().ok()).unwrap_or(0);
    connection.write_all(format!("{head}\r\n").as_bytes())?;
    loop {
        let state = shared.state.lock().unwrap();
        let nothing = |state: &mut State| state.next(plural, seen).is_none() && !state.away;
        let state = shared.changed.wait_while(state, nothing).unwrap();
        let Some((at, event)) = state.next(plural, seen).filter(|_| !state.away) else {
            return Ok(());
        };
        drop(state);
        seen = at;
        connection.write_all(format!("{event}\n").as_bytes())?;
    }
}

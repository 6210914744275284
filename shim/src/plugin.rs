//! The plugin's whole behaviour: hand the request over, print the answer. By itself it answers only
//! what needs no daemon, and what must be said when the daemon is away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::client::{self, Away};
use crate::deletion;
use crate::environment::{Environment, Verb};
use crate::fault::{Code, Fault};
use crate::proto::{self, Request, Response};
use crate::version;

/// Where the daemon listens unless the configuration's `socket` says otherwise.
pub const SOCKET: &str = "/run/hopscope/cni.sock";

/// Answers one call. `stdin` is read only when the verb has one.
pub fn run(
    environment: BTreeMap<String, String>,
    stdin: impl FnOnce() -> std::io::Result<String>,
) -> Response {
    match environment.get("CNI_COMMAND").map_or("", String::as_str) {
        "" => return Response { stdout: String::new(), stderr: version::about(), exit: 0 },
        "VERSION" => {
            return Response { stdout: version::answer(), stderr: String::new(), exit: 0 };
        }
        _ => {}
    }
    let stdin = match stdin() {
        Ok(text) => text,
        Err(error) => {
            let undecodable = error.kind() == std::io::ErrorKind::InvalidData;
            let code = if undecodable { Code::Decoding } else { Code::Io };
            let fault = Fault::new(code, format!("standard input cannot be read: {error}"));
            return fault.response(version::LATEST);
        }
    };
    let config: Map<String, Value> = match serde_json::from_str(&stdin) {
        Ok(config) => config,
        Err(error) => {
            let msg = "the network configuration on standard input is no JSON object";
            let fault = Fault::new(Code::Decoding, msg).with_details(error.to_string());
            return fault.response(version::LATEST);
        }
    };
    let cni_version = speaks(&config);
    let request = Request { version: proto::VERSION, environment, stdin };
    match ask(&config, &request) {
        Ok(response) => response,
        Err(fault) => fault.response(&cni_version),
    }
}

/// The version in which errors are told.
fn speaks(config: &Map<String, Value>) -> String {
    match config.get("cniVersion") {
        None => version::UNSPECIFIED.to_owned(),
        Some(Value::String(text)) if version::is_supported(text) => text.clone(),
        Some(_) => version::LATEST.to_owned(),
    }
}

fn ask(config: &Map<String, Value>, request: &Request) -> Result<Response, Fault> {
    let socket = socket(config)?;
    // An unknown verb is the daemon's to explain, and takes no time.
    let known = Environment::read(&request.environment);
    let bound = client::answer_timeout(known.as_ref().map_or(Verb::Status, |known| known.verb));
    match client::exchange(&socket, request, bound) {
        Ok(response) => Ok(response),
        Err(away) => without_daemon(&socket, &known?, request, &away),
    }
}

fn socket(config: &Map<String, Value>) -> Result<PathBuf, Fault> {
    match config.get("socket") {
        None => Ok(PathBuf::from(SOCKET)),
        Some(Value::String(path)) if path.starts_with('/') => Ok(PathBuf::from(path)),
        Some(other) => {
            let msg = format!("socket: {other} is no absolute path, such as {SOCKET:?}");
            Err(Fault::new(Code::InvalidConfig, msg))
        }
    }
}

fn without_daemon(
    socket: &Path,
    environment: &Environment,
    request: &Request,
    away: &Away,
) -> Result<Response, Fault> {
    let details = format!("{}: {away}", socket.display());
    let say = |code, msg: &str| Err(Fault::new(code, msg).with_details(details.clone()));
    match (environment.verb, away) {
        (Verb::Status, _) => say(Code::NotAvailable, "vswitchd is not running on this node"),
        (Verb::Del, Away::Connect(_) | Away::Broken(_)) => record(socket, environment, request)
            .map_err(|error| {
                let msg = "vswitchd is away and the deletion cannot be recorded";
                Fault::new(Code::TryAgain, msg).with_details(format!("{details}; {error}"))
            }),
        (Verb::Add | Verb::Del | Verb::Check | Verb::Gc | Verb::Version, _) => {
            say(Code::TryAgain, "vswitchd does not answer on this node; try again later")
        }
    }
}

/// Writes a DEL down, then tries once more: a daemon that started in between may have read the
/// directory already, and must not learn of this deletion only at its next start.
fn record(
    socket: &Path,
    environment: &Environment,
    request: &Request,
) -> std::io::Result<Response> {
    let directory = deletion::directory(socket);
    let Environment { container_id, ifname, .. } = environment;
    let file = deletion::record(&directory, container_id, ifname, request)?;
    if let Ok(response) = client::exchange(socket, request, client::answer_timeout(Verb::Del)) {
        // The daemon may have carried the file out and removed it: then it is gone, which is as
        // wanted.
        drop(std::fs::remove_file(&file));
        return Ok(response);
    }
    let stderr = format!("vswitchd is away: deletion recorded in {}\n", file.display());
    Ok(Response { stdout: String::new(), stderr, exit: 0 })
}

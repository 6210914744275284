//! HTTP over the daemon's socket.

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::Failure;
use crate::admin::objects::{Error, Object};
use crate::admin::socket;

/// Speaks to one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// To the daemon of this run-dir.
    #[must_use]
    pub fn new(run_dir: &Path) -> Self {
        Self { socket: run_dir.join(socket::NAME) }
    }

    /// Asks for an object.
    ///
    /// # Errors
    /// When no daemon answers, or it refuses.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.object(Method::GET, path, Bytes::new()).await
    }

    /// Sends an object, receives another.
    ///
    /// # Errors
    /// When no daemon answers, or it refuses.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.object(Method::POST, path, json(body)?).await
    }

    /// Sends an object, receives a stream.
    ///
    /// # Errors
    /// When no daemon answers, or it refuses.
    pub async fn stream(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Response<Incoming>, Failure> {
        self.send(Method::POST, path, json(body)?).await
    }

    /// Asks for something to be ended.
    ///
    /// # Errors
    /// When no daemon answers, or it refuses.
    pub async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.send(Method::DELETE, path, Bytes::new()).await.map(drop)
    }

    async fn object<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Failure> {
        let response = self.send(method, path, body).await?;
        let bytes = self.read(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::Negative(format!(
                "the daemon's answer is not understood ({error}); compare hopctl version"
            ))
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|error| self.absent(&error))?;
        let gone = |error: hyper::Error| self.absent(&std::io::Error::other(error));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(gone)?;
        // Its errors come back by the request and the body as well.
        drop(tokio::spawn(connection));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "vswitchd")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| Failure::Usage(format!("{path}: {error}"), String::new()))?;
        let response = sender.send_request(request).await.map_err(gone)?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(response).await)
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, Failure> {
        match response.into_body().collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(self.absent(&std::io::Error::other(error))),
        }
    }

    async fn refused(&self, response: Response<Incoming>) -> Failure {
        let status = response.status();
        let bytes = match self.read(response).await {
            Ok(bytes) => bytes,
            Err(failure) => return failure,
        };
        let error = match serde_json::from_slice::<Object<Error>>(&bytes) {
            Ok(object) => object.body,
            Err(_other) => {
                Error { message: format!("the daemon says {status}"), hint: String::new() }
            }
        };
        match status {
            // What was asked for was there once: a negative answer, and no wrong request.
            StatusCode::GONE => Failure::Negative(format!("{}; {}", error.message, error.hint)),
            StatusCode::SERVICE_UNAVAILABLE => Failure::NoDaemon(error.message),
            status if status.is_client_error() => Failure::Usage(error.message, error.hint),
            _ => Failure::Negative(error.message),
        }
    }

    fn absent(&self, error: &std::io::Error) -> Failure {
        use std::io::ErrorKind;
        let socket = self.socket.display();
        let is = |kind: ErrorKind| error.kind() == kind;
        Failure::NoDaemon(if is(ErrorKind::PermissionDenied) {
            format!("{socket} is closed to this user: run hopctl as root")
        } else if is(ErrorKind::NotFound) || is(ErrorKind::ConnectionRefused) {
            format!(
                "no daemon listens on {socket}: start vswitchd, or name its run-dir by --run-dir"
            )
        } else {
            format!("the daemon on {socket} does not answer ({error}): look at its log")
        })
    }
}

fn json(body: &impl Serialize) -> Result<Bytes, Failure> {
    let bytes = serde_json::to_vec(body);
    bytes.map(Bytes::from).map_err(|error| Failure::Usage(error.to_string(), String::new()))
}

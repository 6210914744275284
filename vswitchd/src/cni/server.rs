//! `cni.sock`: who may speak, how much, how long (SEC-10 to SEC-12); and deletions that were
//! written down while the daemon was away.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shim::codec;
use shim::deletion::{self, Deletion};
use shim::environment::{Environment, Verb};
use shim::proto::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::store::{self, StoreError};
use super::verbs::Cni;
use super::wiring::Wiring;
use crate::gate::Gate;

/// A request must have come in whole, and an answer gone out, within this time.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests in work at once; more wait in the socket's backlog.
const REQUESTS_MAX: usize = 64;
/// Name of the socket in the run directory.
pub const SOCKET: &str = "cni.sock";

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The run directory is not private.
    #[error("run-dir: {0}")]
    Directory(String),
    /// Another daemon answers there.
    #[error("run-dir: another vswitchd serves {0}; stop it, or give this one a run-dir of its own")]
    InUse(PathBuf),
    /// The kernel refuses.
    #[error("{path}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Its errno.
        source: io::Error,
    },
}

/// Listens on the run directory's `cni.sock`. Requests wait in the backlog until somebody
/// [serves](serve) them.
///
/// # Errors
/// See [`ListenError`].
pub fn bind(run_dir: &Path) -> Result<std::os::unix::net::UnixListener, ListenError> {
    let path = run_dir.join(SOCKET);
    let io = |source| ListenError::Io { path: path.clone(), source };
    store::private_directory(run_dir).map_err(|error| match error {
        StoreError::Writable(path) => {
            ListenError::Directory(format!("{} may be written to by others", path.display()))
        }
        StoreError::Io { path, source } => {
            ListenError::Directory(format!("{}: {source}", path.display()))
        }
        StoreError::Newer { path, .. } => ListenError::Directory(path.display().to_string()),
    })?;
    match std::os::unix::net::UnixStream::connect(&path) {
        Ok(_somebody) => return Err(ListenError::InUse(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // What a daemon left that was killed.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(&path).map_err(io)?;
        }
        Err(error) => return Err(io(error)),
    }
    let listener = std::os::unix::net::UnixListener::bind(&path).map_err(io)?;
    // The directory keeps others out until the mode is set.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(io)?;
    Ok(listener)
}

/// Takes a listening socket into the runtime.
///
/// # Errors
/// The kernel's.
pub fn open(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Who is let in, and how many are in work.
#[derive(Clone, Debug)]
pub struct Admission {
    gate: Gate,
    requests: Arc<Semaphore>,
}

impl Admission {
    /// By this gate.
    #[must_use]
    pub fn new(gate: Gate) -> Self {
        Self { gate, requests: Arc::new(Semaphore::new(REQUESTS_MAX)) }
    }

    /// Waits until no request is in work, and none can begin. False when some still are after
    /// `patience`. The gate is closed.
    pub async fn idle(&self, patience: Duration) -> bool {
        let all = u32::try_from(REQUESTS_MAX).unwrap_or(u32::MAX);
        tokio::time::timeout(patience, self.requests.acquire_many(all)).await.is_ok()
    }
}

/// Serves requests until the task is aborted. A request that has begun runs to its end even if its
/// plugin is killed: the runtime will send the DEL.
pub async fn serve<W: Wiring>(listener: UnixListener, cni: Arc<Cni<W>>, admission: Admission) {
    let Admission { gate, requests } = admission;
    loop {
        gate.opened().await;
        let Ok(permit) = requests.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            biased;
            () = gate.closed() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _address)) => {
                let cni = cni.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &cni).await {
                        tracing::warn!(%error, "a connection of cni.sock was given up");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: they come back.
                tracing::error!(%error, "cni.sock cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse<W: Wiring>(mut stream: UnixStream, cni: &Cni<W>) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    if peer.uid() != nix::unistd::Uid::effective().as_raw() && peer.uid() != 0 {
        let text = format!("uid {} may not use cni.sock", peer.uid());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let late = |_late| io::Error::from(io::ErrorKind::TimedOut);
    let request =
        tokio::time::timeout(TRANSFER_TIMEOUT, receive(&mut stream)).await.map_err(late)??;
    let response = cni.answer(&request).await;
    let sent = tokio::time::timeout(TRANSFER_TIMEOUT, send(&mut stream, &response)).await;
    sent.map_err(late)?
}

async fn receive(stream: &mut UnixStream) -> io::Result<Request> {
    let mut prefix = [0_u8; codec::PREFIX];
    stream.read_exact(&mut prefix).await?;
    let mut body = vec![0_u8; codec::body_length(prefix)?];
    stream.read_exact(&mut body).await?;
    codec::decode(&body)
}

async fn send(stream: &mut UnixStream, response: &Response) -> io::Result<()> {
    stream.write_all(&codec::encode(response)?).await?;
    stream.shutdown().await
}

/// The directory of recorded deletions, if there is one.
///
/// # Errors
/// When others may write to it, and the file system's.
pub fn deletions(run_dir: &Path) -> io::Result<Option<PathBuf>> {
    let directory = deletion::directory(&run_dir.join(SOCKET));
    let meta = match fs::symlink_metadata(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        meta => meta?,
    };
    if !meta.is_dir() || meta.mode() & 0o022 != 0 {
        let text = format!("{} may be written to by others", directory.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(Some(directory))
}

/// Carries out the deletions that were written down, and removes each that is done.
///
/// # Errors
/// The file system's; a single file that is wrong is set aside instead.
pub async fn carry_out_deletions<W: Wiring>(run_dir: &Path, cni: &Cni<W>) -> io::Result<usize> {
    let Some(directory) = deletions(run_dir)? else { return Ok(0) };
    let entries = fs::read_dir(&directory)?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    for path in paths.iter().filter(|path| is_abandoned(path)) {
        fs::remove_file(path)?;
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let mut done = 0;
    for path in paths {
        match read_deletion(&path) {
            Ok(request) => {
                let response = cni.answer(&request).await;
                if response.exit == 0 {
                    fs::remove_file(&path)?;
                    done += 1;
                } else {
                    tracing::error!(file = %path.display(), answer = ?response.stdout,
                        "a recorded deletion failed; it stays for the next start");
                }
            }
            Err(why) => {
                let aside = path.with_extension("damaged");
                fs::rename(&path, &aside)?;
                tracing::error!(file = %aside.display(), why = ?why,
                    "a recorded deletion cannot be read and was set aside");
            }
        }
    }
    Ok(done)
}

/// Whether it is what a plugin left that was killed while it wrote. One that lives is about to
/// rename it.
fn is_abandoned(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| deletion::writer(name.to_str()?))
        .is_some_and(|writer| !Path::new("/proc").join(writer.to_string()).exists())
}

fn read_deletion(path: &Path) -> Result<Request, String> {
    let meta = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if !meta.is_file() || meta.len() > 2 * u64::from(shim::proto::MESSAGE_MAX) {
        return Err("it is no file of a fitting size".into());
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let Deletion { request } = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    match Environment::read(&request.environment) {
        Ok(environment) if environment.verb == Verb::Del => Ok(request),
        Ok(environment) => Err(format!("it asks for {}", environment.verb.name())),
        Err(fault) => Err(fault.to_string()),
    }
}

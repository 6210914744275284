//! The socket, and who may speak on it.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

use crate::gate::Gate;

/// The socket's name within the run-dir.
pub const NAME: &str = "admin.sock";

/// Accepts peers of uid 0 or of the daemon's own uid; others are hung up on.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    gate: Gate,
    own_uid: u32,
}

/// Makes the socket, in a directory that only its owner can enter. A socket left by a daemon that
/// is gone is replaced: the caller has made sure that no other runs.
///
/// # Errors
/// The file system's, with the path.
pub fn bind(run_dir: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let told = |doing: &str, path: &Path, error: &io::Error| {
        io::Error::new(error.kind(), format!("{doing} {}: {error}", path.display()))
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(run_dir)
        .map_err(|error| told("making", run_dir, &error))?;
    std::fs::set_permissions(run_dir, PermissionsExt::from_mode(0o700))
        .map_err(|error| told("closing to others", run_dir, &error))?;
    let path = run_dir.join(NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(told("removing the old", &path, &error));
        }
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(&path)
        .map_err(|error| told("listening on", &path, &error))?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))
        .map_err(|error| told("closing to others", &path, &error))?;
    Ok(listener)
}

impl Listener {
    /// Takes a listening socket into the runtime; clients come in while `gate` is open.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(listener: std::os::unix::net::UnixListener, gate: Gate) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let own_uid = nix::unistd::geteuid().as_raw();
        Ok(Self { listener: UnixListener::from_std(listener)?, gate, own_uid })
    }
}

impl axum::serve::Listener for Listener {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            self.gate.opened().await;
            let accepted = tokio::select! {
                biased;
                () = self.gate.closed() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => match stream.peer_cred() {
                    Ok(peer) if peer.uid() == 0 || peer.uid() == self.own_uid => {
                        return (stream, address);
                    }
                    Ok(peer) => {
                        tracing::warn!(uid = peer.uid(), "admin socket: peer refused");
                    }
                    Err(error) => tracing::warn!(%error, "admin socket: peer unknown"),
                },
                Err(error) => {
                    tracing::warn!(%error, "admin socket: accepting failed");
                    // Out of descriptors, most likely: let some be closed before trying again.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

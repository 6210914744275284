//! One exchange with the daemon, bounded in time whatever the other side does (CNI-DEL-4).

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use crate::codec;
use crate::environment::Verb;
use crate::proto::{Request, Response};

/// How long the daemon may take to accept.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug)]
pub enum Away {
    /// Nobody listens there.
    Connect(io::Error),
    /// It was there and went before it answered.
    Broken(io::Error),
    /// It did not answer in this time.
    Late(Duration),
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::Broken(error) => write!(f, "no answer: {error}"),
            Self::Late(bound) => write!(f, "no answer within {} s", bound.as_secs()),
        }
    }
}

/// How long a verb's answer may take. Below the runtimes' own limits (kubelet gives a sandbox two
/// minutes).
#[must_use]
pub fn answer_timeout(verb: Verb) -> Duration {
    Duration::from_secs(match verb {
        Verb::Add => 100,
        Verb::Gc => 60,
        Verb::Del => 30,
        Verb::Check => 20,
        Verb::Status | Verb::Version => 5,
    })
}

/// Asks the daemon behind `socket`.
///
/// # Errors
/// See [`Away`].
pub fn exchange(socket: &Path, request: &Request, answer: Duration) -> Result<Response, Away> {
    enum Step {
        Connected(io::Result<()>),
        Answered(io::Result<Response>),
    }
    let (sender, receiver) = mpsc::channel();
    let (path, request): (PathBuf, Request) = (socket.to_owned(), request.clone());
    // A thread, since connecting to a full backlog blocks and a slow writer could stretch any
    // timeout of single reads. When it is late the process ends with it.
    std::thread::spawn(move || -> Result<(), mpsc::SendError<Step>> {
        let mut stream = match UnixStream::connect(&path) {
            Ok(stream) => stream,
            Err(error) => return sender.send(Step::Connected(Err(error))),
        };
        sender.send(Step::Connected(Ok(())))?;
        let answered = codec::write(&mut stream, &request).and_then(|()| codec::read(&mut stream));
        sender.send(Step::Answered(answered))
    });
    match receiver.recv_timeout(CONNECT_TIMEOUT) {
        Ok(Step::Connected(Ok(()))) => {}
        Ok(Step::Connected(Err(error))) => return Err(Away::Connect(error)),
        Ok(Step::Answered(_)) | Err(_) => return Err(Away::Late(CONNECT_TIMEOUT)),
    }
    match receiver.recv_timeout(answer) {
        Ok(Step::Answered(Ok(response))) => Ok(response),
        Ok(Step::Answered(Err(error))) => Err(Away::Broken(error)),
        Ok(Step::Connected(_)) | Err(_) => Err(Away::Late(answer)),
    }
}
